"""The recipes ``pilot12`` and ``europe``: plans, the searches that they send, and a build of a region on loopback."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import transform_bounds
from rasterio.windows import from_bounds
from typer.testing import CliRunner

from builders.__main__ import app
from builders.recipe import BUFFER, RECIPES, Recipe, load
from builders.simulate import simulate
from builders.simulate.config import SimulationConfig
from builders.stages import _catalogs, plan, search
from builders.stages.coverage import read_coverage
from builders.workspace import Workspace, workspace
from lulcbench._files import hash_file
from lulcbench.legend import legend
from lulcbench.release import Manifest
from tests import loopback
from tests.builders.stages.test_stac_server import serve

pytestmark = pytest.mark.slow

BOUNDS = (900_000, 900_000, 7_400_000, 5_500_000)  # of the LUISA Base Map
PILOT = ("bremen", "la-rochelle", "barcelona", "connemara", "extremadura", "leiria", "oetztal", "abisko", "oulu",
         "silesia", "neusiedl", "dobruja")  # fmt: skip


def luisa(path: Path, areas: list[tuple[float, ...]]) -> Path:
    """A map with the extent of LUISA, with patches of all classes in some areas and nodata elsewhere."""
    rng = np.random.default_rng(0)
    left, bottom, right, top = BOUNDS
    profile = {"driver": "GTiff", "dtype": "int32", "nodata": 0, "count": 1, "crs": "EPSG:3035", "tiled": True}
    profile |= {"width": (right - left) // 50, "height": (top - bottom) // 50, "compress": "zstd", "zstd_level": 1}
    with rasterio.open(
        path, "w", transform=Affine(50, 0, left, 0, -50, top), blockxsize=512, blockysize=512, sparse_ok=True, **profile
    ) as file:
        for area in areas:
            window = from_bounds(*area, file.transform).round_offsets().round_lengths()
            shape = (int(window.height) // 16, int(window.width) // 16)
            codes = rng.choice(legend().codes(4), shape).repeat(16, 0).repeat(16, 1)
            file.write(codes.astype(np.int32), 1, window=window)
    return path


def opened(
    name: str, folder: Path, labels: Path, *settings: str, regions: tuple[str, ...] = ()
) -> tuple[Recipe, Workspace]:
    """A recipe with another label map."""
    space = workspace(folder / "out")
    maps = [f"labels.{i}.{key}" for i in (0, 1) for key in (f"path={labels}", f"sha256={hash_file(labels)}")]
    editions = [f"labels.{i}.edition=test" for i in (0, 1)]
    return load(RECIPES / f"{name}.toml", space.scenes, [*maps, *editions, *settings], regions), space


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Workspace, list[plan.Planned]]:
    """The plan of the pilot on a map that has labels everywhere."""
    folder = tmp_path_factory.mktemp("pilot")
    bounds = [region.bounds for region in load(RECIPES / "pilot12.toml", folder).regions]
    recipe, space = opened("pilot12", folder, luisa(folder / "luisa.tif", bounds))
    return recipe, space, plan.plan(recipe, space)


def test_each_region_of_the_pilot_has_64_tiles_and_all_splits(
    pilot: tuple[Recipe, Workspace, list[plan.Planned]],
) -> None:
    recipe, space, rows = pilot
    used = Counter(row.region for row in rows if row.split != BUFFER)
    assert set(used) == set(PILOT)
    assert min(used.values()) >= 64
    blocks = {(row.region, row.block) for row in rows if row.split == "test"}
    assert len(blocks) >= 24
    assert {region for region, _ in blocks} == set(PILOT)
    for region in recipe.regions:
        assert read_coverage(space.splits).missing(region.name) == []


def test_regions_of_the_pilot_are_whole_blocks_apart_from_each_other() -> None:
    recipe = load(RECIPES / "pilot12.toml", Path("scenes"))
    side = recipe.split.block * 4800
    boxes = [region.bounds for region in recipe.regions]
    for i, box in enumerate(boxes):
        assert box is not None
        assert not any(value % side for value in box)
        assert all(low <= value <= high for value, low, high in zip(box, BOUNDS[:2] * 2, BOUNDS[2:] * 2, strict=True))
        for other in boxes[:i]:
            assert other is not None
            assert box[0] >= other[2] or other[0] >= box[2] or box[1] >= other[3] or other[1] >= box[3]


@pytest.mark.parametrize("name", ["pilot12", "europe", "landsat-annual"])
def test_maps_and_downloads_are_pinned_alike(name: str) -> None:
    recipe = load(RECIPES / f"{name}.toml", Path("scenes"))
    downloads = {one.path: one.sha256 for one in recipe.downloads}
    assert {label.path: label.sha256 for label in recipe.labels} == downloads
    assert [label.year for label in recipe.labels] == [2012, 2018]
    assert recipe.labels[1].sha256


def place(box: tuple[float, ...]) -> dict[str, Any]:
    """Bbox and geometry of a scene in the middle of a region."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    west, south, east, north = transform_bounds("EPSG:3035", "EPSG:4326", x - 5000, y - 5000, x + 5000, y + 5000)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"bbox": [west, south, east, north], "geometry": {"type": "Polygon", "coordinates": [ring]}}


