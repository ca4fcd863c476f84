"""Identity of input files: what changes when a file is replaced, and checksums that a catalog states."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from builders.readers.locators import file_stamp
from builders.readers.opening import note_stamp
from builders.readers.scene import Asset, Scene
from builders.readers.servers import is_on_server, server_stamps
from builders.workspace import Workspace, read_json, write_json
from lulcbench.errors import CorruptFileError, LulcbenchError

# Codes of https://github.com/multiformats/multicodec (table.csv) for the hash functions of hashlib, as their
# unsigned-varint bytes.
MULTIHASH = {
    "11": "sha1", "12": "sha256", "20": "sha384", "13": "sha512", "17": "sha3_224", "16": "sha3_256",
    "15": "sha3_384", "14": "sha3_512", "d501": "md5",
}  # fmt: skip

log = logging.getLogger(__name__)


def parse_checksum(text: str) -> tuple[str, str] | None:
    """Name of the hash function in ``hashlib`` and digest of a multihash; None if it is of another function.

    Example:
        >>> parse_checksum("1114" + 20 * "ab")
        ('sha1', 'abababababababababababababababababababab')
    """
    text = text.lower()
    for code, name in MULTIHASH.items():
        size = hashlib.new(name, usedforsecurity=False).digest_size
        prefix = f"{code}{size:02x}"
        if text.startswith(prefix) and len(text) == len(prefix) + 2 * size:
            return name, text.removeprefix(prefix)
    return None


def stamps(scenes: Iterable[Scene]) -> dict[str, str]:
    """What identifies the content of each file of the scenes, by its address.

    Size and time of modification of a local file; ETag, or time of modification and size, of a file on a server;
    nothing for servers that state neither.

    Raises:
        LulcbenchError: a file is missing.
        NetworkError: a server cannot be reached, or refuses a file.
    """
    hrefs = sorted({asset.href for scene in scenes for asset in scene.assets.values()})
    remote = [href for href in hrefs if is_on_server(href)]
    return {href: _local_stamp(href) for href in hrefs if not is_on_server(href)} | dict(
        zip(remote, server_stamps(remote), strict=True)
    )


def with_stamps(scenes: Sequence[Scene]) -> list[Scene]:
    """Scenes with what identifies the content of their files on servers.

    Raises:
        LulcbenchError: see ``stamps``.
    """
    hrefs = {asset.href for scene in scenes for asset in scene.assets.values() if is_on_server(asset.href)}
    known = dict(zip(sorted(hrefs), server_stamps(sorted(hrefs)), strict=True))
    for href, stamp in known.items():
        note_stamp(href, stamp)
    out = []
    for scene in scenes:
        assets = {k: a.model_copy(update={"stamp": known.get(a.href) or None}) for k, a in scene.assets.items()}
        out.append(scene.model_copy(update={"assets": assets}))
    return out


def check_unchanged(scenes: Iterable[Scene], known: Mapping[str, str]) -> None:
    """Nothing, if files on servers are those of the search.

    Args:
        scenes: the scenes of the lock file.
        known: ``stamps`` of the scenes.

    Raises:
        CorruptFileError: one was replaced.
    """
    assets = {asset.href: asset for scene in scenes for asset in scene.assets.values() if asset.stamp}
    replaced = sorted(href for href, asset in assets.items() if known[href] != asset.stamp)
    if replaced:
        raise CorruptFileError(
            f"{len(replaced)} files were replaced on their servers since the search, such as {replaced[0]}.",
            "Delete the lock file and run 'python -m builders search' again, to use the new files.",
        )


def verify_checksums(space: Workspace, scenes: Iterable[Scene], known: dict[str, str]) -> None:
    """Compare local files with the checksums that their items state; what was verified before is not read again.

    Files behind a URL are read by windows, so that their checksums cannot be verified.

    Args:
        space: keeps which files were verified.
        scenes: the scenes whose files are going to be read.
        known: ``stamps`` of the scenes.

    Raises:
        CorruptFileError: a file differs from its checksum.
    """
    memory = space.work / "verified.json"
    done: dict[str, list[str]] = read_json(memory, "materialize") if memory.is_file() else {}
    todo: dict[str, Asset] = {}
    for scene in scenes:
        for asset in scene.assets.values():
            if asset.checksum is None or not _local(asset.href):
                continue
            if parse_checksum(asset.checksum) is None:
                log.warning("%s: the checksum %s… cannot be verified", asset.href, asset.checksum[:12])
            elif done.get(asset.href) != [asset.checksum, known[asset.href]]:
                todo[asset.href] = asset
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter
        problems = [problem for problem in pool.map(_problem, todo.values()) if problem]
    if problems:
        raise CorruptFileError(
            f"{len(problems)} files differ from the checksum that the catalog states, such as {problems[0]}.",
            "Fetch them again, or correct file:checksum of their items if the files are right.",
        )
    if todo:
        done |= {href: [str(asset.checksum), known[href]] for href, asset in todo.items()}
        write_json(memory, done)


def _problem(asset: Asset) -> str | None:
    name, digest = parse_checksum(str(asset.checksum)) or ("", "")
    with Path(asset.href).open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()
    return None if found == digest else f"{asset.href} ({name} {found[:16]}…, stated {digest[:16]}…)"


def _local(href: str) -> bool:
    return "://" not in href and Path(href).is_file()


_ON_SERVER = re.compile(r"/vsi(?!zip|tar|gzip|7z|rar)\w+/")  # such as /vsigs/


def _local_stamp(href: str) -> str:
    path = Path(href)
    if href.startswith("/vsi"):  # such as /vsizip/folder/archive.zip/file.tif: the archive counts
        inside = re.sub(r"^(/vsi\w+/)+", "", href).replace("{", "").replace("}", "")
        named = (p for root in (Path(), Path("/")) for p in (root / inside, *(root / inside).parents))
        path = next((p for p in named if p.is_file()), path)
    stamp = file_stamp(path) if path.name else None
    if stamp is None and "://" not in href and not _ON_SERVER.search(href):
        raise LulcbenchError(f"{href} is missing.", "Fetch the scene again, or remove it from the catalog.")
    return "-".join(map(str, stamp or ()))
