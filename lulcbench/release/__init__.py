"""Releases: what a data set on disk holds, and reading it. ``Release.open(root)`` is where to begin."""

from __future__ import annotations

from lulcbench.release.keys import ArrayKey, Row, TilePosition
from lulcbench.release.manifest import (
    FORMAT,
    INDEX,
    MANIFEST,
    SPLITS,
    FileInfo,
    Manifest,
    SensorInfo,
    Sha256,
    Source,
    Split,
    Statistics,
    label_shape,
)
from lulcbench.release.opened import Release

__all__ = [
    "FORMAT",
    "INDEX",
    "MANIFEST",
    "SPLITS",
    "ArrayKey",
    "FileInfo",
    "Manifest",
    "Release",
    "Row",
    "SensorInfo",
    "Sha256",
    "Source",
    "Split",
    "Statistics",
    "TilePosition",
    "label_shape",
]
