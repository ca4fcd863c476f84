"""Pixel ensemble: random forest, gradient-boosted trees and a neural network, stacked by a logistic regression.

After Witjes et al. 2022 (https://doi.org/10.7717/peerj.13573).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from zipfile import ZIP_DEFLATED, BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from baselines.data import Input
from baselines.devices import Images, memory_errors
from baselines.models.base import MODELS, Fitted, ModelConfig, Predictor
from baselines.models.forest import check_trees
from baselines.models.spectra import IndexFeatures, PixelSample, Spectra, nearest, spectra
from baselines.registry import Count
from baselines.training.effort import Stopwatch
from lulcbench import _console
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.experiment import Experiment
    from baselines.run import About
    from baselines.tasks import Task

Floats = npt.NDArray[np.float64]
MEMBERS = ("forest", "boosting", "network")
# What skops has to be told to build, in addition to the types that it knows.
TRUSTED = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
)


@MODELS.register
class Stack(ModelConfig):
    """Per-pixel ensemble on seasonal spectra, spectral indices and their range over the seasons.

    With ``data.history``, the trends of spectra and indices over these years are features too.

    The logistic regression is fitted to predictions of members that have not seen the spatial block of a pixel; then
    the members are fitted again to all pixels.

    Attributes:
        use: ``stack``, or only one member.
        samples: number of training pixels, drawn at random from the train split.
        folds: number of groups of spatial blocks.
        trees, min_leaf: size of the forest, and minimum number of samples in a leaf.
        rounds, leaves: number of rounds of boosting, each of one tree per class, and maximum number of leaves.
        hidden: width of the two hidden layers of the network.
        epochs: maximum number of epochs of the network, which stops early if the loss no longer falls.
    """

    kind: Literal["stack"] = "stack"
    title: ClassVar[str] = "pixel ensemble"
    dense: ClassVar[bool] = True
    has_loss: ClassVar[bool] = False
    use: Literal["stack", "forest", "boosting", "network"] = "stack"
    samples: Count = 60_000
    folds: int = Field(default=4, ge=2)
    trees: Count = 100
    min_leaf: Count = 3
    rounds: Count = 40
    leaves: int = Field(default=15, ge=2)
    hidden: Count = 128
    epochs: Count = 30

    @property
    def label(self) -> str:
        """Name of the ensemble or of the member."""
        return self.title if self.use == "stack" else f"{self.use} of the {self.title}"

    def fit(self, experiment: Experiment, folder: Path, deadline: float | None = None) -> Fitted:
        """Draw pixels, fit members and the regression."""
        watch = Stopwatch()
        data, seed = experiment.data, experiment.config.seed
        train = data.datasets["train"]
        sample = PixelSample(self.samples, len(train), seed)
        for batch in data.loader("train"):
            pixels = spectra(train.finish(batch)["image"])
            sample.add(pixels, nearest(experiment.task.truth(batch).numpy(), pixels.shape[1]))
        features = IndexFeatures(experiment.info.inputs)
        drawn, labels = sample.drawn
        x, y = features.of(drawn), labels.astype(np.intp)
        classes = experiment.task.outputs
        unit, units = experiment.config.data.units(train)
        groups = np.unique(np.array(units)[sample.images], return_inverse=True)[1]
        used = MEMBERS if self.use == "stack" else (self.use,)
        if self.use == "stack" and groups.max() == 0:
            raise LulcbenchError(
                f"All training pixels are in one of the {unit}: the members cannot be stacked.",
                'Train on more of the release, or set model.use to one member, such as "forest".',
            )
        with memory_errors(f"model.samples = {self.samples}", "Lower model.samples, model.trees or model.folds."):
            regression = self._stack(x, y, groups, classes, seed) if self.use == "stack" else None
            with _console.console.status(f"fitting {', '.join(used)} to {len(x):,} pixels"):
                members = {name: _fitted(self._member(name, seed), x, y) for name in used}
        return Fitted(StackPredictor(members, regression, features, classes), watch.effort())

    def _stack(self, x: Spectra, y: npt.NDArray[np.intp], groups: npt.NDArray[np.intp], classes: int, seed: int) -> Any:
        """Fit the regression to predictions of pixels in blocks that members have not seen."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GroupKFold

        outside = np.zeros((len(x), len(MEMBERS), classes))
        folds = GroupKFold(min(self.folds, int(groups.max()) + 1))
        for number, (seen, unseen) in enumerate(folds.split(x, y, groups), start=1):
            with _console.console.status(f"fold {number} of {folds.n_splits}"):
                for k, name in enumerate(MEMBERS):
                    member = _fitted(self._member(name, seed), x[seen], y[seen])
                    outside[unseen, k] = member_probabilities(member, x[unseen], classes)
        with _console.console.status("fitting the logistic regression"):
            return _fitted(LogisticRegression(max_iter=300), outside.reshape(len(x), -1), y)

    def _member(self, name: str, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
        from sklearn.neural_network import MLPClassifier

        if name == "forest":
            return RandomForestClassifier(self.trees, min_samples_leaf=self.min_leaf, n_jobs=-1, random_state=seed)
        if name == "boosting":
            return HistGradientBoostingClassifier(
                max_iter=self.rounds, max_leaf_nodes=self.leaves, early_stopping=False, random_state=seed
            )
        return MLPClassifier((self.hidden, self.hidden), batch_size=256, max_iter=self.epochs, random_state=seed)

    def load(self, folder: Path, config: Config, task: Task) -> StackPredictor:
        """Read the ensemble."""
        features = IndexFeatures(task.info.inputs)
        members, regression = _load(folder / StackPredictor.file, features, task.outputs)
        return StackPredictor(members, regression, features, task.outputs)

    def describe(self, about: About) -> str:
        """Members, features and number of pixels."""
        members = "random forest, gradient-boosted trees and a neural network, stacked by a logistic regression"
        what = members if self.use == "stack" else self.use
        return f"Pixel ensemble ({what}) on seasonal spectra and indices of {self.samples:,} pixels."

    def small(self) -> dict[str, Any]:
        """Settings of a small ensemble."""
        return {"samples": 1500, "folds": 2, "trees": 5, "rounds": 3, "leaves": 4, "hidden": 8, "epochs": 3}


class StackPredictor(Predictor):
    """A fitted ensemble, which classifies single pixels.

    Args:
        members: name → classifier of scikit-learn on features.
        regression: logistic regression on their probabilities; None if there is one member.
        features: computes features of spectra.
        classes: number of classes, including those without training pixels.
    """

    file: ClassVar[str] = "model.skops"
    media_type: ClassVar[str] = "application/zip"
    framework: ClassVar[str] = "scikit-learn"
    artifact_type: ClassVar[str] = "skops.io.dump"

    def __init__(self, members: Mapping[str, Any], regression: Any, features: IndexFeatures, classes: int) -> None:
        self.members, self.regression, self.features, self.classes = dict(members), regression, features, classes
        if "forest" in self.members:
            self.members["forest"].n_jobs = 1  # as in ForestPredictor

    def __call__(self, images: Images) -> Tensor:
        """Probabilities of the regression, or of the only member: ``(b, class, y, x)``."""
        return self._by_pixel(images, self._stacked)

    def spread(self, images: Images) -> Tensor:
        """Standard deviation of the probabilities of the members, float32 ``(b, class, y, x)``."""
        return self._by_pixel(images, lambda members: members.std(axis=1))

    def _stacked(self, members: Floats) -> Floats:
        if self.regression is None:
            return members[:, 0]
        p = np.zeros((len(members), self.classes))
        p[:, self.regression.classes_] = self.regression.predict_proba(members.reshape(len(members), -1))
        return p

    def _by_pixel(self, images: Images, combine: Any) -> Tensor:
        pixels = spectra(images)
        flat = pixels.reshape(-1, pixels.shape[-1])

        def values(part: Spectra) -> Floats:
            x = self.features.of(part)
            members = [member_probabilities(member, x, self.classes) for member in self.members.values()]
            combined: Floats = combine(np.stack(members, axis=1))
            return combined

        # A fixed size: what a pixel gets must not depend on the number of processors.
        parts = np.array_split(flat, -(-len(flat) // PIXELS))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            p = np.concatenate(list(pool.map(values, parts))).astype(np.float32)
        return torch.from_numpy(p.reshape(*pixels.shape[:3], self.classes).transpose(0, 3, 1, 2))

    def graph(self, inputs: Mapping[str, Input]) -> bytes:
        """Features, members and regression as one graph."""
        from baselines.exporting.pixels import pixel_graph

        return pixel_graph(self.members, self.regression, self.features, self.classes, inputs)

    @property
    def stacked(self) -> tuple[str, ...]:
        """Names of the members, if there are several."""
        return tuple(self.members) if self.regression is not None else ()

    def save(self, folder: Path) -> None:
        """Write the ensemble as arrays, without pickle."""
        from skops.io import dumps

        content = {"members": self.members, "regression": self.regression}
        write_atomic(folder / self.file, dumps(content, compression=ZIP_DEFLATED, compresslevel=1))


PIXELS = 2**14


def _fitted(model: Any, x: Any, y: npt.NDArray[np.intp]) -> Any:
    """Fit a model; that the number of iterations is limited needs no warning."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


def member_probabilities(member: Any, x: Spectra, classes: int) -> Floats:
    """Probabilities ``(n, class)`` of a member, with columns for classes that it does not know."""
    p = np.zeros((len(x), classes))
    p[:, member.classes_] = member.predict_proba(x)
    return p


def _load(path: Path, features: IndexFeatures, classes: int) -> tuple[dict[str, Any], Any]:
    """Read and check an ensemble: scikit-learn does not check the node indices that it follows."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from skops.io import load
    from skops.io.exceptions import UntrustedTypesFoundException

    expected = {"forest": RandomForestClassifier, "boosting": HistGradientBoostingClassifier, "network": MLPClassifier}
    try:
        content = load(path, trusted=list(TRUSTED))
        members, regression = content["members"], content["regression"]
        if not members or not set(members) <= set(expected):
            raise ValueError("it has other members")
        if (regression is None) != (len(members) == 1):
            raise ValueError("members and regression do not match")
        for name, member in members.items():
            if type(member) is not expected[name]:
                raise TypeError(f"{name} is a {type(member).__name__}")
            _check_classes(member.classes_, classes)
            if member.n_features_in_ != len(features.names):
                raise ValueError(f"{name} has other features")
        if "forest" in members:
            check_trees(members["forest"])
        if "boosting" in members:
            _check_boosting(members["boosting"])
        if regression is not None:
            if type(regression) is not LogisticRegression:
                raise TypeError(f"the regression is a {type(regression).__name__}")
            _check_classes(regression.classes_, classes)
            if regression.coef_.shape[1] != len(members) * classes:
                raise ValueError("the regression has other members")
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
    return members, regression


def _check_classes(trained: Any, classes: int) -> None:
    known = np.asarray(trained)
    if not np.issubdtype(known.dtype, np.integer) or known.min() < 0 or known.max() >= classes:
        raise ValueError("it has other classes")


def _check_boosting(boosting: Any) -> None:
    """Check the nodes of gradient-boosted trees."""
    per_round = 1 if len(boosting.classes_) == 2 else len(boosting.classes_)
    for trees in boosting._predictors:
        if len(trees) != per_round:
            raise ValueError("a round has another number of trees")
        for tree in trees:
            nodes = tree.nodes
            inner = nodes[nodes["is_leaf"] == 0]
            at = np.flatnonzero(nodes["is_leaf"] == 0)
            for side in ("left", "right"):
                children = inner[side].astype(np.int64)
                # Children have larger indices than their parent, so that every path ends.
                if (children <= at).any() or (children >= len(nodes)).any():
                    raise ValueError("a node has an invalid child")
            feature = inner["feature_idx"]
            if (feature < 0).any() or (feature >= boosting.n_features_in_).any() or inner["is_categorical"].any():
                raise ValueError("a node has an invalid feature")
