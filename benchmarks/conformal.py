"""Conformal answers on a country that no model has seen: coverage, size of the answers, calibration of probabilities.

    python -m builders build benchmarks/conformal.toml --out data/luisa-sim-unseen
    python -m benchmarks.conformal MODEL data/luisa-sim-unseen [--draws 200] [--figure docs/assets/maps/conformal.svg]

Each draw takes two thirds of the spatial blocks at random, finds the threshold on them as ``lulcbench calibrate`` does,
and counts the pixels of the other blocks whose label is in the answer; every third label pixel in both directions is
used. The same blocks calibrate flat sets, which hold the classes with a probability above a threshold (LAC, Sadinle et
al. 2019) or the most probable classes up to a sum (APS, Romano et al. 2020), by split conformal prediction over pixels.
Few flat sets are classes of the legend; so their size is stated, too, after each was extended to the smallest class of
the legend that contains it, which is what a map can show. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.grid import LABEL_RESOLUTION, Tile
from lulcbench.legend import LEVELS, ClassScheme, aggregate, legend
from lulcbench.maps import MapModel
from lulcbench.maps.answers import answers
from lulcbench.maps.conformal import nonconformity, threshold
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.maps.lattice import Index, Lattice
from lulcbench.maps.model import step_of
from lulcbench.maps.windows import Predicted, predict_window
from lulcbench.release import Release, Row

EVERY = 3  # label pixels
BINS = 15  # of confidence
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """Pixels of a country.

    Attributes:
        p: probabilities at level 4 ``(class, n)``.
        labels: codes of level 4 ``(n,)``.
        block: number of the spatial block ``(n,)``.
        region: number of the region ``(n,)``.
        regions: their names.
    """

    p: Floats
    labels: npt.NDArray[np.uint16]
    block: npt.NDArray[np.intp]
    region: npt.NDArray[np.intp]
    regions: tuple[str, ...]


def main() -> None:
    """Measure, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("--year", type=int, default=2018)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--pixels", type=Path, help="file to keep the pixels in, to draw again")
    options = parser.parse_args()
    if options.pixels and options.pixels.is_file():
        with np.load(options.pixels, allow_pickle=False) as stored:
            p, labels, block, region = (stored[name] for name in ("p", "labels", "block", "region"))
            sample = Sample(p, labels, block, region, tuple(map(str, stored["regions"])))
    else:
        sample = read(options.model, options.root, options.year)
        if options.pixels:
            np.savez(options.pixels, **vars(sample))
    print(f"{len(sample.labels):,} pixels in {sample.block.max() + 1} blocks")
    draws = [draw(sample, options.coverage, seed) for seed in range(options.draws)]
    result: dict[str, Any] = {
        key: round(float(np.mean([own[key] for own in draws])), 4) for key in draws[0] if key != "regions"
    }
    by_region = np.nanmean([own["regions"] for own in draws], axis=0)
    result["coverage_by_region"] = dict(zip(sample.regions, by_region.round(4).tolist(), strict=True))
    result["coverage_of_draws"] = np.quantile([own["coverage"] for own in draws], [0.05, 0.5, 0.95]).round(4).tolist()
    reliability = {level: calibration_error(sample, level) for level in LEVELS}
    result["ece"] = {level: round(error, 4) for level, (error, _) in reliability.items()}
    result |= {"blocks": int(sample.block.max() + 1), "pixels": len(sample.labels), "draws": options.draws}
    if options.figure:
        figure(options.figure, draws, {level: bins for level, (_, bins) in reliability.items()}, options.coverage)
    print(json.dumps(result))


