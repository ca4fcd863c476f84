"""Spotting in images: known changes of a simulated place are found in files of any kind and projection."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import geopandas
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.shutil import copy as copy_raster
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform
from scipy.ndimage import map_coordinates

from benchmarks import spotting_images as simulations
from lulcbench import cli
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.spot_images import open_images, spot_images
from lulcbench.maps import map_release
from lulcbench.maps.engine import MapOptions
from lulcbench.maps.model import MapModel, ModelInput, Series
from lulcbench.maps.scenes import date_of, is_clear
from lulcbench.series.regular import days_of_year

SIDE, YEARS = 3, 3
PATCH = simulations.PIXELS * 10.0  # m


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """Folder with ``images``, ``model`` and ``legend.csv``, and the truth."""
    folder = tmp_path_factory.mktemp("place")
    truth = simulations.simulate_place(folder / "images", SIDE, YEARS, changed=0.4, seed=1, every=45)
    simulations.patch_model(folder / "model", patches=15)
    lines = [f"{name},{code}\n" for name, code in simulations.CODES.items()]
    (folder / "legend.csv").write_text("value,code\n" + "".join(lines))
    return folder, truth


def run(monkeypatch: pytest.MonkeyPatch, *command: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lulcbench", "spot", *map(str, command)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_known_changes_are_found_with_classes_dates_and_places(
    place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, truth = place
    out, page = tmp_path / "changes.csv", tmp_path / "changes.html"
    outputs = ["--out", out, "--gpkg", tmp_path / "c.gpkg", "--geojson", tmp_path / "c.geojson", "--page", page]
    options = ["--model", folder / "model", "--legend", folder / "legend.csv", *outputs]
    assert run(monkeypatch, folder / "images", *options) == 0
    assert f"in {SIDE * SIDE} patches" in capsys.readouterr().out
    moved = truth[truth["date"].notna()]
    assert 2 <= len(moved) < len(truth)
    found = geopandas.read_file(tmp_path / "c.gpkg")
    assert found.crs.to_epsg() == 3035
    # Known centres of the patches, by another library's transformation from the CRS of the images.
    left, top = simulations.CORNER
    xs, ys = left + (moved["column"] + 0.5) * PATCH, top - (moved["row"] + 0.5) * PATCH
    east, north = transform(simulations.CRS, "EPSG:3035", xs.tolist(), ys.tolist())
    known = 0
    for one, x, y in zip(moved.itertuples(), east, north, strict=True):
        here = next((row for row in found.itertuples() if np.hypot(row.x - x, row.y - y) < 1), None)
        if here is None:
            continue
        known += 1
        assert (here.before, here.after) == (one.before, one.after)
        near = pd.Timedelta(days=60)
        assert pd.Timestamp(here.first) - near <= one.date <= pd.Timestamp(here.last) + near
        assert here.geometry.centroid.distance(geopandas.points_from_xy([x], [y])[0]) < 1
        assert here.geometry.area == pytest.approx(PATCH**2, rel=0.01)
    assert known >= 0.8 * len(moved)
    assert len(found) == known  # no false alarm
    geojson = json.loads((tmp_path / "c.geojson").read_text())
    longitudes = [feature["geometry"]["coordinates"][0][0][0] for feature in geojson["features"]]
    assert len(longitudes) == known
    assert all(13 < longitude < 14 for longitude in longitudes)
    assert pd.read_csv(out)["lon"].between(13, 14).all()
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 3 * known
    assert "1,920 m across, bar 200 m" in text
    assert all(f"image of {date}" in text for date in found["first"])


def test_the_model_sees_the_pixels_of_the_files(place) -> None:
    folder, _ = place
    model = MapModel.open(folder / "model")
    images = open_images(folder / "images", model.info)
    path = sorted((folder / "images").glob("*.tif"))[4]
    with rasterio.open(path) as file:
        stored = file.read(window=((64, 128), (128, 192)))
        left, top = file.transform @ (128, 64)
    wanted = model.info.inputs["sentinel2"]
    image = (stored[:5] * 1e-4 - np.reshape(wanted.mean, (5, 1, 1))) / np.reshape(wanted.std, (5, 1, 1))
    date = np.datetime64(path.stem[-10:])
    seen = images.read(date, (left, top - 640, left + 640, top))
    np.testing.assert_allclose(seen.images["sentinel2"], image, atol=2e-3)
    assert np.array_equal(seen.clear, stored[5] == 4)
    session = onnxruntime.InferenceSession(model.graph())
    (p,) = session.run(None, {"sentinel2": image[None].astype(np.float32)})
    np.testing.assert_allclose(model.predictor()(seen.images), p[0], atol=1e-3)


def test_images_that_are_turned_against_the_grid_are_not_blurred(place, tmp_path: Path) -> None:
    """Fine texture keeps its contrast: bilinear interpolation of noise by scipy at coordinates of pyproj."""
    folder, _ = place
    size = 700
    noise = np.random.default_rng(0).integers(1000, 3000, (6, size, size)).astype(np.uint16)
    noise[5] = 4
    left, top = 399960.0, 7600000.0  # Lapland in zone 35, against the grid of Europe turned by 17°
    grid = {"crs": "EPSG:32635", "transform": Affine(10, 0, left, 0, -10, top), "nodata": 0}
    shape = {"driver": "GTiff", "width": size, "height": size, "count": 6, "dtype": "uint16"}
    with rasterio.open(tmp_path / "2020-06-01.tif", "w", **shape, **grid) as file:
        file.write(noise)
        file.descriptions = ("B02", "B03", "B04", "B08", "B11", "SCL")
    ((x,), (y,)) = transform("EPSG:32635", "EPSG:3035", [left + 3500], [top - 3500])
    x, y = round(x, -1), round(y, -1)
    with rasterio.open(
        tmp_path / "2020-05-01.tif",
        "w",
        **shape,
        crs="EPSG:3035",
        transform=Affine(10, 0, x - 640, 0, -10, y + 640),
        nodata=0,
    ) as file:
        file.write(noise)
        file.descriptions = ("B02", "B03", "B04", "B08", "B11", "SCL")
    model = MapModel.open(folder / "model")
    images = open_images(tmp_path, model.info)
    assert images.crs == "EPSG:3035"
    picture = images.picture(np.datetime64("2020-06-01"), (x - 640, y - 640, x + 640, y + 640))
    east, north = np.meshgrid(x - 635 + 10.0 * np.arange(128), y + 635 - 10.0 * np.arange(128))
    columns, rows = Transformer.from_crs(3035, 32635, always_xy=True).transform(east, north)
    at = [(top - np.array(rows)) / 10 - 0.5, (np.array(columns) - left) / 10 - 0.5]
    expected = map_coordinates(noise[0] * 1e-4, at, order=1)
    assert np.std(picture[0]) == pytest.approx(np.std(expected), rel=0.02)
    assert np.abs(picture[0] - expected).mean() < 0.1 * np.std(expected)  # GDAL's coordinates are within 1/8 pixel


@pytest.mark.slow
def test_images_in_degrees_show_the_same_changes(place, tmp_path: Path) -> None:
    folder, truth = place
    for path in (folder / "images").glob("*.tif"):
        with rasterio.open(path) as file, WarpedVRT(file, crs="EPSG:4326", resampling=Resampling.nearest) as view:
            copy_raster(view, tmp_path / path.name, driver="GTiff")
            descriptions = file.descriptions
        with rasterio.open(tmp_path / path.name, "r+") as file:
            file.descriptions = descriptions
    model = MapModel.open(folder / "model")
    spotted = spot_images(open_images(tmp_path, model.info), model, legend_name=str(folder / "legend.csv"), stride=320)
    moved = truth[truth["date"].notna()]
    left, top = simulations.CORNER
    xs, ys = left + (moved["column"] + 0.5) * PATCH, top - (moved["row"] + 0.5) * PATCH
    east, north = transform(simulations.CRS, "EPSG:3035", xs.tolist(), ys.tolist())
    right = 0
    for one, x, y in zip(moved.itertuples(), east, north, strict=True):
        near = spotted.changes[np.hypot(spotted.changes["x"] - x, spotted.changes["y"] - y) < 320]
        right += bool(((near["before"] == one.before) & (near["after"] == one.after)).any())
    assert right >= len(moved) - 1


def same_images(place: tuple[Path, pd.DataFrame], images: Path) -> bool:
    """Whether the model sees the same in other files of the place."""
    model = MapModel.open(place[0] / "model")
    ours, theirs = (open_images(folder, model.info) for folder in (place[0] / "images", images))
    left, top = simulations.CORNER
    bounds = (left + 320, top - 1280, left + 960, top - 640)
    dates = theirs.dates(bounds)
    for date in dates:
        one, other = ours.read(date, bounds), theirs.read(date, bounds)
        assert np.array_equal(one.clear, other.clear)
        np.testing.assert_allclose(one.images["sentinel2"], other.images["sentinel2"], atol=1e-3)
    return len(dates) == 4


def test_images_stored_south_up_and_in_parts_are_the_same(place, tmp_path: Path) -> None:
    for path in sorted((place[0] / "images").glob("*.tif"))[:4]:
        with rasterio.open(path) as file:
            profile, stored, descriptions = file.profile, file.read()[:, ::-1], file.descriptions
            flipped = file.transform @ Affine(1, 0, 0, 0, -1, file.height)
        for name, columns in (("west", slice(0, 100)), ("east", slice(100, 192))):  # parts of a mosaic
            part = stored[:, :, columns]
            shape = {"width": part.shape[2], "transform": flipped @ Affine.translation(columns.start, 0)}
            with rasterio.open(tmp_path / f"{name}_{path.name}", "w", **profile | shape) as file:
                file.write(part)
                file.descriptions = descriptions
    assert same_images(place, tmp_path)


def test_a_catalog_of_single_bands_has_the_same_images(place, tmp_path: Path) -> None:
    folder, _ = place
    items = []
    for path in sorted((folder / "images").glob("*.tif"))[:4]:
        date = path.stem[-10:]
        assets: dict[str, object] = {}
        with rasterio.open(path) as file:
            profile = file.profile | {"count": 1}
            for number, key in enumerate(("blue", "green", "red", "nir", "swir16", "scl"), start=1):
                name = f"{date}-{key}.tif"
                with rasterio.open(tmp_path / name, "w", **profile) as single:
                    # With the offset of baseline 04.00, which the item states.
                    single.write(file.read(number) + (0 if key == "scl" else 1000), 1)
                assets[key] = {"href": name}
                if key != "scl":
                    assets[key] = {"href": name, "raster:bands": [{"scale": 1e-4, "offset": -0.1}]}
        item = {"type": "Feature", "id": date, "properties": {"datetime": f"{date}T10:00:00Z"}, "assets": assets}
        (tmp_path / f"{date}.json").write_text(json.dumps(item))
        items.append({"rel": "item", "href": f"{date}.json"})
    (tmp_path / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": items}))
    assert same_images(place, tmp_path)


def test_what_is_no_series_of_images_is_refused(place, tmp_path: Path) -> None:
    folder, _ = place
    model = MapModel.open(folder / "model")
    path = min((folder / "images").glob("*.tif"))
    with pytest.raises(LulcbenchError, match="does not exist"):
        open_images(tmp_path / "nowhere", model.info)
    with pytest.raises(LulcbenchError, match="has no images"):
        open_images(tmp_path, model.info)
    undated = shutil.copy(path, tmp_path / "place.tif")
    with pytest.raises(LulcbenchError, match=r"place\.tif has no date"):
        open_images(tmp_path, model.info)
    dated = Path(undated).rename(tmp_path / "a_20180101.tif")
    images = open_images(tmp_path, model.info)
    with pytest.raises(LulcbenchError, match="has two clear images"):
        spot_images(images, model, legend_name=str(folder / "legend.csv"))
    with pytest.raises(LulcbenchError, match="fits into"):
        spot_images(images, model, legend_name=str(folder / "legend.csv"), patch=6400)
    with pytest.raises(LulcbenchError, match="not whole pixels of 10 m"):
        spot_images(images, model, legend_name=str(folder / "legend.csv"), patch=645)
    with pytest.raises(LulcbenchError, match="of another legend, without levels"):
        spot_images(images, model, legend_name=str(folder / "legend.csv"), level=1)
    with pytest.raises(LulcbenchError, match=r"An offset of -0\.1 without a scale"):
        open_images(tmp_path, model.info, offset=-0.1)
    with pytest.raises(LulcbenchError, match=r"classes of another legend: Forest"):
        spot_images(images, model)
    with rasterio.open(dated, "r+") as file:
        file.descriptions = ("B02", "B03", "other", "B08", "B11", "SCL")
    with pytest.raises(LulcbenchError, match="lacks the bands B04"):
        open_images(tmp_path, model.info)
    named = open_images(tmp_path, model.info, names=("b2", "green", "RED", "B8", "B11", "scl"))
    assert len(named.dates(named.bounds)) == 1
    with rasterio.open(dated, "r+") as file:
        file.descriptions = (*simulations.BANDS, "SCL")
        file.scales = (1.0,) * 6
    images = open_images(tmp_path, model.info, scale=1.0)
    with pytest.raises(LulcbenchError, match="standard deviations from those of the training data"):
        images.read(images.dates(images.bounds)[0], images.bounds)


def test_a_model_of_series_of_one_band_is_refused(place) -> None:
    folder, _ = place
    info = MapModel.open(folder / "model").info
    steps = len(days_of_year(90))
    series = ModelInput(
        resolution=10, bands=("B04",), seasons=(), mean=(0.1,) * steps, std=(0.1,) * steps, series=Series(every=90)
    )
    with pytest.raises(LulcbenchError, match="takes series of a year, not single images"):
        open_images(folder / "images", info.model_copy(update={"inputs": {"sentinel2": series}}))


def test_digits_whose_coding_is_not_certain_are_refused(place, tmp_path: Path) -> None:
    """Since 2022-01-25, digits of Sentinel-2 have an offset, unless a program has removed it."""
    folder, _ = place
    model = MapModel.open(folder / "model")
    path = min((folder / "images").glob("*.tif"))
    for day, certain in (("20220124", True), ("20220125", False)):
        shutil.rmtree(tmp_path / "images", ignore_errors=True)
        (tmp_path / "images").mkdir()
        with rasterio.open(shutil.copy(path, tmp_path / "images" / f"a_{day}.tif"), "r+") as file:
            file.update_tags(TIFFTAG_DATETIME="")
        images = open_images(tmp_path / "images", model.info)
        (date,) = images.dates(images.bounds)
        if certain:
            before = images.picture(date, images.bounds)
        else:
            with pytest.raises(LulcbenchError, match=r"(?s)2022-01-25.*does not state how its digits.*--offset -0\.1"):
                images.picture(date, images.bounds)
            stated = open_images(tmp_path / "images", model.info, scale=1e-4, offset=-0.1)
            np.testing.assert_allclose(stated.picture(date, images.bounds), before - 0.1, atol=1e-6)


def test_old_images_that_were_processed_again_have_the_offset_too(place, tmp_path: Path) -> None:
    """Collection 1 of 2018 has processing baseline 05.00, in the name of the product or in the item."""
    folder, _ = place
    model = MapModel.open(folder / "model")
    path = min((folder / "images").glob("*.tif"))
    images = open_images(folder / "images", model.info)
    known = images.picture(images.dates(images.bounds)[0], images.bounds)
    for name in ("N0207", "N0500"):
        product = tmp_path / name / f"S2A_MSIL2A_20180503T103021_{name}_R108_T32UMD_20240101T000000.SAFE"
        product.mkdir(parents=True)
        with rasterio.open(shutil.copy(path, product / "T32UMD_20180503T103021.tif"), "r+") as file:
            file.update_tags(TIFFTAG_DATETIME="")
        images = open_images(tmp_path / name, model.info)
        if name == "N0207":
            np.testing.assert_array_equal(images.picture(np.datetime64("2018-05-03"), images.bounds), known)
        else:
            with pytest.raises(LulcbenchError, match=r"2018-05-03, processing baseline 05\.00\) does not state"):
                images.picture(np.datetime64("2018-05-03"), images.bounds)
    properties = {"datetime": "2018-05-03T10:30:21Z", "s2:processing_baseline": "05.00"}
    bands = {f"B{i}": {"href": str(path), "eo:bands": [{"name": n} for n in simulations.BANDS]} for i in (0,)}
    for removed in (False, True):
        item = {
            "type": "Feature",
            "id": "S2A",
            "properties": properties | {"earthsearch:boa_offset_applied": removed},
            "assets": bands,
        }
        (tmp_path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))
        images = open_images(tmp_path / "items.json", model.info)
        if removed:
            np.testing.assert_array_equal(images.picture(np.datetime64("2018-05-03"), images.bounds), known)
        else:
            with pytest.raises(LulcbenchError, match=r"baseline 05\.00\) does not state"):
                images.picture(np.datetime64("2018-05-03"), images.bounds)


@pytest.mark.slow
def test_composites_of_a_release_are_classified_as_its_map(exported, release_root: Path, tmp_path: Path) -> None:
    folder = exported("forest")
    model = MapModel.open(folder)
    images = open_images(release_root, model.info)
    bounds = (4344000.0, 3129600.0, 4346400.0, 3132000.0)
    spotted = spot_images(images, model, patch=600, level=1, bounds=bounds, confidence=0.01, rate=0.5)
    assert spotted.patches == 16
    assert spotted.years == pytest.approx(16 * 6, abs=0.1)
    (first, last) = images.dates(images.bounds)
    assert (str(first)[:4], str(last)[:4]) == ("2012", "2018")
    assert not spotted.changes.empty
    mapped = map_release(folder, release_root, tmp_path / "map", MapOptions(bounds=bounds, cog=True))
    for row in spotted.changes.head(3).to_dict("records"):
        series = spotted.series[row["place"]]
        for date, p in zip(series.dates, series.probabilities, strict=True):
            (path,) = (mapped.folder / "cog" / str(date)[:4]).glob("*prob*.tif")
            with rasterio.open(path) as file:
                window = file.window(row["left"], row["top"] - 600, row["left"] + 600, row["top"])
                stored = file.read(window=window).astype(float) / 254
            by_level_one = [stored[np.array(series.codes) == code].sum(axis=0).mean() for code in range(1, 6)]
            np.testing.assert_allclose([p[series.codes == code].sum() for code in range(1, 6)], by_level_one, atol=0.02)


def test_dates_and_layers_of_quality() -> None:
    assert date_of("T33UUU_20180230T100000_20180301") == np.datetime64("2018-03-01")
    assert date_of("2018:05:03 10:20:30") == np.datetime64("2018-05-03")
    assert is_clear("sentinel2", np.array([0, 3, 4, 8, 11])).tolist() == [False, False, True, False, True]
    assert is_clear("landsat", np.array([1, 21824, 22280])).tolist() == [False, True, False]
