"""Predictions come from strangers: the reader takes nothing but what the writer makes, however it was forged."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.label_release import make_release, smooth_codes
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.scoring import score
from lulcbench.predictions import Predictions, peek
from lulcbench.predictions._stored_zip import StoredZip
from lulcbench.predictions.format import known_name
from lulcbench.submission.card import check_predictions

TILES = 3
Members = list[tuple[zipfile.ZipInfo | str, bytes]]


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forge(path: Path, members: dict[str, bytes], extra: Members = (), compress: bool = False) -> Path:
    """A zip of these members, stored, and then of the extra ones as they are given."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        for name, data in extra:
            archive.writestr(name, data)
    return path


def edit(members: dict[str, bytes], name: str, change: Callable[[dict[str, Any]], Any]) -> dict[str, bytes]:
    content = json.loads(members[name])
    change(content)
    return members | {name: json.dumps(content).encode()}


def refuse(path: Path, predicted_root: Path, message: str) -> None:
    """Refused with that message by the reader and the scorer, in little memory, nothing extracted."""
    before = sorted(path.parent.iterdir())
    tracemalloc.start()
    try:
        with pytest.raises(LulcbenchError, match=message):
            check_predictions(path, predicted_root)
        with pytest.raises(LulcbenchError, match=message):
            score(path, predicted_root)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert sorted(path.parent.iterdir()) == before


