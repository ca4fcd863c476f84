"""Bands of own files that other programs name in ways of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from builders.archives import scene_source
from builders.ingest.folder import understand
from builders.readers.area import Area
from builders.recipe import IngestRule
from builders.stages._catalogs import stored_items
from tests.builders.ingest.test_folder import red
from tests.builders.own import LUISA, TILE, ingest, luisa, raster


def test_bands_named_by_force_are_those_of_the_instrument(tmp_path: Path) -> None:
    """Its NIR is band 8A, and its BROADNIR band 8, the nir of others."""
    names, values = ("RED", "BROADNIR", "NIR", "SWIR1"), [1500, 3000, 3500, 2500]
    raster(tmp_path / "scenes" / "20180702_LEVEL2_SEN2A_BOA.tif", values, names=names)
    ingest(tmp_path / "scenes", "--out", tmp_path / "site", "--sensor", "sentinel2", "--scale", "1e-4")
    (item,) = stored_items(str(tmp_path / "site" / "catalog" / "catalog.json"))
    source = scene_source("sentinel2")
    bands = tuple(source.sensor.band(name) for name in ("B04", "B08", "B8A", "B11"))
    scene = source.scene(item, bands)
    assert [scene.assets[band.asset].band for band in bands] == [1, 2, 3, 4]
    stored = source.read(scene, Area.of([TILE], 10), bands).stored
    np.testing.assert_allclose(source.sensor.coding.decode(stored)[:, 0, 0], np.array(values) * 1e-4, atol=1e-5)


def test_alpha_is_not_a_band_to_be_named(tmp_path: Path) -> None:
    path = raster(tmp_path / "scenes" / "s2_20180702.tif", [1500, 3000, 65535], names=("B04", "B08", ""))
    labels = ("--labels", luisa(tmp_path), *LUISA)
    for options in ([], ["--bands", "B04,B08"]):
        with rasterio.open(path, "r+") as file:
            file.colorinterp = [ColorInterp.gray, ColorInterp.gray, ColorInterp.alpha]
            if options:
                file.descriptions = ("", "", "")
        ingest(tmp_path / "scenes", "--out", tmp_path / "site", "--scale", "1e-4", "--replace", *labels, *options)
        assert red(tmp_path / "site") == pytest.approx(0.15)


def test_a_name_with_begin_and_end_of_one_pass_tells_the_day(tmp_path: Path) -> None:
    name = "S1A_IW_GRDH_1SDV_20180710T053000_20180710T053025_022740_0276C6_ABCD"
    for band, value in (("VV", -10), ("VH", -17)):
        raster(tmp_path / f"{name}_{band}.tif", value, dtype="float32")
    (scene,) = understand(IngestRule(path=tmp_path, unit="dB")).scenes
    assert [f"{time:%Y-%m-%d %H:%M:%S}" for time in scene.times] == ["2018-07-10 05:30:00", "2018-07-10 05:30:25"]


def clouded(path: Path, values: list[float], names: tuple[str, ...], band: int, cloud: float, **more: object) -> None:
    """A file in whose western half a band has the value of clouds."""
    raster(path, values, names=names, **more)
    with rasterio.open(path, "r+") as file:
        layer = file.read(band)
        layer[:, : layer.shape[1] // 2] = cloud
        file.write(layer, band)


def clear(site: Path, sensor: str, band: str) -> tuple[float, float]:
    """Share of the tile that is clear, and that was seen."""
    (item,) = stored_items(str(site / "catalog" / "catalog.json"))
    source = scene_source(sensor)
    bands = (source.sensor.band(band),)
    pixels = source.read(source.scene(item, bands), Area.of([TILE], source.sensor.resolution), bands)
    assert (source.sensor.coding.missing(pixels.stored[0]) <= ~pixels.clear).all()
    return float(pixels.clear.mean()), float(pixels.seen.mean())


def test_the_classification_may_be_a_band_of_the_file(tmp_path: Path) -> None:
    """As Earth Engine exports it."""
    path = tmp_path / "scenes" / "s2_20180702.tif"
    clouded(path, [1500, 3000, 4], ("B4", "B8", "SCL"), 3, 9)
    said = ingest(tmp_path / "scenes", "--out", tmp_path / "site", "--scale", "1e-4")
    assert "quality layer scl" in said
    share, seen = clear(tmp_path / "site", "sentinel2", "B04")
    assert 0.4 < share < 0.6
    assert seen == 1


def test_clouds_of_planetscope_are_those_of_its_usable_data_mask(tmp_path: Path) -> None:
    name = tmp_path / "scenes" / "20180710_103029_23_2276_3B"
    bands = ("coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir")
    raster(Path(f"{name}_AnalyticMS_SR_8b.tif"), [300, 400, 500, 600, 700, 800, 1500, 3000], names=bands, nodata=0)
    layers = ("clear", "snow", "shadow", "light_haze", "heavy_haze", "cloud", "confidence", "unusable_data")
    clouded(Path(f"{name}_udm2.tif"), [1, 0, 0, 0, 0, 0, 90, 0], layers, 1, 0, dtype="uint8")
    said = ingest(tmp_path / "scenes", "--out", tmp_path / "site", "--scale", "1e-4")
    assert "quality layer qa" in said
    share, seen = clear(tmp_path / "site", "planet", "nir")
    assert 0.3 < share < 0.6
    assert seen == 1
