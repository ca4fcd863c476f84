"""Shards: how arrays are cut, compressed and written. The only place that knows chunk shape and codec."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from builders.recipe import Codec
from builders.stages._sums import sums
from builders.workspace import write_json
from lulcbench.errors import LulcbenchError
from lulcbench.release import ArrayKey
from lulcbench.sensors import Coding

# A chunk is what one window read decodes: one season, all bands, a 1,200 m square. Labels: a whole tile.
CHUNK_SIDE = 1200  # m
# Of dated imagery a chunk has all dates of a smaller square, so that the series of a pixel is in one chunk.
DATED_CHUNK_SIDE = 240  # m

# Blosc's level and shuffle for each codec, by the table in benchmarks/README.md: lz4hc is read fastest, lz4 is written
# 6 times as fast as that, zstd is smallest.
CODECS: dict[Codec, tuple[int, Literal["shuffle", "bitshuffle"]]] = {
    "lz4hc": (5, "shuffle"),
    "lz4": (5, "bitshuffle"),
    "zstd": (5, "shuffle"),
}


@dataclass(frozen=True, slots=True)
class Array:
    """One array to be: its shape per tile, chunk per tile, coding, dimension names and attributes.

    Of a tile, imagery is ``(season, band, y, x)``, numbers of clear observations ``(season, y, x)``, labels ``(y, x)``.
    """

    key: ArrayKey
    tile_shape: tuple[int, ...]
    chunk: tuple[int, ...]
    coding: Coding
    dimensions: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ShardJob:
    """One shard: cached files of its tiles, all of one split, from row ``first`` on.

    Attributes:
        rows: length of the tile axis.
    """

    array: Array
    split: str
    rows: int
    shard_tiles: int
    codec: Codec
    first: int
    files: tuple[Path, ...]
    staging: Path
    note: Path


def write_shard(job: ShardJob) -> dict[str, Any]:
    """Write one shard in a worker; returns the sums that statistics are made of, if any, as kept in its note."""
    if job.note.is_file():
        content: dict[str, Any] = json.loads(job.note.read_text(encoding="utf-8"))
        return content
    data = np.stack([_filled(_load(path), job.array) for path in job.files])
    temporary = Path(tempfile.mkdtemp(dir=job.staging, prefix=f".{job.array.key}-{job.first}-"))
    array = create(zarr.open_group(temporary, mode="w"), job.array, job.rows, job.shard_tiles, job.codec)
    array[job.first : job.first + len(data)] = data
    place = ["c", str(job.first // job.shard_tiles), *("0" for _ in job.array.tile_shape)]
    written = temporary.joinpath(str(job.array.key), *place)
    if written.is_file():  # a shard of nodata alone has no file
        final = job.staging.joinpath(str(job.array.key), *place)
        final.parent.mkdir(parents=True, exist_ok=True)
        written.replace(final)
    shutil.rmtree(temporary)
    found: dict[str, Any] = {"split": job.split, "array": str(job.array.key)}
    if data.ndim == 5:
        found |= sums(data, job.array.coding)
    elif data.ndim == 3:
        found |= _label_sums(data)
    write_json(job.note, found)
    return found


def create(group: zarr.Group, array: Array, rows: int, shard_tiles: int, codec: Codec) -> zarr.Array[Any]:
    """Create an array, empty."""
    clevel, shuffle = CODECS[codec]
    compressors: list[BloscCodec | Crc32cCodec] = [BloscCodec(cname=codec, shuffle=shuffle, clevel=clevel)]
    if len(array.tile_shape) == 2:
        # Reading checks every chunk of labels. Imagery goes without: by the table it would be read a third slower.
        compressors.append(Crc32cCodec())
    return group.create_array(
        str(array.key),
        shape=(rows, *array.tile_shape),
        chunks=(1, *array.chunk),
        shards=(shard_tiles, *array.tile_shape),
        dtype=array.coding.dtype,
        fill_value=array.coding.fill_value,
        compressors=compressors,
        dimension_names=array.dimensions,
        attributes=array.attributes,
    )


def _load(path: Path) -> npt.NDArray[Any]:
    try:
        data: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise LulcbenchError(
            f"Cannot read the cached tile {path}: {error}.",
            "Delete it and the .json beside it, then run 'python -m builders materialize' again.",
        ) from error
    return data


def _filled(tile: npt.NDArray[Any], array: Array) -> npt.NDArray[Any]:
    """A tile with nodata after its last date, where others have more dates."""
    if tile.shape == array.tile_shape:
        return tile
    whole = np.full(array.tile_shape, array.coding.fill_value, tile.dtype)
    whole[: len(tile)] = tile
    return whole


def _label_sums(data: npt.NDArray[np.uint16]) -> dict[str, Any]:
    codes, counts = np.unique(data[data > 0], return_counts=True)
    return {"counts": {str(code): int(n) for code, n in zip(codes, counts, strict=True)}}
