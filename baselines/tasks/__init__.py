"""Tasks, one module per task."""

from baselines.registry import discover
from baselines.tasks.base import TASKS, Report, Task, TaskConfig

__all__ = ["TASKS", "Report", "Task", "TaskConfig"]

discover(__name__, __path__)
