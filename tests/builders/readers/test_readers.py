"""Scenes: what their digits mean, where their pixels lie, and which are clear."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine

from builders.archives import landsat, planet, sentinel2
from builders.ingest.catalog import File, item
from builders.readers.area import Area
from builders.readers.opening import open_raster
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile
from lulcbench.sensors import LANDSAT, PLANET, REFLECTANCE, SENTINEL2
from tests.builders.world import BOUNDS, UTM, frame, write_raster

TILE = Tile(900, 650)
DAY = datetime(2018, 7, 1, tzinfo=UTC)
RED = (SENTINEL2.band("B04"),)


def sentinel(folder: Path, dn: np.ndarray | int, scl: np.ndarray | int = 4, **properties: object) -> pystac.Item:
    transform, shape = frame(10)
    coarse, coarse_shape = frame(20)
    red = write_raster(folder / "red.tif", np.broadcast_to(np.asarray(dn, np.uint16), shape).copy(), transform, UTM, 0)
    mask = np.broadcast_to(np.asarray(scl, np.uint8), coarse_shape).copy()
    quality = write_raster(folder / "scl.tif", mask, coarse, UTM)
    files = [File("red", red, RED, 1e-4, 0, 0), File("scl", quality)]
    return item("s2", SENTINEL2, files, (DAY, DAY), **properties)


def seen(made: pystac.Item, resolution: int = 10) -> np.ndarray:
    scene = sentinel2.SOURCE.scene(made)
    return REFLECTANCE.decode(sentinel2.SOURCE.read(scene, Area.of([TILE], resolution), RED).stored)


@pytest.mark.parametrize(("baseline", "reflectance"), [("02.07", 0.2), ("03.01", 0.2), ("04.00", 0.1), ("05.10", 0.1)])
def test_sentinel2_offset_follows_the_baseline(tmp_path: Path, baseline: str, reflectance: float) -> None:
    made = sentinel(tmp_path, 2000, s2__processing_baseline=baseline)
    np.testing.assert_allclose(seen(made), reflectance, atol=1e-6)


@pytest.mark.parametrize(
    ("low", "reflectance", "verdict"), [(1500, 0.1, "offset -0.1 is applied"), (300, 0.2, "no offset is applied")]
)
def test_a_doubtful_offset_flag_is_settled_by_the_pixels(
    tmp_path: Path, low: int, reflectance: float, verdict: str
) -> None:
    """Dark pixels below 1,000 cannot carry the offset; without any, they still do."""
    dn = np.full(frame(10)[1], 2000)
    dn[:30] = low
    made = sentinel(tmp_path, dn, s2__processing_baseline="05.10", earthsearch__boa_offset_applied=True)
    assert verdict in sentinel2.SOURCE.scene(made).notes[0]
    assert np.nanmedian(seen(made)) == pytest.approx(reflectance, abs=1e-6)


def test_no_baseline_and_no_scale_is_an_error(tmp_path: Path) -> None:
    made = sentinel(tmp_path, 2000)
    del made.assets["red"].extra_fields["raster:scale"]
    with pytest.raises(LulcbenchError, match="neither s2:processing_baseline nor a scale"):
        sentinel2.SOURCE.scene(made)


def test_clouds_leave_no_trace_beside_their_mask(tmp_path: Path) -> None:
    """Cloud pixels are 0.9 bright; bilinear weights must carry none of it past the mask."""
    _, shape = frame(10)
    dn, scl = np.full(shape, 2000), np.full(frame(20)[1], 4)
    transform, coarse = frame(10)[0], frame(20)[0]
    x, y = coarse @ (frame(20)[1][1] // 2, frame(20)[1][0] // 2)
    for size, values, cloudy, grid in ((20, dn, 9000, transform), (10, scl, 9, coarse)):
        c, r = (int(v) for v in ~grid @ (x, y))
        values[r : r + size, c : c + size] = cloudy
    made = sentinel(tmp_path, dn, scl, s2__processing_baseline="02.07")
    scene = sentinel2.SOURCE.scene(made)
    area = Area(BOUNDS, 10)
    pixels = sentinel2.SOURCE.read(scene, area, RED)
    assert pixels.seen.all()
    assert 400 <= (~pixels.clear).sum() < 1200
    assert REFLECTANCE.decode(pixels.stored)[0][~pixels.clear].max() > 0.5
    np.testing.assert_allclose(REFLECTANCE.decode(pixels.stored)[0][pixels.clear], 0.2, atol=1e-6)


def test_warped_pixels_lie_where_they_belong(tmp_path: Path) -> None:
    """A plane in UTM coordinates, read on the EPSG:3035 grid, is the plane at the pixels' places."""
    transform, shape = frame(10)
    columns, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    x, y = transform @ (columns, rows)
    plane = ((x - transform.c) / 4 + (transform.f - y) / 8).astype(np.uint16) + 1000
    area = Area.of([TILE], 10)
    got = seen(sentinel(tmp_path, plane, s2__processing_baseline="02.07"))[0]
    ax, ay = area.transform @ np.meshgrid(np.arange(480) + 0.5, np.arange(480) + 0.5)
    ux, uy = rasterio.warp.transform("EPSG:3035", UTM, ax.ravel(), ay.ravel())
    expected = ((np.array(ux) - transform.c) / 4 + (transform.f - np.array(uy)) / 8 + 1000) * 1e-4
    assert np.abs(got.ravel() - expected).max() < 2.5e-4  # a tenth of the change from one pixel to the next


