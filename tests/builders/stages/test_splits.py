"""Splits of any name, with and without labels, and releases of imagery alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from typer.testing import CliRunner

from builders.recipe import load
from builders.stages import plan
from lulcbench import LuisaChange, LuisaCls, LuisaSeg, LuisaSeries, Release
from lulcbench.cli import app
from lulcbench.datasets.sampler import balanced
from lulcbench.download import download
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.evaluation.scoring import score
from lulcbench.plotting import tile_panels
from lulcbench.predictions import Predictions
from lulcbench.release import ArrayKey, TilePosition
from lulcbench.release.verify import verify
from lulcbench.submission.card import check_predictions
from tests.builders import world
from tests.builders.labelled import (
    EDGE,
    IMAGERY,
    MAPPED,
    build,
    predict,
)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return build(tmp_path_factory.mktemp("mapped"), MAPPED)


@pytest.fixture(scope="module")
def imagery(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return build(tmp_path_factory.mktemp("imagery"), IMAGERY)


def test_a_region_is_a_split_of_its_own(mapped: Release) -> None:
    manifest = mapped.manifest
    assert list(manifest.splits) == ["train", "val", "test", "map"]
    assert manifest.splits["map"] == 2
    assert set(mapped.index("map")["region"]) == {"east"}
    assert set(mapped.index("map")["ix"]) == {EDGE // 4800}
    assert manifest.labels["luisa"].splits == ("train", "val", "test")


def test_an_unlabelled_split_has_neither_label_arrays_nor_class_fractions(mapped: Release) -> None:
    labels = zarr.open_array(Path(mapped.root) / "luisa_2018", mode="r")
    for split in mapped.manifest.splits:
        rows = mapped.manifest.rows(split)
        assert (np.asarray(labels[rows.start : rows.stop]) > 0).any() == (split != "map")
        shards = [file for file in mapped.manifest.files if file.split == split]
        assert {file.array for file in shards} == set(mapped.manifest.split_arrays(split))
        assert (ArrayKey("luisa", 2018) in mapped.manifest.split_arrays(split)) == (split != "map")
        fractions = mapped.index(split).filter(regex=r"^luisa_2018_[1-5]$")
        assert fractions.shape[1] == 5
        if split == "map":
            assert fractions.isna().all(axis=None)
        else:
            np.testing.assert_allclose(fractions.sum(axis=1), 1)
    assert not verify(mapped).problems


def test_imagery_of_an_unlabelled_split_is_read_with_the_statistics_of_train(mapped: Release) -> None:
    data = LuisaSeg(mapped, split="map", sensors="landsat", labels=None, window=None)
    assert data.label_years == ()
    assert "label years: \n" in f"{data}\n"
    sample = data[0]
    assert set(sample) == {"image", "tile", "bounds", "transform", "crs", "year"}
    stored = zarr.open_array(Path(mapped.root) / "landsat_2018", mode="r")[mapped.manifest.first_rows["map"]]
    info = mapped.manifest.sensor("landsat")
    assert info.statistics is not None
    mean, std = (np.array(part)[None, :, None, None] for part in (info.statistics.mean, info.statistics.std))
    right = (np.asarray(stored) * 1e-4 - 0.1 - mean) / std
    np.testing.assert_allclose(sample["image"].numpy(), right.reshape(-1, 160, 160), atol=1e-3)
    assert data.plot(sample).axes


@pytest.mark.parametrize("kind", [LuisaSeg, LuisaCls, LuisaSeries])
def test_labels_of_an_unlabelled_split_are_not_made_up(mapped: Release, kind: type[LuisaSeg]) -> None:
    with pytest.raises(NotAvailableError, match="no luisa labels in its split 'map'") as caught:
        kind(mapped, split="map", sensors="landsat")
    assert "train, val, test" in caught.value.remedy
    with pytest.raises(NotAvailableError, match="no luisa labels in its split 'map'"):
        mapped.labels("map", 2018, [mapped.manifest.first_rows["map"]])


def test_what_needs_labels_says_so(mapped: Release) -> None:
    with pytest.raises(LulcbenchError, match="LuisaChange needs labels"):
        LuisaChange(mapped, split="map", sensors="landsat", labels=None)
    with pytest.raises(LulcbenchError, match="classes were chosen, but no labels"):
        LuisaSeg(mapped, split="map", sensors="landsat", labels=None, classes=3110)
    with pytest.raises(LulcbenchError, match="no labels to balance by"):
        balanced(LuisaSeg(mapped, split="map", sensors="landsat", labels=None))
    with pytest.raises(LulcbenchError, match="no labels of 2018"):
        LuisaSeg(mapped, split="map", sensors="landsat", labels=None).class_fractions(2018, 1)


def test_chips_without_labels_are_all_chips(mapped: Release) -> None:
    data = LuisaCls(mapped, split="map", sensors="landsat", labels=None, level=1)
    assert data.labels is None
    assert len(data) == 2 * 64
    assert list(data.chips) == ["tile", "year", "y", "x"]
    assert not {"label", "purity"} & set(data[0])
    whole = LuisaSeg(mapped, split="map", sensors="landsat", labels=None, window=None)[1]["image"]
    y, x = data.chips.loc[100, ["y", "x"]] // 30
    assert torch.equal(data[100]["image"], whole[:, y : y + 20, x : x + 20])
    assert data.plot(data[0]).axes
    with pytest.raises(LulcbenchError, match="no labels to balance by"):
        balanced(data)


def test_an_unlabelled_split_is_predicted_but_not_scored(mapped: Release, tmp_path: Path) -> None:
    path = predict(tmp_path / "map.zip", mapped, "map", np.full((2, 96, 96), 3110))
    with Predictions.open(path, mapped) as predictions:
        assert predictions.info.split == "map"
        assert (predictions.codes(TilePosition(0)) == 3110).all()
    for evaluate in (score, check_predictions):
        with pytest.raises(NotAvailableError, match="no luisa labels in its split 'map'"):
            evaluate(path, mapped)


def test_an_unlabelled_split_is_shown_and_downloaded(mapped: Release, tmp_path: Path) -> None:
    tile = mapped.tiles("map").ids[0]
    assert [panel.title for panel in tile_panels(mapped, tile)] == ["landsat 2018, summer (red)"]
    said = CliRunner().invoke(app, ["info", mapped.root])
    assert said.exit_code == 0, said.output
    assert "labels of luisa: 2018; 50 m; in train, val, test" in said.output
    download(mapped.root, tmp_path / "got", splits=["map"])
    got = Release.open(tmp_path / "got")
    assert not verify(got).problems
    ours, theirs = (LuisaSeg(one, "map", "landsat", labels=None, window=None) for one in (mapped, got))
    assert torch.equal(ours[1]["image"], theirs[1]["image"])


def test_the_buffer_parts_labelled_splits_alone(tmp_path: Path) -> None:
    recipe = MAPPED.replace("buffer = 0", "buffer = 1").replace(
        "fractions = { train = 0.5, val = 0.25, test = 0.25 }", "fractions = { train = 1.0 }"
    )
    made, space = world.make(tmp_path, recipe)
    rows = plan.plan(made, space)
    assert sorted(row.split for row in rows) == ["map"] * 2 + ["train"] * 4  # though they touch
    labelled = recipe.replace('unlabelled = ["map"]\n', "")
    (tmp_path / "recipe.toml").write_text(labelled)
    rows = plan.plan(load(tmp_path / "recipe.toml", space.scenes), space)
    assert sorted(row.split for row in rows) == ["buffer"] * 2 + ["map"] * 2 + ["train"] * 2


# --- no labels at all


def test_a_release_may_be_imagery_alone(imagery: Release) -> None:
    manifest = imagery.manifest
    assert manifest.labels == {}
    assert dict(manifest.splits) == {"map": 6}
    assert manifest.sensor("landsat").statistics is None
    assert not imagery.index().filter(like="luisa").shape[1]
    card = (Path(imagery.root) / "README.md").read_text(encoding="utf-8")
    assert 'map = LuisaSeg("hf://lulcbench/world", split="map", sensors="landsat", year=2018, labels=None, ' in card
    said = CliRunner().invoke(app, ["info", imagery.root])
    assert said.exit_code == 0, said.output
    assert "labels: none" in said.output


def test_imagery_alone_is_normalised_with_the_statistics_that_a_model_was_trained_on(
    imagery: Release, mapped: Release
) -> None:
    options = {"split": "map", "sensors": "landsat", "labels": None, "window": None}
    with pytest.raises(LulcbenchError, match="no statistics of landsat to normalise with") as caught:
        LuisaSeg(imagery, **options)
    assert "statistics=train.statistics" in caught.value.remedy
    assert LuisaSeg(imagery, normalize=False, **options).statistics is None
    train = LuisaSeg(mapped, sensors="landsat")
    assert train.statistics is not None
    data = LuisaSeg(imagery, statistics=train.statistics, **options)
    same = LuisaSeg(mapped, **options)
    tiles = [data.tiles["id"].tolist().index(tile) for tile in same.tiles["id"]]
    assert torch.equal(data.read(tiles)["image"], same.read([0, 1])["image"])
    device = LuisaSeg(imagery, statistics=train.statistics, normalize="device", **options)
    torch.testing.assert_close(device.finish(device.read(tiles))["image"], same.read([0, 1])["image"])


def test_given_statistics_are_of_bands_by_name(mapped: Release) -> None:
    given = {"landsat": {"nir08": (0.25, 0.5), "red": (0.2, 0.1)}}
    raw = LuisaSeg(mapped, sensors="landsat", bands=("nir08", "red"), normalize=False)
    data = LuisaSeg(mapped, sensors="landsat", bands=("nir08", "red"), statistics=given)
    right = (raw[0]["image"] - torch.tensor([0.25, 0.2])[:, None, None]) / torch.tensor([0.5, 0.1])[:, None, None]
    torch.testing.assert_close(data[0]["image"], right, atol=1e-5, rtol=0)
    assert data.statistics == given


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({}, "no mean and standard deviation of band red of landsat"),
        ({"landsat": {"red": (0.1, 0.1)}}, "no mean and standard deviation of band nir08 of landsat"),
        ({"landsat": {"red": 0.1, "nir08": (0, 1)}}, "no mean and standard deviation of band red"),
        ({"landsat": {"red": (0.1, 0.0), "nir08": (0, 1)}}, "mean 0.1 and standard deviation 0.0"),
        ({"landsat": {"red": (float("nan"), 1.0), "nir08": (0, 1)}}, "mean nan"),
    ],
    ids=["nothing", "one band", "a number", "no spread", "no mean"],
)
def test_statistics_that_cannot_be_are_refused(mapped: Release, statistics: object, message: str) -> None:
    with pytest.raises(LulcbenchError, match=message):
        LuisaSeg(mapped, sensors="landsat", statistics=statistics)
