"""Scenes of one pass of one satellite count once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pystac
import pytest
import shapely
import zarr

from builders.archives import scene_source
from builders.recipe import load
from builders.stages import materialize, pack, plan, search
from builders.stages._observations import separate
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import REFLECTANCE
from tests.builders import world

DAY = datetime(2018, 7, 10, 10, 30, 21, tzinfo=UTC)
ALL_TRAIN = world.RECIPE.replace("train = 0.5, val = 0.25, test = 0.25", "train = 1.0")


def item(
    name: str, time: datetime = DAY, box: tuple[float, ...] = (9, 50, 10, 51), **properties: object
) -> pystac.Item:
    """A Sentinel-2 item without files."""
    known = {"platform": "sentinel-2a", "proj:code": "EPSG:32632"}
    stated = {key.replace("__", ":"): value for key, value in properties.items()}
    made = pystac.Item(name, shapely.box(*box).__geo_interface__, list(box), time, known | stated)
    made.collection_id = "sentinel-2-l2a"
    return made


def names(*items: pystac.Item) -> tuple[list[list[str]], list[str]]:
    """Ids by observation, and the ids that are left out."""
    archives = ["landsat" if str(one.properties["platform"]).startswith("landsat") else "sentinel2" for one in items]
    made = [scene_source(archive).scene(one) for archive, one in zip(archives, items, strict=True)]
    scenes, left_out = separate(items, made)
    groups: dict[str, list[str]] = {}
    for scene in scenes:
        groups.setdefault(scene.observation, []).append(scene.id)
    return list(groups.values()), [one.id for one in left_out]


def test_the_newest_baseline_of_a_tile_is_used_and_the_other_is_left_out() -> None:
    old = item("S2A_32UME_20180710_0_L2A", s2__processing_baseline="02.08", s2__mgrs_tile="32UME")
    new = item("S2A_32UME_20180710_1_L2A", s2__processing_baseline="05.00", s2__mgrs_tile="32UME")
    other = item("S2A_32UME_20180720_0_L2A", DAY + timedelta(10), s2__processing_baseline="02.08")
    used, left_out = names(old, new, other)
    assert used == [[new.id], [other.id]]
    assert left_out == [old.id]
    _, dropped = separate([new, old], [scene_source("sentinel2").scene(one) for one in (new, old)])
    assert dropped[0].reason == "processed again later"
    assert dropped[0].detail == f"as {new.id}, baseline 05.00 instead of 02.08"


def test_baselines_are_compared_as_numbers_and_then_by_the_time_of_processing() -> None:
    first = item("a", s2__processing_baseline="05.09", s2__generation_time="2024-01-01T00:00:00Z")
    again = item("b", s2__processing_baseline="05.10", s2__generation_time="2023-01-01T00:00:00Z")
    late = item("c", s2__processing_baseline="05.10", s2__generation_time="2023-06-01T00:00:00Z")
    assert names(first, again, late) == ([["c"]], ["b", "a"])


@pytest.mark.parametrize("spelling", [{"s2__processing_baseline": "N0510"}, {"processing:version": "05.10"}, {}])
def test_baselines_are_compared_in_all_their_spellings(spelling: dict[str, str]) -> None:
    old = item("S2A_MSIL2A_20180710T103021_N0509_R108_T32UME_20240101T000000", s2__processing_baseline="0509")
    new = item("S2A_MSIL2A_20180710T103021_N0510_R108_T32UME_20230101T000000")
    new.properties |= {key.replace("__", ":"): value for key, value in spelling.items()}
    assert names(old, new) == ([[new.id]], [old.id])


def test_tiles_and_zones_of_one_pass_are_one_observation_and_all_are_used() -> None:
    a = item("S2A_32UME", s2__datatake_id="GS2A_20180710T103021_015930_N02.08", grid__code="MGRS-32UME")
    b = item("S2A_33UUS", DAY + timedelta(minutes=27), grid__code="MGRS-33UUS",
             s2__datatake_id="GS2A_20180710T103021_015930_N05.00")  # fmt: skip
    assert names(a, b) == ([["S2A_32UME", "S2A_33UUS"]], [])


def test_two_parts_of_one_tile_are_both_used() -> None:
    """A tile that lies on two datastrips is delivered in two parts, which cover different ground."""
    west = item("S2A_32UME_20180710_0_L2A", box=(9, 50, 9.6, 51), s2__processing_baseline="02.08")
    east = item("S2A_32UME_20180710_1_L2A", box=(9.5, 50, 10, 51), s2__processing_baseline="05.00")
    assert names(west, east) == ([[east.id, west.id]], [])


@pytest.mark.parametrize(
    ("platform", "later"),
    [("sentinel-2b", timedelta(0)), ("sentinel-2a", timedelta(minutes=100)), ("sentinel-2a", timedelta(days=10))],
    ids=["another satellite", "the next orbit", "another day"],
)
def test_other_satellites_and_passes_are_other_observations(platform: str, later: timedelta) -> None:
    used, left_out = names(item("a"), item("b", DAY + later, platform=platform))
    assert len(used) == 2
    assert not left_out


def test_platforms_are_compared_whatever_their_spelling() -> None:
    used, _ = names(item("a", platform="Sentinel-2A", grid__code="x"), item("b", platform="S2A", grid__code="y"))
    assert used == [["a", "b"]]


def test_times_that_are_not_known_are_not_the_same() -> None:
    """Patches of one span of years may be of any two days."""
    span = {"start_datetime": "2015-06-27T00:00:00Z", "end_datetime": "2017-12-31T00:00:00Z"}
    used, left_out = names(item("a", **span), item("b", **span))
    assert used == [["a"], ["b"]]
    assert not left_out


def test_landsat_rows_processed_again_are_found_by_their_ids() -> None:
    rows = {"landsat:wrs_path": "197", "landsat:wrs_row": "023", "platform": "landsat-8"}
    old = item("LC08_L2SP_197023_20180710_20180718_02_RT", **rows)
    new = item("LC08_L2SP_197023_20180710_20200831_02_T1", **rows)
    assert names(old, new) == ([[new.id]], [old.id])


def test_a_malformed_geometry_is_named() -> None:
    broken = item("broken")
    broken.geometry = {"type": "Polygon", "coordinates": [[[9, 50], "x"]]}
    with pytest.raises(LulcbenchError, match="broken has a malformed geometry"):
        names(item("a"), broken)


def red(folder: Path) -> np.ndarray:
    """Builds the release of a world; returns red of all tiles."""
    space = world.workspace(folder / "out")
    recipe = load(folder / "recipe.toml", space.scenes)
    rows = plan.plan(recipe, space)
    materialize.materialize(recipe, space, rows, search.search(recipe, space, rows), None)
    pack.pack(recipe, space, rows, None)
    return REFLECTANCE.decode(np.asarray(zarr.open_array(space.root / "landsat_2018", mode="r"))[:, 0, 0])


@pytest.mark.slow
def test_a_pixel_counts_once_in_each_pass_of_a_satellite(tmp_path: Path) -> None:
    """Three rows of one pass with red 0.1, another pass with 0.3: the median is 0.2, the mean of two observations."""
    world.make(tmp_path, ALL_TRAIN, scenes=0)
    rows = [world.scene(tmp_path / "scenes", f"row{i}", DAY + timedelta(seconds=24 * i), (0.1, 0.3)) for i in range(3)]
    for number, row in enumerate(rows):
        row.properties |= {"landsat:wrs_path": "197", "landsat:wrs_row": f"{number:03d}"}
    other = world.scene(tmp_path / "scenes", "other", DAY + timedelta(16), (0.3, 0.3))
    world.write(tmp_path, "world", "World", [*rows, other])
    np.testing.assert_allclose(red(tmp_path), 0.2, atol=1e-4)


def test_a_pass_takes_from_each_scene_what_the_first_lacks(tmp_path: Path) -> None:
    """West of one scene and east of the other are cloudy; cloud in one scene alone is not cloud of the pass."""
    world.make(tmp_path, ALL_TRAIN, scenes=0)
    _, shape = world.frame(30)
    cloudy = np.full((2, *shape), world.CLEAR, np.uint16)
    cloudy[0, :, : shape[1] // 2] = world.CLOUD
    cloudy[1, :, shape[1] // 2 + 20 :] = world.CLOUD
    items = []
    for i, qa in enumerate(cloudy):
        items.append(world.scene(tmp_path / "scenes", f"row{i}", DAY, (0.1 + 0.1 * i, 0.3), qa))
        items[-1].properties |= {"landsat:wrs_path": "197", "landsat:wrs_row": f"{i:03d}"}
    world.write(tmp_path, "world", "World", items)
    values = red(tmp_path)
    assert np.isfinite(values).all()
    assert set(np.unique(values.round(3))) == {np.float32(0.1), np.float32(0.2)}
    notes = json.loads((tmp_path / "out.work" / "tiles.json").read_text())
    assert {note["landsat_2018"]["cloud"] for note in notes.values()} == {0.0}


def test_one_id_in_two_collections_is_two_scenes(tmp_path: Path) -> None:
    text = world.RECIPE.replace(
        "[[labels]]",
        '[[sensors]]\nname = "sentinel2"\nbands = ["B04", "B08"]\nyears = [2018]\nquality = "optional"\n[[labels]]',
    )
    recipe, space = world.make(tmp_path, text)
    items = list(pystac.Catalog.from_file(str(tmp_path / "catalog.json")).get_items(recursive=True))
    twins = []
    for one in items[:2]:
        twin = one.full_copy()
        twin.collection_id, twin.properties["platform"] = "sentinel-2-l2a", "sentinel-2a"
        for band, name in zip(twin.assets["data"].extra_fields["bands"], ("red", "nir"), strict=True):
            band |= {"name": name, "eo:common_name": name}
        twins.append(twin)
    for one in items:
        one.clear_links()
    for one in twins:
        one.clear_links()
    world.write(tmp_path, "world", "World", [*items, *twins])
    scenes = search.search(recipe, space, plan.plan(recipe, space))
    assert [(s.sensor, s.id) for s in scenes] == [
        ("landsat", "s0"), ("landsat", "s1"), ("landsat", "s2"), ("sentinel2", "s0"), ("sentinel2", "s1"),
    ]  # fmt: skip


def test_two_different_items_of_one_id_are_an_error(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path)
    rows = plan.plan(recipe, space)
    collection = tmp_path / "landsat-c2-l2"
    content = json.loads((collection / "s0" / "s0.json").read_text())
    links = json.loads((collection / "collection.json").read_text())
    links["links"].append({"rel": "item", "href": "./again.json"})
    (collection / "collection.json").write_text(json.dumps(links))
    (collection / "again.json").write_text(json.dumps(content))
    assert [s.id for s in search.search(recipe, space, rows)] == ["s0", "s1", "s2"]
    content["properties"]["eo:cloud_cover"] = 77
    (collection / "again.json").write_text(json.dumps(content))
    with pytest.raises(LulcbenchError, match=r"two different items 's0' of collection 'landsat-c2-l2'"):
        search.search(recipe, space, rows)


@pytest.mark.parametrize(
    "stated",
    [
        {"mgrs:utm_zone": "32U", "mgrs:latitude_band": "U", "mgrs:grid_square": "ME"},
        {"landsat:wrs_path": None, "landsat:wrs_row": "x"},
        {"mgrs:utm_zone": None, "mgrs:latitude_band": 3, "mgrs:grid_square": "ME"},
    ],
)
def test_tiles_that_are_stated_in_another_form_are_left_aside(stated: dict[str, object]) -> None:
    assert names(item("a", **stated), item("b", **stated)) == ([["a"]], ["b"])
