"""Thumbnails of tiles in Parquet files, one per split, whose columns viewers of data sets show as images.

The files declare Hugging Face's feature ``Image``: a struct of the PNG's bytes and a path, and a description of the
columns in the metadata of the schema, which ``datasets.load_dataset`` and the hub's viewer read.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from builders.recipe import Recipe
from builders.stages._hierarchy import TileAxis
from builders.stages.materialize import Note
from lulcbench._parallel import each
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend
from lulcbench.plotting import rgb_panel
from lulcbench.release import ArrayKey, thumbnails_of
from lulcbench.seasons import nearest_to_midsummer
from lulcbench.sensors import sensor

SIDE = 128  # pixels; a picture takes about 30 KB
MOST = 1000  # tiles; more would make files that every partial download has to take along
ROW_GROUP = 50  # tiles; viewers read one group at a time
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True, slots=True)
class ThumbnailJob:
    """The cached files of one tile, by column: of imagery with sensor, bands and the season to show, and of labels."""

    tile: str
    images: tuple[tuple[str, Path, str, tuple[str, ...], int], ...]
    labels: tuple[tuple[str, Path], ...]


def write_thumbnails(
    recipe: Recipe,
    axis: TileAxis,
    notes: dict[str, dict[ArrayKey, Note]],
    cache: Path,
    folder: Path,
    pool: Executor | None = None,
) -> None:
    """Write a file per split: id, split and region of each tile, a picture of each sensor and of each map.

    Pictures are of the latest year, of the season nearest to midsummer, in true colour where the release has these
    bands; labels are in the colours of the legend, at the finest level that a pixel has a class of. Of a release with
    more than ``MOST`` tiles, those with the lowest SHA-256 of their ids are shown.
    """
    rows = [row for tiles in axis.splits.values() for row in tiles]
    shown = sorted(hashlib.sha256(row.tile.id.encode()).hexdigest() for row in rows)[:MOST]
    rows = [row for row in rows if hashlib.sha256(row.tile.id.encode()).hexdigest() <= shown[-1]]
    season = nearest_to_midsummer(recipe.seasons)
    latest = {
        rule.name: (ArrayKey(rule.name, max(rule.years)) if rule.years else rule.arrays[-1], rule.bands)
        for rule in recipe.sensors
    }
    maps = {name: max(label.year for label in recipe.labels if label.name == name) for name in _names(recipe)}
    jobs = []
    for row in rows:
        found = notes[row.tile.id]
        images = tuple(
            (str(key), cache / found[key].file, key.name, bands, _midsummer(found[key].dates) if dated else season)
            for key, bands in latest.values()
            for dated in [key.first != key.last]
            if not dated or found[key].dates
        )
        keys = [ArrayKey(name, year) for name, year in maps.items()]
        labels = tuple((str(key), cache / found[key].file) for key in keys if key in found)
        jobs.append(ThumbnailJob(row.tile.id, images, labels))
    pictures = dict(each(pool, thumbnails, jobs))
    columns = [*(str(key) for key, _ in latest.values()), *(f"{name}_{year}" for name, year in maps.items())]
    texts = {
        "id": [row.tile.id for row in rows],
        "split": [row.split for row in rows],
        "region": [row.region for row in rows],
    }
    data = {name: pa.array(values, pa.string()) for name, values in texts.items()}
    for column in columns:
        cells = [
            {"bytes": pictures[tile][column], "path": f"{tile}-{column}.png"} if column in pictures[tile] else None
            for tile in texts["id"]
        ]
        data[column] = pa.array(cells, IMAGE)
    features = {name: {"dtype": "string", "_type": "Value"} for name in texts}
    described = json.dumps({"info": {"features": features | {column: {"_type": "Image"} for column in columns}}})
    table = pa.table(data).replace_schema_metadata({"huggingface": described})
    for split in dict.fromkeys(texts["split"]):
        part = table.filter(pc.equal(table["split"], split))
        pq.write_table(part, folder / thumbnails_of(split), row_group_size=ROW_GROUP, compression="NONE")  # of PNG


def _midsummer(dates: Sequence[str]) -> int:
    """Position of the date nearest to 1 July of the last year."""
    days = np.array(dates, "datetime64[D]")
    middle = np.datetime64(f"{days[-1].astype('datetime64[Y]')}-07-01")
    return int(np.abs(days - middle).argmin())


def thumbnails(job: ThumbnailJob) -> tuple[str, dict[str, bytes]]:
    """The tile, and the PNG of each column."""
    made = {}
    for column, path, name, bands, season in job.images:
        instrument = sensor(name)
        own = [instrument.band(band) for band in bands]
        values = instrument.coding.decode(np.load(path, allow_pickle=False)[season])
        rgb = np.rint(rgb_panel(values, own, column).rgb.astype(np.float64) * 255).astype(np.uint8)
        made[column] = _png(rgb, Image.Resampling.BOX)
    for column, path in job.labels:
        made[column] = _png(_colored(np.load(path, allow_pickle=False)), Image.Resampling.NEAREST)
    return job.tile, made


def _png(rgb: npt.NDArray[np.uint8], resampling: Image.Resampling) -> bytes:
    picture = Image.fromarray(rgb)
    side = min(SIDE, *picture.size)
    buffer = io.BytesIO()
    picture.resize((side, side), resampling).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _colored(codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Legend colours at the finest level that each pixel has a class of; white where it has none."""
    rgb = np.full((*codes.shape, 3), 255, np.uint8)
    for level in LEVELS:
        indices = legend().encode(codes, level)
        known = indices != IGNORE_INDEX
        rgb[known] = legend().colors(level)[indices[known]]
    return rgb


def _names(recipe: Recipe) -> list[str]:
    return list(dict.fromkeys(label.name for label in recipe.labels))
