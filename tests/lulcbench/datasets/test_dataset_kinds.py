"""Chips, pairs of years, time series, and their pictures."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from lulcbench import LuisaChange, LuisaCls, LuisaSeg, LuisaSeries
from lulcbench.datasets import LuisaDataset
from lulcbench.datasets.change import ChangeOptions
from lulcbench.datasets.cls import ClsOptions
from lulcbench.datasets.seg import SegOptions
from lulcbench.datasets.series import SeriesOptions
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.legend import IGNORE_INDEX, legend


def stored(root: Path, name: str) -> zarr.Array:
    return zarr.open_array(root / name, mode="r")


def test_chips_follow_the_written_rule(release_root: Path) -> None:
    chips = LuisaCls(release_root, sensors="landsat", level=3, purity=0.6)
    codes = stored(release_root, "luisa_2018")
    expected = []
    for tile, row in zip(chips.tiles["id"], chips.tiles["row"], strict=True):
        indices = legend().encode(codes[row], 3)
        for y in range(8):
            for x in range(8):
                counts = np.bincount(indices[12 * y : 12 * y + 12, 12 * x : 12 * x + 12].ravel(), minlength=256)
                best = int(counts[:IGNORE_INDEX].argmax())
                if counts[best] / 144 >= 0.6:
                    expected.append((tile, y * 600, x * 600, legend().codes(3)[best]))
    found = list(chips.chips[["tile", "y", "x", "code"]].itertuples(index=False, name=None))
    assert found == expected
    sample = chips[len(chips) - 1]
    assert sample["image"].shape == (24, 20, 20)
    assert int(sample["label"]) == int(chips.labels[-1])
    assert 0.6 <= float(sample["purity"]) <= 1
    with pytest.raises(LulcbenchError, match="takes no window"):
        LuisaCls(release_root, window=1200)
    with pytest.raises(LulcbenchError, match="purity"):
        LuisaCls(release_root, purity=0)


def test_change_compares_two_years(release_root: Path) -> None:
    dataset = LuisaChange(release_root, level=(1, 4), window=None)
    sample = dataset[0]
    old, new = (LuisaSeg(release_root, sensors="landsat", year=year, level=4, window=None)[0] for year in dataset.pair)
    torch.testing.assert_close(sample["image_from"], old["image"])
    torch.testing.assert_close(sample["image_to"], new["image"])
    assert torch.equal(sample["mask_from"][1], old["mask"])
    labelled = (old["mask"] != IGNORE_INDEX) & (new["mask"] != IGNORE_INDEX)
    assert torch.equal(sample["mask"][1] == 1, (old["mask"] != new["mask"]) & labelled)
    assert (sample["mask"][0] <= sample["mask"][1]).all()  # what changes at level 1 changes at level 4
    table = dataset.transitions(4)
    assert table.sum() == len(dataset.tiles) * 96 * 96
    assert 0 < table.sum() - np.trace(table) < table.sum()


def test_series_are_in_order_of_time(release_root: Path) -> None:
    series = LuisaSeries(release_root, window=30)
    days = series.dates.astype("datetime64[D]").astype(str).tolist()
    assert days[0] == "2012-01-25"  # winter 2012 begins in December 2011
    assert days == sorted(days)
    assert len(days) == 8
    sample = series[161]  # second row, second pixel
    assert sample["image"].shape == (8, 6)
    assert sample["mask"].shape == ()
    whole = LuisaSeries(release_root, window=None)[0]
    torch.testing.assert_close(sample["image"], whole["image"][:, :, 1, 1])
    assert sample["mask"] == whole["mask"][1, 1]
    raw = LuisaSeries(release_root, window=30, normalize="device")
    torch.testing.assert_close(raw.finish(raw.read([161]))["image"][0], sample["image"])
    torch.testing.assert_close(raw.finish(raw[161])["image"], sample["image"])


def test_years_of_series_and_pairs(release_root: Path) -> None:
    assert LuisaSeries(release_root, years=2018).image_years == (2018,)
    assert LuisaSeries(release_root, years=np.array([2018, 2012])).image_years == (2012, 2018)
    assert LuisaSeries(release_root, sensors=["landsat"]).sensors == ("landsat",)
    assert LuisaChange(release_root, years=[2012, np.int64(2018)]).pair == (2012, 2018)
    for years in ((), "2018", [2018.5]):
        with pytest.raises(LulcbenchError, match="year"):
            LuisaSeries(release_root, years=years)
    for years in (2018, (2018, 2012), "2012", (2012, 2015, 2018)):
        with pytest.raises(LulcbenchError, match="years is"):
            LuisaChange(release_root, years=years)
    with pytest.raises(LulcbenchError, match="one sensor"):
        LuisaSeries(release_root, sensors=("landsat", "sentinel2"))
    with pytest.raises(LulcbenchError, match="purity is"):
        LuisaCls(release_root, purity="0.5")
    assert "years: 2012, 2018" in repr(LuisaSeries(release_root))


@pytest.mark.parametrize("kind", [LuisaDataset, LuisaSeg, LuisaCls, LuisaChange, LuisaSeries])
def test_options_are_spelled_out(release_root: Path, kind: Any) -> None:
    parameters = inspect.signature(kind).parameters
    assert list(parameters)[:3] == ["root", "split", "sensors"]
    assert all(one.kind is one.KEYWORD_ONLY for one in list(parameters.values())[3:])
    shared = inspect.signature(LuisaDataset).parameters
    left_out = {
        LuisaDataset: set(),
        LuisaSeg: set(),
        LuisaCls: {"window", "stride", "phase", "seed"},
        LuisaChange: {"year", "history"},
        LuisaSeries: {"flatten", "history"},
    }[kind]
    assert set(shared) - set(parameters) == left_out
    for name in set(shared) & set(parameters) - {"sensors"}:
        assert parameters[name].default == shared[name].default
    dataset = kind(release_root, "val", "landsat")
    assert (dataset.split, dataset.sensors) == ("val", ("landsat",))
    for option in left_out:
        with pytest.raises(LulcbenchError, match=f"takes no {option}"):
            kind(release_root, **{option: 1})
    with pytest.raises(TypeError, match="windw"):
        kind(release_root, windw=1200)


def test_static_types_of_options_are_those_of_the_base() -> None:
    base = inspect.signature(LuisaDataset.__init__).parameters
    for options in (SegOptions, ClsOptions, ChangeOptions, SeriesOptions):
        for name, annotation in options.__annotations__.items():
            assert annotation.__forward_arg__ == base[name].annotation


@pytest.mark.parametrize(
    "make",
    [
        lambda root: LuisaSeg(root, sensors=("landsat", "sentinel2"), level=(2, 3)),
        lambda root: LuisaCls(root, sensors="landsat", bands=["nir08"]),
        lambda root: LuisaChange(root),
        lambda root: LuisaSeries(root, window=30),
    ],
    ids=["seg", "cls", "change", "series"],
)
def test_pictures_say_that_the_data_is_simulated(release_root: Path, tmp_path: Path, make: Any) -> None:
    dataset = make(release_root)
    sample = dataset[1]
    prediction = sample.get("label", sample.get("mask"))
    picture = dataset.plot(sample, prediction=prediction)
    assert "SIMULATED DATA" in picture._suptitle.get_text()
    picture.savefig(tmp_path / "picture.png", dpi=30)
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_series_are_not_labelled_by_a_map_that_is_newer_than_their_imagery(release_root: Path) -> None:
    with pytest.raises(NotAvailableError, match="labels are of 2018, newer than the imagery, which ends in 2012"):
        LuisaSeries(release_root, years=2012)
    assert LuisaSeries(release_root, years=2012, year=2012).image_years == (2012,)
    assert LuisaSeries(release_root, years=2018, year=2012).image_years == (2018,)  # an old map
