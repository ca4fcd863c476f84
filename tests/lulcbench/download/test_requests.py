"""What is requested of a download is what it gets, and it replaces no other files."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from lulcbench.download import download
from lulcbench.download._transfers import PARTIAL
from lulcbench.errors import LulcbenchError
from lulcbench.release import MANIFEST, Manifest, Release
from lulcbench.release.provenance import SOURCES
from lulcbench.release.verify import verify
from tests.loopback import serve
from tests.lulcbench.fake_hub import FakeHub

pytestmark = [
    pytest.mark.usefixtures("patient"),
    pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning"),
]
PART = {"splits": "val", "sensors": "landsat", "years": 2018}


def test_files_of_the_user_are_not_replaced(release_root: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("my project")
    for _ in range(2):  # the first attempt leaves no trace that lets the second one do it
        with pytest.raises(LulcbenchError, match=r"README\.md is there already"):
            download(str(release_root), tmp_path, **PART)
    assert (tmp_path / "README.md").read_text() == "my project"
    assert not (tmp_path / MANIFEST).exists()


@pytest.mark.parametrize("mark", [PARTIAL, SOURCES])
def test_files_of_a_begun_download_are_replaced(release_root: Path, tmp_path: Path, mark: str) -> None:
    (tmp_path / "README.md").write_text("of another version")
    (tmp_path / mark).mkdir() if mark == PARTIAL else (tmp_path / mark).write_text("{")
    release = download(str(release_root), tmp_path, **PART)
    assert not verify(Release(tmp_path, release)).problems


def test_a_file_in_the_place_of_a_folder(release_root: Path, tmp_path: Path) -> None:
    (tmp_path / "region").write_text("mine")
    with pytest.raises(LulcbenchError, match="Cannot write to") as error:
        download(str(release_root), tmp_path, **PART)
    assert "folder that can be written" in error.value.remedy
    assert (tmp_path / "region").read_text() == "mine"


def test_a_mirror_that_is_not_mounted_is_not_needed(release_root: Path, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    assert download(str(release_root), tmp_path / "got", mirrors=[gone], **PART).name == "tiny"
    with serve(release_root) as url, pytest.raises(LulcbenchError, match=r"gone: release\.json is missing"):
        download(f"{url}-away", tmp_path / "other", mirrors=[gone], **PART)


def test_a_revision_is_never_ignored(release_root: Path, tmp_path: Path) -> None:
    tag = f"v{Manifest.load(release_root).version}"
    with serve(release_root) as url:
        for source in (url, str(release_root)):
            with pytest.raises(LulcbenchError, match=r"has no revision v9\.9\.9, but tiny-0\.1\.0"):
                download(source, tmp_path / "a", revision="v9.9.9", **PART)
        assert not (tmp_path / "a").exists()
        assert download(url, tmp_path / "a", revision=tag, **PART).name == "tiny"
    with pytest.raises(LulcbenchError, match="is revision v1, not v2"):
        download("hf://lulcbench/tiny@v1", tmp_path / "b", revision="v2", **PART)


def test_a_mirror_does_not_stand_in_with_another_version(
    published: FakeHub, release_root: Path, tmp_path: Path
) -> None:
    newer = Path(shutil.copytree(release_root, tmp_path / "newer"))
    Manifest.load(newer).model_copy(update={"version": "9.9.9"}).write(newer)
    published.faults = lambda path, before: "500"
    for options in ({"source": "hf://lulcbench/tiny@v0.1.0"}, {"source": "hf://lulcbench/tiny", "revision": "v0.1.0"}):
        with pytest.raises(LulcbenchError, match=r"newer has no revision v0\.1\.0, but tiny-9\.9\.9"):
            download(**options, root=tmp_path / "got", mirrors=[str(newer)], **PART)
        got = download(**options, root=tmp_path / "got", mirrors=[str(newer), str(release_root)], **PART)
        assert got.version == "0.1.0"


def test_offline_another_version_is_not_taken(
    release_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "got"
    download(str(release_root), root, **PART)
    with caplog.at_level(logging.WARNING):
        assert download(str(release_root), root, offline=True, revision="v0.1.0", **PART).version == "0.1.0"
        assert not caplog.records
        for options in ({"source": "hf://lulcbench/tiny@v9.9.9"}, {"source": "tiny", "revision": "v9.9.9"}):
            with pytest.raises(LulcbenchError, match=r"holds tiny-0\.1\.0 .*, not revision v9\.9\.9"):
                download(**options, root=root, offline=True, **PART)
        download("https://example.org/europe", root, offline=True, **PART)
    assert "not from https://example.org/europe" in caplog.text


def test_a_folder_of_another_version_is_an_address(
    release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(str(release_root), tmp_path / "got", **PART)
    newer = Path(shutil.copytree(release_root, tmp_path / "tiny"))
    Manifest.load(newer).model_copy(update={"version": "9.9.9"}).write(newer)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LulcbenchError, match=r"holds tiny-0\.1\.0 .*, not tiny-9\.9\.9"):
        download("tiny", "got", **PART)


def test_an_address_with_a_query(tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match="more than the address of a folder"):
        download("http://127.0.0.1:9/tiny?signature=1", tmp_path / "got")
