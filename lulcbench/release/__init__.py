"""Releases: what a data set on disk holds, and reading it. ``Release.open(root)`` is where to begin."""

from __future__ import annotations

from lulcbench.release.entries import (
    AUTO,
    MANIFEST,
    SPLITS,
    TRAIN,
    FileInfo,
    LabelInfo,
    SensorInfo,
    Sha256,
    Source,
    Statistics,
    split_order,
)
from lulcbench.release.keys import ArrayKey, Row, TilePosition
from lulcbench.release.manifest import FORMAT, INDEX, Manifest, label_shape, thumbnails_of
from lulcbench.release.opened import Release

__all__ = [
    "AUTO",
    "FORMAT",
    "INDEX",
    "MANIFEST",
    "SPLITS",
    "TRAIN",
    "ArrayKey",
    "FileInfo",
    "LabelInfo",
    "Manifest",
    "Release",
    "Row",
    "SensorInfo",
    "Sha256",
    "Source",
    "Statistics",
    "TilePosition",
    "label_shape",
    "split_order",
    "thumbnails_of",
]
