"""Which tiles a split holds, in array order, with their region and spatial block: read from ``index.parquet``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lulcbench.errors import LulcbenchError
from lulcbench.release import INDEX, Release, hash_file


@dataclass(frozen=True, slots=True)
class SplitTiles:
    """The tiles of one split; position i is row i of the split's arrays.

    Attributes:
        ids: tile ids.
        regions: region of each tile.
        blocks: spatial block of each tile, the unit of confidence intervals.
    """

    ids: tuple[str, ...]
    regions: tuple[str, ...]
    blocks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


def read_split(root: str | os.PathLike[str], release: Release, split: str) -> SplitTiles:
    """Read the tiles of a split.

    Raises:
        LulcbenchError: the release has no such split, or the index is missing, altered or disagrees with the manifest.
    """
    count = release.splits[release.check_split(split)]  # type: ignore[index]
    path = Path(root) / INDEX
    verify_files(root, release, (INDEX,))
    try:
        table = pq.read_table(
            path, columns=["id", "split", "row", "region", "block"], filters=[("split", "==", split)]
        ).sort_by("row")
    except (OSError, pa.ArrowException, KeyError) as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "Run 'lulcbench verify --repair'.") from error
    column = {name: table[name].to_pylist() for name in ("id", "row", "region", "block")}
    if column["row"] != list(range(count)) or len(set(column["id"])) != count:
        raise LulcbenchError(
            f"{path} lists {len(column['row'])} tiles for {split}, the manifest says {count}.",
            "Index and manifest disagree; run 'lulcbench verify --repair'.",
        )
    return SplitTiles(*(tuple(map(str, column[name])) for name in ("id", "region", "block")))


def verify_files(root: str | os.PathLike[str], release: Release, paths: tuple[str, ...]) -> None:
    """Check the SHA-256 of some files of the release, so that a score is of the bytes that its digest names.

    Raises:
        LulcbenchError: a file is not in the manifest, missing or altered.
    """
    known = {file.path: file for file in release.files}
    for name in paths:
        path = Path(root) / name
        if name not in known:
            raise LulcbenchError(f"{release.id} lists no file {name}.", "The manifest is incomplete; rebuild it.")
        if not path.is_file():
            raise LulcbenchError(f"{path} is missing.", "Run 'lulcbench verify --repair'.")
        if path.stat().st_size != known[name].bytes or hash_file(path) != known[name].sha256:
            raise LulcbenchError(
                f"{path} is not the file that the release was published with.", "Run 'lulcbench verify --repair'."
            )
