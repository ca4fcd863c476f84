"""Croissant metadata of a release, with the properties of GeoCroissant.

Croissant: https://docs.mlcommons.org/croissant/docs/croissant-spec.html; GeoCroissant 1.0:
https://docs.mlcommons.org/croissant/docs/croissant-geo-spec.html. mlcroissant writes and checks the former and leaves
the properties of the latter as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import mlcroissant as mlc
import pyarrow.parquet as pq

from lulcbench._files import hash_file
from lulcbench.grid import BLOCK_TILES, TILE_SIZE
from lulcbench.release import INDEX, ArrayKey, Manifest, thumbnails_of

CONFORMS_TO = "http://mlcommons.org/croissant/geo/1.0"
NAMESPACE = "http://mlcommons.org/croissant/geo/"
URL = "https://github.com/lulcbench/lulcbench"
# The splits that Croissant names; others have no value of the kind.
_SPLITS = {name: f"http://mlcommons.org/croissant/{kind}Split" for name, kind in
           {"train": "Training", "val": "Validation", "test": "Test"}.items()}  # fmt: skip
_DTYPES = {"string": mlc.DataType.TEXT, "int64": mlc.DataType.INTEGER, "double": mlc.DataType.FLOAT}


def croissant(
    release: Manifest,
    folder: Path,
    description: str,
    columns: Mapping[str, str],
    bbox: tuple[float, float, float, float],
    days: tuple[str, str],
) -> dict[str, Any]:
    """The content of ``croissant.json``.

    Args:
        release: the manifest, without files.
        folder: of the release, whose index and thumbnails are written.
        description: of the release.
        columns: what columns of the index hold, where their names do not say it.
        bbox: west, south, east, north in degrees.
        days: first and last day (YYYY-MM-DD).
    """
    schema = pq.read_schema(folder / INDEX)
    fields = [
        mlc.Field(
            id=f"tiles/{column.name}",
            name=column.name,
            description=columns.get(column.name, column.name),
            data_types=[_DTYPES[str(column.type)]],
            source=mlc.Source(file_object="index", extract=mlc.Extract(column=column.name)),
            references=mlc.Source(field="splits/name") if column.name == "split" else mlc.Source(),
        )
        for column in schema
        if str(column.type) in _DTYPES and not column.name.startswith(("stac", "proj", "type"))
    ]
    licences = {source.licence for source in release.sources}
    licences |= {info.licence for info in release.sensors.values()}
    licences |= {info.licence for info in release.labels.values()}
    metadata = mlc.Metadata(
        name=release.id,
        description=description,
        url=URL,
        version=release.version,
        license=sorted(licences),
        cite_as=f"{release.title}, version {release.version}",
        # A release has the same bytes whenever it is built, so no date of the day.
        date_published=datetime(max(release.years), 12, 31),
        distribution=[
            _table("index", INDEX, folder, "One row per tile: split, row in the arrays, classes and clouds"),
            *(
                _table(f"thumbnails-{split}", thumbnails_of(split), folder, f"Pictures of tiles of split {split}")
                for split in release.splits
                if (folder / thumbnails_of(split)).is_file()
            ),
            mlc.FileObject(
                id="root", name="root", content_url=".", encoding_formats=["local-folder"], sha256="0" * 64,
                description="The release folder; release.json lists every file with its SHA-256 and licence",
            ),
            *(
                mlc.FileSet(
                    id=str(array),
                    name=str(array),
                    contained_in=["root"],
                    includes=[f"{array}/**"],
                    encoding_formats=["application/vnd.zarr"],
                    description=f"Zarr v3 array of {_content(release, array)}, {release.array_rows} rows of tiles",
                )
                for array in release.arrays
            ),
        ],
        record_sets=[
            _splits(release),
            mlc.RecordSet(id="tiles", name="tiles", key=["tiles/id"], fields=fields),
        ],
    )  # fmt: skip
    content: dict[str, Any] = metadata.to_json()
    content["@context"]["geocr"] = NAMESPACE
    content["conformsTo"] = [content["conformsTo"], CONFORMS_TO]
    return content | _geo(release, bbox, days)


def _geo(release: Manifest, bbox: tuple[float, float, float, float], days: tuple[str, str]) -> dict[str, Any]:
    """Properties of GeoCroissant and of schema.org that say where, when and how the ground was seen."""
    west, south, east, north = bbox
    resolutions = [f"{name} {info.resolution} m" for name, info in release.sensors.items()]
    resolutions += [f"{name} labels {info.resolution} m" for name, info in release.labels.items()]
    bands = [(f"{name}/{band.name}", band) for name, info in release.sensors.items() for band in info.bands]
    content: dict[str, Any] = {
        "spatialCoverage": {"@type": "Place", "geo": {"@type": "GeoShape", "box": f"{south} {west} {north} {east}"}},
        "temporalCoverage": "/".join(days),
        "geocr:coordinateReferenceSystem": release.crs,
        "geocr:spatialResolution": ", ".join(resolutions),
        "geocr:samplingStrategy": (
            f"Tiles of {TILE_SIZE} m on a fixed grid; spatial blocks ({BLOCK_TILES} tiles wide in European releases) "
            "go to one split as a whole, with a buffer of unused tiles between splits."
        ),
        "geocr:spatialBias": f"Regions: {', '.join(release.regions)}; tiles elsewhere are not part of the release.",
    }
    if release.seasons:
        content["geocr:temporalResolution"] = f"seasons: {', '.join(season.name for season in release.seasons)}"
    if bands:
        content["geocr:bandConfiguration"] = {
            "@type": "geocr:BandConfiguration",
            "geocr:totalBands": len(bands),
            "geocr:bandNameList": [name for name, _ in bands],
        }
    spectral = [
        {
            "@type": "geocr:SpectralBand",
            "name": name,
            "geocr:centerWavelength": {
                "@type": "QuantitativeValue",
                "value": round(band.wavelength * 1000),
                "unitText": "nm",
            },
        }
        for name, band in bands
        if band.wavelength is not None
    ]
    return content | ({"geocr:spectralBandMetadata": spectral} if spectral else {})


def _splits(release: Manifest) -> mlc.RecordSet:
    """The splits as ``cr:Split``, which the field ``tiles/split`` refers to."""
    return mlc.RecordSet(
        id="splits",
        name="splits",
        description="Splits of the release; spatial blocks belong to one split as a whole.",
        data_types=[mlc.DataType.SPLIT],
        key=["splits/name"],
        fields=[
            mlc.Field(id="splits/name", name="name", description="Name", data_types=[mlc.DataType.TEXT]),
            mlc.Field(id="splits/url", name="url", description="Kind of split", data_types=[mlc.DataType.URL]),
            mlc.Field(id="splits/tiles", name="tiles", description="Tiles", data_types=[mlc.DataType.INTEGER]),
        ],
        data=[
            {"splits/name": name, "splits/url": _SPLITS.get(name, ""), "splits/tiles": tiles}
            for name, tiles in release.splits.items()
        ],
    )


def _table(name: str, path: str, folder: Path, description: str) -> mlc.FileObject:
    """A Parquet file, by the type that mlcroissant knows."""
    return mlc.FileObject(
        id=name,
        name=name,
        content_url=path,
        encoding_formats=["application/x-parquet"],
        sha256=hash_file(folder / path),
        description=description,
    )


def _content(release: Manifest, array: ArrayKey) -> str:
    """What an array holds, in words."""
    for name, info in release.sensors.items():
        if array in info.clear_arrays(name):
            return f"the numbers of clear observations in {name} composites"
    return f"{array.name} labels" if array.name in release.labels else f"{array.name} imagery"
