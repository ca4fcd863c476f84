"""Publishing of ledger and static board to a branch of a git repository that serves pages (GitHub, Hugging Face)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from leaderboard.export import export
from leaderboard.settings import Settings
from leaderboard.store import chain, ledger
from leaderboard.store.db import Database
from lulcbench.errors import LulcbenchError

# Files of the branch that its owner wrote: the card of a Hugging Face Space, a domain, rules of large files.
KEPT = ("README.md", "CNAME", ".gitattributes", "LICENSE", ".git")
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,100}")
_CONFIG = {
    "user.email": "leaderboard@localhost",
    "commit.gpgsign": "false",  # which may ask for a password
}


def publish(db: Database, settings: Settings, remote: str, branch: str, url: str = "") -> str:
    """Export the board, add the ledger, and push both as one commit; nothing is pushed if nothing has changed.

    Every file of the branch is replaced, except those in ``KEPT``. History is never rewritten.

    Args:
        db: the database.
        settings: for the ledger and the images.
        remote: address of a git repository, or a path; credentials are those of git.
        branch: branch that is served as pages; created if it is missing.
        url: address at which it is served, for permalinks.

    Returns:
        The commit; empty if nothing has changed.

    Raises:
        LulcbenchError: git is missing or fails, for example because somebody else pushed at the same time; the board
            cannot be exported; or the branch has a ledger that this one does not continue.
    """
    if remote.startswith("-") or not _BRANCH.fullmatch(branch):
        raise LulcbenchError(f"{remote!r}, {branch!r} are not a repository and a branch.", "Give its address first.")
    with tempfile.TemporaryDirectory(dir=settings.data) as name:
        site, clone = Path(name) / "site", Path(name) / "clone"
        export(db, settings, site, url)
        _add_ledger(settings.ledger, site / "ledger")
        clone.mkdir()
        _git(clone, "init", "--quiet", f"--initial-branch={branch}")
        for key, value in ({"user.name": settings.title} | _CONFIG).items():
            _git(clone, "config", key, value)
        _git(clone, "remote", "add", "--", "origin", str(Path(remote).resolve()) if Path(remote).exists() else remote)
        if _git(clone, "ls-remote", "--heads", "origin", f"refs/heads/{branch}"):
            _git(clone, "fetch", "--quiet", "--depth=1", "origin", f"refs/heads/{branch}")
            _git(clone, "reset", "--quiet", "--hard", "FETCH_HEAD")
            _check_continued(clone / "ledger", settings.ledger, branch)
        for path in clone.iterdir():
            if path.name not in KEPT:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(site, clone, dirs_exist_ok=True)
        (clone / ".nojekyll").touch()  # GitHub would otherwise leave out names with underscores
        _git(clone, "add", "--all", "--force")  # also what the operator's own git ignores, such as *.log
        if not _git(clone, "status", "--porcelain"):
            return ""
        _git(clone, "commit", "--quiet", f"--message=Board at head {chain.load(settings.ledger).head[:16]}")
        _git(clone, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return _git(clone, "rev-parse", "HEAD")


def _check_continued(published: Path, root: Path, branch: str) -> None:
    """Refuse to replace a board by another one, such as that of an empty or older ledger."""
    head = chain.load(published).head
    if head not in (chain.START, *chain.load(root).heads):
        raise LulcbenchError(
            f"The branch {branch} has a ledger with the head {head[:16]}…, which {root} does not continue.",
            "Give the --ledger that was published there, with all its files. To replace it on purpose, delete the "
            "branch first.",
        )


def _add_ledger(root: Path, target: Path) -> None:
    """Copy the files that are intact and in the chain, withdrawn results and events too, so that readers can verify."""
    for name in chain.load(root).digests:
        path = root / name
        with contextlib.suppress(ledger.DamagedFile):
            ledger.read_event(path) if "." in path.stem else ledger.read(path)
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def _git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; what it prints."""
    program = shutil.which("git")
    if program is None:
        raise LulcbenchError("git is not installed.", "Install it, or copy the folder of 'export' by other means.")
    # Variables such as GIT_DIR of a hook would redirect it; a prompt would wait for ever.
    redirecting = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    environment = {key: value for key, value in os.environ.items() if key not in redirecting}
    done = subprocess.run(  # noqa: S603 - the remote is the operator's
        [program, "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"GIT_TERMINAL_PROMPT": "0"},
    )
    if done.returncode:
        what = " ".join(done.stderr.split())[:400]
        raise LulcbenchError(f"git {arguments[0]} failed: {what}", "Check address, branch and access; then repeat it.")
    return done.stdout.strip()
