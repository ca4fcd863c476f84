from __future__ import annotations

import multiprocessing
import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

import lulcbench.release.opened
from lulcbench import LuisaSeg, PredictionWriter, Release
from lulcbench.errors import CorruptFileError, NotAvailableError, ReleaseNotFoundError
from lulcbench.evaluation.scoring import score
from lulcbench.legend import legend
from lulcbench.release import INDEX, MANIFEST, ArrayKey, Manifest


@pytest.fixture
def copy(release_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release_root, tmp_path / "release"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was hashed, and the manifest parsed."""
    counted: Counter[str] = Counter()
    hash_file, parse = lulcbench.release.opened.hash_file, Manifest.parse.__func__  # type: ignore[attr-defined]

    def counting_hash(path: Path) -> str:
        counted[path.name if path.name == INDEX else path.as_posix()] += 1
        return hash_file(path)

    def counting_parse(cls: type[Manifest], *arguments: object) -> Manifest:
        counted[MANIFEST] += 1
        return parse(cls, *arguments)  # type: ignore[no-any-return]

    monkeypatch.setattr(lulcbench.release.opened, "hash_file", counting_hash)
    monkeypatch.setattr(Manifest, "parse", classmethod(counting_parse))
    return counted


def test_opening_reads_the_manifest_and_reopening_nothing(release_root: Path, reads: Counter[str]) -> None:
    release = Release.open(release_root)
    assert release.manifest == Manifest.load(release_root)
    assert (release.id, release.digest, release.simulated) == ("tiny-0.1.0", release.manifest.digest, True)
    reads.clear()
    assert Release.open(release) is release
    assert LuisaSeg(release, sensors="landsat").release is release
    assert reads[MANIFEST] == 0


def test_there_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseNotFoundError, match=r"release\.json is missing"):
        Release.open(tmp_path)


def test_the_index_has_the_rows_of_the_arrays_and_is_hashed_once(release_root: Path, reads: Counter[str]) -> None:
    release = Release.open(release_root)
    whole = release.index()
    for split in release.manifest.splits:
        table = release.index(split)
        assert table["row"].tolist() == list(release.manifest.rows(split))
        pd.testing.assert_frame_equal(table, whole[whole["split"] == split].reset_index(drop=True))
        names = release.tiles(split)
        assert names.ids == tuple(table["id"])
        assert names.regions == tuple(table["region"])
        assert names.blocks == tuple(table["block"])
    assert reads[INDEX] == 1
    with pytest.raises(NotAvailableError, match="no split 'validation'"):
        release.index("validation")


def test_what_a_caller_does_to_its_table_is_its_own_affair(release_root: Path) -> None:
    release = Release.open(release_root)
    before = release.tiles("train")
    table = release.index("train")
    table.loc[0, "id"] = "E0000N0000"
    table["block"] = ""
    assert release.tiles("train") == before


def test_labels_are_those_of_the_arrays(release_root: Path) -> None:
    release = Release.open(release_root)
    stored = zarr.open_array(release_root / "luisa_2012", mode="r")[:]
    for split in release.manifest.splits:
        rows = np.array(release.manifest.rows(split))[::-1]
        assert np.array_equal(release.labels(split, 2012, rows), np.asarray(stored)[rows])
    with pytest.raises(NotAvailableError, match="no luisa labels for 1990"):
        release.labels("train", 1990, [0])


def _digest_of_labels(release: Release, queue: multiprocessing.Queue[object]) -> None:
    queue.put((release.root, release.digest, release.labels("train", 2018, [1, 0]).tobytes(), release.tiles("val")))


@pytest.mark.slow
def test_an_opened_release_goes_to_other_processes(release_root: Path) -> None:
    release = Release.open(release_root)
    expected = (release.root, release.digest, release.labels("train", 2018, [1, 0]).tobytes(), release.tiles("val"))
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[object] = context.Queue()
    child = context.Process(target=_digest_of_labels, args=(release, queue))
    child.start()
    assert queue.get(timeout=120) == expected
    child.join()
    assert len(pickle.dumps(release)) < 2 * (release_root / MANIFEST).stat().st_size


def test_files_are_hashed_once(copy: Path, reads: Counter[str]) -> None:
    release = Release.open(copy)
    shards = [
        file.path for file in release.manifest.files if file.split == "test" and file.array == ArrayKey("luisa", 2018)
    ]
    release.verify_files(shards)
    release.verify_files(shards)
    assert [reads[(copy / path).as_posix()] for path in shards] == [1] * len(shards)
    altered = copy / shards[-1]
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"is not the file that tiny-0\.1\.0 was published with"):
        Release.open(copy).verify_files(shards)
    altered.unlink()
    with pytest.raises(CorruptFileError, match="is missing"):
        Release.open(copy).verify_files(shards)
    with pytest.raises(CorruptFileError, match="lists no file luisa_2018/other"):
        release.verify_files(["luisa_2018/other"])


def test_a_score_reads_the_manifest_once_and_hashes_each_file_once(
    release_root: Path, tmp_path: Path, reads: Counter[str]
) -> None:
    path = tmp_path / "predictions.zip"
    with PredictionWriter(path, release_root, "test", 2018, level=1) as writer:
        for tile in writer.info.tiles:
            writer.write(tile, np.full((96, 96), legend().codes(1)[0]))
    reads.clear()
    score(path, release_root)
    counted = dict(reads)
    labels = {file.path for file in Manifest.load(release_root).files_of(ArrayKey("luisa", 2018), "test")}
    assert counted == {MANIFEST: 1, INDEX: 1} | {(release_root / name).as_posix(): 1 for name in labels}
