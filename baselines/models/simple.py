"""What every network is measured against: the majority class, and a per-pixel random forest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import RandomForestClassifier

from baselines.config import Config, ForestModel, LuisaData, MajorityModel, expand
from baselines.data.release import READ, segments
from baselines.predicting.predict import tiles, write
from lulcbench import _console
from lulcbench.datasets import LuisaSeg
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.release import Release, label_shape


def predict_reference(config: Config, out: Path) -> Path:
    """Learn from the train split, predict ``predict.split``, write ``out``."""
    if isinstance(config.model, ForestModel):
        return write(config, _forest(config, config.model), out)
    if isinstance(config.model, MajorityModel):
        return write(config, _majority(config), out)
    raise LulcbenchError(f"{config.model.kind} must be trained first.", "Use 'python -m baselines train'.")


def _majority(config: Config) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """The class frequencies of the train split, everywhere; the most frequent class has the highest."""
    data = _data(config)
    manifest = Release.open(expand(data.root)).manifest
    frequencies = np.zeros(len(legend().codes(data.level)), np.float32)
    for code, count in manifest.class_counts[data.year].items():
        known = legend().ancestor(code, data.level) if code else 0
        if known:
            frequencies[legend().codes(data.level).index(known)] += count
    p = np.broadcast_to((frequencies / frequencies.sum())[:, None, None], (len(frequencies), *label_shape()))
    for tile in segments(data, config.predict.split).tiles["id"]:
        yield tile, p.copy()


def _forest(config: Config, model: ForestModel) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Seasonal spectra of single pixels, each labelled by the 50 m label that its centre lies in.

    After Witjes et al. 2022 (https://doi.org/10.7717/peerj.13573), who classify seasonal Landsat spectra by pixel.
    """
    data = _data(config)
    train = LuisaSeg(
        expand(data.root),
        "train",
        sensors=data.sensor,
        year=data.year,
        level=data.level,
        window=None,
        seasons=data.seasons,
        bands=data.bands,
    )
    rng = np.random.default_rng(config.seed)
    each = -(-model.samples // len(train))
    spectra, classes = [], []
    with _console.progress() as bar:
        for start in bar.track(range(0, len(train), READ), description="read train"):
            batch = train.read(range(start, min(start + READ, len(train))))
            for image, mask in zip(batch["image"].numpy(), batch["mask"].numpy(), strict=True):
                known = np.flatnonzero(mask.ravel() != IGNORE_INDEX)
                some = rng.choice(known, min(each, len(known)), replace=False)
                spectra.append(image.reshape(len(image), -1)[:, some].T)
                classes.append(mask.ravel()[some])
    forest = RandomForestClassifier(model.trees, min_samples_leaf=model.min_leaf, n_jobs=-1, random_state=config.seed)
    with _console.console.status(f"growing {model.trees} trees on {sum(map(len, classes)):,} pixels"):
        forest.fit(np.concatenate(spectra), np.concatenate(classes))
    # One thread for each part of the pixels: the forest's own threads would add up its trees in the order in which
    # they finish, and two classes that tie would come out by chance.
    forest.n_jobs, workers = 1, os.cpu_count() or 1
    columns = forest.classes_
    count = len(legend().codes(data.level))

    def predictor(images: torch.Tensor) -> npt.NDArray[np.float32]:
        n, channels, height, width = images.shape
        flat = images.numpy().transpose(0, 2, 3, 1).reshape(-1, channels)
        p = np.zeros((len(flat), count), np.float32)
        with ThreadPoolExecutor(workers) as pool:
            p[:, columns] = np.concatenate(list(pool.map(forest.predict_proba, np.array_split(flat, workers))))
        return p.reshape(n, height, width, count).transpose(0, 3, 1, 2)

    yield from tiles(segments(data, config.predict.split), predictor, 1, data.level)


def _data(config: Config) -> LuisaData:
    if not isinstance(config.data, LuisaData):
        raise LulcbenchError(f"{config.model.kind} maps releases.", "Use data.kind = 'luisa-seg'.")
    return config.data
