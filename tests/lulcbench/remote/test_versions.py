"""Files of an earlier version, or of another build, do not become part of a release that is published."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lulcbench.errors import LulcbenchError
from lulcbench.release import MANIFEST, ArrayKey, FileInfo, Manifest, Release
from lulcbench.remote import Publication, open_store
from tests.lulcbench.fake_hub import FakeHub

pytestmark = [
    pytest.mark.usefixtures("patient"),
    pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning"),
]
ARRAY = ArrayKey("landsat", 2012)


@pytest.fixture
def newer(release_root: Path, tmp_path: Path) -> tuple[Publication, FileInfo]:
    """A later version, one of whose shards has only nodata and so is not stored, and that shard of the earlier one."""
    before = Manifest.load(release_root)
    gone = next(file for file in before.files if file.array == ARRAY and file.split == "train")
    files = tuple(file for file in before.files if file != gone)
    root = Path(shutil.copytree(release_root, tmp_path / "newer"))
    (root / gone.path).unlink()
    release = before.model_copy(update={"version": "0.2.0", "files": files})
    release.write(root)
    return Publication(root, files, MANIFEST, release.id, release.version, release.digest), gone


def test_a_new_version_on_the_hub_keeps_no_shards_of_the_earlier_one(
    published: FakeHub, newer: tuple[Publication, FileInfo]
) -> None:
    publication, gone = newer
    main = published.repositories["lulcbench/tiny"]["main"]
    published.commit("lulcbench/tiny", main | {"notes.txt": b"by hand"})
    address = open_store("hf://lulcbench/tiny").publish(publication)
    files = published.repositories["lulcbench/tiny"]["v0.2.0"]
    assert set(files) == {MANIFEST, "audit.json", "audit.html", "notes.txt", *(file.path for file in publication.files)}
    assert gone.path in published.repositories["lulcbench/tiny"]["v0.1.0"]
    row = 2 * int(gone.path.split("/")[2])  # shards have two tiles
    for where, empty in ((address, True), ("hf://lulcbench/tiny@v0.1.0", False)):
        values = Release.open(where).reader("train").read(ARRAY, [row], [(0, 0)], (160, 160))
        assert (not values.any()) == empty


def test_leftovers_of_another_build_are_not_published(newer: tuple[Publication, FileInfo], tmp_path: Path) -> None:
    publication, gone = newer
    left = tmp_path / "published" / publication.id / gone.path
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of an interrupted publication")
    for address in (str(tmp_path / "published"), f"file://{tmp_path / 'published'}"):
        with pytest.raises(LulcbenchError, match=rf"{gone.path}, which is not part of tiny-0\.2\.0"):
            open_store(address).publish(publication)
        assert not (tmp_path / "published" / publication.id / MANIFEST).exists()
    left.unlink()
    assert Manifest.load(open_store(tmp_path / "published").publish(publication)).version == "0.2.0"
