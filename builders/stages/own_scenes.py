"""Scenes that a recipe makes itself: rendered by the simulator, or ingested from files that are no STAC items yet."""

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

    Scenes are made beside the folder and renamed, so that a folder of that name is whole.
    """
    made = space.work / "scenes.json"
    content = [STAGE, recipe.simulate, recipe.ingest.model_dump(mode="json") if recipe.ingest else None]
    if recipe.simulate is not None:
        # Every module of the simulator has a say in what comes out, so its code is part of the key.
        content += [season.model_dump() for season in recipe.seasons]
        content += [hash_file(path) for path in sorted(SIMULATOR.glob("*.py"))]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    if space.scenes.is_dir() and made.is_file() and read_json(made, "build") == key:
        return
    partial = space.work / "scenes-partial"  # without a dot, which pystac would take for a file's suffix
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(space.scenes, ignore_errors=True)
    partial.mkdir(parents=True)
    if recipe.simulate is not None:
        from builders.simulate import simulate
        from builders.simulate.config import SimulationConfig

        simulate(SimulationConfig.parse(recipe.simulate, recipe.seasons, "the recipe"), partial, report)
    elif recipe.ingest is not None:
        from builders.ingest import ingest

        ingest(recipe.ingest, partial, report)
    partial.rename(space.scenes)
    write_json(made, key)
