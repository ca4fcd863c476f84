"""The immutable record: one JSON file a scored submission, and one an event that changed its standing.

``<ledger>/<release key>/<submission>.json`` holds the result, ``<submission>.<event>.json`` a later withdrawal,
supersession or change of tier. Files are written whole, carry the SHA-256 of their content, and are never overwritten.
The database can be rebuilt from them alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from leaderboard.ranking.summary import summarise
from lulcbench._files import Frozen
from lulcbench.errors import LulcbenchError
from lulcbench.release import Sha256

FORMAT = "lulcbench-ledger/1"
TIERS = ("reported", "rescored", "reproduced")
MAX_ENTRY_BYTES = 64 * 2**20

Tier = Literal["reported", "rescored", "reproduced"]


class Entry(Frozen):
    """A scored submission, with everything that the board shows of it.

    Attributes:
        submission: its id.
        tier: how far the scores can be trusted when they were made.
        sha256: of the predictions file.
        card: the model card.
        scores: ``lulcbench.evaluation.scores.Scores`` as JSON.
        simulated: the release is made from simulated scenes.
        cells: accuracy by place (``pictures.accuracy_map``).
        samples: tiles that pictures were made of (``pictures.draw_samples``).
        blocks: ``BlockCounts`` as JSON, for paired tests; None for scores that a team computed itself.
    """

    format: Literal["lulcbench-ledger/1"] = FORMAT
    submission: str = Field(pattern=r"^[0-9a-f]{20}$")
    team: str
    tier: Tier
    filename: str
    sha256: Sha256
    card: dict[str, Any]
    submitted_at: datetime
    scored_at: datetime
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
        """Release id and the beginning of its digest: scores are comparable under one key only."""
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
        return hashlib.sha256(_canonical(self.model_dump(mode="json"))).hexdigest()

    @property
    def summary(self) -> dict[str, Any]:
        """The few figures of it that the table shows."""
        return summarise(self.scores, self.card)


class Event(Frozen):
    """A change of standing after scoring."""

    format: Literal["lulcbench-ledger-event/1"] = "lulcbench-ledger-event/1"
    submission: str = Field(pattern=r"^[0-9a-f]{20}$")
    kind: Literal["withdrawn", "superseded", "tier"]
    at: datetime
    actor: str
    value: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(_canonical(self.model_dump(mode="json"))).hexdigest()


def write(root: Path, entry: Entry) -> Entry:
    """Record a result; if the submission has one already, that one stands and is returned.

    Raises:
        LulcbenchError: the one that stands is of another file.
        OSError: there is no space; nothing has been left behind.
    """
    path = root / entry.path
    if not _create(path, entry.model_dump(mode="json") | {"digest": entry.digest}):
        standing = read(path)
        if standing.sha256 != entry.sha256:
            raise LulcbenchError(f"{path} is of another predictions file.", "The ledger was altered; restore it.")
        return standing
    return entry


def record(root: Path, release_key: str, event: Event) -> Event:
    """Record an event. A tier may change several times, so those files are numbered; the others happen once."""
    folder = root / release_key
    number = len(list(folder.glob(f"{event.submission}.tier-*.json"))) if event.kind == "tier" else ""
    name = f"tier-{number:03d}" if event.kind == "tier" else event.kind
    path = folder / f"{event.submission}.{name}.json"
    if not _create(path, event.model_dump(mode="json") | {"digest": event.digest}):
        return Event.model_validate(_content(path))
    return event


def read(path: Path) -> Entry:
    """Read and check one result.

    Raises:
        LulcbenchError: it is missing, damaged, or its digest does not match.
    """
    return _checked(path, Entry)


def find(root: Path, submission_id: str) -> Entry | None:
    """The result of a submission, whatever its release; None if it has none."""
    for path in root.glob(f"*/{submission_id}.json"):
        return read(path)
    return None


def entries(root: Path) -> Iterator[Entry]:
    """All results, in the order of scoring."""
    yield from sorted((read(p) for p in root.glob("*/*.json") if "." not in p.stem), key=lambda e: e.scored_at)


def events(root: Path) -> Iterator[Event]:
    """All events, in the order in which they happened."""
    yield from sorted((_checked(p, Event) for p in root.glob("*/*.*.json")), key=lambda e: e.at)


def _checked[T: (Entry, Event)](path: Path, kind: type[T]) -> T:
    content = _content(path)
    stated = content.pop("digest", None)
    try:
        item = kind.model_validate(content)
    except ValidationError as error:
        raise LulcbenchError(f"{path} is no ledger file: {error}", "Restore it from a backup.") from error
    if item.digest != stated:
        raise LulcbenchError(
            f"{path}: its digest does not match its content.", "It was altered; restore it from a backup."
        )
    return item


def _content(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_ENTRY_BYTES:
            raise LulcbenchError(f"{path} is larger than {MAX_ENTRY_BYTES} bytes.", "It is no ledger file.")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        if isinstance(error, LulcbenchError):
            raise
        raise LulcbenchError(f"{path} cannot be read: {error}", "Restore it from a backup.") from error
    if not isinstance(content, dict):
        raise LulcbenchError(f"{path} is no JSON object.", "Restore it from a backup.")
    return content


def _create(path: Path, content: dict[str, Any]) -> bool:
    """Write a new file whole; False if it is there. A hard link fails where a rename would replace."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        with temporary.open("xb") as file:
            file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
