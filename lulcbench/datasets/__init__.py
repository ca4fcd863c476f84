"""Torch datasets of releases, in the conventions of torchgeo, which is not imported because that takes seconds."""

from lulcbench.datasets._transforms import LabelTransform, SpatialTransform
from lulcbench.datasets.base import LuisaDataset
from lulcbench.datasets.batch import collate
from lulcbench.datasets.change import LuisaChange
from lulcbench.datasets.cls import LuisaCls
from lulcbench.datasets.loader import WindowLoader
from lulcbench.datasets.seg import LuisaSeg
from lulcbench.datasets.series import LuisaSeries

__all__ = [
    "LabelTransform",
    "LuisaChange",
    "LuisaCls",
    "LuisaDataset",
    "LuisaSeg",
    "LuisaSeries",
    "SpatialTransform",
    "WindowLoader",
    "collate",
]
