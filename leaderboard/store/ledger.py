"""The ledger: one immutable JSON file per scored submission, and one per later event.

``<ledger>/<release key>/<submission>.json`` holds the result, ``<submission>.<event>.json`` a later withdrawal,
supersession or change of tier. Files are written atomically, contain the SHA-256 of their content, and are never
overwritten, except to replace names on request (``leaderboard.store.names``), which is an event itself. The database
can be rebuilt from them alone. ``chain.log`` lists them so that a later change, removal or exchange of a file is
detected (``leaderboard.store.chain``).

A file that is damaged, unreadable or stray is reported and skipped; it does not affect the others. Names that begin
with a dot are files that a killed process did not finish.
"""

from __future__ import annotations

import contextlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from leaderboard.store import chain
from leaderboard.store.entries import TIERS, Entry, Event
from leaderboard.store.files import create
from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import LulcbenchError

__all__ = [
    "TIERS",
    "Contents",
    "DamagedFile",
    "Entry",
    "Event",
    "find",
    "folder_of",
    "load",
    "read",
    "read_event",
    "record",
    "redactions",
    "seal",
    "write",
]
MAX_ENTRY_BYTES = 64 * 2**20

log = logging.getLogger(__name__)
_RESULT = re.compile(r"([0-9a-f]{20})\.json")
_EVENT = re.compile(r"([0-9a-f]{20})\.((?:withdrawn|restored|superseded)(?:-\d{3,})?|(?:tier|redacted)-\d{3,})\.json")
_RESTORE = "Restore it from a backup."


class DamagedFile(LulcbenchError):
    """A file in the ledger's folder that is damaged, unreadable, or not a ledger file."""


def write(root: Path, entry: Entry) -> Entry:
    """Record a result; if the submission has one already, that one is kept and returned.

    Raises:
        LulcbenchError: the existing result belongs to another predictions file.
        OSError: the disk is full; no partial file remains.
    """
    path = root / entry.path
    if not create(path, entry.model_dump(mode="json") | {"digest": entry.digest}):
        standing = read(path)
        if standing.sha256 != entry.sha256:
            raise LulcbenchError(f"{path} belongs to another predictions file.", "The ledger was altered; restore it.")
        entry = standing
    chain.append(root, entry.path, entry.digest, entry.facts)
    return entry


def record(root: Path, release_key: str, event: Event) -> Event:
    """Record an event. Files of the same kind are numbered; all may happen several times.

    An event that repeats the last one of its kind, or of withdrawal and return, is that one, so that a call that was
    interrupted can be repeated. A damaged file is kept: a rebuild then leaves the submission out.
    """
    folder, content = root / release_key, event.model_dump(mode="json") | {"digest": event.digest}
    numbered = event.kind in ("tier", "redacted")
    if not numbered and (standing := _repeated(root, folder, event)) is not None:
        chain.append(root, f"{release_key}/{standing[0].name}", standing[1].digest, standing[1].facts)
        return standing[1]
    names = [_EVENT.fullmatch(path.name) for path in folder.glob(f"{event.submission}.{event.kind}*.json")]
    number = max((int(name[2].partition("-")[2] or 0) + 1 for name in names if name), default=0)
    while True:
        ending = f"-{number:03d}" if numbered or number else ""
        path = folder / f"{event.submission}.{event.kind}{ending}.json"
        if create(path, content):
            chain.append(root, f"{release_key}/{path.name}", event.digest, event.facts)
            return event
        number += 1


def _repeated(root: Path, folder: Path, event: Event) -> tuple[Path, Event] | None:
    """The last event of a submission of the same kind (withdrawal and return alternate), if ``event`` repeats it."""
    kinds = ("withdrawn", "restored") if event.kind in ("withdrawn", "restored") else (event.kind,)
    order = chain.load(root).order()
    paths = [path for kind in kinds for path in folder.glob(f"{event.submission}.{kind}*.json")]
    if not paths:
        return None
    last = max(
        paths,
        key=lambda path: (order.get(f"{folder.name}/{path.name}", len(order)), len(path.name), path.name),
    )
    try:
        standing = read_event(last)
    except DamagedFile as error:
        log.error("%s", error.what)
        return (last, event) if last.name.startswith(f"{event.submission}.{event.kind}") else None
    same = (standing.kind, standing.actor, standing.value) == (event.kind, event.actor, event.value)
    return (last, standing) if same else None


