"""Temperature calibration (Guo et al. 2017): one number, fitted on val, that makes probabilities honest."""

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
    """The temperature with the least log loss, of probabilities made as in prediction.

    Args:
        predict: the fitted model.
        task: that it learnt.
        batches: of the val split, on the device, normalised.
        samples: number of its samples.
    """
    from scipy.optimize import minimize_scalar

    rng = torch.Generator().manual_seed(0)
    kept: list[tuple[Tensor, Tensor]] = []
    per_sample = max(1, PIXELS // samples)
    for batch in batches:
        truth = task.truth(batch)
        p = task.on_labels(predict(batch["image"]), batch)
        flat = p.movedim(1, -1).reshape(-1, p.shape[1]).cpu()
        known = truth.reshape(-1).cpu()
        some = torch.randperm(len(flat), generator=rng)[: per_sample * len(truth)]
        some = some[known[some] != IGNORE_INDEX]
        kept.append((flat[some], known[some].long()))
    p, target = (torch.cat(parts) for parts in zip(*kept, strict=True))
    if not len(target):
        return 1.0

    def loss(temperature: float) -> float:
        tempered = temper(p, temperature)
        picked = tempered.gather(1, target[:, None]).clamp_min(EPSILON)
        return -float(picked.log().mean())

    return round(float(minimize_scalar(loss, bounds=(0.2, 5), method="bounded").x), 4)
