"""Releases as torch datasets. They keep torchgeo's conventions, but do not import torchgeo, which costs seconds."""

from lulcbench.datasets.base import LuisaDataset, collate
from lulcbench.datasets.seg import LuisaSeg

__all__ = ["LuisaDataset", "LuisaSeg", "collate"]
