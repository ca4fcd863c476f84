"""Reading a recipe from its TOML file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from builders._settings import apply_settings
from builders.readers.locators import spelled
from builders.recipe.model import Recipe
from lulcbench._parsing import MAX_TEXT_BYTES, parse_toml, read_limited
from lulcbench.errors import LulcbenchError

RECIPES = Path(__file__).parents[1] / "recipes"
PATH_KEYS = {"path", "file", "lock", "catalog", "label_map"}


def load(
    path: str | os.PathLike[str], scenes: Path, settings: Sequence[str] = (), regions: Sequence[str] = ()
) -> Recipe:
    """Read and check a recipe.

    Args:
        path: the TOML file.
        scenes: folder that ``${SCENES}`` stands for.
        settings: values in place of those of the file, as ``key=value``; see ``builders._settings``.
        regions: names of the regions to keep; none keeps all.

    Raises:
        LulcbenchError: the file is missing, is not TOML, or has unknown, missing or wrong keys; names them. Or a region
            is unknown, or the recipe has a list of splits, whose regions cannot be chosen.
    """
    path = Path(path)
    try:
        raw = parse_toml(read_limited(path, MAX_TEXT_BYTES), str(path), "Correct the line that it names.")
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.name for p in RECIPES.glob("*.toml")))
        raise LulcbenchError(f"There is no recipe {path}.", f"builders/recipes has {known}.") from error
    try:
        recipe = Recipe.model_validate(_resolve(apply_settings(raw, settings), path.parent, scenes, path))
    except ValidationError as error:
        lines = []
        for e in error.errors():
            where = ".".join(str(part) for part in e["loc"]) or "recipe"
            lines.append(f"{where}: {'unknown key' if e['type'] == 'extra_forbidden' else e['msg']}")
        raise LulcbenchError(
            f"{path} is not a valid recipe: " + "; ".join(lines) + ".",
            "builders/recipe/ describes every key; builders/recipes has examples.",
        ) from error
    return _only(recipe, regions) if regions else recipe


def _only(recipe: Recipe, names: Sequence[str]) -> Recipe:
    if recipe.split.file:
        raise LulcbenchError(
            f"{recipe.name} takes its tiles from {recipe.split.file}, so that regions cannot be chosen.",
            "Shorten the list in a copy of the recipe, or leave the choice out.",
        )
    known = {region.name: region for region in recipe.regions}
    unknown = [name for name in names if name not in known]
    if unknown:
        shown = ", ".join([*known][:20]) + (", …" if len(known) > 20 else "")
        raise LulcbenchError(f"{recipe.name} has no region {unknown[0]!r}.", f"It has {shown}.")
    return recipe.model_copy(update={"regions": tuple(known[name] for name in names)})


def _resolve(value: Any, base: Path, scenes: Path, recipe: Path, key: str = "") -> Any:
    """Expand the variables of paths and make them absolute."""
    if isinstance(value, dict):
        return {k: _resolve(v, base, scenes, recipe, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolve(v, base, scenes, recipe, key) for v in value]
    if key in PATH_KEYS and isinstance(value, str) and "://" not in value:
        downloads = os.environ.get("LULCBENCH_DOWNLOADS") or str(scenes.parent / "downloads")
        variables = {"SCENES": str(scenes), "DOWNLOADS": downloads}
        variables |= {k: v for k, v in os.environ.items() if k == "LULCBENCH_REAL_DATA" and v}

        def expand(match: re.Match[str]) -> str:
            if match[1] not in variables:
                raise LulcbenchError(
                    f"{recipe}: {key} uses ${{{match[1]}}}, which is not set.",
                    f"Set the environment variable {match[1]} to the folder of the data."
                    if match[1] == "LULCBENCH_REAL_DATA"
                    else "Only ${SCENES}, ${DOWNLOADS} and ${LULCBENCH_REAL_DATA} are known.",
                )
            return variables[match[1]]

        return str(spelled((base / re.sub(r"\$\{(\w+)\}", expand, value)).resolve()))
    return value
