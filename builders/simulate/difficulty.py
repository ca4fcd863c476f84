"""How hard a release is for a per-pixel classifier that sees only spectra: the yardstick of the simulator.

Witjes et al. 2022 (peerj.com/articles/13573) map 43 CORINE classes of Europe from seasonal Landsat composites, pixel by
pixel, with weighted F1 of 0.83, 0.63 and 0.49 at 5, 14 and 43 classes. A release made from simulated scenes should be
about as hard, level by level; the knobs of ``SimulationConfig`` are set so that it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.grid import TILE_SIZE, area_weights
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.release import ArrayKey, Release, Row, label_shape
from lulcbench.sensors import LANDSAT

PUBLISHED = {1: 0.83, 2: 0.63, 3: 0.49}  # weighted F1, Witjes et al. 2022

_PIXELS = 60_000
_MISSING = -1.0  # a value no reflectance takes; the forest learns to split it off


def difficulty(root: Path, seed: int = 0, pixels: int = _PIXELS) -> dict[int, float]:
    """Weighted F1 of a per-pixel random forest on seasonal Landsat spectra, tested on the test split.

    Args:
        root: folder of a release with Landsat and labels of 2018.
        seed: of the sample and the forest.
        pixels: training label pixels at most, drawn over all train tiles alike.

    Returns:
        Level (1 to 4) → weighted F1. One forest is trained at level 4; coarser levels follow by lookup.

    Raises:
        LulcbenchError: the release lacks Landsat, labels or a split.
    """
    release = Release.open(root)
    manifest = release.manifest
    if "landsat" not in manifest.sensors:
        raise LulcbenchError(f"{root} has no Landsat.", "Difficulty is judged on the seasonal Landsat composites.")
    year = manifest.check_year(max(manifest.sensor("landsat").years), "landsat")
    manifest.check_year(year)
    samples = {}
    for split in ("train", "test"):
        manifest.check_split(split)
        per_tile = -(-pixels // manifest.tiles(split))
        parts = list(_pixels(release, split, year, np.random.default_rng(seed), per_tile))
        samples[split] = (np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))
    return forest_scores(*samples["train"], *samples["test"], seed=seed)


def forest_scores(
    train_spectra: npt.NDArray[np.float32],
    train_classes: npt.NDArray[np.uint8],
    test_spectra: npt.NDArray[np.float32],
    test_classes: npt.NDArray[np.uint8],
    seed: int = 0,
) -> dict[int, float]:
    """Train a forest on level-4 class indices and score it at all four levels.

    Args:
        train_spectra: (n, feature).
        train_classes: level-4 class indices, (n,).
        test_spectra: (m, feature).
        test_classes: (m,).
        seed: of the forest.

    Returns:
        Level → weighted F1.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import f1_score

    forest = RandomForestClassifier(100, min_samples_leaf=2, n_jobs=-1, random_state=seed)
    forest.fit(train_spectra, train_classes)
    forest.n_jobs = 1  # threads would add up the votes as trees finish, and break ties by chance
    predicted = forest.predict(test_spectra)
    scores = {}
    for level in (1, 2, 3, 4):
        parent = legend().parents(4, level)
        scores[level] = float(f1_score(parent[test_classes], parent[predicted], average="weighted", zero_division=0))
    return scores


def _pixels(
    release: Release, split: str, year: int, rng: np.random.Generator, per_tile: int
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]]:
    """Seasonal spectra (n, season · band) and level-4 class indices (n,) of up to ``per_tile`` pixels a tile."""
    reader = release.reader(split)
    size, labels = TILE_SIZE // LANDSAT.resolution, label_shape()
    weights = area_weights(size, labels[0]).astype(np.float32)
    for row in map(Row, release.manifest.rows(split)):
        stored = reader.read(ArrayKey("landsat", year), [row], [(0, 0)], (size, size))[0]
        image = release.manifest.sensor("landsat").coding.decode(stored)
        codes = reader.read(ArrayKey("luisa", year), [row], [(0, 0)], labels)[0]
        spectra = to_label_pixels(image.reshape(-1, size, size), weights)
        classes = legend().encode(codes, 4, f"labels of {split} row {row}").ravel()
        known = np.flatnonzero(classes != IGNORE_INDEX)
        chosen = rng.choice(known, min(per_tile, len(known)), replace=False)
        yield spectra[chosen], classes[chosen]


def to_label_pixels(channels: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Channels (c, h, w) with NaN for nodata → their means over label pixels by area: (label pixel, c)."""
    valid = np.isfinite(channels)
    total = weights @ np.where(valid, channels, 0) @ weights.T
    cover = weights @ valid.astype(np.float32) @ weights.T
    means = np.where(cover > 0, total / np.maximum(cover, 1e-6), _MISSING)
    return means.reshape(len(channels), -1).T.astype(np.float32)
