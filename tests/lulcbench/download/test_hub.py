from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import lulcbench.download._transfers
from builders.stages.publish import publish
from lulcbench import LuisaChange, LuisaCls, LuisaSeg, LuisaSeries
from lulcbench._files import hash_file
from lulcbench.download._transfers import PARTIAL
from lulcbench.download.downloader import download, recover, repair, wanted
from lulcbench.errors import LulcbenchError
from lulcbench.release import MANIFEST, ArrayKey, Manifest, Release
from lulcbench.release.provenance import SOURCES, Provenance
from lulcbench.release.verify import missing_files, verify
from tests.lulcbench.fake_hub import FakeHub

pytestmark = [
    pytest.mark.usefixtures("patient"),
    # huggingface_hub uploads with an argument of httpx that is being renamed.
    pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning"),
]

NAME = "hf://lulcbench/tiny"


def digest(root: Path) -> str:
    return Manifest.load(root).digest


@pytest.mark.slow
def test_round_trip(published: FakeHub, release_root: Path, tmp_path: Path) -> None:
    release = download("tiny", tmp_path / "got")
    assert release.digest == digest(release_root)
    assert not verify(Release(tmp_path / "got", release)).problems
    assert not verify(Release(tmp_path / "got", release)).absent
    assert not (tmp_path / "got" / PARTIAL).exists()
    # All requests but the first were for one commit, so that revisions never mix.
    resolved = {path.split("/resolve/")[1].split("/")[0] for path in published.requests if "/resolve/" in path}
    commit = published.sha("lulcbench/tiny", "main")
    assert resolved == {commit}
    note = Provenance.load(tmp_path / "got")
    assert note
    assert (note.digest, note.places) == (release.digest, (f"{NAME}@{commit}",))
    # Publishing again finds it there; another release of that version is refused.
    publish(release_root, NAME)
    other = Path(shutil.copytree(release_root, tmp_path / "other"))
    Manifest.load(other).model_copy(update={"title": "Another"}).write(other)
    with pytest.raises(LulcbenchError, match="another release of that version"):
        publish(other, NAME)


def shards(root: Path, release: Manifest) -> set[tuple[str, str]]:
    """Split and array of the shards that are at a place."""
    return {(file.split, str(file.array)) for file in release.files if file.split and (root / file.path).is_file()}


def test_only_what_is_wanted(published: FakeHub, tmp_path: Path) -> None:
    root = tmp_path / "got"
    release = download(NAME, root, splits=["train"], sensors=["landsat"], years=[2018])
    wanted = {"landsat_2018", "landsat-clear_2018", "luisa_2018"}
    assert shards(root, release) == {("train", array) for array in wanted}
    assert {path.parent.name for path in root.glob("*_20*/zarr.json")} == wanted
    assert not verify(Release(root, release)).problems
    assert len(LuisaSeg(root, sensors="landsat")) > 0
    with pytest.raises(LulcbenchError, match="sentinel2_2018 is missing"):
        LuisaSeg(root)[0]
    # More of the same release comes on top, and only that.
    before = published.requests.total()
    download(NAME, root, splits=["train"])
    assert len(LuisaSeg(root)) > 0
    repeated = published.requests.total()
    download("tiny", root, splits=["train"])
    assert published.requests.total() - repeated <= 3 < repeated - before


def test_datasets_download(published: FakeHub, tmp_path: Path) -> None:
    dataset = LuisaSeg(tmp_path / "tiny", split="val", sensors="landsat", download=True)
    assert dataset[0]["image"].shape[-1] == 40
    assert {split for split, _ in shards(tmp_path / "tiny", dataset.release.manifest)} == {"val"}


