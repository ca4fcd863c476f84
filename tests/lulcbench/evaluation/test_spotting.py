"""Spotting of change: what changed is found, seasons and clouds are not change."""

from __future__ import annotations

import sys
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest

from benchmarks import spotting as simulations
from lulcbench import cli
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.patch_series import read_series, spot_all
from lulcbench.evaluation.spotting import spot

DATES = np.arange("2015-01-01", "2020-01-01", 15, dtype="datetime64[D]")


def cleared(when: str, p: float = 0.85) -> np.ndarray:
    return np.where(DATES[:, None] < np.datetime64(when), [p, 1 - p], [1 - p, p])


def test_simulated_changes_are_found_and_false_alarms_are_rare() -> None:
    found = simulations.simulated(60, 6)
    assert found["false alarms per 1000 unchanged patch-years"] <= 3
    assert found["changes found"] > 0.75
    assert found["with the right kind"] > 0.75
    assert found["median error of the date, days"] < 60


def test_a_season_that_returns_every_year_is_not_a_change() -> None:
    month = DATES.astype("datetime64[M]").astype(int) % 12
    winter = (month <= 1) | (month == 11)
    p = np.where(winter[:, None], [0.1, 0.9], [0.9, 0.1])
    assert spot(DATES, p, [21, 11]) == []


def test_clouds_that_no_mask_found_are_not_a_change() -> None:
    p = cleared("2030-01-01")
    p[40:44] = [0.01, 0.99]  # two months
    assert spot(DATES, p, [31, 21]) == []


def test_images_in_any_order_and_without_probabilities() -> None:
    p = cleared("2017-06-01")
    p[::7] = np.nan
    order = np.random.default_rng(0).permutation(len(DATES))
    (found,) = spot(DATES[order], p[order], [31, 21])
    assert (found.kind, found.before, found.after) == ("deforested", 31, 21)
    assert found.first < np.datetime64("2017-06-01") <= found.last
    assert found.confidence > 0.9


def test_classes_with_the_same_code_are_one_class() -> None:
    p = np.stack([cleared("2017-06-01")[:, 0] * 0.95, cleared("2017-06-01")[:, 1] * 0.95, np.full(len(DATES), 0.05)], 1)
    assert spot(DATES, p, [31, 31, 21]) == []


@pytest.mark.parametrize(
    ("p", "codes", "message"),
    [
        (cleared("2017-01-01"), [31], "not of 122 dates and 1 classes"),
        (cleared("2017-01-01"), [31, 99], "not LUISA codes"),
        (cleared("2017-01-01") * 2, [31, 21], "do not sum to 1"),
    ],
)
def test_what_is_not_probabilities_is_refused(p: np.ndarray, codes: list[int], message: str) -> None:
    with pytest.raises(LulcbenchError, match=message):
        spot(DATES, p, codes)


def table(path: Path, **more: object) -> Path:
    p = cleared("2017-06-01")
    frame = pd.DataFrame({"place": "a", "date": DATES, "forest": p[:, 0], "fields": p[:, 1], "x": 4e6, "y": 3e6} | more)
    frame.to_csv(path, index=False)
    path.with_name("legend.csv").write_text("value,code\nforest,31\nfields,21\n")
    return path


def test_the_command_writes_table_points_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    series, out = table(tmp_path / "series.csv", clear=1.0), tmp_path / "changes.csv"
    options = ["--legend", tmp_path / "legend.csv", "--gpkg", tmp_path / "c.gpkg", "--page", tmp_path / "c.html"]
    monkeypatch.setattr(sys, "argv", ["lulcbench", "spot", *map(str, [series, "--out", out, *options])])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert "1 changes in 1 patches and 5 patch-years" in capsys.readouterr().out
    assert pd.read_csv(out)["kind"].tolist() == ["deforested"]
    points = geopandas.read_file(tmp_path / "c.gpkg")
    assert (points.crs.to_epsg(), points.geometry[0].x, points["before"][0]) == (3035, 4e6, 31)
    assert (tmp_path / "c.html").read_text().count("data:image/png;base64,") == 3


def test_clouded_and_double_images_are_left_out(tmp_path: Path) -> None:
    clear = np.where(np.arange(len(DATES)) < 10, 0.2, 1.0)
    dates = DATES.copy()
    dates[-1] = dates[-2]
    patches, left_out = read_series(table(tmp_path / "s.csv", clear=clear, date=dates), str(tmp_path / "legend.csv"))
    assert left_out == {"clouded": 10, "second image of a date": 1}
    assert len(patches[0].dates) == len(DATES) - 11
    assert len(spot_all(patches)) == 1


