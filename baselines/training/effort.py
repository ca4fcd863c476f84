"""What fitting a model takes."""

from __future__ import annotations

import time

from baselines.registry import Part


class Effort(Part):
    """What fitting took.

    Attributes:
        seconds: of the clock.
        core_seconds: of processor time, summed over threads.
        epochs: that were begun; 0 of models without.
        steps: optimizer steps made.
        planned_steps: those of the whole schedule.
        cut_short: whether ``train.max_minutes`` stopped it before its schedule ended.
    """

    seconds: float
    core_seconds: float
    epochs: int = 0
    steps: int = 0
    planned_steps: int = 0
    cut_short: bool = False


class Stopwatch:
    """Counts seconds of the clock and of processor time from when it is made."""

    def __init__(self) -> None:
        self._start = time.monotonic(), time.process_time()

    def effort(self) -> Effort:
        """What it took until now, of a model without steps."""
        clock, processor = time.monotonic() - self._start[0], time.process_time() - self._start[1]
        return Effort(seconds=round(clock, 1), core_seconds=round(processor, 1))
