"""From a config to its data."""

from __future__ import annotations

from baselines.arrays import Problem
from baselines.config import Config
from lulcbench.errors import LulcbenchError


def load(config: Config) -> Problem:
    """The training data of a config.

    Raises:
        LulcbenchError: the data are missing, damaged or lack what the config asks for.
    """
    if config.data.kind == "luisa-seg":
        from baselines.release_data import load as load_release

        return load_release(config)
    raise LulcbenchError(f"No data of kind {config.data.kind}.", "Use luisa-seg.")
