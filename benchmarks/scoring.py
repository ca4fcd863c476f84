"""Speed of the scorer: tiles per second, end to end, compared with a bare NumPy bincount of the same tiles in memory.

usage: python benchmarks/scoring.py [--tiles 1000] [--repeats 9] [--numpy]

The scorer reads and checks everything (SHA-256 of the labels, zip members, codes), decodes the labels, finds their
edges, and counts confusion by block, region and label edge; the bincount has both maps in memory as class indices and
computes one 46 × 46 confusion matrix, tile by tile. The last line is one JSON object, with the best of the repeats.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.label_release import make_release, smooth_codes
from lulcbench.evaluation import _pixels
from lulcbench.evaluation.counts import count
from lulcbench.legend import legend
from lulcbench.predictions import Predictions, PredictionWriter
from lulcbench.predictions.format import PredictionInfo
from lulcbench.release import Release


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--numpy", action="store_true", help="count with NumPy, as without a C compiler at installation"
    )
    options = parser.parse_args()
    if options.numpy:
        _pixels.compiled = None  # type: ignore[attr-defined,assignment]
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), options.tiles, options.repeats)


def run(folder: Path, tiles: int, repeats: int) -> None:
    """Write the data to a folder, measure, and print the result."""
    labels = smooth_codes(tiles, seed=0)
    # Errors are spatially correlated: one in ten squares of 200 m has another class.
    right = np.random.default_rng(1).random((tiles, 24, 24)) < 0.9
    guess = np.where(right.repeat(4, axis=1).repeat(4, axis=2), labels, smooth_codes(tiles, seed=2))
    root = folder / "release"
    make_release(root, {2018: labels}, blocks=[f"B{i // 50:03d}-000" for i in range(tiles)])
    info = write(folder / "plain.zip", root, guess, tiles, probabilities=False)
    few = min(tiles, 100)
    small = folder / "small"
    make_release(small, {2018: labels[:few]})
    write(folder / "probabilities.zip", small, guess[:few], few, probabilities=True)

    indices, guessed = legend().encode(labels, 4), legend().encode(guess, 4)

    def bincount() -> None:
        confusion = np.zeros(46 * 46, np.int64)
        for a, b in zip(indices, guessed, strict=True):
            confusion += np.bincount((a.astype(np.uint16) * 46 + b).ravel(), minlength=46 * 46)

    # Opened once, as by a process that scores many files.
    large, little = Release.open(root), Release.open(small)

    def scorer(name: str, release: Release) -> None:
        with Predictions.open(folder / name, release) as predictions:
            count(predictions)

    scored, bare = measure(repeats, lambda: scorer("plain.zip", large), bincount)
    (with_probabilities,) = measure(max(2, repeats // 2), lambda: scorer("probabilities.zip", little))
    size = (folder / "plain.zip").stat().st_size / len(info.tiles)
    print(f"scorer        {tiles / scored:8.0f} tiles/s  ({size:,.0f} bytes per tile)")
    print(f"bare bincount {tiles / bare:8.0f} tiles/s")
    print(f"with probabilities {few / with_probabilities:8.1f} tiles/s")
    result = {
        "tiles_per_second": round(tiles / scored, 1),
        "vs_bincount": round(scored / bare, 2),
        "tiles_per_second_with_probabilities": round(few / with_probabilities, 1),
    }
    print(json.dumps(result))


def write(path: Path, root: Path, guess: np.ndarray, tiles: int, probabilities: bool) -> PredictionInfo:
    """Write predictions of all tiles; the probability is 0.7 for the predicted class and random for the others."""
    rng = np.random.default_rng(3)
    with PredictionWriter(path, root, "test", 2018, probabilities=probabilities) as writer:
        for row, tile in enumerate(writer.info.tiles):
            values = None
            if probabilities:
                values = rng.dirichlet(np.full(46, 0.1), (96, 96)).transpose(2, 0, 1) * 0.3
                np.put_along_axis(values, legend().encode(guess[row], 4)[None].astype(np.intp), 0.7, axis=0)
                values /= values.sum(axis=0)
            writer.write(tile, guess[row], values)
    return writer.info


def measure(repeats: int, *actions: Callable[[], object]) -> list[float]:
    """Minimum time of each action in seconds; they alternate. The minimum is least affected by other load."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats + 1):
        for action, seconds in zip(actions, times, strict=True):
            start = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - start)
    return [min(seconds[1:]) for seconds in times]


if __name__ == "__main__":
    main()
