"""How many labels does active learning need? A simulated study of budgets on a release with dated imagery.

The labels of the cells of the train split are revealed as a strategy asks for them. A random forest on the series of
one year learns from them, and is scored on the cells of the test split. Printed is one JSON object per strategy and
seed, with the accuracy of each budget, and the accuracy of ``--many`` random labels.

    python -m benchmarks.budgets ROOT [--level 2] [--many 50000] [--seeds 2] [--cache FOLDER]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from baselines.data.series import SeriesData
from baselines.series.selection import Strategy, learning_curve

BUDGETS = (500, 1000, 2000, 3500, 5000)
MOST = 600  # cells of one polygon in the pool


def main() -> None:
    """Print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = str(arguments.cache or folder)
        data = SeriesData(root=str(arguments.root), level=arguments.level, every=30, most=MOST, cache=cache)
        steps = data._steps()
        pool, test = steps.pool("train"), steps.pool("test")
    x, seen = pool.flat[:, 0], (test.flat[:, 0], test.labels)
    print(json.dumps({"pool": len(pool), "test": len(test)}), flush=True)
    for seed in range(arguments.seeds):
        rows = np.random.default_rng(seed).permutation(len(pool))[: arguments.many]
        forest = RandomForestClassifier(60, min_samples_leaf=2, n_jobs=1, random_state=seed)
        right = forest.fit(x[rows], pool.labels[rows]).predict(seen[0]) == seen[1]
        print(json.dumps({"strategy": "random", "seed": seed, str(len(rows)): float(right.mean())}), flush=True)
        for strategy in get_args(Strategy):
            scores = learning_curve(x, pool.labels, pool.blocks, seen, BUDGETS, strategy, seed=seed)
            content = {"strategy": strategy, "seed": seed} | dict(zip(map(str, BUDGETS), scores, strict=True))
            print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main()