def item(name: str, collection: str, day: str, cloud: float | None, box: tuple[float, ...]) -> dict[str, Any]:
    """A STAC item without files."""
    properties: dict[str, Any] = {"datetime": f"{day}T10:30:00Z"}
    properties |= {} if cloud is None else {"eo:cloud_cover": cloud}
    frame = {"type": "Feature", "stac_version": "1.0.0", "links": [], "assets": {}, "stac_extensions": []}
    return {**frame, "id": name, "collection": collection, "properties": properties, **place(box)}


def test_the_searches_of_the_pilot_find_what_they_should(
    pilot: tuple[Recipe, Workspace, list[plan.Planned]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real STAC API server holds scenes of every region, inside and outside of the years, and elsewhere."""
    recipe, _, rows = pilot
    monkeypatch.setattr(_catalogs, "PAGE", 7)
    dates = {  # those in a season of the recipe's years, and others
        "sentinel-2-l2a": (("2017-12-02", "2018-07-02", "2018-12-01"), ("2017-12-01", "2018-12-02")),
        "landsat-c2-l2": (("2011-12-02", "2012-06-01", "2018-01-05"), ("2015-06-01", "2018-12-03")),
    }
    items, expected = [], set()
    for region in recipe.regions:
        assert region.bounds is not None
        far = (region.bounds[0], region.bounds[1] - 300_000, region.bounds[2], region.bounds[3] - 300_000)
        for collection, (wanted, others) in dates.items():
            for day in (*wanted, *others):
                name = f"{region.name}-{collection}-{day}"
                items.append(item(name, collection, day, 10, region.bounds))
                items.append(item(f"{name}-far", collection, day, 10, far))
                expected |= {name} if day in wanted else set()
            items.append(item(f"{region.name}-{collection}-unknown", collection, "2018-05-05", None, region.bounds))
            expected.add(f"{region.name}-{collection}-unknown")
    server, url = serve(items, tmp_path)
    try:
        found = []
        for rule in recipe.sensors:
            spans = [span for year in rule.years for span in rule.spans(recipe.seasons, year)]
            found += [one.id for one in _catalogs.found_items(url, rule, search._boxes(rows), spans)]
    finally:
        server.terminate()
        server.wait()
    elsewhere = {name for name in found if name.endswith("-far")}
    assert set(found) - elsewhere == expected
    assert len(found) == len(set(found))
    assert len(elsewhere) <= 2 * 3  # regions that another one lies 300 km south of


def test_annual_landsat_has_four_composites_a_year_of_which_two_are_labelled(tmp_path: Path) -> None:
    """Regions and labels are those of the pilot; the simulated recipe and the config have the same years."""
    pilot, recipe = (load(RECIPES / f"{name}.toml", tmp_path) for name in ("pilot12", "landsat-annual"))
    assert {region.name for region in recipe.regions} == {"bremen", "leiria", "silesia"}
    assert set(recipe.regions) <= set(pilot.regions)
    assert (recipe.labels, recipe.downloads, recipe.split) == (pilot.labels, pilot.downloads, pilot.split)
    (rule,), (simulated,) = recipe.sensors, load(RECIPES / "luisa-sim-annual.toml", tmp_path).sensors
    assert rule.dated is not None
    assert (rule.dated, rule.bands) == (simulated.dated, simulated.bands)
    periods = rule.dated.periods()
    assert len(periods) == 21 * 4
    assert all(first.year == middle.year == last.year for middle, (first, last) in periods)
    assert {label.year for label in recipe.labels} == {2012, 2018}
    config = tomllib.loads((Path(__file__).parents[2] / "baselines" / "configs" / "annual.toml").read_text())["data"]
    assert tuple(config["years"]) == rule.dated.years
    assert config["label_year"] == 2018


def test_a_cell_of_europe_is_planned_alone_and_the_sea_does_not_exist(tmp_path: Path) -> None:
    inside = (4_800_000, 3_360_000, 4_992_000, 3_456_000)  # of cell 10-07: 40 × 20 tiles
    labels = luisa(tmp_path / "luisa.tif", [inside])
    cells = ("europe-10-07", "europe-01-10")
    recipe, space = opened("europe", tmp_path, labels, regions=cells)
    rows = plan.plan(recipe, space)
    assert {row.region for row in rows} == {"europe-10-07"}
    assert len(rows) == 40 * 20
    assert {row.split for row in rows} == {"train", "val", "test", BUFFER}
    assert not [one for one in plan.read_omitted(space.splits) if one.region == "europe-01-10"]
    assert len(plan.read_omitted(space.splits)) == 100 * 100 - 40 * 20


def test_cells_of_europe_cover_its_extent_once() -> None:
    recipe = load(RECIPES / "europe.toml", Path("scenes"))
    boxes = [region.bounds for region in recipe.regions if region.bounds]
    assert len({region.name for region in recipe.regions}) == len(boxes) == 15 * 11
    area = sum((right - left) * (top - bottom) for left, bottom, right, top in boxes)
    assert area == (BOUNDS[2] - BOUNDS[0]) * (BOUNDS[3] - BOUNDS[1])
    assert (min(b[0] for b in boxes), min(b[1] for b in boxes)) == BOUNDS[:2]
    assert (max(b[2] for b in boxes), max(b[3] for b in boxes)) == BOUNDS[2:]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Servers of simulated scenes in the region of Bremen: address of the files, of the STAC API, and the bounds."""
    bounds = (4_224_000, 3_321_600, 4_238_400, 3_326_400)  # 3 × 1 tiles
    seasons = load(RECIPES / "pilot12.toml", tmp_path).seasons
    config = SimulationConfig(seed=3, bounds=bounds, seasons=seasons, dates_per_season=1, cloudiness=0.1)
    folder = tmp_path / "archive"
    simulate(config, folder)
    with loopback.serve(folder) as files:
        items = []
        for entry in _catalogs.stored_items(str(folder / "catalog.json")):
            for asset in entry.assets.values():
                path = Path(str(asset.get_absolute_href())).relative_to(folder)
                asset.href = f"{files}/{path.as_posix()}"
            entry.clear_links()
            items.append(entry.to_dict(include_self_link=False) | {"collection": entry.collection_id})
        server, api = serve(items, tmp_path)
        try:
            yield {"files": files, "api": api, "bounds": json.dumps(bounds), "folder": str(folder)}
        finally:
            server.terminate()
            server.wait()


def test_a_region_of_the_pilot_is_built_from_servers(world: dict[str, str], tmp_path: Path) -> None:
    """The command of a maintainer, with addresses on loopback: label maps are downloaded, scenes searched and read."""
    arguments = ["build", str(RECIPES / "pilot12.toml"), "--out", str(tmp_path / "out"), "--workers", "1"]
    arguments += ["--region", "bremen"]
    settings = [
        f"regions.bremen.bounds={world['bounds']}",
        "simulated=true",
        "split.block=1",
        "split.buffer=0",
        "pack.codec=lz4",
    ]
    settings += [f"sensors.{name}.catalog={world['api']}" for name in ("sentinel2", "landsat")]
    for number, year in enumerate((2012, 2018)):
        digest = hash_file(Path(world["folder"]) / "labels" / f"luisa_{year}.tif")
        settings += [
            f"downloads.{number}.url={world['files']}/labels/luisa_{year}.tif",
            f"downloads.{number}.sha256={digest}",
            f"labels.{number}.sha256={digest}",
            f"labels.{number}.edition=simulated",
        ]
    for setting in settings:
        arguments += ["--set", setting]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, f"{ended.output[-3000:]} {ended.exception}"
    release = Manifest.load(tmp_path / "out")
    assert release.splits == {"train": 1, "val": 1, "test": 1}
    arrays = {str(array) for array in release.arrays}
    assert arrays >= {
        "sentinel2_2018",
        "landsat_2012",
        "landsat_2018",
        "luisa_2012",
        "luisa_2018",
    }
    lock = json.loads((tmp_path / "out" / "scenes.lock.json").read_text())
    assert len({scene["id"] for scene in lock["scenes"]}) == 3 * 4
