"""Describing files as STAC items, and items as a catalog on disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pystac
import rasterio
from pystac.extensions.eo import Band as CommonBand
from shapely.geometry import box, mapping

from builders.readers.opening import open_raster, states_simulated
from builders.readers.windows import degrees
from lulcbench.sensors import Band, Sensor

PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
EO = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a scene: its bands in file order with one coding, or a quality layer (``bands`` empty).

    A band is None where the file has a channel that is not a band of the scene.

    Attributes:
        key: asset key.
        scale: value = DN · scale + offset.
        nodata: DN of missing pixels, None if there is no such value.
        unit: of the values, where it must be stated.
        quality: number of the band that is the quality layer, if the file has bands and such a layer.
    """

    key: str
    path: Path
    bands: Sequence[Band | None] = ()
    scale: float = 1
    offset: float = 0
    nodata: float | None = None
    unit: str | None = None
    quality: int | None = None


def item(
    name: str, sensor: Sensor, files: Sequence[File], times: tuple[datetime, datetime], **more: Any
) -> pystac.Item:
    """A scene as a STAC item.

    Args:
        name: id.
        sensor: the instrument.
        files: the scene's files; the first gives extent and projection.
        times: first and last moment of acquisition; equal if known.
        more: further properties, with ``__`` for the colon.

    Raises:
        LulcbenchError: a file cannot be read or has no georeference.
    """
    with open_raster(str(files[0].path)) as dataset:
        bounds = degrees(dataset)
        crs = rasterio.CRS.to_string(dataset.crs)
    start, end = times
    properties = {key.replace("__", ":"): value for key, value in more.items()} | {"proj:code": crs}
    if states_simulated(files[0].path):
        properties["lulcbench:simulated"] = True
    if start != end:
        properties |= {"start_datetime": start.isoformat(), "end_datetime": end.isoformat()}
    named = "eo:cloud_cover" in properties or any(_common_name(band) for file in files for band in file.bands)
    entry = pystac.Item(
        name,
        mapping(box(*bounds)),
        list(bounds),
        start if start == end else None,
        properties,
        stac_extensions=[PROJECTION, RASTER, *([EO] if named else [])],
    )
    entry.collection_id = sensor.collection
    for file in files:
        scaling: dict[str, Any] = {"raster:scale": file.scale, "raster:offset": file.offset}
        if file.nodata is not None:
            scaling["nodata"] = "nan" if math.isnan(file.nodata) else file.nodata
        scaling |= {"unit": file.unit} if file.unit else {}
        stated = [{"name": band.name} | _common_name(band) | scaling if band else {} for band in file.bands]
        if file.quality:
            stated[file.quality - 1] = {"name": str(sensor.quality_asset)}
        extra = {"bands": stated} if len(stated) > 1 else scaling | _common_name(*file.bands)
        entry.add_asset(file.key, pystac.Asset(str(file.path), media_type="image/tiff", extra_fields=extra))
    return entry


def _common_name(band: Band | None = None) -> dict[str, str]:
    """The common name of the eo extension, which only some bands have."""
    return {"eo:common_name": band.asset} if band and CommonBand.band_range(band.asset) else {}


def write(out: Path, name: str, description: str, items: Sequence[pystac.Item]) -> None:
    """Write ``out/catalog.json`` with a collection for each sensor; the catalog file last."""
    catalog = pystac.Catalog(name, description)
    for collection_id in sorted({item.collection_id or "" for item in items}):
        own = [item for item in items if item.collection_id == collection_id]
        extent = pystac.Extent.from_items(own)
        collection = pystac.Collection(collection_id, description, extent, license="other")
        collection.add_items(own)
        catalog.add_child(collection)
    catalog.normalize_hrefs(str(out))
    for entry in items:
        if all(Path(asset.href).is_relative_to(out) for asset in entry.assets.values()):
            entry.make_asset_hrefs_relative()  # the folder is renamed when it is complete
    for child in catalog.get_children():
        child.save(pystac.CatalogType.SELF_CONTAINED)
    catalog.save_object(include_self_link=False)
