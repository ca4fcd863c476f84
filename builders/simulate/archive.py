"""Writing scenes in the form of real archives: Cloud-Optimized GeoTIFFs and STAC items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pystac
import rasterio
from rasterio.warp import transform_bounds

from builders.simulate.acquisitions import Acquisition
from builders.simulate.mixtures import Footprint
from builders.simulate.scenes import Image, coding
from lulcbench._files import hash_file, write_json
from lulcbench.sensors import Sensor

_EXTENSIONS = [
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/view/v1.0.0/schema.json",
]
# No overviews: scenes are only read at full resolution, and computing overviews doubles the time of writing.
_COG = {"driver": "COG", "compress": "zstd", "level": 1, "predictor": "yes", "blocksize": 512, "overviews": "none"}
_TITLES = {
    "sentinel-2-l2a": "Simulated Sentinel-2 Level-2A",
    "landsat-c2-l2": "Simulated Landsat Collection 2 Level-2",
    "planet-fusion": "Simulated Planet Fusion surface reflectance",
}
_INSTRUMENTS = {
    "sentinel-2a": "msi",
    "sentinel-2b": "msi",
    "landsat-7": "etm+",
    "landsat-8": "oli",
    "planetscope": "planetscope",
}
SOFTWARE = {"lulcbench builders.simulate": "1"}


def write_scene(
    out: Path,
    scene: str,
    taken: Acquisition,
    season: str,
    sensor: Sensor,
    images: dict[str, Image],
    cloud: float,
    footprint: Footprint,
) -> pystac.Item:
    """Write the files of a scene to ``out/<collection>/<scene>`` and return its item, with absolute hrefs.

    Args:
        out: folder of the catalog.
        scene: id of the scene.
        taken: the pass.
        season: name of the season of the pass.
        sensor: the sensor.
        images: asset key → image.
        cloud: fraction of the observed area under cloud.
        footprint: area and projection.
    """
    folder = out / sensor.collection / scene
    folder.mkdir(parents=True, exist_ok=True)
    item = _item(scene, taken, season, cloud, footprint)
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
            file.update_tags(SIMULATED="true")
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


def _item(scene: str, taken: Acquisition, season: str, cloud: float, footprint: Footprint) -> pystac.Item:
    edges = (footprint.left, footprint.top - footprint.height, footprint.left + footprint.width, footprint.top)
    west, south, east, north = transform_bounds(footprint.crs, "EPSG:4326", *edges)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    properties: dict[str, Any] = {
        "platform": taken.platform,
        "instruments": [_INSTRUMENTS[taken.platform]],
        "constellation": {"sentinel2": "sentinel-2", "planet": "planet"}.get(taken.sensor, "landsat"),
        "eo:cloud_cover": round(100 * cloud, 2),
        "proj:code": footprint.crs,
        "view:sun_azimuth": taken.sun[0],
        "view:sun_elevation": taken.sun[1],
        "processing:software": SOFTWARE,
        "lulcbench:simulated": True,
        "lulcbench:season": season,
        "lulcbench:geolocation_error_m": list(taken.shift),
    }
    if taken.baseline is not None:
        properties["s2:processing_baseline"] = taken.baseline
        properties["processing:level"] = "L2"
        # As in the real archive, some items state that the offset was removed although the pixels still have it.
        properties["earthsearch:boa_offset_applied"] = taken.baseline == "05.10"
    return pystac.Item(
        id=scene,
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=[west, south, east, north],
        datetime=taken.time,
        properties=properties,
        stac_extensions=_EXTENSIONS,
    )


def write_catalog(out: Path, items: dict[str, list[pystac.Item]], seed: int) -> None:
    """Write the catalog of items by collection; ``catalog.json`` last, so that it exists only in complete catalogs."""
    catalog = pystac.Catalog("lulcbench-simulated", f"Scenes simulated by lulcbench (seed {seed}); not real imagery.")
    for name, members in items.items():
        boxes = [item.bbox for item in members if item.bbox]
        low, high = ([f(box[i] for box in boxes) for i in ij] for f, ij in ((min, (0, 1)), (max, (2, 3))))
        times = [item.datetime for item in members if item.datetime]
        extent = pystac.Extent(pystac.SpatialExtent([[*low, *high]]), pystac.TemporalExtent([[min(times), max(times)]]))
        collection = pystac.Collection(name, _TITLES[name], extent, title=_TITLES[name], license="CC-BY-4.0")
        collection.add_items(sorted(members, key=lambda item: item.id))
        catalog.add_child(collection)
    catalog.normalize_hrefs(str(out))
    for item in catalog.get_items(recursive=True):
        item.make_asset_hrefs_relative()
    catalog.catalog_type = pystac.CatalogType.SELF_CONTAINED
    for child in catalog.get_children():
        child.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)
    content = catalog.to_dict(include_self_link=False)
    write_json(out / "catalog.json", content)
