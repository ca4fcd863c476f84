"""Scenes and labels of one tile, as users have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from typer.testing import CliRunner

from builders.__main__ import app
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile
from tests.builders import world

TILE = Tile(900, 650)
UTM = "EPSG:32632"


def raster(
    path: Path,
    values: float | list[float],
    names: tuple[str, ...] = (),
    dtype: str = "uint16",
    pixel: int = 60,
    crs: str = UTM,
    **more: object,
) -> Path:
    """A raster over the tile, each band constant."""
    left, bottom, right, top = rasterio.warp.transform_bounds("EPSG:3035", crs, *TILE.bounds)
    left, top = left // 60 * 60 - 120, top // 60 * 60 + 120
    shape = int((top - bottom) // pixel + 180 // pixel), int((right - left) // pixel + 180 // pixel)
    levels = values if isinstance(values, list) else [values]
    data = np.stack([np.full(shape, level, dtype) for level in levels])
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "dtype": dtype, "count": len(levels), "height": shape[0], "width": shape[1]}
    if path.suffix == ".jp2":
        profile |= {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    with rasterio.open(path, "w", **profile, crs=crs, transform=Affine(pixel, 0, left, 0, -pixel, top), **more) as file:
        file.write(data)
        if names:
            file.descriptions = names
    return path


LUISA = ("--label-source", "luisa")


def luisa(folder: Path) -> Path:
    left, _, _, top = TILE.bounds
    codes = np.full((96, 96), 3110, np.int32)
    return world.write_raster(folder / "luisa.tif", codes, Affine(50, 0, left, 0, -50, top), "EPSG:3035", 0)


def ingest(*arguments: object, ok: bool = True) -> str:
    """Output of ``builders ingest``, or its error."""
    result = CliRunner().invoke(app, ["ingest", *map(str, arguments)])
    if ok:
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output
    assert isinstance(result.exception, LulcbenchError), result.output
    return str(result.exception)
