"""Cached tiles: what they depend on, and that they do not depend on the tiles that they are made with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from builders.recipe import Recipe
from builders.stages import _jobs, materialize, plan, search
from builders.workspace import Workspace
from lulcbench.grid import Tile
from tests.builders import world


def label_keys(recipe: Recipe, space: Workspace, **changes: Any) -> list[str]:
    """Cache keys of the label tiles, with changes to the recipe's label map."""
    changed = recipe.model_copy(update={"labels": (recipe.labels[0].model_copy(update=changes),)})
    jobs = _jobs.make_jobs(changed, space, plan.plan(recipe, space), [], {})
    return [key for job in jobs if isinstance(job, _jobs.LabelJob) for key in job.keys]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"band": 1}, False),
        ({"min_cover": 0.9}, False),
        ({"year": 2012}, False),
        ({"layer": "forest"}, False),
        ({"field": "code"}, False),
        ({"source": "own", "codes": {"1111": 1121}}, False),
        ({"name": "other", "licence": "x", "required": False}, True),
    ],
    ids=["band", "min_cover", "year", "layer", "field", "codes", "names"],
)
def test_label_tiles_are_made_again_if_what_decides_about_pixels_changed(
    tmp_path: Path, changes: dict[str, Any], same: bool
) -> None:
    recipe, space = world.make(tmp_path)
    before, after = label_keys(recipe, space), label_keys(recipe, space, **changes)
    assert (before == after) == same
    assert same or not set(before) & set(after)


def test_the_cloud_share_of_a_tile_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    """Two scenes of one pass, of which only the one over the west has a quality layer."""
    recipe, space = world.make(tmp_path, scenes=0)
    days = [datetime(2018, 7, day, tzinfo=UTC) for day in (1, 2)]  # of one day, the search would keep one of them
    items = [
        world.scene(tmp_path / "scenes", name, day, (0.1, 0.3), qa)
        for name, day, qa in zip("ab", days, (world.CLOUD, world.CLEAR), strict=True)
    ]
    world.write(tmp_path, "world", "World", items)
    (tmp_path / "recipe.toml").write_text(
        world.RECIPE.replace("years = [2018]", 'years = [2018]\nquality = "optional"')
    )
    recipe = world.load(tmp_path / "recipe.toml", space.scenes)
    west, east = Tile.from_id("E0900N0650"), Tile.from_id("E0901N0650")
    edge = east.bounds[0]
    masked, unmasked = search.search(recipe, space, plan.plan(recipe, space))
    left, bottom, right, top = masked.bounds
    masked = masked.model_copy(update={"bounds": (left, bottom, edge, top), "observation": "pass"})
    unmasked = unmasked.model_copy(
        update={
            "bounds": (edge, bottom, right, top),
            "observation": "pass",
            "assets": {name: asset for name, asset in unmasked.assets.items() if name != "qa_pixel"},
        }
    )

    def notes(name: str, *tiles: Tile) -> dict[str, materialize.Note]:
        job = _jobs.ImageJob(
            materialize.ArrayKey("landsat", 2018),
            recipe.sensors[0],
            tiles,
            tuple("k" for _ in tiles),
            ((masked, unmasked),),
            tmp_path / name,
            tmp_path / "blocks",
        )
        return materialize._images(job)

    together, alone = notes("both", west, east), notes("west", west) | notes("east", east)
    assert together == alone
    assert together[west.id].cloud == 1
    assert together[east.id].cloud is None
