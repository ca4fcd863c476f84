"""Time and steps of fitting a model."""

from __future__ import annotations

import time

from baselines.registry import Part


class Effort(Part):
    """Time and steps of fitting a model.

    Attributes:
        seconds: wall-clock time.
        core_seconds: processor time, summed over threads.
        epochs: number of epochs begun; 0 for models without epochs.
        steps: number of optimizer steps.
        planned_steps: number of steps of the complete schedule.
        cut_short: whether ``train.max_minutes`` stopped training before the end of the schedule.
    """

    seconds: float
    core_seconds: float
    epochs: int = 0
    steps: int = 0
    planned_steps: int = 0
    cut_short: bool = False


class Stopwatch:
    """Measures wall-clock and processor time since its creation."""

    def __init__(self) -> None:
        self._start = time.monotonic(), time.process_time()

    def effort(self) -> Effort:
        """Effort so far, for a model without steps."""
        clock, processor = time.monotonic() - self._start[0], time.process_time() - self._start[1]
        return Effort(seconds=round(clock, 1), core_seconds=round(processor, 1))
