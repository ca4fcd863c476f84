"""From a config to its data."""

from __future__ import annotations

from baselines.arrays import Arrays, Problem
from baselines.config import Config, EuroSatData, LuisaData, expand


def load(config: Config) -> Problem:
    """The training data of a config.

    Raises:
        LulcbenchError: the data are missing, damaged or lack what the config asks for.
    """
    if isinstance(config.data, LuisaData):
        from baselines.release_data import load as load_release

        return load_release(config)
    from baselines.eurosat import load as load_eurosat

    return load_eurosat(config)


def load_evaluation(config: Config) -> Arrays:
    """The labelled patches of ``predict.split``."""
    if isinstance(config.data, EuroSatData):
        from baselines.eurosat import Archives, read_part

        return read_part(config.data, config.predict.split, Archives(expand(config.data.root)))
    from baselines.release_data import chips, read

    return read(chips(config.data, config.predict.split), config.data.level, config.predict.split)