@pytest.mark.parametrize(
    ("make", "arrays"),
    [
        (lambda root, source: LuisaSeg(root, sensors="landsat", download=source), {"landsat_2018", "luisa_2018"}),
        (
            lambda root, source: LuisaSeg(root, sensors="landsat", year=(2012, 2018), download=source),
            {"landsat_2012", "landsat_2018", "luisa_2012", "luisa_2018"},
        ),
        (lambda root, source: LuisaCls(root, sensors="landsat", download=source), {"landsat_2018", "luisa_2018"}),
        (
            lambda root, source: LuisaChange(root, download=source),
            {"landsat_2012", "landsat_2018", "luisa_2012", "luisa_2018"},
        ),
        (
            lambda root, source: LuisaSeries(root, years=(2012,), year=2012, download=source),
            {"landsat_2012", "luisa_2012"},
        ),
        (
            lambda root, source: LuisaSeries(root, download=source),
            {"landsat_2012", "landsat_2018", "luisa_2012", "luisa_2018"},
        ),
    ],
    ids=["segmentation", "both years", "patches", "change", "series of 2012", "series"],
)
def test_each_kind_of_dataset_downloads_the_years_that_it_reads(
    release_root: Path, tmp_path: Path, make: Callable[[Path, str], LuisaSeg], arrays: set[str]
) -> None:
    dataset = make(tmp_path / "got", str(release_root))
    assert dataset.read([0, 1])["tile"]
    assert {path.parent.name for path in (tmp_path / "got").glob("*_20*/zarr.json")} >= arrays
    assert not list((tmp_path / "got").glob("sentinel2_*"))


def test_one_is_as_good_as_a_list_of_one(release_root: Path, tmp_path: Path) -> None:
    release = download(str(release_root), tmp_path / "got", splits="val", sensors="landsat", years=2018)
    wanted = {"landsat_2018", "landsat-clear_2018", "luisa_2018"}
    assert shards(tmp_path / "got", release) == {("val", array) for array in wanted}


def test_a_combination_that_does_not_exist(release_root: Path, tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match="has no sentinel2 for 2012") as error:
        download(str(release_root), tmp_path / "got", sensors=["landsat", "sentinel2"], years=[2012])
    assert error.value.remedy == "It has 2018."
    assert not (tmp_path / "got").exists()


def test_the_id_of_a_release_names_it(published: FakeHub, release_root: Path, tmp_path: Path) -> None:
    release = Manifest.load(release_root)
    published.commit("lulcbench/tiny", {MANIFEST: b"{}"})  # the branch is elsewhere by now
    assert download(release.id, tmp_path / "a", splits="val").digest == release.digest
    assert download(release.id, tmp_path / "a", splits="val", offline=True).digest == release.digest
    published.repositories["lulcbench/other"] = published.repositories["lulcbench/tiny"]
    with pytest.raises(LulcbenchError, match=r"holds tiny-0\.1\.0, not other-0\.1\.0"):
        download("other-0.1.0", tmp_path / "b", splits="val")


def test_what_was_downloaded_and_is_gone_is_missed(release_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "got"
    download(str(release_root), root, splits="val", sensors="landsat", years=2018)
    release = download(str(release_root), root, splits="train", sensors="landsat", years=2018)
    assert not verify(Release(root, release)).problems
    lost = {file.path for file in release.files if file.array == ArrayKey("landsat", 2018) and file.split != "test"}
    lost |= {file.path for file in release.files if file.array == ArrayKey("luisa", 2018) and file.split == "val"}
    for path in lost:
        (root / path).unlink()
    report = verify(Release(root, release))
    assert {problem.path for problem in report.problems} == lost
    repair(root, [problem.file for problem in report.problems if problem.file])
    assert not verify(Release(root, release)).problems


@pytest.mark.parametrize("content", [b"", b"{", None], ids=["empty", "truncated", "missing"])
def test_a_damaged_manifest_is_fetched_again(release_root: Path, tmp_path: Path, content: bytes | None) -> None:
    root, other = tmp_path / "got", Path(shutil.copytree(release_root, tmp_path / "other"))
    release = download(str(other), root, splits="val")
    if content is None:
        (root / MANIFEST).unlink()
    else:
        (root / MANIFEST).write_bytes(content)
    assert recover(root).digest == Manifest.load(root).digest == release.digest
    # A newer release at the place it came from is not taken for it.
    release.model_copy(update={"version": "9.9.9"}).write(other)
    (root / MANIFEST).write_bytes(b"")
    with pytest.raises(LulcbenchError, match=r"other holds tiny-9\.9\.9"):
        recover(root)
    assert recover(root, str(release_root)).digest == release.digest
    (root / SOURCES).write_text("nonsense")
    with pytest.raises(LulcbenchError, match="does not say which release it was"):
        recover(root)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["429", "500", "503", "cut", "wrong"])
