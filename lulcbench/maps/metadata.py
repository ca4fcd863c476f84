"""Metadata of a complete map: STAC item of each year, collection, and the attributes of the Zarr hierarchy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import zarr

from lulcbench import __version__
from lulcbench._files import hash_file, write_atomic
from lulcbench.areas import Area
from lulcbench.geozarr import CHUNKS, consolidate, count_chunks
from lulcbench.grid import CRS, Bounds
from lulcbench.legend import ClassScheme
from lulcbench.legend.scheme import SUBSET
from lulcbench.maps.answers import UNCERTAIN
from lulcbench.maps.ensemble import AnyModel, Ensemble
from lulcbench.maps.lattice import Frame
from lulcbench.maps.thumbnail import THUMBNAIL, write_thumbnail
from lulcbench.release import Release

FORMAT: Final = "lulcbench-map/1"
ITEM, COLLECTION = "item.json", "collection.json"
_EXTENSIONS = [
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
]


def tags(model: AnyModel | Ensemble, release: Release, year: int) -> dict[str, str]:
    """Tags of the GeoTIFFs of a year."""
    simulated = release.simulated or model.info.simulated
    return {
        "TITLE": f"{model.info.name}, {release.manifest.title}, {year}",
        "MODEL": f"{model.info.name} {model.digest}",
        "RELEASE": f"{release.id} {release.digest}",
        "YEAR": str(year),
        "LEGEND": model.info.scheme.digest,
        **_subset_tag(model.info.scheme),
        **({"SIMULATED": "true"} if simulated else {}),
    }


def write_metadata(
    folder: Path,
    model: AnyModel | Ensemble,
    release: Release,
    years: Sequence[int],
    frame: Frame,
    bounds: Bounds,
    damaged: Mapping[str, str],
    plan: Mapping[str, Any],
    area: Area | None = None,
) -> None:
    """Write the STAC files, then the metadata of the hierarchy: a folder with ``zarr.json`` is a complete map.

    Args:
        folder: of the map.
        model: that predicted it.
        release: that was mapped.
        years: of the map.
        frame: of its arrays.
        bounds: of the area.
        damaged: tiles that could not be read.
        plan: all options of the map.
        area: the polygons that were mapped, if they are not all of the bounds.
    """
    manifest, info, scheme = release.manifest, model.info, model.info.scheme
    simulated = release.simulated or info.simulated
    facts: dict[str, Any] = {
        "lulcbench:format": FORMAT,
        "lulcbench:version": __version__,
        "lulcbench:model": {
            "name": info.name,
            "architecture": info.architecture,
            "digest": model.digest,
            "training_digest": info.training_digest,
            "level": info.level,
            "reach": info.reach,
            "temperature": info.temperature,
            **({"members": [member.digest for member in model.members]} if isinstance(model, Ensemble) else {}),
            **({"stacked": list(info.members)} if info.members else {}),
        },
        "lulcbench:release": {"id": release.id, "digest": release.digest},
        "lulcbench:simulated": simulated,
        "lulcbench:area": plan["area"],
        "lulcbench:halo": frame.lattice.halo,
        "lulcbench:overlap": frame.lattice.overlap,
        "lulcbench:smoothing": plan["smoothing"],
        "lulcbench:mapping_unit": plan["mapping_unit"],
        "lulcbench:conformal": plan["conformal"],
        "lulcbench:damaged": dict(sorted(damaged.items())),
        **scheme.attributes,
    }
    title = f"Land cover by {info.name}, {manifest.title}"
    description = (
        f"{'SIMULATED DATA: results do not apply to any real location. ' if simulated else ''}"
        f"{_classes(scheme)} and their probabilities, predicted by {info.name} ({info.architecture}) from {release.id}."
    )
    licences = sorted({file.licence for file in manifest.files})
    west, south, east, north = _lonlat(bounds)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    geometry = _geometry(area, bounds) if area else {"type": "Polygon", "coordinates": [ring]}
    layer_titles = _layer_titles(folder / str(years[0]))
    for year in years:
        properties = {
            "datetime": None,
            "start_datetime": f"{year}-01-01T00:00:00Z",
            "end_datetime": f"{year}-12-31T23:59:59Z",
            "title": f"{title}, {year}",
            "description": description,
            "license": licences[0] if len(licences) == 1 else "other",
            "proj:code": CRS,
            "proj:bbox": list(frame.bounds),
            "proj:shape": list(frame.shape()),
            "proj:transform": [
                frame.lattice.resolution,
                0,
                frame.bounds[0],
                0,
                -frame.lattice.resolution,
                frame.bounds[3],
            ],
            **facts,
        }
        item: dict[str, Any] = {
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": _EXTENSIONS,
            "id": f"{info.name}-{year}",
            "collection": f"{info.name}-{release.id}",
            "bbox": [west, south, east, north],
            "geometry": geometry,
            "properties": properties,
            "assets": {
                "zarr": {
                    "href": "./zarr.json",
                    "type": "application/vnd.zarr; version=3",
                    "roles": ["data"],
                    "title": f"Zarr group of {year}",
                    "classification:classes": _stac_classes(scheme, scheme.codes()),
                },
                "thumbnail": {
                    "href": f"./{THUMBNAIL}",
                    "type": "image/png",
                    "roles": ["thumbnail"],
                    "title": f"{layer_titles[scheme.layers[-1]]}, {year}",
                },
            },
            "links": [
                {"rel": "root", "href": f"../{COLLECTION}", "type": "application/json"},
                {"rel": "collection", "href": f"../{COLLECTION}", "type": "application/json"},
                {"rel": "parent", "href": f"../{COLLECTION}", "type": "application/json"},
            ],
        }
        if plan["cog"]:
            item["assets"] |= {
                path.stem: {
                    "href": f"../cog/{year}/{path.name}",
                    "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                    "roles": ["data"],
                    "title": layer_titles.get(path.stem, path.stem),
                    "file:checksum": "1220" + hash_file(path),  # multihash of a SHA-256
                    "file:size": path.stat().st_size,
                    **({"classification:classes": own} if (own := _classes_of(scheme, path.stem)) else {}),
                }
                for path in sorted((folder / "cog" / str(year)).glob("*.tif"))
            }
        write_thumbnail(folder / str(year), scheme)
        _write(folder / str(year) / ITEM, item)
    collection = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": f"{info.name}-{release.id}",
        "title": title,
        "description": description,
        "license": licences[0] if len(licences) == 1 else "other",
        "extent": {
            "spatial": {"bbox": [[west, south, east, north]]},
            "temporal": {"interval": [[f"{min(years)}-01-01T00:00:00Z", f"{max(years)}-12-31T23:59:59Z"]]},
        },
        "providers": [
            {"name": source.attribution or source.title, "roles": ["producer"]} for source in manifest.sources
        ],
        **facts,
        "links": [
            {"rel": "root", "href": f"./{COLLECTION}", "type": "application/json"},
            *({"rel": "item", "href": f"./{year}/{ITEM}", "type": "application/geo+json"} for year in years),
        ],
    }
    _write(folder / COLLECTION, collection)
    for year in years:
        consolidate(folder / str(year), json.loads((folder / str(year) / "zarr.json").read_bytes())["attributes"])
    attributes = {
        "title": title,
        "summary": description,
        "license": "; ".join(licences),
        "Conventions": "CF-1.11",
        "years": list(years),
        **facts,
        "legend": [
            {"code": c.code, "name": c.name, "level": c.level, "parent": c.parent, "color": c.color}
            for c in scheme.classes.values()
        ],
        "legend_digest": scheme.digest,
        CHUNKS: count_chunks(folder),
    }
    consolidate(folder, attributes)


def _layer_titles(folder: Path) -> dict[str, str]:
    """Long names of the layers of a year, such as "Class code (level 1)"."""
    arrays = zarr.open_group(folder / "0", mode="r").arrays()
    found = {name: str(array.attrs.get("long_name", name)) for name, array in arrays}
    return {name: title[:1].upper() + title[1:] for name, title in found.items()}


def _classes(scheme: ClassScheme) -> str:
    """The classes of a map as the beginning of a sentence."""
    if scheme.subset is None:
        return f"Classes of the LUISA legend at {scheme.depth} levels"
    names = ", ".join(scheme.names)
    return f"Classes of a legend subset ({names}; pixels of other classes are mapped as one of these)"


def _subset_tag(scheme: ClassScheme) -> dict[str, str]:
    """The LUISA codes of the classes of a legend subset, as a tag of a GeoTIFF."""
    return {} if scheme.subset is None else {"SUBSET": json.dumps(scheme.attributes[SUBSET], ensure_ascii=False)}


def _classes_of(scheme: ClassScheme, layer: str) -> list[dict[str, Any]]:
    """Classes of a layer of codes, by which STAC Browser colours its GeoTIFF; of other layers an empty list."""
    if layer == "certain":
        uncertain = {
            "value": UNCERTAIN,
            "name": str(UNCERTAIN),
            "title": "Uncertain at all levels",
            "color_hint": "000000",
        }
        return [*_stac_classes(scheme, scheme.classes), uncertain]
    levels = dict(zip(scheme.layers, scheme.levels, strict=True))
    return _stac_classes(scheme, scheme.codes(levels[layer])) if layer in levels else []


def _stac_classes(scheme: ClassScheme, codes: Iterable[int]) -> list[dict[str, Any]]:
    return [
        {
            "value": code,
            "name": str(code),
            "title": scheme.classes[code].name,
            "color_hint": scheme.classes[code].color[1:].upper(),
            **_description(scheme, code),
        }
        for code in codes
    ]


def _description(scheme: ClassScheme, code: int) -> dict[str, str]:
    """What a class of a legend subset stands for; LUISA codes say it themselves."""
    if scheme.subset is None:
        return {}
    return {"description": f"LUISA {', '.join(map(str, scheme.luisa_codes(code)))}"}


def _lonlat(bounds: Bounds) -> Bounds:
    from pyproj import Transformer

    transformer = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    west, south, east, north = transformer.transform_bounds(*bounds, densify_pts=21)
    return tuple(round(value, 7) for value in (west, south, east, north))  # type: ignore[return-value]


def _geometry(area: Area, bounds: Bounds) -> dict[str, Any]:
    """The part of an area inside the bounds, in degrees, as GeoJSON."""
    import shapely
    from pyproj import Transformer

    transformer = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    inside = shapely.intersection(area.geometry, shapely.box(*bounds))
    lonlat = shapely.transform(inside, transformer.transform, interleaved=False)
    geometry: dict[str, Any] = json.loads(shapely.to_geojson(shapely.set_precision(lonlat, 1e-7)))
    return geometry


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_atomic(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
