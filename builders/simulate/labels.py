"""The label maps of a simulation: drawn and generalised to LUISA's mapping units, or given; and those of past years."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError
from rasterio.features import sieve
from rasterio.transform import from_origin
from rasterio.warp import Resampling, reproject, transform_bounds
from scipy import ndimage

from builders.simulate.config import SimulationConfig
from builders.simulate.country import Canvas, Codes, draw_land
from builders.simulate.events import apply_event
from builders.simulate.settlements import draw_settlements
from lulcbench import grid
from lulcbench.errors import LulcbenchError
from lulcbench.legend import NODATA, legend

# Margin around the bounds that is mapped too, in metres: UTM scenes are rotated relative to EPSG:3035.
MARGIN = 4_800
# Minimum mapping units of LUISA: 1 ha for artificial surfaces, 5 ha for the rest; in 50 m cells.
_UNIT_ARTIFICIAL, _UNIT_OTHER = 4, 20


@dataclass(frozen=True)
class LabelMap:
    """A LUISA map on the 50 m grid.

    Attributes:
        codes: level-4 codes, uint16 (h, w), north up, 0 = nodata.
        left: easting of the left edge, EPSG:3035 metres.
        top: northing of the top edge.
    """

    codes: Codes
    left: float
    top: float

    def write(self, path: Path, bounds: grid.Bounds) -> None:
        """Write the area inside ``bounds`` in the format of LUISA: int32 GeoTIFF, EPSG:3035, nodata 0."""
        size = grid.LABEL_RESOLUTION
        left, bottom, right, top = bounds
        rows = slice(round((self.top - top) / size), round((self.top - bottom) / size))
        columns = slice(round((left - self.left) / size), round((right - self.left) / size))
        inside = self.codes[rows, columns]
        profile = {"driver": "GTiff", "dtype": "int32", "nodata": NODATA, "count": 1, "crs": grid.CRS}
        profile |= {"height": inside.shape[0], "width": inside.shape[1]}
        profile |= {"transform": from_origin(left, top, size, size)}
        profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(path, "w", **profile) as file:
            file.write(inside.astype(np.int32), 1)


def label_maps(config: SimulationConfig) -> dict[int, LabelMap]:
    """The label map of every year, covering the bounds and a margin.

    Raises:
        LulcbenchError: the given map cannot be read, has no georeference, has unknown codes or codes coarser than
            level 4, or does not cover the bounds.
    """
    left, bottom, right, top = config.bounds
    wide = (left - MARGIN, bottom - MARGIN, right + MARGIN, top + MARGIN)
    canvas = Canvas.over(wide, config.seed)
    if config.label_map is None:
        codes = generalise(draw_settlements(canvas, draw_land(canvas, config.climate_scale)))
    else:
        codes = _read(config.label_map, canvas, config.bounds)
    maps = {}
    for year in config.years:
        own = codes if year == config.target_year else cast_back(canvas, codes, config.target_year - year)
        for event in sorted(config.events, key=lambda event: event.year):
            if event.year <= year:
                own = apply_event(canvas, own, event)
        maps[year] = LabelMap(own, wide[0], wide[3])
    return maps


def generalise(codes: Codes) -> Codes:
    """Merge patches below LUISA's minimum mapping units into their largest neighbour; only area counts, not width."""
    order = legend().codes(4)
    lookup = np.zeros(65536, np.uint8)
    lookup[list(order)] = np.arange(1, len(order) + 1)
    index = sieve(lookup[codes], _UNIT_ARTIFICIAL, connectivity=8)
    coarse = sieve(index, _UNIT_OTHER, connectivity=8)
    table = np.array([0, *order], np.uint16)
    artificial = (table[index] // 1000 == 1) | (table[coarse] // 1000 == 1)
    sieved: Codes = table[np.where(artificial, index, coarse)]
    return sieved


def cast_back(canvas: Canvas, codes: Codes, years: int) -> Codes:
    """Derive the map of an earlier year: less built-up, other clear-cuts, before some fires and reservoirs.

    Args:
        canvas: the grid of the map.
        codes: the later map, uint16 (h, w).
        years: number of years before it; the changed area grows with it.

    Returns:
        Codes of the earlier map, uint16 (h, w).
    """
    before = codes.copy()
    rate = min(years / 6, 3.0)

    def spots(name: str, wavelength: float, share: float) -> npt.NDArray[np.bool_]:
        field = canvas.noise(f"change-{name}", wavelength, 2)
        return field > np.quantile(field, 1 - min(share * rate, 0.9))

    built = np.isin(codes, (1121, 1122, 1123, 1210, 1230, 1310, 1320, 1330, 1421, 1422))
    nature = codes // 1000 != 1
    if nature.any():
        # Built-up land replaces the nearest natural class, except water and glaciers.
        dry = nature & (codes < 5000) & (codes != 3350)
        near = ndimage.distance_transform_edt(~dry, return_distances=False, return_indices=True)
        grown = built & spots("growth", 500, 0.07)
        before[grown] = codes[tuple(near)][grown]
    before[(codes == 1330) & spots("site", 700, 0.7)] = 2110
    shrub = codes == 3240
    forest = np.isin(codes, (3110, 3120, 3130))
    conifer = canvas.noise("forest-before", 3_000, 2) > 0
    before[shrub & spots("felled", 600, 0.45)] = 3110
    before[(shrub & (before == 3110)) & conifer] = 3120
    before[forest & spots("regrown", 600, 0.02)] = 3240
    before[(codes == 3340) & spots("fire", 900, 0.9)] = 3120
    before[np.isin(codes, (3230, 3240)) & spots("old-fire", 700, 0.02)] = 3340
    before[(codes == 5120) & spots("reservoir", 1_500, 0.12)] = 2310
    before[(codes == 2310) & spots("ploughed", 900, 0.02)] = 2110
    return before


def _read(path: Path, canvas: Canvas, bounds: grid.Bounds) -> Codes:
    try:
        with rasterio.open(path) as source:
            if source.crs is None or source.transform.is_identity:
                raise LulcbenchError(f"{path} has no georeference.", "Give a LUISA GeoTIFF with a CRS and a transform.")
            covered = transform_bounds(source.crs, grid.CRS, *source.bounds)
            values = source.read(1)
            missing = NODATA if source.nodata is None else source.nodata
            values = np.where(values == missing, NODATA, values)
            source_codes = legend().remap(values, 4, str(path))
            coarse = np.unique(values[(source_codes == NODATA) & (values != NODATA)])
            where = {"src_transform": source.transform, "src_crs": source.crs}
    except RasterioError as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "Give a LUISA GeoTIFF.") from error
    if coarse.size:
        raise LulcbenchError(
            f"{path} has codes coarser than level 4: {', '.join(map(str, coarse[:5]))}.",
            "Scenes are rendered from LUISA level 4; CORINE maps do not have this level.",
        )
    inside = bounds[0] >= covered[0] and bounds[1] >= covered[1] and bounds[2] <= covered[2] and bounds[3] <= covered[3]
    if not inside:
        box = ", ".join(f"{v:.0f}" for v in covered)
        raise LulcbenchError(
            f"Bounds {bounds} extend beyond {path}, which covers ({box}) in EPSG:3035.", "Choose bounds inside the map."
        )
    half = grid.LABEL_RESOLUTION / 2
    target = from_origin(canvas.x[0] - half, canvas.y[0] + half, grid.LABEL_RESOLUTION, grid.LABEL_RESOLUTION)
    codes = np.zeros((len(canvas.y), len(canvas.x)), np.uint16)
    reproject(
        source_codes, codes, **where, src_nodata=NODATA, dst_transform=target, dst_crs=grid.CRS, dst_nodata=NODATA,
        resampling=Resampling.nearest,
    )  # fmt: skip
    return codes
