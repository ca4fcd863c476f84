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
from tests.builders.ingest.test_folder import ingest, red
from tests.builders.own import LUISA, TILE, luisa, raster


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
