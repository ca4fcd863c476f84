"""Scenes that a recipe provides itself: rendered by the simulator, or ingested from files without STAC items."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from builders._progress import Report, silent
from builders.recipe import Recipe
from builders.workspace import Workspace, read_json, write_json
from lulcbench._files import hash_file

STAGE = "scenes/1"
SIMULATOR = Path(__file__).parents[1] / "simulate"


def make(recipe: Recipe, space: Workspace, report: Report = silent) -> None:
    """Fill ``space.scenes``; nothing is done if it was filled from the same tables by the same simulator.

    Scenes are written to another folder, which is renamed when it is complete.
    """
    key_file = space.work / "scenes.json"
    content = [STAGE, recipe.simulate, recipe.ingest.model_dump(mode="json") if recipe.ingest else None]
    if recipe.simulate is not None:
        # Every module of the simulator can affect the scenes, so its code is part of the key.
        content += [season.model_dump() for season in recipe.seasons]
        content += [hash_file(path) for path in sorted(SIMULATOR.glob("*.py"))]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    if space.scenes.is_dir() and key_file.is_file() and read_json(key_file, "build") == key:
        return
    partial = space.work / "scenes-partial"  # without a dot, since pystac would mistake it for a file
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(space.scenes, ignore_errors=True)
    partial.mkdir(parents=True)
    if recipe.simulate is not None:
        from builders.simulate import simulate
        from builders.simulate.config import SimulationConfig

        simulate(SimulationConfig.parse(recipe.simulate, recipe.seasons, "the recipe"), partial, report)
    elif recipe.ingest is not None:
        from builders.cases.ingest import ingest

        ingest(recipe.ingest, partial, report)
    partial.rename(space.scenes)
    write_json(key_file, key)
