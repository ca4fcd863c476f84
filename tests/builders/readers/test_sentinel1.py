"""Sentinel-1: backscatter in any unit of an archive is stored in decibels."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio.warp

from builders.archives import scene_source
from builders.ingest.catalog import File, item
from builders.readers.area import Area
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile
from lulcbench.sensors import BACKSCATTER, SENTINEL1
from tests.builders.world import UTM, frame, write_raster

TILE = Tile(900, 650)
AREA = Area.of([TILE], 10)
DAY = datetime(2018, 7, 1, 17, tzinfo=UTC)
VV, VH = SENTINEL1.bands


def scene(folder: Path, vv: np.ndarray, vh: np.ndarray, collection: str | None = None, **coding: Any) -> pystac.Item:
    transform, _ = frame(10)
    nodata = coding.pop("tag", None)
    files = [
        File(band.asset, write_raster(folder / f"{band.asset}.tif", values, transform, UTM, nodata), (band,), **coding)
        for band, values in ((VV, vv), (VH, vh))
    ]
    made = item("s1", SENTINEL1, files, (DAY, DAY))
    made.collection_id = collection or made.collection_id
    return made


def read(made: pystac.Item) -> np.ndarray:
    source = scene_source("sentinel1")
    stored = source.read(source.scene(made), AREA, SENTINEL1.bands).stored
    assert stored.dtype == np.int16
    return BACKSCATTER.decode(stored)


def constant(value: float, dtype: str = "float32") -> np.ndarray:
    return np.full(frame(10)[1], value, dtype)


@pytest.mark.parametrize(
    ("vv", "vh", "collection", "coding"),
    [
        (constant(10**-1.234), constant(10**-2.05), "sentinel-1-rtc", {}),
        (constant(10**-1.234), constant(10**-2.05), "another", {"unit": "1"}),
        (constant(-12.34), constant(-20.5), "another", {"unit": "dB"}),
        (constant(-1234, "int16"), constant(-2050, "int16"), "another", {"unit": "dB", "scale": 0.01}),
        (constant(1766, "uint16"), constant(950, "uint16"), "another", {"unit": "dB", "scale": 0.01, "offset": -30}),
    ],
    ids=["power by its collection", "power by its unit", "decibels", "scaled decibels", "decibels by a table"],
)
def test_backscatter_is_stored_in_decibels(
    tmp_path: Path, vv: np.ndarray, vh: np.ndarray, collection: str, coding: dict[str, Any]
) -> None:
    values = read(scene(tmp_path, vv, vh, collection, **coding))
    np.testing.assert_allclose(values[0], -12.34, atol=1e-4)
    np.testing.assert_allclose(values[1], -20.5, atol=1e-4)


@pytest.mark.parametrize("unit", [None, "m", "DN"])
def test_values_of_unknown_meaning_are_refused(tmp_path: Path, unit: str | None) -> None:
    made = scene(tmp_path, constant(300, "uint16"), constant(100, "uint16"), "sentinel-1-grd", unit=unit)
    with pytest.raises(LulcbenchError, match=r"(?s)sentinel-1-grd.*must be calibrated"):
        scene_source("sentinel1").scene(made)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hole", "coding"),
    [(np.nan, {}), (-9999, {"nodata": -9999}), (-9999, {"tag": -9999}), (0, {})],
    ids=["NaN", "nodata of the catalog", "nodata of the file", "power of 0"],
)
def test_what_is_missing_in_one_polarisation_is_missing_in_both(
    tmp_path: Path, hole: float, coding: dict[str, Any]
) -> None:
    """And it does not bleed into its neighbours: power is 0.1 or missing, never between."""
    vv, vh = constant(0.1), constant(0.01)
    transform, _ = frame(10)
    (x,), (y,) = rasterio.warp.transform("EPSG:3035", UTM, *([v] for v in AREA.transform @ (240, 240)))
    column, row = (int(v) for v in ~transform @ (x, y))
    vv[row - 40 : row + 40, column - 40 : column + 40] = hole
    values = read(scene(tmp_path, vv, vh, "sentinel-1-rtc", **coding))
    missing = np.isnan(values)
    np.testing.assert_array_equal(missing[0], missing[1])
    assert 70**2 < missing[0].sum() < 90**2
    np.testing.assert_allclose(values[0][~missing[0]], -10, atol=0.011)
    np.testing.assert_allclose(values[1][~missing[1]], -20, atol=0.011)


def test_power_is_interpolated_as_power(tmp_path: Path) -> None:
    """Between stripes of 0.1 and 0.2, where interpolated decibels would lie up to 0.26 dB lower."""
    transform, shape = frame(10)
    columns = np.broadcast_to(np.arange(shape[1]), shape)
    stripes = np.where(columns % 2, 0.2, 0.1).astype(np.float32)
    values = read(scene(tmp_path, stripes, stripes, "sentinel-1-rtc"))[0]
    x, y = AREA.transform @ np.meshgrid(np.arange(480) + 0.5, np.arange(480) + 0.5)
    east, _ = rasterio.warp.transform("EPSG:3035", UTM, x.ravel(), y.ravel())
    at = (np.array(east) - transform.c) / 10 - 0.5
    weight = at - np.floor(at)
    left = np.where(np.floor(at).astype(int) % 2, 0.2, 0.1)
    expected = 10 * np.log10(left * (1 - weight) + (0.3 - left) * weight)
    assert np.abs(values.ravel() - expected).max() < 0.1
    assert np.abs(values.ravel() - expected).mean() < 0.01


def test_beyond_the_file_is_nodata(tmp_path: Path) -> None:
    source = scene_source("sentinel1")
    found = source.scene(scene(tmp_path, constant(0.1), constant(0.01)))
    for tile in (Tile(910, 650), Tile(903, 650)):
        pixels = source.read(found, Area.of([tile], 10), SENTINEL1.bands)
        values = BACKSCATTER.decode(pixels.stored)
        assert np.isnan(values).any()
        assert np.isin(np.round(values[0][np.isfinite(values[0])], 2), [-10]).all()
        np.testing.assert_array_equal(pixels.seen, np.isfinite(values[0]))


def test_zeros_among_decibels_are_missing_pixels(tmp_path: Path) -> None:
    """As programs write them without a nodata value: 0 dB would be the brightest ground of all."""
    vv, vh = constant(-12.34), constant(-20.5)
    vv[:, : vv.shape[1] // 6] = vh[:, : vh.shape[1] // 6] = 0
    made = scene(tmp_path, vv, vh, "another", unit="dB")
    values = read(made)
    assert 0.1 < np.isnan(values).mean() < 0.9
    for band, level in zip(values, (-12.34, -20.5), strict=True):
        np.testing.assert_allclose(band[np.isfinite(band)], level, atol=0.011)
    assert "VV: 0 is taken for missing" in scene_source("sentinel1").scene(made).notes[0]


def test_numbers_that_are_not_decibels_of_ground_are_refused(tmp_path: Path) -> None:
    made = scene(tmp_path, constant(-1234, "int16"), constant(-2050, "int16"), "another", unit="dB")
    with pytest.raises(LulcbenchError, match=r"states decibels for .*vv\.tif, whose median is -1\.23e\+03"):
        scene_source("sentinel1").scene(made)
    for vv, vh, unit in ((-20.5, -12.34, "dB"), (0.01, 0.1, "1")):
        made = scene(tmp_path, constant(vv), constant(vh), "another", unit=unit)
        with pytest.raises(LulcbenchError, match="which seem to be swapped"):
            scene_source("sentinel1").scene(made)
