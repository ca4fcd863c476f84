"""Tables, files and figures state if the data are simulated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from rasterio.warp import transform
from typer.testing import CliRunner

from lulcbench.cli import app

LEFT, TOP = 4_320_000, 3_153_600


def write_map(path: Path, seed: int, simulated: bool) -> Path:
    codes = np.random.default_rng(seed).choice([1121, 2110, 3110, 5120], (40, 40)).astype(np.uint16)
    place = Affine(100, 0, LEFT, 0, -100, TOP)
    options = {"driver": "GTiff", "width": 40, "height": 40, "count": 1, "dtype": "uint16", "nodata": 0}
    with rasterio.open(path, "w", crs="EPSG:3035", transform=place, **options) as file:
        file.write(codes, 1)
        if simulated:
            file.update_tags(SIMULATED="true")
    return path


@pytest.fixture(params=[True, False], ids=["simulated", "real"])
def simulated(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def maps(tmp_path: Path, simulated: bool) -> list[Path]:
    return [write_map(tmp_path / "a.tif", 0, False), write_map(tmp_path / "b.tif", 1, simulated)]


@pytest.fixture
def points(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    x, y = LEFT + rng.uniform(0, 4000, 200), TOP - rng.uniform(0, 4000, 200)
    lon, lat = transform("EPSG:3035", "EPSG:4326", x, y)
    table = pd.DataFrame(
        {"id": range(200), "lon": lon, "lat": lat, "reference": rng.choice([1121, 2110, 3110, 5120], 200)}
    )
    table.to_csv(tmp_path / "points.csv", index=False)
    return tmp_path / "points.csv"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("command", ["validate", "area", "change", "agree", "trend"])
def test_tables_files_and_figures_state_it(
    command: str, maps: list[Path], points: Path, simulated: bool, tmp_path: Path
) -> None:
    out, figure, table = tmp_path / "out.tif", tmp_path / "figure.svg", tmp_path / "table.csv"
    where = ["--class-column", "reference"]
    arguments: list[object] = {
        "validate": [maps[1], "--points", points, *where],
        "area": [maps[1], "--sample", points, "--design", "simple-random", *where, "--csv", table],
        "change": [*maps, "--csv", table],
        "agree": [*maps, "--out", out],
        "trend": [*maps, "--year", 2012, "--year", 2018, "--out", out, "--csv", table],
    }[command]
    content = tmp_path / "result.json"
    if command != "agree":
        arguments += ["--json", content]
    assert ("SIMULATED DATA" in run(command, *arguments, "--figure", figure)) == simulated
    assert ("SIMULATED" in figure.read_text()) == simulated
    if content.exists():
        assert json.loads(content.read_text())["simulated"] == simulated
    if table.exists():
        assert set(pd.read_csv(table)["simulated"]) == {simulated}
    if out.exists():
        with rasterio.open(out) as file:
            assert (file.tags().get("SIMULATED") == "true") == simulated
