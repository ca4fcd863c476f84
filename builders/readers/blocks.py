"""Blocks of files on servers, kept on disk while a build reads them.

Groups of neighbouring tiles share blocks, which are large in archives (1024 pixels, while a group has 960): without a
copy, each block would be fetched several times. Processes share the folder.
"""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from rasterio.windows import Window

LIMIT = 16 * 2**30  # bytes of the folder; beyond them, the oldest blocks are deleted
LARGEST = 2**26  # bytes of a block; files without an inner structure may be a single one

Part = tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]  # values, and where they are missing
Place = tuple[int, int]  # row and column of a block

_folder: ContextVar[Path | None] = ContextVar("folder", default=None)
_unchecked = 0  # bytes that this process has written since it compared the folder with the limit


@contextmanager
def keeping_blocks(folder: Path) -> Iterator[None]:
    """Keep the blocks that are read, in a folder that may hold some already."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def read_by_blocks(
    name: str,
    shape: tuple[int, int],
    block: tuple[int, int],
    itemsize: int,
    window: Window,
    read: Callable[[Window], Part],
) -> Part:
    """A window of a channel, of which only blocks are read that are not kept yet; all of it if none are to be kept.

    Args:
        name: identifies the content of the file, and the band.
        shape: rows and columns of the file.
        block: rows and columns of its blocks.
        itemsize: bytes of a pixel.
        window: what is wanted.
        read: reads a window from the file.
    """
    folder = _folder.get()
    if folder is None or block[0] * block[1] * itemsize > LARGEST:
        return read(window)
    folder.mkdir(parents=True, exist_ok=True)
    start, stop = (window.row_off, window.col_off), (window.row_off + window.height, window.col_off + window.width)
    rows, columns = (range(a // size, (b - 1) // size + 1) for a, b, size in zip(start, stop, block, strict=True))
    key = hashlib.sha256(name.encode()).hexdigest()[:32]
    paths = {place: folder / f"{key}-{place[0]}-{place[1]}" for place in product(rows, columns)}
    parts = {place: part for place, path in paths.items() if (part := _load(path))}
    if len(parts) < len(paths):
        with FileLock(folder / f"{key}.lock"):  # another process may be fetching the same ones
            parts |= {place: part for place, path in paths.items() if place not in parts and (part := _load(path))}
            lacking = [place for place in paths if place not in parts]
            if lacking:
                fetched = _fetch(lacking, shape, block, read)
                for place in lacking:
                    _save(paths[place], fetched[place])
                parts |= fetched
    return _join(parts, block, start, stop)


def _fetch(
    places: list[Place], shape: tuple[int, int], block: tuple[int, int], read: Callable[[Window], Part]
) -> dict[Place, Part]:
    """Blocks, read in one call: all of the rectangle around those that are wanted."""
    first = [min(place[axis] for place in places) for axis in (0, 1)]
    last = [max(place[axis] for place in places) for axis in (0, 1)]
    top, left = (a * size for a, size in zip(first, block, strict=True))
    bottom, right = (min((b + 1) * size, n) for b, size, n in zip(last, block, shape, strict=True))
    values, missing = read(Window(left, top, right - left, bottom - top))
    out = {}
    for row, column in product(range(first[0], last[0] + 1), range(first[1], last[1] + 1)):
        y, x = (row - first[0]) * block[0], (column - first[1]) * block[1]
        part = (slice(y, y + block[0]), slice(x, x + block[1]))
        out[row, column] = values[part], None if missing is None else missing[part]
    return out


def _join(parts: dict[Place, Part], block: tuple[int, int], start: Place, stop: Place) -> Part:
    shape = (stop[0] - start[0], stop[1] - start[1])
    values = np.empty(shape, next(iter(parts.values()))[0].dtype)
    missing = np.zeros(shape, bool) if any(holes is not None for _, holes in parts.values()) else None
    for (row, column), (own, holes) in parts.items():
        y, x = row * block[0] - start[0], column * block[1] - start[1]
        to = (slice(max(y, 0), y + own.shape[0]), slice(max(x, 0), x + own.shape[1]))
        of = (slice(max(-y, 0), shape[0] - y), slice(max(-x, 0), shape[1] - x))
        values[to] = own[of]
        if missing is not None and holes is not None:
            missing[to] = holes[of]
    return values, missing


def _load(path: Path) -> Part | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if zlib.crc32(content[4:]).to_bytes(4) != content[:4]:  # cut off by a power failure
        return None
    file = io.BytesIO(content[4:])
    values = np.load(file, allow_pickle=False)
    return values, np.load(file, allow_pickle=False) if file.tell() < len(content) - 4 else None


def _save(path: Path, part: Part) -> None:
    global _unchecked
    file = io.BytesIO()
    for values in part:
        if values is not None:
            np.save(file, np.ascontiguousarray(values), allow_pickle=False)
    content = file.getvalue()
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_bytes(zlib.crc32(content).to_bytes(4) + content)
    partial.replace(path)
    _unchecked += len(content)
    if _unchecked > LIMIT // 32:
        _unchecked = 0
        _delete_oldest(path.parent)


def _delete_oldest(folder: Path) -> None:
    files = []
    for entry in os.scandir(folder):
        try:
            stat = entry.stat()
        except FileNotFoundError:  # deleted by another process
            continue
        files.append((stat.st_mtime_ns, stat.st_size, entry.path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= LIMIT:
            break
        Path(path).unlink(missing_ok=True)
        total -= size
