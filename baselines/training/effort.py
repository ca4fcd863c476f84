"""Time and steps of fitting a model."""

from __future__ import annotations

import time

from baselines.registry import Part


class Losses(Part):
    """Mean losses of the final weights on windows without augmentation, so that they can be compared.

    The loss of an epoch in ``history.csv`` is of weights that change, and of augmented windows. How much of a training
    its last epoch is depends on the number of epochs.

    Attributes:
        train: on windows of the train split, at regular distances and at most as many as the val split has.
        val: on the val split.
    """

    train: float
    val: float


class Effort(Part):
    """Time and steps of fitting a model.

    Attributes:
        seconds: wall-clock time.
        core_seconds: processor time, summed over threads.
        epochs: number of epochs begun; 0 for models without epochs.
        steps: number of optimizer steps.
        planned_steps: number of steps of the complete schedule.
        cut_short: whether ``train.max_minutes`` stopped training before the end of the schedule.
        losses: of the final weights; None without a val split, and for models without a loss.
    """

    seconds: float
    core_seconds: float
    epochs: int = 0
    steps: int = 0
    planned_steps: int = 0
    cut_short: bool = False
    losses: Losses | None = None


class Stopwatch:
    """Measures wall-clock and processor time since its creation."""

    def __init__(self) -> None:
        self._start = time.monotonic(), time.process_time()

    def effort(self) -> Effort:
        """Effort so far, for a model without steps."""
        clock, processor = time.monotonic() - self._start[0], time.process_time() - self._start[1]
        return Effort(seconds=round(clock, 1), core_seconds=round(processor, 1))
