"""From a config to its data."""

from __future__ import annotations

from baselines.arrays import Arrays, Problem
from baselines.config import Config, EuroSatData, expand
from lulcbench.errors import LulcbenchError


def load(config: Config) -> Problem:
    """The training data of a config.

    Raises:
        LulcbenchError: the data are missing, damaged or lack what the config asks for.
    """
    if config.data.kind == "luisa-seg":
        from baselines.release_data import load as load_release

        return load_release(config)
    if config.data.kind == "eurosat":
        from baselines.eurosat import load as load_eurosat

        return load_eurosat(config)
    raise LulcbenchError(f"No data of kind {config.data.kind}.", "Use luisa-seg or eurosat.")


def load_evaluation(config: Config) -> Arrays:
    """The labelled patches of ``predict.split``."""
    if isinstance(config.data, EuroSatData):
        from baselines.eurosat import Archives, read_part

        return read_part(config.data, config.predict.split, Archives(expand(config.data.root)))
    raise LulcbenchError(f"{config.data.kind} holds no labelled patches.", "Predict it as a map.")
