"""Verification of maps: errors that were put into a map are found, with probabilities that hold."""

from __future__ import annotations

import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
from shapely.geometry import Polygon, box

from benchmarks.verification import score
from lulcbench import cli
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.polygons import read_polygons
from lulcbench.evaluation.verification import Evidence, _isotonic, probability_wrong
from lulcbench.grid import CRS


def evidence(errors: float, seed: int = 0, n: int = 4000) -> tuple[Evidence, np.ndarray]:
    """Polygons of four classes, in which a model is unsure, and often mistakes two classes for one another."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    wrong = rng.random(n) < errors
    classes = np.where(wrong, (truth + rng.integers(1, 4, n)) % 4, truth)
    logits = rng.normal(0, 1.0, (n, 4))
    logits[np.arange(n), truth] += 2.5
    logits[:, 1] += np.where(truth == 0, 1.0, 0.0)
    p = np.exp(logits)
    return Evidence(classes, p / p.sum(axis=1, keepdims=True), rng.integers(1, 200, n)), wrong


@pytest.mark.parametrize("errors", [0.05, 0.3])
def test_probabilities_of_being_wrong_hold(errors: float) -> None:
    given, wrong = evidence(errors)
    p, ranking = probability_wrong(given)
    assert 0.8 * wrong.sum() < p.sum() < 1.3 * wrong.sum()
    order = np.argsort(-ranking)
    found = score(wrong[order], p[order])
    assert found.brier < 0.8 * found.base
    assert found.precision[100] > 0.8
    assert found.recall[found.wrong] > 0.55
    for stated, true, number in found.reliability:
        assert number < 100 or abs(stated - true) < 0.12


def test_a_map_without_errors_has_few_suspects() -> None:
    p, _ = probability_wrong(evidence(0.0)[0])
    assert p.mean() < 0.06


def test_isotonic_regression_pools_what_decreases() -> None:
    pooled = _isotonic(np.array([1.0, 3.0, 2.0, 4.0]), np.array([1.0, 1.0, 3.0, 1.0]))
    assert pooled.tolist() == [1, 2.25, 2.25, 4]


@pytest.mark.parametrize(("classes", "message"), [([0] * 60, "60 polygons of 1 classes"), ([0, 1] * 5, "10 polygons")])
def test_too_few_polygons_are_refused(classes: list[int], message: str) -> None:
    mean = np.full((len(classes), 2), 0.5)
    with pytest.raises(LulcbenchError, match=message):
        probability_wrong(Evidence(np.array(classes), mean, np.ones(len(classes), int)))


def squares(path: Path, **columns: list[object]) -> Path:
    shapes = [box(4_000_000 + 100 * i, 3_000_000, 4_000_050 + 100 * i, 3_000_050) for i in range(3)]
    geopandas.GeoDataFrame(columns, geometry=shapes, crs=CRS).to_crs(25832).to_file(path, driver="GPKG")
    return path


AREA = (3_999_000.0, 2_999_000.0, 4_001_000.0, 3_001_000.0)


def test_polygons_of_another_legend_are_translated(tmp_path: Path) -> None:
    path = squares(tmp_path / "osm.gpkg", fclass=["forest", "water", "cloud"])
    (tmp_path / "legend.csv").write_text("value,code\nforest,31\nwater,512\ncloud,0\n")
    found = read_polygons(path, AREA, 10, str(tmp_path / "legend.csv"), "fclass").table
    assert found["code"].tolist() == [31, 512, -1]
    assert found.crs.to_epsg() == 3035
    assert found["feature"].tolist() == [0, 1, 2]


def test_borders_that_cross_themselves_lose_no_area(tmp_path: Path) -> None:
    """An hourglass is two triangles; half of it had been lost, or all."""
    x, y = 4_000_000, 3_000_000
    hourglass = Polygon([(x, y), (x + 100, y + 100), (x + 100, y), (x, y + 100)])
    path = tmp_path / "osm.gpkg"
    geopandas.GeoDataFrame({"code": [31]}, geometry=[hourglass], crs=CRS).to_file(path, driver="GPKG")
    found = read_polygons(path, AREA, 10, "luisa", "code").table
    assert found.geometry.is_valid.all()
    assert found.area.tolist() == pytest.approx([5000])


@pytest.mark.parametrize(
    ("column", "bounds", "message"),
    [
        (None, AREA, "is not stated"),
        ("name", AREA, "has no column name"),
        ("fclass", AREA, "not in the legend luisa: .'forest'"),
        ("code", (0.0, 0.0, 1000.0, 1000.0), "no polygon where there is imagery"),
    ],
)
def test_files_that_are_not_polygons_of_the_legend_are_refused(
    column: str | None, bounds: tuple[float, float, float, float], message: str, tmp_path: Path
) -> None:
    path = squares(tmp_path / "osm.gpkg", fclass=["forest"] * 3, code=[31, 31, 512])
    with pytest.raises(LulcbenchError, match=message):
        read_polygons(path, bounds, 10, "luisa", column)


def test_the_command_needs_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release_root: Path) -> None:
    command = ["verify", "map.gpkg", "--imagery", str(release_root), "--model", str(tmp_path), "--out", "ranked.gpkg"]
    monkeypatch.setattr(sys, "argv", ["lulcbench", *command])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
