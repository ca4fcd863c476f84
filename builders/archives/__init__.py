"""Archives: one module per archive of scenes or labels, and their selection by the names used in recipes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import pystac

from builders.readers import LabelSource, SceneSource
from builders.recipe import LabelRule
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Bounds
from lulcbench.seasons import Days
from lulcbench.sensors import Band
from lulcbench.vectors import SUFFIXES

# Items of an archive without a catalog: of an address template, collection, bands, days and areas.
Lister = Callable[[str, str, Sequence[Band], Sequence[Days], Sequence[Bounds]], list[pystac.Item]]


def scene_source(archive: str) -> SceneSource:
    """The archive with a name: ``SOURCE`` of the module of this name.

    Raises:
        LulcbenchError: there is no such archive.
    """
    source: SceneSource = _module(archive).SOURCE
    return source


def lister(archive: str) -> Lister | None:
    """The function ``items`` of an archive whose files have regular names; None for archives with a catalog."""
    function: Lister | None = getattr(_module(archive), "items", None)
    return function


def _module(archive: str) -> Any:
    try:
        module = import_module(f"builders.archives.{archive}") if archive.isidentifier() else None
    except ModuleNotFoundError as error:
        if error.name != f"builders.archives.{archive}":
            raise
        module = None
    if not hasattr(module, "SOURCE"):
        raise LulcbenchError(f"There is no archive {archive!r}.", "builders/archives has one module for each archive.")
    return module


def label_source(rule: LabelRule) -> LabelSource:
    """The label map that a recipe names.

    Raises:
        LulcbenchError: the file is missing, or an option is for files of the other kind, raster or polygons.
    """
    if not rule.path.is_file():
        raise LulcbenchError(
            f"The label map {rule.path} is missing.",
            "Correct 'path' of the recipe's labels, fetch the file, or add it to the recipe's downloads.",
        )
    vector = rule.path.suffix.lower() in SUFFIXES
    idle = [key for key in (("band",) if vector else ("layer", "field")) if getattr(rule, key) is not None]
    if idle:
        raise LulcbenchError(
            f"{rule.path} has {'polygons' if vector else 'pixels'}, for which {idle[0]!r} of the labels means nothing.",
            f"Take {idle[0]!r} out, or correct the path.",
        )
    source: LabelSource = import_module(f"builders.archives.{rule.source.replace('-', '_')}").labels(rule)
    return source
