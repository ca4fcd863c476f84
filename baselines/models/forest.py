"""Random forest on the seasonal spectra of single pixels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from zipfile import ZIP_DEFLATED, BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.data import Input
from baselines.devices import Images, memory_errors
from baselines.models.base import MODELS, Fitted, ModelConfig, Predictor
from baselines.models.spectra import PixelSample, Spectra, nearest, spectra
from baselines.registry import Count
from baselines.training.effort import Stopwatch
from lulcbench import _console
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

    from baselines.config import Config
    from baselines.experiment import Experiment
    from baselines.run import About
    from baselines.tasks import Task


@MODELS.register
class Forest(ModelConfig):
    """Per-pixel random forest on the seasonal spectra (as in Witjes et al. 2022).

    Attributes:
        trees: number of trees.
        samples: number of training pixels, drawn at random from the train split.
        min_leaf: minimum number of samples in a leaf.
    """

    kind: Literal["forest"] = "forest"
    title: ClassVar[str] = "random forest"
    dense: ClassVar[bool] = True
    has_loss: ClassVar[bool] = False
    trees: Count = 200
    samples: Count = 100_000
    min_leaf: Count = 2

    def fit(self, experiment: Experiment, folder: Path, deadline: float | None = None) -> Fitted:
        """Draw pixels, each with the label at its centre, and grow the trees."""
        watch = Stopwatch()
        data, seed = experiment.data, experiment.config.seed
        sample = PixelSample(self.samples, len(data.datasets["train"]), seed)
        for batch in data.loader("train"):
            pixels = spectra(data.datasets["train"].finish(batch)["image"])
            sample.add(pixels, nearest(experiment.task.truth(batch).numpy(), pixels.shape[1]))
        with memory_errors(f"model.samples = {self.samples} and model.trees = {self.trees}", "Lower one of them."):
            forest = self.grow(*sample.drawn, seed)
        return Fitted(ForestPredictor(forest, experiment.task.outputs), watch.effort())

    def grow(self, pixels: Spectra, labels: npt.NDArray[np.integer], seed: int) -> RandomForestClassifier:
        """Grow a forest on spectra ``(n, channel)`` and class indices ``(n,)``."""
        from sklearn.ensemble import RandomForestClassifier  # takes a second

        forest = RandomForestClassifier(self.trees, min_samples_leaf=self.min_leaf, n_jobs=-1, random_state=seed)
        with _console.console.status(f"growing {self.trees} trees on {len(pixels):,} pixels"):
            return forest.fit(pixels, labels)

    def small(self) -> dict[str, Any]:
        """Settings of a few trees on a few pixels."""
        return {"trees": 5, "samples": 1000}

    def load(self, folder: Path, config: Config, task: Task) -> ForestPredictor:
        """Read the forest."""
        return ForestPredictor(_load(folder / ForestPredictor.file, task.outputs), task.outputs)

    def describe(self, about: About) -> str:
        """Number of trees and pixels."""
        pixels = f"{self.samples:,} pixels"
        return f"Random forest of {self.trees} trees on the seasonal spectra of {pixels}; no weights to count."


class ForestPredictor(Predictor):
    """A forest that classifies single pixels.

    Args:
        forest: the forest, on class indices.
        classes: number of classes, including those without training pixels.
    """

    file: ClassVar[str] = "model.skops"
    media_type: ClassVar[str] = "application/zip"
    framework: ClassVar[str] = "scikit-learn"
    artifact_type: ClassVar[str] = "skops.io.dump"

    def __init__(self, forest: RandomForestClassifier, classes: int) -> None:
        self.forest, self.classes = forest, classes
        # Threads divide the pixels, not the trees: the forest would sum its trees in the order in which they finish,
        # and ties between classes would be broken at random.
        self.forest.n_jobs = 1

    def __call__(self, images: Images) -> Tensor:
        """Mean of the class fractions of all trees, ``(b, class, y, x)``."""
        pixels = spectra(images)
        flat = pixels.reshape(-1, pixels.shape[-1])
        p = np.zeros((len(flat), self.classes), np.float32)
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            chunks = pool.map(self.forest.predict_proba, np.array_split(flat, workers))
            p[:, self.forest.classes_] = np.concatenate(list(chunks))
        return torch.from_numpy(p.reshape(*pixels.shape[:3], self.classes).transpose(0, 3, 1, 2))

    def graph(self, inputs: Mapping[str, Input]) -> bytes:
        """The trees as an ensemble of ``ai.onnx.ml``."""
        from baselines.exporting.pixels import pixel_graph

        return pixel_graph({"forest": self.forest}, None, None, self.classes, inputs)

    def save(self, folder: Path) -> None:
        """Write the trees as arrays, without pickle."""
        from skops.io import dumps

        write_atomic(folder / self.file, dumps(self.forest, compression=ZIP_DEFLATED, compresslevel=1))


def check_trees(forest: RandomForestClassifier) -> None:
    """Check the nodes of a forest.

    Raises:
        ValueError: a node has an invalid child, channel or class.
    """
    features, trained = forest.n_features_in_, np.asarray(forest.classes_)
    for tree in (estimator.tree_ for estimator in forest.estimators_):
        nodes = np.arange(tree.node_count)
        inner = tree.children_left >= 0
        children = np.stack([tree.children_left, tree.children_right])[:, inner]
        # Children have larger indices than their parent, so that every path ends.
        if (children <= nodes[inner]).any() or (children >= tree.node_count).any():
            raise ValueError("a node has an invalid child")
        if (tree.feature[inner] < 0).any() or (tree.feature[inner] >= features).any() or tree.n_features != features:
            raise ValueError("a node has an invalid channel")
        if tree.value.shape != (tree.node_count, 1, len(trained)):
            raise ValueError("a tree has other classes")


def _load(path: Path, classes: int) -> RandomForestClassifier:
    """Read and check a forest: scikit-learn does not check the node indices that it follows."""
    from sklearn.ensemble import RandomForestClassifier
    from skops.io import load
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        forest = load(path, trusted=["sklearn.tree._tree.Tree"])
        if not isinstance(forest, RandomForestClassifier):
            raise TypeError(f"it is a {type(forest).__name__}")
        trained = np.asarray(forest.classes_)
        if not np.issubdtype(trained.dtype, np.integer) or trained.min() < 0 or trained.max() >= classes:
            raise ValueError("it has other classes")
        check_trees(forest)
    except (
        OSError,
        BadZipFile,
        UntrustedTypesFoundException,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:
        raise LulcbenchError(f"{path} is damaged: {error}.", "Train it again.") from error
    return forest