def test_faults_pass(published: FakeHub, tmp_path: Path, fault: str) -> None:
    published.faults = lambda path, before: (
        fault if not before and ("/c/0" in path or (path.endswith("/tiny") and fault.isdigit())) else None
    )
    release = download(NAME, tmp_path / "got")
    assert not verify(Release(tmp_path / "got", release)).problems


def test_a_cut_download_is_resumed(published: FakeHub, release_root: Path, tmp_path: Path) -> None:
    biggest = max(Manifest.load(release_root).files, key=lambda file: file.bytes)
    published.faults = lambda path, before: "cut" if path.endswith(biggest.path) else None
    with pytest.raises(LulcbenchError, match=r"cut|closed|incomplete|disconnect|peer") as error:
        download(NAME, tmp_path / "got")
    assert biggest.path in error.value.what
    assert not (tmp_path / "got" / biggest.path).exists()
    assert not (tmp_path / "got" / MANIFEST).exists()
    partial = max((tmp_path / "got" / PARTIAL).iterdir(), key=lambda path: path.stat().st_size)
    assert 0 < partial.stat().st_size < biggest.bytes
    published.faults = lambda path, before: None
    release = download(NAME, tmp_path / "got")
    assert not verify(Release(tmp_path / "got", release)).problems


def test_wrong_bytes_are_never_taken(published: FakeHub, tmp_path: Path) -> None:
    published.faults = lambda path, before: "wrong" if path.endswith("index.parquet") else None
    with pytest.raises(LulcbenchError, match=r"index.parquet.*do not have the SHA-256"):
        download(NAME, tmp_path / "got")
    assert not (tmp_path / "got" / "index.parquet").exists()


def test_a_mirror_steps_in(published: FakeHub, release_root: Path, tmp_path: Path) -> None:
    published.faults = lambda path, before: "500" if "resolve" not in path else None
    release = download(NAME, tmp_path / "a", mirrors=[str(release_root)])
    assert not verify(Release(tmp_path / "a", release)).problems
    published.faults = lambda path, before: "wrong" if "/c/" in path else None
    release = download(NAME, tmp_path / "b", mirrors=[str(release_root)])
    assert not verify(Release(tmp_path / "b", release)).problems


