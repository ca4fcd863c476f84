"""Zip files of scenes, and regions that are where scenes are."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from builders._progress import silent
from builders.ingest.folder import understand
from builders.ingest.packed import unpack
from builders.recipe import IngestRule, Recipe, load
from builders.stages import materialize, own_scenes, pack, plan, search
from builders.workspace import Workspace, workspace
from lulcbench.errors import CorruptFileError, LulcbenchError
from lulcbench.grid import Tile
from tests.builders import world

LEFT, BOTTOM, RIGHT, TOP = world.BOUNDS

RECIPE = (
    world.RECIPE.replace('"catalog.json"', '"${SCENES}/catalog.json"')
    .replace('name = "all"', 'name = "all"\nwhole = false\ncovered = true')
    .replace("fractions = { train = 0.5, val = 0.25, test = 0.25 }", "fractions = { train = 1.0 }")
    .replace("years = [2018]", 'years = [2018]\nquality = "optional"\nacquired = ["2018-06-25", "2018-09-12"]')
    .replace("[split]", """[ingest]
path = "patches.zip"
sensor = "landsat"
platform = "landsat-8"
bands = ["red", "nir08"]
scale = 2.75e-5
offset = -0.2
nodata = 0
acquired = ["2018-07-01", "2018-07-31"]

[split]""")
)  # fmt: skip


def patch(folder: Path, name: str, left: float, top: float) -> Path:
    """A raster of 600 m whose values are 0.2 and 0.4."""
    values = np.stack([np.full((20, 20), round((value + 0.2) / 2.75e-5), np.uint16) for value in (0.2, 0.4)])
    return world.write_raster(folder / name, values, Affine(30, 0, left, 0, -30, top), "EPSG:3035", 0)


def opened(folder: Path, places: list[tuple[float, float]]) -> tuple[Recipe, Workspace]:
    """The world's labels, and patches in a zip file."""
    world.write_raster(folder / "labels.tif", *world.labels())
    with zipfile.ZipFile(folder / "patches.zip", "w") as archive:
        for i, (left, top) in enumerate(places):
            archive.write(patch(folder, f"p{i}.tif", left, top), f"EuroSAT_MS/Some/p{i}.tif")
        archive.writestr("EuroSAT_MS/README.md", "Patches.")
    (folder / "recipe.toml").write_text(RECIPE)
    space = workspace(folder / "out")
    return load(folder / "recipe.toml", space.scenes), space


def test_only_tiles_that_scenes_touch_are_planned_and_built(tmp_path: Path) -> None:
    first, last = Tile.from_id("E0900N0650"), Tile.from_id("E0902N0651")
    places = [(first.bounds[0] + 900, first.bounds[3] - 900), (last.bounds[0] + 3000, last.bounds[3] - 3000)]
    recipe, space = opened(tmp_path, places)
    own_scenes.make(recipe, space)
    rows = plan.plan(recipe, space)
    assert [row.tile for row in rows] == [first, last]
    scenes = search.search(recipe, space, rows)
    notes = materialize.materialize(recipe, space, rows, scenes, None)
    release = pack.pack(recipe, space, rows, None)
    assert release.splits == {"train": 2}
    for found in notes.values():
        (valid,) = (note.valid for key, note in found.items() if str(key) == "landsat_2018")
        assert valid == pytest.approx(20 * 20 / 160**2, abs=1e-6)


def test_a_patch_that_is_added_is_planned(tmp_path: Path) -> None:
    place = (LEFT + 900, BOTTOM + 2000)
    recipe, space = opened(tmp_path, [place])
    own_scenes.make(recipe, space)
    assert len(plan.plan(recipe, space)) == 1
    recipe, space = opened(tmp_path, [place, (place[0] + 4800, place[1])])
    own_scenes.make(recipe, space)
    assert len(plan.plan(recipe, space)) == 2


def test_scenes_of_a_server_cannot_cover_a_region(tmp_path: Path) -> None:
    world.make(tmp_path)
    recipe = load(tmp_path / "recipe.toml", tmp_path, ["regions.all.covered=true", "catalog=https://example.org"])
    with pytest.raises(LulcbenchError, match="not on this machine"):
        plan.plan(recipe, workspace(tmp_path / "out"))


def test_the_level_that_is_told_is_that_of_the_scenes(tmp_path: Path) -> None:
    patch(tmp_path / "in", "p.tif", LEFT, TOP)
    told = {"path": tmp_path / "in", "sensor": "sentinel2", "bands": ("B04", "B08"), "scale": 2.75e-5, "offset": -0.2}
    told["acquired"] = ("2018-07-01", "2018-07-31")
    (scene,) = understand(IngestRule(**told, level="L1C", allow_l1c=True)).scenes
    assert scene.collection == "sentinel-2-l1c"
    with pytest.raises(LulcbenchError, match="Level-1C"):
        understand(IngestRule(**told, level="L1C"))


@pytest.mark.parametrize(
    ("names", "said"),
    [(["../a.tif"], "outside"), (["/a.tif"], "outside"), (["a\\b.tif"], "outside"), (["a.tif", "A.TIF"], "two files")],
    ids=["parent", "root", "backslash", "twice"],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, names: list[str], said: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    with pytest.raises(LulcbenchError, match=said):
        unpack(tmp_path / "bad.zip", tmp_path / "out", silent)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "bad.zip"]


def test_a_damaged_zip_file_is_named(tmp_path: Path) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.tif", np.random.default_rng(0).bytes(5000))
    content = bytearray(whole.getvalue())
    content[2000:2010] = bytes(10)
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"bad\.zip"):
        unpack(tmp_path / "bad.zip", tmp_path / "out", silent)
    (tmp_path / "bad.zip").write_bytes(b"not a zip file")
    with pytest.raises(CorruptFileError, match=r"bad\.zip"):
        unpack(tmp_path / "bad.zip", tmp_path / "out", silent)
