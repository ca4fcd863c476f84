"""Label rasters: any categorical raster with a crosswalk to LUISA."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.warp import Resampling
from rasterio.windows import bounds as window_bounds
from rasterio.windows import transform as window_transform

from builders.readers import Labels
from builders.readers.area import Area
from builders.readers.opening import opened
from builders.readers.warp import place, warp
from builders.readers.windows import NOWHERE, Mask, Values, View, data_bands, footprint, read_window
from lulcbench._attribute_tables import has_table, recoded, sampled_values
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds
from lulcbench.legend import corine_doubt
from lulcbench.vectors import same_name

Codes = npt.NDArray[np.uint16]

CORINE = "CORINE"  # name of its legend
OWN = "own"  # name of the legend of a user, which says what pixels mean
FINER = 4 / 3  # pixels of the map per label pixel from which on the majority is taken


@dataclass(frozen=True)
class RasterLabels:
    """A categorical raster.

    Attributes:
        path: the file, with any projection, orientation and pixel size.
        codes: source code → LUISA code; other values are an error, except for missing pixels.
        legend: name of the source's legend, for error messages.
        band: number or description of the band; None is the only one, or the one whose description names ``year``.
        year: of the labels.
        min_cover: least share of a label pixel that must have a class, if the pixels of the file are finer.
    """

    path: Path
    codes: dict[int, int] = field(hash=False)
    legend: str
    band: int | str | None = None
    year: int | None = None
    min_cover: float = 0.5

    def bounds(self) -> Bounds:
        """See ``LabelSource.bounds``."""
        dataset = opened(str(self.path))
        box = footprint(dataset.crs, dataset.transform, dataset.shape)
        if box == NOWHERE:
            raise LulcbenchError(
                f"{self.path} has no extent in {CRS}.", "Clip it to Europe, for instance with gdalwarp -te."
            )
        return box

    def read(self, area: Area) -> Labels:
        """See ``LabelSource.read``: nearest neighbour, or the majority if the pixels of the file are finer.

        The area is read in cells of a fixed lattice, so that a pixel does not depend on what it is read with.
        """
        dataset = opened(str(self.path))
        number = self.band_number(dataset)
        out = Labels.none(area.shape)
        for cell, target, part in area.cells():
            pixels = _read_cell(self, dataset, number, cell)
            out.codes[target] = pixels.codes[part]
            out.sparse[target] = pixels.sparse[part]
        return out

    def read_cell(self, dataset: rasterio.DatasetReader, number: int, cell: Area) -> Labels:
        """Labels of one cell."""
        where = place(dataset, cell)
        if where is None:
            return Labels.none(cell.shape)
        inner, part, seen = where
        values, missing = read_window(dataset, number, seen.window)
        source = self._to_luisa(values, missing, window_bounds(seen.window, dataset.transform))
        transform = window_transform(seen.window, dataset.transform)
        found = on_grid(source, transform, dataset.crs, seen.ratio, inner, self.min_cover, seen)
        out = Labels.none(cell.shape)
        out.codes[part], out.sparse[part] = found.codes, found.sparse
        return out

    def band_number(self, dataset: rasterio.DatasetReader) -> int:
        """Number of the band to read.

        Raises:
            LulcbenchError: it is not clear which band is meant, or the band holds scaled numbers.
        """
        described = data_bands(dataset)
        if self.band is not None:
            spelling = same_name(str(self.band), described.values(), str(self.path))
            meant = [i for i, text in described.items() if self.band == i or spelling == text]
        elif len(described) > 1 and self.year is not None:
            meant = [i for i, text in described.items() if re.search(rf"(?<!\d){self.year}(?!\d)", text)]
        else:
            meant = list(described)
        listed = ", ".join(f"{i} ({text or 'not described'})" for i, text in list(described.items())[:20])
        if len(meant) != 1:
            raise LulcbenchError(
                f"{self.path} has {len(described)} bands, and it is not clear which is the map: {listed}.",
                "Set 'band' of the recipe's labels to a number or a description.",
            )
        if self.band is None:
            check_years(self.year, described[meant[0]], str(self.path), "'band' of the labels if it is meant")
        nodata = dataset.nodatavals[meant[0] - 1]
        if nodata is not None and self.codes.get(nodata):  # 255.0 finds 255
            raise LulcbenchError(
                f"{self.path} has the nodata value {nodata:g}, but the {self.legend} legend maps {nodata:g} to "
                f"{self.codes[int(nodata)]}.",
                "Remove the nodata value from the file (gdal_edit.py -unsetnodata), or the code from the mapping.",
            )
        if (dataset.scales[meant[0] - 1], dataset.offsets[meant[0] - 1]) != (1.0, 0.0):
            raise LulcbenchError(
                f"{self.path} has a scale or an offset, so that its numbers are not class codes.",
                "Store the class codes themselves, without scale and offset.",
            )
        if self.legend != OWN and (found := recoded(self.path, self.codes)):
            column, pixel, code = found
            raise LulcbenchError(
                f"{self.path} has an attribute table that translates {pixel} to {code} (column {column}): its pixels "
                f"are not codes of the {self.legend} legend.",
                "Write the codes of the column into the pixels, or give it as an own map with a mapping.",
            )
        if self.legend == CORINE:
            _check_coding(self.path, dataset, meant[0])
        return meant[0]

    def _to_luisa(self, values: Values, missing: Mask | None, box: Bounds) -> Codes:
        present, indices = np.unique(values if missing is None else values[~missing], return_inverse=True)
        known = {0: 0} | self.codes
        unknown = [v.item() for v in present if v not in known]
        if unknown:
            shown = [int(v) if v == int(v) else v for v in unknown]
            raise unknown_codes(shown, self.legend, f"{self.path} (within {tuple(round(b) for b in box)})")
        table = np.array([known[int(v)] for v in present], np.uint16)
        out = np.zeros(values.shape, np.uint16)
        if missing is None:
            out[...] = table[indices].reshape(values.shape)
        else:
            out[~missing] = table[indices].ravel()
        return out


@lru_cache(maxsize=32)
def _check_coding(path: Path, dataset: rasterio.DatasetReader, number: int) -> None:
    doubt = None if has_table(path) else corine_doubt(sampled_values(dataset, number))
    if doubt:
        raise LulcbenchError(
            f"{path} could be coded in several ways: {doubt}.",
            "Give CLC codes of level 3 (111…523), grid codes with the attribute table of Copernicus (.vat.dbf) beside "
            "the file, or an own map with a mapping.",
        )


def composed(codes: Mapping[str, int], where: str) -> dict[str, int]:
    """A mapping of words whose accents are composed (Unicode NFC), as the words of polygons are when they are read.

    Raises:
        LulcbenchError: two spellings of a word have different codes.
    """
    out: dict[str, int] = {}
    for word, code in codes.items():
        if out.setdefault(normalize("NFC", word), code) != code:
            raise LulcbenchError(
                f"{where} maps two Unicode spellings of {word!r} to different codes.", "Remove one of them."
            )
    return out


def check_years(year: int | None, name: str, where: str, option: str) -> None:
    """Refuse labels of a year whose band or column names a single other one.

    Args:
        year: of the labels, if known.
        name: of the band or column.
        where: the file.
        option: what else to set, for the message.

    Raises:
        LulcbenchError: it names another year.
    """
    named = {int(text) for text in re.findall(r"(?<!\d)(?:19|20)\d\d(?!\d)", name)}
    if year is not None and len(named) == 1 and year not in named:
        raise LulcbenchError(
            f"{where} has labels of {named.pop()} by its name {name!r}, but they are used as labels of {year}.",
            f"Correct the year, or set {option}.",
        )


@lru_cache(maxsize=32)
def _read_cell(labels: RasterLabels, dataset: rasterio.DatasetReader, number: int, cell: Area) -> Labels:
    """The planner reads tile by tile, and a cell has several tiles."""
    return labels.read_cell(dataset, number, cell)


def on_grid(
    codes: Codes, transform: Affine, crs: Any, ratio: float, area: Area, min_cover: float, seen: View | None = None
) -> Labels:
    """Resample codes to the grid of an area: majority if their pixels are clearly finer, else nearest neighbour.

    Args:
        codes: LUISA codes ``(y, x)``; 0 (nodata) does not count for the majority.
        transform: affine transform of ``codes``.
        crs: projection of ``codes``.
        ratio: pixels of ``codes`` per pixel of the area along a side.
        area: the target grid.
        min_cover: least share of a pixel that must have a code, if the majority is taken.
        seen: how the pixels of ``codes`` lie on the area; None is parallel to it.
    """
    # Ground around the map has no class: it counts for the share of a pixel that has one.
    edge = math.ceil(ratio) + 1
    codes, transform = np.pad(codes, edge), transform @ Affine.translation(-edge, -edge)
    # Indices of the classes fit into a byte, for which GDAL computes the majority many times faster.
    classes, indices = np.unique(np.append(codes.ravel(), np.uint16(0)), return_inverse=True)
    finer = ratio > FINER

    def warped(source: Values, resampling: Resampling, nodata: int | None) -> Values:
        out = np.zeros(area.shape, source.dtype)
        warp(source, transform, crs, area, out, resampling, seen, nodata)
        return out

    how = Resampling.mode if finer else Resampling.nearest
    result = classes[warped(indices[:-1].reshape(codes.shape).astype(np.uint8), how, 0)]
    sparse = np.zeros(area.shape, bool)
    if finer and not codes[edge:-edge, edge:-edge].all():
        cover = warped((codes > 0).astype(np.float32), Resampling.average, None)
        sparse = (result > 0) & (cover < min_cover - 1e-6)
        result[sparse] = 0
    return Labels(result, sparse, np.zeros(area.shape, bool))


def unknown_codes(codes: Sequence[int | float | str], legend: str, where: str) -> LulcbenchError:
    """The error for codes that are not in the legend of a label map."""
    shown = ", ".join(map(str, codes[:8])) + (f" and {len(codes) - 8} more" if len(codes) > 8 else "")
    return LulcbenchError(
        f"{where} holds codes that are not in the {legend} legend: {shown}.",
        "Check that the recipe's 'source' matches the file, and that its nodata value is set.",
    )
