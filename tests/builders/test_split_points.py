"""Splitting labelled points by spatial blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rasterio.warp import transform
from typer.testing import CliRunner

from builders.__main__ import app
from builders.recipe import SplitRule
from builders.split_points import split_points
from lulcbench import grid
from lulcbench.errors import LulcbenchError

RULE = SplitRule(block=2, buffer=1, fractions={"train": 0.6, "val": 0.2, "test": 0.2})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(4_300_000, 4_400_000, 900), rng.uniform(3_200_000, 3_300_000, 900)
    lon, lat = transform(grid.CRS, "EPSG:4326", x, y)
    names = [f"Class_{i}" for i in range(900)]
    frame = pd.DataFrame({"name": names, "class": rng.choice(["a", "b"], 900), "lon": lon, "lat": lat, "x": x, "y": y})
    frame.to_csv(tmp_path / "points.csv", index=False)
    return tmp_path / "points.csv"


@pytest.mark.slow
def test_splits_keep_their_distance(table: Path, tmp_path: Path) -> None:
    counts = split_points(table, tmp_path / "lists", RULE, "points", ".jpg")
    points = pd.read_csv(table).set_index("name")
    names = {
        split: [line.removesuffix(".jpg") for line in (tmp_path / f"lists/points-{split}.txt").read_text().split()]
        for split in ("train", "val", "test")
    }
    assert {split: len(found) for split, found in names.items()} == {s: counts[s] for s in names}
    assert sum(counts.values()) == 900
    for one in names:
        for other in names:
            if one < other:
                a, b = (points.loc[names[s], ["x", "y"]].to_numpy() // grid.TILE_SIZE for s in (one, other))
                apart = np.abs(a[:, None] - b[None]).max(axis=2)
                assert apart.min() > RULE.buffer
    assert counts["train"] > counts["val"] + counts["test"]


@pytest.mark.slow
def test_same_seed_same_lists(table: Path, tmp_path: Path) -> None:
    for out in ("one", "two"):
        split_points(table, tmp_path / out, RULE, "p")
    for split in ("train", "val", "test"):
        assert (tmp_path / f"one/p-{split}.txt").read_bytes() == (tmp_path / f"two/p-{split}.txt").read_bytes()


def test_bad_tables_are_named(table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table)
    with pytest.raises(LulcbenchError, match="is missing"):
        split_points(tmp_path / "none.csv", tmp_path, RULE, "p")
    for change, message in (
        (frame.drop(columns="lon"), "no column 'lon'"),
        (pd.concat([frame, frame[:1]]), "'Class_0' twice"),
        (frame.assign(lat=-80.0), "off the grid"),
    ):
        change.to_csv(tmp_path / "bad.csv", index=False)
        with pytest.raises(LulcbenchError, match=message):
            split_points(tmp_path / "bad.csv", tmp_path, RULE, "p")


def test_the_command_says_how_many_points_went_where(table: Path, tmp_path: Path) -> None:
    arguments = ["split-points", str(table), "--out", str(tmp_path / "lists"), "--prefix", "p", "--suffix", ".jpg"]
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 0
    told = dict(line.split()[:2] for line in said.stdout.splitlines())
    for split in ("train", "val", "test"):
        assert len((tmp_path / f"lists/p-{split}.txt").read_text().split()) == int(told[split])


def test_splits_and_their_shares_are_for_the_user_to_choose(table: Path, tmp_path: Path) -> None:
    arguments = ["split-points", str(table), "--out", str(tmp_path / "lists"), "--prefix", "p"]
    said = CliRunner().invoke(app, [*arguments, "--fractions", "train=0.8, holdout=0.2"])
    assert said.exit_code == 0, said.output
    assert {path.name for path in (tmp_path / "lists").iterdir()} == {"p-train.txt", "p-holdout.txt"}
    for wrong in ("train=0.8", "train", "train=a,test=b", "buffer=0.5,test=0.5"):
        refused = CliRunner().invoke(app, [*arguments, "--fractions", wrong])
        assert isinstance(refused.exception, LulcbenchError), wrong
        assert "is not shares of splits" in refused.exception.what
