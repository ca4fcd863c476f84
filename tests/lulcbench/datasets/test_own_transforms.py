"""Transforms of users, chains, and masks that a transform must not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from kornia.constants import DataKey
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from lulcbench import LuisaCls, LuisaSeg, LuisaSeries
from lulcbench.datasets import LabelTransform, SpatialTransform
from lulcbench.datasets.augment import Affine, Dihedral, Gain, Mix, dihedral
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX
from tests.lulcbench.datasets.transformed import (
    Sample,
    expected,
    kornia,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Default grid_sample and affine_grid behavior"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.*treespec.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
]


def test_masks_that_are_interpolated_are_an_error(release_root: Path) -> None:
    bilinear = {DataKey.MASK: {"resample": "bilinear", "align_corners": True}}
    for turn in (
        kornia(K.RandomRotation((30.0, 30.0), p=1.0), extra_args=bilinear),  # Kornia makes whole numbers of it again
        SpatialTransform(lambda s: s | {"mask": nn.functional.avg_pool2d(s["mask"][None].float(), 2)[0]}),
        SpatialTransform(lambda s: s | {"mask": nn.functional.avg_pool2d(s["mask"][None].float(), 2)[0].long()}),
        SpatialTransform(lambda s: s | {"mask": s["mask"] == 5}),
    ):
        dataset = LuisaSeg(release_root, sensors="landsat", transforms=turn)
        with pytest.raises(LulcbenchError, match=r"averaged the classes of neighbouring pixels"):
            list(dataset)  # type: ignore[call-overload]


def test_axes_that_a_library_takes_for_a_batch_are_an_error(release_root: Path) -> None:
    turn = kornia(K.RandomRotation(30.0, p=1.0))
    for dataset in (
        LuisaSeg(release_root, sensors="landsat", flatten=False, transforms=turn),
        LuisaSeries(release_root, transforms=turn),
    ):
        with pytest.raises(LulcbenchError, match=r"turned mask from \(40, 40\) into"):
            dataset[3]


def shifted(value: Tensor, fill: int) -> Tensor:
    """Moved by 6 pixels to the right, as OpenCV and albumentations do: filled with a constant, 0 by default."""
    array = value.numpy()
    out = np.full_like(array, fill)
    out[..., 6:] = array[..., :-6]
    return torch.from_numpy(out)


def test_callables_of_ones_own_are_wrapped_or_refused(release_root: Path) -> None:
    def shift(sample: Sample) -> Sample:
        return sample | {key: shifted(sample[key], 0) for key in ("image", "mask")}

    plain = LuisaSeg(release_root, sensors="landsat", level=3)
    wrapped = LuisaSeg(release_root, sensors="landsat", level=3, transforms=SpatialTransform(shift))
    for index in range(0, len(plain), 7):
        before, after = plain[index], wrapped[index]
        assert torch.equal(after["mask"], shifted(before["mask"], IGNORE_INDEX))
        assert torch.equal(after["image"], shifted(before["image"], 0))
    bare = LuisaSeg(release_root, sensors="landsat", level=3, transforms=shift)
    refused = 0
    for index in range(len(plain)):
        before = plain[index]["mask"]
        grows = int((shifted(before, 0) == 0).sum()) > int((before == 0).sum())
        if grows:  # if not, as much of class 0 went out at the other side
            with pytest.raises(
                LulcbenchError, match=r"shift made a mask with more pixels of class 0 than before"
            ) as error:
                bare[index]
            assert "SpatialTransform" in error.value.remedy
        refused += grows
    assert refused > 0.9 * len(plain)


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: mask.flip(-1),
        lambda mask: mask.rot90(),
        lambda mask: mask[3:30, 5:20],
        lambda mask: torch.where(mask == mask[0, 0], IGNORE_INDEX, mask),
        lambda mask: shifted(mask, IGNORE_INDEX),
        lambda mask: mask.to(torch.uint8),
        lambda mask: mask.float(),
    ],
)
def test_callables_that_make_up_no_label_need_no_wrapping(release_root: Path, change: Callable[[Tensor], Any]) -> None:
    plain = LuisaSeg(release_root, sensors="landsat")[3]
    done = LuisaSeg(release_root, sensors="landsat", transforms=lambda s: s | {"mask": change(s["mask"])})[3]
    assert torch.equal(done["mask"], change(plain["mask"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: (mask == mask[0, 0]).long(),
        lambda mask: mask + 1,
        lambda mask: mask - 1,
        lambda mask: mask + 0.5,
        lambda mask: torch.full_like(mask, -1),
        lambda mask: mask.repeat_interleave(2, -1),
    ],
)
def test_callables_that_change_labels_must_declare_it(release_root: Path, change: Callable[[Tensor], Any]) -> None:
    def relabel(sample: Sample) -> Sample:
        return sample | {"mask": change(sample["mask"])}

    plain = LuisaSeg(release_root, sensors="landsat")[3]
    with pytest.raises(
        LulcbenchError, match=r"relabel made a mask with (more pixels of class \d+ than before|no classes)"
    ):
        LuisaSeg(release_root, sensors="landsat", transforms=relabel)[3]
    done = LuisaSeg(release_root, sensors="landsat", transforms=LabelTransform(relabel))[3]
    assert torch.equal(done["mask"], change(plain["mask"]))


def test_chains_of_several_libraries_and_of_functions(release_root: Path) -> None:
    seen = []

    def look(sample: Sample) -> Sample:
        seen.append(sample["mask"].clone())
        return sample

    make = lambda: v2.RandomRotation((30, 30))  # noqa: E731
    turn = kornia(K.RandomHorizontalFlip(p=1.0))
    plain = LuisaSeg(release_root, sensors="landsat", level=2)[3]
    wanted = expected(make, plain, 0)["mask"]
    for chain in (v2.Compose([look, make(), look, turn, look]), nn.Sequential(make(), turn)):
        done = LuisaSeg(release_root, sensors="landsat", level=2, transforms=chain)[3]
        assert torch.equal(done["mask"], wanted.flip(-1))
    before, middle, after = seen
    assert torch.equal(before, plain["mask"])  # functions see classes
    assert torch.equal(middle, wanted)
    assert torch.equal(after, wanted.flip(-1))


def test_functions_within_torchvision_are_functions(release_root: Path) -> None:
    relabel = v2.Lambda(lambda mask: mask + 1, tv_tensors.Mask)
    for transform in (relabel, v2.RandomApply([v2.RandomRotation(30), relabel], p=1.0)):
        with pytest.raises(LulcbenchError, match="more pixels of class"):
            LuisaSeg(release_root, sensors="landsat", transforms=transform)[3]


@pytest.mark.parametrize("wrap", [lambda t: t, SpatialTransform, lambda t: nn.Sequential(t, Gain(0.0))])
def test_augmentations_of_batches_treat_all_of_a_sample_alike(release_root: Path, wrap: Any) -> None:
    options: dict[str, Any] = {"sensors": "landsat", "level": (1, 2, 3, 4), "clear_counts": True}
    for dataset in (LuisaSeg, LuisaSeries):
        flat = {"flatten": False} if dataset is LuisaSeg else {}
        # Wrapped, it is a transform like any other, which does not know of these counts.
        given = options | {"clear_counts": type(wrap(Dihedral())) is not SpatialTransform}
        plain = dataset(release_root, **given, **flat)[5]  # type: ignore[arg-type]
        found = set()
        for _ in range(12):
            turned = dataset(release_root, **given, **flat, transforms=wrap(Dihedral()))[5]  # type: ignore[arg-type]
            entries = [key for key in plain if key.startswith(("image", "mask", "clear"))]
            fits = [
                k for k in range(8) if all(torch.allclose(dihedral(plain[e], k), turned[e], atol=1e-6) for e in entries)
            ]
            assert fits
            found.update(fits)
        assert len(found) > 1


def test_augmentations_of_batches_work_on_single_chips(release_root: Path) -> None:
    for flatten in (True, False):
        plain = LuisaCls(release_root, sensors="landsat", level=1, flatten=flatten)
        moved = LuisaCls(release_root, sensors="landsat", level=1, flatten=flatten, transforms=Affine(0.0, 0.0, 0.0))
        torch.testing.assert_close(moved[0]["image"], plain[0]["image"], atol=1e-4, rtol=0)
        assert moved[0]["label"] == plain[0]["label"]
    mixed = LuisaCls(release_root, sensors="landsat", level=1, transforms=Mix(mixup=0.2))
    with pytest.raises(LulcbenchError, match="was given one sample"):
        mixed[0]
