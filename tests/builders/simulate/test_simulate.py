"""The simulator: what it writes is a true archive, and the same seed writes the same bytes."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pystac
import pytest
import rasterio
from rasterio.transform import from_origin

from builders.recipe import load
from builders.simulate import SimulationConfig, run, simulate
from builders.simulate.acquisitions import plan as passes
from builders.simulate.country import Canvas
from builders.simulate.labels import cast_back, label_maps
from builders.simulate.materials import INDEX, reflectance
from builders.simulate.scenes import spread, taps
from builders.stages import own_scenes
from builders.workspace import workspace
from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend
from lulcbench.seasons import SEASONS, Season
from tests.stac import check_stac

BOUNDS = (4_339_200, 3_124_800, 4_341_600, 3_127_200)
SMALL = SimulationConfig(bounds=BOUNDS, dates_per_season=1, cloudiness=0.3, sensors=("sentinel2", "landsat", "planet"),
                         planet_bounds=(4_339_200, 3_124_800, 4_339_800, 3_125_400))  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    simulate(SMALL, out)
    return out


@pytest.fixture(scope="module")
def items(scenes: Path) -> list[pystac.Item]:
    return list(pystac.Catalog.from_file(str(scenes / "catalog.json")).get_items(recursive=True))


def of(items: list[pystac.Item], collection: str) -> list[pystac.Item]:
    found = [item for item in items if item.collection_id == collection]
    assert found
    return found


def read(item: pystac.Item, key: str) -> npt.NDArray[np.integer]:
    with rasterio.open(str(item.assets[key].get_absolute_href())) as file:
        return file.read(1)


@pytest.mark.slow
def test_same_seed_same_bytes_in_any_order(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "plan", lambda *args: passes(*args)[::-1])
    monkeypatch.setattr(run, "_WORKERS", 1)
    simulate(SMALL, tmp_path)
    assert digests(tmp_path) == digests(scenes)


@pytest.mark.slow
def test_granules_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_GRANULE", {"landsat": 1_200})
    config = SMALL.model_copy(update={"sensors": ("landsat",), "years": (2018,), "cloudiness": 0.5})
    simulate(config, tmp_path)
    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    found = list(catalog.get_items(recursive=True))
    assert len(found) == 4 * 4  # dates, granules
    compared = 0
    for west in found:
        east = next((item for item in found if item.id == west.id.replace("_g00", "_g01") != west.id), None)
        if east is not None:
            paths = [str(item.assets["nir08"].get_absolute_href()) for item in (west, east)]
            with rasterio.open(paths[0]) as one, rasterio.open(paths[1]) as other:
                shared = (max(one.bounds.left, other.bounds.left), max(one.bounds.bottom, other.bounds.bottom),
                          min(one.bounds.right, other.bounds.right), min(one.bounds.top, other.bounds.top))  # fmt: skip
                a, b = (f.read(1, window=f.window(*shared)).astype(float) * 2.75e-5 for f in (one, other))
            seen = (a > 0) & (b > 0)
            compared += int(seen.sum())
            # Only noise and the edges' point spread differ: ground, clouds and the end of the swath go on.
            assert np.median(np.abs(a - b)[seen]) < 0.02
            assert ((a > 0) == (b > 0)).all()
    assert compared > 50


def test_passes_that_would_coincide_are_an_error() -> None:
    july, again, day = (
        Season(name=name, start="07-01", end=f"07-{last}") for name, last in zip("abc", ("09", "09", "01"), strict=True)
    )
    for seasons in ((july, again), (day,)):
        config = SMALL.model_copy(update={"seasons": seasons, "dates_per_season": 8})
        with pytest.raises(LulcbenchError, match="on the same day"):
            passes(config, "landsat", 2018, 30)


def test_another_seed_is_another_country() -> None:
    one, other = (label_maps(SMALL.model_copy(update={"seed": seed}))[2018].codes for seed in (1, 2))
    assert (one != other).mean() > 0.5


def test_neighbouring_maps_join() -> None:
    wide = label_maps(SMALL)[2018]
    east = SMALL.model_copy(update={"bounds": (4_340_000, 3_124_800, 4_341_600, 3_127_200)})
    part = label_maps(east)[2018]
    shift = round((part.left - wide.left) / 50)
    middle = (slice(60, -60), slice(60, -60))
    same = wide.codes[:, shift:] == part.codes[:, : wide.codes.shape[1] - shift]
    assert same[middle].mean() > 0.98  # generalising near an edge may differ, the country may not


def test_items_are_valid_and_files_are_what_they_say(items: list[pystac.Item]) -> None:
    for item in items:
        check_stac(json.loads(Path(str(item.get_self_href())).read_bytes()))
        assert item.properties["lulcbench:simulated"] is True
        for asset in item.assets.values():
            path, extra = Path(str(asset.get_absolute_href())), asset.extra_fields
            assert extra["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
            with rasterio.open(path) as file:
                assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                assert file.tags()["SIMULATED"] == "true"
                assert str(file.crs) == item.properties["proj:code"]
                assert list(file.shape) == extra["proj:shape"]
                assert list(file.transform)[:6] == extra["proj:transform"]
                assert (file.dtypes[0], file.nodata) == (extra["data_type"], extra["nodata"])


def test_bands_have_their_own_pixel_size(items: list[pystac.Item]) -> None:
    sentinel2 = of(items, "sentinel-2-l2a")[0]
    sizes = {key: asset.extra_fields["gsd"] for key, asset in sentinel2.assets.items()}
    assert (sizes["red"], sizes["swir16"], sizes["coastal"], sizes["scl"]) == (10, 20, 60, 20)
    assert "cirrus" not in sizes
    for item in of(items, "landsat-c2-l2"):
        assert ("coastal" in item.assets) == (item.properties["platform"] == "landsat-8")
    assert {a.extra_fields["gsd"] for a in of(items, "planet-fusion")[0].assets.values()} == {3}


def test_baseline_decides_about_the_offset(items: list[pystac.Item]) -> None:
    baselines = set()
    for item in of(items, "sentinel-2-l2a"):
        carries = float(item.properties["s2:processing_baseline"]) >= 4
        baselines.add(carries)
        dn = read(item, "blue")
        assert (np.percentile(dn[dn > 0], 1) >= 1000) == carries
        assert item.assets["blue"].extra_fields["raster:offset"] == (-0.1 if carries else 0)
    assert baselines == {True, False}


def test_scene_classification_tells_cloud_and_edge(items: list[pystac.Item]) -> None:
    cloudy = min(of(items, "sentinel-2-l2a"), key=lambda item: abs(item.properties["eo:cloud_cover"] - 40))
    scl, blue = read(cloudy, "scl"), read(cloudy, "blue").astype(float)
    cloud = np.isin(scl, (8, 9, 10))
    assert cloudy.properties["eo:cloud_cover"] == pytest.approx(100 * cloud[scl > 0].mean(), abs=0.01)
    at_20m = blue.reshape(scl.shape[0], 2, scl.shape[1], 2).mean(axis=(1, 3))
    assert at_20m[scl == 9].mean() > at_20m[np.isin(scl, (4, 5))].mean() + 2000
    for item in of(items, "sentinel-2-l2a"):
        edge = np.repeat(np.repeat(read(item, "scl") == 0, 2, 0), 2, 1)
        assert ((read(item, "red") == 0) != edge).mean() < 0.01


def test_qa_pixel_is_coded_as_usgs_does(items: list[pystac.Item]) -> None:
    seen = set()
    for item in of(items, "landsat-c2-l2"):
        qa = read(item, "qa_pixel")
        seen |= set(np.unique(qa).tolist())
        np.testing.assert_array_equal(qa == 1, read(item, "red") == 0)
        cloud, clear = qa & 8 > 0, qa & 64 > 0
        assert not (cloud & clear).any()
        assert ((qa >> 8 & 3 == 3) == cloud).all()
    assert {1, 21824, 22280} <= seen  # fill, clear land, high-confidence cloud in the USGS tables


def test_scene_lies_as_far_off_as_recorded() -> None:
    spot = np.zeros((1, 21, 21), np.float32)
    spot[0, 10, 10] = 1
    moved = spread(spread(spot, taps(0.4), axis=2), taps(-0.3), axis=1)[0]
    assert moved.sum() == pytest.approx(1, abs=1e-6)
    rows, columns = np.mgrid[:21, :21]
    assert (columns * moved).sum() - 10 == pytest.approx(0.4, abs=1e-5)
    assert (rows * moved).sum() - 10 == pytest.approx(-0.3, abs=1e-5)


def test_labels_are_written_as_luisa_is(scenes: Path) -> None:
    for year in (2012, 2018):
        with rasterio.open(scenes / "labels" / f"luisa_{year}.tif") as file:
            assert (file.crs.to_epsg(), file.res, file.dtypes[0], file.nodata) == (3035, (50, 50), "int32", 0)
            assert tuple(file.bounds) == BOUNDS
            assert set(np.unique(file.read(1))) <= set(legend().codes(4))


def test_default_country_has_every_class_but_glaciers_and_changes() -> None:
    maps = label_maps(SimulationConfig())
    inner = (slice(96, -96), slice(96, -96))
    # So few kilometres hold no mountain that is high enough for 3350, glaciers and perpetual snow.
    assert set(legend().codes(4)) - set(np.unique(maps[2018].codes[inner])) == {3350}
    changed = maps[2012].codes != maps[2018].codes
    assert 0.01 < changed.mean() < 0.08
    before, after = maps[2012].codes[changed], maps[2018].codes[changed]
    assert ((before // 1000 != 1) & (after // 1000 == 1)).sum() > 10 * (
        (before // 1000 == 1) & (after // 1000 != 1)
    ).sum()


def test_what_has_no_neighbour_stays_as_it_is() -> None:
    canvas = Canvas.over((4_339_200, 3_124_800, 4_341_600, 3_127_200), 1)
    town = np.full((48, 48), 1121, np.uint16)
    np.testing.assert_array_equal(cast_back(canvas, town, 6), town)


def test_phenology_turns_with_the_year() -> None:
    winter, summer = (reflectance(day, (0.665, 0.865)) for day in (20, 200))

    def ndvi(table: npt.NDArray[np.float32], name: str) -> float:
        red, nir = table[INDEX[name]]
        return float((nir - red) / (nir + red))

    assert ndvi(summer, "beech") > ndvi(winter, "beech") + 0.2
    assert ndvi(reflectance(120, (0.665, 0.865)), "wheat") > ndvi(summer, "wheat") + 0.3
    assert abs(ndvi(summer, "spruce") - ndvi(winter, "spruce")) < 0.05


def write_map(path: Path, codes: npt.NDArray[np.integer], **profile: object) -> Path:
    height, width = codes.shape
    base = {"driver": "GTiff", "count": 1, "dtype": "int32", "nodata": 0, "height": height, "width": width}
    base |= {"crs": "EPSG:3035", "transform": from_origin(4_339_000, 3_127_400, 100, 100)}
    with rasterio.open(path, "w", **(base | profile)) as file:
        file.write(codes.astype(np.int32), 1)
    return path


def given(path: Path) -> SimulationConfig:
    return SimulationConfig(bounds=BOUNDS, label_map=path, years=(2018,), sensors=("landsat",), dates_per_season=1)


def test_given_map_is_brought_to_50_m(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).choice(legend().codes(4), (28, 28))
    out = tmp_path / "out"
    simulate(given(write_map(tmp_path / "map.tif", codes)), out)
    with rasterio.open(out / "labels" / "luisa_2018.tif") as file:
        np.testing.assert_array_equal(file.read(1), codes[2:26, 2:26].repeat(2, 0).repeat(2, 1))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("codes", "profile", "message"),
    [
        (2110, {"crs": None}, "no georeference"),
        (2110, {"transform": rasterio.Affine.identity()}, "no georeference"),
        (112, {}, "coarser than level 4"),
        (9999, {}, "Unknown LUISA code"),
        (2110, {"transform": from_origin(4_339_300, 3_127_400, 100, 100)}, "extend beyond"),
    ],
)
def test_bad_maps_are_refused(tmp_path: Path, codes: int, profile: dict[str, object], message: str) -> None:
    path = write_map(tmp_path / "map.tif", np.full((28, 28), codes), **profile)
    with pytest.raises(LulcbenchError, match=message) as error:
        simulate(given(path), tmp_path / "out")
    assert "map.tif" in error.value.what
    assert not (tmp_path / "out").exists()


def test_missing_and_broken_maps_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0" + bytes(40))
    for path in (tmp_path / "missing.tif", broken):
        with pytest.raises(LulcbenchError, match=path.name):
            simulate(given(path), tmp_path / "out")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"cloudines": 0.1}, "cloudines"),
        ({"bounds": [10, 10, 0, 0]}, "are empty"),
        ({"bounds": [0, 0, 4801, 4800]}, "multiples of 50"),
        ({"planet_bounds": [0, 0, 10, 10]}, "must be inside"),
        ({"years": [2018, 2012]}, "must ascend"),
        ({"seasons": []}, "names seasons"),
    ],
)
def test_bad_configuration_is_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(LulcbenchError, match=message):
        SimulationConfig.parse(table, SEASONS, "recipe.toml")


@pytest.mark.real
def test_real_luisa_is_rendered_unaltered(tmp_path: Path) -> None:
    folder = os.environ.get("LULCBENCH_REAL_DATA")
    if not folder or not (Path(folder) / "luisa").is_dir():
        pytest.skip("LULCBENCH_REAL_DATA has no luisa folder")
    path = Path(folder) / "luisa" / "luisa_2018_bremen_100m.tif"
    bounds = (4_228_800, 3_326_400, 4_233_600, 3_331_200)
    simulate(given(path).model_copy(update={"bounds": bounds}), tmp_path)
    with rasterio.open(path) as file:
        window = file.window(*bounds)
        codes = file.read(1, window=window)
    with rasterio.open(tmp_path / "labels" / "luisa_2018.tif") as file:
        np.testing.assert_array_equal(file.read(1)[::2, ::2], codes)


def test_scenes_are_made_anew_when_the_simulator_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(Path(__file__).parents[2] / "recipes/tiny.toml", tmp_path / "scenes")
    rendered = []
    monkeypatch.setattr("builders.simulate.simulate", lambda config, out, progress: rendered.append(out))
    code = tmp_path / "code"
    code.mkdir()
    (code / "labels.py").write_text("one")
    monkeypatch.setattr(own_scenes, "SIMULATOR", code)
    space = workspace(tmp_path / "release", None)
    for text, times in (("one", 1), ("one", 1), ("two", 2)):
        (code / "labels.py").write_text(text)
        own_scenes.make(recipe, space)
        assert len(rendered) == times


def test_events_change_the_maps_from_their_year_on() -> None:
    """Storm, fire and building strike the land that they can affect, by about their share, and nothing else changes."""
    events = ({"kind": "storm", "year": 2019, "share": 0.1}, {"kind": "fire", "year": 2020, "share": 0.05},
              {"kind": "building", "year": 2020, "share": 0.1})  # fmt: skip
    bounds = (4_320_000, 3_120_000, 4_329_600, 3_129_600)
    base = SimulationConfig(bounds=bounds, years=(2018, 2019, 2020))
    calm, struck = label_maps(base), label_maps(SimulationConfig.model_validate(base.model_dump() | {"events": events}))
    assert (calm[2018].codes == struck[2018].codes).all()
    for year, kinds in ((2019, {3240}), (2020, {3240, 3340, 1210})):
        before, after = calm[year].codes, struck[year].codes
        assert set(np.unique(after[before != after])) == kinds
    felled = (calm[2019].codes != struck[2019].codes)[np.isin(calm[2019].codes, (3110, 3120, 3130))].mean()
    assert 0.06 < felled < 0.101
    built = (calm[2020].codes // 1000 == 2) & (struck[2020].codes == 1210)
    assert built.sum() > 100
    with pytest.raises(ValueError, match="the fire of 2018 is not between the years"):
        SimulationConfig(bounds=bounds, years=(2018, 2019), events=({"kind": "fire", "year": 2018, "share": 0.1},))


@pytest.mark.slow
def test_sensors_can_be_rendered_for_every_year(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"sensors": ("sentinel2",), "every_year": ("sentinel2",), "years": (2018, 2019)})
    simulate(config, tmp_path)
    found = list(pystac.Catalog.from_file(str(tmp_path / "catalog.json")).get_items(recursive=True))
    assert len(found) == 2 * len(SEASONS)
    assert {item.datetime.year for item in found if item.datetime} == {2018, 2019}
