"""Publishing to a branch of a git repository, on disk."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leaderboard.publish import publish
from leaderboard.settings import Settings
from leaderboard.store import chain, ledger
from leaderboard.store.db import Database
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import Service

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=o", "-c", "user.email=o@localhost", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--bare", "--quiet", str(tmp_path / "pages.git")], check=True)
    return tmp_path / "pages.git"


@pytest.mark.slow
def test_board_and_ledger_are_one_commit_that_readers_can_verify(
    service: Service, fill: Callable[..., list[str]], remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ignored").write_text("*.log\n")  # as operators have it; the chain is a log
    (tmp_path / "gitconfig").write_text(f"[core]\n excludesFile = {tmp_path}/ignored\n[commit]\n gpgsign = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    first, second = fill({"name": "Alpha"}, {"name": "Beta", "kind": "poor"})
    service.client.post(f"/api/v1/submissions/{second}/withdraw", headers=service.headers())
    monkeypatch.chdir(tmp_path)
    made = publish(service.db, service.settings, remote.name, "gh-pages")  # a path from the working directory
    assert git(remote, "rev-parse", "gh-pages").strip() == made
    assert publish(service.db, service.settings, str(remote), "gh-pages") == ""  # nothing has changed
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    git(tmp_path, "clone", "--quiet", "--branch=gh-pages", str(remote), "copy")
    copy = tmp_path / "copy"
    assert "Alpha" in (copy / "index.html").read_text()
    assert "Beta" not in (copy / "index.html").read_text()
    contents = ledger.load(copy / "ledger")  # the withdrawn result and its withdrawal as well
    assert {entry.submission for entry in contents.entries} == {first, second}
    assert [event.kind for event in contents.events] == ["withdrawn"]
    assert not contents.faults
    assert contents.head == chain.load(service.settings.ledger).head
    (copy / "README.md").write_text("---\nsdk: static\n---\n")  # what the owner of the branch keeps there
    (copy / "stray.html").write_text("old")
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "--message=card")
    git(copy, "push", "--quiet")
    service.client.post(f"/api/v1/submissions/{first}/withdraw", headers=service.headers())
    assert publish(service.db, service.settings, str(remote), "gh-pages")
    names = git(remote, "ls-tree", "-r", "--name-only", "gh-pages").split()
    assert "README.md" in names
    assert "stray.html" not in names
    assert not any(first in name for name in names if name.startswith("submissions/"))
    assert git(remote, "rev-list", "--count", "gh-pages").strip() == "3"


def test_a_damaged_file_is_not_published_and_faults_of_git_are_explained(
    service: Service, fill: Callable[..., list[str]], remote: Path, tmp_path: Path
) -> None:
    good, bad = fill({}, {})
    (path,) = service.settings.ledger.glob(f"*/{bad}.json")
    path.write_text(json.dumps({}))
    publish(service.db, service.settings, str(remote), "pages")
    names = git(remote, "ls-tree", "-r", "--name-only", "pages")
    assert f"{good}.json" in names
    assert f"{bad}.json" not in names
    with pytest.raises(LulcbenchError, match="git ls-remote failed"):
        publish(service.db, service.settings, str(tmp_path / "nowhere.git"), "pages")
    for remote_name, branch in (("--upload-pack=x", "pages"), (str(remote), "--force"), (str(remote), "")):
        with pytest.raises(LulcbenchError, match="not a repository and a branch"):
            publish(service.db, service.settings, remote_name, branch)


@pytest.mark.slow
def test_another_ledger_does_not_replace_the_published_one(
    service: Service, fill: Callable[..., list[str]], remote: Path, tmp_path: Path
) -> None:
    fill({})
    made = publish(service.db, service.settings, str(remote), "pages")
    settings = service.settings.model_copy(update={"data": tmp_path / "data2"})
    with empty(settings) as db:
        assert publish(db, settings, str(remote), "pages") == ""  # the results are those of the ledger
    settings = settings.model_copy(update={"data": tmp_path / "data3", "ledger": tmp_path / "mistyped"})
    with empty(settings) as db, pytest.raises(LulcbenchError, match="does not continue"):
        publish(db, settings, str(remote), "pages")
    assert git(remote, "rev-parse", "pages").strip() == made


@contextmanager
def empty(settings: Settings) -> Iterator[Database]:
    """A new database."""
    settings.prepare()
    db = Database(settings.url)
    db.upgrade(settings.ledger)
    yield db
    db.close()
