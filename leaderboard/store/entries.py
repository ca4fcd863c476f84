"""The content of the files of the ledger: a scored submission, and an event after it."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal

from pydantic import AwareDatetime, Field, model_validator

from leaderboard.ranking.summary import summarise
from leaderboard.store.files import canonical
from lulcbench._files import Frozen
from lulcbench.release import Sha256

TIERS = ("reported", "rescored", "reproduced")

Tier = Literal["reported", "rescored", "reproduced"]


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
        return _sha256(self.model_dump(mode="json"))

    @property
    def facts(self) -> str:
        """SHA-256 of the content without the names that may be replaced: of the team, and the authors of the card."""
        content = self.model_dump(mode="json", exclude={"team"})
        return _sha256(content | {"card": {key: value for key, value in self.card.items() if key != "authors"}})

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
        return _sha256(self.model_dump(mode="json"))

    @property
    def facts(self) -> str:
        """SHA-256 of the content without the name that may be replaced, of the team that acted."""
        return _sha256(self.model_dump(mode="json", exclude={"actor"}))


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(content)).hexdigest()
