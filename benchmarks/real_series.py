"""Time series of real places: what the steps of the multi-year study find there.

    python -m benchmarks.real_series DATA [--flanders RELEASE] [--bouconne RELEASE]

``DATA`` is the folder that ``LULCBENCH_REAL_DATA`` names; the releases are those of the recipes ``flanders-series`` and
``bouconne``. Each figure is of a single small place.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
import xarray as xr
from scipy.optimize import minimize_scalar
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import GroupKFold

from baselines.series.pool import SeriesReader
from baselines.series.pseudo import grow
from baselines.series.smoothing import viterbi
from lulcbench.release import Release, Row
from lulcbench.sensors import SENTINEL2
from lulcbench.series.indices import available, with_indices
from lulcbench.series.regular import regular

Floats = npt.NDArray[np.floating[Any]]
CLEAR = (4, 5, 6, 7)  # of the scene classification: vegetation, bare, water, unclassified
YEARS = (2016, 2017, 2018, 2019, 2020)
STAY = 0.98  # given, not chosen: the labels are of a single year


def romania(data: Path) -> dict[str, Any]:
    """Loss of forest, 2016 to 2020, on 2,500 pixels of 20 m: labels are the tree cover of 2018.

    Forest has a cover of 60 % or more, non-forest of less than 10 %; both classes have equally many samples, as those
    that step 2 draws. Probabilities are calibrated on blocks of 200 m that the forest has not seen: votes of trees are
    far from certain, and a change must outweigh the transition probability, so that uncalibrated it is smoothed away.

    Returns:
        ``fell``: pixels whose median NDVI of June to August falls by more than 0.2 from 2016 to 2017; ``found``: of
        these, by year, those that are mapped as forest and as non-forest a year later; ``elsewhere``: the other pixels
        of the same change; ``fall_elsewhere``: median fall of the NDVI in those of 2017; ``…_uncalibrated``, and
        ``…_unsmoothed``: the same without either.
    """
    folder = data / "romania_s2_2015_2021"
    with xr.open_dataset(folder / "sentinel2_cube_subset_romania_20m.nc") as cube:
        values = np.stack([cube[name].to_numpy() for name in ("B3", "B4", "B8A", "B11")], axis=-1) * 1e-4
        clear = np.isin(cube["SCL"].to_numpy(), CLEAR) & np.isfinite(values).all(axis=-1)
        dates = cube["time"].to_numpy().astype("datetime64[D]")
    with rasterio.open(folder / "tree_cover_density_2018_romania.tif") as file:
        cover = file.read(1).ravel()
    values[~clear] = np.nan
    pixels = values.reshape(len(dates), -1, 4).transpose(1, 0, 2).astype(np.float32)
    bands = [SENTINEL2.band(name) for name in ("B03", "B04", "B8A", "B11")]
    series = np.stack(
        [with_indices(regular(pixels, dates, year, 60), bands, available(bands)) for year in YEARS], axis=1
    ).reshape(len(pixels), len(YEARS), -1)
    months, years = dates.astype("datetime64[M]").astype(int) % 12 + 1, dates.astype("datetime64[Y]").astype(int) + 1970
    ndvi = (pixels[..., 2] - pixels[..., 1]) / (pixels[..., 2] + pixels[..., 1])
    with warnings.catch_warnings():  # a pixel without a clear date in summer is NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        summer = [np.nanmedian(ndvi[:, (years == y) & np.isin(months, (6, 7, 8))], axis=1) for y in (2016, 2017)]
    fell = summer[0] - summer[1] > 0.2

    side = round(len(pixels) ** 0.5)
    blocks = np.arange(len(pixels)) // side // 10 * side + np.arange(len(pixels)) % side // 10
    rng = np.random.default_rng(0)
    pure = [
        rng.permutation(np.flatnonzero(cover < 10)),
        rng.permutation(np.flatnonzero((cover >= 60) & (cover <= 100))),
    ]
    rows = np.concatenate([part[: min(map(len, pure))] for part in pure])
    labels = np.repeat([0, 1], len(rows) // 2)
    features = series[rows, YEARS.index(2018)]
    unseen = np.zeros((len(rows), 2))
    for train, test in GroupKFold(5).split(features, labels, blocks[rows]):
        unseen[test] = grow(features[train], labels[train], 60, 0).predict_proba(features[test])
    temperature = _temperature(unseen, labels)
    forest = grow(features, labels, trees=60, seed=0)
    p = forest.predict_proba(series.reshape(-1, series.shape[2])).reshape(*series.shape[:2], 2).transpose(1, 2, 0)

    matrix, prior = np.array([[STAY, 1 - STAY], [1 - STAY, STAY]]), np.array([0.5, 0.5])
    maps = {
        "": viterbi(_tempered(p, temperature), matrix, prior),
        "_uncalibrated": viterbi(p, matrix, prior),
        "_unsmoothed": p.argmax(axis=1),
    }
    found: dict[str, Any] = {"fell": int(fell.sum()), "temperature": round(temperature, 2)}
    lost = (maps[""][0] == 1) & (maps[""][1] == 0) & ~fell
    found["fall_elsewhere"] = round(float(np.nanmedian((summer[0] - summer[1])[lost])), 3)
    for suffix, states in maps.items():
        lost = (states[:-1] == 1) & (states[1:] == 0)
        for name, where in (("found", fell), ("elsewhere", ~fell)):
            found[name + suffix] = dict(zip(YEARS[1:], lost[:, where].sum(axis=1).tolist(), strict=True))
    return found


def _tempered(p: Floats, temperature: float) -> Floats:
    """Probabilities ``(…, class, n)`` or ``(n, class)`` at a temperature, along axis 1."""
    powered = np.clip(p, 1e-3, 1) ** (1 / temperature)
    sharpened: Floats = powered / powered.sum(axis=1, keepdims=True)
    return sharpened


def _temperature(p: Floats, labels: npt.NDArray[np.integer[Any]]) -> float:
    """Temperature with the smallest log loss on samples that the model has not seen."""

    def loss(temperature: float) -> float:
        return float(-np.log(_tempered(p, temperature)[np.arange(len(p)), labels]).mean())

    return float(minimize_scalar(loss, bounds=(0.05, 5), method="bounded").x)


def netherlands(data: Path) -> dict[str, float]:
    """Level-1 accuracy at the 171 dated CORINE points, from NDVI and SWIR1 of the four seasons of each point's year."""
    points = geopandas.read_file(data / "glad_nl_points" / "samples.gpkg")
    years = pd.to_datetime(points["date"]).dt.year.to_numpy()
    labels = points["code"].str[0].astype(int).to_numpy()
    places = list(zip(points.geometry.x, points.geometry.y, strict=True))
    features = np.full((len(points), 8), np.nan)
    for band, name in enumerate(("ndvi", "swir1")):
        for year in np.unique(years):
            files = sorted((data / "glad_ard_nl").glob(f"{name}_*_s_*_{year}????_nl_*.tif"))
            own = [f for f in files if f.name.split("_s_")[1][9:13] == str(year)]
            for season, path in enumerate(own):
                with rasterio.open(path) as file:
                    values = np.array(list(file.sample(places)), np.float64)[:, 0]
                values[values == 255] = np.nan
                features[years == year, 4 * band + season] = values[years == year]
    x, y = points.geometry.x.to_numpy(), points.geometry.y.to_numpy()
    regions = (x > np.median(x)).astype(int) * 2 + (y > np.median(y))
    return _left_out("points", features, labels, {"year": years, "region": regions})


