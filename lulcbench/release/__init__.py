"""Releases: what a data set on disk holds, and reading it."""

from __future__ import annotations

from lulcbench.release.manifest import (
    FORMAT,
    INDEX,
    MANIFEST,
    SPLITS,
    FileInfo,
    Release,
    SensorInfo,
    Sha256,
    Source,
    Split,
    Statistics,
    array_name,
    label_shape,
)

__all__ = [
    "FORMAT",
    "INDEX",
    "MANIFEST",
    "SPLITS",
    "FileInfo",
    "Release",
    "SensorInfo",
    "Sha256",
    "Source",
    "Split",
    "Statistics",
    "array_name",
    "label_shape",
]
