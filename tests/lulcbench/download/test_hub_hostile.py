"""Downloads into folders that others have been in, from places that lie, with disks that fill."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import lulcbench.download._transfers
import lulcbench.download.downloader
import lulcbench.release.manifest
from lulcbench.download._transfers import PARTIAL, _Transfer
from lulcbench.download.downloader import LOCK, download, repair
from lulcbench.errors import LulcbenchError
from lulcbench.release import MANIFEST, FileInfo, Manifest, Release
from lulcbench.release.provenance import SOURCES, Provenance
from lulcbench.release.verify import verify
from tests.lulcbench.fake_hub import FakeHub

pytestmark = [
    pytest.mark.usefixtures("patient"),
    # huggingface_hub uploads with an argument of httpx that is being renamed.
    pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning"),
]

NAME = "hf://lulcbench/tiny"


def biggest(release: Manifest) -> FileInfo:
    return max(release.files, key=lambda file: file.bytes)


def test_another_release_came_while_waiting_for_the_lock(
    release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "got"
    other = Manifest.load(release_root).model_copy(update={"version": "9.9.9"})

    class Late(FileLock):
        def __enter__(self) -> Any:
            other.write(root)
            return super().__enter__()

    monkeypatch.setattr(lulcbench.download.downloader, "FileLock", Late)
    with pytest.raises(LulcbenchError, match=r"holds .*9\.9\.9"):
        download(str(release_root), root)
    assert Manifest.load(root) == other


def test_leftovers_of_another_release_are_not_taken_for_its_files(release_root: Path, tmp_path: Path) -> None:
    release, root = Manifest.load(release_root), tmp_path / "got"
    file = biggest(release)
    (root / file.path).parent.mkdir(parents=True)
    (root / file.path).write_bytes(bytes(file.bytes))  # of the right size, and there is no manifest yet
    (root / PARTIAL).mkdir()
    download(str(release_root), root)
    assert not verify(Release(root, release)).problems


def test_a_folder_named_like_the_release_does_not_hide_the_hub(
    published: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()  # as an interrupted download leaves it
    release = download("tiny", "tiny")
    assert not verify(Release("tiny", release)).problems
    (Path("tiny") / biggest(release).path).unlink()
    download("tiny", "tiny")
    assert not verify(Release("tiny", release)).problems


def test_offline_does_not_take_another_release(release_root: Path) -> None:
    with pytest.raises(LulcbenchError, match=r"not europe"):
        download("europe", release_root, offline=True)


def test_a_whole_release_is_not_written_to(release_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(release_root, tmp_path / "whole"))
    download(str(release_root), root)
    assert not (root / LOCK).exists()
    assert not (root / SOURCES).exists()


def test_an_altered_partial_file_is_begun_again(published: FakeHub, release_root: Path, tmp_path: Path) -> None:
    file, root = biggest(Manifest.load(release_root)), tmp_path / "got"
    published.faults = lambda path, before: "cut" if path.endswith(file.path) else None
    with pytest.raises(LulcbenchError):
        download(NAME, root)
    partial = max((root / PARTIAL).iterdir(), key=lambda path: path.stat().st_size)
    partial.write_bytes(bytes(partial.stat().st_size))
    # Two full answers are needed now: the first is wrong on the line, and that is not yet the file's fault.
    asked = [0]

    def wrong_once(path: str, before: int) -> str | None:
        asked[0] += path.endswith(file.path)
        return "wrong" if path.endswith(file.path) and asked[0] == 2 else None

    published.faults = wrong_once
    assert not verify(Release(root, download(NAME, root))).problems


def test_stale_partial_files_make_no_room(release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = sum(file.bytes for file in Manifest.load(release_root).files)
    (tmp_path / "got" / PARTIAL).mkdir(parents=True)
    (tmp_path / "got" / PARTIAL / "stale").write_bytes(bytes(10_000))
    usage = shutil.disk_usage(tmp_path)._replace(free=total - 5000)
    monkeypatch.setattr(lulcbench.download._transfers.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(LulcbenchError, match=r"GiB are needed"):
        download(str(release_root), tmp_path / "got")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_said_at_once(
    release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    tried: list[str] = []

    def full(self: _Transfer, source: Any) -> None:
        tried.append(self._file.path)
        raise OSError(number, "no")

    monkeypatch.setattr(_Transfer, "_append", full)
    with pytest.raises(LulcbenchError, match="Cannot write to"):
        download(str(release_root), tmp_path / "got", workers=1)
    assert len(tried) == 1


def test_repair_turns_to_the_next_place(release_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "got"
    release = download(str(release_root), root)
    Provenance(release.digest, (str(tmp_path / "gone"), str(release_root)), ()).write(root)
    file = biggest(release)
    (root / file.path).write_bytes(bytes(file.bytes))
    repair(root, [file])
    assert not verify(Release(root, release)).problems


def test_repair_keeps_what_it_cannot_replace(published: FakeHub, tmp_path: Path) -> None:
    root = tmp_path / "got"
    file = biggest(download(NAME, root))
    altered = bytes(file.bytes)
    (root / file.path).write_bytes(altered)
    published.faults = lambda path, before: "500"
    with pytest.raises(LulcbenchError, match="Could not get"):
        repair(root, [file])
    assert (root / file.path).read_bytes() == altered


@pytest.mark.parametrize(
    ("path", "array"),
    [
        ("../x", None),
        ("/etc/x", None),
        ("a/../../x", None),
        ("C:\\x", None),
        ("landsat_2018//x", None),
        ("landsat_2018/./x", None),
        (".partial/x", None),
        (".sources", None),
        (MANIFEST, None),
        pytest.param("a\x1b[2J", None, id="controls-the-terminal"),
        ("README.MD", None),
        ("README.md/x", None),
        ("landsat_2018/x", "landsat"),
        ("landsat_2018/x", "../landsat_2018"),
    ],
)
def test_manifests_that_point_elsewhere(release_root: Path, tmp_path: Path, path: str, array: str | None) -> None:
    release = Manifest.load(release_root)
    bad = release.files[0].model_copy(update={"path": path, "array": array})
    source = tmp_path / "source"
    source.mkdir()
    release.model_copy(update={"files": (*release.files, bad)}).write(source)
    with pytest.raises(LulcbenchError, match="not a valid manifest"):
        download(str(source), tmp_path / "deep" / "got")
    assert not (tmp_path / "deep").exists()


def test_an_endless_manifest(published: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = published.repositories["lulcbench/tiny"]["main"]
    published.commit("lulcbench/tiny", {MANIFEST: json.dumps(json.loads(files[MANIFEST]), indent=9).encode()})
    monkeypatch.setattr(lulcbench.release.manifest, "MAX_MANIFEST_BYTES", 1000)
    with pytest.raises(LulcbenchError, match="larger than 1000 bytes"):
        download(NAME, tmp_path / "got")