def germany(data: Path) -> dict[str, float]:
    """Accuracy of 10 classes on 4,000 of 36,600 Sentinel-2 pixels of one date, a region left out at a time."""
    table = pd.read_csv(data / "germany_s2_pixels" / "data_combined_ll.csv.gz")
    bands = [name for name in table.columns if name.startswith("B") and name[1:2].isdigit()]
    labels = pd.factorize(table["Label"])[0]
    rng = np.random.default_rng(0)
    some = rng.permutation(len(table))[:4000]
    return _left_out(
        "pixels", table[bands].to_numpy()[some], labels[some], {"region": table["Region"].to_numpy()[some]}
    )


def flanders(root: Path) -> dict[str, Any]:
    """NDVI of label cells on 12 days of 2018, interpolated from clear dates of Sentinel-2, and of Landsat 8.

    Both see the same ground, so that what they differ by is of the sensors, their dates and undetected clouds.

    Args:
        root: release of the recipe ``flanders-series``.
    """
    release = Release.open(root)
    series = []
    for sensor, bands in (("sentinel2", ("B04", "B08")), ("landsat", ("red", "nir08"))):
        reader = SeriesReader(release, sensor, (2018,), 30, bands)
        tiles = np.concatenate([reader.tile("train", Row(row)) for row in release.manifest.rows("train")])
        series.append(tiles[:, 0, :, reader.features.index("NDVI")])
    both = np.isfinite(np.stack(series)).all(axis=(0, 2))
    first, second = (values[both] for values in series)
    return {
        "cells": int(both.sum()),
        "median_difference": round(float(np.median(first - second)), 3),
        "median_absolute_difference": round(float(np.median(np.abs(first - second))), 3),
        "correlation": round(float(np.corrcoef(first.ravel(), second.ravel())[0, 1]), 3),
    }


