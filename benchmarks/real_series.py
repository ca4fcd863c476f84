"""Time series of real places: what the steps of the multi-year study find there.

    python -m benchmarks.real_series DATA [--flanders RELEASE] [--bouconne RELEASE]

``DATA`` is the folder that ``LULCBENCH_REAL_DATA`` names; the releases are those of the recipes ``flanders-series`` and
``bouconne``. Each figure is of a single small place.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
import torch
import xarray as xr
from scipy.optimize import minimize_scalar
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import GroupKFold

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.run import Trained
from baselines.series.pool import SeriesReader
from baselines.series.pseudo import grow
from baselines.series.smoothing import viterbi
from baselines.train import train
from lulcbench.release import Release, Row
from lulcbench.sensors import SENTINEL2
from lulcbench.series.indices import available, with_indices
from lulcbench.series.regular import normalized, regular

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
    for seen, test in GroupKFold(5).split(features, labels, blocks[rows]):
        unseen[test] = grow(features[seen], labels[seen], 60, 0).predict_proba(features[test])
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


def dated_points(data: Path) -> pd.DataFrame:
    """The 171 dated CORINE points as a table of the data kind ``points``: one row per point and season of its year.

    Columns are ``id``, ``date`` (the middle of the season), ``year``, ``label`` (level 1), ``region`` (a quadrant),
    ``ndvi`` and ``swir16``, in the numbers of the files, 255 where there are no data.
    """
    points = geopandas.read_file(data / "glad_nl_points" / "samples.gpkg")
    years = pd.to_datetime(points["date"]).dt.year.to_numpy()
    x, y = points.geometry.x.to_numpy(), points.geometry.y.to_numpy()
    regions = (x > np.median(x)).astype(int) * 2 + (y > np.median(y))
    parts = []
    for year in np.unique(years):
        own = np.flatnonzero(years == year)
        for middle, files in _seasons(data, int(year)):
            rows = {"id": own, "date": middle, "year": year, "label": points["code"].str[0].to_numpy()[own]}
            for band, path in files.items():
                with rasterio.open(path) as file:
                    rows[band] = np.array(list(file.sample(zip(x[own], y[own], strict=True))), np.int64)[:, 0]
            parts.append(pd.DataFrame(rows | {"region": regions[own]}))
    return pd.concat(parts).sort_values(["id", "date"], ignore_index=True)


def _seasons(data: Path, year: int) -> list[tuple[pd.Timestamp, dict[str, Path]]]:
    """Middle day and file of each band of the four seasons that end in a year."""
    found = []
    for path in sorted((data / "glad_ard_nl").glob(f"ndvi_*_s_*_{year}????_nl_*.tif")):
        first, last = (pd.Timestamp(day) for day in path.name.split("_s_")[1].split("_")[:2])
        swir = path.with_name(path.name.replace("ndvi", "swir1", 1))
        found.append((first + (last - first) // 2, {"ndvi": path, "swir16": swir}))
    return found


def netherlands(data: Path) -> dict[str, float]:
    """Level-1 accuracy at the 171 dated CORINE points, from NDVI and SWIR1 of the four seasons of each point's year."""
    table = dated_points(data)
    features = np.concatenate([table[band].to_numpy(np.float64).reshape(-1, 4) for band in ("ndvi", "swir16")], axis=1)
    features[features == 255] = np.nan
    first = table.iloc[::4]
    groups = {name: first[name].to_numpy() for name in ("year", "region")}
    return _left_out("points", features, first["label"].to_numpy(np.int64), groups)


def netherlands_network(data: Path, folder: Path, groups: Sequence[str] = ("year", "region")) -> dict[str, Any]:
    """The same points by an LSTM that the engine of the baselines trains; each group is left out in turn.

    Then the whole map of 256 × 256 pixels, every year, by the forest and the LSTM of all points before 2020.

    Args:
        data: see the module.
        folder: of the runs.
        groups: what is left out.

    Returns:
        Accuracy by group, and the agreement of consecutive years of the maps, of which no reference is known.
    """
    table = dated_points(data)
    table.to_parquet(folder / "points.parquet", index=False)
    found: dict[str, Any] = {}
    for group in groups:
        right = 0.0
        for member in sorted(table[group].astype(str).unique()):
            trained = _lstm(folder, f"{group}-{member}", group, member)
            path = folder / trained.config.name
            trained.task.predict(trained, path)
            scores = trained.task.score(trained.config, path)
            right += scores["overall_accuracy"] * scores["patches"]
        found[f"lstm_{group}_left_out"] = round(right / table["id"].nunique(), 3)

    trained = _lstm(folder, "maps", "year", "2020")
    (imagery,) = trained.about.info.inputs.values()
    known = table[table["year"] < 2020]
    series = known[["ndvi", "swir16"]].to_numpy(np.float32).reshape(-1, 4, 2).copy()
    series[(series == 255).any(axis=2)] = 0
    forest = grow(series.reshape(len(series), -1), known["label"].iloc[::4].to_numpy(np.int64), trees=100, seed=0)
    maps: dict[str, list[npt.NDArray[Any]]] = {"forest": [], "lstm": []}
    for year in range(2015, 2021):
        dates, images = [], []
        for middle, files in _seasons(data, year):
            dates.append(middle.to_datetime64())
            for path in files.values():
                with rasterio.open(path) as file:
                    images.append(file.read(1).astype(np.float32))
        pixels = np.stack(images).reshape(4, 2, -1).transpose(2, 0, 1)
        pixels[(pixels == 255).any(axis=2)] = np.nan
        flat = regular(pixels, np.array(dates), year, 90).reshape(len(pixels), -1)
        scaled = normalized(flat, np.array(imagery.mean, np.float32), np.array(imagery.std, np.float32))
        image = torch.from_numpy(scaled.T.reshape(1, -1, *images[0].shape).copy())
        maps["lstm"].append(trained.probabilities(image)[0].numpy().argmax(0).ravel())
        maps["forest"].append(forest.predict(np.nan_to_num(pixels.reshape(len(pixels), -1))))
    for name, years in maps.items():
        found[f"{name}_year_agreement"] = round(float(np.mean([(a == b).mean() for a, b in pairwise(years)])), 3)
    return found


def _lstm(folder: Path, name: str, group: str, member: str) -> Trained:
    """An LSTM on the points of all members of a group but one."""
    bands = {"ndvi": "ndvi", "swir16": "swir16"}
    config = Config.parse({
        "name": name, "threads": 1,
        "data": {"kind": "points", "root": str(folder / "points.parquet"), "sensor": "landsat", "bands": bands,
                 "nodata": 255, "indices": False, "every": 90, "group": group, "test": [member]},
        "model": {"kind": "lstm", "hidden": 32}, "augment": {"dihedral": False}, "predict": {"split": "test"},
        "train": {"epochs": 30, "batch_size": 16, "lr": 3e-3, "weight_decay": 1e-2},
    })  # fmt: skip
    return train(Experiment.open(config), folder)


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
    with tempfile.TemporaryDirectory() as folder:
        print("netherlands_network", json.dumps(netherlands_network(arguments.data, Path(folder))), flush=True)
    if arguments.flanders:
        print("flanders", json.dumps(flanders(arguments.flanders)), flush=True)
    if arguments.bouconne:
        print("bouconne", json.dumps(bouconne(arguments.bouconne, arguments.data)), flush=True)


if __name__ == "__main__":
    main()
