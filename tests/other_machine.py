"""A pytest plugin (``-p tests.other_machine``): another date, other processors, folders listed backwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Self

import time_machine

_listdir, _scandir = os.listdir, os.scandir


class _Backwards:
    """What ``os.scandir`` returns, last entry first."""

    def __init__(self, path: Any = ".") -> None:
        with _scandir(path) as entries:
            self._entries = sorted(entries, key=lambda entry: os.fsencode(entry.name), reverse=True)

    def __iter__(self) -> Iterator[os.DirEntry[Any]]:
        return iter(self._entries)

    def __next__(self) -> os.DirEntry[Any]:
        return self._entries.pop(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass


os.scandir = _Backwards  # type: ignore[assignment,misc]
os.listdir = lambda path=".": sorted(_listdir(path), reverse=True)  # type: ignore[assignment]
os.cpu_count = lambda: 61
os.process_cpu_count = lambda: 61  # type: ignore[attr-defined]
os.sched_getaffinity = lambda _: set(range(61))  # type: ignore[assignment]
time_machine.travel(datetime(2041, 3, 7, 11, 13, 17, tzinfo=UTC)).start()
