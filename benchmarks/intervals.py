"""Do the 95 % intervals over spatial blocks hold? Simulated splits of patchy classes, whose mean score is known.

A population of blocks has classes of very different frequency, which occur in patches: a block has few of them. Errors
go together within a block. Each repetition draws a split of blocks and computes the interval of each metric; counted is
how often it contains the mean of the metric over splits of as many blocks. Three methods are measured: the one of
``lulcbench.evaluation.intervals`` (jackknife t), the bootstrap t that it replaced, and bias-corrected accelerated (BCa)
bootstrap intervals.

    python -m benchmarks.intervals [--repetitions 1000] [--population NAME …]
                                   [--blocks 10 20 40 80]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.evaluation.families import Family
from lulcbench.evaluation.intervals import intervals, t_quantile
from lulcbench.evaluation.metrics import evaluate

METRICS = ("overall_accuracy", "miou", "macro_f1", "balanced_accuracy")
DRAWS = 1000
SPLITS = 5000  # of which the mean is taken as the truth
PIXELS = 20_000  # of a block

Floats = npt.NDArray[np.float64]
Method = Callable[[Floats, np.random.Generator], dict[str, tuple[float, float]]]

of_classes = partial(evaluate, Family.CLASSES)


@dataclass(frozen=True)
class Population:
    """Blocks of which splits are drawn.

    Attributes:
        classes: number of classes; the rarest has a share of e⁻⁴ of the most frequent one.
        patches: the smaller, the fewer classes make up a block (sum of the parameters of a Dirichlet distribution).
        spread: standard deviation of the logarithm of the number of pixels of a block.
        seed: of what all blocks have in common.
    """

    classes: int = 14
    patches: float = 3.0
    spread: float = 0.0
    seed: int = 0

    def draw(self, rng: np.random.Generator, *shape: int) -> Floats:
        """Margins of blocks, ``(*shape, 3, classes)``: correct, label and predicted pixels of each class."""
        common = np.random.default_rng(self.seed)
        share = np.exp(-np.arange(self.classes) * 4.0 / self.classes)
        share /= share.sum()
        recall = common.normal(1.0, 1.0, self.classes)  # as a logit
        confused = common.gamma(0.5, size=(self.classes, self.classes)) * share
        np.fill_diagonal(confused, 0)
        confused /= confused.sum(axis=1, keepdims=True)
        n = math.prod(shape)
        parts = rng.gamma(np.broadcast_to(share * self.patches, (n, self.classes))) + 1e-300
        pixels = PIXELS * np.exp(rng.normal(0, self.spread, (n, 1)))
        support = np.floor(parts / parts.sum(axis=1, keepdims=True) * pixels)
        logit = recall + 0.56 * rng.normal(size=(n, 1)) + 0.8 * rng.normal(size=(n, self.classes))
        correct = np.floor(support / (1 + np.exp(-logit)))
        predicted = correct + np.round((support - correct) @ confused)
        return np.stack([correct, support, predicted], axis=1).reshape(*shape, 3, self.classes)


POPULATIONS = {
    "14 classes": Population(),
    "14 classes, very patchy": Population(patches=1.2),
    "46 classes": Population(classes=46, patches=6.0),
    "14 classes, blocks of unequal size": Population(spread=0.5),
}


def jackknife(blocks: Floats, _rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """The intervals of the scorer."""
    found = intervals(blocks, of_classes)
    return {name: found[name] for name in METRICS}


def bootstrap(blocks: Floats, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Bootstrap standard error and t quantile, extended by the bias on its side; the scorer's until 2026-11."""
    n = len(blocks)
    result = {}
    for name, (value, drawn) in _drawn(blocks, rng).items():
        reach = t_quantile(n - 1) * float(drawn.std()) * math.sqrt(n / (n - 1))
        bias = float(drawn.mean()) - value
        result[name] = (value - reach - max(bias, 0), value + reach + max(-bias, 0))
    return result


def accelerated(blocks: Floats, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Bias-corrected accelerated bootstrap (Efron 1987)."""
    normal = NormalDist()
    without = of_classes(blocks.sum(axis=0) - blocks)
    result = {}
    for name, (value, drawn) in _drawn(blocks, rng).items():
        below = float(np.mean(drawn < value))
        middle = normal.inv_cdf(min(max(below, 1 / DRAWS), 1 - 1 / DRAWS))
        off = without[name].mean() - without[name]
        skew = float((off**3).sum() / (6 * (off**2).sum() ** 1.5))
        ends = [middle + (middle + z) / (1 - skew * (middle + z)) for z in (-1.959964, 1.959964)]
        low, high = np.quantile(drawn, [normal.cdf(end) for end in ends])
        result[name] = (float(low), float(high))
    return result


METHODS: dict[str, Method] = {"jackknife t": jackknife, "bootstrap t": bootstrap, "BCa": accelerated}


def coverage(
    population: Population, blocks: int, repetitions: int, methods: Sequence[str] = tuple(METHODS), splits: int = SPLITS
) -> dict[str, dict[str, float]]:
    """Method → metric → share of the repetitions whose interval contains the mean over splits of as many blocks."""
    rng = np.random.default_rng(blocks)
    values = [of_classes(population.draw(rng, 250, blocks).sum(axis=1)) for _ in range(splits // 250)]
    truth = {name: float(np.mean([value[name] for value in values])) for name in METRICS}
    held: dict[str, dict[str, int]] = {method: dict.fromkeys(METRICS, 0) for method in methods}
    for _ in range(repetitions):
        split = population.draw(rng, blocks)
        for method in methods:
            for name, (low, high) in METHODS[method](split, rng).items():
                held[method][name] += low <= truth[name] <= high
    return {method: {name: hits / repetitions for name, hits in of.items()} for method, of in held.items()}


def _drawn(blocks: Floats, rng: np.random.Generator) -> dict[str, tuple[float, Floats]]:
    """Metric → its value, and its values over resampled blocks."""
    n = len(blocks)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(np.float64)
    drawn = of_classes((weights @ blocks.reshape(n, -1)).reshape(DRAWS, *blocks.shape[1:]))
    values = of_classes(blocks.sum(axis=0))
    return {name: (float(values[name]), drawn[name]) for name in METRICS}


def main() -> None:
    """Print a line per population, number of blocks and method, then a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--population", nargs="+", default=list(POPULATIONS), choices=POPULATIONS)
    parser.add_argument("--blocks", type=int, nargs="+", default=[10, 20, 40, 80])
    options = parser.parse_args()
    result: dict[str, Any] = {"repetitions": options.repetitions}
    for name in options.population:
        for blocks in options.blocks:
            found = coverage(POPULATIONS[name], blocks, options.repetitions)
            result[f"{name}, {blocks} blocks"] = found
            for method, shares in found.items():
                figures = " ".join(f"{metric} {100 * share:.1f}" for metric, share in shares.items())
                print(f"{name:35} {blocks:3} {method:12} {figures}", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
