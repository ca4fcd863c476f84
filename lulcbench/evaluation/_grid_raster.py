"""Writing a raster on the grid of a class map, in any CRS and orientation."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lulcbench.evaluation.class_maps import MapGrid


@contextmanager
def raster_on_grid(path: Path, grid: MapGrid, names: Sequence[str], dtype: str, nodata: float) -> Iterator[Any]:
    """A raster to write by windows, which becomes a cloud-optimized GeoTIFF when the block ends without an error.

    Args:
        path: the file; its folder is made.
        grid: its pixels.
        names: descriptions of the bands.
        dtype: of the pixels.
        nodata: value of pixels without data.
    """
    import rasterio
    import rasterio.shutil

    height, width = grid.shape
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": width, "height": height, "count": len(names), "dtype": dtype, "nodata": nodata,
        "crs": grid.crs, "transform": rasterio.Affine(*grid.transform), "compress": "deflate", "tiled": True,
        "bigtiff": "if_safer",
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as temporary:
        plain, whole = Path(temporary) / "plain.tif", Path(temporary) / "whole.tif"
        with rasterio.open(plain, "w", **profile) as file:
            file.descriptions = tuple(names)
            yield file
        rasterio.shutil.copy(plain, whole, driver="COG", compress="deflate", resampling="nearest")
        whole.replace(path)


def write_window(file: Any, values: npt.NDArray[Any], rows: slice, columns: slice) -> None:
    """Write a window of all bands of a raster of ``raster_on_grid``: ``(band, y, x)``."""
    from rasterio.windows import Window

    file.write(values, window=Window.from_slices(rows, columns))
