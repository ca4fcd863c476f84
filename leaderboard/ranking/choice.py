"""What a reader selects of the ranking table: the parameters of the page and of the API."""

from __future__ import annotations

import re
from datetime import date
from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from leaderboard.ranking.columns import COLUMNS
from lulcbench.evaluation.metrics import METRICS, RANKING
from lulcbench.predictions.format import MAX_YEARS, Task


class Choice(BaseModel):
    """The selection of a reader: the parameters of the page and of ``/api/v1/leaderboard``."""

    model_config = ConfigDict(frozen=True)

    release: str | None = Field(
        None, max_length=160, description="Release key; by default that of the newest result, real before simulated."
    )
    task: Task | None = Field(
        None, description="By default that of the years, else the first for which the release has results."
    )
    years: str | None = Field(
        None,
        max_length=MAX_YEARS * 5,
        pattern=r"^\d{4}(-\d{4})*$",
        description="2018, or all years of a change or series, as in 2012-2018; by default, and if the task needs "
        "another number of years, the latest for which the release has results.",
    )
    split: str | None = Field(None, max_length=64, description="Scored split; by default test, if it has results.")
    scorer: str | None = Field(
        None,
        max_length=64,
        description="Scorer version, by default the newest; scores of two versions cannot be compared.",
    )
    level: int = Field(4, ge=1, le=4, description="Level of the legend.")
    sensor: str | None = Field(None, max_length=200, description="Models that use this sensor.")
    sensors: str | None = Field(None, max_length=400, description="Models that use exactly these sensors: a+b.")
    tier: Literal["reported", "rescored", "reproduced"] | None = Field(None, description="Trust tier; by default any.")
    pretraining: str | None = Field(None, max_length=200, description="Pretraining as the model card states it.")
    max_parameters: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Models of at most so many parameters, in millions."
    )
    since: date | None = Field(None, description="Submitted on or after.")
    q: str | None = Field(None, max_length=200, description="Part of the model's or team's name.")
    superseded: bool = Field(False, description="Also submissions that a newer one of their team replaces.")
    saw_labels: bool = Field(False, description="Also models that saw labels of the scored split, after all others.")
    sort: str = Field(RANKING, max_length=32, description="A metric or another column.")
    order: Literal["asc", "desc"] | None = Field(
        None, description="By default best first, newest first, names in alphabetical order."
    )
    page: int = Field(1, ge=1, le=100_000, description="Page of the site; the API answers with all rows.")

    @model_validator(mode="before")
    @classmethod
    def _drop_blanks(cls, values: Any) -> Any:
        """Drop empty fields, which a form sends too."""
        return {key: value for key, value in values.items() if value != ""} if isinstance(values, dict) else values

    @field_validator("sort")
    @classmethod
    def _is_column(cls, value: str) -> str:
        """Refuse other values: each would be another address of the same table, rendered separately."""
        if value not in COLUMNS and value not in METRICS:
            raise ValueError(f"there is no column {value!r}; choose from {', '.join([*COLUMNS, *METRICS])}")
        return value

    @property
    def key(self) -> str:
        """The choice as a canonical query string, without defaults, blanks and unknown parameters."""
        return urlencode(sorted(self.model_dump(mode="json", exclude_defaults=True).items()))

    @property
    def stem(self) -> str:
        """File name of this table, without its suffix."""
        names = (self.release, self.task, self.years, self.split, self.scorer and f"scorer{self.scorer}")
        words = [*(name for name in names if name), f"level{self.level}"]
        return re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(words))

    @property
    def metric(self) -> str:
        """The metric that the table is sorted by; ``RANKING`` if it is sorted by another column."""
        return self.sort if self.sort in METRICS else RANKING

    @property
    def descending(self) -> bool:
        """The requested order, or by default: best first, newest first, names in alphabetical order."""
        if self.order:
            return self.order == "desc"
        return self.sort == "date" or (self.sort in METRICS and METRICS[self.sort].higher_is_better)
