"""A world of six tiles with a Landsat archive, small enough to build in a second. Written by the real writers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.warp import transform_bounds

from builders.ingest.catalog import File, item, write
from builders.recipe import Recipe, load
from builders.workspace import Workspace, workspace
from lulcbench.sensors import LANDSAT

BOUNDS = (4_320_000, 3_120_000, 4_334_400, 3_129_600)  # 3 × 2 tiles
UTM = "EPSG:32632"
BANDS = ("red", "nir08")
CLEAR = 1 << 6
CLOUD = 1 << 3

RECIPE = """
name = "world"
version = "0.1.0"
title = "World"
description = "For tests."
simulated = true
catalog = "catalog.json"

[[regions]]
name = "all"

[split]
block = 1
buffer = 0
fractions = { train = 0.5, val = 0.25, test = 0.25 }

[[seasons]]
name = "summer"
start = "06-25"
end = "09-12"

[[sensors]]
name = "landsat"
bands = ["red", "nir08"]
years = [2018]

[[labels]]
year = 2018
source = "luisa"
path = "labels.tif"

[pack]
shard_tiles = 2
"""


def write_raster(
    path: Path, values: np.ndarray, transform: Affine, crs: str | None, nodata: float | None = None, names: tuple = ()
) -> Path:
    """A GeoTIFF of ``(y, x)`` or ``(band, y, x)`` values."""
    values = values if values.ndim == 3 else values[None]
    count, height, width = values.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "dtype": values.dtype, "count": count, "height": height, "width": width}
    with rasterio.open(path, "w", **profile, crs=crs, transform=transform, nodata=nodata, compress="deflate") as file:
        file.write(values)
        if names:
            file.descriptions = names
    return path


def frame(resolution: int) -> tuple[Affine, tuple[int, int]]:
    """UTM grid that covers the world with a margin."""
    left, bottom, right, top = transform_bounds("EPSG:3035", UTM, *BOUNDS)
    left, bottom = (resolution * (int(v) // resolution - 4) for v in (left, bottom))
    width, height = (int(v) // resolution + 8 for v in (right - left, top - bottom))
    return Affine(resolution, 0, left, 0, -resolution, bottom + height * resolution), (height, width)


def labels() -> tuple[np.ndarray, Affine, str, int]:
    """LUISA codes of the world: values, transform, CRS and nodata of the raster."""
    rng = np.random.default_rng(0)
    codes = rng.choice([1111, 2110, 3110, 5120], (96 * 2, 96 * 3)).astype(np.int32)
    return codes, Affine(50, 0, BOUNDS[0], 0, -50, BOUNDS[3]), "EPSG:3035", 0


def write_landsat(
    data: Path, quality: Path, reflectance: tuple[float, float], qa: np.ndarray | int = CLEAR
) -> tuple[Path, Path]:
    """Surface reflectance and quality layer of one date, constant in red and near-infrared."""
    transform, shape = frame(30)
    dn = [np.full(shape, round((value + 0.2) / 2.75e-5), np.uint16) for value in reflectance]
    mask = np.broadcast_to(np.asarray(qa, np.uint16), shape).copy()
    return write_raster(data, np.stack(dn), transform, UTM, 0), write_raster(quality, mask, transform, UTM)


def scene(folder: Path, name: str, day: datetime, reflectance: tuple[float, float], qa: np.ndarray | int = CLEAR):
    """One Landsat scene of constant reflectance in red and near-infrared; returns its item."""
    data, quality = write_landsat(folder / f"{name}.tif", folder / f"{name}_qa.tif", reflectance, qa)
    bands = [LANDSAT.band(band) for band in BANDS]
    files = [File("data", data, bands, 2.75e-5, -0.2, 0), File("qa_pixel", quality)]
    return item(name, LANDSAT, files, (day, day), eo__cloud_cover=10.0)


def make(folder: Path, recipe: str = RECIPE, scenes: int = 3) -> tuple[Recipe, Workspace]:
    """Labels, scenes of brightness 0.1, 0.2, …, and the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    write_raster(folder / "labels.tif", *labels())
    days = [datetime(2018, 7, 1 + i, tzinfo=UTC) for i in range(scenes)]
    items = [scene(folder / "scenes", f"s{i}", day, (0.1 * (i + 1), 0.3)) for i, day in enumerate(days)]
    write(folder, "world", "World", items)
    (folder / "recipe.toml").write_text(recipe)
    space = workspace(folder / "out")
    return load(folder / "recipe.toml", space.scenes), space
