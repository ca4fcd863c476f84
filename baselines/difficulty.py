"""Difficulty of a release: scores of a per-pixel classifier that uses only spectra, to calibrate the simulator.

Witjes et al. 2022 (https://doi.org/10.7717/peerj.13573) map 43 CORINE classes of Europe from seasonal Landsat
composites, pixel by pixel, with weighted F1 of 0.83, 0.63 and 0.49 at 5, 14 and 43 classes. A release of
simulated scenes should have similar scores at every level.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from baselines.data.luisa import LuisaSegData
from baselines.models.forest import Forest
from baselines.models.spectra import PixelSample, Spectra, spectra
from baselines.tasks.segmentation import SegmentationConfig
from lulcbench.datasets.datamodule import LuisaDataModule, Role
from lulcbench.errors import LulcbenchError
from lulcbench.legend import LEVELS, legend
from lulcbench.release import Release

PUBLISHED = {1: 0.83, 2: 0.63, 3: 0.49}  # weighted F1, Witjes et al. 2022


def difficulty(root: Path, seed: int = 0, pixels: int = 60_000) -> dict[int, float]:
    """Weighted F1 of a per-pixel random forest on seasonal Landsat spectra, tested on the test split.

    Args:
        root: folder of a release with Landsat and labels of its last year.
        seed: seed of the sample and the forest.
        pixels: maximum number of label pixels for training, drawn equally from all train tiles.

    Returns:
        Level (1 to 4) → weighted F1. One forest is trained at level 4; its predictions are mapped to coarser levels.

    Raises:
        LulcbenchError: the release lacks Landsat, labels or a split.
    """
    manifest = Release.open(root).manifest
    if "landsat" not in manifest.sensors:
        raise LulcbenchError(f"{root} has no Landsat.", "The difficulty is measured on seasonal Landsat composites.")
    year = max(manifest.sensor("landsat").years)
    data, task = LuisaSegData(root=str(root), sensors=("landsat",), year=year), SegmentationConfig()
    module = LuisaDataModule(data.dataset, val_split=None, batch_size=8, **data.options | task.options)
    for stage in ("fit", "test"):
        module.setup(stage)
    train, test = (_draw(module, role, pixels, seed) for role in ("train", "test"))
    return forest_scores(*train, *test, seed=seed)


def forest_scores(
    train_spectra: Spectra,
    train_classes: npt.NDArray[np.integer],
    test_spectra: Spectra,
    test_classes: npt.NDArray[np.integer],
    seed: int = 0,
) -> dict[int, float]:
    """Train a forest on level-4 class indices and score it at all four levels.

    Args:
        train_spectra: float32 ``(n, feature)``.
        train_classes: level-4 class indices, ``(n,)``.
        test_spectra: float32 ``(m, feature)``.
        test_classes: level-4 class indices, ``(m,)``.
        seed: seed of the forest.

    Returns:
        Level → weighted F1.
    """
    from sklearn.metrics import f1_score

    forest = Forest(trees=100, min_leaf=2).grow(train_spectra, train_classes, seed)
    forest.n_jobs = (
        1  # with threads, votes are summed in the order in which trees finish, and ties are broken at random
    )
    predicted = forest.predict(test_spectra)
    scores = {}
    for level in LEVELS:
        parent = legend().parents(4, level)
        scores[level] = float(f1_score(parent[test_classes], parent[predicted], average="weighted", zero_division=0))
    return scores


def _draw(module: LuisaDataModule, role: Role, pixels: int, seed: int) -> tuple[Spectra, npt.NDArray[Any]]:
    """Seasonal spectra ``(n, channel)``, averaged over label pixels, and level-4 class indices ``(n,)``."""
    dataset = module.datasets[role]
    sample = PixelSample(pixels, len(dataset), seed)
    for batch in module.loader(role):
        labels = batch["mask"][:, -1].cpu().numpy()
        sample.add(spectra(dataset.finish(batch)["image"], labels.shape[-1]), labels)
    return sample.drawn
