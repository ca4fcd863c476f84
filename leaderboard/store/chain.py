"""The chain of the ledger: a list of its files that cannot be changed without a trace.

``<ledger>/chain.log`` has one line per file in the order in which they were written, ``HEAD DIGEST FACTS PATH``: the
SHA-256 of the file's content and of the content without names, its path below the ledger, and the head, the SHA-256 of
the previous head with all three. The last head therefore depends on every file. Readers who noted a head (it is on the
pages and in every export) can later check that the ledger has only been extended, and that only names were replaced.

Lines of earlier versions lack ``FACTS``; they remain valid.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

NAME = "chain.log"
START = "0" * 64
_LINE = re.compile(r"([0-9a-f]{64}) ([0-9a-f]{64}) (?:([0-9a-f]{64}) )?([a-z0-9][a-z0-9._/-]{0,250})")


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain as read.

    Attributes:
        digests: path → digest of the content, in the order of writing.
        facts: path → digest of the content without names; without the files of earlier versions.
        heads: the head after each line.
        fault: why a line does not follow from the one before; empty if the chain is intact.
    """

    digests: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    fault: str = ""

    @property
    def head(self) -> str:
        """The last head."""
        return self.heads[-1] if self.heads else START

    def order(self) -> dict[str, int]:
        """Path → position of its line."""
        return {path: position for position, path in enumerate(self.digests)}


def load(root: Path) -> Chain:
    """The chain of a ledger; an empty one if it has none."""
    try:
        stat = (root / NAME).stat()
    except FileNotFoundError:
        return Chain()
    return _load(root / NAME, stat.st_ino, stat.st_size, stat.st_mtime_ns)


def append(root: Path, path: str, digest: str, facts: str) -> None:
    """Add a file, unless the chain has it already; several processes may do so at the same time.

    Args:
        root: folder of the ledger.
        path: path of the file below ``root``.
        digest: SHA-256 of its content.
        facts: SHA-256 of its content without names.
    """
    descriptor = os.open(root / NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        lines = _read_all(descriptor).decode(errors="replace")
        whole = lines[: lines.rfind("\n") + 1]
        if whole != lines:  # a process that was killed left half a line
            os.ftruncate(descriptor, len(whole.encode()))
        if f" {path}\n" in whole:
            return
        last = whole.rstrip("\n").rpartition("\n")[2]
        head = following(last[:64] if last else START, digest, path, facts)
        os.write(descriptor, f"{head} {digest} {facts} {path}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def following(head: str, digest: str, path: str, facts: str) -> str:
    """The head after a line; ``facts`` is empty on a line of an earlier version."""
    return hashlib.sha256(" ".join(part for part in (head, digest, facts, path) if part).encode()).hexdigest()


@lru_cache(maxsize=8)
def _load(path: Path, inode: int, size: int, changed: int) -> Chain:
    digests: dict[str, str] = {}
    facts: dict[str, str] = {}
    heads: list[str] = []
    fault = ""
    for number, line in enumerate(path.read_text(errors="replace").split("\n")[:-1], start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[4] in digests:
            fault = fault or f"line {number} is not a line of a chain, or names a file twice"
            continue
        if match[1] != following(heads[-1] if heads else START, match[2], match[4], match[3] or ""):
            fault = fault or f"line {number} does not follow from the one before"
        heads.append(match[1])
        digests[match[4]] = match[2]
        if match[3]:
            facts[match[4]] = match[3]
    return Chain(digests, facts, tuple(heads), fault)


def _read_all(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    parts = []
    while part := os.read(descriptor, 2**20):
        parts.append(part)
    return b"".join(parts)