def read(path: Path) -> Entry:
    """Read and check one result.

    Raises:
        DamagedFile: it is missing or damaged, its digest does not match, or its path is not that of its content.
    """
    return _summarised(path)[0]


def _summarised(path: Path) -> tuple[Entry, dict[str, Any]]:
    """A result, and its summary, which shows that its card and scores have a known form."""
    entry = _checked(path, Entry)
    try:
        summary, _ = entry.summary, entry.years
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedFile(f"{path}: its card or scores have an unknown form ({error!r}).", _RESTORE) from error
    if path.parts[-2:] != (entry.release_key, f"{entry.submission}.json"):
        raise DamagedFile(f"{path} holds the content of {entry.path}.", "Delete it, or move it there.")
    _check_chain(path, entry)
    return entry, summary


def redactions(path: Path) -> list[str]:
    """Values of the events in the chain that replaced names in a file of the ledger, in order."""
    sealed = chain.load(path.parents[1]).digests
    values = []
    for event in sorted(path.parent.glob(f"{path.name[:20]}.redacted-*.json"), key=lambda file: (len(file.name), file)):
        if "/".join(event.parts[-2:]) in sealed:
            with contextlib.suppress(DamagedFile):
                value = read_event(event).value
                values += [value] if value.startswith(f"{path.name} ") else []
    return values


def seal(root: Path) -> int:
    """Add the intact files that the chain does not have yet to it, such as those from another ledger.

    Returns:
        The number of files added.
    """
    contents = load(root)
    for path, item in contents.unsealed.items():
        chain.append(root, path, item.digest, item.facts)
    return len(contents.unsealed)


def find(root: Path, submission_id: str) -> Entry | None:
    """The result of a submission for any release; None if it has none.

    Raises:
        DamagedFile: its result cannot be read.
    """
    damaged: DamagedFile | None = None
    for path in sorted(root.glob(f"*/{submission_id}.json")):
        try:
            return read(path)
        except DamagedFile as error:
            damaged = error
    if damaged:
        raise damaged
    return None


