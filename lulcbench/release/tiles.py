"""Which tiles a split holds, in array order, and whether the files of a release are those it was published with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lulcbench._files import hash_file
from lulcbench.errors import CorruptFileError
from lulcbench.release import INDEX, Release
from lulcbench.release.index import read_index


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


# Splits read last, by release digest, which says what bytes the index has.
_read: dict[tuple[str, str], SplitTiles] = {}
_KEPT = 8


def read_split(root: str | os.PathLike[str], release: Release, split: str) -> SplitTiles:
    """Read the tiles of a split from the index, after checking the index's SHA-256.

    Raises:
        NotAvailableError: the release has no such split.
        CorruptFileError: the index is missing, altered or disagrees with the manifest.
    """
    release.check_split(split)
    verify_files(root, release, (INDEX,))
    key = (release.digest, split)
    if key not in _read:
        if len(_read) >= _KEPT:
            _read.clear()
        table = read_index(root, release, split)
        _read[key] = SplitTiles(*(tuple(map(str, table[name].tolist())) for name in ("id", "region", "block")))
    return _read[key]


def verify_files(root: str | os.PathLike[str], release: Release, paths: tuple[str, ...]) -> None:
    """Check the SHA-256 of some files of the release, so that a score is of the bytes that its digest names.

    Raises:
        CorruptFileError: a file is missing or altered, or not in the manifest.
    """
    known = {file.path: file for file in release.files}
    for name in paths:
        path = Path(root) / name
        if name not in known:
            raise CorruptFileError(f"{release.id} lists no file {name}.", "The manifest is incomplete; rebuild it.")
        if not path.is_file():
            raise CorruptFileError(f"{path} is missing.", "Run 'lulcbench verify --repair'.")
        if path.stat().st_size != known[name].bytes or hash_file(path) != known[name].sha256:
            raise CorruptFileError(
                f"{path} is not the file that the release was published with.", "Run 'lulcbench verify --repair'."
            )
