"""Samples with the numbers of clear observations of their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from torchvision.transforms import v2

from lulcbench import LuisaChange, LuisaDataModule, LuisaSeg, LuisaSeries, Release
from lulcbench.datasets import LabelTransform, SpatialTransform
from lulcbench.datasets.augment import Affine, Dihedral, Gain, Mix, seeded
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.release import INDEX, Manifest


def stored(root: Path, array: str) -> np.ndarray:
    return np.asarray(zarr.open_group(root, mode="r")[array])


def test_windows_hold_the_counts_of_their_pixels(release_root: Path) -> None:
    data = LuisaSeg(
        release_root, sensors=("landsat", "sentinel2"), window=1200, seasons=("summer", "winter"), clear_counts=True
    )
    sample = data[6]
    row = pd.read_parquet(release_root / INDEX).set_index("id").loc[sample["tile"], "row"]
    y, x = data.locate([6]).offsets[0]
    for name, pixel in (("landsat", 30), ("sentinel2", 10)):
        n = 1200 // pixel
        window = (slice(y // pixel, y // pixel + n), slice(x // pixel, x // pixel + n))
        expected = stored(release_root, f"{name}-clear_2018")[(row, [2, 0], *window)]
        assert sample["clear"][name].dtype == torch.uint8
        np.testing.assert_array_equal(sample["clear"][name], expected)
        empty = (sample["image"][name].unflatten(0, (2, -1)) == 0).all(1)
        np.testing.assert_array_equal(empty, sample["clear"][name] == 0)


def test_both_years_of_a_change_have_counts(release_root: Path) -> None:
    data = LuisaChange(release_root, window=None, clear_counts=True)
    sample = data[0]
    for key, year in (("clear_from", 2012), ("clear_to", 2018)):
        row = Manifest.load(release_root).rows("train").start
        np.testing.assert_array_equal(sample[key], stored(release_root, f"landsat-clear_{year}")[row])


def test_counts_of_a_series_follow_its_dates(release_root: Path) -> None:
    whole = LuisaSeries(release_root, window=None, clear_counts=True)[1]
    row = Manifest.load(release_root).rows("train").start + 1
    expected = np.concatenate([stored(release_root, f"landsat-clear_{year}")[row] for year in (2012, 2018)])
    np.testing.assert_array_equal(whole["clear"], expected)
    pixel = LuisaSeries(release_root, window=30, clear_counts=True)
    assert pixel[0]["clear"].shape == (8,)
    np.testing.assert_array_equal(pixel[160 * 160 + 161]["clear"], expected[:, 1, 1])


def test_counts_turn_with_the_images(release_root: Path) -> None:
    data = LuisaDataModule(
        LuisaSeg, root=release_root, sensors="landsat", clear_counts=True, normalize=False, batch_size=4
    )
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    with seeded(1):
        turned = Dihedral()(batch)
    assert not torch.equal(turned["clear"], batch["clear"])
    np.testing.assert_array_equal(turned["clear"] == 0, (turned["image"].unflatten(1, (4, -1)) == 0).all(2))


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomHorizontalFlip(p=1),
        torch.nn.Sequential(Gain(0.1), v2.RandomVerticalFlip(p=1)),
        SpatialTransform(lambda sample: sample),
        lambda sample: sample,
    ],
    ids=["flip", "chain", "spatial", "own"],
)
def test_transforms_that_would_not_move_counts_are_refused(release_root: Path, transform: object) -> None:
    data = LuisaSeg(release_root, sensors="landsat", clear_counts=True, transforms=transform)
    with pytest.raises(LulcbenchError, match="would not move the numbers of clear observations"):
        data[0]


@pytest.mark.parametrize("augment", [Affine(10, 0, 0), Mix(0.2)], ids=["affine", "mix"])
def test_augmentations_that_would_not_move_counts_are_refused(augment: torch.nn.Module) -> None:
    batch = {
        "image": torch.zeros(2, 3, 8, 8),
        "label": torch.zeros(2, dtype=torch.int64),
        "clear": torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
    }
    with pytest.raises(LulcbenchError, match="would leave the numbers of clear observations"):
        augment(batch)


def test_a_change_of_labels_leaves_counts(release_root: Path) -> None:
    data = LuisaSeg(
        release_root, sensors="landsat", clear_counts=True, transforms=LabelTransform(lambda sample: sample)
    )
    assert data[0]["clear"].shape == (4, 40, 40)


def test_a_release_without_counts_has_none_to_read(release_root: Path) -> None:
    release = Release.open(release_root)
    info = release.manifest.sensors["landsat"].model_copy(update={"clear_counts": False})
    manifest = release.manifest.model_copy(update={"sensors": release.manifest.sensors | {"landsat": info}})
    without = Release(release.root, manifest)
    with pytest.raises(NotAvailableError, match="does not hold the number of clear observations of landsat"):
        LuisaSeg(without, sensors="landsat", clear_counts=True)
    with pytest.raises(NotAvailableError, match="It holds those of sentinel2"):
        without.clear_counts("train", "landsat", 2018, [0])
    assert "clear" not in LuisaSeg(without, sensors="landsat")[0]
