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
import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from leaderboard.ranking.summary import summarise
from leaderboard.store import chain
from leaderboard.store.files import canonical, create
from lulcbench._files import Frozen
from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.release import Sha256

TIERS = ("reported", "rescored", "reproduced")
MAX_ENTRY_BYTES = 64 * 2**20

log = logging.getLogger(__name__)
_RESULT = re.compile(r"([0-9a-f]{20})\.json")
_EVENT = re.compile(r"([0-9a-f]{20})\.((?:withdrawn|restored|superseded)(?:-\d{3,})?|(?:tier|redacted)-\d{3,})\.json")
_RESTORE = "Restore it from a backup."

Tier = Literal["reported", "rescored", "reproduced"]


class DamagedFile(LulcbenchError):
    """A file in the ledger's folder that is damaged, unreadable, or not a ledger file."""


class Entry(Frozen):
    """A scored submission, with everything that the board shows about it.

    Attributes:
        submission: its id.
        tier: trust tier at the time of scoring.
        sha256: SHA-256 of the predictions file.
        card: the model card.
        scores: ``lulcbench.evaluation.scores.Scores`` as JSON.
        release_digest: digest of the data of the release, ``Manifest.data_digest``.
        simulated: whether the release contains simulated data.
        cells: accuracy by location (``pictures.accuracy_map``).
        samples: tiles that were drawn as images (``pictures.draw_samples``).
        blocks: ``BlockCounts`` as JSON, for paired tests; None for scores that a team computed itself.
    """

    format: Literal["lulcbench-ledger/1"] = "lulcbench-ledger/1"
    submission: str = Field(pattern=r"^[0-9a-f]{20}$")
    team: str
    tier: Tier
    filename: str
    sha256: Sha256
    card: dict[str, Any]
    submitted_at: AwareDatetime
    scored_at: AwareDatetime
    release: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$")
    release_digest: Sha256
    simulated: bool
    task: str
    split: str
    scores: dict[str, Any]
    cells: tuple[dict[str, Any], ...] = ()
    samples: tuple[dict[str, Any], ...] = ()
    blocks: dict[str, Any] | None = None

    @property
    def release_key(self) -> str:
        """Release id and first 8 characters of its digest. Only scores with the same key can be compared."""
        return f"{self.release}-{self.release_digest[:8]}"

    @property
    def years(self) -> str:
        """Year of the predictions, or both of a change: ``2018``, ``2012-2018``."""
        return "-".join(str(year) for year in self.scores["years"])

    @property
    def path(self) -> str:
        """Path of the file below the ledger's root."""
        return f"{self.release_key}/{self.submission}.json"

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()

    @property
    def summary(self) -> dict[str, Any]:
        """The metrics and the lines of the model card that the table uses."""
        return summarise(self.scores, self.card, self.blocks)


class Event(Frozen):
    """A withdrawal, the undoing of one, a supersession, a change of tier, or a replacement of names, after scoring.

    The value of a replacement is the file and the digest of its new content: ``<submission>.json <digest>``.
    """

    format: Literal["lulcbench-ledger-event/1"] = "lulcbench-ledger-event/1"
    submission: str = Field(pattern=r"^[0-9a-f]{20}$")
    kind: Literal["withdrawn", "restored", "superseded", "tier", "redacted"]
    at: AwareDatetime
    actor: str
    value: str = ""

    @model_validator(mode="after")
    def _value_fits(self) -> Event:
        allowed = {
            "withdrawn": r"",
            "restored": r"",
            "superseded": r"[0-9a-f]{20}",
            "tier": "|".join(TIERS),
            "redacted": rf"{self.submission}[a-z0-9.-]*\.json [0-9a-f]{{64}}",
        }[self.kind]
        if not re.fullmatch(allowed, self.value):
            raise ValueError(f"{self.value[:40]!r} is not a value of {self.kind}")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


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
    chain.append(root, entry.path, entry.digest)
    return entry


