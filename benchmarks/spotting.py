"""Does ``lulcbench spot`` find changes, and how often does it raise false alarms?

Simulated: a classifier that is unsure, whose errors come in seasons (bare fields look built-up in winter, leafless
forest looks like grass), in snowy months, under clouds that no mask found, and in each patch. Dates of changes are
known. Real, with ``--romania FOLDER``: a Sentinel-2 series of 2015 to 2021 in which a forest was cleared; a random
forest learns tree cover of 2018 from the pixels of that year in one half of the area, and classifies the patches of
the other half.

    python -m benchmarks.spotting [--patches 2000] [--years 6] [--romania FOLDER]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lulcbench.evaluation.spotting import Change, kind_of, spot

CODES = np.array([11, 21, 23, 31, 51])
KINDS = ((21, 11), (31, 11), (11, 23), (31, 23), (21, 23))  # changes that are simulated
START = np.datetime64("2015-01-01")
SIDE = 5  # px of 20 m along the side of a patch

Dates = npt.NDArray[np.datetime64]
Floats = npt.NDArray[np.float64]


def simulate(
    rng: np.random.Generator, years: int, change: tuple[int, int] | None
) -> tuple[Dates, Floats, np.datetime64]:
    """Dates, probabilities ``(t, k)`` and the date of the change (NaT without) of a patch."""
    dates = START + np.arange(0, 365 * years, 10) + rng.integers(0, 4, -(-365 * years // 10))
    dates = dates[rng.random(len(dates)) < 0.5]  # the others are clouded
    month = dates.astype("datetime64[M]").astype(int) % 12 + 1
    winter = (month <= 3) | (month >= 11)
    when = START + rng.integers(365, 365 * (years - 1)) if change else np.datetime64("NaT", "D")
    before = change[0] if change else int(rng.choice(CODES, p=[0.2, 0.3, 0.2, 0.25, 0.05]))
    code = np.full(len(dates), before)
    if change:
        code[dates >= when] = change[1]
    logits = rng.normal(0, 1.0, (len(dates), len(CODES))) + rng.normal(0, 0.5, len(CODES))
    logits[np.arange(len(dates)), np.searchsorted(CODES, code)] += 3.0
    logits[(code == 21) & winter, 0] += 3.0
    logits[(code == 31) & winter, 2] += 2.5
    month_of = dates.astype("datetime64[M]").astype(int)
    snowy = np.isin(month_of, rng.choice(np.unique(month_of[winter]), 3, replace=False)) & winter
    odd = snowy | (rng.random(len(dates)) < 0.07)
    logits[odd] = rng.normal(0, 2.5, (odd.sum(), len(CODES)))
    p = np.exp(logits)
    return dates, p / p.sum(axis=1, keepdims=True), when


def simulated(patches: int, years: int, seed: int = 1) -> dict[str, float]:
    """False alarms per 1,000 unchanged patch-years, and what is found of as many changes."""
    rng = np.random.default_rng(seed)
    alarms = sum(len(spot(*simulate(rng, years, None)[:2], CODES)) for _ in range(patches))
    right, kinds, inside, days, extra = 0, 0, 0, [], 0
    for number in range(patches):
        change = KINDS[number % len(KINDS)]
        dates, p, when = simulate(rng, years, change)
        found = spot(dates, p, CODES)
        same = [c for c in found if (c.before, c.after) == change]
        extra += len(found) - bool(found)
        right += bool(found)
        kinds += any(c.kind == kind_of(*change) for c in found)
        if same:
            middle = same[0].first + (same[0].last - same[0].first) // 2
            days.append(abs(int((middle - when) / np.timedelta64(1, "D"))))
            inside += bool(same[0].first <= when <= same[0].last)
    return {
        "patches": patches,
        "years": years,
        "false alarms per 1000 unchanged patch-years": 1000 * alarms / (patches * years),
        "changes found": right / patches,
        "with the right kind": kinds / patches,
        "further alarms per changed patch": extra / patches,
        "median error of the date, days": float(np.median(days)),
        "share of intervals with the date": inside / max(len(days), 1),
    }


def romania(folder: Path) -> dict[str, object]:
    """Changes that are found in the real series."""
    import rasterio
    import xarray as xr
    from sklearn.ensemble import RandomForestClassifier

    cube = xr.open_dataset(folder / "sentinel2_cube_subset_romania_20m.nc")
    bands = [name for name in cube.data_vars if str(name).startswith("B")]
    values = np.stack([cube[name].values for name in bands], axis=1).astype(np.float64)  # (t, band, y, x)
    classes = cube["SCL"].values
    dates = cube[cube["SCL"].dims[0]].values.astype("datetime64[D]")
    clear = np.isin(classes, (4, 5, 6, 7))  # SCL: vegetation, bare soil, water, unclassified
    rows, columns = (n // SIDE for n in classes.shape[1:])

    def patches(array: Floats) -> Floats:
        cut = array[..., : rows * SIDE, : columns * SIDE]
        return cut.reshape(*cut.shape[:-2], rows, SIDE, columns, SIDE).mean(axis=(-3, -1))

    share = patches(clear.astype(float))
    means = patches(np.where(clear[:, None], values, 0)) / np.maximum(share[:, None], 1e-9)
    with rasterio.open(folder / "tree_cover_density_2018_romania.tif") as raster:
        density = raster.read(1, out_shape=classes.shape[1:]).astype(float)
    year = dates.astype("datetime64[Y]").astype(int) + 1970
    known = (year == 2018)[:, None, None] & clear & ((density < 20) | ((density > 60) & (density <= 100)))
    pixels = np.moveaxis(values, 1, -1)
    x, used = np.moveaxis(means, 1, -1), share > 0.8
    half, split = columns // 2, columns // 2 * SIDE
    p = np.full(share.shape, np.nan)
    # Each half is classified by a model of the other one.
    for target, source in ((slice(0, half), slice(split, None)), (slice(half, None), slice(0, split))):
        sample = np.zeros(known.shape, bool)
        sample[:, :, source] = known[:, :, source]
        model = RandomForestClassifier(100, min_samples_leaf=20, random_state=0, class_weight="balanced")
        model.fit(pixels[sample], np.broadcast_to(density > 60, sample.shape)[sample])
        own = np.zeros(used.shape, bool)
        own[:, :, target] = used[:, :, target]
        p[own] = model.predict_proba(x[own])[:, 1]
    found: list[tuple[int, int, Change]] = []
    for i in range(rows):
        for j in range(columns):
            seen = ~np.isnan(p[:, i, j])
            pair = np.stack([p[seen, i, j], 1 - p[seen, i, j]], axis=1)
            found += [(i, j, change) for change in spot(dates[seen], pair, [31, 23])]
    span = float((dates.max() - dates.min()) / np.timedelta64(1, "D")) / 365.25
    return {
        "patches": rows * columns,
        "patch-years": round(rows * columns * span),
        "changes": [(i, j, c.kind, str(c.first), str(c.last), round(c.confidence, 2)) for i, j, c in found],
    }


def main() -> None:
    """Print JSON objects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=2000)
    parser.add_argument("--years", type=int, default=6)
    parser.add_argument("--romania", type=Path)
    arguments = parser.parse_args()
    print(json.dumps(simulated(arguments.patches, arguments.years)))
    if arguments.romania:
        print(json.dumps(romania(arguments.romania)))


if __name__ == "__main__":
    main()
