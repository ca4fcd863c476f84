"""Pins: the label maps of a recipe are the editions that it names."""

from __future__ import annotations

from pathlib import Path

from builders.archives.luisa import EDITIONS, edition_of
from builders.readers.opening import states_simulated
from builders.recipe import Recipe
from lulcbench._files import hash_file
from lulcbench.errors import LulcbenchError


def check_pin(path: Path, edition: str | None, sha256: str | None, year: int | None = None) -> str:
    """Compare a label map with the edition, the SHA-256 and the year in a recipe, if any; returns its SHA-256.

    Raises:
        LulcbenchError: the file is another one, or edition and SHA-256 contradict each other.
    """
    known = EDITIONS[edition].sha256 if edition in EDITIONS else None
    if known and sha256 and known != sha256:
        raise LulcbenchError(
            f"The recipe pins edition {edition!r} of {path.name}, which has SHA-256 {known}, and SHA-256 {sha256}.",
            "Pin one edition; builders/archives/luisa.py lists those that are known.",
        )
    pinned, found = sha256 or known, hash_file(path)
    if pinned and pinned != found:
        named = next((f" ({name})" for name, other in EDITIONS.items() if other.sha256 == found), "")
        raise LulcbenchError(
            f"{path} has SHA-256 {found}{named}, the recipe pins {pinned}{f' ({edition})' if edition else ''}.",
            "It is another edition or damaged; fetch the pinned one, or pin this one in a new version.",
        )
    own = edition_of(found)
    if year is not None and own and own[1].year != year:
        raise LulcbenchError(
            f"{path} is {own[1].title} ({own[0]}), the recipe states year = {year}.",
            f"State year = {own[1].year}, or name the map of {year}.",
        )
    return found


def check_not_simulated(recipe: Recipe) -> None:
    """Refuse label rasters that state that they are simulated (tag ``SIMULATED``) where the recipe states the opposite.

    Raises:
        LulcbenchError: one does.
    """
    for rule in () if recipe.simulated else recipe.labels:
        if states_simulated(rule.path):
            raise LulcbenchError(
                f"{rule.path} states that it is simulated, but the recipe {recipe.name} states simulated = false.",
                "State simulated = true, which the release, its scores and its maps then state too.",
            )


def check_before_scenes(recipe: Recipe, scenes: Path) -> None:
    """Check the pins of the label maps that exist before the scenes of the recipe are made.

    Raises:
        LulcbenchError: see ``check_pin``.
    """
    for rule in recipe.labels:
        if rule.path.is_file() and not rule.path.is_relative_to(scenes):
            check_pin(rule.path, rule.edition, rule.sha256, rule.year)