def record(root: Path, release_key: str, event: Event) -> Event:
    """Record an event. Files of the same kind are numbered; all may happen several times.

    An event that repeats the last one of its kind, or of withdrawal and return, is that one, so that a call that was
    interrupted can be repeated. A damaged file is kept: a rebuild then leaves the submission out.
    """
    folder, content = root / release_key, event.model_dump(mode="json") | {"digest": event.digest}
    numbered = event.kind in ("tier", "redacted")
    if not numbered and (standing := _repeated(root, folder, event)) is not None:
        chain.append(root, f"{release_key}/{standing[0].name}", standing[1].digest)
        return standing[1]
    names = [_EVENT.fullmatch(path.name) for path in folder.glob(f"{event.submission}.{event.kind}*.json")]
    number = max((int(name[2].partition("-")[2] or 0) + 1 for name in names if name), default=0)
    while True:
        ending = f"-{number:03d}" if numbered or number else ""
        path = folder / f"{event.submission}.{event.kind}{ending}.json"
        if create(path, content):
            chain.append(root, f"{release_key}/{path.name}", event.digest)
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
    entry = _checked(path, Entry)
    try:
        _ = entry.summary, entry.years
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedFile(f"{path}: its card or scores have an unknown form ({error!r}).", _RESTORE) from error
    if path.parts[-2:] != (entry.release_key, f"{entry.submission}.json"):
        raise DamagedFile(f"{path} holds the content of {entry.path}.", "Delete it, or move it there.")
    _check_chain(path, entry.digest)
    return entry


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
    for path, digest in contents.unsealed.items():
        chain.append(root, path, digest)
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
        events: the intact events, in the order in which they happened.
        faults: one error per file that is damaged or stray.
        held_back: submissions with an event that cannot be read or is missing. They are not shown, since the event may
            have been a withdrawal.
        missing: paths that are in the chain, and whose files are missing.
        unsealed: path → digest of intact files that are not in the chain.
        head: head of the chain.
    """

    entries: tuple[Entry, ...]
    events: tuple[Event, ...]
    faults: tuple[DamagedFile, ...]
    held_back: frozenset[str]
    missing: frozenset[str]
    unsealed: dict[str, str]
    head: str


def load(root: Path) -> Contents:
    """Read and check every file of a ledger, and that it is as the chain states."""
    entries: list[Entry] = []
    events: list[tuple[Path, Event]] = []
    faults: list[DamagedFile] = []
    held_back: set[str] = set()
    sealed = chain.load(root)
    if sealed.fault:
        faults.append(DamagedFile(f"{root / chain.NAME}: {sealed.fault}; the ledger was altered.", _RESTORE))
    seen: set[str] = set()
    for path in _paths(root):
        seen.add(path.relative_to(root).as_posix())
        event = _EVENT.fullmatch(path.name)
        try:
            if path.parent == root or not (event or _RESULT.fullmatch(path.name)):
                raise DamagedFile(f"{path} is not a file of the ledger.", "Move it elsewhere.")
            if event:
                events.append((path, read_event(path)))
            else:
                entries.append(read(path))
        except DamagedFile as error:
            faults.append(error)
            if event:
                held_back.add(event[1])
    missing = [path for path in sealed.digests if path not in seen]
    for name in missing:
        faults.append(DamagedFile(f"{root / name} is missing.", _RESTORE))
        if event := _EVENT.fullmatch(PurePosixPath(name).name):
            held_back.add(event[1])
    order = sealed.order()
    last = len(order)
    events.sort(key=lambda known: (order.get(known[0].relative_to(root).as_posix(), last), known[1].at))
    intact = {entry.path: entry.digest for entry in entries}
    intact |= {path.relative_to(root).as_posix(): event.digest for path, event in events}
    return Contents(
        tuple(sorted(entries, key=lambda entry: entry.scored_at)),
        tuple(event for _, event in events),
        tuple(faults),
        frozenset(held_back),
        frozenset(missing),
        {path: digest for path, digest in intact.items() if path not in order},
        sealed.head,
    )


def _check_chain(path: Path, digest: str) -> None:
    sealed = chain.load(path.parents[1]).digests.get("/".join(path.parts[-2:]), digest)
    if sealed == digest:
        return
    if ".redacted-" in path.name or f"{path.name} {digest}" not in redactions(path)[-1:]:
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
    _check_chain(path, event.digest)
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
