"""The zip archive of predictions: members, sizes and records that the writer would not make are refused."""

from __future__ import annotations

import gzip
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lulcbench.errors import LulcbenchError
from lulcbench.predictions import Predictions
from lulcbench.predictions._stored_zip import StoredZip
from lulcbench.predictions.format import known_name
from tests.lulcbench.predictions.forging import CHUNK, TILES, forge, members_of, refuse


def symlink(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "name",
    [
        "../../evil",
        "/etc/passwd",
        "codes/../../evil",
        "C:\\evil",
        "evil.py",
        "codes/c/0/0/0/0/..",
        "codes/c/1/0/0/0.npy",
    ],
)
def test_members_of_other_names_are_refused(plain_file: Path, predicted_root: Path, tmp_path: Path, name: str) -> None:
    refuse(forge(tmp_path / "p.zip", members_of(plain_file), [(name, b"x")]), predicted_root, "unexpected member")


def test_links_are_refused(plain_file: Path, predicted_root: Path, tmp_path: Path) -> None:
    members = members_of(plain_file)
    del members[CHUNK]
    refuse(forge(tmp_path / "p.zip", members, [(symlink(CHUNK), b"/etc/passwd")]), predicted_root, "not a plain file")


def test_compressed_members_are_refused(plain_file: Path, predicted_root: Path, tmp_path: Path) -> None:
    refuse(forge(tmp_path / "p.zip", members_of(plain_file), compress=True), predicted_root, "compressed in the zip")


def test_nested_zips_are_refused(plain_file: Path, predicted_root: Path, tmp_path: Path) -> None:
    inner = plain_file.read_bytes()
    refuse(forge(tmp_path / "p.zip", {"inner.zip": inner}), predicted_root, "unexpected member")
    refuse(forge(tmp_path / "q.zip", members_of(plain_file) | {CHUNK: inner}), predicted_root, "is not gzip|at most")


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile warns while the test writes one
def test_members_twice_are_refused(plain_file: Path, predicted_root: Path, tmp_path: Path) -> None:
    members = members_of(plain_file)
    refuse(
        forge(tmp_path / "p.zip", members, [(CHUNK, members[CHUNK])]), predicted_root, "is there twice|members, at most"
    )
    few = {name: data for name, data in members.items() if name != "codes/c/1/0/0/0"}
    refuse(forge(tmp_path / "q.zip", few, [(CHUNK, members[CHUNK])]), predicted_root, "is there twice")


def test_bombs_stop_at_the_size_of_a_tile(plain_file: Path, predicted_root: Path, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(30 * 2**20))  # 30 MiB of zeros in 30 KiB; more than fits a chunk's bytes
    refuse(forge(tmp_path / "p.zip", members_of(plain_file) | {CHUNK: bomb}), predicted_root, "at most|exactly")
    small = gzip.compress(bytes(10 * 2**20))
    assert len(small) < 18432
    refuse(forge(tmp_path / "q.zip", members_of(plain_file) | {CHUNK: small}), predicted_root, "exactly")


def test_ten_gigabytes_of_zeros_are_refused_unread(predicted_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "zeros.zip"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)  # sparse
    refuse(path, predicted_root, "10,737,418,240 bytes, at most")


def test_huge_directories_are_refused_before_they_are_parsed(
    plain_file: Path, predicted_root: Path, tmp_path: Path
) -> None:
    members = [(f"codes/c/{i}/0/0/0", b"") for i in range(TILES, 20000)]
    refuse(
        forge(tmp_path / "p.zip", members_of(plain_file), members), predicted_root, "members, at most|bytes, at most"
    )


ENTRIES = 30_000


@pytest.mark.parametrize(
    ("said", "real", "message"),
    [
        ((7, 400, 1000), "many", "differ"),  # the end record looks harmless, zipfile goes by the ZIP64 record
        ("many", (7, 400, 1000), "differ"),
        ((0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), "many", "members, at most"),
        ((0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), (0xFFFF, 400, 1000), "members, at most"),
    ],
)
def test_zip64_records_cannot_hide_a_huge_directory(
    plain_file: Path, predicted_root: Path, tmp_path: Path, said: Any, real: Any, message: str
) -> None:
    whole = plain_file.read_bytes()
    start = whole.index(b"PK\1\2")
    name = b"codes/c/0/0/0/0"
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, *[0] * 8, len(name), *[0] * 6) + name
    directory = entry * ENTRIES
    many = (ENTRIES, len(directory), start)
    said, real = (many if one == "many" else one for one in (said, real))
    body = whole[:start] + directory
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, real[0], *real)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, said[0], *said, 0)
    path = tmp_path / "p.zip"
    path.write_bytes(body + record + locator + end)
    refuse(path, predicted_root, f"{message}|bytes, at most")
    tracemalloc.start()
    try:
        with pytest.raises(LulcbenchError, match=message):
            StoredZip(path, 2**30, 3 * TILES + 3, known_name)  # if it is not refused for its size
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_zip64_records_of_large_files_are_read(tmp_path: Path) -> None:
    """Between 2 and 4 GiB the writer adds a ZIP64 record although the end record's own fields suffice."""
    path = tmp_path / "large.zip"
    with path.open("w+b") as file:
        file.truncate(2**31)  # sparse
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("zarr.json", b"{}")
    with path.open("rb") as file:
        file.seek(2**31)
        assert b"PK\6\7" in file.read()
    with StoredZip(path, 2**33, 9, known_name) as archive:
        assert archive.read("zarr.json", 10) == b"{}"


def test_local_headers_that_lie_are_refused(plain_file: Path, predicted_root: Path, tmp_path: Path) -> None:
    """A directory that points two names at one place, and a CRC that does not fit."""
    data = bytearray(plain_file.read_bytes())
    first, second = (data.find(f"codes/c/{i}/0/0/0".encode()) for i in (0, 1))
    data[first + 8] = ord("7")  # only the local name
    (tmp_path / "p.zip").write_bytes(data)
    refuse(tmp_path / "p.zip", predicted_root, "does not match the directory")
    data = bytearray(plain_file.read_bytes())
    data[second + 30] ^= 0xFF
    (tmp_path / "q.zip").write_bytes(data)
    refuse(tmp_path / "q.zip", predicted_root, "damaged")


def test_no_zip_at_all(predicted_root: Path, tmp_path: Path) -> None:
    for number, data in enumerate(
        (b"", b"PK", b"hello" * 100, struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, 9, 9, 0))
    ):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(data)
        refuse(path, predicted_root, "not a zip|not a readable zip|is missing")
    with pytest.raises(LulcbenchError, match="No file"):
        Predictions.open(tmp_path / "nowhere.zip", predicted_root)
