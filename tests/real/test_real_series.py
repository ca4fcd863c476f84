"""Time series of real places."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rasterio.warp import transform
from typer.testing import CliRunner

from baselines.series.pool import SIDE, SeriesReader
from benchmarks.real_series import bouconne, flanders, germany, netherlands, netherlands_network, romania
from builders.__main__ import app
from builders.recipe import RECIPES
from lulcbench.release import Release, Row
from lulcbench.series.regular import days_of_year

pytestmark = pytest.mark.real


def test_the_clearing_of_2017_is_found_with_its_year(real_data: Path) -> None:
    found = romania(real_data)
    assert found["fell"] == 101
    assert found["found"][2017] > 30
    assert sum(found["found"].values()) == found["found"][2017]
    assert found["found_uncalibrated"][2017] < 5  # votes of trees do not outweigh the transition probability
    assert found["found_unsmoothed"][2017] > 80
    assert sum(found["elsewhere"].values()) < sum(found["elsewhere_unsmoothed"].values()) / 5
    assert found["fall_elsewhere"] > 0.05  # what else is called loss is less green, too


def test_dated_points_are_classified_in_years_and_regions_left_out(real_data: Path) -> None:
    found = netherlands(real_data)
    assert found["points"] == 171
    for group in ("year", "region"):
        for model in ("forest", "boosting"):
            assert found[f"{model}_{group}_left_out"] > found[f"majority_{group}_left_out"] + 0.1


def test_an_lstm_of_the_dated_points_maps_every_year(real_data: Path, tmp_path: Path) -> None:
    found = netherlands_network(real_data, tmp_path, groups=())
    assert 0.6 < found["lstm_year_agreement"] < 1
    assert 0.6 < found["forest_year_agreement"] < 1


def test_a_region_left_out_is_classified_above_the_majority_class(real_data: Path) -> None:
    found = germany(real_data)
    assert found["forest_region_left_out"] > found["majority_region_left_out"] + 0.3


def build(recipe: str, folder: Path, *settings: str) -> Path:
    """A release of a recipe, without its audit."""
    changes = [argument for setting in settings for argument in ("--set", setting)]
    for stage in ("scenes", "plan", "search", "materialize", "pack"):
        workers = ["--workers", "1"] if stage in ("materialize", "pack") else []
        arguments = [stage, str(RECIPES / f"{recipe}.toml"), "--out", str(folder), *workers, *changes]
        ended = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
    return folder


def test_dated_series_of_two_sensors_agree_and_are_those_of_the_files(real_data: Path, tmp_path: Path) -> None:
    codec = ('sensors.sentinel2.bands=["B04","B08"]', 'sensors.landsat.bands=["red","nir08"]', "pack.codec=lz4")
    root = build("flanders-series", tmp_path / "release", *codec)
    found = flanders(root)
    assert found["cells"] > 100
    assert found["median_absolute_difference"] < 0.1
    assert found["correlation"] > 0.75

    # Some cells, from the netCDF files with NumPy and PROJ alone.
    folder = real_data / "worldcereal_flanders"
    with xr.open_dataset(next(folder.glob("S2_L2A_10m*.nc")), mask_and_scale=False) as fine:
        bands = np.stack([fine[name].to_numpy() * 1e-4 for name in ("B04", "B08")])
        days = (fine["timestamp"].to_numpy().astype("datetime64[D]") - np.datetime64("2018-01-01")).astype(int)
        places = transform("EPSG:32631", "EPSG:3035", *(v.ravel() for v in np.meshgrid(fine["x"], fine["y"])))
    with xr.open_dataset(next(folder.glob("S2_L2A_20m*.nc")), mask_and_scale=False) as coarse:
        clear = ~np.isin(coarse["SCL"].to_numpy(), (0, 1, 3, 8, 9, 10)).repeat(2, axis=1).repeat(2, axis=2)
    x, y = (np.array(values).reshape(clear.shape[1:]) for values in places)
    release = Release.open(root)
    reader = SeriesReader(release, "sentinel2", (2018,), 30, ("B04", "B08"))
    with xr.open_zarr(root) as opened:
        east, north = opened["easting_50m"].to_numpy(), opened["northing_50m"].to_numpy()
    differences = []
    for row in release.manifest.rows("train"):
        series = reader.tile("train", Row(row))[:, 0]
        for cell in np.flatnonzero(np.isfinite(series).all(axis=(1, 2)))[::10]:
            inside = (np.abs(x - east[row, cell % SIDE]) < 25) & (np.abs(y - north[row, cell // SIDE]) < 25)
            weights = clear[:, inside]
            seen = weights.any(axis=1) & (days >= 0) & (days < 365)
            for band in range(2):
                means = np.average(bands[band][seen][:, inside], axis=1, weights=weights[seen])
                expected = np.interp(days_of_year(30), days[seen], means)
                differences.append(np.abs(series[cell, :, band] - expected))
    assert len(differences) > 20
    assert np.median(differences) < 0.005  # of reflectance; pixels at the edge of a cell are not weighted here


def test_months_of_a_stack_without_metadata_are_those_of_the_file(real_data: Path, tmp_path: Path) -> None:
    settings = ('sensors.sentinel2.bands=["B04","B08"]', "pack.codec=lz4")
    found = bouconne(build("bouconne", tmp_path / "release", *settings), real_data)
    assert np.abs(np.array(found["release"]) - found["file"]).max() < 0.003
    assert found["file"][1] > 0.9 > 0.75 > found["file"][6]  # green in April, dry in September
