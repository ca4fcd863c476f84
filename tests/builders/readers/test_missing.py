"""Missing pixels: however a file or its catalog states them, they are nodata, and do not touch their neighbours."""

from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from builders.archives import label_source, landsat, sentinel2
from builders.readers.area import Area
from builders.readers.opening import opened
from builders.readers.windows import UnreadableError, data_bands, read_window
from builders.recipe import LabelRule
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import LANDSAT, REFLECTANCE
from tests.builders.readers.scenes import (
    AREA,
    BANDS,
    MARGIN,
    TILE,
    dn,
    grid,
    inside,
    read,
    scene_item,
    two_bands,
    write_band,
)
from tests.builders.world import write_raster

HOLE = np.s_[100:180, 60:90]  # rows and columns of a band at 10 m
GARBAGE = 77  # what is stored where nothing was observed


def with_mask(path: Path, values: np.ndarray, hole: np.ndarray, internal: bool) -> Path:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        write_band(path, values, None)
        with rasterio.open(path, "r+") as file:
            file.write_mask(~hole)
    assert path.with_suffix(".tif.msk").exists() is not internal
    return path


def with_alpha(path: Path, values: np.ndarray, hole: np.ndarray) -> Path:
    write_band(path, np.stack([values, np.where(hole, 0, 65535).astype(np.uint16)]), None)
    with rasterio.open(path, "r+") as file:
        file.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
    return path


def with_alpha_and_tag(path: Path, values: np.ndarray, hole: np.ndarray) -> Path:
    """GDAL does not use an alpha band beside a nodata value."""
    with_alpha(path, values, hole)
    with rasterio.open(path, "r+") as file:
        file.nodata = 0
    return path


def with_alpha_and_mask(path: Path, values: np.ndarray, hole: np.ndarray) -> Path:
    """Nor beside a mask."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with_alpha(path, values, hole)
        with rasterio.open(path, "r+") as file:
            file.write_mask(np.ones(values.shape, bool))
    return path


def with_tag(path: Path, values: np.ndarray, hole: np.ndarray) -> Path:
    return write_band(path, np.where(hole, 65535, values).astype(np.uint16), 65535)


def with_sidecar(path: Path, values: np.ndarray, hole: np.ndarray) -> Path:
    write_band(path, np.where(hole, 65535, values).astype(np.uint16), None)
    text = '<PAMRasterBand band="1"><NoDataValue>65535</NoDataValue></PAMRasterBand>'
    path.with_suffix(".tif.aux.xml").write_text(f"<PAMDataset>{text}</PAMDataset>")
    return path


def with_nan(path: Path, values: np.ndarray, hole: np.ndarray) -> Path:
    return write_band(path, np.where(hole, np.nan, values).astype(np.float32), None)


def with_infinity(path: Path, values: np.ndarray, hole: np.ndarray) -> Path:
    return write_band(path, np.where(hole, np.inf, values).astype(np.float32), None)


WAYS = {
    "a mask in the file": lambda *a: with_mask(*a, internal=True),
    "a mask beside it": lambda *a: with_mask(*a, internal=False),
    "an alpha band": with_alpha,
    "an alpha band beside a nodata tag": with_alpha_and_tag,
    "an alpha band beside a mask": with_alpha_and_mask,
    "its nodata tag": with_tag,
    "a tag beside it": with_sidecar,
    "NaN without a tag": with_nan,
    "infinity": with_infinity,
}


@pytest.mark.parametrize("way", WAYS)
def test_missing_pixels_of_a_band_are_nodata(tmp_path: Path, way: str) -> None:
    red, nir = dn(1500, 3500), dn(2500, 4500, 1)
    item = two_bands(tmp_path, red, nir)
    hole = np.zeros(red.shape, bool)
    hole[HOLE] = True
    WAYS[way](tmp_path / "red.tif", np.where(hole, GARBAGE, red).astype(np.uint16), hole)
    got = read(item)
    np.testing.assert_array_equal(np.isnan(got[0]), inside(hole))
    np.testing.assert_allclose(got[0][~inside(hole)], inside(red)[~inside(hole)] * 1e-4, atol=6e-5)


def test_nodata_of_the_item_counts_beside_that_of_the_file(tmp_path: Path) -> None:
    red = dn(1500, 3500)
    red[HOLE], red[300:320] = 9999, 0
    item = two_bands(tmp_path, red, dn(2500, 4500, 1))
    item.assets["red"].extra_fields["raster:bands"] = [{"nodata": 9999}]
    np.testing.assert_array_equal(np.isnan(read(item)[0]), inside((red == 9999) | (red == 0)))


@pytest.mark.parametrize(("mark", "dtype"), [(-9999, np.int16), (-32768, np.int16), (-3.4e38, np.float32)])
def test_marks_that_no_file_declares_are_missing(tmp_path: Path, mark: float, dtype: type) -> None:
    red = dn(1500, 3500).astype(dtype)
    red[: MARGIN + 100] = mark
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500), s2__processing_baseline="05.00")
    write_band(tmp_path / "red.tif", red, None)
    values = read(item)
    assert np.isnan(values[:, :100]).all()
    np.testing.assert_allclose(values[0, 100:], inside(red)[100:] * 1e-4 - 0.1, atol=6e-5)


def test_saturated_pixels_are_missing(tmp_path: Path) -> None:
    red = dn(1500, 3500)
    red[: MARGIN + 100] = 65535
    assert np.isnan(read(two_bands(tmp_path, red, dn(2500, 4500)))).mean() == pytest.approx(100 / 480)


def test_an_observation_that_lacks_one_band_lacks_all(tmp_path: Path) -> None:
    red = dn(1500, 3500)
    red[HOLE] = 0
    got = read(two_bands(tmp_path, red, dn(2500, 4500, 1)))
    np.testing.assert_array_equal(np.isnan(got).all(axis=0), inside(red == 0))
    np.testing.assert_array_equal(np.isnan(got).any(axis=0), inside(red == 0))


@pytest.mark.parametrize("together", [True, False])
def test_holes_of_one_band_do_not_bleed_when_the_grid_is_shifted(tmp_path: Path, together: bool) -> None:
    """Pixels half a step off the target's are interpolated: red is 0.2 everywhere, so nothing else may come out."""
    transform, shape = grid(10)
    shifted = transform @ Affine.translation(0.5, 0.4)
    red, nir = np.full(shape, 2000, np.uint16), np.full(shape, 3000, np.uint16)
    red[::7, ::5] = 0
    red[:, 250:253] = 0
    item = two_bands(tmp_path, red, nir)
    if together:
        path = write_raster(tmp_path / "both.tif", np.stack([red, nir]), shifted, "EPSG:3035", 0)
        bands = [{"name": "B04"}, {"name": "B08"}]
        item = scene_item({"data": pystac.Asset(str(path), extra_fields={"bands": bands}), "scl": tmp_path / "scl.tif"})
    else:
        for name, values in (("red", red), ("nir", nir)):
            write_raster(tmp_path / f"{name}.tif", values, shifted, "EPSG:3035", 0)
    got = read(item)
    valid = np.isfinite(got[0])
    assert 0.9 < valid.mean() < 0.99
    np.testing.assert_allclose(got[0][valid], 0.2, atol=6e-5)
    np.testing.assert_allclose(got[1][valid], 0.3, atol=6e-5)


