"""How much label noise do the methods of step 1 leave, and how many samples do they keep?

A share of the samples of a release with dated imagery is moved into polygons of other classes; each method cleans them
without knowing which. Printed are the shares of samples kept, of wrong labels among these, and the time. Of the
self-organising map, the share of samples whose label is that of ``prior`` of their neuron is printed, too, beside the
same share of a k-means with as many centres, by scikit-learn: if both are small, the classes overlap in the neurons,
and the map is not at fault.

    python -m benchmarks.cleaning ROOT [--level 2] [--noise 0.1 0.2 0.4] [--methods kmeans som …] [--cache FOLDER]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from baselines.data.series import SeriesData
from baselines.series.pool import Pool
from baselines.series.samples import MINORITY, SampleRule, clean, inject_noise

METHODS = tuple(name for name in get_args(SampleRule.model_fields["method"].annotation) if name != "none")


def pool_of(root: Path, level: int, cache: Path) -> Pool:
    """The cells of the train split of a release, in its first year."""
    data = SeriesData(root=str(root), level=level, every=30, cache=str(cache))
    return data._steps().pool("train")


def measure(pool: Pool, methods: Sequence[str], noise: Sequence[float], seed: int = 0) -> list[dict[str, Any]]:
    """One row per method and share of noise."""
    rows = []
    for share in noise:
        labels, polygons, wrong = inject_noise(pool.labels, pool.polygons, share, seed)
        for method in methods:
            start = time.perf_counter()
            found = clean(
                pool.flat[:, 0], labels, polygons, pool.blocks, SampleRule.model_validate({"method": method}), seed
            )
            kept = found.kept
            row: dict[str, Any] = {
                "method": method,
                "noise": share,
                "kept": float(kept.mean()),
                "left": float(wrong[kept].mean()) if kept.any() else float("nan"),
                "seconds": round(time.perf_counter() - start, 1),
            }
            if method == "som":
                row["in_majority"] = float((found.reasons != MINORITY).mean())
                row["in_majority_kmeans"] = majority_share(pool.flat[:, 0], labels, seed)
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def majority_share(features: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.int64], seed: int) -> float:
    """Share of the samples whose label is that of most samples of their cluster, by k-means with a map's centres."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    rule = SampleRule()
    reduced = PCA(0.95, svd_solver="full").fit_transform(StandardScaler().fit_transform(features))
    cluster = KMeans(rule.side**2, n_init=1, random_state=seed).fit_predict(reduced)
    table = np.zeros((rule.side**2, labels.max() + 1))
    np.add.at(table, (cluster, labels), 1)
    return float((table[cluster, labels] / table.sum(axis=1)[cluster] >= rule.prior).mean())


def main() -> None:
    """Print one row per method and share of noise as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.1, 0.2, 0.4])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pool = pool_of(arguments.root, arguments.level, arguments.cache or Path(folder))
        measure(pool, arguments.methods, arguments.noise)


if __name__ == "__main__":
    main()
