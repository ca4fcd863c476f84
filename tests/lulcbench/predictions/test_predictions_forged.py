"""Predictions are untrusted: the reader refuses everything that differs from the format of the writer."""

from __future__ import annotations

import gzip
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.label_release import make_release, smooth_codes
from lulcbench.errors import LulcbenchError
from lulcbench.predictions import Predictions, peek
from lulcbench.release import Manifest, Release
from tests.lulcbench.predictions.forging import CHUNK, TILES, edit, forge, members_of, refuse


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
    make_release(tmp_path / "other", {2018: smooth_codes(TILES, seed=2)}, version="0.2.0")
    with pytest.raises(LulcbenchError, match=r"was made for labels-0\.1\.0"):
        Predictions.open(plain_file, tmp_path / "other")


def test_predictions_are_also_of_a_later_version_of_the_same_data(
    plain_file: Path, predicted_root: Path, tmp_path: Path
) -> None:
    manifest = Manifest.load(predicted_root)
    later = Path(shutil.copytree(predicted_root, tmp_path / "later"))
    manifest.model_copy(update={"version": "0.2.0", "description": "written again"}).write(later)
    with Predictions.open(plain_file, later) as predictions:
        assert predictions.release.id == "labels-0.2.0"
    with Predictions.open(plain_file, later, Release.open(predicted_root)) as predictions:
        assert predictions.release.id == "labels-0.1.0"  # the one that the file names


def test_messages_cannot_steer_a_terminal(plain_file: Path, predicted_root: Path, tmp_path: Path) -> None:
    path = forge(
        tmp_path / "p.zip", edit(members_of(plain_file), "codes/zarr.json", lambda c: c.update({"\x1b[2J": 1}))
    )
    with pytest.raises(LulcbenchError) as caught:
        Predictions.open(path, predicted_root)
    assert "\x1b" not in str(caught.value)


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
