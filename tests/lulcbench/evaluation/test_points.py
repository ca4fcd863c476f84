"""LUCAS points: what is evaluated at them, and what is not and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from scipy import stats
from typer.testing import CliRunner

from benchmarks.label_release import make_release, smooth_codes
from lulcbench.cli import app
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation import points, reference_points
from lulcbench.evaluation.class_maps import NONE
from lulcbench.evaluation.reference_points import ReferencePoints
from lulcbench.grid import Tile
from lulcbench.legend import legend
from lulcbench.predictions import PredictionWriter

LEFT, TOP = 4_320_000, 3_362_400


def table(path: Path, rows: list[dict[str, object]]) -> Path:
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def points_at(places: list[tuple[float, float, int]]) -> ReferencePoints:
    x, y, code = zip(*places, strict=True)
    table = pd.DataFrame(
        {"x": x, "y": y, "code": [c or NONE for c in code], "reason": ["" if c else "no class" for c in code]}
    )
    place = np.where(table["x"].notna(), "theoretical", "none: no coordinates")
    return ReferencePoints(table.assign(place=place, year=np.nan, id=pd.Series(pd.NA, table.index, "string")), {})


@pytest.fixture
def map_path(tmp_path: Path) -> Path:
    """100 m map in EPSG:3035: forest (311x) to the west, water to the east, nodata in the last row."""
    codes = np.full((10, 10), 3110, np.int32)
    codes[:, 5:] = 5120
    codes[9] = 0
    path = tmp_path / "map.tif"
    profile = {"driver": "GTiff", "width": 10, "height": 10, "count": 1, "dtype": "int32", "nodata": 0}
    with rasterio.open(path, "w", crs="EPSG:3035", transform=from_origin(LEFT, TOP, 100, 100), **profile) as raster:
        raster.write(codes, 1)
    return path


def test_a_map_is_evaluated_by_hand(map_path: Path) -> None:
    survey = points_at(
        [
            (LEFT + 150, TOP - 150, 3110),  # right
            (LEFT + 250, TOP - 150, 3120),  # wrong at level 3, right at 2 and 1
            (LEFT + 750, TOP - 150, 3),  # can be evaluated at level 1 alone, wrong
            (LEFT + 750, TOP - 250, 5120),  # right
            (LEFT + 750, TOP - 350, 0),  # the correspondence has no class
            (LEFT + 150, TOP - 950, 3110),  # nodata in the map
            (LEFT - 50, TOP - 150, 3110),  # outside
            (np.nan, np.nan, 3110),
        ]
    )
    scores = points.validate(map_path, survey)
    assert (scores.points, scores.evaluated) == (8, 4)
    assert scores.not_evaluated == {"no coordinates": 1, "outside the map, or no class there": 2, "no class": 1}
    accuracy = {level.level: (level.points, level["overall_accuracy"]) for level in scores.levels}
    assert accuracy == {3: (3, pytest.approx(2 / 3)), 2: (3, 1.0), 1: (4, 0.75)}
    assert scores.blocks == 1
    assert not any(estimate.low for level in scores.levels for estimate in level.metrics.values())


def test_intervals_are_over_blocks_of_48_km(tmp_path: Path) -> None:
    """Four blocks of ten points, of which 9, 8, 7 and 6 are right: the t interval of their mean."""
    places = [(48_000 * (90 + i) + 1200.0 * j + 50, 48_000.0 * 70 + 50, 3110) for i in range(4) for j in range(10)]
    codes = np.full((1, 160), 5120, np.uint16)
    for i in range(4):
        codes[0, 40 * i : 40 * i + 9 - i] = 3110
    path = tmp_path / "map.tif"
    profile = {"driver": "GTiff", "width": 160, "height": 1, "count": 1, "dtype": "uint16", "crs": "EPSG:3035"}
    with rasterio.open(
        path, "w", transform=from_origin(48_000 * 90, 48_000 * 70 + 1200, 1200, 1200), **profile
    ) as raster:
        raster.write(codes, 1)
    scores = points.validate(path, points_at(places))
    assert scores.blocks == 4
    for level in scores.levels:
        interval = level.metrics["overall_accuracy"]
        expected = stats.t.interval(0.95, 3, 0.75, stats.sem([0.9, 0.8, 0.7, 0.6]))
        assert (interval.low, interval.high) == pytest.approx(expected, rel=0.02)  # blocks are drawn at random
        estimate = level.metrics["macro_f1"]
        assert estimate.low <= estimate.value <= estimate.high


def test_blocks_that_all_agree_have_no_interval(tmp_path: Path) -> None:
    """Two right points in two blocks do not show that the map is right everywhere."""
    path = tmp_path / "map.tif"
    profile = {"driver": "GTiff", "width": 2, "height": 1, "count": 1, "dtype": "uint16", "crs": "EPSG:3035"}
    with rasterio.open(path, "w", transform=from_origin(LEFT, TOP, 48_000, 48_000), **profile) as raster:
        raster.write(np.full((1, 2), 3110, np.uint16), 1)
    scores = points.validate(path, points_at([(LEFT + 50, TOP - 50, 3110), (LEFT + 48_050, TOP - 50, 3110)]))
    assert scores.blocks == 2
    for level in scores.levels:
        for estimate in level.metrics.values():
            assert (estimate.value, estimate.low, estimate.high) == (1.0, None, None)


def write_map(path: Path, values: np.ndarray, nodata: float | None = None) -> Path:
    profile = {"driver": "GTiff", "width": 10, "height": 10, "count": 1, "dtype": values.dtype, "nodata": nodata}
    with rasterio.open(path, "w", crs="EPSG:3035", transform=from_origin(LEFT, TOP, 100, 100), **profile) as raster:
        raster.write(values, 1)
    return path


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("float32", None), ("float64", np.nan), ("float32", -9999), ("int16", 5120)]
)
def test_nodata_of_any_type_is_not_a_class(tmp_path: Path, dtype: str, nodata: float | None) -> None:
    values = np.full((10, 10), 3110, dtype)
    values[0, 0] = np.nan if nodata is None else nodata
    survey = points_at([(LEFT + 50, TOP - 50, 3110), (LEFT + 150, TOP - 50, 3110)])
    scores = points.validate(write_map(tmp_path / "map.tif", values, nodata), survey)
    assert scores.evaluated == 1
    assert scores.levels[0]["overall_accuracy"] == 1
    assert scores.not_evaluated == {"outside the map, or no class there": 1}


@pytest.mark.parametrize("odd", [3110.5, np.inf, -np.inf, 3110 + 1j])
def test_values_that_are_not_codes(tmp_path: Path, odd: complex) -> None:
    values = np.full((10, 10), odd, np.complex64 if isinstance(odd, complex) else np.float32)
    with pytest.raises(LulcbenchError, match="not class codes"):
        points.validate(write_map(tmp_path / "map.tif", values), points_at([(LEFT + 50, TOP - 50, 3110)]))


def test_maps_with_a_scale_are_refused(map_path: Path) -> None:
    with rasterio.open(map_path, "r+") as raster:
        raster.scales = [0.1]
    with pytest.raises(LulcbenchError, match="a scale or an offset"):
        points.validate(map_path, points_at([(LEFT + 150, TOP - 150, 3110)]))


def test_surveys_of_other_years_are_counted(map_path: Path, tmp_path: Path) -> None:
    rows = [
        {"lc1": "C10", "lu1": "U120", "gps_lat": 53.3684, "gps_long": 9.99, "year": year, "point_id": year or 1}
        for year in ("2009", "2015", "2018", "")
    ]
    survey = reference_points.read_points(table(tmp_path / "years.csv", rows))
    assert survey.table["year"].tolist()[:3] == [2009, 2015, 2018]
    scores = points.validate(map_path, survey, year=2018)
    assert (scores.evaluated, scores.year, scores.far_in_time) == (4, 2018, 2)
    assert points.validate(map_path, survey).far_in_time is None
    undated = ReferencePoints(survey.table.assign(year=np.nan), {})
    assert points.validate(map_path, undated, year=2018).far_in_time is None
    for name, value in (("survey_dat", "2012-05-10"), ("SURVEYDATE", "10/05/2012"), ("SURV_DATE", "10-May-2012")):
        row = {key: value for key, value in rows[0].items() if key != "year"} | {name: value}
        assert reference_points.read_points(table(tmp_path / "dates.csv", [row])).table["year"].tolist() == [2012]


def test_of_several_surveys_of_a_point_the_nearest_one_is_evaluated(map_path: Path, tmp_path: Path) -> None:
    place = {"lu1": "U120", "gps_lat": 53.3684, "gps_long": 9.99}
    rows = [
        {"point_id": 1, "year": 2009, "lc1": "C10"} | place,  # forest, as on the map
        place | {"point_id": 1, "year": 2018, "lc1": "B11", "lu1": "U111"},
        {"point_id": 2, "year": 2018, "lc1": ""} | place,
        {"point_id": 2, "year": 2009, "lc1": "C10"} | place,
    ]
    survey = reference_points.read_points(table(tmp_path / "surveys.csv", rows))
    near_2009, near_2018, latest = (points.validate(map_path, survey, year=year) for year in (2010, 2017, None))
    assert [scores.evaluated for scores in (near_2009, near_2018, latest)] == [2, 2, 2]
    without = ReferencePoints(survey.table.iloc[:2].assign(id=pd.NA), survey.decisions)
    assert [points.validate(map_path, without, year=year).evaluated for year in (2010, 2017, None)] == [1, 1, 1]
    accuracy = [scores.levels[2]["overall_accuracy"] for scores in (near_2009, near_2018, latest)]
    assert accuracy == [1, 0.5, 0.5]
    assert near_2009.not_evaluated == {"no land cover recorded": 1, "another survey of the same point is evaluated": 1}


def test_years_of_surveys_are_read_from_dates_with_two_digits(tmp_path: Path) -> None:
    dates = {
        "14/06/15": 2015,
        "26.06.2018": 2018,
        "2009-09-30": 2009,
        "01-02-99": 1999,
        "spring 18": None,
        "1/13/2": None,
    }
    rows = [{"point_id": i, "SURVEY_DATE": day, "lc1": "C10", "lu1": "U120", "gps_lat": 53.3, "gps_long": 9.9 + i / 100}
            for i, day in enumerate(dates)]  # fmt: skip
    years = reference_points.read_points(table(tmp_path / "surveys.csv", rows)).table["year"]
    assert [None if np.isnan(year) else int(year) for year in years] == list(dates.values())


def test_maps_of_another_legend_or_without_projection(map_path: Path, tmp_path: Path) -> None:
    survey = points_at([(LEFT + 150, TOP - 150, 3110)])
    with pytest.raises(LulcbenchError, match="not in the corine legend"):
        points.validate(map_path, survey, legend_name="corine")
    with pytest.raises(LulcbenchError, match="Unknown legend"):
        points.validate(map_path, survey, legend_name="clc")
    with pytest.raises(LulcbenchError, match="Cannot read"):
        points.validate(tmp_path / "none.tif", survey)


def test_corine_maps_hold_grid_codes_or_clc_codes(tmp_path: Path) -> None:
    survey = points_at([(LEFT + 50, TOP - 50, 3110), (LEFT + 150, TOP - 50, 2110), (LEFT + 250, TOP - 50, 3110)])
    grid = np.full((10, 10), -128, np.int8)
    grid[0, :2] = 23, 12
    scores = points.validate(write_map(tmp_path / "grid.tif", grid, -128), survey, legend_name="corine")
    assert (scores.evaluated, scores.levels[0]["overall_accuracy"]) == (2, 1)
    assert scores.decisions == {"map values read as CORINE grid codes (1…44)": 2}
    clc = np.full((10, 10), 311, np.int16)
    scores = points.validate(write_map(tmp_path / "clc.tif", clc), survey, legend_name="corine")
    assert (scores.evaluated, scores.levels[0]["overall_accuracy"]) == (3, pytest.approx(2 / 3))
    assert scores.decisions == {}
    clc[0, 1] = 12
    with pytest.raises(LulcbenchError, match=r"grid codes .* and CLC codes"):
        points.validate(write_map(tmp_path / "both.tif", clc), survey, legend_name="corine")


def test_a_map_may_be_south_up_or_masked(map_path: Path, tmp_path: Path) -> None:
    survey = points_at([(LEFT + 150, TOP - 150, 3110), (LEFT + 750, TOP - 250, 5120), (LEFT + 750, TOP - 850, 5120)])
    with rasterio.open(map_path) as raster:
        codes, profile = raster.read(1), raster.profile | {"nodata": None}
    with rasterio.open(
        tmp_path / "south.tif", "w", **profile | {"transform": rasterio.Affine(100, 0, LEFT, 0, 100, TOP - 1000)}
    ) as raster:
        raster.write(codes[::-1], 1)
    scores = points.validate(tmp_path / "south.tif", survey)
    assert (scores.evaluated, scores.levels[0]["overall_accuracy"]) == (3, 1)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "mask.tif", "w", **profile) as raster:
        raster.write(codes, 1)
        raster.write_mask(np.arange(10)[None] < np.full((10, 1), 5))
    scores = points.validate(tmp_path / "mask.tif", survey)
    assert (scores.evaluated, scores.not_evaluated) == (1, {"outside the map, or no class there": 2})
    # GDAL does not use an alpha band beside a nodata value.
    with rasterio.open(tmp_path / "alpha.tif", "w", **profile | {"count": 2, "nodata": 0}) as raster:
        raster.write(np.stack([codes, np.where(np.arange(10) < 5, 255, 0).repeat(10).reshape(10, 10).T]))
    with rasterio.open(tmp_path / "alpha.tif", "r+") as raster:
        raster.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
    scores = points.validate(tmp_path / "alpha.tif", survey)
    assert (scores.evaluated, scores.not_evaluated) == (1, {"outside the map, or no class there": 2})


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_map_without_a_geotransform_is_refused(map_path: Path, tmp_path: Path) -> None:
    with rasterio.open(map_path) as raster:
        codes, profile = raster.read(1), raster.profile
    del profile["transform"]
    with rasterio.open(tmp_path / "nowhere.tif", "w", **profile) as raster:
        raster.write(codes, 1)
    with pytest.raises(LulcbenchError, match=r"nowhere\.tif has no geotransform"):
        points.validate(tmp_path / "nowhere.tif", points_at([(LEFT + 150, TOP - 150, 3110)]))


def test_every_point_has_the_value_of_its_own_pixel(tmp_path: Path) -> None:
    """Points in any order on a map of many blocks, each pixel of a code of its own."""
    codes = np.array(sorted(legend().codes(4)), np.uint16)
    rng = np.random.default_rng(0)
    values = rng.choice(codes, (64, 48))
    profile = {"driver": "GTiff", "width": 48, "height": 64, "count": 1, "dtype": "uint16", "crs": "EPSG:3035"}
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    for name, more in (("strips", {}), ("tiles", tiles)):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", **profile, **more, transform=from_origin(LEFT, TOP, 100, 100)
        ) as raster:
            raster.write(values, 1)
        places = [
            (LEFT + 100 * j + 50.0, TOP - 100 * i - 50.0, int(values[i, j])) for i in range(64) for j in range(48)
        ]
        rng.shuffle(places)
        outside = [(LEFT - 50.0, TOP - 50.0, 3110), (LEFT + 50.0, TOP + 50.0, 3110)]
        scores = points.validate(tmp_path / f"{name}.tif", points_at([outside[0], *places, outside[1]]))
        assert scores.evaluated == 64 * 48
        assert scores.levels[0]["overall_accuracy"] == 1


def test_of_several_bands_the_map_is_named(tmp_path: Path) -> None:
    survey = points_at([(LEFT + 150, TOP - 150, 3110)])
    path = tmp_path / "years.tif"
    profile = {"driver": "GTiff", "width": 10, "height": 10, "count": 2, "dtype": "uint16", "crs": "EPSG:3035"}
    with rasterio.open(path, "w", transform=from_origin(LEFT, TOP, 100, 100), **profile) as raster:
        raster.write(np.full((2, 10, 10), [[[1111]], [[3110]]], np.uint16))
        raster.descriptions = ("2012", "LUISA 2018")
    with pytest.raises(LulcbenchError, match=r"2 bands.*1 \(2012\), 2 \(LUISA 2018\)"):
        points.validate(path, survey)
    with pytest.raises(LulcbenchError, match="is ambiguous"):
        points.validate(path, survey, year=2015)
    for choice in ({"year": 2018}, {"band": "2"}, {"band": "LUISA 2018"}):
        scores = points.validate(path, survey, **choice)
        assert scores.levels[0]["overall_accuracy"] == 1
        assert scores.decisions == {"map read from band 2 (LUISA 2018)": 1}


def test_no_point_at_all_is_evaluated(map_path: Path, tmp_path: Path) -> None:
    rows = [{"lc1": lc1, "gps_lat": 60, "gps_long": 25 + i} for i, lc1 in enumerate(("C10", "X99", ""))]
    rows.append({"lc1": "X99", "gps_lat": 53.3684, "gps_long": 9.99})
    path = table(tmp_path / "far.csv", rows)
    result = CliRunner().invoke(app, ["validate", str(map_path), "--points", str(path)])
    assert result.exit_code == 0, result.output
    assert "0 of 4 points evaluated, in 0 blocks" in result.output
    assert "no LUISA class for LUCAS X99" in result.output
    scores = points.validate(map_path, reference_points.read_points(path))
    assert scores.not_evaluated == {"outside the map, or no class there": 3, "no LUISA class for LUCAS X99": 1}
    assert [(level.points, level.metrics) for level in scores.levels] == [(0, {})] * 3


def test_predictions_are_evaluated_at_their_pixels(tmp_path: Path) -> None:
    labels = smooth_codes(2, seed=0)
    root = tmp_path / "release"
    make_release(root, {2018: labels})
    with PredictionWriter(tmp_path / "p.zip", root, "test", 2018) as writer:
        tiles = writer.info.tiles
        for row, tile in enumerate(tiles):
            writer.write(tile, labels[row])
    rng = np.random.default_rng(0)
    places = []
    for row, tile in enumerate(tiles):
        left, _, _, top = Tile.from_id(tile).bounds
        for i, j in rng.integers(0, 96, (50, 2)):
            places.append((left + 50 * j + 25, top - 50 * i - 25, int(legend().remap(labels[row, i, j], 3))))
    scores = points.validate(tmp_path / "p.zip", points_at([*places, (0.0, 0.0, 3110)]), release=root)
    assert scores.evaluated == 100
    assert all(level["overall_accuracy"] == 1 for level in scores.levels)
    assert scores.not_evaluated == {"outside the map, or no class there": 1}


def test_the_command(map_path: Path, tmp_path: Path) -> None:
    # The map's upper left corner, in degrees, a few pixels inside.
    lon, lat = 9.99, 53.3684
    path = table(tmp_path / "l.csv", [{"lc1": "C10", "lu1": "U120", "gps_lat": lat, "gps_long": lon}])
    result = CliRunner().invoke(
        app, ["validate", str(map_path), "--points", str(path), "--json", str(tmp_path / "r.json")]
    )
    assert result.exit_code == 0, result.output
    assert "1 of 1 points evaluated, in 1 block of 48 km" in result.output
    assert "There is no interval over a single spatial block" in " ".join(result.output.split())
    assert points.PointScores.model_validate_json((tmp_path / "r.json").read_bytes()).points == 1
    left, top = pyproj.Transformer.from_crs(3035, 4326, always_xy=True).transform(LEFT + 150, TOP - 150)
    path = table(tmp_path / "l.csv", [{"lc1": "C10", "lu1": "U120", "gps_lat": top, "gps_long": left, "year": 2009}])
    result = CliRunner().invoke(app, ["validate", str(map_path), "--points", str(path), "--year", "2018"])
    assert "1 of them were surveyed more than 2 years from 2018" in " ".join(result.output.split())


@pytest.mark.real
def test_a_real_map_far_from_real_points(real_data: Path, tmp_path: Path) -> None:
    shapefile = real_data / "lucas_cz_2018" / "cz_lucas_points_l1_2018.shp"
    scores = points.validate(
        real_data / "luisa" / "luisa_2018_bremen_100m.tif", reference_points.read_points(shapefile)
    )
    assert (scores.points, scores.evaluated) == (5037, 0)
    assert scores.not_evaluated == {"outside the map, or no class there": 5037}


@pytest.mark.real
def test_a_real_corine_map_of_grid_codes_agrees_with_real_points(real_data: Path) -> None:
    survey = reference_points.read_points(real_data / "lucas_eu_2015" / "lucas_2015.csv")
    scores = points.validate(real_data / "eurosat_on_clc" / "clc_hannover_25m.tif", survey, legend_name="corine")
    assert scores.evaluated == 12
    assert set(scores.decisions) == {"map values read as CORINE grid codes (1…44)"}
    assert scores.levels[0]["overall_accuracy"] == pytest.approx(9 / 12)  # counted with rasterio alone
