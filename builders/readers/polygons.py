"""Label polygons: a vector layer with a crosswalk to LUISA."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import geopandas as gpd
import pandas as pd
import shapely
from rasterio.features import rasterize

from builders.readers import Labels
from builders.readers.area import Area
from builders.readers.labels import composed, on_grid, unknown_codes
from builders.readers.locators import file_stamp
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds
from lulcbench.vectors import find_layer, read_layer, texts, to_ground

log = logging.getLogger(__name__)

FINE = 10  # m; polygons are rasterized at this pixel size, of which the majority is taken


@dataclass(frozen=True)
class VectorLabels:
    """A polygon layer with codes or words in one column; polygons without any are not labelled.

    Attributes:
        codes: code or word → LUISA code; other attributes as in ``RasterLabels``.
        min_cover: least share of a label pixel that polygons must cover.
    """

    path: Path
    codes: dict[str, int] = field(hash=False)
    legend: str
    layer: str | None
    column: str | None
    min_cover: float = 0.5

    def bounds(self) -> Bounds:
        """See ``LabelSource.bounds``."""
        left, bottom, right, top = (float(v) for v in self._polygons().total_bounds)
        return (left, bottom, right, top)

    def read(self, area: Area) -> Labels:
        """See ``LabelSource.read``: the majority of the 10 m cells of each pixel.

        A cell under overlapping polygons of several classes has none.
        """
        frame = self._polygons()
        inside = frame.iloc[frame.sindex.query(shapely.box(*area.bounds), predicate="intersects")]
        fine = Area(area.bounds, FINE)
        if inside.empty:
            return Labels.none(area.shape)
        # Of several polygons the last one counts: that of the highest code, and in the reverse order of the lowest.
        shapes = sorted(zip(inside.geometry, inside["luisa"], strict=True), key=lambda shape: int(shape[1]))
        burnt, other = (
            rasterize(ordered, fine.shape, transform=fine.transform, dtype="uint16")
            for ordered in (shapes, shapes[::-1])
        )
        contested = burnt != other
        burnt[contested] = 0
        labels = on_grid(burnt, fine.transform, CRS, area.resolution / FINE, area, self.min_cover)
        height, width = area.shape
        cells = contested.reshape(height, area.resolution // FINE, width, area.resolution // FINE)
        overlapping = cells.any(axis=(1, 3)) & (labels.codes == 0)
        return labels._replace(sparse=labels.sparse & ~overlapping, overlapping=overlapping)

    def _polygons(self) -> gpd.GeoDataFrame:
        stamp = file_stamp(self.path)
        return _polygons(self.path, self.layer, self.column, tuple(self.codes.items()), self.legend, stamp)


@lru_cache(maxsize=4)
def _polygons(
    path: Path, layer: str | None, column: str | None, codes: tuple[tuple[str, int], ...], legend: str, stamp: object
) -> gpd.GeoDataFrame:
    frame, values = _read(path, layer, column)
    known = composed(dict(codes), f"The mapping of {path}")
    if unknown := sorted(set(values.dropna()) - set(known)):
        raise unknown_codes(unknown, legend, f"{path} ({column})")
    ground = to_ground(frame, path, repair=True)
    areas = ~shapely.is_missing(ground.shapes)
    reasons = {f"features {reason} are not labelled": n for reason, n in ground.left_out.items()}
    reasons[f"polygons without {column} are not labelled"] = int((areas & values.isna()).sum())
    reasons["polygons that cross themselves are repaired"] = ground.repaired
    for reason, n in reasons.items():
        if n:
            log.warning("%s: %d %s", path.name, n, reason)
    labelled = areas & values.map(known).notna().to_numpy()
    return gpd.GeoDataFrame(
        {"luisa": values[labelled].map(known).astype(int).to_numpy()}, geometry=ground.shapes[labelled], crs=CRS
    )


def column_values(path: Path, layer: str | None, column: str | None) -> pd.Series[str]:
    """Codes or words of a polygon layer as text, NA where there is none.

    Raises:
        LulcbenchError: the file cannot be read, or has no such layer or column.
    """
    return _read(path, layer, column)[1]


def _read(path: Path, layer: str | None, column: str | None) -> tuple[gpd.GeoDataFrame, pd.Series[str]]:
    """The features of a layer, and their codes or words."""
    if column is None:
        names = ", ".join(find_layer(path, None, layer).columns)[:300]
        raise LulcbenchError(f"{path} has polygons.", f"Name the column of their codes in 'field': one of {names}.")
    frame = read_layer(path, column, layer)
    return frame, texts(frame[column])
