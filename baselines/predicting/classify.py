"""Patch classification: what a trained network says of the test split, and of single georeferenced patches."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from baselines.data.arrays import Arrays
from baselines.run import Trained, threads_of
from baselines.tasks.losses import EPSILON
from baselines.training.calibrate import average_views, temper
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX

PAIRS = 10
Probabilities = npt.NDArray[np.float32]


@torch.inference_mode()
def probabilities(trained: Trained, images: torch.Tensor) -> Probabilities:
    """Calibrated class probabilities ``(n, class)`` of ``(n, channel, h, w)`` images, raw or normalised."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = trained.net.to(device)
    parts = []
    for chunk in images.split(trained.config.predict.batch_size):
        p = average_views(net, trained.normalise(chunk.to(device)), trained.config)
        parts.append(temper(p, trained.temperature).cpu())
    result: Probabilities = torch.cat(parts).numpy()
    return result


def score(p: Probabilities, target: npt.NDArray[np.integer], classes: Sequence[str]) -> dict[str, Any]:
    """Overall accuracy, log loss, per-class accuracy, confusion, and the pairs confused most often.

    Args:
        p: ``(n, class)``.
        target: ``(n,)`` class indices; ``IGNORE_INDEX`` is not judged.
        classes: their names.
    """
    judged = target != IGNORE_INDEX
    p, target = p[judged], target[judged].astype(int)
    if not len(target):
        raise LulcbenchError("No patch of the split can be judged.", "Check its labels.")
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


def predict_patches(trained: Trained, arrays: Arrays, folder: Path) -> dict[str, Any]:
    """Write ``predictions.csv`` (id, class, probabilities) and ``scores.json``; returns the scores."""
    classes = trained.about["classes"]
    level = trained.about["level"]
    with threads_of(trained.config):
        p = probabilities(trained, arrays.images)
    table = pd.DataFrame(p.round(5), columns=classes)
    table.insert(0, "predicted", [classes[i] for i in p.argmax(1)])
    table.insert(0, "id", arrays.ids)
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    write_atomic(folder / "predictions.csv", text.getvalue().encode())
    target = arrays.targets[:, -1 if level is None else level - 1].numpy()
    scores = score(p, target, classes) | {
        "split": trained.config.predict.split,
        "data_digest": trained.about["data_digest"],
        "simulated": trained.about["simulated"],
    }
    write_atomic(folder / "scores.json", (json.dumps(scores, indent=1, ensure_ascii=False) + "\n").encode())
    return scores
