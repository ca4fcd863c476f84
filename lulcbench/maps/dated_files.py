"""Dated images of files: rasters of a folder or of a STAC catalog, read on one grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.grid import CRS, Bounds
from lulcbench.maps.dated_images import Floats, Mask, Seen, named_bands, single_input
from lulcbench.maps.model import ModelInfo
from lulcbench.maps.scenes import Layer, find_scenes, is_clear, open_raster

if TYPE_CHECKING:
    from rasterio import DatasetReader

_EIGHT_BIT = 2.0  # a mean reflectance is smaller, a mean of 8-bit values is not
_DIGITS = 1e-4  # reflectance of a digit of Sentinel-2, where files state no scale
_OFFSET_BASELINE = 4.0  # processing baseline from which on digits have an offset of -1000, or had
_OFFSET_SINCE = np.datetime64("2022-01-25")  # its first day, for images whose baseline is not known
_SAME = 0.95  # sides of pixels, in pixels of the grid, from which on interpolation uses the four nearest ones
_STRANGE = 50.0  # standard deviations from the mean of the training data: another unit


class SceneImages:
    """Images of files, read on one grid of the pixel size of the model; see ``DatedImages``.

    The grid is that of the first file if its CRS is projected in metres, otherwise in EPSG:3035. Files of another grid
    are resampled when they are read. Where several files of one date overlap, the first that has a clear pixel counts.

    Args:
        root: folder or STAC catalog, see ``find_scenes``.
        info: the model, of single images of one sensor.
        names: of bands.
        scale: of values; None takes what files state, and 1e-4 for 16-bit integers of Sentinel-2 if the model takes
            reflectance and their processing baseline is below 04.00, or unknown and they are from before 2022-01-25.
        offset: of scaled values, given with a scale.

    Raises:
        LulcbenchError: there is an offset without a scale; the model takes other inputs; there are no images; their
            pixels are coarser than the model's.
    """

    composites: Final = False
    simulated: Final = False

    def __init__(
        self,
        root: str | Path,
        info: ModelInfo,
        names: Sequence[str] | None = None,
        scale: float | None = None,
        offset: float = 0.0,
    ) -> None:
        from rasterio.crs import CRS as RasterCrs
        from rasterio.warp import transform_bounds

        self._sensor, self._input = single_input(info)
        if scale is None and offset:
            raise LulcbenchError(
                f"An offset of {offset:g} without a scale.", "Give both: --scale 0.0001 --offset -0.1."
            )
        self._stated = None if scale is None else (scale, offset)
        self.name = Path(root).name
        self.scenes = find_scenes(root, self._sensor, self._input.bands, names)
        self.bands = named_bands(self._sensor, self._input.bands)
        size = float(self._input.resolution)
        extents: list[tuple[RasterCrs, Bounds]] = []
        for scene in self.scenes:
            with open_raster(scene.bands[self._input.bands[0]].href) as file:
                if file.crs is None or file.transform.is_identity:
                    raise LulcbenchError(f"{file.name} has no georeference.", "Give rasters with CRS and transform.")
                extents.append((file.crs, _extent(file)))
                if not extents[1:]:
                    corner = extents[0][1][0], extents[0][1][3]
                    finest = min(abs(file.transform.a), abs(file.transform.e))
        first = extents[0][0]
        metric = first.is_projected and math.isclose(first.linear_units_factor[1], 1)
        target = first if metric else RasterCrs.from_string(CRS)
        if metric and finest > 1.5 * size:
            raise LulcbenchError(
                f"Pixels of {self.name} have {finest:g} m, those of the model {size:g} m.", "Use a model of that size."
            )
        boxes = [transform_bounds(crs, target, *bounds) if crs != target else bounds for crs, bounds in extents]
        if not metric:
            corner = (boxes[0][0], boxes[0][3])
        self.crs, self.origin = target.to_string(), corner
        self._crs = target
        self._boxes = boxes
        left, bottom = min(b[0] for b in boxes), min(b[1] for b in boxes)
        right, top = max(b[2] for b in boxes), max(b[3] for b in boxes)
        self.bounds = (left, bottom, right, top)
        self._checked = False

    def dates(self, bounds: Bounds) -> list[np.datetime64]:
        """Dates of the scenes that touch an area."""
        near = {s.date for s, box in zip(self.scenes, self._boxes, strict=True) if _touches(box, bounds)}
        return sorted(near)

    def read(self, date: np.datetime64, bounds: Bounds) -> Seen:
        """What the model sees; see ``DatedImages``."""
        values, clear = self._values(date, bounds)
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self._input.mean, self._input.std))
        image = (values - mean) / std
        known = np.isfinite(image).all(axis=0)
        if not self._checked and known.any():
            if (far := float(np.median(np.abs(image[:, known])))) > _STRANGE:
                raise LulcbenchError(
                    f"Values of {self.name} are {far:,.0f} standard deviations from those of the training data.",
                    "Give their unit, such as --scale 0.0001 for digits of reflectance.",
                )
            self._checked = True
        image[:, ~known] = 0
        return Seen({self._sensor: image.astype(np.float32)}, clear & known)

    def picture(self, date: np.datetime64, bounds: Bounds) -> Floats:
        """Values of the bands; see ``DatedImages``."""
        return self._values(date, bounds)[0]

    def _values(self, date: np.datetime64, bounds: Bounds) -> tuple[npt.NDArray[np.float32], Mask]:
        """Values ``(band, y, x)`` in the unit of the model, NaN without data; and where they are clear."""
        values: npt.NDArray[np.float32] | None = None
        clear: Mask | None = None
        for scene, box in zip(self.scenes, self._boxes, strict=True):
            if scene.date != date or not _touches(box, bounds):
                continue
            own = self._bands_of(date, [scene.bands[name] for name in self._input.bands], bounds)
            seen = np.isfinite(own).all(axis=0)
            if scene.quality is not None:
                stored = replace(scene.quality, scale=1.0, offset=0.0)
                (quality,) = self._bands_of(date, [stored], bounds, classes=True)
                seen &= is_clear(self._sensor, np.nan_to_num(quality, nan=0))
            if values is None or clear is None:
                values, clear = own, seen
                continue
            better = (seen & ~clear) | ~np.isfinite(values).all(axis=0)
            values, clear = np.where(better, own, values), clear | seen
        if values is None or clear is None:
            raise NotAvailableError(f"{self.name} has no image of {date} there.", "Ask for one of its dates.")
        return values, clear

    def _bands_of(
        self, date: np.datetime64, layers: Sequence[Layer], bounds: Bounds, classes: bool = False
    ) -> npt.NDArray[np.float32]:
        """Bands on the grid ``(band, y, x)``, NaN without data; each file is opened once."""
        size = self._input.resolution
        left, bottom, right, top = bounds
        shape = round((top - bottom) / size), round((right - left) / size)
        out = np.full((len(layers), *shape), np.nan, np.float32)
        for href in dict.fromkeys(layer.href for layer in layers):
            own = [at for at, layer in enumerate(layers) if layer.href == href]
            stored, valid = self._read(href, [layers[at].band for at in own], bounds, shape, classes)
            for at, values, known in zip(own, stored, valid, strict=True):
                scale, offset = self._coding(layers[at], date, stored.dtype)
                out[at] = np.where(known, values.astype(np.float32) * np.float32(scale) + np.float32(offset), np.nan)
        return out

    def _read(
        self, href: str, bands: list[int], bounds: Bounds, shape: tuple[int, int], classes: bool
    ) -> tuple[npt.NDArray[Any], Mask]:
        """Stored values of bands of a file on the grid, and where there are data."""
        from affine import Affine
        from rasterio.enums import Resampling
        from rasterio.errors import RasterioError
        from rasterio.vrt import WarpedVRT

        size, (left, _, _, top) = self._input.resolution, bounds
        with open_raster(href) as file:
            own = min(abs(file.transform.a), abs(file.transform.e))
            same = file.crs == self._crs and math.isclose(own, size, rel_tol=1e-6)
            shift = ((file.transform.c - left) / size, (file.transform.f - top) / size)
            aligned = same and all(abs(v - round(v)) < 1e-3 for v in shift)
            how = Resampling.average if file.crs == self._crs and own < 0.7 * size else Resampling.bilinear
            grid = {"crs": self._crs, "transform": Affine(size, 0, left, 0, -size, top)}
            if file.nodata is None:
                grid["add_alpha"] = True  # so that pixels outside of the file are known
            how = Resampling.nearest if aligned or classes else how
            if how is Resampling.bilinear:
                # From the extents of both grids, GDAL would blur rasters that are turned against it.
                grid |= dict(zip(("XSCALE", "YSCALE"), self._scales(file, bounds), strict=True))
            try:
                with WarpedVRT(file, height=shape[0], width=shape[1], resampling=how, **grid) as view:
                    return view.read(bands), view.read_masks(bands) > 0
            except RasterioError as error:
                raise LulcbenchError(f"Cannot read {href}: {error}.", "Give intact rasters.") from error

    def _scales(self, file: DatasetReader, bounds: Bounds) -> tuple[float, float]:
        """Width and height of a pixel of a raster in the middle of an area, in pixels of the grid; 1 for larger ones.

        Of a raster whose middle is unknown, because it is elsewhere on the Earth, both are 1.
        """
        from rasterio.warp import transform

        left, bottom, right, top = bounds
        (x,), (y,) = transform(self._crs, file.crs, [(left + right) / 2], [(bottom + top) / 2])
        column, row = ~file.transform @ (x, y)
        corners = [file.transform @ at for at in ((column, row), (column + 1, row), (column, row + 1))]
        xs, ys = np.array(transform(file.crs, self._crs, *zip(*corners, strict=True)))
        sides = np.hypot(xs[1:] - xs[0], ys[1:] - ys[0]) / self._input.resolution
        width, height = (float(side) if 0 < side < _SAME else 1.0 for side in sides)
        return width, height

    def _coding(self, layer: Layer, date: np.datetime64, dtype: np.dtype[Any]) -> tuple[float, float]:
        """Scale and offset of a layer.

        Raises:
            LulcbenchError: values are digits of reflectance whose coding is not stated and not known.
        """
        if layer.scale is not None:
            return layer.scale, layer.offset
        if self._stated is not None:
            return self._stated
        if dtype not in (np.uint16, np.int16) or max(self._input.mean) > _EIGHT_BIT:
            return 1.0, 0.0
        shifted = date >= _OFFSET_SINCE if layer.baseline is None else layer.baseline >= _OFFSET_BASELINE
        if self._sensor != "sentinel2" or shifted:
            known = "--scale 0.0000275 --offset -0.2" if self._sensor == "landsat" else "--scale 0.0001 --offset -0.1"
            raise LulcbenchError(
                f"{layer.href} ({date}{_made(layer)}) does not state how its digits become reflectance.",
                f"State it, such as {known}; for Sentinel-2, --offset 0 if the offset of 2022 is already removed.",
            )
        return _DIGITS, 0.0


def _made(layer: Layer) -> str:
    return f", processing baseline {layer.baseline:05.2f}" if layer.baseline else ""


def _extent(file: Any) -> Bounds:
    """Left, bottom, right, top of a raster of any orientation."""
    corners = [file.transform @ at for at in ((0, 0), (file.width, 0), (0, file.height), (file.width, file.height))]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _touches(box: Bounds, bounds: Bounds) -> bool:
    return box[0] < bounds[2] and bounds[0] < box[2] and box[1] < bounds[3] and bounds[1] < box[3]