def labels(path: Path, area: Area, **more: object) -> np.ndarray:
    return label_source(LabelRule(year=2018, source="luisa", path=path, **more)).read(area).codes


@pytest.mark.parametrize("way", ["mask", "alpha", "nan", "tag", "sidecar"])
def test_missing_pixels_of_labels_are_unlabelled(tmp_path: Path, way: str) -> None:
    transform, shape = grid(50, 0)
    codes = np.full(shape, 3110, np.uint16)
    hole = np.zeros(shape, bool)
    hole[:20] = True
    path = tmp_path / "labels.tif"
    stored = np.where(hole, 1111 if way in ("mask", "alpha") else 255, codes).astype(np.uint16)
    if way == "nan":
        stored = np.where(hole, np.nan, codes).astype(np.float32)
    nodata = 255 if way in ("tag", "alpha") else None
    layers = np.stack([stored, np.where(hole, 0, 255).astype(np.uint16)]) if way == "alpha" else stored
    write_raster(path, layers, transform, "EPSG:3035", nodata)
    if way == "alpha":
        with rasterio.open(path, "r+") as file:
            file.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
    if way == "mask":
        with rasterio.open(path, "r+") as file:
            file.write_mask(~hole)
    if way == "sidecar":
        band = '<PAMRasterBand band="1"><NoDataValue>255</NoDataValue></PAMRasterBand>'
        path.with_suffix(".tif.aux.xml").write_text(f"<PAMDataset>{band}</PAMDataset>")
    np.testing.assert_array_equal(labels(path, Area.of([TILE], 50)), np.where(hole, 0, 3110))


