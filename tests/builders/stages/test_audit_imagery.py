"""The audit finds in the pixels what leaves every file consistent with its manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from builders.stages._audit_imagery import imagery
from builders.stages.audit import Findings
from lulcbench.release import INDEX, ArrayKey, Manifest

OFFSET = 1000  # 0.1 in the release's steps of 1e-4

Tamper = Callable[[ArrayKey, np.ndarray], np.ndarray]


def audited(root: Path, tamper: Tamper = lambda key, stored: stored) -> Findings:
    """Findings of the pixels of a release whose arrays are tampered with as they are read."""
    group = zarr.open_group(root, mode="r")

    def read(key: ArrayKey, row: int) -> np.ndarray:
        return tamper(key, np.asarray(group[str(key)][row]))

    findings = Findings("tiny", "0" * 64)
    imagery(Manifest.load(root), pd.read_parquet(root / INDEX), read, findings)
    return findings


def moved(stored: np.ndarray, by: int) -> np.ndarray:
    """Stored values plus a number; 0, which is nodata, stays."""
    return np.where(stored == 0, 0, np.clip(stored.astype(np.int64) + by, 1, 65535)).astype(np.uint16)


@pytest.mark.slow
def test_a_good_release_has_no_problem(release_root: Path) -> None:
    findings = audited(release_root)
    assert findings.problems == {}
    assert findings.checked["tiles are co-registered"] == 6  # two tiles show too little
    assert findings.checked["displacements are those of the index"] == 8
    assert {
        "no image twice",
        "reflectance is not negative",
        "some ground is dark",
        "sensors agree in reflectance",
    } <= set(findings.checked)
    displacement = findings.measured["displacement of sentinel2_2018 against landsat_2018, m"]
    assert displacement["95_percent_distance"] < 15


def offset_not_subtracted(key: ArrayKey, stored: np.ndarray) -> np.ndarray:
    return moved(stored, OFFSET) if key.name == "sentinel2" else stored


def offset_subtracted_twice(key: ArrayKey, stored: np.ndarray) -> np.ndarray:
    return moved(stored, -OFFSET) if key.name == "sentinel2" else stored


def percent(key: ArrayKey, stored: np.ndarray) -> np.ndarray:
    return moved((stored - np.uint16(OFFSET)) * 30, OFFSET) if str(key) == "landsat_2012" else stored


def bands_exchanged(key: ArrayKey, stored: np.ndarray) -> np.ndarray:
    if key.name != "sentinel2":
        return stored
    stored = stored.copy()
    stored[:, [2, 3]] = stored[:, [3, 2]]  # red and near infrared
    return stored


def displaced(key: ArrayKey, stored: np.ndarray) -> np.ndarray:
    return np.roll(stored, 2, axis=-1) if str(key) == "landsat_2018" else stored  # 60 m to the east


def one_tile_everywhere(root: Path) -> Tamper:
    first = np.asarray(zarr.open_group(root, mode="r")["landsat_2012"][0])
    return lambda key, stored: first if str(key) == "landsat_2012" else stored


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tamper", "checks"),
    [
        (offset_not_subtracted, {"sensors agree in reflectance", "some ground is dark"}),
        (offset_subtracted_twice, {"sensors agree in reflectance", "reflectance is not negative"}),
        (percent, {"reflectance is at most 1"}),
        (bands_exchanged, {"sensors agree in reflectance", "forest is green"}),
        (displaced, {"sensors are co-registered", "tiles are co-registered", "displacements are those of the index"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_faults_of_processing_are_seen(release_root: Path, tamper: Tamper, checks: set[str]) -> None:
    problems: dict[str, Any] = audited(release_root, tamper).problems
    assert checks <= set(problems)


@pytest.mark.slow
def test_one_scene_in_two_tiles_is_seen(release_root: Path) -> None:
    problems = audited(release_root, one_tile_everywhere(release_root)).problems
    assert len(problems["no image twice"]) == 7 * 4
    assert "(train)" in problems["no image twice"][0]
