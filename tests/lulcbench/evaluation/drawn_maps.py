"""Maps of patches with their truth, and the command line on them, for tests of samples and areas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from rasterio.transform import from_origin
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import LulcbenchError

LEFT, TOP = 4_320_000, 3_362_400
CODES = np.array([211, 311, 512])


def land(seed: int) -> np.ndarray:
    """Codes of 600 × 700 pixels in patches."""
    coarse = np.random.default_rng(seed).choice(CODES, (30, 35), p=[0.5, 0.4, 0.1])
    return coarse.repeat(20, 0).repeat(20, 1).astype(np.uint16)


def write(path: Path, values: np.ndarray, crs: str = "EPSG:3035", transform: object = None) -> Path:
    height, width = values.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": values.dtype, "crs": crs}
    with rasterio.open(path, "w", transform=transform or from_origin(LEFT, TOP, 10, 10), **profile) as raster:
        raster.write(values, 1)
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "220"})
    if isinstance(result.exception, LulcbenchError):
        raise result.exception
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def pixels(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    return ((TOP - y) // 10).astype(int), ((x - LEFT) // 10).astype(int)
