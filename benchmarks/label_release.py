"""A release of labels alone, small and with chosen content, made by the real shard and manifest writers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from builders.stages._shards import Array, ShardJob, create, write_shard
from lulcbench._files import hash_file
from lulcbench.grid import Tile
from lulcbench.legend import legend
from lulcbench.release import INDEX, ArrayKey, FileInfo, Manifest
from lulcbench.sensors import CLASS_CODES

SHARD_TILES = 64


def smooth_codes(tiles: int, seed: int, level: int = 4, patch: int = 12) -> np.ndarray:
    """Patchy maps of all classes of a level: codes uint16 ``(tiles, 96, 96)``."""
    rng = np.random.default_rng(seed)
    codes = np.array(legend().codes(level), np.uint16)
    side = 96 // patch
    coarse = codes[rng.integers(0, len(codes), (tiles, side, side))]
    fine = coarse.repeat(patch, axis=1).repeat(patch, axis=2)
    # Shift each row a little, so that patches are no squares.
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
        root: a folder to make.
        labels: year → codes ``(n, 96, 96)``.
        regions: region of each tile; by default all in one.
        blocks: block of each tile; by default two tiles to a block.
        version: of the release.
    """
    n = len(next(iter(labels.values())))
    tiles = [Tile(900 + 2 * (i // 40), 700 + i % 40) for i in range(n)]
    regions = regions or ["here"] * n
    blocks = blocks or [f"B{i // 2:03d}-000" for i in range(n)]
    staging = root / "staging"
    (root / "cache").mkdir(parents=True)
    for year, codes in labels.items():
        array = Array(
            "test", ArrayKey("luisa", year), (96, 96), (96, 96), CLASS_CODES, ("tile", "y", "x"),
            {"legend_digest": legend().digest},
        )  # fmt: skip
        for first in range(0, n, SHARD_TILES):
            files = []
            for row in range(first, min(first + SHARD_TILES, n)):
                files.append(root / "cache" / f"{year}-{row}.npy")
                np.save(files[-1], codes[row].astype(np.uint16))
            job = ShardJob(
                array, n, SHARD_TILES, "lz4hc", first, tuple(files), staging, root / "cache" / f"{year}-{first}.json"
            )
            write_shard(job)
        create(zarr.open_group(staging / "test.zarr", mode="a"), job)
    (staging / "test.zarr").rename(root / "test.zarr")
    for path in (root / "cache").iterdir():
        path.unlink()
    (root / "cache").rmdir()
    staging.rmdir()
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
    files_ = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        parts = path.relative_to(root).parts
        files_.append(
            FileInfo(
                path="/".join(parts),
                bytes=path.stat().st_size,
                sha256=hash_file(path),
                licence="CC-BY-4.0",
                split="test" if len(parts) > 1 else None,
                array=ArrayKey.parse(parts[1]) if len(parts) > 2 else None,
            )
        )
    release = Manifest(
        name="labels",
        version=version,
        title="Labels",
        description="Labels alone, for tests.",
        simulated=True,
        legend_digest=legend().digest,
        seasons=(),
        sensors={},
        label_years=tuple(labels),
        regions=tuple(sorted(set(regions))),
        splits={"test": n},
        class_counts={},
        sources=(),
        files=tuple(files_),
        builder="tests",
    )
    release.write(root)
    return release
