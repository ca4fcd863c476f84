"""Bodies of requests and answers of the JSON API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class ErrorBody(BaseModel):
    """An error; the same form for every endpoint."""

    what: str = Field(description="What is wrong.")
    remedy: str = Field(description="What to do next.")


class UploadRequest(BaseModel):
    """The file to be uploaded, and its model card."""

    model_config = ConfigDict(extra="forbid")

    filename: Annotated[str, Field(min_length=1, max_length=200, description="Shown to readers; never used as a path.")]
    size: Annotated[int, Field(gt=0, le=2**50, description="Bytes of the file.")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file, hexadecimal.")]
    card: Annotated[dict[str, Any], Field(description="The model card (lulcbench.submission.ModelCard) as JSON.")]


class UploadState(BaseModel):
    """The state of an upload."""

    upload_id: str = Field(description="Id of the upload, for its addresses.")
    chunk_size: int = Field(description="Largest body of one PUT, bytes.")
    offset: int = Field(description="Bytes that have arrived; the next PUT continues here.")
    size: int = Field(description="Bytes of the whole file.")
    submission_id: str | None = Field(None, description="Set when the upload is complete.")


class Offset(BaseModel):
    """Bytes that have arrived."""

    offset: int = Field(description="Bytes that have arrived; the next PUT continues here.")


class Accepted(BaseModel):
    """The submission is queued for scoring."""

    submission_id: str = Field(description="Id of the submission.")
    url: str = Field(description="Address of its page.")


class ErrorText(BaseModel):
    """Reason why a submission was refused or is delayed, or why its scores cannot be read."""

    what: str = Field(description="What is wrong.")
    remedy: str = Field(description="What to do next.")


class SubmissionState(BaseModel):
    """A submission. A scored one has ``scores``, or an ``error`` if its record cannot be read."""

    submission_id: str = Field(description="Id of the submission.")
    status: Literal["queued", "scoring", "scored", "refused", "withdrawn"] = Field(description="Where it is.")
    tier: Literal["reported", "rescored", "reproduced"] = Field(
        description="reported by the team itself; rescored from its predictions; reproduced from its weights"
    )
    error: ErrorText | None = Field(None, description="Why it was refused or waits, or its record cannot be read.")
    scores: dict[str, Any] | None = Field(None, description="lulcbench.evaluation.scores.Scores")
    superseded_by: str | None = Field(None, description="Id of the submission that replaces it.")
    url: str = Field(description="Address of its page.")


class TierRequest(BaseModel):
    """The new trust tier of a result."""

    model_config = ConfigDict(extra="forbid")

    tier: Annotated[Literal["reported", "rescored", "reproduced"], Field(description="The new tier.")]
    evidence: Annotated[
        str, Field(min_length=1, max_length=500, description="Grounds for the tier, for the audit log.")
    ]


class SupersedeRequest(BaseModel):
    """The newer submission of the same team."""

    model_config = ConfigDict(extra="forbid")

    by: Annotated[str, Field(pattern="^[0-9a-f]{20}$", description="Id of the newer submission.")]


class AuditLine(BaseModel):
    """One line of the audit log."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime = Field(description="When it happened, UTC.")
    actor: str = Field(description="Team and token, operator, or worker.")
    action: str = Field(description="What was done, such as submission.withdraw.")
    subject: str = Field(description="What it was done to.")
    detail: dict[str, Any] = Field(description="Further values.")
