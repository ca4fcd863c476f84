"""Blocks that are kept: windows are those of the file, and each block is fetched once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.windows import Window

from builders.readers import blocks
from builders.readers.blocks import Part, keeping_blocks, read_by_blocks
from builders.readers.opening import note_stamp, opened
from builders.readers.servers import server_stamp
from builders.readers.windows import read_window
from tests import loopback

VALUES = np.random.default_rng(0).integers(0, 60_000, (130, 210)).astype(np.uint16)
HOLES = VALUES < 9000
BLOCK = (32, 50)


def reader(log: list[Window], holes: bool = True) -> Callable[[Window], Part]:
    def read(window: Window) -> Part:
        log.append(window)
        part = window.toslices()
        return VALUES[part], HOLES[part] if holes else None

    return read


def read(window: Window, log: list[Window], name: str = "a", holes: bool = True) -> Part:
    return read_by_blocks(name, VALUES.shape, BLOCK, 2, window, reader(log, holes))


def blocks_of(window: Window) -> set[tuple[int, int]]:
    rows, columns = (
        range(start // size, (stop - 1) // size + 1)
        for (start, stop), size in zip(window.toranges(), BLOCK, strict=True)
    )
    return {(row, column) for row in rows for column in columns}


windows = st.builds(
    lambda x, y, width, height: Window(x, y, min(width, 210 - x), min(height, 130 - y)),
    st.integers(0, 209), st.integers(0, 129), st.integers(1, 210), st.integers(1, 130),
)  # fmt: skip


@given(st.lists(windows, min_size=1, max_size=5), st.booleans())
def test_any_windows_are_those_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[Window], holes: bool
) -> None:
    log: list[Window] = []
    with keeping_blocks(tmp_path_factory.mktemp("blocks")):
        for window in wanted:
            values, missing = read(window, log, holes=holes)
            part = window.toslices()
            np.testing.assert_array_equal(values, VALUES[part])
            assert (missing is None) is not holes
            if missing is not None:
                np.testing.assert_array_equal(missing, HOLES[part])
    assert len(log) <= len(wanted)


def test_neighbours_fetch_the_blocks_between_them_once(tmp_path: Path) -> None:
    log: list[Window] = []
    with keeping_blocks(tmp_path):
        for x in (0, 70, 140):
            read(Window(x, 10, 70, 100), log)
    fetched = [block for window in log for block in blocks_of(window)]
    assert len(fetched) == len(set(fetched)) == 20


def test_a_file_on_a_server_is_fetched_once(tmp_path: Path) -> None:
    """All of it, in windows that share its blocks."""
    sent = []

    class Counting(loopback.Ranges):
        def end_headers(self) -> None:
            if self.command == "GET":
                sent.extend(line for line in self._headers_buffer if line.startswith(b"Content-Length"))
            super().end_headers()

    noise = np.random.default_rng(0).integers(0, 60_000, (512, 512)).astype(np.uint16)
    profile = {"driver": "GTiff", "width": 512, "height": 512, "count": 1, "dtype": "uint16", "crs": "EPSG:3035"}
    profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "transform": Affine(10, 0, 4e6, 0, -10, 3e6)}
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as file:
        file.write(noise, 1)
    with loopback.serve(tmp_path, Counting) as url, keeping_blocks(tmp_path / "blocks"):
        note_stamp(f"{url}/a.tif", server_stamp(f"{url}/a.tif"))
        for x, y in product((0, 200), (0, 200)):
            with rasterio.Env(GDAL_CACHEMAX=0):
                values, _ = read_window(opened(f"{url}/a.tif"), 1, Window(x, y, 300, 300))
            np.testing.assert_array_equal(values, noise[y : y + 300, x : x + 300])
    total = sum(int(line.split(b":")[1]) for line in sent)
    assert noise.nbytes < total < 1.1 * noise.nbytes


def test_workers_wait_for_blocks_that_another_one_fetches(tmp_path: Path) -> None:
    log: list[Window] = []

    def work(_: int) -> None:
        with keeping_blocks(tmp_path):
            read(Window(0, 0, 210, 130), log)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(log) == 1


def test_files_are_told_apart_by_their_content(tmp_path: Path) -> None:
    log: list[Window] = []
    with keeping_blocks(tmp_path):
        for name in ("a", "b", "a"):
            read(Window(0, 0, 10, 10), log, name)
    assert len(log) == 2


def test_a_block_that_was_cut_off_is_fetched_again(tmp_path: Path) -> None:
    log: list[Window] = []
    with keeping_blocks(tmp_path):
        read(Window(0, 0, 10, 10), log)
        (path,) = (path for path in tmp_path.iterdir() if path.suffix != ".lock")
        for content in (path.read_bytes()[:-100], b"", path.read_bytes()[:-1] + b"\1"):
            path.write_bytes(content)
            values, _ = read(Window(0, 0, 10, 10), log)
            np.testing.assert_array_equal(values, VALUES[:10, :10])
    assert len(log) == 4


def test_beyond_the_limit_the_oldest_blocks_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LIMIT", 32_000)
    log: list[Window] = []
    with keeping_blocks(tmp_path):
        for y in range(0, 130, 26):
            read(Window(0, y, 210, 26), log)
            assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 34_000
        before = len(log)
        read(Window(0, 104, 210, 26), log)
        assert len(log) == before
        read(Window(0, 0, 210, 26), log)
        assert len(log) == before + 1


def test_without_a_folder_and_for_huge_blocks_windows_are_read_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[Window] = []
    read(Window(3, 4, 5, 6), log)
    monkeypatch.setattr(blocks, "LARGEST", 100)
    with keeping_blocks(tmp_path):
        read(Window(3, 4, 5, 6), log)
    assert log == [Window(3, 4, 5, 6)] * 2
    assert not list(tmp_path.iterdir())
