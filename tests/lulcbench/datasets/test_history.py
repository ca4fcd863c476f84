"""Samples with the composites of earlier years too."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from lulcbench import LuisaChange, LuisaCls, LuisaDataModule, LuisaSeg, LuisaSeries
from lulcbench.errors import LulcbenchError, NotAvailableError


@pytest.mark.parametrize("dataset", [LuisaSeg, LuisaCls])
def test_images_have_the_seasons_of_earlier_years_first(dataset: type[LuisaSeg], release_root: Path) -> None:
    options = {"sensors": "landsat", "seasons": ("summer", "winter"), "bands": ("red", "nir08"), "labels": None}
    data = dataset(release_root, history=6, clear_counts=True, **options)
    years = [dataset(release_root, year=year, clear_counts=True, **options) for year in (2012, 2018)]
    assert data.in_channels == {"landsat": 8}
    at = [0, 5, len(data) - 1]
    batch, (before, now) = data.read(at), (one.read(at) for one in years)
    assert torch.equal(batch["image"], torch.cat([before["image"], now["image"]], dim=1))
    assert not torch.equal(batch["image"][:, :4], batch["image"][:, 4:])
    assert torch.equal(batch["clear"], torch.cat([before["clear"], now["clear"]], dim=1))
    assert batch["year"].tolist() == [2018] * 3
    apart = dataset(release_root, history=[6], flatten=False, **options)[5]
    assert torch.equal(apart["image"].flatten(0, 1), batch["image"][1])


def test_masks_are_those_of_the_year(release_root: Path) -> None:
    data, plain = LuisaSeg(release_root, sensors="landsat", history=6), LuisaSeg(release_root, sensors="landsat")
    assert torch.equal(data[9]["mask"], plain[9]["mask"])
    assert "2012, 2018" in repr(data)


def test_stored_integers_and_batches_of_the_data_module(release_root: Path) -> None:
    data = LuisaSeg(release_root, sensors="landsat", history=6, normalize="device")
    batch = data.read([3, 4])
    assert batch["image"].dtype == torch.uint16
    torch.testing.assert_close(
        data.finish(batch)["image"], LuisaSeg(release_root, sensors="landsat", history=6).read([3, 4])["image"]
    )
    module = LuisaDataModule(root=release_root, sensors="landsat", history=6, batch_size=3, num_workers=0)
    module.setup("fit")
    assert next(iter(module.train_dataloader()))["image"].shape[1] == 48


def test_figures_show_the_year_of_the_sample(release_root: Path) -> None:
    data, plain = LuisaSeg(release_root, sensors="landsat", history=6), LuisaSeg(release_root, sensors="landsat")
    (shown, expected) = (np.asarray(one.rgb_panels(one[2])[0].rgb) for one in (data, plain))
    np.testing.assert_array_equal(shown, expected)
    plt.close(data.plot(data[2]))


@pytest.mark.parametrize("history", [0, -6, (6, 6), "6", 1.5])
def test_years_are_counted_backwards_each_once(history: object, release_root: Path) -> None:
    with pytest.raises(LulcbenchError, match=r"history (is|names 6 twice)"):
        LuisaSeg(release_root, sensors="landsat", history=history)


def test_earlier_years_must_be_there(release_root: Path) -> None:
    with pytest.raises(NotAvailableError, match="2012"):
        LuisaSeg(release_root, sensors="sentinel2", history=6)
    with pytest.raises(NotAvailableError, match="2016"):
        LuisaSeg(release_root, sensors="landsat", history=(2, 6))


@pytest.mark.parametrize("dataset", [LuisaSeries, LuisaChange])
def test_datasets_of_several_years_take_no_history(dataset: type[LuisaSeries], release_root: Path) -> None:
    with pytest.raises(LulcbenchError, match="takes no history"):
        dataset(release_root, sensors="landsat", history=6)