@pytest.mark.parametrize(
    "form",
    ["%Y%m%d", "%Y-%m-%dT10:20:31Z", "%Y-%m-%d 10:20:31.024", "%Y-%m-%dT23:20:31+02:00", "%Y-%m-%d 00:00:00 UTC"],
)
def test_dates_are_days_of_iso_8601(form: str, tmp_path: Path) -> None:
    days = pd.to_datetime(DATES)
    path = table(tmp_path / "s.csv", date=days.strftime(form))
    patches, left_out = read_series(path, str(tmp_path / "legend.csv"))
    assert left_out == {}
    np.testing.assert_array_equal(patches[0].dates, DATES.astype("datetime64[D]"))
    twins = pd.read_csv(path).assign(date=(days + pd.Timedelta("10:20:32")).strftime("%Y-%m-%dT%H:%M:%SZ"))
    pd.concat([pd.read_csv(path), twins]).to_csv(path, index=False)
    assert read_series(path, str(tmp_path / "legend.csv"))[1] == {"second image of a date": len(DATES)}


def test_days_that_may_be_months_and_images_of_no_place_are_left_out(tmp_path: Path) -> None:
    """03.05.2018 is in May for some and in March for others."""
    german = pd.to_datetime(DATES).strftime("%d.%m.%Y")
    path = table(tmp_path / "s.csv", date=german)
    with pytest.raises(LulcbenchError, match=f"no date, or not of the form 2018-05-03': {len(DATES)}"):
        read_series(path, str(tmp_path / "legend.csv"))
    path = table(tmp_path / "s.csv", place=[None, None, *["a"] * (len(DATES) - 2)])
    assert read_series(path, str(tmp_path / "legend.csv"))[1] == {"no place": 2}


def test_names_of_places_keep_their_zeros(tmp_path: Path) -> None:
    path = table(tmp_path / "s.csv", place=["07" if i % 2 == 0 else "7" for i in range(len(DATES))])
    patches, left_out = read_series(path, str(tmp_path / "legend.csv"))
    assert left_out == {}
    assert [patch.place for patch in patches] == ["07", "7"]
    np.testing.assert_array_equal(patches[0].dates, DATES[::2])


def test_images_of_classes_without_a_code_are_left_out(tmp_path: Path) -> None:
    """A cloud leaves 1 % to the classes of the land, which would count as much as a clear image."""
    path, legend_of_clouds = table(tmp_path / "s.csv"), tmp_path / "clouds.csv"
    legend_of_clouds.write_text((tmp_path / "legend.csv").read_text().rstrip() + "\ncloud,0\n")
    own = pd.read_csv(path)
    clear = read_series(path, str(tmp_path / "legend.csv"))[0][0]
    classes = [name for name in own if name not in ("place", "date", "x", "y", "clear")]
    clouded = np.arange(len(own)) % 3 == 1
    own["cloud"] = np.where(clouded, 0.99, 0.0)
    own.loc[clouded, classes] = 0.01 * np.eye(len(classes))[-1]
    own.loc[1, [*classes, "cloud"]] = [0.0] * len(classes) + [1.0]  # certain
    own.to_csv(path, index=False)
    (patch,), left_out = read_series(path, str(legend_of_clouds))
    assert left_out == {"mostly of classes without a code": int(clouded.sum())}
    np.testing.assert_array_equal(patch.dates, clear.dates[~clouded])
    np.testing.assert_allclose(patch.probabilities, clear.probabilities[~clouded])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"lake": 0.1}, "columns that are not classes: .'lake'"),
        ({"clear": 0.0}, "no image that can be used"),
        ({"clear": 80.0}, "values of clear outside 0 to 1"),
        ({"clear": 1.001}, "values of clear outside 0 to 1"),
        ({"x": "4000000,0"}, "not a number: x = '4000000,0'"),
        ({"x": 4e6 + 640.0 * (np.arange(len(DATES)) % 2)}, "has a at several positions"),
    ],
)
def test_tables_that_are_not_series_are_refused(more: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match=message):
        read_series(table(tmp_path / "s.csv", **more), str(tmp_path / "legend.csv"))


def test_shares_are_rounded_and_some_images_have_no_position(tmp_path: Path) -> None:
    east = np.where(np.arange(len(DATES)) == 0, np.nan, 4e6)
    path = table(tmp_path / "s.csv", clear=1.0000001, x=east)
    patches, left_out = read_series(path, str(tmp_path / "legend.csv"))
    assert left_out == {}
    assert patches[0].position == (4e6, 3e6)
    assert np.isnan(read_series(table(path, y=np.nan), str(tmp_path / "legend.csv"))[0][0].position).all()
