"""Temperature scaling (Guo et al. 2017): one number, fitted on val, that calibrates probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from baselines.devices import Images
from baselines.predicting.views import EPSILON, temper
from baselines.tasks import Task
from lulcbench.datasets.batch import Sample
from lulcbench.legend import IGNORE_INDEX

PIXELS = 200_000  # enough to fit one number


@torch.inference_mode()
def fit_temperature(predict: Callable[[Images], Tensor], task: Task, batches: Iterable[Sample], samples: int) -> float:
    """Fit the temperature that minimises the log loss of probabilities computed as in prediction.

    Args:
        predict: the fitted model: images → probabilities ``(b, class, …)``.
        task: task of the model.
        batches: batches of the val split, on the device, normalised.
        samples: number of samples of the val split.

    Returns:
        The temperature; 1 if nothing is labelled.
    """
    from scipy.optimize import minimize_scalar

    rng = torch.Generator().manual_seed(0)
    kept: list[tuple[Tensor, Tensor]] = []
    per_sample = max(1, PIXELS // samples)
    for batch in batches:
        truth = task.truth(batch)
        p = task.on_labels(predict(batch["image"]), batch)
        flat = p.movedim(1, -1).reshape(-1, p.shape[1]).cpu()
        labels = truth.reshape(-1).cpu()
        drawn = torch.randperm(len(flat), generator=rng)[: per_sample * len(truth)]
        drawn = drawn[labels[drawn] != IGNORE_INDEX]
        kept.append((flat[drawn], labels[drawn].long()))
    p, target = (torch.cat(tensors) for tensors in zip(*kept, strict=True))
    if not len(target):
        return 1.0

    def loss(temperature: float) -> float:
        tempered = temper(p, temperature)
        picked = tempered.gather(1, target[:, None]).clamp_min(EPSILON)
        return -float(picked.log().mean())

    return round(float(minimize_scalar(loss, bounds=(0.2, 5), method="bounded").x), 4)