def read(model: Path, root: Path, year: int) -> Sample:
    """Probabilities and labels of all tiles, predicted as a map predicts them."""
    opened, release = MapModel.open(model), Release.open(root)
    info = opened.info
    imagery = ReleaseImagery(release, info, year)
    lattice = Lattice.of(info.resolution, info.reach, step_of(info))
    predict = partial(predict_window, opened.predictor(), imagery, lattice, temperature=info.temperature, blend=False)
    index = release.index()
    labels = {
        tile: release.labels(split, year, [Row(int(row))])[0]
        for tile, split, row in zip(index["id"], index["split"], index["row"], strict=True)
    }
    blocks, regions = (np.unique(index[name], return_inverse=True) for name in ("block", "region"))
    of_tile = dict(zip(index["id"], zip(blocks[1], regions[1], strict=True), strict=True))
    windows: dict[Index, list[str]] = {}
    for tile in index["id"]:
        for window in lattice.blocks(Tile.from_id(tile).bounds):
            windows.setdefault(window, []).append(tile)
    parts = []
    for number, (window, tiles) in enumerate(sorted(windows.items())):
        predicted = predict(window)
        parts += [(*_pixels(lattice, window, predicted, tile, labels[tile]), *of_tile[tile]) for tile in tiles]
        print(f"{number + 1} of {len(windows)} windows", end="\r", flush=True)
    return Sample(
        np.concatenate([p for p, *_ in parts], axis=1),
        np.concatenate([codes for _, codes, *_ in parts]),
        np.concatenate([np.full(len(codes), block) for _, codes, block, _ in parts]),
        np.concatenate([np.full(len(codes), region) for _, codes, _, region in parts]),
        tuple(map(str, regions[0])),
    )


