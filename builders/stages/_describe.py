"""What tells others about a release: STAC collection, Croissant metadata, and the hub's card."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pystac

from builders.stages._croissant import croissant
from builders.stages._index import ML_AOI, ZARR
from lulcbench._files import write_atomic
from lulcbench.legend import LEVELS, legend
from lulcbench.release import INDEX, ArrayKey, Manifest, SensorInfo, thumbnails_of
from lulcbench.release.index import clear_column, cloud_column, fraction_column, valid_column

LICENCES = {
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
}
ORGANISATION = "hf://lulcbench"  # where `lulcbench download NAME` looks
OTHER_LICENCE = ["license: other", "license_name: see-release-json"]
SIMULATED = "**Simulated data.** The scenes were rendered, not observed; scores on them say nothing about real land."


def describe(release: Manifest, folder: Path) -> None:
    """Write ``collection.json``, ``croissant.json`` and ``README.md`` of a release whose index is written."""
    bbox, first, last = _extent(folder)
    _json(folder / "collection.json", _collection(release, folder, bbox, first, last))
    days = (first.date().isoformat(), last.date().isoformat())
    _json(folder / "croissant.json", croissant(release, folder, _description(release), _columns(release), bbox, days))
    write_atomic(folder / "README.md", _card(release, folder).encode())


def _extent(folder: Path) -> tuple[tuple[float, float, float, float], datetime, datetime]:
    """West, south, east and north of all tiles in degrees, and the first and last moment."""
    index = pq.read_table(folder / INDEX, columns=["bbox", "start_datetime", "end_datetime"])
    boxes = index.column("bbox").to_pylist()
    west, south = min(b["xmin"] for b in boxes), min(b["ymin"] for b in boxes)
    east, north = max(b["xmax"] for b in boxes), max(b["ymax"] for b in boxes)
    first, last = pc.min(index.column("start_datetime")).as_py(), pc.max(index.column("end_datetime")).as_py()
    return (west, south, east, north), first, last


def _collection(
    release: Manifest, folder: Path, bbox: tuple[float, float, float, float], first: datetime, last: datetime
) -> dict[str, Any]:
    classes = [
        {"value": c.code, "name": str(c.code), "title": c.name, "color_hint": c.color[1:].upper()}
        for c in legend().classes.values()
        if c.level == 4
    ]
    collection = pystac.Collection(
        id=release.id,
        title=release.title,
        description=_description(release),
        extent=pystac.Extent(pystac.SpatialExtent([list(bbox)]), pystac.TemporalExtent([[first, last]])),
        license=licence_of(release),
        keywords=["LULC", *(["LUISA"] if release.labels else []), "land cover", *release.sensors],
        providers=[
            pystac.Provider(
                source.title, source.attribution or None, [pystac.ProviderRole.PRODUCER], url=source.href or None
            )
            for source in release.sources
        ],
        stac_extensions=[
            "https://stac-extensions.github.io/ml-aoi/v0.2.0/schema.json",
            "https://stac-extensions.github.io/xarray-assets/v1.0.0/schema.json",
            "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
            "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
            *(["https://stac-extensions.github.io/classification/v2.0.0/schema.json"] if release.labels else []),
        ],
        summaries=pystac.Summaries(
            {
                "ml-aoi:split": [ML_AOI[split] for split in release.splits if split in ML_AOI],
                "proj:code": [release.crs],
                "gsd": sorted({info.resolution for info in release.sensors.values()}),
                "bands": [
                    {"name": band.name, "instrument": name, "unit": band.unit}
                    | ({} if band.wavelength is None else {"eo:center_wavelength": band.wavelength})
                    for name, info in release.sensors.items()
                    for band in info.bands
                ],
            }
            | ({"classification:classes": classes} if release.labels else {}),
            maxcount=1000,  # by default pystac leaves out lists of more than 25
        ),
        assets={
            "items": pystac.Asset(
                f"./{INDEX}",
                title="One STAC item per tile, as stac-geoparquet",
                media_type="application/vnd.apache.parquet",
                roles=["collection-mirror"],
            ),
            **{
                f"thumbnails-{split}": pystac.Asset(
                    f"./{thumbnails_of(split)}",
                    title=f"Pictures of tiles of split {split}",
                    media_type="application/x-parquet",
                    roles=["metadata"],  # a thumbnail is one image
                )
                for split in _pictured(release, folder)
            },
            "arrays": pystac.Asset(
                "./",
                title="All arrays, as one Zarr hierarchy",
                media_type=ZARR,
                roles=["data", "labels"],
                extra_fields={"xarray:open_kwargs": {"engine": "zarr", "consolidated": True}},
            ),
        },
    )
    collection.item_assets = _item_assets(release)
    content = collection.to_dict(include_self_link=False, transform_hrefs=False)
    links = [pystac.Link(pystac.RelType.ROOT, "./collection.json", pystac.MediaType.JSON)]
    links += [pystac.Link(pystac.RelType.LICENSE, LICENCES[name]) for name in licences(release) if name in LICENCES]
    content["links"] = [link.to_dict(transform_href=False) for link in links]
    return content


def licences(release: Manifest) -> list[str]:
    """All licences of a release, sorted."""
    found = {source.licence for source in release.sources}
    found |= {info.licence for info in release.sensors.values()}
    return sorted(found | {info.licence for info in release.labels.values()})


def licence_of(release: Manifest) -> str:
    """The licence of all parts of a release; ``other`` if there are several."""
    found = licences(release)
    return found[0] if len(found) == 1 and found[0] in LICENCES else "other"


def _item_assets(release: Manifest) -> dict[str, Any]:
    """What assets of items have in common."""
    defined = {}
    for name, info in release.sensors.items():
        for array in info.arrays(name):
            bands = [{"name": band.name} for band in info.bands]
            defined[str(array)] = ("data", f"{array} imagery, {info.resolution} m", {"bands": bands})
        for array in info.clear_arrays(name):
            defined[str(array)] = ("metadata", f"{array} numbers of clear observations, {info.resolution} m", {})
    for name, labels in release.labels.items():
        for array in (ArrayKey(name, year) for year in labels.years):
            defined[str(array)] = ("labels", f"{array} labels, {labels.resolution} m", {})
    return {
        key: pystac.ItemAssetDefinition.create(title, None, ZARR, [role], extra_fields=extra)
        for key, (role, title, extra) in defined.items()
    }


def _pictured(release: Manifest, folder: Path) -> list[str]:
    """Splits with thumbnails: all, unless a large release shows only a part of its tiles."""
    return [split for split in release.splits if (folder / thumbnails_of(split)).is_file()]


def _columns(release: Manifest) -> dict[str, str]:
    """What columns of the index hold, where their names do not say it."""
    described = {"row": "Row of the tile along the tile axis of the arrays"}
    for name, info in release.sensors.items():
        for array in info.arrays(name):
            described[valid_column(array)] = f"Share of the pixels of {array} that have a value"
            described[cloud_column(array)] = (
                f"Share of the observed pixels of {array} that were not clear; null if unknown"
            )
            if array.clear in info.clear_arrays(name):
                described[clear_column(array)] = f"Mean number of clear observations of a pixel of {array} in a season"
    for name, labels in release.labels.items():
        for array in (ArrayKey(name, year) for year in labels.years):
            for code, entry in legend().classes.items():
                described[fraction_column(array, code)] = (
                    f"Share of the label pixels of {array} in {code}, {entry.name}"
                )
    return described


def _description(release: Manifest) -> str:
    return f"{SIMULATED.replace('*', '')} {release.description}" if release.simulated else release.description


def _label_table(release: Manifest) -> list[str]:
    if not release.labels:
        return []
    lines = ["| labels | pixel | years | splits | licence |", "|---|---|---|---|---|"]
    for name, info in release.labels.items():
        cells = (name, f"{info.resolution} m", ", ".join(map(str, info.years)), ", ".join(info.splits), info.licence)
        lines.append(f"| {' | '.join(cells)} |")
    return ["\n".join(lines)]


def _composites(release: Manifest) -> list[str]:
    """How composites were made, and where the number of clear observations is."""
    made = [f"{info.composite} ({name})" for name, info in release.sensors.items() if info.composite]
    lines = [f"Pixels are composites of the clear observations of a season: {', '.join(made)}."] if made else []
    counts = [f"`{key}`" for name, info in release.sensors.items() for key in info.clear_arrays(name)]
    if counts:
        lines.append(
            f"How many these were is in the arrays {', '.join(counts)} and, on average, in the columns `clear_…` of "
            "the index."
        )
    return [" ".join(lines)] if lines else []


def _years(info: SensorInfo) -> str:
    """Years of composites, and spans of dated imagery."""
    return ", ".join([*map(str, info.years), *(f"{first}-{last} by date" for first, last in info.spans)])


def _example(release: Manifest) -> str:
    """A line of code that reads the first split."""
    split = next(iter(release.splits))
    sensor = next((name for name, info in release.sensors.items() if info.years), next(iter(release.sensors)))
    dated = not release.sensors[sensor].years
    options = [f'"{ORGANISATION}/{release.name}"', f'split="{split}"', f'sensors="{sensor}"']
    if not dated:
        options.append(f"year={release.sensors[sensor].years[-1]}")
    sources = [name for name, info in release.labels.items() if split in info.splits]
    if "luisa" not in sources:
        options.append(f'labels="{sources[0]}"' if sources else "labels=None")
    if release.sensors[sensor].statistics is None:
        options.append("normalize=False")
    return f"{split} = {'LuisaSeries' if dated else 'LuisaSeg'}({', '.join(options)})"


def _card(release: Manifest, folder: Path) -> str:
    """The Hugging Face dataset card."""
    tiles = sum(release.splits.values())
    tags = ["earth-observation", "land-cover", *(["LUISA"] if release.labels else []), "zarr"]
    tags += ["simulated"] if release.simulated else []
    size = "n<1K" if tiles < 1000 else "1K<n<10K" if tiles < 10_000 else "10K<n<100K"
    lines = [
        "---",
        *(["license: " + licence_of(release).lower()] if licence_of(release) != "other" else OTHER_LICENCE),
        "task_categories:\n- image-segmentation\n- image-classification",
        "\n- ".join(["tags:", *tags]),
        f"pretty_name: {json.dumps(release.title)}",
        f"size_categories:\n- {size}",
        # The hub requires names of splits without hyphens.
        "configs:\n- config_name: thumbnails\n  default: true\n  data_files:\n"
        + "".join(
            f"  - split: {split.replace('-', '_')}\n    path: {thumbnails_of(split)}\n"
            for split in _pictured(release, folder)
        )
        + "- config_name: index\n  data_files:\n  - split: tiles\n    path: index.parquet",
        "---",
        f"# {release.title}",
        *([SIMULATED] if release.simulated else []),
        release.description,
        f"```python\nfrom lulcbench import {_example(release).split()[2].split('(')[0]}\n\n{_example(release)}\n```",
        "All arrays are one Zarr v3 hierarchy, which xarray opens as it is, from a folder or over HTTP:",
        "```python\nimport xarray as xr\n\nrelease = xr.open_zarr(ROOT)\n"
        f'tiles = release.isel(tile=(release.split == "{next(iter(release.splits))}").compute())\n```',
        f"Version {release.version}; regions {', '.join(release.regions)}; {release.crs}, tiles of 4,800 m. "
        + (
            "Labels are in the LUISA legend "
            f"({' / '.join(str(len(legend().codes(level))) for level in LEVELS)} classes at levels 1 to 4)."
            if release.labels
            else "Imagery alone, without labels."
        ),
        *_label_table(release),
        "| split | tiles |\n|---|---|\n" + "\n".join(f"| {s} | {n} |" for s, n in release.splits.items()),
        "| sensor | pixel | bands | years | licence |\n|---|---|---|---|---|\n"
        + "\n".join(
            f"| {name} | {i.resolution} m | {', '.join(i.band_names)} | {_years(i)} | {i.licence} |"
            for name, i in release.sensors.items()
        ),
        *_composites(release),
        f"Seasons: {', '.join(f'{s.name} {s.start} to {s.end}' for s in release.seasons)}.",
        "| sensor | stored as | value | nodata | unit |\n|---|---|---|---|---|\n"
        + "\n".join(
            f"| {name} | {i.coding.dtype} | stored × {i.coding.scale:g} + {i.coding.offset:g} | {i.coding.nodata} | "
            f"{i.bands[0].unit} |"
            for name, i in release.sensors.items()
        ),
        "## Sources\n\n"
        + "\n".join(
            f"- {s.title}{f': {s.attribution}' if s.attribution else ''} ({s.licence})"
            f"{f' <{s.href}>' if s.href else ''}{f', SHA-256 {s.sha256}' if s.sha256 else ''}"
            for s in release.sources
        ),
    ]
    return "\n\n".join(lines).replace("\n\nlicense", "\nlicense") + "\n"


def _json(path: Path, content: dict[str, Any]) -> None:
    write_atomic(path, (json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode())