def test_the_mirrors_of_the_environment(
    hub: FakeHub, release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny").symlink_to(release_root)
    monkeypatch.setenv("LULCBENCH_MIRRORS", f"{tmp_path}/{{name}}")
    assert download("tiny", tmp_path / "got").digest == digest(release_root)


def test_hub_down(hub: FakeHub, tmp_path: Path) -> None:
    hub.close()
    with pytest.raises(LulcbenchError, match="Found no release") as error:
        download("tiny", tmp_path / "got")
    assert "lulcbench list" in error.value.remedy


def test_no_such_release_or_revision(published: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match="Found no release"):
        download("luisa-nowhere", tmp_path / "a")
    with pytest.raises(LulcbenchError, match="Found no release"):
        download(NAME, tmp_path / "b", revision="v9.9.9")
    with pytest.raises(LulcbenchError, match="no sensor 'planet'"):
        download(NAME, tmp_path / "c", sensors=["planet"])
    with pytest.raises(LulcbenchError, match="no year 1999"):
        download(NAME, tmp_path / "d", years=[1999])
    with pytest.raises(LulcbenchError, match="neither"):
        download("./nowhere", tmp_path / "e")
    with pytest.raises(LulcbenchError, match="No way to read or write gopher"):
        download("gopher://x/y", tmp_path / "f")


def test_revisions_are_pinned(published: FakeHub, release_root: Path, tmp_path: Path) -> None:
    tag = f"v{Manifest.load(release_root).version}"
    published.commit("lulcbench/tiny", {MANIFEST: b"{}"})
    assert download(f"{NAME}@{tag}", tmp_path / "a").digest == digest(release_root)
    assert download(NAME, tmp_path / "b", revision=tag).digest == digest(release_root)
    with pytest.raises(LulcbenchError, match="Found no release"):
        download(NAME, tmp_path / "c")


def test_offline(release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download("tiny", release_root).digest == digest(release_root)
    part = Path(shutil.copytree(release_root, tmp_path / "part", ignore=shutil.ignore_patterns("landsat_2012")))
    assert download("tiny", part, years=[2018])
    with pytest.raises(LulcbenchError, match=r"files of .* are not at"):
        download("tiny", part)


def test_no_space(release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(lulcbench.download._transfers.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(LulcbenchError, match=r"GiB are needed"):
        download(str(release_root), tmp_path / "got")


def test_a_root_that_cannot_be_written(release_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LulcbenchError, match="Cannot write to"):
        download(str(release_root), tmp_path / "file" / "got")


def test_another_release_is_in_the_way(release_root: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(release_root, tmp_path / "other"))
    Manifest.load(other).model_copy(update={"version": "9.9.9"}).write(other)
    with pytest.raises(LulcbenchError, match=r"other holds .*9\.9\.9"):
        download(str(release_root), other)


def test_repair(release_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "got"
    release = download(str(release_root), root)
    victims = [file for file in release.files if file.array == ArrayKey("landsat", 2018)]
    for file in victims:
        path = root / file.path
        path.write_bytes(bytes(len(path.read_bytes())))
    problems = verify(Release(root, release)).problems
    assert {problem.path for problem in problems} == {file.path for file in victims}
    repair(root, [problem.file for problem in problems if problem.file])
    assert not verify(Release(root, release)).problems
    (root / ".sources").unlink()
    with pytest.raises(LulcbenchError, match="does not say where it came from"):
        repair(root, victims)


@pytest.mark.slow
def test_several_processes_download_to_one_root(release_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "got"
    code = f"from lulcbench.download import download; download({str(release_root)!r}, {str(root)!r})"
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    release = Manifest.load(root)
    assert not verify(Release(root, release)).problems


def test_an_interrupted_download_is_not_mistaken_for_complete(
    release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen, lock = lulcbench.download._transfers.hash_file, [0], threading.Lock()

    def interrupted(path: Path) -> str:
        with lock:
            seen[0] += 1
            if seen[0] > 5:
                raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(lulcbench.download._transfers, "hash_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download(str(release_root), tmp_path / "got", workers=1)
    with pytest.raises(LulcbenchError, match="No release at"):
        LuisaSeg(tmp_path / "got")
    for path in (tmp_path / "got").rglob("*"):
        if path.is_file() and not path.relative_to(tmp_path / "got").parts[0].startswith("."):
            name = path.relative_to(tmp_path / "got").as_posix()
            assert hash_file(path) == next(f.sha256 for f in Manifest.load(release_root).files if f.path == name)
    monkeypatch.undo()
    release = download(str(release_root), tmp_path / "got")
    assert not missing_files(tmp_path / "got", wanted(release))


@pytest.mark.slow
def test_publishing_survives_a_fault_and_refuses_what_is_not_whole(
    hub: FakeHub, release_root: Path, tmp_path: Path
) -> None:
    hub.faults = lambda path, before: "500" if path.startswith("/upload/") and before == 0 else None
    publish(release_root, NAME)
    assert download(NAME, tmp_path / "got").digest == digest(release_root)
    broken = Path(shutil.copytree(release_root, tmp_path / "broken"))
    (broken / "README.md").write_text("changed")
    with pytest.raises(LulcbenchError, match=r"missing or altered, such as README.md"):
        publish(broken, NAME)
    extra = Path(shutil.copytree(release_root, tmp_path / "extra"))
    (extra / "secret.txt").write_text("mine")
    with pytest.raises(LulcbenchError, match=r"secret.txt is not part"):
        publish(extra, NAME)
