"""From a config to its data."""

from __future__ import annotations

from baselines.config import Config, EuroSatData, LuisaData, expand
from baselines.data.arrays import Arrays, Problem
from lulcbench.errors import LulcbenchError
from lulcbench.release import Release


def load(config: Config) -> Problem:
    """The training data of a config.

    Raises:
        LulcbenchError: the data are missing, damaged or lack what the config asks for.
    """
    if isinstance(config.data, LuisaData):
        from baselines.data.release import load as load_release

        return load_release(config)
    from baselines.data.eurosat import load as load_eurosat

    return load_eurosat(config)


def data_digest(config: Config) -> str:
    """Identity of the data that a config names: of a release, or of archives and split lists.

    Raises:
        LulcbenchError: they are missing or damaged.
    """
    root = expand(config.data.root)
    if isinstance(config.data, EuroSatData):
        from baselines.data import eurosat

        return eurosat.digest(config.data, eurosat.Archives(root))
    return Release.open(root).digest


def load_evaluation(config: Config, trained_on: str) -> Arrays:
    """The labelled patches of ``predict.split``.

    Args:
        config: the run.
        trained_on: digest of the data that its model was trained on.

    Raises:
        LulcbenchError: these data are others, or damaged.
    """
    split = config.predict.split
    if isinstance(config.data, EuroSatData):
        from baselines.data import eurosat

        archives = eurosat.Archives(expand(config.data.root))
        _same(eurosat.digest(config.data, archives), trained_on, config)
        return eurosat.read_part(config.data, split, archives)
    from baselines.data.release import chips, read

    dataset = chips(config.data, split)
    _same(dataset.release.digest, trained_on, config)
    return read(dataset, config.data.level, split)


def _same(digest: str, trained_on: str, config: Config) -> None:
    if digest != trained_on:
        raise LulcbenchError(
            f"{config.name} was trained on other data ({trained_on[:12]}…) than lie at {config.data.root} "
            f"({digest[:12]}…).",
            "Predict the release or archive it was trained on, or train it on this one.",
        )
