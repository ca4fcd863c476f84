"""Reading of predictions files, which are untrusted."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from isal import isal_zlib
from pydantic import ValidationError

from lulcbench._files import hash_file
from lulcbench._parsing import parse_json
from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend
from lulcbench.predictions._stored_zip import StoredZip
from lulcbench.predictions.format import (
    MAX_YEARS,
    PredictionInfo,
    check_codes,
    check_years,
    chunk_name,
    dequantise,
    known_name,
    metadata,
    task_of,
)
from lulcbench.release import Manifest, Release, TilePosition, label_shape

# Gzip of incompressible bytes grows by 5 bytes per 16 KiB block and an 18-byte frame.
_GZIP_MARGIN = 1024
_METADATA_BYTES = 65536
_ANY_BYTES, _ANY_TILES = 2**50, 10**7
# RFC 1952: magic number, deflate, no flags, hence no fields after the ten bytes of the header. Decoders interpret flags
# differently, and the writer sets none.
_GZIP_HEADER = b"\x1f\x8b\x08\x00"


class OtherReleaseError(LulcbenchError):
    """Predictions were made for a release that is not among those given."""


class Predictions:
    """A predictions file, opened for reading. Its content is checked before use. A context manager.

    Attributes:
        info: header of the file, checked against the release.
        release: the opened release that it was made for.
        tiles: the tiles of its split.
        sha256: SHA-256 of the file.

    Examples:
        >>> from lulcbench.predictions import PredictionWriter
        >>> with PredictionWriter("forest.zip", root, "val", year=2018) as writer:
        ...     for tile in writer.info.tiles:
        ...         writer.write(tile, np.full((96, 96), 3110))
        >>> with Predictions.open("forest.zip", root) as predictions:
        ...     predictions.info.split, predictions.codes(0).shape, int(predictions.codes(0).max())
        ('val', (1, 96, 96), 3110)
    """

    def __init__(self, archive: StoredZip, info: PredictionInfo, release: Release, sha256: str) -> None:
        self.info = info
        self.release = release
        self.tiles = release.tiles(info.split)
        self.sha256 = sha256
        self._archive = archive
        self._classes = len(legend().codes(info.level))

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], release: str | os.PathLike[str] | Release, *others: Release
    ) -> Predictions:
        """Open a predictions file.

        Only directory and metadata are read, up to the sizes that the releases allow. The file is opened and hashed
        once.

        Args:
            path: the file.
            release: the release that was predicted, opened or its folder.
            others: other releases that may have been predicted instead.

        Raises:
            OtherReleaseError: the file has predictions of another release.
            LulcbenchError: the file has another legend or split, lacks tiles, or differs from the format of the writer.
        """
        candidates = [Release.open(release), *others]
        most = max(max(candidate.manifest.splits.values()) for candidate in candidates)
        limits = [archive_limits(candidate.manifest) for candidate in candidates]
        max_bytes, max_members = (max(values) for values in zip(*limits, strict=True))
        archive = StoredZip(path, max_bytes, max_members, known_name)
        try:
            info = _read_info(archive, most)
            fitting = [candidate for candidate in candidates if candidate.data_digest == info.release_digest]
            if not fitting:
                raise _other_release(archive, info, candidates)
            # Versions may differ in descriptions alone: the one that is named, otherwise the first.
            opened = next((candidate for candidate in fitting if candidate.id == info.release), fitting[0])
            _check_release(archive, info, opened.manifest)
            expected = opened.tiles(info.split).ids
            if tuple(info.tiles) != expected:
                raise archive.error(_tile_difference(info.tiles, expected))
            _check_layout(archive, info, most)
            return cls(archive, info, opened, hash_file(archive.path))
        except BaseException:
            archive.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def codes(self, position: TilePosition) -> npt.NDArray[np.uint16]:
        """Read the codes of a tile: uint16 ``(year, 96, 96)``.

        Raises:
            LulcbenchError: the chunk is damaged, of another size, or holds a code that is not of the file's level.
        """
        data = self._decode(chunk_name("codes", position), (len(self.info.years), *label_shape()), np.dtype("<u2"))
        return check_codes(data, self.info.level, f"{self._archive.path.name}, tile {self.info.tiles[position]}")

    def maps(self, positions: range) -> npt.NDArray[np.uint16]:
        """Read the codes of several tiles, unchecked: ``(n, year, 96, 96)``."""
        shape = (len(positions), len(self.info.years), *label_shape())
        wanted = 2 * math.prod(shape[1:])
        data = b"".join(self._inflate(chunk_name("codes", TilePosition(i)), wanted) for i in positions)
        return np.frombuffer(data, "<u2").reshape(shape)

    def probabilities(self, position: TilePosition, year: int = 0) -> npt.NDArray[np.float32]:
        """Read the class probabilities of a tile for the year at position ``year``: float32 ``(class, 96, 96)``.

        Raises:
            LulcbenchError: the file has none, or the chunk is damaged or does not sum to 1.
        """
        if self.info.probabilities is None:
            raise LulcbenchError(f"{self._archive.path.name} holds no probabilities.", "Score it without them.")
        name = chunk_name("probabilities", position, year)
        quantised = self._decode(name, (self._classes, *label_shape()), np.dtype("u1"))
        return dequantise(quantised, f"{self._archive.path.name}, tile {self.info.tiles[position]}")

    def _decode(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        return np.frombuffer(self._inflate(name, math.prod(shape) * dtype.itemsize), dtype).reshape(shape)

    def _inflate(self, name: str, wanted: int) -> bytes:
        """Decode a chunk, which must have exactly ``wanted`` bytes."""
        data = self._archive.read(name, wanted + wanted // 1024 + _GZIP_MARGIN)
        if data and not data.startswith(_GZIP_HEADER):
            raise self._archive.error(f"{name} is not gzip as the writer makes it")
        decoder = isal_zlib.decompressobj(wbits=31)
        try:
            # A decompression bomb writes at most one byte more than wanted.
            raw = decoder.decompress(data, wanted + 1)
        except isal_zlib.error as error:  # type: ignore[misc]  # its stub has an instance in place of the class
            raise self._archive.error(f"{name} is not gzip ({error})") from error
        if len(raw) != wanted or not decoder.eof or decoder.unused_data:
            raise self._archive.error(f"{name} does not decode to exactly {wanted:,} bytes")
        return raw


def archive_limits(manifest: Manifest) -> tuple[int, int]:
    """Maximum numbers of bytes and members of a predictions file for any split of the release."""
    most, years = max(manifest.splits.values()), min(len(manifest.years), MAX_YEARS)
    year_bytes = 2 * years * len(legend().codes(4)) * math.prod(label_shape())
    return most * (year_bytes + 8192) + 2**20, (1 + years) * most + 3


def peek(path: str | os.PathLike[str]) -> PredictionInfo:
    """Read the header of a file, checked as far as possible without its release: not its pixels and tiles.

    For trusted files, since the limits are wide.

    Raises:
        LulcbenchError: the file is not a predictions file.
    """
    with StoredZip(path, _ANY_BYTES, _ANY_TILES, known_name) as archive:
        info = _read_info(archive, _ANY_TILES)
        _check_layout(archive, info, _ANY_TILES)
        return info


def _read_json(archive: StoredZip, name: str, max_bytes: int) -> dict[str, Any]:
    text = archive.read(name, max_bytes)
    try:
        return parse_json(text, name, max_bytes=max_bytes)
    except LulcbenchError as error:
        raise archive.error(error.what.rstrip(".")) from error


def _read_info(archive: StoredZip, most: int) -> PredictionInfo:
    group = _read_json(archive, "zarr.json", _METADATA_BYTES + 64 * most)
    try:
        return PredictionInfo.model_validate(group.get("attributes"))
    except (ValidationError, RecursionError) as error:
        problems = error.errors() if isinstance(error, ValidationError) else [{"loc": (), "msg": "nested too deep"}]
        first = problems[0]
        field = ".".join(map(str, first["loc"])) or "attributes"
        raise archive.error(f"zarr.json says a wrong {field[:80]} ({first['msg'][:200]})") from error


def _other_release(archive: StoredZip, info: PredictionInfo, releases: Collection[Release]) -> OtherReleaseError:
    wanted = " or ".join(f"{release.id} ({release.data_digest[:12]}…)" for release in releases)
    error = archive.error(f"it was made for {info.release} ({info.release_digest[:12]}…), not for {wanted}")
    return OtherReleaseError(error.what, "Predict that very release, with lulcbench.PredictionWriter.")


def _check_release(archive: StoredZip, info: PredictionInfo, manifest: Manifest) -> None:
    if info.legend_digest != legend().digest:
        raise archive.error("it was made with another legend")
    manifest.check_split(info.split)
    check_years(manifest, info.years)
    if task_of(info.years) != info.task:
        raise archive.error(f"years {info.years} do not fit the task {info.task}")
    if any(a >= b for a, b in pairwise(info.years)):
        raise archive.error(f"years {info.years} are not in ascending order")


def _check_equal(archive: StoredZip, name: str, stored: dict[str, Any], expected: dict[str, Any]) -> None:
    for key in {**expected, **stored}:
        if key not in expected:
            raise archive.error(f"{name} has an unknown key {key[:80]!r}")
        # Comparing texts, since True == 1 and 1 == 1.0 in Python.
        if json.dumps(stored.get(key), sort_keys=True) != json.dumps(expected[key], sort_keys=True):
            raise archive.error(f"{name}: {key} is {str(stored.get(key))[:200]}, not {str(expected[key])[:200]}")


def _check_layout(archive: StoredZip, info: PredictionInfo, most: int) -> None:
    """Check that the file has exactly the expected members, and metadata that match the writer's."""
    expected = metadata(info)
    for name, content in expected.items():
        _check_equal(archive, name, _read_json(archive, name, _METADATA_BYTES + 64 * most), content)
    positions, years = [TilePosition(i) for i in range(len(info.tiles))], range(len(info.years))
    names = set(expected) | {chunk_name("codes", position) for position in positions}
    if info.probabilities is not None:
        names |= {chunk_name("probabilities", position, year) for position in positions for year in years}
    _check_members(archive, names, info.tiles)


def _tile_difference(stored: Sequence[str], expected: Sequence[str]) -> str:
    missing, extra = set(expected) - set(stored), set(stored) - set(expected)
    if len(set(stored)) != len(stored):
        return "a tile is listed twice"
    if missing or extra:
        some = sorted(missing)[:3] + sorted(extra)[:3]
        return f"it lacks {len(missing)} tiles of the split and has {len(extra)} others ({', '.join(some)} …)"
    return "its tiles are not in the order of the release"


def _check_members(archive: StoredZip, names: set[str], tiles: Sequence[str]) -> None:
    missing = sorted(names - set(archive.members))
    extra = sorted(set(archive.members) - names)
    if extra:
        raise archive.error(f"it holds {len(extra)} members that belong to no tile, such as {extra[0]}")
    if missing:
        position = missing[0].split("/")[2] if "/c/" in missing[0] else ""
        tile = f" (tile {tiles[int(position)]})" if position else ""
        raise archive.error(f"{len(missing)} members are missing, such as {missing[0]}{tile}")
