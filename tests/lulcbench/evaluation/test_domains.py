"""Estimates for a part of what was sampled: points outside it keep the weights and variances of the design."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.transform import from_origin
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.areas import Survey
from lulcbench.evaluation.assisted_areas import prediction_powered
from lulcbench.evaluation.class_maps import open_map
from lulcbench.evaluation.design import Allocation, Kind
from lulcbench.evaluation.drawing import Strata, draw, make_design
from lulcbench.evaluation.map_areas import Estimator, MapAreas, estimate_areas
from lulcbench.evaluation.points import PointLevel, validate_map
from lulcbench.evaluation.reference_points import ReferencePoints
from lulcbench.evaluation.sampling import Sampling

LEFT, TOP, SIDE = 4_320_000, 3_362_400, 60  # of 100 m
AREA = {"east": 1.2e7, "west": 2.4e7}


@pytest.fixture(scope="module")
def land() -> tuple[np.ndarray, np.ndarray]:
    """Codes of a map, which are right more often in the west, and the truth."""
    rng = np.random.default_rng(0)
    truth = rng.choice([211, 311], (SIDE, SIDE))
    wrong = rng.random((SIDE, SIDE)) < np.where(np.arange(SIDE) < 30, 0.1, 0.5)
    return np.where(wrong, 522 - truth, truth), truth


def write(path: Path, values: np.ndarray) -> Path:
    height, width = values.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": "uint16", "crs": "EPSG:3035"}
    with rasterio.open(path, "w", transform=from_origin(LEFT, TOP, 100, 100), **profile) as raster:
        raster.write(values.astype(np.uint16), 1)
    return path


def sample(truth: np.ndarray, n: int = 80) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """``n`` points in each half, and their rows and columns."""
    rng = np.random.default_rng(1)
    cells = np.concatenate([rng.choice(SIDE * SIDE // 2, n, replace=False) for _ in range(2)])
    rows, columns = cells // 30, cells % 30 + np.repeat([0, 30], n)
    table = pd.DataFrame({"x": LEFT + 100.0 * columns + 50, "y": TOP - 100.0 * rows - 50, "place": "given"})
    table = table.assign(code=truth[rows, columns], reason="", year=np.nan, id=[f"p{i}" for i in range(2 * n)])
    return table.assign(stratum=np.repeat(["west", "east"], n)), rows, columns


def both(path: Path, table: pd.DataFrame, sampling: Sampling, level: int) -> tuple[MapAreas, PointLevel]:
    points = ReferencePoints(table, {}, lucas=False)
    with open_map(path) as map_:
        areas = estimate_areas(map_, points, sampling, level, Estimator.EXPANSION)
        return areas, validate_map(map_, points, sampling, (level,)).levels[0]


def domain_ratio(y: np.ndarray, d: np.ndarray, stratum: np.ndarray, unit: np.ndarray | None = None) -> tuple:
    """Ratio of totals of a domain, and its standard error.

    Σ N_h/n_h Σ y ÷ Σ N_h/n_h Σ d; variance Σ N_h²/n_h s_h²(z) of z = (y − R d)/X with all n_h points of a stratum
    (Cochran 1977, eq. 5A.68; Särndal et al. 1992, result 10.3.1).
    """
    n = {name: (stratum == name).sum() for name in AREA}
    weight = np.array([AREA[name] / n[name] for name in stratum])
    total = (weight * d).sum()
    ratio = (weight * y).sum() / total
    z = (y - ratio * d) / total
    variance = 0.0
    for name, size in AREA.items():
        own = z[stratum == name]
        if unit is not None:
            own = pd.Series(own).groupby(unit[stratum == name]).sum().to_numpy() * len(set(unit[stratum == name]))
            own = own / n[name]
        variance += size**2 / len(own) * own.var(ddof=1)
    return ratio, np.sqrt(variance)


@pytest.mark.parametrize("clustered", [False, True], ids=["points", "clusters"])
def test_a_map_of_a_part_of_the_region_has_the_domain_ratios_of_the_textbook(
    land: tuple[np.ndarray, np.ndarray], tmp_path: Path, clustered: bool
) -> None:
    codes, truth = land
    table, rows, columns = sample(truth)
    unit = None
    if clustered:
        unit = rows // 5 + 100 * (columns >= 30)
        table = table.assign(cluster=unit.astype(str))
    sampling = Sampling(Kind.CLUSTER if clustered else Kind.STRATIFIED, AREA)
    areas, level = both(write(tmp_path / "part.tif", codes[:, :40]), table, sampling, 3)
    d = columns < 40  # all of the west, a third of the east
    right, stratum = d & (codes[rows, columns] == truth[rows, columns]), table["stratum"].to_numpy()
    value, se = domain_ratio(right, d, stratum, unit)
    assert areas.points == level.points == d.sum()
    for figure in (areas.overall, level.overall):
        assert (figure.value, figure.se) == pytest.approx((value, se))
    for code, row, agreement in zip((211, 311), areas.classes, level.classes, strict=True):
        true, own = (d & (classes[rows, columns] == code) for classes in (truth, codes))
        value, se = domain_ratio(true, d, stratum, unit)
        assert (row.area.value / areas.total, row.area.se / areas.total) == pytest.approx((value, se))
        for name, base in (("user", own), ("producer", true)):
            expected = pytest.approx(domain_ratio(right & base, base, stratum, unit))
            for figures in (row, agreement):
                assert (getattr(figures, name).value, getattr(figures, name).se) == expected


def test_pixels_without_a_class_of_a_level_are_outside_its_domain(
    land: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Half of the pixels have a class of level 2 only; accuracy differs between the strata."""
    codes, truth = land
    fine = np.random.default_rng(2).random((SIDE, SIDE)) < 0.5
    path = write(tmp_path / "coarse.tif", np.where(fine, codes, codes // 10))
    table, rows, columns = sample(truth)
    areas, level = both(path, table, Sampling(Kind.STRATIFIED, AREA), 3)
    d = fine[rows, columns]
    right = d & (codes[rows, columns] == truth[rows, columns])
    for figure in (areas.overall, level.overall):
        assert (figure.value, figure.se) == pytest.approx(domain_ratio(right, d, table["stratum"].to_numpy()))
        assert figure.low < figure.value < figure.high


def test_strata_without_points_in_the_domain_are_not_an_error(
    land: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    codes, truth = land
    table, rows, columns = sample(truth)
    areas, level = both(write(tmp_path / "west.tif", codes[:, :30]), table, Sampling(Kind.STRATIFIED, AREA), 3)
    west = columns < 30
    share = (codes == truth)[rows, columns][west].mean()
    for figure in (areas.overall, level.overall):
        assert (figure.value, figure.se) == pytest.approx((share, np.sqrt(share * (1 - share) / (west.sum() - 1))))


@pytest.mark.slow
def test_a_map_of_a_part_of_the_design_has_its_own_areas(tmp_path: Path) -> None:
    """Means over samples of a design by one map are the truth of another map, which covers a part of it."""
    rng = np.random.default_rng(3)
    truth = np.where(rng.random((SIDE, SIDE)) < np.where(np.arange(SIDE) < 20, 0.85, 0.2), 211, 311)
    codes = np.where(rng.random((SIDE, SIDE)) < 0.1, 522 - truth, truth)
    whole, part = write(tmp_path / "whole.tif", codes), write(tmp_path / "part.tif", truth[:, :20])
    shares = []
    with open_map(whole) as map_, open_map(part) as other:
        for seed in range(60):
            design = make_design(map_, strata=Strata(3), points=200, allocation=Allocation.EQUAL, seed=seed)
            points = draw(map_, design, Strata(3))
            rows, columns = ((TOP - points["y"]) // 100).astype(int), ((points["x"] - LEFT) // 100).astype(int)
            table = points.assign(place="given", code=truth[rows, columns], reason="", year=np.nan)
            table = table.assign(id=points["id"].astype(str), stratum=points["stratum"].astype(str))
            result = estimate_areas(
                other, ReferencePoints(table, {}, lucas=False), Sampling.of_design(design, other_map=True), 3
            )
            shares.append((result.classes[0].area.value / result.total, result.classes[0].area.se / result.total))
    values, errors = np.array(shares).T
    assert values.mean() == pytest.approx((truth[:, :20] == 211).mean(), abs=3 * values.std() / np.sqrt(60))
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.25)


def test_areas_of_a_level_that_not_all_strata_have(tmp_path: Path) -> None:
    """Code 112 has no class of level 4, and is in a stratum with 1111 at level 2; the map is perfect."""
    codes = np.random.default_rng(0).choice([112, 1111, 3110], (SIDE, SIDE), p=[0.45, 0.05, 0.5])
    path = write(tmp_path / "levels.tif", codes)
    with open_map(path) as map_:
        design = make_design(map_, strata=Strata(2), points=900)
        points = draw(map_, design, Strata(2))
        rows, columns = ((TOP - points["y"]) // 100).astype(int), ((points["x"] - LEFT) // 100).astype(int)
        table = points.assign(place="given", code=codes[rows, columns], reason="", year=np.nan)
        table = table.assign(id=points["id"].astype(str), stratum=points["stratum"].astype(str))
        areas = estimate_areas(map_, ReferencePoints(table, {}, lucas=False), Sampling.of_design(design), 4)
    for row in areas.classes:
        assert row.mapped == (codes == row.code).sum() * 1e4
        assert row.area.low <= row.mapped <= row.area.high
        assert 0 < row.area.se < 0.2 * areas.total


def test_the_weights_of_unlabelled_points_go_to_labelled_ones_of_the_map(
    land: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Those outside the map are known to be outside: their share of the stratum stays as it was drawn."""
    codes, truth = land
    table, rows, columns = sample(truth)
    d = columns < 40
    silent = d & (rows % 4 == 0)
    table["code"] = table["code"].mask(silent | ~d, -1)
    areas, level = both(write(tmp_path / "part.tif", codes[:, :40]), table, Sampling(Kind.STRATIFIED, AREA), 3)
    right = (codes == truth)[rows, columns]
    shares, sizes = [], []
    for name, size in AREA.items():
        own = d & (table["stratum"] == name).to_numpy()
        shares.append(right[own & ~silent].mean())
        sizes.append(size * own.sum() / 80)
    for figure in (areas.overall, level.overall):
        assert figure.value == pytest.approx(np.average(shares, weights=sizes))
    assert areas.not_used["no reference class of this level"] == silent.sum()
    table["code"] = table["code"].mask(d & (columns >= 30), -1)
    with pytest.raises(LulcbenchError, match=r"Strata without labelled points: \['east'\]"):
        both(tmp_path / "part.tif", table, Sampling(Kind.STRATIFIED, AREA), 3)


def test_points_outside_the_map_may_lack_what_the_design_needs(
    land: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """A table of a continent has weights for one country."""
    codes, truth = land
    table, _, columns = sample(truth)
    path, west = write(tmp_path / "west.tif", codes[:, :30]), columns < 30
    table = table.assign(weight=np.where(west, "3.5", None))
    del table["stratum"]
    found = both(path, table, Sampling(Kind.TWO_PHASE), 3)[0]
    alone = both(path, table[west], Sampling(Kind.TWO_PHASE), 3)[0]
    assert found.overall == alone.overall
    table.loc[table.index[0], "weight"] = None
    with pytest.raises(LulcbenchError, match="weight of a point is missing"):
        both(path, table, Sampling(Kind.TWO_PHASE), 3)


@pytest.mark.parametrize("kind", [Kind.STRATIFIED, Kind.SYSTEMATIC])
def test_points_of_a_design_that_were_moved_out_of_its_map_are_refused(
    land: tuple[np.ndarray, np.ndarray], tmp_path: Path, kind: Kind
) -> None:
    codes, _ = land
    with open_map(write(tmp_path / "map.tif", codes)) as map_:
        design = make_design(map_, kind, points=100)
        points = draw(map_, design)
        table = points.assign(place="given", code=311, reason="", year=np.nan, id=points["id"].astype(str))
        table = table.assign(x=table["x"].where(table.index > 2, 4e6))
        with pytest.raises(LulcbenchError, match=r"3 points are not .* map\.tif has no class"):
            estimate_areas(map_, ReferencePoints(table, {}, lucas=False), Sampling.of_design(design), 3)


def test_post_strata_and_degrees_of_freedom_are_those_of_the_domain() -> None:
    """Points outside change neither estimates nor intervals of a simple random sample, except by n/(n − 1)."""
    rng = np.random.default_rng(4)
    mapped = rng.choice(2, 60)
    reference = np.where(rng.random(60) < 0.8, mapped, 1 - mapped)
    alone = Survey.simple_random(reference, mapped, 2)
    outside = np.zeros(240, int)
    within = Survey.weighted(
        np.r_[reference, outside], np.r_[mapped, outside], 2, np.ones(300), domain=np.arange(300) < 60
    )
    factor = np.sqrt((300 / 299) / (60 / 59))
    for one, other in ((alone, within), (alone.post_stratified([30.0, 70.0]), within.post_stratified([30.0, 70.0]))):
        a, b = one.accuracy(), other.accuracy()
        np.testing.assert_allclose(a.matrix, b.matrix)
        assert (a.points.tolist(), a.effective.tolist()) == (b.points.tolist(), pytest.approx(b.effective.tolist()))
        for name in ("overall", "user", "producer", "f1", "area"):
            np.testing.assert_allclose(getattr(a, name).value, getattr(b, name).value)
            np.testing.assert_allclose(getattr(a, name).se * factor, getattr(b, name).se)
            np.testing.assert_allclose(getattr(a, name).low, getattr(b, name).low, atol=0.01)
    predicted = rng.random((60, 2))
    everywhere = np.r_[predicted, np.full((240, 2), 9.0)]  # not used
    one, other = prediction_powered(alone, predicted, [0.4, 0.6]), prediction_powered(within, everywhere, [0.4, 0.6])
    np.testing.assert_allclose(one.area.value, other.area.value)
    np.testing.assert_allclose(one.area.se * factor, other.area.se)
    # Two points in the domain, of equal influence, leave one degree of freedom: t = 12.7.
    two = Survey.weighted([0, 1, *outside], [0] * 242, 2, np.ones(242), domain=np.arange(242) < 2)
    figure = two.ratio([[1.0], [0.0], *np.zeros((240, 1))], np.ones((242, 1)))
    assert (figure.high - figure.value) / figure.se == pytest.approx(12.7062, rel=1e-4)


def test_a_point_with_several_surveys_counts_once_in_areas(land: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    codes, truth = land
    table, _, _ = sample(truth)
    path = write(tmp_path / "map.tif", codes)
    own = table.assign(point_id=np.arange(len(table)), lon=table["x"], lat=table["y"], crs="EPSG:3035", year=2018)
    own = own[["point_id", "lon", "lat", "crs", "year", "code"]]
    earlier = [own.assign(year=year, code=211) for year in (2009, 2012, 2015)]
    results = []
    for name, rows in (("one", own), ("all", pd.concat([*earlier, own]))):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
        options = ("--design", "simple-random", "--class-column", "code", "--year", "2018", "--json", "-")
        outcome = CliRunner().invoke(app, ["area", str(path), "--sample", str(tmp_path / f"{name}.csv"), *options])
        assert outcome.exit_code == 0, outcome.output
        results.append(json.loads(outcome.stdout))
    assert results[1].pop("not_used") == {"another survey of the same point is used": 480}
    assert results[0].pop("not_used") == {}
    assert results[0] == results[1]
