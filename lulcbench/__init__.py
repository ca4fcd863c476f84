"""lulcbench: a benchmark for land use / land cover mapping in Europe.

``import lulcbench`` does not load torch; ``from lulcbench import LuisaSeg`` does.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lulcbench.datasets import LuisaChange, LuisaCls, LuisaSeg, LuisaSeries
    from lulcbench.datasets.datamodule import LuisaDataModule
    from lulcbench.predictions import PredictionWriter
    from lulcbench.release import Release

__version__ = "0.1.0"

# The library logs under this name and prints nothing; applications configure the output.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# Public name → module that defines it; loaded on first access.
_LAZY = {
    "LuisaChange": "lulcbench.datasets",
    "LuisaCls": "lulcbench.datasets",
    "LuisaDataModule": "lulcbench.datasets.datamodule",
    "LuisaSeg": "lulcbench.datasets",
    "LuisaSeries": "lulcbench.datasets",
    "PredictionWriter": "lulcbench.predictions",
    "Release": "lulcbench.release",
}

__all__ = [
    "LuisaChange",
    "LuisaCls",
    "LuisaDataModule",
    "LuisaSeg",
    "LuisaSeries",
    "PredictionWriter",
    "Release",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        try:
            return getattr(importlib.import_module(_LAZY[name]), name)
        except ModuleNotFoundError as error:
            from lulcbench.errors import MissingPackageError

            raise MissingPackageError.of(error) or error from error
    raise AttributeError(f"module 'lulcbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
