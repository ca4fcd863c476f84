"""Options that change nothing are refused: the result would look as if they had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import LulcbenchError


def run(command: str) -> None:
    result = CliRunner().invoke(app, command.split())
    if result.exception is not None:
        raise result.exception


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a small map and a table of probabilities."""
    monkeypatch.chdir(tmp_path)
    grid = {"driver": "GTiff", "width": 4, "height": 4, "count": 1, "dtype": "uint16"}
    with rasterio.open("map.tif", "w", crs="EPSG:3035", transform=from_origin(4e6, 3e6, 10, 10), **grid) as raster:
        raster.write(np.full((1, 4, 4), 311, np.uint16))
    Path("series.csv").write_text("place,date,311,211\na,2018-06-01,1,0\n")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("area map.tif --sample s.csv --region-layer nuts", "--region-layer has no effect without --regions"),
        ("area map.tif --sample s.csv --region-column NUTS_ID", "--region-column has no effect without --regions"),
        ("change map.tif map.tif --class-columns a b", "--class-columns has no effect without --sample"),
        ("map model --root r --out m --boundary-column ID", "--boundary-column has no effect without --boundaries"),
        ("map model --root r --out m --layer nuts", "--layer has no effect without --area"),
        ("verify map.tif --imagery r --model m --out v.gpkg --top 3", "--top has no effect without --page"),
        ("view m --out site --points-crs EPSG:4326", "--points-crs has no effect without --points"),
        ("spot series.csv --out c.csv --top 3", "--top has no effect without --page"),
        ("spot series.csv --out c.csv --page p.html --top 3", "--top has no effect on a table of probabilities"),
        ("trend map.tif map.tif --legend values --level 2", "--level has no effect on values"),
        ("trend map.tif map.tif --classes c.toml --level 2", "--level has no effect with --classes"),
        ("change map.tif map.tif --legend values --level 2", "--level has no effect on values"),
        ("area map.tif --sample s.csv --legend values --level 2", "--level has no effect on values"),
        ("design map.tif --points 4 --out s.gpkg --legend values --level 2", "--level has no effect on values"),
        ("agree map.tif map.tif --out a.tif --legend values --level 2", "--level has no effect on values"),
        ("spot series.csv --out c.csv --clear 0.9", "has no column clear"),
        ("spot series.csv --out c.csv --offset 0", "--offset has no effect on a table of probabilities"),
        ("spot series.csv --out c.csv --bounds 0 0 1 1", "--bounds has no effect on a table of probabilities"),
    ],
)
def test_options_without_effect_are_refused(files: Path, command: str, message: str) -> None:
    before = sorted(files.iterdir())
    with pytest.raises(LulcbenchError, match=message):
        run(command)
    assert sorted(files.iterdir()) == before


def test_defaults_that_are_not_stated_are_not_refused(files: Path) -> None:
    run("design map.tif --points 4 --minimum 2 --out sample.gpkg")
    run("design map.tif --points 4 --kind simple-random --out random.gpkg")
    assert (files / "sample.gpkg").is_file()
    assert (files / "random.gpkg").is_file()
