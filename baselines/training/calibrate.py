"""Temperature calibration (Guo et al. 2017): one number, fitted on val, that makes probabilities honest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.config import Config
from baselines.data.arrays import EpochSampler
from baselines.tasks.losses import EPSILON, area_average
from baselines.tasks.task import Task
from baselines.training.augment import dihedral, undo_dihedral
from lulcbench.legend import IGNORE_INDEX

PIXELS = 200_000  # enough to fit one number


def temper(p: Tensor, temperature: float) -> Tensor:
    """Probabilities ``(b, class, …)`` raised to ``1 / temperature`` and normalised: dividing logits by it."""
    if temperature == 1:
        return p
    return (p.clamp_min(EPSILON).log() / temperature).softmax(1)


def average_views(net: nn.Module, images: Tensor, config: Config) -> Tensor:
    """Class probabilities, float32, of normalised images: of one view, or with ``predict.tta`` averaged over the eight.

    Args:
        net: maps ``(b, channel, h, w)`` to logits.
        images: on its device.
        config: the run; bf16 on a GPU unless ``train.precision`` forbids it.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    device = images.device.type
    turns = range(8 if config.predict.tta else 1)
    total = torch.zeros((), device=images.device)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda" and config.train.precision != "32-true"):
        for k in turns:
            p = net(dihedral(images, k)).float().softmax(1)
            total = total + (undo_dihedral(p, k) if p.ndim == 4 else p)
    return total / len(turns)


@torch.inference_mode()
def fit_temperature(task: Task) -> float:
    """The temperature with the least log loss on val, at the model's level, of probabilities made as in prediction."""
    from scipy.optimize import minimize_scalar

    task.eval()
    split, batch_size = task.split("val"), task.config.predict.batch_size
    level = -1 if task.level is None else task.level - 1
    rng = torch.Generator().manual_seed(0)
    kept: list[tuple[Tensor, Tensor]] = []
    each = max(1, PIXELS // len(split))
    for batch in split.loader(batch_size, EpochSampler(len(split), 0, train=False)):
        images, targets = split.gather(batch)
        p = average_views(task.net, task.normalise(images), task.config)
        if p.ndim == 4:
            p = area_average(p, (targets.shape[-2], targets.shape[-1]))
        flat = p.movedim(1, -1).reshape(-1, p.shape[1]).cpu()
        known = targets[:, level].reshape(-1).cpu()
        some = torch.randperm(len(flat), generator=rng)[: each * len(images)]
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
