"""Archives: one module per archive of scenes or labels, and their selection by the names used in recipes."""

from __future__ import annotations

from importlib import import_module

from builders.readers import LabelSource, SceneSource
from builders.recipe import LabelRule
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import sensor


def scene_source(sensor_name: str) -> SceneSource:
    """The archive of a sensor's scenes: ``SOURCE`` of the module named after the sensor.

    Raises:
        LulcbenchError: there is no such sensor.
    """
    source: SceneSource = import_module(f"builders.archives.{sensor(sensor_name).name}").SOURCE
    return source


def label_source(rule: LabelRule) -> LabelSource:
    """The label map that a recipe names.

    Raises:
        LulcbenchError: the file is missing.
    """
    from builders.archives import corine, luisa, own

    if not rule.path.is_file():
        raise LulcbenchError(
            f"The label map {rule.path} is missing.", "Correct 'path' of the recipe's labels, or fetch the file."
        )
    if rule.source == "own":
        return own.labels(rule)
    return luisa.labels(rule) if rule.source == "luisa" else corine.labels(rule)
