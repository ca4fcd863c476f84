"""A release of image-like pixels, whose arrays are created by the code of the builders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import zarr

from benchmarks.images import images
from builders.stages._hierarchy import (
    TileAxis,
    image_array,
    label_array,
    list_files,
    write_arrays,
    write_coordinates,
)
from builders.stages.plan import Planned
from lulcbench.grid import TILE_SIZE, Tile
from lulcbench.legend import LEVELS, legend
from lulcbench.release import ArrayKey, LabelInfo, Manifest, SensorInfo, Statistics
from lulcbench.release.index import fraction_column
from lulcbench.seasons import Season
from lulcbench.sensors import REFLECTANCE, SENTINEL2

BANDS = tuple(band for band in SENTINEL2.bands if band.name != "B10")  # the 12 of a level-2A product
SEASON = Season(name="summer", start="06-25", end="09-12")
PIXELS = TILE_SIZE // SENTINEL2.resolution
SHARD_TILES = 8
IMAGERY, LABELS = ArrayKey("sentinel2", 2018), ArrayKey("luisa", 2018)


def make(root: Path, tiles: int) -> Manifest:
    """Write a train split of ``tiles`` Sentinel-2 tiles of one season with 12 bands, and labels.

    Args:
        root: folder to write.
        tiles: number of tiles.
    """
    grid_tiles = [Tile(900 + row % 100, 700 + row // 100) for row in range(tiles)]
    axis = TileAxis({"train": [Planned(tile, "benchmark", tile.block(), "train") for tile in grid_tiles]}, SHARD_TILES)
    layout = [image_array(IMAGERY, SENTINEL2.resolution, BANDS, 1), label_array(LABELS)]
    write_arrays(root, layout, axis, "lz4hc")
    arrays = {key: zarr.open_array(root / str(key)) for key in (IMAGERY, LABELS)}
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
    write_coordinates(root, layout, axis, {"sentinel2": BANDS}, [SEASON], {"title": "Benchmark (SIMULATED DATA)"})
    _index(root, grid_tiles)
    release = Manifest(
        name="luisa-benchmark",
        version="0.1.0",
        title="Image-like pixels to measure readers with",
        description="No real or simulated scene: fields with the spectrum of imagery",
        simulated=True,
        seasons=(SEASON,),
        sensors={
            "sentinel2": SensorInfo(
                resolution=10,
                bands=BANDS,
                years=(2018,),
                licence="CC0-1.0",
                statistics=Statistics(mean=tuple(mean), std=tuple(np.sqrt(sums[1] / count - mean**2)), pixels=count),
            )
        },
        labels={
            "luisa": LabelInfo(
                years=(2018,),
                splits=("train",),
                legend_digest=legend().digest,
                licence="CC0-1.0",
                class_counts={2018: {}},
            )
        },
        regions=("benchmark",),
        splits={"train": tiles},
        first_rows=axis.first_rows,
        sources=(),
        files=list_files(root, layout, axis, lambda array: "CC0-1.0"),
        builder="benchmarks.release",
    )
    release.write(root)
    return release


def _index(root: Path, tiles: list[Tile]) -> None:
    rows = []
    for row, tile in enumerate(tiles):
        fractions = {fraction_column(LABELS, code): 0.0 for level in LEVELS for code in legend().codes(level)}
        at = {"row": row, "ix": tile.ix, "iy": tile.iy}
        rows.append({"id": tile.id, "split": "train", "region": "benchmark", "block": tile.block(), **at, **fractions})
    pd.DataFrame(rows).to_parquet(root / "index.parquet")