def test_outside_the_file_is_nodata(tmp_path: Path) -> None:
    scene = sentinel2.SOURCE.scene(sentinel(tmp_path, 2000, s2__processing_baseline="02.07"))
    pixels = sentinel2.SOURCE.read(scene, Area.of([Tile(910, 650)], 10), RED)
    assert not pixels.stored.any()
    assert not pixels.seen.any()


def test_landsat_coding_and_quality_bits(tmp_path: Path) -> None:
    transform, shape = frame(30)
    path = write_raster(tmp_path / "red.tif", np.full(shape, 14545, np.uint16), transform, UTM, 0)
    made = item("l8", LANDSAT, [File("red", path)], (DAY, DAY))
    del made.assets["red"].extra_fields["raster:scale"]
    scene = landsat.SOURCE.scene(made)
    pixels = landsat.SOURCE.read(scene, Area.of([TILE], 30), (LANDSAT.band("red"),))
    np.testing.assert_allclose(REFLECTANCE.decode(pixels.stored), 14545 * 2.75e-5 - 0.2, atol=1e-4)
    qa = np.array([1 << bit for bit in range(8)])
    assert landsat.is_clear(qa).tolist() == [False] * 5 + [True] * 3
    assert landsat.is_seen(qa).tolist() == [False] + [True] * 7


def test_planet_band_order_is_read_from_the_file(tmp_path: Path) -> None:
    values = np.stack([np.full((900, 900), v, np.uint16) for v in (4000, 300, 200, 100)])
    transform = Affine(3, 0, BOUNDS[0], 0, -3, BOUNDS[3])
    path = write_raster(tmp_path / "p.tif", values, transform, "EPSG:3035", 0, ("nir", "red", "green", "blue"))
    made = item(
        "p", PLANET, [File(band.asset, path, (band,), 1e-4, 0, 0) for band in PLANET.bands], (DAY, DAY), license="none"
    )
    area = Area((BOUNDS[0], BOUNDS[3] - 1200, BOUNDS[0] + 1200, BOUNDS[3]), 3)
    scene = planet.SOURCE.scene(made)
    got = REFLECTANCE.decode(planet.SOURCE.read(scene, area, PLANET.bands).stored)
    np.testing.assert_allclose(got[:, 200, 200], [0.01, 0.02, 0.03, 0.4], atol=1e-6)
    write_raster(path, values, transform, "EPSG:3035", 0)
    with pytest.raises(LulcbenchError, match=r"(?s)4 bands and none is described as 'blue'.*never guessed"):
        planet.SOURCE.read(planet.SOURCE.scene(made), area, (PLANET.band("blue"),))