def folder_of(root: Path, submission_id: str) -> str | None:
    """Release key of the result of a submission, even if the result cannot be read; None without a result."""
    return next((path.parent.name for path in sorted(root.glob(f"*/{submission_id}.json"))), None)


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a ledger.

    Attributes:
        entries: the intact results, in the order of scoring.
        summaries: submission → ``Entry.summary`` of its intact result.
        events: the intact events, in the order in which they happened.
        faults: one error per file that is damaged or stray.
        held_back: submissions with an event that cannot be read or is missing. They are not shown, since the event may
            have been a withdrawal.
        missing: paths that are in the chain, and whose files are missing.
        unsealed: path → content of intact files that are not in the chain.
        unproven: paths in which names were replaced, and of which the chain does not state the rest, since an earlier
            version wrote their lines. Other changes in them are not detected.
        head: head of the chain.
    """

    entries: tuple[Entry, ...]
    summaries: dict[str, dict[str, Any]]
    events: tuple[Event, ...]
    faults: tuple[DamagedFile, ...]
    held_back: frozenset[str]
    missing: frozenset[str]
    unsealed: dict[str, Entry | Event]
    unproven: frozenset[str]
    head: str


def load(root: Path, submission: str = "") -> Contents:
    """Read and check every file of a ledger, and that it is as the chain states.

    Args:
        root: folder of the ledger.
        submission: id of the only submission whose files are read; empty for all files.
    """
    entries: list[Entry] = []
    summaries: dict[str, dict[str, Any]] = {}
    events: list[tuple[Path, Event]] = []
    faults: list[DamagedFile] = []
    held_back: set[str] = set()
    sealed = chain.load(root)
    if sealed.fault:
        faults.append(DamagedFile(f"{root / chain.NAME}: {sealed.fault}; the ledger was altered.", _RESTORE))
    seen: set[str] = set()
    for path in _paths(root) if not submission else sorted(root.glob(f"*/{submission}.*json")):
        seen.add(path.relative_to(root).as_posix())
        event = _EVENT.fullmatch(path.name)
        try:
            if path.parent == root or not (event or _RESULT.fullmatch(path.name)):
                raise DamagedFile(f"{path} is not a file of the ledger.", "Move it elsewhere.")
            if event:
                events.append((path, read_event(path)))
            else:
                entry, summary = _summarised(path)
                entries.append(entry)
                summaries[entry.submission] = summary
        except DamagedFile as error:
            faults.append(error)
            if event:
                held_back.add(event[1])
    missing = [path for path in sealed.digests if path not in seen and PurePosixPath(path).name.startswith(submission)]
    for name in missing:
        faults.append(DamagedFile(f"{root / name} is missing.", _RESTORE))
        if event := _EVENT.fullmatch(PurePosixPath(name).name):
            held_back.add(event[1])
    order = sealed.order()
    last = len(order)
    events.sort(key=lambda known: (order.get(known[0].relative_to(root).as_posix(), last), known[1].at))
    intact: dict[str, Entry | Event] = {entry.path: entry for entry in entries}
    intact |= {path.relative_to(root).as_posix(): event for path, event in events}
    replaced = [path for path, item in intact.items() if sealed.digests.get(path, item.digest) != item.digest]
    return Contents(
        tuple(sorted(entries, key=lambda entry: entry.scored_at)),
        summaries,
        tuple(event for _, event in events),
        tuple(faults),
        frozenset(held_back),
        frozenset(missing),
        {path: item for path, item in intact.items() if path not in order},
        frozenset(path for path in replaced if path not in sealed.facts),
        sealed.head,
    )


def _check_chain(path: Path, item: Entry | Event) -> None:
    """Refuse a content that is not the one in the chain, unless the chain notes it with other names."""
    sealed, name = chain.load(path.parents[1]), "/".join(path.parts[-2:])
    if sealed.digests.get(name, item.digest) == item.digest:
        return
    noted = ".redacted-" not in path.name and f"{path.name} {item.digest}" in redactions(path)[-1:]
    if not noted or sealed.facts.get(name, item.facts) != item.facts:
        raise DamagedFile(f"{path}: its content is not that which {chain.NAME} states; it was altered.", _RESTORE)


def _paths(root: Path) -> list[Path]:
    """All files in the folders of a ledger and beside them, in a fixed order."""
    paths: list[Path] = []
    for path in sorted(root.iterdir()):
        if not path.name.startswith(".") and path not in (root / "README.md", root / chain.NAME):
            paths += sorted(path.iterdir()) if path.is_dir() else [path]
    return [path for path in paths if not path.name.startswith(".")]


def read_event(path: Path) -> Event:
    """Read and check one event; raises ``DamagedFile`` like ``read``."""
    event = _checked(path, Event)
    name = _EVENT.fullmatch(path.name)
    if name is None or (event.submission, event.kind) != (name[1], name[2].partition("-")[0]):
        raise DamagedFile(f"{path} holds the event of another file.", _RESTORE)
    _check_chain(path, event)
    return event


def _checked[T: (Entry, Event)](path: Path, kind: type[T]) -> T:
    content = _content(path)
    stated = content.pop("digest", None)
    try:
        item = kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedFile(f"{path} is not a file of the ledger: {where[:80]}: {first['msg']}.", _RESTORE) from error
    if item.digest != stated:
        raise DamagedFile(f"{path}: its digest does not match its content, which was altered.", _RESTORE)
    return item


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        what = "is not a file" if path.exists() or path.is_symlink() else "is missing"
        raise DamagedFile(f"{path} {what}.", _RESTORE)
    try:
        return parse_json(read_limited(path, MAX_ENTRY_BYTES), str(path), max_bytes=MAX_ENTRY_BYTES)
    except OSError as error:
        raise DamagedFile(f"{path} cannot be read: {error.strerror}.", _RESTORE) from error
    except LulcbenchError as error:
        raise DamagedFile(error.what, _RESTORE) from error
