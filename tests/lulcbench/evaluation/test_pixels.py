"""The compiled loops refuse what does not fit; the malloc settings heed the environment's."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from lulcbench import _native
from lulcbench._native import compiled

needs_compiler = pytest.mark.skipif(compiled is None, reason="there was no C compiler at installation")


@needs_compiler
def test_count_refuses_what_does_not_fit() -> None:
    maps, counts, tallies = np.zeros((2, 4, 4), np.uint16), np.zeros((5, 3, 2), np.int64), np.zeros((2, 25), np.int64)
    nodes, classes, depths = np.zeros(65536, np.uint32), np.zeros(65536, np.uint8), np.zeros(2048, np.uint8)
    pairs = np.full((3, 2), 24, np.uint8)
    good = (maps, maps, nodes, classes, depths, pairs, counts, tallies, 3, 4, 4)
    assert compiled.count_maps(*good) == 0
    assert tallies[:, 24].tolist() == [16, 16]
    assert counts.sum() == 32
    for position, wrong in (
        (1, maps[:1]),
        (2, nodes[1:]),
        (3, classes[1:]),
        (4, depths[1:]),
        (5, pairs[:2]),
        (5, np.full((3, 2), 25, np.uint8)),
        (6, counts[:4]),
        (6, np.zeros((5, 3, 256), np.int64)),
        (7, tallies[:1]),
        (8, 0),
        (9, 0),
        (9, 2**62),
        (10, 5),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            compiled.count_maps(*good[:position], wrong, *good[position + 1 :])
    assert counts.sum() == 32


@needs_compiler
def test_normalize_refuses_what_does_not_fit() -> None:
    stored, out, band = np.zeros((2, 2, 5), np.uint16), np.zeros((2, 2, 5), np.float32), np.ones(2, np.float32)
    compiled.normalize(stored, out, band, band, 5, True)
    for wrong in (
        (stored, out[:1], band, band, 5),
        (stored, out, band, band[:1], 5),
        (stored, out, band, band, 3),
        (stored, out, band, band, 0),
        (stored, out, band, band, -5),
        (stored, out, band[:0], band[:0], 5),
        (stored, out, np.ones(3, np.float32), np.ones(3, np.float32), 5),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            compiled.normalize(*wrong, False)
    with pytest.raises((BufferError, TypeError)):
        compiled.normalize(stored, bytes(40), band, band, 5, False)


@needs_compiler
def test_decide_refuses_what_does_not_fit() -> None:
    p, out = np.zeros((3, 5), np.float32), np.full(5, 9, np.uint8)
    over = np.array([[0, 0, 1], [0, 1, 2]], np.uint8)
    p[2] = 1
    compiled.decide(p, over, out)
    assert out.tolist() == [2] * 5
    for wrong in (
        (p[0], over, out),
        (p.astype(np.float64), over, out),
        (np.asfortranarray(p), over, out),
        (p[:, :4], over, out),
        (np.zeros((257, 5), np.float32), over, out),
        (p, over[:, :2].copy(), out),
        (p, np.zeros((0, 3), np.uint8), out),
        (p, np.tile(over[:1], (9, 1)), out),
        (p, over[:1].copy(), out),
        (p, np.array([[0, 1, 0], [0, 1, 2]], np.uint8), out),
        (p, np.array([[0, 0, 2], [0, 1, 2]], np.uint8), out),
        (p, np.array([[0, 0, 1], [0, 0, 0]], np.uint8), out),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            compiled.decide(*wrong)
    with pytest.raises((BufferError, TypeError)):
        compiled.decide(p, over, bytes(5))
    assert out.tolist() == [2] * 5


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_memory_settings_of_the_environment_win(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[int, int]] = []

    class Libc:
        def __init__(self, name: None) -> None:
            pass

        def mallopt(self, what: int, value: int) -> None:
            called.append((what, value))

    monkeypatch.setattr("ctypes.CDLL", Libc)
    for name in _native._SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    _native.keep_freed_memory.__wrapped__()
    assert called == []
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    _native.keep_freed_memory.__wrapped__()
    assert called == []
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    _native.keep_freed_memory.__wrapped__()
    assert {what for what, _ in called} == {-1, -3}
    _native.keep_freed_memory.cache_clear()
    _native.keep_freed_memory.__wrapped__(tensors=True)
    settings = dict(called)  # the last of each, as glibc has it
    _native.keep_freed_memory()
    assert dict(called) == settings == {-1: 2**31 - 1, -3: 32 * 2**20, -4: 0}


@pytest.mark.slow
def test_reading_keeps_its_pages(release_root: str) -> None:
    """After warming up, decoding takes almost no fresh pages: without the settings some thousands."""
    code = """
import resource, sys
from lulcbench.datasets import LuisaSeg
dataset = LuisaSeg(sys.argv[1], window=None)
for _ in range(20):
    dataset.read(range(len(dataset)))
    before, found = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, 0
    for _ in range(5):
        dataset.read(range(len(dataset)))
    found = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    if found < 100:
        break
print(found)
"""
    environment = {k: v for k, v in os.environ.items() if k not in _native._SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", code, str(release_root)], capture_output=True, text=True, env=environment, check=True
    )
    assert int(done.stdout) < 100