def symlink(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


CHUNK = "codes/c/0/0/0/0"


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


@pytest.mark.parametrize("flag", [1, 2, 4, 8, 16, 32, 64, 128])
def test_gzip_flags_are_refused(plain_file: Path, predicted_root: Path, tmp_path: Path, flag: int) -> None:
    """Optional fields, which the writer never makes, and reserved bits, which decoders treat differently."""
    chunk = bytearray(gzip.compress(np.full(9216, 3110, "<u2").tobytes()))
    chunk[3] = flag
    refuse(forge(tmp_path / "p.zip", members_of(plain_file) | {CHUNK: bytes(chunk)}), predicted_root, "not gzip")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("codes/zarr.json", lambda c: c.update(shape=[10**12] * 4), "shape is"),
        ("codes/zarr.json", lambda c: c.update(shape=[True, 1, 96, 96]), "shape is"),
        ("codes/zarr.json", lambda c: c["chunk_grid"]["configuration"].update(chunk_shape=[10**9] * 4), "chunk_grid"),
        ("codes/zarr.json", lambda c: c.update(data_type="float32"), "data_type is"),
        ("codes/zarr.json", lambda c: c.update(data_type="object"), "data_type is"),
        ("codes/zarr.json", lambda c: c.update(codecs=[{"name": "pickle"}]), "codecs is"),
        ("codes/zarr.json", lambda c: c["codecs"].append({"name": "numcodecs.pickle"}), "codecs is"),
        ("codes/zarr.json", lambda c: c.update(fill_value=3110), "fill_value is"),
        ("codes/zarr.json", lambda c: c.update(storage_transformers=[{"name": "x"}]), "unknown key"),
        ("zarr.json", lambda c: c["attributes"].update(release_digest="0" * 64), "was made for"),
        ("zarr.json", lambda c: c["attributes"].update(release_digest="<script>"), "release_digest"),
        ("zarr.json", lambda c: c["attributes"].update(level="4"), "level"),
        ("zarr.json", lambda c: c["attributes"].update(level=3), "not a LUISA code of level 3|exactly|probab|shape"),
        ("zarr.json", lambda c: c["attributes"].update(level=10**30), "level"),
        ("zarr.json", lambda c: c["attributes"].update(level=float("nan")), "level"),
        ("zarr.json", lambda c: c["attributes"].update(years=[2012]), "has nothing of 2012"),
        ("zarr.json", lambda c: c["attributes"].update(years=[]), "years"),
        ("zarr.json", lambda c: c["attributes"].update(years=[2018] * 101), "years"),
        ("zarr.json", lambda c: c["attributes"].update(task="series"), "do not fit"),
        ("zarr.json", lambda c: c["attributes"].update(years=[2018, 2018]), "do not fit"),
        ("zarr.json", lambda c: c["attributes"].update(split="../train"), "split"),
        ("zarr.json", lambda c: c["attributes"].update(split="val"), "no split"),
        ("zarr.json", lambda c: c["attributes"].update(surprise=1), "surprise"),
        ("zarr.json", lambda c: c["attributes"].pop("tiles"), "tiles"),
        ("zarr.json", lambda c: c["attributes"]["tiles"].pop(), "lacks 1 tiles"),
        ("zarr.json", lambda c: c["attributes"]["tiles"].append("E0001N0001"), "has 1 others"),
        ("zarr.json", lambda c: c["attributes"]["tiles"].reverse(), "order"),
        ("zarr.json", lambda c: c["attributes"].update(tiles=["E0900N0700"] * 3), "listed twice"),
        ("zarr.json", lambda c: c["attributes"].update(tiles=[{}] * 10), "tiles"),
        ("zarr.json", lambda c: c.update(attributes=[]), "attributes"),
        ("zarr.json", lambda c: c.update(consolidated_metadata={}), "unknown key"),
    ],
)
def test_forged_metadata_is_refused(
    plain_file: Path,
    predicted_root: Path,
    tmp_path: Path,
    name: str,
    change: Callable[[dict[str, Any]], Any],
    message: str,
) -> None:
    refuse(forge(tmp_path / "p.zip", edit(members_of(plain_file), name, change)), predicted_root, message)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"[" * 30000, b"\xff\xfe", b"{" * 10, b'{"a": 1e999999}'],
    ids=["empty", "list", "null", "nested lists", "UTF-16", "open objects", "huge number"],
)
def test_metadata_that_are_not_json_are_refused(
    plain_file: Path, predicted_root: Path, tmp_path: Path, data: bytes
) -> None:
    refuse(forge(tmp_path / "p.zip", members_of(plain_file) | {"zarr.json": data}), predicted_root, "zarr.json")


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (b"", "exactly"),
        (pickle.dumps(print), "not gzip"),
        (gzip.compress(bytes(18431)), "exactly"),
        (gzip.compress(bytes(18432)), "0 at .* is not a LUISA code of level 4"),
        (gzip.compress(np.full(9216, 9999, "<u2").tobytes()), "9999 at .* is not a LUISA code of level 4"),
        (gzip.compress(np.full(9216, 3110, "<u2").tobytes()) + b"more", "exactly"),
        (gzip.compress(np.full(9216, 3110, "<u2").tobytes())[:-4], "exactly"),
    ],
    ids=["empty", "pickle", "short", "nodata", "unknown code", "surplus bytes", "truncated"],
)
def test_forged_chunks_are_refused(
    plain_file: Path, predicted_root: Path, tmp_path: Path, chunk: bytes, message: str
) -> None:
    refuse(forge(tmp_path / "p.zip", members_of(plain_file) | {CHUNK: chunk}), predicted_root, message)


def test_probabilities_that_do_not_sum_to_one_are_refused(
    good_file: Path, predicted_root: Path, tmp_path: Path
) -> None:
    for value in (0, 255):
        chunk = gzip.compress(np.full((46, 96, 96), value, np.uint8).tobytes())
        path = forge(tmp_path / f"{value}.zip", members_of(good_file) | {"probabilities/c/0/0/0/0/0": chunk})
        refuse(path, predicted_root, "do not sum to 1")


def test_missing_and_surplus_tiles_are_refused(
    plain_file: Path, good_file: Path, predicted_root: Path, tmp_path: Path
) -> None:
    members = members_of(plain_file)
    few = {name: data for name, data in members.items() if name != CHUNK}
    refuse(forge(tmp_path / "few.zip", few), predicted_root, "1 members are missing.*E0900N0700")
    more = members | {"codes/c/3/0/0/0": members[CHUNK]}
    refuse(forge(tmp_path / "more.zip", more), predicted_root, "belong to no tile")
    both = members | {n: d for n, d in members_of(good_file).items() if n.startswith("probabilities/c/0")}
    refuse(forge(tmp_path / "both.zip", both), predicted_root, "belong to no tile")


