"""Training of the head of a pretrained classifier as a logistic regression on features that are computed once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning import seed_everything
from torch import Tensor, nn

from baselines.devices import best_device, memory_errors, threads, to_device
from baselines.models._classifier import ClassifierConfig, head
from baselines.models.base import Fitted
from baselines.models.network import NetworkPredictor
from baselines.training.effort import Stopwatch
from baselines.training.history import OutOfTime
from lulcbench import _console
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX

if TYPE_CHECKING:
    from baselines.experiment import Experiment

ITERATIONS = 500
# Logit of classes without a training sample: their probability is zero.
NEVER = -1e4


def fit_head(model: ClassifierConfig, c: float, experiment: Experiment, deadline: float | None = None) -> Fitted:
    """Fit the head of a network to the train split; the weights of all other layers stay as they are.

    Args:
        model: settings of the network.
        c: inverse of the strength of the L2 penalty, on standardised features.
        experiment: config, data and task.
        deadline: ``time.monotonic()`` at which to stop.

    Raises:
        OutOfTime: the deadline was reached.
        LulcbenchError: the head is not a linear layer; the train split has a single class; memory ran out.
    """
    from sklearn.linear_model import LogisticRegression

    config, info, watch = experiment.config, experiment.info, Stopwatch()
    seed_everything(config.seed, verbose=False)
    task = config.task.build(info)
    net = model.build(info.inputs, task.outputs).eval().to(best_device())
    layer = head(net)
    if not isinstance(layer, nn.Linear):
        raise LulcbenchError(f"The head of {model.label} is not a linear layer.", "Set model.freeze instead of probe.")
    with threads(config.threads):
        features, labels = _features(net, layer, experiment, deadline)
        mean, std = features.mean(0), features.std(0, correction=0).clamp_min(1e-6)
        try:
            regression = LogisticRegression(C=c, max_iter=ITERATIONS).fit(((features - mean) / std).numpy(), labels)
        except ValueError as error:
            raise LulcbenchError(f"The head cannot be fitted: {error}.", "Train on two or more classes.") from error
    weight, bias = torch.zeros_like(layer.weight), torch.full_like(layer.bias, NEVER)
    coefficients, intercepts = _per_class(regression.coef_, regression.intercept_)
    scaled = coefficients / std
    weight[regression.classes_] = scaled.to(weight)
    bias[regression.classes_] = (intercepts - scaled @ mean).to(bias)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return Fitted(NetworkPredictor(net, task, config), watch.effort())


def _per_class(coefficients: np.ndarray, intercepts: np.ndarray) -> tuple[Tensor, Tensor]:
    """One row per class: scikit-learn gives two classes the difference of their logits."""
    if len(coefficients) == 1:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    return torch.from_numpy(coefficients).float(), torch.from_numpy(intercepts).float()


@torch.inference_mode()
def _features(
    net: nn.Module, layer: nn.Module, experiment: Experiment, deadline: float | None
) -> tuple[Tensor, np.ndarray]:
    """Inputs of the head, float32 ``(n, feature)``, and labels ``(n,)`` of the labelled samples of the train split."""
    dataset, size = experiment.data.datasets["train"], experiment.config.predict.batch_size
    target, device = experiment.config.data.target, best_device()
    kept: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].float().cpu()))
    labels = []
    with _console.progress() as bar, memory_errors(f"predict.batch_size = {size}", "Lower predict.batch_size."):
        for start in bar.track(range(0, len(dataset), size), description="features"):
            if deadline is not None and time.monotonic() > deadline:
                raise OutOfTime
            batch = dataset.finish(to_device(dataset.read(range(start, min(start + size, len(dataset)))), device))
            net(batch["image"])
            labels.append(batch[target].cpu())
    hook.remove()
    label = torch.cat(labels)
    labelled = label != IGNORE_INDEX
    return torch.cat(kept)[labelled].clone(), label[labelled].numpy()
