"""Do the intervals of ``lulcbench area`` hold? Simulated surveys of a simulated country, whose truth is known.

The truth is the label map of a simulated country; the map that is evaluated has errors in patches, more of them in some
classes. Each design draws many samples; counted is how often the 95 % interval of a class contains the truth, for
classes with at least 30 effective reference points (``Accuracy.effective``) on average. Printed are the lowest, mean
and highest share over the classes.

    python -m benchmarks.surveys [--surveys 1000] [--level 1]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from builders.simulate.config import SimulationConfig
from builders.simulate.labels import label_maps
from builders.simulate.noise import value_noise
from lulcbench.evaluation.areas import Survey
from lulcbench.evaluation.assisted_areas import prediction_powered
from lulcbench.evaluation.design import Allocation, allocate
from lulcbench.grid import Bounds
from lulcbench.legend import legend

MINIMUM = 30  # effective reference points of a class, on average, for which intervals are expected to hold
CLUSTER = 5  # pixels along each side of a block that is a cluster; 9 of its pixels are points

Classes = npt.NDArray[np.intp]
Sampler = Callable[[np.random.Generator], Survey]


@dataclass(frozen=True)
class Country:
    """Truth and map of a country, class indices ``(y, x)``, and probabilities of a model ``(class, y, x)``."""

    truth: Classes
    mapped: Classes
    probabilities: npt.NDArray[np.float32]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.probabilities)


def country(level: int = 1, error: float = 0.15, seed: int = 23, bounds: Bounds | None = None) -> Country:
    """A simulated country with a map whose errors form patches of about 300 m, and the probabilities of a model."""
    config = SimulationConfig(seed=seed, years=(2018,), bounds=bounds or SimulationConfig().bounds)
    codes = label_maps(config)[2018].codes
    truth = legend().encode(codes, level).astype(np.intp)
    present, truth = np.unique(truth, return_inverse=True)
    k, (height, width) = len(present), truth.shape
    noise = value_noise(np.arange(width), np.arange(height), 6.0, 1, octaves=2)
    rank = np.argsort(np.argsort(noise.ravel())).reshape(noise.shape) / noise.size
    # The wrong class is that of a pixel some 500 m away, so that it is a class of the neighbourhood.
    shifted = np.roll(truth, (7, 11), axis=(0, 1))
    rng = np.random.default_rng(seed)
    wrong = rank < error * (0.5 + np.arange(k) / k)[truth]
    mapped = np.where(wrong, shifted, truth)
    # A model that sees the truth through noise and is less certain where the map is wrong.
    logits = rng.normal(0, 0.7, (k, height, width))
    np.put_along_axis(logits, mapped[None], np.take_along_axis(logits, mapped[None], 0) + 3.0 * (0.4 + noise), 0)
    np.put_along_axis(logits, truth[None], np.take_along_axis(logits, truth[None], 0) + 1.5, 0)
    p = np.exp(logits)
    return Country(truth, mapped, (p / p.sum(axis=0)).astype(np.float32))


def simple_random(land: Country, n: int, rng: np.random.Generator) -> Survey:
    """Any pixel with the same probability."""
    at = rng.integers(0, land.truth.size, n)
    return Survey.simple_random(land.truth.flat[at], land.mapped.flat[at], land.classes)


def systematic(land: Country, n: int, rng: np.random.Generator) -> Survey:
    """A square grid with a random origin."""
    step = int(np.sqrt(land.truth.size / n))
    i, j = rng.integers(0, step, 2)
    return Survey.simple_random(
        land.truth[i::step, j::step].ravel(), land.mapped[i::step, j::step].ravel(), land.classes
    )


def post_stratified(land: Country, n: int, rng: np.random.Generator) -> Survey:
    """A simple random sample, post-stratified by the map."""
    return simple_random(land, n, rng).post_stratified(np.bincount(land.mapped.ravel()))


@dataclass
class Strata:
    """Pixels by stratum."""

    of: Classes
    points: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        self.sizes = np.bincount(self.of)
        self.order = np.argsort(self.of, kind="stable")
        self.first = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])

    def draw(self, rng: np.random.Generator) -> Classes:
        """Positions of random pixels of each stratum."""
        return np.concatenate(
            [
                self.order[first + rng.integers(0, size, n)]
                for first, size, n in zip(self.first, self.sizes, self.points, strict=True)
            ]
        )


def stratified(land: Country, strata: Strata, rng: np.random.Generator) -> Survey:
    """Random pixels of each stratum."""
    at = strata.draw(rng)
    return Survey.stratified(
        land.truth.flat[at], land.mapped.flat[at], land.classes, strata.of[at], strata.sizes.astype(float)
    )


def clustered(land: Country, clusters: int, rng: np.random.Generator) -> Survey:
    """Random blocks of pixels with nine points each."""
    height, width = land.truth.shape
    block = rng.integers(0, (height // CLUSTER) * (width // CLUSTER), clusters)
    i, j = np.divmod(block, width // CLUSTER)
    rows = (i * CLUSTER)[:, None] + np.repeat([0, 2, 4], 3)
    columns = (j * CLUSTER)[:, None] + np.tile([0, 2, 4], 3)
    at = (rows * width + columns).ravel()
    return Survey.weighted(
        land.truth.flat[at],
        land.mapped.flat[at],
        land.classes,
        np.ones(len(at)),
        cluster=np.repeat(np.arange(clusters), 9),
    )


def two_phase(land: Country, strata: Strata, first: int, rng: np.random.Generator) -> Survey:
    """As LUCAS: a large first phase is divided into strata, and a part of each stratum is visited."""
    phase = rng.integers(0, land.truth.size, first)
    of = strata.of[phase]
    at, weight = [], []
    for h, n in enumerate(strata.points):
        own = phase[of == h]
        chosen = rng.choice(own, min(n, len(own)), replace=False)
        at.append(chosen)
        weight.append(np.full(len(chosen), len(own) / len(chosen)))
    points = np.concatenate(at)
    return Survey.weighted(
        land.truth.flat[points],
        land.mapped.flat[points],
        land.classes,
        np.concatenate(weight),
        strata.of[points],
        first_phase=first,
    )


def designs(land: Country, n: int = 1000) -> dict[str, Sampler]:
    """Samplers by name."""
    by_map = Strata(land.mapped.ravel(), np.zeros(0, np.int64))
    by_map.points = allocate(n, by_map.sizes, Allocation.PROPORTIONAL, minimum=n // (2 * land.classes))
    # Strata of another, older map: the country shifted by 300 m, with one class for every two.
    other = Strata(np.roll(land.mapped, (4, 4), axis=(0, 1)).ravel() // 2, np.zeros(0, np.int64))
    other.points = allocate(n, other.sizes, Allocation.EQUAL)
    phased = Strata(other.of, other.points)
    return {
        "simple random": partial(simple_random, land, n),
        "systematic": partial(systematic, land, n),
        "post-stratified": partial(post_stratified, land, n),
        "stratified by the map": partial(stratified, land, by_map),
        "stratified by another map": partial(stratified, land, other),
        "clusters": partial(clustered, land, n // 5),
        "two phases": partial(two_phase, land, phased, 5 * n),
    }


def truth(land: Country) -> dict[str, npt.NDArray[np.float64]]:
    """True accuracies and areas."""
    k = land.classes
    matrix = np.bincount(land.mapped.ravel() * k + land.truth.ravel(), minlength=k * k).reshape(k, k)
    right, mapped, own = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return {
        "overall": np.array([right.sum() / matrix.sum()]),
        "user": right / mapped,
        "producer": right / own,
        "f1": 2 * right / (mapped + own),
        "area": own / matrix.sum(),
    }


def coverage(land: Country, draw: Sampler, surveys: int, seed: int = 1) -> dict[str, npt.NDArray[np.float64]]:
    """Share of surveys whose interval contains the truth, by figure and class; NaN for classes with few points."""
    true = truth(land)
    hits = {name: np.zeros(len(values)) for name, values in true.items()}
    points = np.zeros(land.classes)
    for i in range(surveys):
        accuracy = draw(np.random.default_rng([seed, i])).accuracy()
        points += accuracy.effective
        for name, values in true.items():
            estimate = getattr(accuracy, name)
            hits[name] += (np.atleast_1d(estimate.low) <= values) & (values <= np.atleast_1d(estimate.high))
    few = points / surveys < MINIMUM
    shares = {name: hit / surveys for name, hit in hits.items()}
    return {name: share if name == "overall" else np.where(few, np.nan, share) for name, share in shares.items()}


def gain(land: Country, n: int, seed: int = 2) -> npt.NDArray[np.float64]:
    """Factor by which predictions multiply the number of points of a simple random sample, by class."""
    at = np.random.default_rng(seed).integers(0, land.truth.size, n)
    survey = Survey.simple_random(land.truth.flat[at], land.mapped.flat[at], land.classes)
    flat = land.probabilities.reshape(land.classes, -1)
    return prediction_powered(survey, flat[:, at].T, flat.mean(axis=1, dtype=np.float64)).gain


def main() -> None:
    """Print coverage by design, then a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surveys", type=int, default=1000)
    parser.add_argument("--level", type=int, default=1)
    arguments = parser.parse_args()
    land = country(arguments.level)
    result = {}
    for name, draw in designs(land).items():
        shares = coverage(land, draw, arguments.surveys)
        ends = {
            figure: [round(float(end), 3) for end in (np.nanmin(values), np.nanmean(values), np.nanmax(values))]
            for figure, values in shares.items()
        }
        print(
            f"{name:26}",
            *(f"{figure} {' '.join(f'{end:.3f}' for end in three)}" for figure, three in ends.items()),
            flush=True,
        )
        result[name] = ends
    print("gain", gain(land, 1000).round(2))
    print(json.dumps({"surveys": arguments.surveys, "coverage": result, "gain": gain(land, 1000).round(2).tolist()}))


if __name__ == "__main__":
    main()