def test_missing_truncated_and_replaced_files_are_named(tmp_path: Path) -> None:
    made = sentinel(tmp_path, np.arange(frame(10)[1][0])[:, None] * 7 + 1, s2__processing_baseline="02.07")
    scene = sentinel2.SOURCE.scene(made)
    red = tmp_path / "red.tif"
    whole = red.read_bytes()
    red.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LulcbenchError, match=r"red\.tif has .* truncated or was replaced"):
        sentinel2.SOURCE.read(scene, Area.of([TILE], 10), RED)
    pixels = sentinel2.SOURCE.read(sentinel2.SOURCE.scene(made), Area.of([TILE], 10), RED)
    assert [part.what.partition(" 0, ")[0] for part in pixels.damage] == ["red.tif, column"]
    assert not pixels.seen.any()
    made.assets["red"].extra_fields["file:size"] = len(whole)
    with pytest.raises(LulcbenchError, match=r"but its catalog states \d+: it is truncated"):
        sentinel2.SOURCE.scene(made)
    red.unlink()
    with pytest.raises(LulcbenchError, match=r"red\.tif is missing"):
        sentinel2.SOURCE.scene(made)


def test_a_raster_without_georeference_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "bare.tif", np.ones((4, 4), np.uint8), Affine(10, 0, 5, 0, -10, 5), None)
    with pytest.raises(LulcbenchError, match=r"bare\.tif has no georeference"):
        open_raster(str(path))


def test_another_projection_than_the_catalog_says_is_refused(tmp_path: Path) -> None:
    made = sentinel(tmp_path, 2000, s2__processing_baseline="02.07")
    made.properties["proj:code"] = "EPSG:32633"
    with pytest.raises(LulcbenchError, match=r"is in EPSG:32632, but its catalog states EPSG:32633"):
        seen(made)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "dtype"),
    [(120, np.uint8), (12, np.uint8), (260, np.uint16), (-1, np.int16), (4.5, np.float32), (4.0, np.float32)],
)
def test_a_value_that_is_not_a_class_is_not_clear(tmp_path: Path, value: float, dtype: type) -> None:
    made = sentinel(tmp_path, 2000, **{"s2:processing_baseline": "02.08"})
    at, shape = frame(20)
    write_raster(tmp_path / "scl.tif", np.full(shape, value, dtype), at, UTM)
    assert np.isfinite(seen(made)).all() == (value == 4)
    assert np.isfinite(seen(made)).any() == (value == 4)


def test_quality_bits_of_which_none_is_set_are_not_an_observation() -> None:
    bits = np.array([0, 1, 1 << 6, 21824, 1 << 3], np.uint16)
    assert landsat.is_clear(bits).tolist() == [False, False, True, True, False]
    assert landsat.is_seen(bits).tolist() == [False, False, True, True, True]


def test_quality_bits_in_floating_point_are_read(tmp_path: Path) -> None:
    at, shape = frame(30)
    dn = write_raster(tmp_path / "red.tif", np.full(shape, 14_000, np.uint16), at, UTM, 0)
    bits = np.full(shape, 1 << 6, np.float32)
    bits[:, : shape[1] // 6] = np.nan  # half of the western one of three tiles
    quality = write_raster(tmp_path / "qa.tif", bits, at, UTM)
    red = (LANDSAT.band("red"),)
    made = item("l", LANDSAT, [File("red", dn, red, 2.75e-5, -0.2, 0), File("qa_pixel", quality)], (DAY, DAY))
    pixels = landsat.SOURCE.read(landsat.SOURCE.scene(made, red), Area.of([TILE], 30), red)
    assert 0.4 < pixels.clear.mean() < 0.6
