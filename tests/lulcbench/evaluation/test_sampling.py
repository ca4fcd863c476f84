"""Designs as users state them: what is estimated under each, and what is refused."""

from __future__ import annotations

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
from lulcbench.evaluation.design import Kind
from lulcbench.evaluation.points import PointScores, validate
from lulcbench.evaluation.reference_points import ReferencePoints, read_points
from lulcbench.evaluation.sampling import Sampling, read_sizes

LEFT, TOP = 4_320_000, 3_362_400
CODES = np.array([311, 512, 211])


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A map of 60 × 60 pixels, and the truth, which differs in every fifth column."""
    truth = np.repeat(np.repeat(np.random.default_rng(0).choice(CODES, (12, 12), p=[0.6, 0.3, 0.1]), 5, 0), 5, 1)
    codes = truth.copy()
    codes[:, ::5] = np.roll(codes, 5, axis=1)[:, ::5]
    path = tmp_path_factory.mktemp("land") / "map.tif"
    profile = {"driver": "GTiff", "width": 60, "height": 60, "count": 1, "dtype": "uint16", "crs": "EPSG:3035"}
    with rasterio.open(path, "w", transform=from_origin(LEFT, TOP, 100, 100), **profile) as raster:
        raster.write(codes.astype(np.uint16), 1)
    return path, truth


def frame(truth: np.ndarray, n: int = 200, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows, cols = np.divmod(rng.choice(3600, n, replace=False), 60)  # a place counts once
    x, y = LEFT + 100 * cols + 50.0, TOP - 100 * rows - 50.0
    table = pd.DataFrame({"lat": y, "lon": x, "crs": "EPSG:3035", "label": truth[rows, cols], "id": range(n)})
    return table.assign(block=rows // 10, half=np.where(cols < 30, "west", "east"), **columns)


def points(folder: Path, table: pd.DataFrame, **columns: str) -> ReferencePoints:
    table.to_csv(folder / "points.csv", index=False)
    return read_points(folder / "points.csv", class_column="label", columns=columns)


def test_without_a_design_there_is_agreement_alone(land: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, truth = land
    level = validate(path, points(tmp_path, frame(truth))).levels[0]
    assert (level.level, level.points) == (3, 200)
    right = sum(row.user.value * row.mapped for row in level.classes)
    assert level.overall.value == pytest.approx(right / 200)
    assert level.overall.se is None
    assert {row.user.se for row in level.classes} == {None}


def test_designs_give_the_estimates_of_their_surveys(land: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, truth = land
    with rasterio.open(path) as raster:
        codes = raster.read(1)
    table = frame(truth, w=2.0)
    rows, cols = ((TOP - table["lat"]) // 100).astype(int), ((table["lon"] - LEFT) // 100).astype(int)
    order = np.sort(CODES)
    reference, mapped = np.searchsorted(order, table["label"]), np.searchsorted(order, codes[rows, cols])
    sizes = np.bincount(np.searchsorted(order, codes.ravel())).astype(float)
    half = np.searchsorted(["east", "west"], table["half"])
    expected = {
        Kind.SIMPLE_RANDOM: (Sampling(Kind.SIMPLE_RANDOM), {}, Survey.simple_random(reference, mapped, 3)),
        Kind.STRATIFIED: (
            Sampling(Kind.STRATIFIED),
            {},
            Survey.stratified(reference, mapped, 3, mapped, sizes),
        ),
        "other strata": (
            Sampling(Kind.STRATIFIED, {"east": 10.0, "west": 30.0}),
            {"stratum": "half"},
            Survey.stratified(reference, mapped, 3, half, [10.0, 30.0]),
        ),
        Kind.CLUSTER: (
            Sampling(Kind.CLUSTER),
            {"cluster": "block"},
            Survey.weighted(reference, mapped, 3, np.ones(200), cluster=table["block"].to_numpy()),
        ),
        Kind.TWO_PHASE: (
            Sampling(Kind.TWO_PHASE, first_phase=900),
            {"weight": "w", "stratum": "half"},
            Survey.weighted(reference, mapped, 3, np.full(200, 2.0), half, first_phase=900),
        ),
    }
    for name, (sampling, columns, survey) in expected.items():
        level = validate(path, points(tmp_path, table, **columns), sampling).levels[0]
        accuracy = survey.accuracy()
        assert level.overall.value == pytest.approx(float(accuracy.overall.value)), name
        assert level.overall.se == pytest.approx(float(accuracy.overall.se)), name
        assert [row.producer.low for row in level.classes] == pytest.approx(accuracy.producer.low.tolist()), name


def test_the_share_of_the_pixels_around_a_point_that_agree(land: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, truth = land
    table = frame(truth, 3)
    with rasterio.open(path) as raster:
        codes = raster.read(1)
    rows, cols = ((TOP - table["lat"]) // 100).astype(int), ((table["lon"] - LEFT) // 100).astype(int)
    shares = []
    for i, j, own in zip(rows, cols, table["label"], strict=True):
        window = codes[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
        shares.append((window == own).mean())
    assert validate(path, points(tmp_path, table)).levels[0].nearby == pytest.approx(np.mean(shares))


@pytest.mark.parametrize(
    ("sampling", "columns", "message"),
    [
        (Sampling(Kind.CLUSTER), {}, "requires clusters"),
        (Sampling(Kind.TWO_PHASE), {}, "requires weights"),
        (Sampling(Kind.STRATIFIED), {"stratum": "half"}, "Strata require their areas"),
        (Sampling(Kind.STRATIFIED, {"east": 1.0}), {}, "requires strata"),
        (Sampling(Kind.STRATIFIED, {"east": 1.0}), {"stratum": "half"}, r"have no area: \['west'\]"),
        (
            Sampling(Kind.STRATIFIED, {"east": 1.0, "west": 1.0, "north": 2.0}),
            {"stratum": "half"},
            r"Strata without labelled points: \['north'\]",
        ),
        (
            Sampling(Kind.STRATIFIED, {"east": 900.0, "west": 100.0}),
            {"stratum": "half", "weight": "w"},
            "weights of a stratum add up to",
        ),
        (Sampling(Kind.TWO_PHASE), {"weight": "odd"}, "missing or not positive"),
        (Sampling(Kind.CLUSTER), {"cluster": "gap"}, "1 points have no cluster"),
    ],
)
def test_designs_that_contradict_the_points(
    land: tuple[Path, np.ndarray], tmp_path: Path, sampling: Sampling, columns: dict[str, str], message: str
) -> None:
    path, truth = land
    table = frame(truth, w=5.0, odd=[0.0] + [1.0] * 199, gap=[None] + [1.0, 2.0] * 99 + [3.0])
    with pytest.raises(LulcbenchError, match=message):
        validate(path, points(tmp_path, table, **columns), sampling)


def test_maps_with_classes_that_the_sample_lacks(land: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, truth = land
    few = frame(truth)
    few = few[few["label"] == 311]
    rows, cols = ((TOP - few["lat"]) // 100).astype(int), ((few["lon"] - LEFT) // 100).astype(int)
    with rasterio.open(path) as raster:
        few = few[(raster.read(1)[rows, cols] == 311)]
    with pytest.raises(LulcbenchError, match="2 map classes have no points"):
        validate(path, points(tmp_path, few), Sampling(Kind.STRATIFIED))
    scores = validate(path, points(tmp_path, few.assign(label=512)), Sampling(Kind.SIMPLE_RANDOM))
    assert [(row.code, row.reference, row.mapped) for row in scores.levels[0].classes] == [
        (311, 0, len(few)),
        (512, len(few), 0),
    ]
    assert scores.levels[0].classes[0].producer is None


def test_clusters_are_the_units_of_every_design(land: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """Variance of the totals of clusters, n/(n − 1) Σ (t − t̄)², in each stratum (Cochran 1977, ch. 9A)."""
    path, truth = land
    table = frame(truth)
    with rasterio.open(path) as raster:
        codes = raster.read(1)
    rows, cols = ((TOP - table["lat"]) // 100).astype(int), ((table["lon"] - LEFT) // 100).astype(int)
    table["block"] = table["half"] + table["block"].astype(str)
    right = codes[rows, cols] == table["label"]
    size = {"east": 10.0, "west": 30.0}
    weight = table["half"].map({name: area / (table["half"] == name).sum() for name, area in size.items()})
    z = weight * (right - np.average(right, weights=weight)) / weight.sum()
    variance = 0.0
    for name in size:
        totals = z[table["half"] == name].groupby(table["block"]).sum()
        variance += len(totals) * totals.var(ddof=1)
    table["w"] = weight
    for kind, sizes in ((Kind.STRATIFIED, size), (Kind.CLUSTER, size), (Kind.TWO_PHASE, None)):
        used = points(tmp_path, table, stratum="half", cluster="block", weight="w")
        level = validate(path, used, Sampling(kind, sizes)).levels[0]
        assert level.overall.se == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize(
    ("in_points", "in_sizes"),
    [
        (["1.0", "2.0"], ["1.0", "2.0"]),
        (["1", "2"], ["1.0", "2.0"]),
        (["1.0", "2.0"], ["1", "2"]),
        (["1.0", "1.5"], ["1.0", "1.5"]),
        (["v1", "v1.0"], ["v1", "v1.0"]),
        (["1.00", "1.000"], ["1.00", "1.000"]),
        (["10", "10,0"], ["10", "10,0"]),
    ],
    ids=["both of pandas", "areas of pandas", "points of pandas", "fractions", "texts", "zeros", "a mixture"],
)
def test_names_of_strata_are_the_same_in_points_and_sizes(
    land: tuple[Path, np.ndarray], tmp_path: Path, in_points: list[str], in_sizes: list[str]
) -> None:
    path, truth = land
    table = frame(truth)
    (tmp_path / "sizes.csv").write_text(
        "stratum,area\n" + "".join(f'"{n}",{10 + 20 * i}\n' for i, n in enumerate(in_sizes))
    )
    plain = points(tmp_path, table, stratum="half")
    expected = validate(path, plain, Sampling(Kind.STRATIFIED, {"east": 10.0, "west": 30.0})).levels
    table["half"] = np.where(table["half"] == "east", *in_points)
    sampling = Sampling(Kind.STRATIFIED, read_sizes(tmp_path / "sizes.csv"))
    assert validate(path, points(tmp_path, table, stratum="half"), sampling).levels == expected


def test_clusters_with_different_names_are_different(land: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, truth = land
    table = frame(truth)
    expected = validate(path, points(tmp_path, table, cluster="block"), Sampling(Kind.CLUSTER)).levels
    table["block"] = "1," + table["block"].map(lambda number: "0" * (number + 1))
    assert validate(path, points(tmp_path, table, cluster="block"), Sampling(Kind.CLUSTER)).levels == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stratum,area\na,1\na,2\n", "line 3"),
        ("stratum,area\na,-1\n", "line 2"),
        ("stratum,area\na,x\n", "line 2"),
        ("name,area\na,1\n", "line 2"),
        ("stratum,area\n", "has no strata"),
    ],
    ids=["a stratum twice", "a negative area", "not a number", "another header", "no row"],
)
def test_damaged_sizes(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sizes.csv"
    path.write_text(text)
    with pytest.raises(LulcbenchError, match=message):
        read_sizes(path)
    with pytest.raises(LulcbenchError, match="is missing"):
        read_sizes(tmp_path / "none.csv")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["validate", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


def test_the_command_compares_maps_side_by_side(land: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, truth = land
    frame(truth).to_csv(tmp_path / "points.csv", index=False)
    common = ("--points", tmp_path / "points.csv", "--class-column", "label")
    out = run(path, path, *common, "--year", 2012, "--year", 2018, "--json", tmp_path / "out.json")
    assert out.count("map.tif") == 2 * 2  # in the list of the maps, and before the classes of each
    assert "1: map.tif, 2012" in out
    assert "2: map.tif, 2018" in out
    assert "The design of the sample is unknown" in out
    out = run(path, *common, "--design", "systematic", "--json", tmp_path / "one.json", "--figure", tmp_path / "m.png")
    assert "accuracy (systematic), level 3: overall" in out
    scores = PointScores.model_validate_json((tmp_path / "one.json").read_bytes())
    assert scores.levels[0].overall.low < scores.levels[0].overall.value
    assert (tmp_path / "m.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--design", "quota"), "neither a design nor a file"),
        (("--design", "systematic", "--strata", "half"), "--strata has no effect with the design systematic"),
        (("--design", "stratified", "--sizes", "x.csv"), "--sizes requires a column of strata"),
        (("--design", "two-phase", "--first-phase", "9"), "--first-phase requires a column of strata"),
        (("--design", "stratified", "--first-phase", "9"), "--first-phase has no effect with the design stratified"),
        (("--design", "cluster", "--strata-level", "2"), "--strata-level has no effect with the design cluster"),
        (
            ("--design", "stratified", "--strata", "half", "--strata-level", "2"),
            "--strata-level has no effect beside --strata",
        ),
        (
            ("--design", "simple-random", "--clusters", "block"),
            "--clusters has no effect with the design simple-random",
        ),
        (("--clusters", "block"), "--clusters has no effect with the design unknown"),
        (("--weights", "block"), "--weights has no effect with the design unknown"),
        (("--design", "stratified", "--other-map"), "--other-map has no effect with the design stratified"),
        (("--design", __file__, "--weights", "block"), "--weights has no effect with the file of a design"),
        (("--design", __file__, "--clusters", "block"), "--clusters has no effect with the file of a design"),
        (("--year", "2012", "--year", "2018"), "--year is given 2 times for 1 maps"),
        (("--level", "4"), "not evaluated at level 4"),
        (("--class-column", "none"), "has no column none"),
        (("--legend", "clc"), "Unknown legend 'clc'"),
        (("--crosswalk", "none.csv"), "is missing"),
    ],
)
def test_options_that_contradict_each_other(
    land: tuple[Path, np.ndarray], tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    path, truth = land
    frame(truth).to_csv(tmp_path / "points.csv", index=False)
    common = [str(path), "--points", str(tmp_path / "points.csv"), "--class-column", "label"]
    result = CliRunner().invoke(app, ["validate", *common, *options])
    assert isinstance(result.exception, LulcbenchError)
    assert message in str(result.exception)


def test_values_of_maps_without_a_legend(land: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, truth = land
    frame(truth).to_csv(tmp_path / "points.csv", index=False)
    own = read_points(tmp_path / "points.csv", class_column="label", plain=True)
    scores = validate(path, own, Sampling(Kind.SIMPLE_RANDOM), "values")
    assert [level.level for level in scores.levels] == [None]
    assert scores.levels[0].codes == (211, 311, 512)
    with pytest.raises(LulcbenchError, match="State --class-column"):
        read_points(tmp_path / "points.csv", plain=True)


@pytest.mark.parametrize(
    ("label", "message"), [("forest", "not a LUISA code"), ("9999", "not a LUISA code"), ("3.5", "not a LUISA code")]
)
def test_labels_that_are_not_classes(tmp_path: Path, label: str, message: str) -> None:
    (tmp_path / "points.csv").write_text(f"lat,lon,label\n53,10,{label}\n53.1,10,\n")
    with pytest.raises(LulcbenchError, match=message):
        read_points(tmp_path / "points.csv", class_column="label")
    (tmp_path / "cross.csv").write_text(f"value,code\n{label},31\n")
    own = read_points(tmp_path / "points.csv", class_column="label", crosswalk=tmp_path / "cross.csv").table
    assert own["code"].tolist() == [31, -1]
    assert own["reason"].tolist() == ["", "no class recorded"]
    (tmp_path / "cross.csv").write_text("value,code\nlake,512\n")
    with pytest.raises(LulcbenchError, match="which the crosswalk lacks"):
        read_points(tmp_path / "points.csv", class_column="label", crosswalk=tmp_path / "cross.csv")
