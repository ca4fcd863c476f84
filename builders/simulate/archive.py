"""Writing scenes as archives hold them: Cloud-Optimized GeoTIFFs and STAC items."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pystac
import rasterio
from rasterio.warp import transform_bounds

from builders.simulate.acquisitions import COLLECTIONS, SEASONS, Acquisition
from builders.simulate.mixtures import Footprint
from builders.simulate.scenes import Image, coding
from lulcbench.release import hash_file
from lulcbench.sensors import Sensor

_EXTENSIONS = [
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/view/v1.0.0/schema.json",
]
# No overviews: scenes are read at full resolution, and averaging noise thrice over doubles the time of writing.
_COG = {"driver": "COG", "compress": "zstd", "level": 1, "predictor": "yes", "blocksize": 512, "overviews": "none"}
_TITLES = {
    "sentinel-2-l2a": "Simulated Sentinel-2 Level-2A",
    "landsat-c2-l2": "Simulated Landsat Collection 2 Level-2",
    "planet-fusion": "Simulated Planet Fusion surface reflectance",
}
SOFTWARE = {"lulcbench builders.simulate": "1"}


def write_scene(
    out: Path, taken: Acquisition, sensor: Sensor, images: dict[str, Image], cloud: float, footprint: Footprint
) -> pystac.Item:
    """Write a scene's files under ``out/<collection>/<id>`` and return its item, with absolute hrefs.

    Args:
        out: folder of the catalog.
        taken: the pass.
        sensor: the instrument.
        images: by asset key.
        cloud: cover of what was seen, fraction.
        footprint: area and projection.
    """
    folder = out / COLLECTIONS[taken.sensor] / taken.id
    folder.mkdir(parents=True, exist_ok=True)
    item = _item(taken, cloud, footprint)
    bands = {band.asset: band for band in sensor.bands}
    for key, image in images.items():
        path = folder / f"{key}.tif"
        height, width = image.values.shape
        transform = footprint.transform(image.resolution)
        nodata = 1 if key == "qa_pixel" else 0
        profile = _COG | {"dtype": image.values.dtype, "count": 1, "height": height, "width": width}
        profile |= {"crs": footprint.crs, "transform": transform, "nodata": nodata}
        if key not in bands:
            profile |= {"predictor": "no"}
        with rasterio.open(path, "w", **profile) as file:
            file.write(image.values, 1)
        extra: dict[str, Any] = {
            "proj:shape": [height, width],
            "proj:transform": list(transform)[:6],
            "gsd": image.resolution,
            "data_type": str(image.values.dtype),
            "nodata": nodata,
            "file:size": path.stat().st_size,
            "file:checksum": "1220" + hash_file(path),
        }
        if key in bands:
            code = coding(taken)
            extra |= {
                "raster:scale": code.scale,
                "raster:offset": code.offset,
                "raster:spatial_resolution": image.resolution,
            }
            extra["bands"] = [{"name": bands[key].name, "eo:center_wavelength": bands[key].wavelength}]
        roles = ["data", "reflectance"] if key in bands else ["data-mask" if key == "qa" else "cloud"]
        item.add_asset(key, pystac.Asset(str(path), media_type=pystac.MediaType.COG, roles=roles, extra_fields=extra))
    return item


def _item(taken: Acquisition, cloud: float, footprint: Footprint) -> pystac.Item:
    edges = (footprint.left, footprint.top - footprint.height, footprint.left + footprint.width, footprint.top)
    west, south, east, north = transform_bounds(footprint.crs, "EPSG:4326", *edges)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    properties: dict[str, Any] = {
        "platform": taken.platform,
        "instruments": [{"sentinel2": "msi", "planet": "planetscope"}.get(taken.sensor, _landsat(taken.platform))],
        "constellation": {"sentinel2": "sentinel-2", "planet": "planet"}.get(taken.sensor, "landsat"),
        "eo:cloud_cover": round(100 * cloud, 2),
        "proj:code": footprint.crs,
        "view:sun_azimuth": taken.sun[0],
        "view:sun_elevation": taken.sun[1],
        "processing:software": SOFTWARE,
        "lulcbench:simulated": True,
        "lulcbench:season": SEASONS[taken.season][0],
        "lulcbench:geolocation_error_m": list(taken.shift),
    }
    if taken.baseline is not None:
        properties["s2:processing_baseline"] = taken.baseline
        properties["processing:level"] = "L2"
        # Like the real archive, some items claim that the offset was taken out although the pixels carry it.
        properties["earthsearch:boa_offset_applied"] = taken.baseline == "05.10"
    return pystac.Item(
        id=taken.id,
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=[west, south, east, north],
        datetime=taken.time,
        properties=properties,
        stac_extensions=_EXTENSIONS,
    )


def _landsat(platform: str) -> str:
    return "oli" if platform == "landsat-8" else "etm+"


def write_catalog(out: Path, items: list[pystac.Item], seed: int) -> None:
    """Write the catalog; ``catalog.json`` last, so that its presence says that all is there."""
    catalog = pystac.Catalog("lulcbench-simulated", f"Scenes simulated by lulcbench (seed {seed}); not real imagery.")
    for name in sorted({COLLECTIONS[key] for key in COLLECTIONS}):
        own = [item for item in items if item.properties and _collection_of(item) == name]
        if not own:
            continue
        boxes = [item.bbox for item in own if item.bbox]
        box = [min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)]
        times: list[dt.datetime | None] = [
            min(i.datetime for i in own if i.datetime),
            max(i.datetime for i in own if i.datetime),
        ]
        extent = pystac.Extent(pystac.SpatialExtent([list(map(float, box))]), pystac.TemporalExtent([times]))
        collection = pystac.Collection(name, _TITLES[name], extent, title=_TITLES[name], license="CC-BY-4.0")
        collection.add_items(sorted(own, key=lambda item: item.id))
        catalog.add_child(collection)
    catalog.normalize_hrefs(str(out))
    for item in items:
        item.make_asset_hrefs_relative()
    catalog.catalog_type = pystac.CatalogType.SELF_CONTAINED
    for child in catalog.get_children():
        child.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)
    whole = catalog.to_dict(include_self_link=False)
    _finish(out / "catalog.json", whole)


def _collection_of(item: pystac.Item) -> str:
    constellation = item.properties["constellation"]
    return {"sentinel-2": "sentinel-2-l2a", "landsat": "landsat-c2-l2", "planet": "planet-fusion"}[constellation]


def _finish(path: Path, content: dict[str, Any]) -> None:
    from lulcbench.release import write_atomic

    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())
