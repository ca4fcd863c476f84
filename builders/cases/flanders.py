"""WorldCereal's site in Flanders: netCDF time series of Sentinel-2 L2A and Landsat 8 SR (Collection 1), 640 m.

Each date becomes GeoTIFFs and an item. Landsat was resampled there to 10 m by nearest neighbour; its original pixels
are restored on the USGS grid, whose pixel edges are at odd multiples of 15 m. The land cover becomes a label raster of
LUISA classes, no finer than it supports.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from affine import Affine

from builders._progress import Report, counter, silent
from builders.archives import landsat as collection2
from builders.ingest.catalog import File, item, write
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import LANDSAT, SENTINEL2, Band

SCALE = 1e-4
S2_10M = ("B02", "B03", "B04", "B08")
S2_20M = ("B05", "B06", "B07", "B8A", "B11", "B12")
L8 = {"B02": "blue", "B03": "green", "B04": "red", "B05": "nir08", "B06": "swir16", "B07": "swir22"}
# Landsat Collection 1 pixel_qa bit → Collection 2 qa_pixel bit (USGS product guides); cirrus is a confidence there.
# "Clear" of the former (bit 1) is the absence of all others, bit 6 of the latter that of clouds alone.
QA_BITS = {2: 7, 3: 4, 4: 5, 5: 3}
CLOUD = 5  # bit of Collection 1
CIRRUS_HIGH = 0b11 << 8


def ingest(folder: Path, out: Path, report: Report = silent) -> None:
    """Items and GeoTIFFs of all dates, and ``labels/luisa_2018.tif``."""
    fine, coarse, landsat, polygons = (
        _open(folder, kind) for kind in ("S2_L2A_10m", "S2_L2A_20m", "L8_SR_10m", "OUTPUT")
    )
    total = len(fine.timestamp) + len(landsat.timestamp)
    advance = counter(report, total)
    items = []
    for i, time in enumerate(fine.timestamp.values):
        when = _moment(time)
        name = f"S2_{when:%Y%m%dT%H%M%S}"
        home = out / "files" / name
        files = []
        for data, names, key in ((fine, S2_10M, "data10"), (coarse, S2_20M, "data20")):
            bands = [SENTINEL2.band(band) for band in names]
            values = np.stack([data[band].values[i] for band in names])
            files.append(_write(home / f"{key}.tif", values, _transform(data), data.attrs["epsg"], key, bands))
        scl = coarse["SCL"].values[i].astype(np.uint8)
        files.append(_write(home / "scl.tif", scl[None], _transform(coarse), coarse.attrs["epsg"], "scl", ()))
        items.append(item(name, SENTINEL2, files, (when, when), platform="sentinel-2"))
        advance()
    for i, time in enumerate(landsat.timestamp.values):
        when = _moment(time)
        name = f"LC08_{when:%Y%m%dT%H%M%S}"
        home = out / "files" / name
        rows, columns, transform = landsat_grid(landsat.x.values, landsat.y.values)
        pick = np.ix_(rows, columns)
        values = np.stack([landsat[band].values[i][pick] for band in L8])
        qa = collection2_qa(landsat["pixel_qa"].values[i][pick])
        epsg = landsat.attrs["epsg"]
        bands = [LANDSAT.band(band) for band in L8.values()]
        files = [_write(home / "data.tif", values, transform, epsg, "data", bands)]
        files.append(_write(home / "qa_pixel.tif", qa[None], transform, epsg, "qa_pixel", ()))
        items.append(item(name, LANDSAT, files, (when, when), platform="landsat-8"))
        advance()
    labels = luisa_labels(polygons["LC"].values)
    _write(out / "labels" / "luisa_2018.tif", labels[None], _transform(polygons), polygons.attrs["epsg"], "labels", ())
    write(out, "flanders", "Sentinel-2 and Landsat 8 at a site in Flanders", items)


def landsat_grid(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[list[int], list[int], Affine]:
    """Rows and columns of one copy of every 30 m pixel of a 10 m grid, and the transform of the 30 m grid.

    Args:
        x: centres of the 10 m columns, ascending.
        y: centres of the 10 m rows, descending.
    """
    # A 10 m centre on the edge between two 30 m pixels was copied from the one to the east, or to the north.
    across = np.floor((x - 15) / 30)
    down = np.floor((15 + 30 * np.ceil(y.max() / 30) - y) / 30 - 1e-9)
    columns, rows = (np.unique(v, return_index=True)[1].tolist() for v in (across, down))
    top = 15 + 30 * np.ceil(y.max() / 30) - 30 * down.min()
    return rows, columns, Affine(30, 0, 30 * across.min() + 15, 0, -30, top)


def collection2_qa(pixel_qa: npt.NDArray[np.integer]) -> npt.NDArray[np.uint16]:
    """Landsat Collection 1 ``pixel_qa`` as Collection 2 ``qa_pixel``; fill, and 0 (never observed), become its fill."""
    old = pixel_qa.astype(np.uint16)
    new = np.zeros_like(old)
    for source, target in QA_BITS.items():
        new |= ((old >> source) & 1) << target
    new |= (1 - ((old >> CLOUD) & 1)) << collection2.NO_CLOUD
    new |= ((old & CIRRUS_HIGH) == CIRRUS_HIGH).astype(np.uint16) << 2
    return np.where((old == 0) | (old & 1 == 1), 1, new).astype(np.uint16)


# WorldCereal land cover: 11 annual cropland, 13 grassland and fodder, 60 built-up; 99 is only "no annual crop".
_LUISA = {11: 21, 13: 2, 60: 1, 99: 0, 0: 0}


def luisa_labels(land_cover: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """WorldCereal land cover as LUISA codes, no finer than it supports: arable 21, agriculture 2, built-up 1."""
    unknown = set(np.unique(land_cover).tolist()) - set(_LUISA)
    if unknown:
        raise LulcbenchError(f"Unknown WorldCereal land cover {sorted(unknown)}.", f"Known: {sorted(_LUISA)}.")
    out = np.zeros(land_cover.shape, np.int32)
    for code, luisa in _LUISA.items():
        out[land_cover == code] = luisa
    return out


def _open(folder: Path, kind: str) -> xr.Dataset:
    files = sorted(folder.glob(f"{kind}*.nc"))
    if len(files) != 1:
        raise LulcbenchError(
            f"{folder} contains {len(files)} files {kind}*.nc.", "Name the folder of one site, which has one of each."
        )
    try:
        return xr.load_dataset(files[0], mask_and_scale=False)
    except (OSError, ValueError) as error:
        raise LulcbenchError(f"Cannot read {files[0]}: {error}.", "It is damaged; fetch it again.") from error


def _moment(time: np.datetime64) -> datetime:
    return datetime.fromisoformat(str(time.astype("datetime64[s]"))).replace(tzinfo=UTC)


def _transform(data: xr.Dataset) -> Affine:
    """North-up transform from the coordinates of pixel centres."""
    x, y = data.x.values, data.y.values
    step = float(x[1] - x[0])
    return Affine(step, 0, float(x[0]) - step / 2, 0, -step, float(y[0]) + step / 2)


def _write(
    path: Path, values: npt.NDArray[np.generic], transform: Affine, epsg: str, key: str, bands: Sequence[Band]
) -> File:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "compress": "deflate", "dtype": values.dtype, "crs": f"EPSG:{epsg}"}
    count, height, width = values.shape
    with rasterio.open(path, "w", **profile, count=count, height=height, width=width, transform=transform) as file:
        file.write(values)
        file.descriptions = [band.name for band in bands] or [key] * count
    return File(key, path, bands, SCALE, 0, 0) if bands else File(key, path)