def test_another_release_is_refused(plain_file: Path, tmp_path: Path) -> None:
    make_release(tmp_path / "other", {2018: smooth_codes(TILES, seed=1)}, version="0.2.0")
    with pytest.raises(LulcbenchError, match=r"was made for labels-0\.1\.0"):
        Predictions.open(plain_file, tmp_path / "other")


def test_messages_cannot_steer_a_terminal(plain_file: Path, predicted_root: Path, tmp_path: Path) -> None:
    path = forge(
        tmp_path / "p.zip", edit(members_of(plain_file), "codes/zarr.json", lambda c: c.update({"\x1b[2J": 1}))
    )
    with pytest.raises(LulcbenchError) as caught:
        Predictions.open(path, predicted_root)
    assert "\x1b" not in str(caught.value)


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


def test_other_files_are_refused_before_a_release_is_needed(plain_file: Path, good_file: Path, tmp_path: Path) -> None:
    assert peek(plain_file).tiles == peek(good_file).tiles
    members = members_of(plain_file)
    (tmp_path / "notes.zip").write_text("a text")
    lost = {name: data for name, data in members.items() if name != CHUNK}
    digest = edit(members, "zarr.json", lambda c: c["attributes"].update(release_digest="x"))
    dtype = edit(members, "codes/zarr.json", lambda c: c.update(data_type="uint8"))
    for path, message in (
        (tmp_path / "notes.zip", "not a zip"),
        (forge(tmp_path / "other.zip", {"a.txt": b""}), "unexpected member"),
        (forge(tmp_path / "lost.zip", lost), "1 members are missing"),
        (forge(tmp_path / "digest.zip", digest), "release_digest"),
        (forge(tmp_path / "dtype.zip", dtype), "data_type is"),
        (tmp_path / "none.zip", "No file"),
    ):
        with pytest.raises(LulcbenchError, match=message):
            peek(path)


def test_no_zip_at_all(predicted_root: Path, tmp_path: Path) -> None:
    for number, data in enumerate(
        (b"", b"PK", b"hello" * 100, struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, 9, 9, 0))
    ):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(data)
        refuse(path, predicted_root, "not a zip|not a readable zip|is missing")
    with pytest.raises(LulcbenchError, match="No file"):
        Predictions.open(tmp_path / "nowhere.zip", predicted_root)


@given(data=st.data())
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_fuzzed_files_are_read_or_refused(
    plain_file: Path, predicted_root: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """Bytes flipped, cut, repeated or inserted anywhere: refused or the very same predictions, never a crash."""
    content = bytearray(plain_file.read_bytes())
    # Favour the directory at the end and headers, where the structure is.
    place = st.one_of(st.integers(0, len(content) - 1), st.integers(len(content) - 500, len(content) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        at = min(data.draw(place), len(content) - 1)
        match data.draw(st.sampled_from(("flip", "cut", "insert", "repeat"))):
            case "flip":
                content[at] = data.draw(st.integers(0, 255))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 200))]
            case "insert":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=40))
            case "repeat":
                content[at:at] = content[max(0, at - 60) : at]
        if not content:
            break
    path = tmp_path / "fuzzed.zip"
    path.write_bytes(content)
    try:
        check_predictions(path, predicted_root)
    except LulcbenchError:
        return
    with Predictions.open(path, predicted_root) as fuzzed, Predictions.open(plain_file, predicted_root) as honest:
        assert all(np.array_equal(fuzzed.codes(row), honest.codes(row)) for row in range(TILES))


@given(noise=st.binary(max_size=400), prefix=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fuzzed_metadata_is_refused(
    plain_file: Path, predicted_root: Path, tmp_path: Path, noise: bytes, prefix: bool
) -> None:
    members = members_of(plain_file)
    start = members["zarr.json"][: len(noise)] if prefix else b""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for name, content in (members | {"zarr.json": start + noise}).items():
            writer.writestr(name, content)
    (tmp_path / "p.zip").write_bytes(archive.getvalue())
    with pytest.raises(LulcbenchError):
        Predictions.open(tmp_path / "p.zip", predicted_root)
