"""Classification of points by their time series: one class per point, by the models of pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from baselines.tasks.base import TASKS
from baselines.tasks.classification import Classification, ClassificationConfig
from lulcbench.plotting import Panel

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.data import DataInfo


@TASKS.register
class PointsConfig(ClassificationConfig):
    """One class per point; samples are images of one pixel."""

    kind: Literal["points"] = "points"  # type: ignore[assignment]
    dense: ClassVar[bool] = True
    spatial: ClassVar[bool] = False

    def build(self, info: DataInfo) -> PointsTask:
        """Build the task for these data."""
        return PointsTask(self, info)


class PointsTask(Classification):
    """See ``PointsConfig``. Batches have ``label``, ``(b, 1, 1)``."""

    noun: ClassVar[str] = "points"

    def pictures(self, config: Config, folder: Path, count: int) -> Iterator[tuple[str, Sequence[Panel]]]:
        """Nothing: a point has no picture."""
        return iter(())
