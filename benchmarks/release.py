"""A release of image-like pixels, its arrays laid out by the builders' own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import zarr

from benchmarks.images import images
from builders.stages._shards import Array, ShardJob, create
from lulcbench._files import hash_file
from lulcbench.grid import TILE_SIZE, Tile
from lulcbench.legend import LEVELS, legend
from lulcbench.release import ArrayKey, FileInfo, Manifest, SensorInfo, Statistics
from lulcbench.release.index import fraction_column
from lulcbench.seasons import Season
from lulcbench.sensors import CLASS_CODES, REFLECTANCE, SENTINEL2

BANDS = tuple(band for band in SENTINEL2.bands if band.name != "B10")  # the 12 of a level-2A product
PIXELS = TILE_SIZE // SENTINEL2.resolution
SHARD_TILES = 8
IMAGERY, LABELS = ArrayKey("sentinel2", 2018), ArrayKey("luisa", 2018)


def make(root: Path, tiles: int, codec: str = "lz4hc", chunk: tuple[int, int, int] | None = None) -> Manifest:
    """Write a train split of ``tiles`` Sentinel-2 tiles of one season with 12 bands, and labels.

    Args:
        root: folder to write.
        tiles: how many.
        codec: of Blosc.
        chunk: bands, height and width of a chunk; None as the builders choose.
    """
    side = 120
    inner = (1, *(chunk or (12, side, side)))
    dimensions = ("tile", "season", "band", "y", "x")
    image = Array("train", IMAGERY, (1, 12, PIXELS, PIXELS), inner, REFLECTANCE, dimensions, {})
    label = Array("train", LABELS, (96, 96), (96, 96), CLASS_CODES, ("tile", "y", "x"), {})
    group = zarr.open_group(root / "train.zarr", mode="w")
    arrays = {}
    for layout in (image, label):
        arrays[layout.key] = create(group, ShardJob(layout, tiles, SHARD_TILES, codec, 0, (), root, root))
    codes = np.array(legend().codes(4), np.uint16)
    rng = np.random.default_rng(1)
    sums = np.zeros((2, 12))
    for first in range(0, tiles, SHARD_TILES):
        last = min(first + SHARD_TILES, tiles)
        pixels = images(last - first, 12, PIXELS, seed=first)[:, None]
        arrays[IMAGERY][first:last] = pixels
        arrays[LABELS][first:last] = codes[rng.integers(0, 46, (last - first, 8, 8))].repeat(12, 1).repeat(12, 2)
        reflectance = pixels * REFLECTANCE.scale + REFLECTANCE.offset
        sums += [reflectance.sum((0, 1, 3, 4)), (reflectance**2).sum((0, 1, 3, 4))]
    count = tiles * PIXELS**2
    mean = sums[0] / count
    _index(root, tiles)
    files = [_file(root, path) for path in sorted(root.rglob("*")) if path.is_file()]
    release = Manifest(
        name="luisa-benchmark",
        version="0.1.0",
        title="Image-like pixels to measure readers with",
        description="No real or simulated scene: fields with the spectrum of imagery",
        simulated=True,
        legend_digest=legend().digest,
        seasons=(Season(name="summer", start="06-25", end="09-12"),),
        sensors={
            "sentinel2": SensorInfo(
                resolution=10,
                bands=BANDS,
                years=(2018,),
                licence="CC0-1.0",
                statistics=Statistics(mean=tuple(mean), std=tuple(np.sqrt(sums[1] / count - mean**2)), pixels=count),
            )
        },
        label_years=(2018,),
        regions=("benchmark",),
        splits={"train": tiles},
        class_counts={2018: {}},
        sources=(),
        files=tuple(files),
        builder="benchmarks.release",
    )
    release.write(root)
    return release


def _index(root: Path, tiles: int) -> None:
    rows = []
    for row in range(tiles):
        tile = Tile(900 + row % 100, 700 + row // 100)
        fractions = {fraction_column(LABELS, code): 0.0 for level in LEVELS for code in legend().codes(level)}
        at = {"row": row, "ix": tile.ix, "iy": tile.iy}
        rows.append({"id": tile.id, "split": "train", "region": "benchmark", "block": tile.block(), **at, **fractions})
    pd.DataFrame(rows).to_parquet(root / "index.parquet")


def _file(root: Path, path: Path) -> FileInfo:
    relative = path.relative_to(root)
    sharded = relative.parts[0].endswith(".zarr")
    return FileInfo(
        path=relative.as_posix(),
        bytes=path.stat().st_size,
        sha256=hash_file(path),
        licence="CC0-1.0",
        split="train" if sharded else None,
        array=ArrayKey.parse(relative.parts[1]) if sharded and len(relative.parts) > 2 else None,
    )