def test_a_class_that_the_file_declares_as_nodata_is_a_contradiction(tmp_path: Path) -> None:
    """Maps of one byte end at 255, and writers declare 255 as nodata."""
    transform, shape = grid(50, 0)
    path = write_raster(tmp_path / "map.tif", np.full(shape, 255, np.uint8), transform, "EPSG:3035", 255)
    rule = LabelRule(year=2018, source="own", path=path, codes={"1": 1111, "255": 3110})
    with pytest.raises(LulcbenchError, match=r"nodata value 255, but the own legend maps 255 to 3110"):
        label_source(rule).read(Area.of([TILE], 50))


def test_pixels_that_the_map_covers_too_little_are_not_labelled_and_counted(tmp_path: Path) -> None:
    """At 10 m, 25 cells make a label pixel: rows have 5, 10, 15, 20 or 25 cells with a class."""
    transform, shape = grid(10, 0)
    codes = np.zeros(shape, np.uint16)
    for row in range(96):
        codes[row * 5 : row * 5 + row % 5 + 1] = 3110
    path = write_raster(tmp_path / "labels.tif", codes, transform, "EPSG:3035", 0)
    covered = np.repeat((np.arange(96) % 5 + 1)[:, None] / 5, 96, 1)
    for least in (0.0, 0.5, 1.0):
        rule = LabelRule(year=2018, source="luisa", path=path, min_cover=least)
        codes_, sparse, _ = label_source(rule).read(Area.of([TILE], 50))
        np.testing.assert_array_equal(codes_ > 0, covered >= least)
        np.testing.assert_array_equal(sparse, covered < least)


def test_a_scene_of_nothing_is_nodata(tmp_path: Path) -> None:
    empty = np.zeros(grid(10)[1], np.uint16)
    assert np.isnan(read(two_bands(tmp_path, empty, empty), AREA)).all()


def test_a_damaged_file_leaves_no_error_behind_for_others(tmp_path: Path) -> None:
    """rasterio reports the last error of GDAL when it asks for the colours of any file."""
    noise = np.random.default_rng(0).integers(1, 60_000, (1200, 1200)).astype(np.uint16)
    at = Affine(10, 0, 4_320_000, 0, -10, 3_130_000)
    good, bad = (write_raster(tmp_path / name, noise, at, "EPSG:3035") for name in ("good.tif", "bad.tif"))
    content = bytearray(bad.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = b"\xff" * 3000
    bad.write_bytes(content)
    other = opened(str(good))
    for _ in range(2):
        with pytest.raises(UnreadableError, match=r"(?s)Cannot read .*bad\.tif at column 0, row 0: .*It is damaged"):
            read_window(opened(str(bad)), 1, Window(0, 0, 1200, 1200))
        assert data_bands(other) == {1: ""}


@pytest.mark.parametrize("nodata", [None, 0, 65535, -9999])
def test_a_nodata_value_that_an_item_states_adds_to_that_of_its_archive(tmp_path: Path, nodata: float | None) -> None:
    """Landsat's 0 stays missing: as a number it would be a reflectance of -0.2."""
    values = dn(9000, 15000)
    values[:160] = 0
    told = {} if nodata is None else {"nodata": nodata}
    assets = {
        key: pystac.Asset(str(write_band(tmp_path / f"{key}.tif", values, None)), extra_fields=told)
        for key in ("red", "nir08")
    }
    bands = (LANDSAT.band("red"), LANDSAT.band("nir08"))
    pixels = landsat.SOURCE.read(landsat.SOURCE.scene(scene_item(assets), bands), Area.of([TILE], 30), bands)
    missing = REFLECTANCE.missing(pixels.stored[0])
    assert missing[:46].all()
    assert not missing[48:].any()


@pytest.mark.parametrize("zeros", ["all bands", "one band"])
def test_zeros_in_every_band_are_missing_in_a_coding_of_its_own(tmp_path: Path, zeros: str) -> None:
    red, nir = dn(1500, 2500) * 1e-4, dn(3000, 4500) * 1e-4
    red[:160] = 0
    if zeros == "all bands":
        nir[:160] = 0
    item = two_bands(tmp_path, red.astype(np.float32), nir.astype(np.float32))
    for key in ("red", "nir"):
        with rasterio.open(item.assets[key].href, "r+") as file:
            file.nodata = None
        item.assets[key].extra_fields |= {"raster:scale": 1, "raster:offset": 0}
    values = read(item)
    if zeros == "all bands":
        assert np.isnan(values[:, : 160 - MARGIN]).all()
        assert np.isfinite(values[:, 160 - MARGIN + 1 :]).all()
        assert (
            "0 is taken for missing, as at least 31.4% of the numbers of every band"
            in sentinel2.SOURCE.scene(item, BANDS).notes[0]
        )
    else:
        np.testing.assert_allclose(values[0, : 160 - MARGIN - 1], 0, atol=1e-6)
