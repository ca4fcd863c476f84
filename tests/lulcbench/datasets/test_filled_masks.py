"""Pixels that transforms fill are ignored in masks, for every library, and never a class.

The expectation comes from the library itself: the same transform, with the same random numbers, of a mask in which each
pixel holds its own number. Where that comes out as 0, the transform had no pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from lulcbench import LuisaChange, LuisaCls, LuisaSeg, LuisaSeries
from lulcbench.datasets._transforms import apply
from lulcbench.legend import IGNORE_INDEX
from tests.lulcbench.datasets.transformed import (
    BOTH,
    expected,
    kornia,
    samples,
    with_seed,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Default grid_sample and affine_grid behavior"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.*treespec.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
]


@pytest.mark.slow
@pytest.mark.parametrize("make", BOTH)
def test_no_transform_of_a_library_makes_up_labels(release_root: Path, make: Callable[[], nn.Module]) -> None:
    for (kind, options), plain in samples(release_root):
        wanted = expected(make, plain, 3)
        done = with_seed(lambda s, k=kind, o=options: k(release_root, transforms=make(), **o)[9], plain, 3)
        for key, mask in wanted.items():
            assert done[key].dtype == plain[key].dtype
            assert torch.equal(done[key], mask), key
        if kind is LuisaChange:
            before, after, changed = (done[key] for key in ("mask_from", "mask_to", "mask"))
            known = (before != IGNORE_INDEX) & (after != IGNORE_INDEX)
            assert torch.equal(changed[known] == 1, (before != after)[known])
            assert (changed[~known] == IGNORE_INDEX).all()


@pytest.mark.parametrize("kind", ["torchvision", "kornia"])
def test_the_corners_of_a_rotation_are_those_of_geometry(release_root: Path, kind: str) -> None:
    """Pixels whose centre, turned back by 30 degrees, lies outside of the window, counted in numpy."""
    make = {"torchvision": v2.RandomRotation((30, 30)), "kornia": kornia(K.RandomRotation((30.0, 30.0), p=1.0))}[kind]
    plain, done = (LuisaSeg(release_root, sensors="landsat", transforms=t)[3] for t in (None, make))
    size = 40
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    angle = np.deg2rad(30)
    back = np.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y])
    outside = (np.abs(back) > size / 2).any(0)
    assert 200 < outside.sum() < 300
    assert not (plain["mask"] == IGNORE_INDEX).any()
    assert int((torch.from_numpy(outside) != (done["mask"] == IGNORE_INDEX)).sum()) <= 8  # on the very border
    assert (done["image"][:, torch.from_numpy((np.abs(back) > size / 2 + 1).any(0))] == 0).all()  # nodata


@pytest.mark.parametrize("fill", [1, 7, 114, 127, 255, -1, {tv_tensors.Image: 0, tv_tensors.Mask: 255}])
def test_what_masks_are_filled_with_does_not_matter(release_root: Path, fill: Any) -> None:
    first, second = (
        LuisaSeg(release_root, sensors="landsat", level=1, transforms=v2.Pad(4, fill=value))[3]["mask"]
        for value in (0, fill)
    )
    assert torch.equal(first, second)
    assert int((first == IGNORE_INDEX).sum()) == 48 * 48 - 40 * 40


def test_labels_that_were_ignored_stay_so(release_root: Path) -> None:
    plain = LuisaSeg(release_root, sensors="landsat", level=2)[3]
    plain["mask"][5:20, 7:30] = IGNORE_INDEX
    for make in (lambda: v2.RandomRotation((30, 30)), lambda: kornia(K.RandomRotation((30.0, 30.0), p=1.0))):
        wanted = expected(make, plain, 0)["mask"]
        done = with_seed(lambda s, m=make: apply(m(), s), dict(plain), 0)["mask"]
        assert torch.equal(done, wanted)
        assert int((done == IGNORE_INDEX).sum()) > 300 + 200
    nothing = plain | {"mask": torch.full((40, 40), IGNORE_INDEX)}
    assert (apply(v2.RandomRotation((30, 30)), nothing)["mask"] == IGNORE_INDEX).all()


@pytest.mark.parametrize("classes", [1, 2, 46, 126, 127, 128, 200, 254])
def test_masks_of_any_number_of_classes(classes: int) -> None:
    mask = torch.arange(40 * 40).view(40, 40) % classes
    sample = {"image": torch.rand(3, 40, 40), "mask": mask}
    make = lambda: v2.RandomAffine(20, (0.2, 0.2), (0.7, 1.3), 10)  # noqa: E731
    done = with_seed(lambda s: apply(make(), s), sample, 1)["mask"]
    assert torch.equal(done, expected(make, sample, 1)["mask"])


def test_single_labels_and_series_of_pixels_are_untouched(release_root: Path) -> None:
    turn = v2.RandomRotation((30, 30))
    plain, done = (LuisaCls(release_root, sensors="landsat", transforms=t)[3] for t in (None, turn))
    assert done["label"] == plain["label"]
    assert not torch.equal(done["image"], plain["image"])
    for level in (3, (1, 3)):
        plain, done = (LuisaSeries(release_root, window=30, level=level, transforms=t)[7] for t in (None, turn))
        assert torch.equal(done["mask"], plain["mask"])
    make = lambda: v2.RandomRotation((30, 30))  # noqa: E731
    plain, done = (LuisaSeries(release_root, level=2, transforms=t)[3] for t in (None, make()))
    assert torch.equal(done["mask"], expected(make, plain, 0)["mask"])


@pytest.mark.parametrize(
    "options",
    [
        {"flatten": False},
        {"sensors": ("landsat", "sentinel2")},
        {"mask_resolution": "label"},
        {"normalize": "device"},
        {"normalize": False, "level": (1, 2)},
    ],
)
def test_every_form_of_image_that_torchvision_takes(release_root: Path, options: dict[str, Any]) -> None:
    options = {"sensors": "landsat"} | options
    plain, done = (LuisaSeg(release_root, transforms=t, **options)[3] for t in (None, v2.RandomRotation((30, 30))))
    wanted = expected(lambda: v2.RandomRotation((30, 30)), {"mask": plain["mask"]}, 0)["mask"]
    assert torch.equal(done["mask"], wanted)