def _pixels(
    lattice: Lattice, window: Index, predicted: Predicted, tile: str, labels: npt.NDArray[np.uint16]
) -> tuple[Floats, npt.NDArray[np.uint16]]:
    """Probabilities and labels of every third label pixel of a tile that is in a block."""
    left, _, _, top = Tile.from_id(tile).bounds
    x0, y0, x1, y1 = lattice.block(window)
    at = np.arange(EVERY // 2, len(labels), EVERY)
    centres = (at + 0.5) * LABEL_RESOLUTION
    rows = (top - centres > y0) & (top - centres < y1)
    columns = (left + centres > x0) & (left + centres < x1)
    own = labels[np.ix_(at[rows], at[columns])].ravel()
    if predicted.p is None:
        return np.zeros((len(legend().codes(4)), 0), np.float32), own[:0]
    y = ((y1 - top + centres[rows]) / lattice.resolution).astype(np.intp)
    x = ((left + centres[columns] - x0) / lattice.resolution).astype(np.intp)
    known = (predicted.counts["composites"][np.ix_(y, x)].ravel() > 0) & (own != 0)
    p = predicted.p[:, y[:, None], x].reshape(len(predicted.p), -1)
    return p[:, known], own[known]


def draw(sample: Sample, coverage: float, seed: int) -> dict[str, Any]:
    """Calibrate on two thirds of the blocks; coverage and sizes on the other ones."""
    rng = np.random.default_rng(seed)
    number = int(sample.block.max()) + 1
    chosen = np.zeros(number, bool)
    chosen[rng.choice(number, 2 * number // 3, replace=False)] = True
    seen = chosen[sample.block]
    scores = _scores(sample)
    limit = threshold({str(b): scores["ours"][sample.block == b] for b in np.flatnonzero(chosen)}, coverage)
    p, labels = sample.p[:, ~seen], sample.labels[~seen]
    right = scores["ours"][~seen] < np.float32(limit)
    _, sizes = answers(p, ClassScheme.luisa(4), limit)
    result: dict[str, Any] = {"coverage": right.mean(), "size": sizes.mean(), "threshold": limit}
    n = int(seen.sum())
    rank = min(int(np.ceil((n + 1) * coverage)), n) - 1
    order = scores["order"][:, ~seen]
    for name in ("lac", "aps"):
        values = scores[f"{name}_ordered"][:, ~seen]
        highest = np.partition(scores[name][seen], rank)[rank]
        members = values <= highest
        members[0] = True
        kept = np.zeros_like(members)
        np.put_along_axis(kept, order, members, axis=0)
        result |= {
            f"{name}_coverage": kept[_index(labels), np.arange(len(labels))].mean(),
            f"{name}_size": kept.sum(axis=0).mean(),
            f"{name}_size_as_class": smallest_class(kept).mean(),
        }
    regions = sample.region[~seen]
    result["regions"] = [
        right[regions == region].mean() if (regions == region).any() else np.nan
        for region in range(len(sample.regions))
    ]
    return result


_known: dict[int, dict[str, npt.NDArray[Any]]] = {}


def _scores(sample: Sample) -> dict[str, npt.NDArray[Any]]:
    """Scores of nonconformity of all pixels, and of their classes in the order of probability."""
    if id(sample) not in _known:
        of_label = np.take_along_axis(sample.p, _index(sample.labels)[None], axis=0)[0]
        above = np.where(sample.p > of_label, sample.p, 0).sum(axis=0)
        order = np.argsort(-sample.p, axis=0, kind="stable")
        ordered = np.take_along_axis(sample.p, order, axis=0)
        _known[id(sample)] = {
            "order": order,
            "lac_ordered": 1 - ordered,
            "aps_ordered": ordered.cumsum(axis=0) - ordered,
            "ours": nonconformity(sample.p, sample.labels, ClassScheme.luisa(4)),
            "lac": 1 - of_label,
            "aps": above,
        }
    return _known[id(sample)]


def _index(labels: npt.NDArray[np.uint16]) -> npt.NDArray[np.intp]:
    """Index of level-4 codes among the classes."""
    return np.searchsorted(np.array(legend().codes(4)), labels)


def smallest_class(members: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Number of classes in the smallest class of the legend that contains sets ``(class, n)``."""
    sizes = np.full(members.shape[1], len(members), np.int64)
    for level in LEVELS:
        parents = legend().parents(4, level)
        held = np.stack([members[parents == k].any(axis=0) for k in range(len(legend().codes(level)))])
        single = held.sum(axis=0) == 1
        sizes = np.where(single, np.bincount(parents)[held.argmax(axis=0)], sizes)
    return sizes


def calibration_error(sample: Sample, level: int) -> tuple[float, npt.NDArray[np.float64]]:
    """Expected calibration error of the most probable class, and (pixels, confidence, accuracy) of each bin."""
    p = sample.p if level == 4 else aggregate(sample.p, 4, level)
    truth = legend().parents(4, level)[_index(sample.labels)]
    confidence, right = p.max(axis=0), p.argmax(axis=0) == truth
    bins = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
    count, total, hits = (np.bincount(bins, w, BINS) for w in (None, confidence, right))
    with np.errstate(invalid="ignore"):
        table = np.stack([count, total / count, hits / count])
    return float(np.nansum(np.abs(total - hits)) / len(truth)), table


def figure(
    path: Path, draws: list[dict[str, Any]], reliability: dict[int, npt.NDArray[np.float64]], aim: float
) -> None:
    """Coverage of the draws, and reliability diagrams of the four levels."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "lulcbench"
    import matplotlib.pyplot as plt

    drawn, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    left.hist([own["coverage"] for own in draws], bins=25, color="#0072b2")
    left.axvline(aim, color="black", linestyle="--", linewidth=1)
    left.set(
        xlabel="Coverage on unseen blocks",
        ylabel="Draws of calibration blocks",
        title="Conformal answers (simulated data)",
    )
    for (level, table), color in zip(reliability.items(), ("#0072b2", "#e69f00", "#009e73", "#cc79a7"), strict=True):
        used = table[0] >= 100
        right.plot(table[1][used], table[2][used], marker="o", markersize=3, color=color, label=f"level {level}")
    right.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1)
    right.set(
        xlabel="Probability of the most probable class",
        ylabel="Accuracy",
        title="Reliability (simulated data)",
        aspect="equal",
    )
    right.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
