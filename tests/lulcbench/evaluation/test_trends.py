"""Areas of classes over years, against scipy, rasterio and counts by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from scipy.stats import linregress, t
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import LulcbenchError
from lulcbench.maps import MapOptions, OwnModel, map_release

YEARS = (2015, 2016, 2018, 2020)
CODES = np.array([211, 311, 512])


def write(path: Path, values: np.ndarray, crs: str = "EPSG:3035", size: float = 100.0) -> Path:
    corner = (4_320_000, 3_362_400) if crs == "EPSG:3035" else (10, 60)
    profile = {"driver": "GTiff", "width": values.shape[1], "height": values.shape[0], "count": 1, "nodata": 0}
    with rasterio.open(path, "w", dtype="uint16", crs=crs, transform=from_origin(*corner, size, size), **profile) as f:
        f.write(values, 1)
    return path


def stack() -> np.ndarray:
    """Four maps of 600 × 30 pixels: ``(year, y, x)``; the windows that are read have 512 rows."""
    rng = np.random.default_rng(5)
    maps = np.repeat(rng.choice(CODES, (1, 600, 30)), 4, axis=0)
    maps[2:, :200, :10] = 211  # for good
    maps[1, 300:350] = 512  # and back again
    maps[2, 590:] = 0  # no class in one year
    maps[:, 0, :5] = 0
    return maps.astype(np.uint16)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["trend", *map(str, arguments)], env={"COLUMNS": "160"})
    if isinstance(result.exception, LulcbenchError):
        raise result.exception
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def test_trends_and_changes_are_those_of_the_pixels(tmp_path: Path) -> None:
    maps = stack()
    paths = [write(tmp_path / f"{year}.tif", own) for year, own in zip(YEARS, maps, strict=True)]
    shuffled = [2, 0, 3, 1]
    arguments = [paths[i] for i in shuffled] + [part for i in shuffled for part in ("--year", YEARS[i])]
    files = ("--json", tmp_path / "t.json", "--csv", tmp_path / "t.csv", "--figure", tmp_path / "t.png")
    out = run(*arguments, "--level", 3, "--out", tmp_path / "changes.tif", *files)
    assert "300 pixels without a class in some of the years are left out" in out
    found = json.loads((tmp_path / "t.json").read_text())
    assert (found["years"], found["left_out"]) == (list(YEARS), 300)
    own = maps[:, (maps > 0).all(axis=0)]
    assert found["total"] == own.shape[1] * 10_000
    assert [row["code"] for row in found["classes"]] == CODES.tolist()
    for row in found["classes"]:
        areas = (own == row["code"]).sum(axis=1) * 10_000.0
        expected = linregress(YEARS, areas)
        assert row["areas"] == areas.tolist()
        assert (row["slope"], row["se"]) == (pytest.approx(expected.slope), pytest.approx(expected.stderr))
        assert row["r2"] == pytest.approx(expected.rvalue**2)
        assert row["high"] - row["slope"] == pytest.approx(t.ppf(0.975, 2) * expected.stderr, rel=1e-3)
        kept = ((own[1:] == row["code"]) & (own[:-1] == row["code"])).sum() / (own[:-1] == row["code"]).sum()
        assert row["stays"] == pytest.approx(kept)
        by_pair = ((own[1:] == row["code"]) & (own[:-1] == row["code"])).sum(1) / (own[:-1] == row["code"]).sum(1)
        assert row["stays_by_pair"] == pytest.approx(by_pair.tolist())
    changes = np.array([(np.diff(pixel.astype(int)) != 0).sum() for pixel in own.T])
    assert found["changes"] == np.bincount(changes).tolist()
    returning = sum(len(set(pixel.tolist())) < 1 + n for pixel, n in zip(own.T, changes, strict=True))
    assert found["returning"] == returning == (own[1] != own[0]).sum()
    np.testing.assert_allclose(found["agreement"], (own[1:] == own[:-1]).mean(axis=1))
    with rasterio.open(tmp_path / "changes.tif") as file:
        written = file.read(1)
        assert (file.nodata, file.descriptions, file.crs.to_epsg()) == (255, ("changes",), 3035)
    assert (written == 255).sum() == 305
    assert (written[(maps > 0).all(axis=0)] == changes).all()
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + 3 * 4
    assert (tmp_path / "t.png").stat().st_size > 5000


def test_classes_of_a_study_are_compared_in_place_of_a_level(tmp_path: Path) -> None:
    maps = stack()
    paths = [write(tmp_path / f"{year}.tif", own) for year, own in zip(YEARS, maps, strict=True)]
    years = [part for year in YEARS for part in ("--year", year)]
    classes = tmp_path / "study.toml"
    classes.write_text('[classes]\n"land [b]" = [2, 3]\nwater = [5]\n')
    run(*paths, *years, "--classes", classes, "--json", tmp_path / "t.json")
    found = json.loads((tmp_path / "t.json").read_text())
    assert (found["names"], found["level"]) == (["land [b]", "water"], None)
    own = maps[:, (maps > 0).all(axis=0)] == 512
    assert [row["code"] for row in found["classes"]] == [1, 2]
    for row, present in zip(found["classes"], (~own, own), strict=True):
        assert row["areas"] == (present.sum(axis=1) * 10_000.0).tolist()
        kept = (present[1:] & present[:-1]).sum(axis=1) / present[:-1].sum(axis=1)
        assert row["stays_by_pair"] == pytest.approx(kept.tolist())
    shown = run(*paths, *years, "--classes", classes)
    assert "land [b]" in shown
    assert "2018–2020" in shown
    classes.write_text("[classes]\nirrigated = [2120]\nwater = [5]\n")
    run(*paths, *years, "--classes", classes, "--json", tmp_path / "t.json")  # 211 may be other land
    assert [row["code"] for row in json.loads((tmp_path / "t.json").read_text())["classes"]] == [2]
    classes.write_text("[classes]\nforest = [311]\nother = [3110]\n")
    with pytest.raises(LulcbenchError, match="code 3110 is in 'forest' and in 'other'"):
        run(*paths, *years, "--classes", classes)
    with pytest.raises(LulcbenchError, match="Study classes consist of LUISA codes"):
        run(*paths, *years, "--classes", classes, "--legend", "values")


def test_pixels_of_maps_in_degrees_count_by_area(tmp_path: Path) -> None:
    """Between 59° and 60° north there is less land than between 40° and 41°: by the sines, on a sphere."""
    before = np.full((20, 3), 211, np.uint16)
    after = before.copy()
    before[0], after[19] = 311, 311
    paths = [write(tmp_path / f"{year}.tif", own, "EPSG:4326", 1.0) for year, own in ((2012, before), (2018, after))]
    out = run(*paths, "--year", 2012, "--year", 2018, "--json", tmp_path / "t.json")
    assert "–" in out  # two years have no interval
    forest = json.loads((tmp_path / "t.json").read_text())["classes"][1]
    zone = {south: np.diff(np.sin(np.radians([south, south + 1])))[0] for south in (40, 59)}
    assert forest["areas"][1] / forest["areas"][0] == pytest.approx(zone[40] / zone[59], rel=0.01)
    assert forest["slope"] == pytest.approx((forest["areas"][1] - forest["areas"][0]) / 6)
    assert (forest["se"], forest["r2"], forest["stays"]) == (None, None, 0.0)


@pytest.mark.parametrize(
    ("years", "message"),
    [
        ((), "The year of a.tif is unknown"),
        ((2015, 2015), "Two maps are of 2015"),
        ((2015, 2016, 2017), "given 3 times for 2 maps"),
    ],
)
def test_years_that_are_not_one_per_map(tmp_path: Path, years: tuple[int, ...], message: str) -> None:
    paths = [write(tmp_path / name, stack()[0]) for name in ("a.tif", "b.tif")]
    with pytest.raises(LulcbenchError, match=message):
        run(*paths, *(part for year in years for part in ("--year", year)), "--out", tmp_path / "c.tif")
    assert not (tmp_path / "c.tif").exists()


def test_two_years_from_one_band_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "width": 30, "height": 20, "count": 2, "nodata": 0, "crs": "EPSG:3035"}
    with rasterio.open(
        path, "w", dtype="uint16", transform=from_origin(4_320_000, 3_362_400, 100, 100), **profile
    ) as f:
        f.write(stack()[[0, 2], 190:210])
    years = ("--year", 2015, "--year", 2018)
    for one in ((path, *years, "--band", 1), (path, path, *years, "--band", 2, "--band", 2)):
        with pytest.raises(LulcbenchError, match=r"read from the same band or year of a\.tif"):
            run(*one)
    copy = tmp_path / "b.tif"
    copy.write_bytes(path.read_bytes())
    assert "No pixel differs" in run(path, copy, *years, "--band", 1)
    assert "No pixel differs" not in run(path, *years, "--band", 1, "--band", 2, "--json", tmp_path / "t.json")
    changed = (stack()[0, 190:210] != stack()[2, 190:210])[(stack()[[0, 2], 190:210] > 0).all(axis=0)]
    assert json.loads((tmp_path / "t.json").read_text())["changes"] == np.bincount(changed).tolist()


@pytest.mark.parametrize("name", ["t.foo", "t"])
def test_figures_of_no_known_format_are_refused_before_the_work(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(app, ["trend", "missing.tif", "--figure", str(tmp_path / name)])
    assert isinstance(result.exception, LulcbenchError)
    assert "Cannot write" in str(result.exception)
    assert ".png, .pdf or .svg" in str(result.exception)


def test_maps_that_have_no_trend(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a.tif", stack()[0]), write(tmp_path / "b.tif", stack()[0][:50])
    years = ("--year", 2015, "--year", 2016)
    with pytest.raises(LulcbenchError, match="different pixels"):
        run(one, other, *years)
    with pytest.raises(LulcbenchError, match="1 maps have no trend"):
        run(one, "--year", 2015)
    upper, lower = (np.full((4, 4), 211, np.uint16) for _ in range(2))
    upper[:2], lower[2:] = 0, 0
    paths = [write(tmp_path / "u.tif", upper), write(tmp_path / "l.tif", lower)]
    with pytest.raises(LulcbenchError, match="No pixel has a class in all years"):
        run(*paths, *years, "--out", tmp_path / "c.tif")
    assert not (tmp_path / "c.tif").exists()


def test_all_years_of_a_single_map_are_taken(release_root: Path, tmp_path: Path) -> None:
    def bright(images: Mapping[str, np.ndarray]) -> np.ndarray:
        p = 1 / (1 + np.exp(-images["landsat"].mean(axis=0)))
        return np.stack([p, 1 - p, *np.zeros((3, *p.shape), np.float32)])

    model = OwnModel.of(bright, str(release_root), "landsat", 1, name="bright", version="1")
    folder = map_release(model, release_root, tmp_path / "map", MapOptions(bounds=(4347470, 3131230, 4348530, 3132234)))
    run(folder.folder, "--json", tmp_path / "all.json")
    run(folder.folder, "--year", 2012, "--year", 2018, "--json", tmp_path / "both.json")
    assert json.loads((tmp_path / "all.json").read_text())["years"] == [2012, 2018]
    assert (tmp_path / "all.json").read_bytes() == (tmp_path / "both.json").read_bytes()
