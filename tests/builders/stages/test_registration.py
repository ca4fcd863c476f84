"""Displacements between sensors, on ground whose displacement is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from builders.stages._registration import Image, Shift, common_band, image_shift, pairs, tile_shift
from lulcbench.release import ArrayKey
from lulcbench.sensors import LANDSAT, PLANET, SENTINEL1, SENTINEL2

FINE = 2.5  # m; the ground is drawn at this step, so that displacements are fractions of the sensors' pixels


def ground(seed: int, displacement: tuple[int, int] = (0, 0), side: int = 1200) -> np.ndarray:
    """Fields with texture, ``displacement`` steps moved to the south and east."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.normal(size=(side, side)), 30, mode="wrap") > 0
    texture = ndimage.gaussian_filter(rng.normal(size=(side, side)), 4, mode="wrap")
    return np.roll(0.1 + 0.3 * fields + 0.06 * texture / texture.std(), displacement, (0, 1))


def averaged(values: np.ndarray, resolution: float, seed: int) -> np.ndarray:
    """Mean of each pixel, with the noise of a sensor."""
    factor = int(resolution / FINE)
    side = len(values) // factor
    cut = values[: side * factor, : side * factor].reshape(side, factor, side, factor).mean(axis=(1, 3))
    return cut + np.random.default_rng(seed).normal(0, 0.01, cut.shape)


@pytest.mark.slow
@pytest.mark.parametrize(("resolution", "tolerance"), [(10, 1.0), (30, 3.0)])
@pytest.mark.parametrize("displacement", [(0, 0), (1, -2), (-5, 3), (11, 7), (-20, -15)])
def test_known_displacements_are_recovered(displacement: tuple[int, int], resolution: int, tolerance: float) -> None:
    reference = averaged(ground(0), resolution, 1)
    moved = averaged(ground(0, displacement), resolution, 2)
    shift = image_shift(reference, moved, resolution)
    south, east = (steps * FINE for steps in displacement)
    assert shift is not None
    assert np.hypot(shift.east - east, shift.north + south) < tolerance


def test_holes_that_both_images_share_do_not_hide_a_displacement() -> None:
    reference, moved = averaged(ground(0), 10, 1), averaged(ground(0, (0, 8)), 10, 2)
    holes = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=reference.shape), 6)
    holes = holes > np.quantile(holes, 0.85)
    reference[holes] = moved[holes] = np.nan
    shift = image_shift(reference, moved, 10)
    assert shift is not None
    assert shift == pytest.approx((20, 0), abs=1)


def test_what_cannot_be_measured_is_none() -> None:
    image = averaged(ground(0), 30, 1)
    other = averaged(ground(7), 30, 2)
    holes = image.copy()
    holes[: len(image) // 3] = np.nan
    assert image_shift(image, other, 30) is None  # other ground
    assert image_shift(image, holes, 30) is None  # too many holes
    assert image_shift(image, np.full_like(image, 0.02), 30) is None  # no contrast
    assert image_shift(image[:20, :20], image[:20, :20], 30) is None  # too small


@pytest.mark.slow
def test_sensors_are_compared_on_a_grid_that_both_divide_and_in_a_band_that_both_have() -> None:
    scene, moved = ground(0, side=1920), ground(0, (0, 4), side=1920)  # 4.8 km
    two = Image(ArrayKey("sentinel2", 2018), SENTINEL2.bands[6:8], 10, np.stack([averaged(scene, 10, 1)] * 2)[None])
    one = Image(ArrayKey("landsat", 2018), [LANDSAT.band("nir08")], 30, averaged(moved, 30, 2)[None, None])
    shift = tile_shift(two, one)
    assert shift is not None
    assert shift == pytest.approx((10, 0), abs=1)
    assert common_band(SENTINEL2.bands, LANDSAT.bands) == (8, 4)  # B8A and nir08
    assert common_band(SENTINEL2.bands, PLANET.bands) == (7, 3)
    assert common_band(SENTINEL2.bands, SENTINEL1.bands) is None


def test_pairs_are_of_one_year() -> None:
    keys = [ArrayKey("landsat", 2012), ArrayKey("landsat", 2018), ArrayKey("sentinel2", 2018)]
    bands = [LANDSAT.bands, LANDSAT.bands, SENTINEL2.bands]
    assert pairs(list(zip(keys, bands, strict=True))) == [(keys[1], keys[2])]
    assert Shift(3, 4)._asdict() == {"east": 3, "north": 4}
