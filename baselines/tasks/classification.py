"""Classification: one class per sample, for EuroSAT patches and for the chips of a release."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from baselines.devices import memory_errors, threads
from baselines.predicting.split import open_split, read_split, unlabelled
from baselines.predicting.unit_counts import UnitCounts, count_samples
from baselines.predicting.views import EPSILON, temper
from baselines.tasks.base import TASKS, LevelTargets, Report, Task, TaskConfig
from lulcbench._console import console
from lulcbench._files import write_atomic, write_json
from lulcbench._parsing import parse_json, read_limited
from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX
from lulcbench.plotting import Panel

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.data import DataInfo
    from baselines.run import Trained

PREDICTIONS = "predictions.csv"
SCORES = "scores.json"
MAX_SCORES_BYTES = 2**22
PAIRS = 10


@TASKS.register
class ClassificationConfig(TaskConfig):
    """One class per sample."""

    kind: Literal["classification"] = "classification"
    target: ClassVar[str] = "label"
    dense: ClassVar[bool] = False

    def build(self, info: DataInfo) -> Classification:
        """Build the task for these data."""
        return Classification(self, info)


class Classification(Task):
    """See ``ClassificationConfig``. Batches have ``label``, ``(b,)``, and mixed ones also the label of the partner."""

    noun: ClassVar[str] = "patches"

    def __init__(self, config: TaskConfig, info: DataInfo) -> None:
        super().__init__(config, info)
        self.targets = LevelTargets(info.level)

    def loss(self, outputs: Tensor, batch: Sample) -> Tensor:
        """Negative log-likelihood of the labels; for mixed samples, the weighted mean over both labels."""
        loss: Tensor = self.criterion(outputs, self.targets(batch["label"]))
        if "label_partner" in batch:
            weight = batch["label_weight"]
            loss = weight * loss + (1 - weight) * self.criterion(outputs, self.targets(batch["label_partner"]))
        return loss

    def truth(self, batch: Sample) -> Tensor:
        """The labels."""
        label: Tensor = batch["label"]
        return label

    def predict(self, trained: Trained, folder: Path) -> Path:
        """Write ``predictions.csv`` (id, class, probabilities) and, if the split has labels, ``scores.json``."""
        config, about = trained.config, trained.about
        _, batches = read_split(trained)
        ids: list[str] = []
        probabilities, truths = [], []
        remedy = "Lower predict.batch_size."
        with threads(config.threads), memory_errors(f"predict.batch_size = {config.predict.batch_size}", remedy):
            for batch in batches:
                probabilities.append(temper(trained(batch["image"]), trained.temperature).cpu())
                if "label" in batch:
                    truths.append(batch["label"].cpu())
                names = batch.get("id") or [f"{tile}:{i}" for i, tile in enumerate(batch["tile"], len(ids))]
                ids += names
        p = torch.cat(probabilities).flatten(1).numpy()
        classes = about.info.classes
        # Every digit: metrics are computed from this file, and the log loss from probabilities far below a rounding.
        table = pd.DataFrame(p, columns=list(classes))
        table.insert(0, "predicted", [classes[i] for i in p.argmax(1)])
        table.insert(0, "id", ids)
        text = io.StringIO()
        table.to_csv(text, index=False, lineterminator="\n")
        (folder / SCORES).unlink(missing_ok=True)  # of predictions that are replaced
        write_atomic(folder / PREDICTIONS, text.getvalue().encode())
        if not truths:
            console.print(unlabelled(config.predict.split))
            return folder / PREDICTIONS
        scores = score(p, torch.cat(truths).flatten().numpy(), classes) | {
            "split": config.predict.split,
            "data_digest": about.data_digest,
            "simulated": about.info.simulated,
        }
        write_json(folder / SCORES, scores)
        return folder / PREDICTIONS

    def score(self, config: Config, folder: Path) -> dict[str, Any]:
        """Accuracy, log loss, accuracy by class, and the pairs of classes confused most often."""
        path = folder / SCORES
        if not path.is_file():
            raise LulcbenchError(f"{path} is missing.", "Run 'python -m baselines predict' first.")
        scores = parse_json(read_limited(path, MAX_SCORES_BYTES), str(path), "Predict again.", MAX_SCORES_BYTES)
        if scores["data_digest"] != self.info.digest:
            raise LulcbenchError(f"The scores in {path} belong to other data.", "Predict again.")
        if scores["split"] != config.predict.split:
            raise LulcbenchError(
                f"The scores in {path} are of {scores['split']}, not of {config.predict.split}.", "Predict again."
            )
        return {k: scores[k] for k in ("overall_accuracy", "log_loss", "class_accuracy", "confused", "patches")}

    def count(self, config: Config, folder: Path) -> UnitCounts:
        """Counts by spatial block, or by patch if the blocks of patches are unknown."""
        split, dataset = config.predict.split, self._split(config)
        if dataset.labels is None:
            raise LulcbenchError(unlabelled(split), "Predict a split with labels.")
        p = pd.read_csv(folder / PREDICTIONS)[list(self.info.classes)].to_numpy(np.float64)
        p = np.maximum(p, EPSILON)
        truth = np.asarray(dataset.labels).astype(np.intp)
        if len(p) != len(truth):
            raise LulcbenchError(f"{folder / PREDICTIONS} has {len(p)} rows, not {len(truth)}.", "Predict again.")
        unit, names = config.data.units(dataset)
        return count_samples(unit, split, names, truth, p / p.sum(1, keepdims=True), self.info.classes, self.info.level)

    def report(self, config: Config, folder: Path) -> Report:
        """One table of scores; none without labels."""
        kind, split = config.data.kind, config.predict.split
        facts = [("data", f"{kind}, digest {self.info.digest}")]
        dataset = self._split(config)
        if dataset.labels is None:
            return Report({}, kind, f"{kind}: {len(dataset):,} {split} {self.noun}. {unlabelled(split)}", facts)
        scores = self.score(config, folder)
        title = f"{len(self.info.classes)} classes"
        metrics = {"overall_accuracy": scores["overall_accuracy"], "log_loss": scores["log_loss"]}
        worst = [f"{p['patches']} × {p['label']} predicted as {p['predicted']}" for p in scores["confused"]]
        facts.append(("most confused", "; ".join(worst) or "none"))
        use = "used in training" if split == "train" else "not used in training"
        return Report({title: metrics}, kind, f"{kind}: {scores['patches']:,} {split} {self.noun}, {use}.", facts)

    def pictures(self, config: Config, folder: Path, count: int) -> Iterator[tuple[str, Sequence[Panel]]]:
        """Wrongly predicted patches, in descending order of confidence; then the first patches of the split.

        Without labels, patches at regular steps through the split.
        """
        dataset = self._split(config)
        table = pd.read_csv(folder / PREDICTIONS)
        confidence = table[list(self.info.classes)].max(axis=1)
        labels = None if dataset.labels is None else [self.info.classes[i] for i in dataset.labels]
        if labels is None:
            rows = np.unique(np.linspace(0, len(table) - 1, count).astype(int))
        else:
            wrong = table["predicted"] != labels
            rows = np.argsort(-(confidence * wrong).to_numpy(), kind="stable")[:count]
        for row in rows.tolist():
            caption = f"predicted {table['predicted'][row]} ({confidence[row]:.0%})"
            if labels is not None:
                caption = f"{labels[row]}, {caption}"
            panels = [Panel(f"{panel.title}: {caption}", panel.rgb) for panel in dataset.rgb_panels(dataset[row])]
            yield str(table["id"][row]), panels

    def _split(self, config: Config) -> Any:
        """The dataset of the predicted split."""
        return open_split(config, **config.predicted.fitted_options(self.info)).datasets["predict"]


def score(p: npt.NDArray[np.float32], target: npt.NDArray[np.integer], classes: Sequence[str]) -> dict[str, Any]:
    """Overall accuracy, log loss, accuracy by class, confusion matrix and the most frequent confusions.

    Args:
        p: probabilities, float32 ``(n, class)``.
        target: class indices, ``(n,)``; samples with ``IGNORE_INDEX`` are left out.
        classes: names of the classes.

    Raises:
        LulcbenchError: all samples are ignored.

    Example:
        >>> score(np.eye(2, dtype=np.float32), np.array([0, 0]), ("a", "b"))["confused"]
        [{'label': 'a', 'predicted': 'b', 'patches': 1}]
    """
    labelled = target != IGNORE_INDEX
    p, target = p[labelled], target[labelled].astype(int)
    if not len(target):
        raise LulcbenchError("No patch of the split has a label.", "Check its labels.")
    predicted = p.argmax(1)
    n = len(classes)
    confusion = np.bincount(target * n + predicted, minlength=n * n).reshape(n, n)
    support, correct = confusion.sum(1), np.diag(confusion)
    errors = confusion - np.diag(correct)
    order = np.argsort(-errors, axis=None, kind="stable")[:PAIRS]
    pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, errors.shape), strict=True) if errors[i, j]]
    return {
        "patches": len(target),
        "overall_accuracy": float(correct.sum() / len(target)),
        "log_loss": float(-np.log(np.maximum(p[np.arange(len(target)), target], EPSILON)).mean()),
        "class_accuracy": {
            name: float(c / s) if s else None for name, c, s in zip(classes, correct, support, strict=True)
        },
        "confused": [{"label": classes[i], "predicted": classes[j], "patches": int(errors[i, j])} for i, j in pairs],
        "confusion": confusion.tolist(),
    }
