"""Series of own points: the table is read as it is, splits leave groups out, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from baselines.config import Config
from baselines.data.points import PointSeries, PointSeriesData
from baselines.experiment import Experiment
from baselines.train import STARTED, train
from lulcbench.errors import LulcbenchError

DAYS = ("01-15", "04-15", "07-15", "10-15")


def table() -> pd.DataFrame:
    """48 points in four groups: forest is green all year, crops in April alone. A value is missing; unordered."""
    rng = np.random.default_rng(0)
    rows = []
    for point in range(48):
        label, year = ("crops", "forest")[point % 2], 2019 + point // 2 % 2
        for month, day in enumerate(DAYS):
            green = label == "forest" or month == 1
            rows.append({
                "id": f"p{point:02}", "date": f"{year}-{day}", "year": year, "label": label, "group": f"g{point // 12}",
                "r": int((300 if green else 1800) + rng.normal(0, 50)),
                "n": int((3500 if green else 2400) + rng.normal(0, 50)),
            })  # fmt: skip
    found = pd.DataFrame(rows)
    found.loc[2, "n"] = 65535  # July of the first point, of crops
    return found.sample(frac=1, random_state=0)


def data(path: Path, **changes: Any) -> PointSeriesData:
    settings = {"root": str(path), "bands": {"B04": "r", "B08": "n"}, "scale": 1e-4, "nodata": 65535, "every": 90}
    return PointSeriesData.model_validate(settings | {"test": ["g3"]} | changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    table().to_parquet(tmp_path / "points.parquet", index=False)
    return tmp_path / "points.parquet"


def test_series_are_those_of_the_table(path: Path) -> None:
    config = data(path)
    points = config.read()
    assert config.features == ("B04", "B08", "NDVI")
    assert points.classes == ("crops", "forest")
    assert points.ids.tolist() == [f"p{number:02}" for number in range(48)]
    own = table().query("id == 'p00' and n != 65535").sort_values("date")
    days = [14, 104, 287]  # of 15 January, April and October
    assert len(own) == 3
    for band, column in enumerate(("r", "n")):
        expected = np.interp([45, 135, 225, 315], days, own[column] * 1e-4)
        assert points.values[0, :, band] == pytest.approx(expected, abs=1e-6)
    red, nir = points.values[..., 0], points.values[..., 1]
    assert points.values[..., 2] == pytest.approx((nir - red) / (nir + red), abs=1e-6)


def test_names_in_csv_files_keep_their_zeros(tmp_path: Path) -> None:
    """07 and 7 are two points, whose dates would make one series."""
    own = table()
    own["group"] = own["group"].str.replace("g", "0")
    own["id"] = own["id"].replace({"p00": "07", "p02": "7"})
    own.to_csv(tmp_path / "points.csv", index=False)
    config = data(tmp_path / "points.csv", test=["03"])
    points = config.read()
    assert len(points.ids) == 48
    assert {"07", "7"} <= set(points.ids)
    assert set(points.groups) == {"00", "01", "02", "03"}
    assert len(PointSeries("test", config)) == 12


def test_groups_are_left_out_and_the_statistics_are_of_the_others(path: Path) -> None:
    config = data(path, val=["g2"])
    sets = {split: PointSeries(split, config) for split in ("train", "val", "test")}
    assert {name: len(one) for name, one in sets.items()} == {"train": 24, "val": 12, "test": 12}
    assert set(sets["test"].names) == {f"p{number}" for number in range(36, 48)}
    assert sets["train"].input == sets["test"].input
    values = config.read().values[:24]
    assert sets["val"].input.mean[:3] == pytest.approx(values.reshape(-1, 3).mean(axis=0), abs=1e-5)
    batch = sets["test"].read([3, 1])
    assert batch["image"].shape == (2, 12, 1, 1)
    assert batch["id"] == ["p39", "p37"]
    assert batch["label"].flatten().tolist() == [1, 1]


def test_csv_and_parquet_are_the_same(path: Path, tmp_path: Path) -> None:
    table().to_csv(tmp_path / "points.csv", index=False)
    first, second = data(path).read(), data(tmp_path / "points.csv").read()
    assert np.array_equal(first.values, second.values)
    assert np.array_equal(first.labels, second.labels)


@pytest.mark.slow
@pytest.mark.parametrize("model", [{"kind": "lstm", "hidden": 8}, {"kind": "forest", "trees": 5}])
def test_models_of_pixels_learn_points(path: Path, tmp_path: Path, model: dict[str, Any]) -> None:
    config = Config.parse({
        "name": "points", "threads": 1, "data": data(path).model_dump(), "model": model,
        "train": {"epochs": 8, "batch_size": 12, "lr": 0.02}, "augment": {"dihedral": False},
        "predict": {"split": "test"},
    })  # fmt: skip
    trained = train(Experiment.open(config), tmp_path)
    folder = tmp_path / "points"
    predicted = pd.read_csv(trained.task.predict(trained, folder))
    assert predicted["id"].tolist() == [f"p{number}" for number in range(36, 48)]
    assert trained.task.score(config, folder)["overall_accuracy"] == 1
    assert trained.task.count(config, folder).unit == "points"
    assert "12 test points, not used in training" in trained.task.report(config, folder).summary
    assert list(trained.task.pictures(config, folder, 3)) == []


def change(frame: pd.DataFrame, rows: str, **values: Any) -> pd.DataFrame:
    for column, value in values.items():
        frame.loc[frame.query(rows).index[:1], column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "changes", "message"),
    [
        (change(table(), "id == 'p05'", label="forest2"), {}, "point p05 has several values of label"),
        (
            change(table(), "id == 'p05' and date == '2019-01-15'", date="2019-04-15"),
            {},
            "point p05: Dates do not ascend: 2019-04-15 occurs twice",
        ),
        (table().assign(year=2017), {}, "point p00: There is no date in 2017"),
        (table().drop(columns="r"), {}, "has no column 'r'"),
        (table(), {"classes": ["water"]}, "no point of the classes water"),
        (change(table(), "id == 'p05'", label=None), {}, "1 rows have no label, the first is row "),
        (table().assign(group=None), {}, "192 rows have no group, the first is row 1"),
        (table().assign(date=20190115), {}, "column date: 20190115 is a number, not a date"),
        (table().assign(date="03/05/2019"), {}, "column date: .*03/05/2019"),
        (table().assign(date="the 15th"), {}, "column date: .*the 15th"),
        (table().assign(r="much"), {}, "column r: Unable to parse string .much."),
        (table().replace({"label": {"crops": "predicted"}}), {}, "a class is named 'predicted'"),
        (table().assign(year=2019.5), {}, "column year: 2019.5 is not a year"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, frame: pd.DataFrame, changes: Any, message: str) -> None:
    frame.to_parquet(tmp_path / "points.parquet", index=False)
    with pytest.raises(LulcbenchError, match=message):
        data(tmp_path / "points.parquet", **changes).read()


def test_wrong_settings_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match="No point is in the group 'g9'"):
        PointSeries("test", data(path, test=["g9"]))
    with pytest.raises(LulcbenchError, match="The train split has no points"):
        PointSeries("train", data(path, test=["g0", "g1", "g2", "g3"]))
    with pytest.raises(ValueError, match="both in val and in test"):
        data(path, val=["g3"])
    with pytest.raises(LulcbenchError, match="Cannot read the table"):
        data(tmp_path / "none.parquet").read()
    with pytest.raises(LulcbenchError, match="The table "):
        data(tmp_path / "none.parquet").digest()


def test_batches_of_one_sample_are_refused_where_networks_normalise_them(path: Path, tmp_path: Path) -> None:
    config = Config.parse({
        "name": "points", "threads": 1, "data": data(path).model_dump(), "model": {"kind": "tempcnn", "width": 8},
        "train": {"epochs": 1, "batch_size": 1}, "augment": {"dihedral": False},
    })  # fmt: skip
    with pytest.raises(LulcbenchError, match="single value per channel"):
        train(Experiment.open(config), tmp_path)
    assert not (tmp_path / "points" / STARTED).exists()  # the batch size may be corrected
