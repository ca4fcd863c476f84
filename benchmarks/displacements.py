"""Errors of the audit's registration of known displacements, and displacement that the reader of the builder adds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.warp import transform, transform_bounds

from builders.archives import scene_source
from builders.ingest.catalog import File, item
from builders.readers.area import Area
from builders.stages._registration import Shift, image_shift
from lulcbench.grid import CRS, Tile
from lulcbench.sensors import SENSORS, Sensor

UTM = "EPSG:32632"
SCENES = 12  # of each sensor
NEAR_INFRARED = {"sentinel2": "B08", "landsat": "nir08"}
CODING = {"sentinel2": (1e-4, 0.0, 4), "landsat": (2.75e-5, -0.2, 1 << 6)}  # scale, offset, value of a clear pixel
Floats = npt.NDArray[np.float64]


def errors(folder: Path, tile: Tile) -> dict[str, float]:
    """Largest error of random displacements up to a pixel of 10 m and 30 m, and largest displacement by the reader."""
    random = np.random.default_rng(0)
    added, largest = [], {}
    for name in CODING:
        sensor = SENSORS[name]
        area = Area.of([tile], sensor.resolution)
        still = read(folder / f"{name}-still", sensor, area, (0, 0))
        added.append(np.hypot(*_shift(_pattern(*_centres(area.transform, area.shape)), still, sensor)))
        distances = []
        for n, move in enumerate(random.uniform(-1, 1, (SCENES, 2)) * sensor.resolution):
            measured = _shift(still, read(folder / f"{name}-{n}", sensor, area, tuple(move)), sensor)
            distances.append(np.hypot(*np.subtract(measured, _projected(area, move))))
        largest[name] = float(max(distances))
        added[-1] /= sensor.resolution
    return {
        "registration_error_m": largest["sentinel2"],
        "registration_error_30m_m": largest["landsat"],
        "added_error_px": float(max(added)),
    }


def read(folder: Path, sensor: Sensor, area: Area, move: tuple[float, float]) -> Floats:
    """The pattern as the builder reads it from a scene in UTM whose georeference is wrong by ``move`` metres."""
    band = sensor.band(NEAR_INFRARED[sensor.name])
    size = band.resolution
    left, bottom, right, top = transform_bounds(CRS, UTM, *area.bounds)
    grid = Affine(size, 0, size * (left // size - 20), 0, -size, size * (top // size + 20))
    shape = (int(top - bottom) // size + 40, int(right - left) // size + 40)
    x, y = _centres(grid, shape)
    east, north = transform(UTM, CRS, x.ravel(), y.ravel())
    reflectance = _pattern(np.reshape(east, shape), np.reshape(north, shape))
    scale, offset, clear = CODING[sensor.name]
    folder.mkdir(parents=True)
    profile = {"driver": "GTiff", "height": shape[0], "width": shape[1], "count": 1, "crs": UTM, "dtype": "uint16"}
    profile["transform"] = Affine.translation(*move) @ grid
    with rasterio.open(folder / "nir.tif", "w", nodata=0, **profile) as file:
        file.write(np.rint((reflectance - offset) / scale).astype(np.uint16), 1)
    with rasterio.open(folder / "quality.tif", "w", **profile) as file:
        file.write(np.full(shape, clear, np.uint16), 1)
    files = [
        File(band.asset, folder / "nir.tif", [band], scale, offset, 0),
        File(str(sensor.quality_asset), folder / "quality.tif"),
    ]
    day = datetime(2018, 7, 1, tzinfo=UTC)
    source = scene_source(sensor.name)
    scene = source.scene(item(folder.name, sensor, files, (day, day), **{"s2:processing_baseline": "02.08"}), (band,))
    return np.asarray(sensor.coding.decode(source.read(scene, area, (band,)).stored[0]), np.float64)


def _pattern(x: Floats, y: Floats) -> Floats:
    """Reflectance of an invented ground at places in EPSG:3035: waves of 150 to 900 m in all directions."""
    random = np.random.default_rng(1)
    total = np.zeros(x.shape)
    for _ in range(60):
        angle, length, phase = random.uniform(0, np.pi), random.uniform(150, 900), random.uniform(0, 2 * np.pi)
        total += np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / length + phase)
    return 0.25 + 0.008 * total


def _centres(affine: Affine, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Coordinates of the centres of pixels ``(y, x)``."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    return affine.a * columns + affine.c, affine.e * rows + affine.f


def _shift(a: Floats, b: Floats, sensor: Sensor) -> Shift:
    measured = image_shift(a, b, sensor.resolution)
    if measured is None:
        raise SystemExit(f"The pattern of {sensor.name} cannot be registered.")
    return measured


def _projected(area: Area, move: Floats) -> Floats:
    """A displacement in UTM at the middle of an area, in EPSG:3035."""
    left, bottom, right, top = area.bounds
    x, y = transform(CRS, UTM, [(left + right) / 2], [(bottom + top) / 2])
    xs, ys = transform(UTM, CRS, [x[0], x[0] + move[0]], [y[0], y[0] + move[1]])
    return np.array([xs[1] - xs[0], ys[1] - ys[0]])
