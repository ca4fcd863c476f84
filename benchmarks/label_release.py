"""A small release with labels only, of given content, written by the real shard and manifest writers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from builders.stages._hierarchy import TileAxis, label_array, list_files, write_arrays, write_coordinates
from builders.stages._shards import ShardJob, write_shard
from builders.stages.plan import Planned
from lulcbench.grid import Tile
from lulcbench.legend import legend
from lulcbench.release import INDEX, ArrayKey, LabelInfo, Manifest

SHARD_TILES = 64


def smooth_codes(tiles: int, seed: int, level: int = 4, patch: int = 12) -> np.ndarray:
    """Maps of patches of all classes of a level: codes, uint16 ``(tiles, 96, 96)``."""
    rng = np.random.default_rng(seed)
    codes = np.array(legend().codes(level), np.uint16)
    side = 96 // patch
    coarse = codes[rng.integers(0, len(codes), (tiles, side, side))]
    fine = coarse.repeat(patch, axis=1).repeat(patch, axis=2)
    # Shift each row slightly, so that patches are not squares.
    shift = rng.integers(-3, 4, (tiles, 96))
    columns = (np.arange(96)[None, None] + shift[:, :, None]) % 96
    return np.take_along_axis(fine, columns, axis=2)


def make_release(
    root: Path,
    labels: Mapping[int, np.ndarray],
    regions: Sequence[str] | None = None,
    blocks: Sequence[str] | None = None,
    version: str = "0.1.0",
) -> Manifest:
    """Write a release with a ``test`` split of ``n`` tiles whose labels are given.

    Args:
        root: folder to create.
        labels: year → codes ``(n, 96, 96)``.
        regions: region of each tile; by default one region.
        blocks: block of each tile; by default two tiles per block.
        version: version of the release.
    """
    n = len(next(iter(labels.values())))
    tiles = [Tile(900 + 2 * (i // 40), 700 + i % 40) for i in range(n)]
    regions = regions or ["here"] * n
    blocks = blocks or [f"B{i // 2:03d}-000" for i in range(n)]
    planned = [Planned(tile, region, block, "test") for tile, region, block in zip(tiles, regions, blocks, strict=True)]
    axis = TileAxis({"test": planned}, SHARD_TILES)
    arrays = [label_array(ArrayKey("luisa", year)) for year in labels]
    write_arrays(root, arrays, axis, "lz4hc")
    cache = root / "cache"
    cache.mkdir()
    for array in arrays:
        for first in range(0, n, SHARD_TILES):
            files = []
            for row in range(first, min(first + SHARD_TILES, n)):
                files.append(cache / f"{array.key}-{row}.npy")
                np.save(files[-1], labels[array.key.first][row].astype(np.uint16))
            note = cache / f"{array.key}-{first}.json"
            write_shard(ShardJob(array, "test", n, SHARD_TILES, "lz4hc", first, tuple(files), root, note))
    shutil.rmtree(cache)
    write_coordinates(root, arrays, axis, {}, (), {"title": "Labels (SIMULATED DATA)"})
    table = {
        "id": [tile.id for tile in tiles],
        "split": ["test"] * n,
        "row": list(range(n)),
        "region": list(regions),
        "block": list(blocks),
        "ix": [tile.ix for tile in tiles],
        "iy": [tile.iy for tile in tiles],
    }
    pq.write_table(pa.table(table), root / INDEX)
    release = Manifest(
        name="labels",
        version=version,
        title="Labels",
        description="Labels only, for tests.",
        simulated=True,
        seasons=(),
        sensors={},
        labels={
            "luisa": LabelInfo(
                years=tuple(labels),
                splits=("test",),
                legend_digest=legend().digest,
                licence="CC-BY-4.0",
                class_counts={},
            )
        },
        regions=tuple(sorted(set(regions))),
        splits={"test": n},
        first_rows=axis.first_rows,
        sources=(),
        files=list_files(root, arrays, axis, lambda array: "CC-BY-4.0"),
        builder="tests",
    )
    release.write(root)
    return release