def bouconne(root: Path, data: Path) -> dict[str, Any]:
    """Median NDVI of each month in a release of the recipe ``bouconne``, and in the file itself."""
    with xr.open_zarr(root) as release:
        red, nir = (release["sentinel2_2018"].sel(band_sentinel2=name).to_numpy() for name in ("B04", "B08"))
        ours = np.nanmedian((nir - red) / (nir + red), axis=(0, 2, 3))
    with rasterio.open(data / "bouconne_s2_2018" / "2018_3A_Theia_Bouconne.tif") as file:
        months = file.read().astype(float).reshape(7, 10, -1)  # B2, B3, B4, B8, …
    theirs = np.median((months[:, 3] - months[:, 2]) / (months[:, 3] + months[:, 2]), axis=1)
    return {"release": ours.round(3).tolist(), "file": theirs.round(3).tolist()}


def _left_out(
    what: str, features: Floats, labels: npt.NDArray[np.integer[Any]], groups: dict[str, npt.NDArray[Any]]
) -> dict[str, float]:
    """Accuracy of forest, boosted trees and majority class on groups that they have not seen."""
    models: dict[str, Callable[[], Any]] = {
        "forest": lambda: RandomForestClassifier(100, min_samples_leaf=2, n_jobs=1, random_state=0),
        "boosting": lambda: HistGradientBoostingClassifier(max_iter=40, random_state=0, early_stopping=False),
    }
    found: dict[str, float] = {what: len(labels)}
    for group, members in groups.items():
        right: dict[str, list[npt.NDArray[np.bool_]]] = {name: [] for name in (*models, "majority")}
        for member in np.unique(members):
            train, test = members != member, members == member
            common = np.bincount(labels[train]).argmax()
            right["majority"].append(labels[test] == common)
            for name, model in models.items():
                right[name].append(model().fit(features[train], labels[train]).predict(features[test]) == labels[test])
        for name, parts in right.items():
            found[f"{name}_{group}_left_out"] = round(float(np.mean(list(chain.from_iterable(parts)))), 3)
    return found


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--flanders", type=Path)
    parser.add_argument("--bouconne", type=Path)
    arguments = parser.parse_args()
    for place in (romania, netherlands, germany):
        print(place.__name__, json.dumps(place(arguments.data)), flush=True)
    if arguments.flanders:
        print("flanders", json.dumps(flanders(arguments.flanders)), flush=True)
    if arguments.bouconne:
        print("bouconne", json.dumps(bouconne(arguments.bouconne, arguments.data)), flush=True)


if __name__ == "__main__":
    main()
