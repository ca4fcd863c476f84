"""Scenes of a recipe's own table: rendered by the simulator, or ingested from files that have no STAC items."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builders._progress import Report, silent
from builders.readers.locators import companion_digests, file_stamp
from builders.recipe import PATH_KEYS, Recipe
from builders.stages._pins import check_before_scenes, check_pin
from builders.workspace import Workspace, read_json, write_json
from lulcbench._files import hash_file

STAGE = "scenes/2"
KEY = "key.json"  # beside the catalog
SIMULATOR = Path(__file__).parents[1] / "simulate"
INGEST = Path(__file__).parents[1] / "ingest"


def make(recipe: Recipe, space: Workspace, report: Report = silent) -> None:
    """Fill ``space.scenes``; nothing is done if it was filled from the same tables and files by the same code.

    Scenes are made beside the folder, which is renamed when it is complete and holds its key.

    Raises:
        LulcbenchError: a file that the tables name is missing or cannot be used, or a label map is another edition
            than pinned.
    """
    check_before_scenes(recipe, space.scenes)
    key = _key(recipe)
    if _is_complete(space.scenes, key):
        return
    partial, old = space.work / "scenes-partial", space.work / "scenes-old"  # a dot would look like a file's suffix
    if not _is_complete(partial, key):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _fill(recipe, partial, report)
        write_json(partial / KEY, key)
    shutil.rmtree(old, ignore_errors=True)
    if space.scenes.exists():
        space.scenes.rename(old)  # a folder that is deleted in part must not have this name
    partial.rename(space.scenes)
    shutil.rmtree(old, ignore_errors=True)


def _fill(recipe: Recipe, folder: Path, report: Report) -> None:
    if recipe.simulate is not None:
        from builders.simulate import simulate
        from builders.simulate.config import SimulationConfig

        config = SimulationConfig.parse(recipe.simulate, recipe.seasons, "the recipe")
        if config.label_map and config.label_map.is_file():
            check_pin(config.label_map, config.label_map_edition, config.label_map_sha256)
        simulate(config, folder, report)
    elif recipe.ingest is not None:
        from builders.ingest import ingest

        ingest(recipe.ingest, folder, report)


def _is_complete(folder: Path, key: str) -> bool:
    """Whether a folder holds all scenes of this key, which is written last."""
    return (folder / KEY).is_file() and read_json(folder / KEY, "build") == key


def _key(recipe: Recipe) -> str:
    """Digest of the recipe's tables, of the content of the files that they name, and of the code that reads them."""
    tables = {"simulate": recipe.simulate, "ingest": recipe.ingest.model_dump(mode="json") if recipe.ingest else None}
    content = [STAGE, tables, [(name, _stamp(path)) for name, path in sorted(_paths(tables))]]
    if recipe.simulate is not None:
        content += [season.model_dump() for season in recipe.seasons]
        content += [hash_file(path) for path in sorted(SIMULATOR.iterdir()) if path.is_file()]
    elif recipe.ingest is not None:
        content += [hash_file(path) for path in sorted(INGEST.glob("*.py"))]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _paths(table: Any, name: str = "") -> Iterator[tuple[str, Path]]:
    """The files and folders that a table names, with their keys."""
    if isinstance(table, dict):
        for key, value in table.items():
            yield from _paths(value, f"{name}.{key}")
    elif isinstance(table, str) and name.rpartition(".")[2] in PATH_KEYS:
        yield name, Path(table)


def _stamp(path: Path) -> Any:
    """Digests of a file and its companions; of a folder, which may hold many files, sizes and times of modification."""
    if path.is_file():
        return [hash_file(path), companion_digests(path)]
    return [(file.relative_to(path).as_posix(), file_stamp(file)) for file in sorted(path.rglob("*")) if file.is_file()]
