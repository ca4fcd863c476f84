"""Data of the baselines, one module per kind."""

from baselines.data.base import DATA, DataConfig, DataInfo, Input, only_input
from baselines.registry import discover

__all__ = ["DATA", "DataConfig", "DataInfo", "Input", "only_input"]

discover(__name__, __path__)
