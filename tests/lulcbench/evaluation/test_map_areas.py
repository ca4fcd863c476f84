"""From a map to a sample, and from the labelled sample to areas and areas of change."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation import drawing
from lulcbench.evaluation.areas import Survey
from lulcbench.evaluation.change import PairMap, transitions
from lulcbench.evaluation.class_maps import open_map
from lulcbench.evaluation.design import Design, Kind
from lulcbench.evaluation.drawing import BUFFER, Strata, draw, make_design

LEFT, TOP = 4_320_000, 3_362_400
CODES = np.array([211, 311, 512])


def land(seed: int) -> np.ndarray:
    """Codes of 600 × 700 pixels in patches."""
    coarse = np.random.default_rng(seed).choice(CODES, (30, 35), p=[0.5, 0.4, 0.1])
    return coarse.repeat(20, 0).repeat(20, 1).astype(np.uint16)


def write(path: Path, values: np.ndarray, crs: str = "EPSG:3035", transform: object = None) -> Path:
    height, width = values.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": values.dtype, "crs": crs}
    with rasterio.open(path, "w", transform=transform or from_origin(LEFT, TOP, 10, 10), **profile) as raster:
        raster.write(values, 1)
    return path


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """A map and its truth, of two dates: the first third of the rows is what changes."""
    folder = tmp_path_factory.mktemp("maps")
    truth = land(0)
    codes = truth.copy()
    codes[:, ::7] = np.roll(truth, 40, axis=1)[:, ::7]
    later = codes.copy()
    later[:200, :350] = 211
    return write(folder / "a.tif", codes), write(folder / "b.tif", later), truth, codes


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "220"})
    if isinstance(result.exception, LulcbenchError):
        raise result.exception
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def pixels(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    return ((TOP - y) // 10).astype(int), ((x - LEFT) // 10).astype(int)


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


@pytest.mark.slow
def test_from_the_map_to_areas_by_the_commands(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path, other, truth, codes = maps
    sample = tmp_path / "s.gpkg"
    out = run("design", path, "--points", 500, "--out", sample)
    assert "stratified, 500 points" in out
    design = Design.load(tmp_path / "s.design.json")
    layer = geopandas.read_file(sample)
    assert list(layer.columns) == ["id", "stratum", "weight", "lon", "lat", "reference", "geometry"]
    assert layer.crs.to_epsg() == 3035
    rows, columns = ((TOP - layer.geometry.y) // 10).astype(int), ((layer.geometry.x - LEFT) // 10).astype(int)
    labels = truth[rows, columns]
    layer.assign(reference=labels.astype(str)).to_file(sample, layer="sample")
    pd.read_csv(tmp_path / "s.csv").assign(reference=labels).to_csv(tmp_path / "s.csv", index=False)
    results = []
    for name in ("s.gpkg", "s.csv"):
        files = ("--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv", "--figure", tmp_path / "r.png")
        out = run("area", path, "--sample", tmp_path / name, *files)
        assert "500 points (stratified, design)" in out
        results.append(json.loads((tmp_path / "r.json").read_text()))
    assert results[0] == results[1]
    order = [s.code for s in design.strata]
    mapped = np.searchsorted(order, codes[rows, columns])
    survey = Survey.stratified(np.searchsorted(order, labels), mapped, 3, mapped, [s.area for s in design.strata])
    expected = survey.accuracy().area
    for i, row in enumerate(results[0]["classes"]):
        assert row["area"]["value"] == pytest.approx(expected.value[i] * codes.size * 100)
        assert row["area"]["se"] == pytest.approx(expected.se[i] * codes.size * 100)
        assert row["area"]["low"] <= (truth == row["code"]).sum() * 100 <= row["area"]["high"]
        assert (row["pixels"], row["mapped"]) == ((codes == row["code"]).sum(), (codes == row["code"]).sum() * 100)
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 4
    assert (tmp_path / "r.png").stat().st_size > 5000
    with pytest.raises(LulcbenchError, match=r"was designed for a\.tif, and b\.tif differs"):
        run("area", other, "--sample", tmp_path / "s.csv")
    out = run("area", other, "--sample", tmp_path / "s.csv", "--other-map")  # strata ≠ map classes
    assert "500 points" in out
    out = run(
        "validate", path, "--points", sample, "--class-column", "reference", "--design", tmp_path / "s.design.json"
    )
    assert "accuracy (stratified), level 3" in out
    pd.read_csv(tmp_path / "s.csv").iloc[:-1].assign(reference=np.nan).to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(LulcbenchError, match="0 points have classes"):
        run("area", path, "--sample", tmp_path / "s.csv")


def labelled(folder: Path, truth: np.ndarray, n: int = 400) -> Path:
    rng = np.random.default_rng(3)
    rows, columns = rng.integers(0, 600, n), rng.integers(0, 700, n)
    shapes = shapely.points(LEFT + 10.0 * columns + 5, TOP - 10.0 * rows - 5)
    frame = geopandas.GeoDataFrame({"reference": truth[rows, columns]}, geometry=shapes, crs="EPSG:3035")
    frame.to_file(folder / "own.gpkg")
    return folder / "own.gpkg"


@pytest.mark.slow
def test_estimators_and_regions(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path, _, truth, codes = maps
    sample = labelled(tmp_path, truth)
    halves = [shapely.box(LEFT, TOP - 6000, LEFT + 3500, TOP), shapely.box(LEFT + 3500, TOP - 6000, LEFT + 7000, TOP)]
    geopandas.GeoDataFrame({"NUTS_ID": ["XX1", "XX2"]}, geometry=halves, crs="EPSG:3035").to_file(
        tmp_path / "nuts.gpkg"
    )
    errors = {}
    for estimator in ("design", "expansion", "post-stratified", "ratio"):
        run(
            "area", path, "--sample", sample, "--design", "simple-random", "--estimator", estimator,
            "--regions", tmp_path / "nuts.gpkg", "--region-layer", "nuts", "--json", tmp_path / "r.json",
        )  # fmt: skip
        result = json.loads((tmp_path / "r.json").read_text())
        errors[estimator] = [row["area"]["se"] for row in result["classes"]]
        for row in result["classes"]:
            assert abs(row["area"]["value"] - (truth == row["code"]).sum() * 100) < 4 * row["area"]["se"]
            for name, own in (("XX1", truth[:, :350]), ("XX2", truth[:, 350:])):
                figure = result["regions"][name][str(row["code"])]
                assert abs(figure["value"] - (own == row["code"]).sum() * 100) < 4 * figure["se"]
        # Overall accuracy of simple random points in a region is that of these points.
        layer = geopandas.read_file(sample)
        rows, columns = pixels(pd.DataFrame({"x": layer.geometry.x, "y": layer.geometry.y}))
        right, west = codes[rows, columns] == truth[rows, columns], columns < 350
        found = result["region_accuracy"]["XX1"]
        assert found["points"] == west.sum()
        if estimator == "expansion":
            assert found["overall"]["value"] == pytest.approx(right[west].mean())
            share = right[west].mean()
            assert found["overall"]["se"] == pytest.approx(np.sqrt(share * (1 - share) / west.sum()), rel=0.01)
            for code in CODES:
                mapped, true = (west & (own[rows, columns] == code) for own in (codes, truth))
                assert found["user"][str(code)]["value"] == pytest.approx(right[mapped].mean())
                assert found["producer"][str(code)]["value"] == pytest.approx(right[true].mean())
    assert errors["design"] == errors["post-stratified"]
    assert (np.array(errors["post-stratified"]) < np.array(errors["expansion"])).all()
    with pytest.raises(LulcbenchError, match="whose design is unknown"):
        run("area", path, "--sample", sample)
    with pytest.raises(LulcbenchError, match="no estimator 'best'"):
        run("area", path, "--sample", sample, "--design", "simple-random", "--estimator", "best")
    with pytest.raises(LulcbenchError, match="probabilities of a map"):
        run("area", path, "--sample", sample, "--design", "simple-random", "--estimator", "prediction-powered")
    with pytest.raises(LulcbenchError, match="has no column NAME"):
        run(
            "area", path, "--sample", sample, "--design", "simple-random", "--regions", tmp_path / "nuts.gpkg",
            "--region-column", "NAME",
        )  # fmt: skip


def test_transitions_between_maps(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    before, after, _, codes = maps
    later = codes.copy()
    later[:200, :350] = 211
    with open_map(before) as a, open_map(after) as b:
        found = transitions(PairMap(a, b, 3))
    assert found.codes == (211, 311, 512)
    for i, one in enumerate(CODES):
        for j, two in enumerate(CODES):
            assert found.pixels[i, j] == ((codes == one) & (later == two)).sum()
    assert found.gain.tolist() == [((later == 211) & (codes != 211)).sum() * 100, 0, 0]
    assert found.loss.tolist() == [0, *(((codes == c) & (later != c)).sum() * 100 for c in (311, 512))]
    files = ("--json", tmp_path / "c.json", "--csv", tmp_path / "c.csv", "--figure", tmp_path / "c.png")
    out = run("change", before, after, *files)
    assert "differ" in out
    assert json.loads((tmp_path / "c.json").read_text())["pixels"] == found.pixels.tolist()
    assert (tmp_path / "c.csv").read_text().splitlines()[0] == "from,to,pixels,area_m2,simulated"
    coarse = write(tmp_path / "coarse.tif", codes[::2, ::2], transform=from_origin(LEFT, TOP, 20, 20))
    with pytest.raises(LulcbenchError, match="have different pixels"):
        run("change", before, coarse)
    link, copy = tmp_path / "link.tif", tmp_path / "copy.tif"
    link.symlink_to(before)
    copy.write_bytes(before.read_bytes())
    told = "No pixel differs between a.tif and copy.tif"
    for command in (("change", before), ("design", before, "--points", 90, "--out", tmp_path / "s.gpkg", "--to")):
        for same in (before, link):
            with pytest.raises(LulcbenchError, match=r"read from the same band or year of a\.tif"):
                run(*command, same)
        assert told in run(*command, copy)
    assert "No pixel differs" not in out


def test_areas_of_change_from_a_sample(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    before, after, truth, _ = maps
    true_later = truth.copy()
    true_later[:200, :350] = 211
    sample = tmp_path / "s.gpkg"
    run("design", before, "--to", after, "--points", 600, "--out", sample, "--minimum", 40)
    table = pd.read_csv(tmp_path / "s.csv")
    layer = geopandas.read_file(sample)
    rows, columns = ((TOP - layer.geometry.y) // 10).astype(int), ((layer.geometry.x - LEFT) // 10).astype(int)
    table.assign(reference=truth[rows, columns], reference_to=true_later[rows, columns]).to_csv(
        tmp_path / "s.csv", index=False
    )
    out = run("change", before, after, "--sample", tmp_path / "s.csv", "--json", tmp_path / "r.json")
    assert "311 → 211" in out
    rows_of = {row["code"]: row for row in json.loads((tmp_path / "r.json").read_text())["classes"]}
    cleared = ((truth == 311) & (true_later == 211)).sum() * 100
    assert rows_of[3110211]["area"]["low"] <= cleared <= rows_of[3110211]["area"]["high"]


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


def drawn(folder: Path, path: Path, truth: np.ndarray) -> pd.DataFrame:
    run("design", path, "--points", 200, "--out", folder / "s.gpkg")
    layer = geopandas.read_file(folder / "s.gpkg")
    rows, columns = pixels(pd.DataFrame({"x": layer.geometry.x, "y": layer.geometry.y}))
    return pd.read_csv(folder / "s.csv").assign(reference=truth[rows, columns])


@pytest.mark.slow
def test_doubled_points_count_once(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path, _, truth, _ = maps
    table = drawn(tmp_path, path, truth)
    results = []
    for rows in (table, pd.concat([table, table.iloc[:50], table.iloc[:5]])):
        rows.to_csv(tmp_path / "s.csv", index=False)
        run("area", path, "--sample", tmp_path / "s.csv", "--json", tmp_path / "r.json")
        results.append(json.loads((tmp_path / "r.json").read_text()))
    assert results[1].pop("not_used") == {"repeated record": 55}
    assert results[0].pop("not_used") == {}
    assert results[0] == results[1]
    other = table.iloc[:10].assign(reference=[311 if code == 211 else 211 for code in table["reference"][:10]])
    pd.concat([table, other]).to_csv(tmp_path / "s.csv", index=False)
    out = run("area", path, "--sample", tmp_path / "s.csv", "--json", tmp_path / "r.json")
    assert "190 points (stratified, design)" in out
    assert "20 points not used: records of the same point, without years, contradict each other" in out


def test_points_that_were_moved_are_refused(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path, _, truth, _ = maps
    table = drawn(tmp_path, path, truth)
    table.assign(stratum=table["stratum"].where(table.index > 0, 211 if table["stratum"][0] != 211 else 311)).to_csv(
        tmp_path / "s.csv", index=False
    )
    with pytest.raises(LulcbenchError, match="1 points are not in the stratum that the sample states"):
        run("area", path, "--sample", tmp_path / "s.csv")
    swapped = table.assign(lat=np.roll(table["lat"], 1), lon=np.roll(table["lon"], 1))
    swapped.to_csv(tmp_path / "s.csv", index=False)
    moved = int((table["stratum"] != np.roll(table["stratum"], 1)).sum())
    with pytest.raises(LulcbenchError, match=f"{moved} points are not in the stratum"):
        run("area", path, "--sample", tmp_path / "s.csv")


def test_pairs_of_classes_that_contradict_each_other(
    maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    before, after, truth, _ = maps
    run("design", before, "--to", after, "--points", 300, "--out", tmp_path / "s.gpkg")
    layer = geopandas.read_file(tmp_path / "s.gpkg")
    rows, columns = pixels(pd.DataFrame({"x": layer.geometry.x, "y": layer.geometry.y}))
    own = truth[rows, columns]
    table = pd.read_csv(tmp_path / "s.csv").assign(reference=own, reference_to=own)
    later = table.iloc[:7].assign(reference_to=[311 if code == 211 else 211 for code in own[:7]])
    pd.concat([table, later]).to_csv(tmp_path / "s.csv", index=False)
    out = run("change", before, after, "--sample", tmp_path / "s.csv")
    assert "293 points (stratified, design)" in out
    assert "14 points not used: records of the same point, without years, contradict each other" in out
    pd.concat([table.iloc[:7].assign(reference_to=np.nan), table]).to_csv(tmp_path / "s.csv", index=False)
    out = run("change", before, after, "--sample", tmp_path / "s.csv")
    assert "300 points (stratified, design)" in out
    assert "7 points not used: no reference class of this level" in out


def test_a_target_is_reached(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    out = run("design", maps[0], "--out", tmp_path / "s.gpkg", "--target-se", 0.02, "--expected", 0.9)
    assert "stratified, 228 points" in out  # (0.3 / 0.02)² = 225, and 3 for the minimum of the rarest class
    with pytest.raises(LulcbenchError, match=r"does not end in \.gpkg"):
        run("design", maps[0], "--out", tmp_path / "s.shp", "--points", 100)
