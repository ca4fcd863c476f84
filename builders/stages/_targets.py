"""Publish to the Hugging Face hub or any URL that fsspec writes: files first, the manifest last."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from lulcbench._files import hash_file
from lulcbench._parsing import parse_json
from lulcbench.errors import LulcbenchError
from lulcbench.release import MANIFEST, FileInfo, Release
from lulcbench.remote.addresses import MAX_MANIFEST_BYTES, split_hub
from lulcbench.remote.stores import patiently, place

Report = Callable[[int, int], None]
WORKERS = 8
SENT = ".published"
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs"}


def check(root: Path) -> Release:
    """The manifest, after hashing every file that it lists.

    Raises:
        LulcbenchError: a file is missing or not as the manifest says.
    """
    release = Release.load(root)

    def right(file: FileInfo) -> bool:
        path = root / file.path
        return path.is_file() and path.stat().st_size == file.bytes and hash_file(path) == file.sha256

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(right, release.files))
    bad = [file.path for file, is_right in zip(release.files, found, strict=True) if not is_right]
    if bad:
        raise LulcbenchError(
            f"{len(bad)} files of {root} are missing or altered, such as {bad[0]}.",
            "Run 'lulcbench verify', then build the release again.",
        )
    known = {MANIFEST, *(file.path for file in release.files)}
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        if path.is_file() and relative.as_posix() not in known and not relative.parts[0].startswith("."):
            raise LulcbenchError(f"{path} is no part of the release.", "Move it elsewhere before publishing.")
    return release


def to_hub(root: Path, target: str) -> str:
    """Publish to ``hf://owner/name``: makes the repository, uploads what is not there yet, tags the version.

    huggingface_hub's ``upload_folder`` uploads in parallel, a large folder in several commits, and skips what the hub
    already has, so that the same command goes on after an interruption (version 2.4 has no ``upload_large_folder`` any
    more). The manifest follows the files, and the tag ``v<version>`` comes last: a release is complete when it has one.

    Raises:
        LulcbenchError: another release already has the tag, or the hub refuses.
    """
    from huggingface_hub import HfApi

    release = check(root)
    owner, name, revision, path = split_hub(target)
    if path or revision:
        raise LulcbenchError(f"{target} is more than a repository.", "Give hf://owner/name; the tag is the version.")
    repository, tag, api = f"{owner}/{name}", f"v{release.version}", HfApi()
    message = f"{release.id}, digest {release.digest}"

    def upload(**patterns: list[str]) -> None:
        # Every step may be repeated: what was done already stays as it is.
        patiently(
            lambda: api.upload_folder(
                repo_id=repository, folder_path=root, repo_type="dataset", commit_message=message, **patterns
            ),
            target,
        )

    try:
        patiently(lambda: api.create_repo(repository, repo_type="dataset", exist_ok=True), target)
        refs = patiently(lambda: api.list_repo_refs(repository, repo_type="dataset"), target)
        if tag in {each.name for each in refs.tags}:
            published = patiently(lambda: place(f"{target}@{tag}").whole(MANIFEST), target)
            _same(release, published, f"{target}@{tag}")
            return f"{target}@{tag}"
        upload(ignore_patterns=[".*", MANIFEST])
        upload(allow_patterns=[MANIFEST])
        patiently(
            lambda: api.create_tag(repository, tag=tag, tag_message=message, repo_type="dataset", exist_ok=True), target
        )
    except LulcbenchError:
        raise
    except Exception as error:  # connections break in as many ways as there are libraries
        raise LulcbenchError(
            f"Cannot publish to {target}: {(str(error) or type(error).__name__).splitlines()[0]}",
            "Log in with 'hf auth login' or set HF_TOKEN; what was uploaded is kept, run the same command again.",
        ) from error
    return f"{target}@{tag}"


def to_url(root: Path, target: str, report: Report | None = None) -> str:
    """Publish below an fsspec URL such as ``s3://bucket/releases``, into ``<target>/<name>-<version>``.

    Files that this folder has sent there before are kept, as long as they have their size; others are sent whatever is
    there, since their content is unknown. The manifest comes last.

    Raises:
        LulcbenchError: another release of that version is there, or the place refuses.
    """
    from fsspec.core import url_to_fs

    release = check(root)
    final = f"{target.rstrip('/')}/{release.id}"
    try:
        system, base = url_to_fs(final)
        if system.exists(f"{base}/{MANIFEST}"):
            _same(release, system.cat_file(f"{base}/{MANIFEST}"), final)
            return final

        sent = _Sent(root, final)

        def send(file: FileInfo) -> None:
            place = f"{base}/{file.path}"
            if not (sent.has(file) and system.exists(place) and system.size(place) == file.bytes):
                _put(system, root / file.path, place)
                sent.add(file)

        with ThreadPoolExecutor(WORKERS) as pool:
            for done, _ in enumerate(pool.map(send, release.files), start=1):
                if report:
                    report(done, len(release.files))
        _put(system, root / MANIFEST, f"{base}/{MANIFEST}")
        sent.forget()
    except LulcbenchError:
        raise
    except Exception as error:  # every file system of fsspec has exceptions of its own
        raise LulcbenchError(
            f"Cannot publish to {final}: {type(error).__name__}: {error}.",
            "Check address and credentials; what was sent is kept, run the same command again.",
        ) from error
    return final


class _Sent:
    """Files that a release folder has sent to a place, noted in it until all are there.

    Where the folder cannot be written nothing is noted, and an interrupted publication begins anew.
    """

    def __init__(self, root: Path, where: str) -> None:
        self._path, self._where, self._lock = root / SENT, where, threading.Lock()
        try:
            self._known = set(self._path.read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError):
            self._known = set()

    def has(self, file: FileInfo) -> bool:
        """Whether a file with this content was sent."""
        return self._line(file) in self._known

    def add(self, file: FileInfo) -> None:
        """Note that a file is there whole."""
        with self._lock, suppress(OSError), self._path.open("a", encoding="utf-8") as note:
            note.write(self._line(file) + "\n")

    def forget(self) -> None:
        """The manifest is there, and says it all."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _line(self, file: FileInfo) -> str:
        return f"{file.sha256} {self._where}/{file.path}"


def _put(system: Any, source: Path, place: str) -> None:
    """Send a file whole or not at all."""
    protocols = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
    if protocols & OBJECT_STORES:  # where files appear when they are complete; s3fs would make a bucket for a folder
        system.put_file(os.fspath(source), place)
        return
    folder, _, name = place.rpartition("/")
    system.makedirs(folder, exist_ok=True)
    system.put_file(os.fspath(source), f"{folder}/.{name}.partial")
    system.mv(f"{folder}/.{name}.partial", place)


def _same(release: Release, manifest: bytes, where: str) -> None:
    try:
        digest = parse_json(manifest, where, max_bytes=MAX_MANIFEST_BYTES)["digest"]
    except (LulcbenchError, KeyError):
        digest = None
    if digest != release.digest:
        raise LulcbenchError(
            f"{where} is another release of that version.", "Raise 'version' in the recipe: releases are immutable."
        )
