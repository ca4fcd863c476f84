"""Windows of rasters: where a raster is, the window that an area needs, and which of its pixels are missing."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader
from rasterio.warp import transform, transform_bounds
from rasterio.windows import Window

from builders.readers.access import redact
from builders.readers.area import Area
from builders.readers.blocks import read_by_blocks
from builders.readers.opening import ERRORS, READS, broken, clear_errors, forget, name_of, open_raster, stamp_of
from builders.readers.servers import check_readable, is_on_server, server_stamp
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds

Values = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

EDGE = 16  # parts of an area's side whose ends are projected, to find its extent in a raster
TURNED = 0.02  # tangent of the angle from which on a raster is turned against the grid of tiles
UNDECLARED = -9999  # archives mark missing pixels with it or lower numbers, also in files that do not state so
LARGE, HALF = 90.0, 180.0  # degrees
DENSE = 100  # points of each edge: of one that spans 90 degrees, the bend between two of them is less than 100 m
NOWHERE: Bounds = (-math.inf, -math.inf, math.inf, math.inf)


class UnreadableError(LulcbenchError):
    """A part of a file is damaged, while the rest of it and other files may be intact.

    Args:
        what: see ``LulcbenchError``.
        remedy: see ``LulcbenchError``.
        part: name of the file, the place in it, and what is wrong.
    """

    def __init__(self, what: str, remedy: str = "", part: str = "") -> None:
        super().__init__(what, remedy)
        self.part = part


def data_bands(dataset: DatasetReader) -> dict[int, str]:
    """Numbers and descriptions (empty if there is none) of the bands that hold data: all but alpha bands."""
    # rasterio makes these tuples of all bands at each access: once here, not once per band.
    bands = zip(dataset.indexes, dataset.colorinterp, dataset.descriptions, strict=True)
    return {number: text or "" for number, kind, text in bands if kind != ColorInterp.alpha}


@lru_cache(maxsize=4096)
def footprint(crs: rasterio.CRS, transform: Affine, shape: tuple[int, int]) -> Bounds:
    """Extent in EPSG:3035 metres of a raster in any orientation; unlimited if the projection has no such extent."""
    height, width = shape
    xs, ys = zip(*(transform @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))), strict=True)
    return projected_extent(crs, (min(xs), min(ys), max(xs), max(ys)))


def projected_extent(crs: rasterio.CRS | str, bounds: Bounds) -> Bounds:
    """Extent in EPSG:3035 metres of a rectangle in any projection; unlimited if it has none, as half of the Earth.

    The image of the edge of a large part of the Earth does not enclose that of its inside, which is therefore sampled.
    """
    if crs == CRS:
        return bounds
    try:
        west, south, east, north = transform_bounds(crs, "EPSG:4326", *bounds)
        if not (0 <= east - west <= HALF and south <= north):
            return NOWHERE
        left, bottom, right, top = transform_bounds(crs, CRS, *bounds, densify_pts=DENSE)
        if east - west > LARGE or north - south > LARGE:
            grid = np.meshgrid(*(np.linspace(bounds[i], bounds[i + 2], DENSE) for i in (0, 1)))
            xs, ys = np.array(transform(crs, CRS, *(axis.ravel().tolist() for axis in grid)))
            left, bottom, right, top = (
                min(left, xs.min()), min(bottom, ys.min()), max(right, xs.max()), max(top, ys.max())
            )  # fmt: skip
    except ERRORS:
        return NOWHERE
    box = (float(left), float(bottom), float(right), float(top))
    return box if all(map(math.isfinite, box)) and left < right and bottom < top else NOWHERE


def degrees(dataset: DatasetReader) -> Bounds:
    """Extent in degrees of longitude and latitude: west, south, east, north.

    Raises:
        LulcbenchError: its projection has no such extent.
    """
    try:
        west, south, east, north = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
    except ERRORS as error:
        clear_errors()
        raise broken(name_of(dataset), error) from error
    if not all(map(math.isfinite, (west, south, east, north))):
        raise LulcbenchError(
            f"{name_of(dataset)} has no extent in degrees: its transform is {tuple(dataset.transform)[:6]} in "
            f"{dataset.crs.to_string()[:40]}.",
            "Correct its georeference.",
        )
    return (west, south, east, north)


@dataclass(frozen=True, slots=True)
class View:
    """The window of a raster that an area needs, and the ratio of their pixel sizes.

    Attributes:
        window: the pixels of the raster that the area needs, with a margin for interpolation.
        ratio: pixels of the raster per pixel of the area along a side (geometric mean of both axes).
        reach: pixels of the area that the longer side of a pixel of the raster covers.
        sides: width and height of a pixel of the raster, in pixels of the area.
        turned: whether the raster is turned against the area, by other than right angles.
    """

    window: Window
    ratio: float
    reach: float
    sides: tuple[float, float]
    turned: bool


@lru_cache(maxsize=4096)
def view(crs: rasterio.CRS, transform_: Affine, shape: tuple[int, int], area: Area) -> View | None:
    """The window of a raster, in any orientation, that an area needs; None if they do not overlap.

    It is cached, because projecting the points takes as long as a warp.
    """
    left, bottom, right, top = area.bounds
    step = area.resolution
    middle = ((left + right) / 2, (bottom + top) / 2)
    along = np.linspace(0, 1, EDGE + 1)
    xs, ys = left - 2 * step + along * (right - left + 4 * step), bottom - 2 * step + along * (top - bottom + 4 * step)
    points_x = [middle[0], middle[0] + step, middle[0], *xs, *xs, *[xs[0]] * len(ys), *[xs[-1]] * len(ys)]
    points_y = [middle[1], middle[1], middle[1] + step, *[ys[0]] * len(xs), *[ys[-1]] * len(xs), *ys, *ys]
    projected = np.array(transform(CRS, crs, points_x, points_y))
    columns, rows = ~transform_ @ projected
    known = np.isfinite(columns) & np.isfinite(rows)
    if not known[:3].all():
        return None
    jacobian = np.array([columns[1:3] - columns[0], rows[1:3] - rows[0]])
    sizes = np.linalg.svd(jacobian, compute_uv=False)
    if not sizes.min() > 0:
        return None
    margin = 2 + math.ceil(sizes.max())
    height, width = shape
    first = [max(0, math.floor(v[known].min()) - margin) for v in (columns, rows)]
    last = [min(n, math.ceil(v[known].max()) + margin) for v, n in ((columns, width), (rows, height))]
    if last[0] <= first[0] or last[1] <= first[1]:
        return None
    window = Window(*first, last[0] - first[0], last[1] - first[1])
    across, down = np.linalg.norm(np.linalg.inv(jacobian), axis=0)
    less, more = np.sort(np.abs(jacobian), axis=0)  # one of both is 0 where axes are parallel
    return View(
        window,
        float(np.sqrt(sizes.prod())),
        float(1 / sizes.min()),
        (float(across), float(down)),
        bool((less > TURNED * more).any()),
    )


def read_window(
    dataset: DatasetReader, band: int, window: Window, nodata: Collection[float] = ()
) -> tuple[Values, Mask | None]:
    """Values ``(y, x)`` of a band, and where they are missing (None if nowhere).

    A pixel is missing if its value is not finite, the file's nodata value or one of ``nodata``, or if a mask of the
    file, a mask beside it or its alpha band leaves it out.

    Raises:
        LulcbenchError: the file is damaged.
    """
    name = name_of(dataset)
    if stamp := stamp_of(name):
        block, itemsize = dataset.block_shapes[band - 1], np.dtype(dataset.dtypes[band - 1]).itemsize
        read = partial(_fetch, dataset, band)
        values, missing = read_by_blocks(f"{name} {stamp} {band}", dataset.shape, block, itemsize, window, read)
    else:
        values, missing = _fetch(dataset, band, window)
    marks = {float(mark) for mark in (*nodata, dataset.nodatavals[band - 1]) if mark is not None}
    exact = values.dtype.type  # comparing integers with a float is several times slower
    absent = [values == exact(mark) for mark in marks if not math.isnan(mark) and _holds(values.dtype, mark)]
    if values.dtype.kind == "f":
        absent.append(~np.isfinite(values))
    for where in absent:
        if where.any():
            missing = where if missing is None else missing | where
    return values, missing if missing is not None and missing.any() else None


def _fetch(dataset: DatasetReader, band: int, window: Window) -> tuple[Values, Mask | None]:
    try:
        return _read(dataset, band, window)
    except ERRORS as error:
        clear_errors()
        return _read_again(name_of(dataset), band, window, error)


def _read_again(path: str, band: int, window: Window, error: Exception) -> tuple[Values, Mask | None]:
    """A window that GDAL could not read, from a server that is reachable: connections break, and tokens are revoked.

    Raises:
        UnreadableError: it cannot be read although its file is there.
        LulcbenchError: the file is missing, or its server refuses it or cannot be reached.
    """
    if is_on_server(path):
        for _ in range(READS):
            server_stamp(path)
            forget(path)
            dataset = open_raster(path)
            try:
                return _read(dataset, band, window)
            except ERRORS as again:
                clear_errors()
                error = again
        check_readable(path)
    place = f"column {window.col_off}, row {window.row_off}: {_cause(error)}"
    raise UnreadableError(
        f"Cannot read {path} at {place}.",
        "It is damaged; fetch it again and rerun.",
        f"{PurePosixPath(path).name}, {place}",
    ) from error


def _cause(error: BaseException) -> str:
    """What GDAL said first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return redact(str(error)).rstrip(".")


def _read(dataset: DatasetReader, band: int, window: Window) -> tuple[Values, Mask | None]:
    """Values of a band, and where a mask or an alpha band leaves them out."""
    values: Values = dataset.read(band, window=window)
    return values, hidden(dataset, band, window=window)


def hidden(dataset: DatasetReader, band: int, **how: Any) -> Mask | None:
    """Where a mask or an alpha band leaves a band out; None if there is neither.

    Args:
        dataset: the file.
        band: number of the band.
        how: options of ``DatasetReader.read``.
    """
    flags = set(dataset.mask_flag_enums[band - 1])
    out = [dataset.read_masks(band, **how) == 0] if flags & {MaskFlags.per_dataset, MaskFlags.alpha} else []
    if MaskFlags.alpha not in flags:  # GDAL does not use alpha beside a nodata value or a mask
        out += [dataset.read(i, **how) == 0 for i in set(dataset.indexes) - set(data_bands(dataset))]
    return np.logical_or.reduce(out) if out else None


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Whether an integer type has the value; floats are compared in their own precision."""
    if dtype.kind == "f":
        return True
    return value.is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
