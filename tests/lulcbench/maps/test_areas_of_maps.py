"""Prediction-powered areas of a map of ``lulcbench map``, computed here from its stored probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.grid import CRS
from lulcbench.legend import legend

pytestmark = pytest.mark.slow


def test_predictions_of_a_map_sharpen_its_areas(overlapping_part: Path, tmp_path: Path) -> None:
    group = zarr.open_group(overlapping_part / "2018" / "0", mode="r")
    stored = np.asarray(group["probability"][:], np.float64)
    size, _, left, _, _, top = np.array(group.attrs["spatial:transform"], float)
    filled = stored.sum(axis=0) > 0
    p = stored / np.maximum(stored.sum(axis=0), 1)
    fine = max(level for level in range(1, 5) if f"class_{level}" in group)
    by_class = np.stack([p[legend().parents(fine, 1) == i].sum(axis=0) for i in range(5)])
    rng = np.random.default_rng(0)
    places = np.flatnonzero(filled)
    rows, columns = np.unravel_index(rng.choice(places, 300, replace=False), filled.shape)
    # What is on the ground follows the probabilities of the map.
    own = by_class[:, rows, columns]
    truth = (rng.random(300) > own.cumsum(axis=0)).sum(axis=0).clip(max=4)
    codes = np.array(legend().codes(1))[truth]
    shapes = geopandas.points_from_xy(left + (columns + 0.5) * size, top - (rows + 0.5) * size, crs=CRS)
    sample = tmp_path / "sample.gpkg"
    geopandas.GeoDataFrame({"id": range(300), "reference": codes.astype(str)}, geometry=shapes).to_file(sample)
    results = {}
    for estimator in ("expansion", "prediction-powered"):
        command = ["area", overlapping_part, "--sample", sample, "--design", "simple-random", "--level", "1"]
        command += ["--class-column", "reference", "--estimator", estimator, "--json", tmp_path / "areas.json"]
        run = CliRunner().invoke(app, list(map(str, command)))
        assert run.exit_code == 0, run.output + repr(run.exception)
        results[estimator] = json.loads((tmp_path / "areas.json").read_text())
    for plain, powered in zip(*(results[name]["classes"] for name in results), strict=True):
        at = legend().codes(1).index(powered["code"])
        y, f = (truth == at).astype(float), own[at]
        if not f.std():
            continue
        tuning = np.clip(np.cov(y, f)[0, 1] / f.var(ddof=1), 0, 1)
        expected = y.mean() + tuning * (by_class[at][filled].mean() - f.mean())
        assert powered["area"]["value"] == pytest.approx(expected * filled.sum() * size**2, rel=1e-6)
        assert powered["area"]["se"] <= plain["area"]["se"] * 1.0001
        assert powered["gain"] >= 0.9999
