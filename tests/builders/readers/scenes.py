"""Sentinel-2 scenes of one tile, written with rasterio, and reading them back as reflectance."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
from affine import Affine

from builders.archives import sentinel2
from builders.readers.area import Area
from lulcbench.grid import Tile
from lulcbench.sensors import REFLECTANCE, SENTINEL2
from tests.builders.world import write_raster

TILE = Tile(900, 650)
AREA = Area.of([TILE], 10)
MARGIN = 20  # px around the tile
BANDS = (SENTINEL2.band("B04"), SENTINEL2.band("B08"))


def grid(step: int, margin: int = MARGIN) -> tuple[Affine, tuple[int, int]]:
    """North-up pixels on the grid of the tile, in EPSG:3035, with a margin."""
    left, _, _, top = TILE.bounds
    n = 4800 // step + 2 * margin
    return Affine(step, 0, left - margin * step, 0, -step, top + margin * step), (n, n)


def dn(low: int, high: int, seed: int = 0) -> np.ndarray:
    """Random DN of a band at 10 m."""
    return np.random.default_rng(seed).integers(low, high, grid(10)[1]).astype(np.uint16)


def inside(values: np.ndarray) -> np.ndarray:
    """The tile's part of a band at 10 m."""
    return values[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def write_band(path: Path, values: np.ndarray, nodata: float | None = 0, names: tuple[str, ...] = ()) -> Path:
    return write_raster(path, values, grid(10)[0], "EPSG:3035", nodata, names)


def scene_item(assets: dict[str, Path | pystac.Asset], name: str = "scene", **properties: Any) -> pystac.Item:
    """An item of assets by key, of baseline 02.12 unless told otherwise."""
    box = [9.9, 51.1, 10.2, 51.3]
    ring = [[box[i], box[j]] for i, j in ((0, 1), (2, 1), (2, 3), (0, 3), (0, 1))]
    told = {"s2:processing_baseline": "02.12"} | {key.replace("__", ":"): value for key, value in properties.items()}
    told = {key: value for key, value in told.items() if value is not None}
    geometry = {"type": "Polygon", "coordinates": [ring]}
    item = pystac.Item(name, geometry, box, datetime(2018, 7, 10, 10, 30, tzinfo=UTC), told)
    item.collection_id = "sentinel-2-l2a"
    for key, asset in assets.items():
        item.add_asset(key, asset if isinstance(asset, pystac.Asset) else pystac.Asset(str(asset)))
    return item


def two_bands(folder: Path, red: np.ndarray, nir: np.ndarray, **properties: Any) -> pystac.Item:
    """An item with red, near-infrared and a classification without clouds."""
    transform, shape = grid(20)
    return scene_item(
        {
            "red": write_band(folder / "red.tif", red),
            "nir": write_band(folder / "nir.tif", nir),
            "scl": write_raster(folder / "scl.tif", np.full(shape, 4, np.uint8), transform, "EPSG:3035"),
        },
        **properties,
    )


def read(item: pystac.Item, area: Area = AREA) -> np.ndarray:
    """Reflectance ``(band, y, x)`` of red and near-infrared, NaN where missing or not clear."""
    scene = sentinel2.SOURCE.scene(item, BANDS)
    pixels = sentinel2.SOURCE.read(scene, area, BANDS)
    return np.where(pixels.clear, REFLECTANCE.decode(pixels.stored), np.nan)
