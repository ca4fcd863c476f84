"""The index of a release: one STAC item per tile, as stac-geoparquet."""

from __future__ import annotations

from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pystac
import shapely
import stac_geoparquet.arrow
from rasterio.warp import transform_geom

from builders.recipe import Recipe
from builders.stages._hierarchy import TileAxis
from builders.stages._registration import ShiftJob, measure_shifts
from builders.stages.materialize import Note, Notes
from builders.stages.plan import Planned
from lulcbench._parallel import each
from lulcbench.grid import CRS, LABEL_RESOLUTION
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend
from lulcbench.release import INDEX, ArrayKey, Row
from lulcbench.release.index import clear_column, cloud_column, fraction_column, valid_column
from lulcbench.seasons import extent
from lulcbench.sensors import sensor

ZARR = "application/vnd.zarr; version=3"
ML_AOI = {"train": "train", "val": "validate", "test": "test"}
EXTENSIONS = [
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/ml-aoi/v0.2.0/schema.json",
    "https://stac-extensions.github.io/grid/v1.1.0/schema.json",
]


def write_index(
    recipe: Recipe, axis: TileAxis, notes: Notes, cache: Path, folder: Path, pool: Executor | None = None
) -> None:
    """Write ``index.parquet``.

    Columns: id, geometry, bbox, split, row, region, block, ix, iy, scenes, fractions, mean numbers of clear
    observations, displacements of sensors.
    """
    tiles = [row.tile.id for rows in axis.splits.values() for row in rows]
    shifts = dict(each(pool, measure_shifts, [_shift_job(recipe, tile, notes[tile], cache) for tile in tiles]))
    items = [
        _item(recipe, row, Row(number), notes[row.tile.id], cache, shifts[row.tile.id]).to_dict(
            include_self_link=False, transform_hrefs=False
        )
        for split, rows in axis.splits.items()
        for number, row in enumerate(rows, start=axis.first_rows[split])
    ]
    table = pa.Table.from_batches(stac_geoparquet.arrow.parse_stac_items_to_arrow(items))
    for array in {
        array for found in notes.values() for array in found if array.name in {rule.name for rule in recipe.sensors}
    }:
        position = table.schema.get_field_index(cloud_column(array))
        if pa.types.is_null(table.schema.types[position]):  # unknown in all tiles
            clouds = table.column(position).cast(pa.float64())
            table = table.set_column(position, pa.field(cloud_column(array), pa.float64()), clouds)
    stac_geoparquet.arrow.to_parquet(table, folder / INDEX)


def class_fractions(codes: np.ndarray, array: ArrayKey) -> dict[str, float]:
    """Share of a tile's pixels in every class of the four levels, by column."""
    columns = {}
    for level in LEVELS:
        indices = legend().encode(codes, level)
        counts = np.bincount(indices.ravel(), minlength=IGNORE_INDEX + 1)
        for code, n in zip(legend().codes(level), counts, strict=False):
            columns[fraction_column(array, code)] = float(n) / codes.size
    return columns


def _shift_job(recipe: Recipe, tile: str, notes: dict[ArrayKey, Note], cache: Path) -> ShiftJob:
    images = []
    for rule in recipe.sensors:
        instrument = sensor(rule.name)
        bands = tuple(map(instrument.band, rule.bands))
        for year in rule.years:
            key = ArrayKey(rule.name, year)
            images.append((key, bands, instrument.resolution, cache / notes[key].file))
    return ShiftJob(tile, tuple(images))


def _item(
    recipe: Recipe, row: Planned, number: Row, notes: dict[ArrayKey, Note], cache: Path, shifts: dict[str, float]
) -> pystac.Item:
    tile = row.tile
    outline = transform_geom(CRS, "EPSG:4326", shapely.box(*tile.bounds).__geo_interface__)
    spans = [span for rule in recipe.sensors for span in rule.days(recipe.seasons)]
    if recipe.labelled(row.split):
        spans.append(extent(recipe.seasons, [label.year for label in recipe.labels]))
    start, end = min(first for first, _ in spans), max(last for _, last in spans)
    properties: dict[str, Any] = {
        "split": row.split,
        "row": number,
        "region": row.region,
        "block": row.block,
        "ix": tile.ix,
        "iy": tile.iy,
        "scenes": sorted({scene for note in notes.values() for scene in note.scenes}),
        "proj:code": CRS,
        "proj:bbox": list(tile.bounds),
        "grid:code": f"LULCBENCH-{tile.id}",
    }
    properties |= shifts
    if row.split in ML_AOI:
        properties["ml-aoi:split"] = ML_AOI[row.split]
    sources = {label.name for label in recipe.labels}
    assets = {}
    for array, note in sorted(notes.items()):
        labels = array.name in sources
        resolution = LABEL_RESOLUTION if labels else sensor(array.name).resolution
        grid = {"proj:shape": list(tile.shape(resolution)), "proj:transform": list(tile.transform(resolution))[:6]}
        if labels:
            properties |= class_fractions(np.load(cache / note.file, allow_pickle=False), array)
        else:
            properties[valid_column(array)] = note.valid
            properties[cloud_column(array)] = note.cloud
            if note.clear_file:
                properties[clear_column(array)] = note.clear
                assets[str(array.clear)] = pystac.Asset(
                    f"./{array.clear}",
                    title=f"Number of clear observations of {array}, row {number}",
                    media_type=ZARR,
                    roles=["metadata"],
                    extra_fields=grid,
                )
        assets[str(array)] = pystac.Asset(
            f"./{array}",
            title=f"{array}, row {number}",
            media_type=ZARR,
            roles=["labels" if labels else "data"],
            extra_fields=grid,
        )
    item = pystac.Item(
        tile.id,
        outline,
        list(shapely.geometry.shape(outline).bounds),
        None,
        properties,
        start_datetime=datetime(start.year, start.month, start.day, tzinfo=UTC),
        end_datetime=datetime(end.year, end.month, end.day, 23, 59, 59, tzinfo=UTC),
        stac_extensions=EXTENSIONS,
        assets=assets,
    )
    item.collection_id = f"{recipe.name}-{recipe.version}"
    for relation in (pystac.RelType.COLLECTION, pystac.RelType.PARENT, pystac.RelType.ROOT):
        item.add_link(pystac.Link(relation, "./collection.json", pystac.MediaType.JSON))
    return item
