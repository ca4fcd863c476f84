"""Samples drawn from maps: strata, weights, systematic grids, and the command that writes them."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
from rasterio.transform import from_origin
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation import drawing
from lulcbench.evaluation.class_maps import open_map
from lulcbench.evaluation.design import Design, Kind
from lulcbench.evaluation.drawing import BUFFER, Strata, draw, make_design
from tests.lulcbench.evaluation.drawn_maps import CODES, pixels, run, write


def test_points_are_drawn_at_random_in_their_strata(maps: tuple[Path, Path, np.ndarray, np.ndarray]) -> None:
    path, _, _, codes = maps
    with open_map(path) as map_:
        design = make_design(map_, points=300, minimum=40, seed=5)
        points = draw(map_, design, Strata())
        again = draw(map_, design, Strata())
    pd.testing.assert_frame_equal(points, again)
    rows, columns = pixels(points)
    assert (codes[rows, columns] == points["stratum"]).all()
    assert not pd.Series(rows * 700 + columns).duplicated().any()
    assert {s.code: s.pixels for s in design.strata} == {int(c): int((codes == c).sum()) for c in CODES}
    assert points["stratum"].value_counts().to_dict() == {s.code: s.points for s in design.strata}
    assert points["weight"].sum() == pytest.approx(codes.size * 100)
    # Points are spread over the whole map: the mean row of the largest class is that of its pixels.
    own = points["stratum"] == 211
    expected, spread = np.argwhere(codes == 211)[:, 0].mean(), np.argwhere(codes == 211)[:, 0].std()
    assert abs(rows[own].mean() - expected) < 3 * spread / np.sqrt(own.sum())


def test_every_pixel_of_a_stratum_may_be_drawn(tmp_path: Path) -> None:
    path = write(tmp_path / "small.tif", np.repeat([[211], [311]], 8, axis=1).astype(np.uint16))
    with open_map(path) as map_:
        points = draw(map_, make_design(map_, points=16, minimum=8), Strata())
    rows, columns = pixels(points)
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(i, j) for i in range(2) for j in range(8)]
    with open_map(path) as map_, pytest.raises(LulcbenchError, match="18 points are more than 16 pixels"):
        make_design(map_, points=18, minimum=9)


def test_expectations_of_single_classes_leave_those_of_the_others(
    maps: tuple[Path, Path, np.ndarray, np.ndarray],
) -> None:
    numbers = {}
    for name, options in {
        "shared": ["--expected", "0.55"],
        "both": ["--expected", "0.55", "--expected", "211=0.55"],
        "one": ["--expected", "211=0.9"],
        "mixed": ["--expected", "0.55", "--expected", "211=0.9"],
    }.items():
        out = maps[0].parent / f"{name}.gpkg"
        run("design", maps[0], "--target-se", "0.02", "--out", out, *options)
        numbers[name] = len(pd.read_csv(out.with_suffix(".csv")))
    assert numbers["shared"] == numbers["both"] > numbers["mixed"] > numbers["one"]


@pytest.mark.parametrize("kind", [Kind.SIMPLE_RANDOM, Kind.SYSTEMATIC])
def test_samples_without_strata(maps: tuple[Path, Path, np.ndarray, np.ndarray], kind: Kind) -> None:
    with open_map(maps[0]) as map_:
        design = make_design(map_, kind, points=400)
        points = draw(map_, design)
    assert len(points) == pytest.approx(400, rel=0.1)
    assert set(points["stratum"]) == {0}
    rows, columns = pixels(points)
    if kind is Kind.SYSTEMATIC:
        assert set(np.diff(np.unique(rows))) == set(np.diff(np.unique(columns))) == {32, 33}


@pytest.mark.parametrize("wanted", [100, 5000, 12000, 20000, 40401])
def test_a_systematic_sample_has_about_the_wanted_number_of_points(tmp_path: Path, wanted: int) -> None:
    path = write(tmp_path / "map.tif", np.full((201, 201), 211, np.uint16))
    with open_map(path) as map_:
        points = draw(map_, make_design(map_, Kind.SYSTEMATIC, points=wanted))
    # A row or column of nodes more or less.
    assert abs(np.sqrt(len(points)) - np.sqrt(wanted)) <= 1
    assert not points[["x", "y"]].duplicated().any()
    out = run("design", path, "--kind", "systematic", "--points", wanted, "--out", tmp_path / "s.gpkg")
    assert f"systematic, {len(points):,} points" in out
    assert Design.load(tmp_path / "s.design.json").points == len(points) == len(pd.read_csv(tmp_path / "s.csv"))


@pytest.mark.slow
def test_every_row_and_column_is_as_likely_in_a_systematic_sample(tmp_path: Path) -> None:
    path = write(tmp_path / "map.tif", np.full((20, 20), 211, np.uint16))
    seen = np.zeros((20, 20))
    with open_map(path) as map_:
        for seed in range(400):
            rows, columns = pixels(draw(map_, make_design(map_, Kind.SYSTEMATIC, points=160, seed=seed)))
            seen[rows, columns] += 1
    # 0.4 of 400 samples; the axes of rows and columns have a standard deviation of about 0.024 each.
    for axis in (0, 1):
        np.testing.assert_allclose(seen.mean(axis=axis) / 400, 0.4, atol=0.1)


@pytest.mark.parametrize("suffix", [".gpkg", ".csv", ".design.json"])
def test_a_sample_is_replaced_on_request_alone(
    maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path, suffix: str
) -> None:
    command = ("design", maps[0], "--points", 100, "--out", tmp_path / "s.gpkg")
    (tmp_path / "s").with_suffix(suffix).write_text("labels of a week")
    with pytest.raises(LulcbenchError, match="exists, and may have labels"):
        run(*command)
    assert [path.name for path in tmp_path.iterdir()] == ["s" + suffix]
    assert "labels of a week" in (tmp_path / ("s" + suffix)).read_text()
    run(*command, "--replace")
    assert len(pd.read_csv(tmp_path / "s.csv")) == 100


@pytest.mark.parametrize("interrupted", ["replace", "write_atomic", "save"])
def test_new_points_never_lie_beside_an_older_design(
    maps: tuple[Path, Path, np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupted: str,
) -> None:
    command = ("design", maps[0], "--points", 100, "--out", tmp_path / "s.gpkg")
    run(*command)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    owner = {"replace": Path, "write_atomic": drawing, "save": Design}[interrupted]
    with monkeypatch.context() as patch:
        patch.setattr(owner, interrupted, stop)
        CliRunner().invoke(app, [str(part) for part in (*command, "--seed", 2, "--replace")])
    with pytest.raises(LulcbenchError, match="design"):
        run("area", maps[0], "--sample", tmp_path / "s.csv")
    run(*command, "--seed", 2, "--replace")
    assert Design.load(tmp_path / "s.design.json").seed == 2


def test_a_stratum_around_a_class(maps: tuple[Path, Path, np.ndarray, np.ndarray]) -> None:
    from scipy import ndimage

    path, _, _, codes = maps
    strata = Strata(3, 512, 40)
    with open_map(path) as map_:
        design = make_design(map_, strata=strata, points=300)
        points = draw(map_, design, strata)
    near = ndimage.binary_dilation(codes == 512, np.ones((9, 9))) & (codes != 512)
    assert {s.code: s.pixels for s in design.strata}[BUFFER + 512] == near.sum()
    rows, columns = pixels(points)
    assert ((points["stratum"] == BUFFER + 512) == near[rows, columns]).all()


def test_a_stratum_around_a_class_is_metres_on_the_ground(tmp_path: Path) -> None:
    """Pixels of 0.0005° at 65° N are 23.6 m wide and 55.7 m high (Snyder 1987: radii of the ellipsoid)."""
    codes = np.full((201, 201), 211, np.uint16)
    codes[100, 100] = 311
    path = write(tmp_path / "degrees.tif", codes, "EPSG:4326", from_origin(20, 65, 0.0005, 0.0005))
    strata = Strata(3, 311, 300)
    with open_map(path) as map_:
        ((_, _, found),) = strata.windows(map_)
    rows, columns = np.nonzero(found == BUFFER + 311)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (95, 105, 87, 113)
    assert len(rows) == 11 * 27 - 1


def test_maps_in_degrees_have_weights_by_area(tmp_path: Path) -> None:
    codes = np.where(np.arange(400)[:, None] < 200, 311, 211).astype(np.uint16).repeat(30, 1)
    path = write(tmp_path / "degrees.tif", codes, "EPSG:4326", from_origin(10, 60, 0.05, 0.05))
    with open_map(path) as map_:
        design = make_design(map_, Kind.SIMPLE_RANDOM, points=3000)
        points = draw(map_, design)
        area = sum(s.area for s in design.strata)
    north = points["y"] > 50
    assert points["weight"].sum() == pytest.approx(area)
    # A zone of the sphere is proportional to the difference of sines.
    share = np.diff(np.sin(np.radians([50, 60])))[0] / np.diff(np.sin(np.radians([40, 60])))[0]
    assert points["weight"][north].sum() / area == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "either a number of points or a target"),
        (("--points", "100", "--target-se", "0.01"), "either a number of points or a target"),
        (("--points", "100", "--kind", "quota"), "--kind cannot be 'quota'"),
        (("--points", "100", "--kind", "two-phase"), "No sample of the kind two-phase"),
        (("--points", "100", "--allocation", "best"), "--allocation cannot be 'best'"),
        (("--target-se", "0.05", "--expected", "high"), "--expected cannot be 'high'"),
        (("--target-se", "0.05", "--expected", "999=0.8"), r"has no strata \[999\]"),
        (("--points", "100", "--buffer", "50"), "belong together"),
        (("--points", "90", "--buffer", "50", "--around", "311", "--kind", "systematic"), "--buffer has no effect"),
        (("--points", "90", "--allocation", "equal", "--kind", "systematic"), "--allocation has no effect"),
        (("--points", "90", "--minimum", "30", "--kind", "systematic"), "--minimum has no effect with the kind sys"),
        (("--points", "90", "--level", "2", "--kind", "simple-random"), "--level has no effect"),
        (("--points", "100", "--expected", "0.9"), "--expected has no effect on this number of points"),
        (("--points", "100", "--buffer", "50", "--around", "141"), "has no class 141 with neighbours"),
        (("--points", "50"), "50 points are fewer than 30 in each of 3 strata"),
        (("--points", "100", "--level", "4"), "has no classes of level 4"),
    ],
)
def test_impossible_designs(
    maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(LulcbenchError, match=message):
        run("design", maps[0], "--out", tmp_path / "s.gpkg", *options)


def test_rare_classes_are_sampled_completely(tmp_path: Path) -> None:
    """A class of five pixels and one of a single pixel do not prevent a sample."""
    values = np.full((60, 60), 211, np.uint16)
    values[:30] = 311
    values[10, 5:10], values[40, 40] = 512, 141
    path = write(tmp_path / "rare.tif", values)
    run("design", path, "--out", tmp_path / "s.gpkg", "--target-se", 0.05)
    table = pd.read_csv(tmp_path / "s.csv")
    assert table["stratum"].value_counts().to_dict() == {211: 32, 311: 32, 512: 5, 141: 1}
    layer = geopandas.read_file(tmp_path / "s.gpkg")
    rows, columns = pixels(pd.DataFrame({"x": layer.geometry.x, "y": layer.geometry.y}))
    assert sorted(columns[(layer["stratum"] == 512).to_numpy()].tolist()) == [5, 6, 7, 8, 9]
    table.assign(reference=values[rows, columns]).to_csv(tmp_path / "s.csv", index=False)
    run("area", path, "--sample", tmp_path / "s.csv", "--json", tmp_path / "r.json")
    areas = {row["code"]: row["area"]["value"] for row in json.loads((tmp_path / "r.json").read_text())["classes"]}
    assert areas == pytest.approx({code: float((values == code).sum() * 100) for code in (141, 211, 311, 512)})
    with pytest.raises(LulcbenchError, match="3,601 points are more than 3,600 pixels"):
        run("design", path, "--out", tmp_path / "t.gpkg", "--points", 3601)


def test_a_target_is_reached(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    out = run("design", maps[0], "--out", tmp_path / "s.gpkg", "--target-se", 0.02, "--expected", 0.9)
    assert "stratified, 228 points" in out  # (0.3 / 0.02)² = 225, and 3 for the minimum of the rarest class
    with pytest.raises(LulcbenchError, match=r"does not end in \.gpkg"):
        run("design", maps[0], "--out", tmp_path / "s.shp", "--points", 100)
