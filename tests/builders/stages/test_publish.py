"""Publishing where things go wrong on the way: to the hub and to a file system behind fsspec."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest

import lulcbench.remote.backends.filesystem as filesystem
from builders.stages.publish import publish
from lulcbench.download import download
from lulcbench.errors import LulcbenchError
from lulcbench.release import MANIFEST, ArrayKey, Manifest, Release
from lulcbench.release.verify import verify
from tests.lulcbench.fake_hub import TOKEN, FakeHub

NAME = "hf://lulcbench/tiny"

pytestmark = [
    pytest.mark.usefixtures("patient"),
    # huggingface_hub uploads with an argument of httpx that is being renamed.
    pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning"),
]


STEPS = {"/repos/create", "/preupload/main", "/objects/batch", "/upload/", "/commit/", "/tag/"}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["429", "500", "cut"])
def test_faults_of_the_hub_pass(hub: FakeHub, release_root: Path, tmp_path: Path, fault: str) -> None:
    """Each step of a publication fails once."""
    hit = set()

    def once(path: str, before: int) -> str | None:
        for step in STEPS - hit:
            if step in path:
                hit.add(step)
                return fault
        return None

    hub.faults = once
    publish(release_root, NAME)
    assert hit == STEPS
    hub.faults = lambda path, before: None
    got = download(NAME, tmp_path / "got", revision=f"v{Manifest.load(release_root).version}")
    assert got.digest == Manifest.load(release_root).digest
    assert not verify(Release(tmp_path / "got", got)).problems


def test_a_hub_that_refuses_is_not_asked_again(hub: FakeHub, release_root: Path) -> None:
    hub.faults = lambda path, before: "403" if "/commit/" in path else None
    with pytest.raises(LulcbenchError, match="Cannot publish to hf://lulcbench/tiny") as error:
        publish(release_root, NAME)
    assert "HF_TOKEN" in error.value.remedy
    assert [n for path, n in hub.requests.items() if "/commit/" in path] == [1]


@pytest.mark.slow
def test_a_killed_publication_goes_on(hub: FakeHub, release_root: Path, tmp_path: Path) -> None:
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    command = [sys.executable, "-m", "builders", "publish", str(release_root), NAME]
    children: list[subprocess.Popen[bytes]] = []

    def kill(path: str, before: int) -> str | None:
        if path.startswith("/upload/") and len(hub.stored) == 10:
            children[0].send_signal(signal.SIGKILL)
            return "500"
        return None

    hub.faults = kill
    with subprocess.Popen(command, env=environment) as child:
        children.append(child)
        assert child.wait(120) == -signal.SIGKILL
    arrived = set(hub.stored)
    assert MANIFEST not in hub.repositories["lulcbench/tiny"]["main"]
    assert not any(name.startswith("v") for name in hub.repositories["lulcbench/tiny"])
    hub.faults = lambda path, before: None
    subprocess.run(command, env=environment, check=True, timeout=120)
    assert {hub.stored[oid] for oid in arrived} == {1}  # nothing that had arrived was sent again
    got = download(NAME, tmp_path / "got")
    assert not verify(Release(tmp_path / "got", got)).problems


def test_what_others_left_at_a_url_is_not_taken_for_published(release_root: Path, tmp_path: Path) -> None:
    release = Manifest.load(release_root)
    file = next(file for file in release.files if file.array == ArrayKey("landsat", 2018) and "/c/" in file.path)
    there = tmp_path / "public" / release.id / file.path
    there.parent.mkdir(parents=True)
    there.write_bytes(bytes(file.bytes))
    where = publish(release_root, f"file://{tmp_path}/public")
    assert not verify(Release(tmp_path / "public" / release.id, release)).problems
    assert download(where, tmp_path / "got").digest == release.digest
    assert not list((tmp_path / "public").rglob(".*.partial"))
    assert not (release_root / filesystem.SENT).exists()


def test_a_file_system_that_is_neither_local_nor_an_object_store(release_root: Path, tmp_path: Path) -> None:
    where = publish(release_root, "memory://public")
    assert publish(release_root, "memory://public") == where
    assert not verify(Release(tmp_path / "got", download(where, tmp_path / "got"))).problems
    assert not [path for path in fsspec.filesystem("memory").find("/public") if path.endswith(".partial")]


def test_an_interrupted_publication_to_a_url_goes_on(
    release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, sent, real = Manifest.load(release_root), [], filesystem._put
    local = type(fsspec.filesystem("file"))

    def put(system: Any, source: Path, place: str) -> None:
        sent.append(place)
        real(system, source, place)

    def cut(self: Any, source: str, place: str, **options: Any) -> None:
        if len(sent) > 5:
            Path(place).write_bytes(b"half")
            raise ConnectionError("cut")
        whole(self, source, place, **options)

    whole = local.put_file
    monkeypatch.setattr(filesystem, "WORKERS", 1)
    monkeypatch.setattr(filesystem, "_put", put)
    monkeypatch.setattr(local, "put_file", cut)
    with pytest.raises(LulcbenchError, match=r"Cannot publish to file://.*ConnectionError"):
        publish(release_root, f"file://{tmp_path}/public")
    assert not (tmp_path / "public" / release.id / MANIFEST).exists()
    done = set(sent[:5])
    monkeypatch.setattr(local, "put_file", whole)
    sent.clear()
    # One that was sent is gone since, and another place is not this one.
    lost = sorted(done)[0]
    Path(lost).unlink()
    publish(release_root, f"file://{tmp_path}/public")
    assert set(sent) & done == {lost}
    assert not verify(Release(tmp_path / "public" / release.id, release)).problems
