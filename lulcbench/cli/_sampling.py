"""Options of the design of a sample, shared by ``validate`` and ``area``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from lulcbench.evaluation.sampling import Sampling

DesignOption = Annotated[
    str,
    typer.Option(
        help="How the points were selected: unknown, simple-random, systematic, stratified, cluster, two-phase, or the "
        "file that 'lulcbench design' wrote."
    ),
]
Strata = Annotated[str | None, typer.Option(help="Column of strata; by default strata are the map classes.")]
StrataLevel = Annotated[int | None, typer.Option(help="Legend level of strata that are map classes.", min=1, max=4)]
Sizes = Annotated[Path | None, typer.Option(help="Areas of the strata: CSV file (stratum, area).")]
Weights = Annotated[str | None, typer.Option(help="Column of weights: area that a point stands for.")]
Clusters = Annotated[str | None, typer.Option(help="Column of clusters, whose points were drawn together.")]
FirstPhase = Annotated[int | None, typer.Option(help="Number of points of the first of two phases.", min=2)]
OtherMap = Annotated[bool, typer.Option("--other-map", help="The design is of another map: its strata still hold.")]

# Designs on which an option has an effect; the file of a design has the empty name.
_DESIGNS_OF: dict[str, tuple[str, ...]] = {
    "--strata": ("stratified", "cluster", "two-phase"),
    "--strata-level": ("stratified",),
    "--sizes": ("stratified", "cluster", "two-phase"),
    "--weights": ("simple-random", "systematic", "stratified", "cluster", "two-phase"),
    "--clusters": ("stratified", "cluster", "two-phase"),
    "--first-phase": ("two-phase",),
    "--other-map": ("",),
}


def sampling_of(
    design: str,
    strata: str | None,
    strata_level: int | None,
    sizes: Path | None,
    weights: str | None,
    clusters: str | None,
    first_phase: int | None,
    other_map: bool,
) -> tuple[Sampling, dict[str, str]]:
    """The design that the options state, and the columns of the file of points to read: name → column.

    Raises:
        LulcbenchError: there is no such design, or options contradict it or have no effect on it.
    """
    from lulcbench.evaluation.design import Design, Kind
    from lulcbench.evaluation.sampling import Sampling, read_sizes

    given = {
        "--strata": strata,
        "--strata-level": strata_level,
        "--sizes": sizes,
        "--weights": weights,
        "--clusters": clusters,
        "--first-phase": first_phase,
        "--other-map": other_map or None,
    }
    if design not in set(Kind):
        if not Path(design).is_file():
            raise LulcbenchError(
                f"There is neither a design nor a file {design!r}.",
                f"Designs are {', '.join(Kind)}, or a design file.",
            )
        _check_effect(given, "", "the file of a design")
        return Sampling.of_design(Design.load(design), other_map), {"stratum": "stratum", "weight": "weight"}
    kind = Kind(design)
    _check_effect(given, kind, f"the design {kind.value}")
    if strata is None and (sizes or first_phase):
        raise LulcbenchError(
            f"{'--sizes' if sizes else '--first-phase'} requires a column of strata.", "Name it with --strata."
        )
    if strata is not None and strata_level is not None:
        raise LulcbenchError(
            "--strata-level has no effect beside --strata: it is the level of strata that are map classes.",
            "Leave one of them out.",
        )
    columns = {"stratum": strata, "weight": weights, "cluster": clusters}
    areas = None if sizes is None else read_sizes(sizes)
    return (
        Sampling(kind, areas, strata_level, first_phase),
        {name: column for name, column in columns.items() if column is not None},
    )


def _check_effect(given: Mapping[str, object], kind: str, name: str) -> None:
    """Refuse options that have no effect on a design: the results would look as if they had."""
    for option, value in given.items():
        kinds = _DESIGNS_OF[option]
        if value is not None and kind not in kinds:
            raise LulcbenchError(
                f"{option} has no effect with {name}.",
                "Leave it out, or state a design that has it with --design: "
                + ", ".join(kind or "a file of 'lulcbench design'" for kind in kinds)
                + ".",
            )
