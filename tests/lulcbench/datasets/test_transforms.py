"""Transforms of single samples: torchvision's, Kornia's and plain functions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2

from lulcbench import LuisaChange, LuisaCls, LuisaSeg, LuisaSeries
from lulcbench.datasets import collate
from lulcbench.legend import IGNORE_INDEX

FLIP = v2.RandomHorizontalFlip(p=1.0)
KINDS: list[tuple[Any, dict[str, Any]]] = [
    (LuisaSeg, {"sensors": "landsat"}),
    (LuisaSeg, {"sensors": "landsat", "flatten": False, "level": (1, 3), "mask_resolution": "label"}),
    (LuisaSeg, {"sensors": "landsat", "normalize": "device"}),
    (LuisaSeg, {"sensors": ("sentinel2", "landsat")}),
    (LuisaCls, {"sensors": "landsat"}),
    (LuisaChange, {}),
    (LuisaSeries, {}),
]


def parts(sample: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Images and masks of a sample, those of several sensors one by one."""
    found = {}
    for key, value in sample.items():
        if key.startswith(("image", "mask")):
            found |= (
                {f"{key}.{name}": part for name, part in value.items()} if isinstance(value, dict) else {key: value}
            )
    return found


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=[f"{k.__name__}-{'-'.join(o)}" for k, o in KINDS])
@pytest.mark.parametrize(
    "flip",
    [FLIP, v2.Compose([FLIP]), nn.Sequential(FLIP), v1.Compose([FLIP])],
    ids=["bare", "compose", "sequential", "v1-compose"],
)
def test_flips_of_torchvision_turn_images_and_masks(
    release_root: Path, kind: Any, options: dict[str, Any], flip: Any
) -> None:
    plain, flipped = kind(release_root, **options)[3], kind(release_root, transforms=flip, **options)[3]
    before, after = parts(plain), parts(flipped)
    assert set(before) == set(after)
    assert any(len(value.unique()) > 1 for key, value in before.items() if key.startswith("mask")) or kind is LuisaCls
    for key, value in after.items():
        assert type(value) is torch.Tensor
        assert value.dtype == before[key].dtype
        assert torch.equal(value.to(torch.float64), before[key].to(torch.float64).flip(-1)), key
    assert {key: type(value) for key, value in plain.items()} == {key: type(value) for key, value in flipped.items()}
    assert plain["tile"] == flipped["tile"]
    assert torch.equal(plain["bounds"], flipped["bounds"])


def test_crops_of_torchvision_are_of_one_place(release_root: Path) -> None:
    plain = LuisaSeg(release_root, sensors="landsat")
    cropped = LuisaSeg(release_root, sensors="landsat", transforms=v2.Compose([v2.RandomCrop(32), v2.CenterCrop(30)]))
    for index in range(6):
        whole, crop = plain[index], cropped[index]
        assert crop["image"].shape == (24, 30, 30)
        matches = [
            (y, x)
            for y in range(11)
            for x in range(11)
            if torch.equal(whole["image"][:, y : y + 30, x : x + 30], crop["image"])
        ]
        assert len(matches) == 1
        y, x = matches[0]
        assert torch.equal(whole["mask"][y : y + 30, x : x + 30], crop["mask"])


def test_other_transforms_of_torchvision(release_root: Path) -> None:
    steps = v2.Compose([v2.RandomVerticalFlip(p=1.0), v2.Normalize([1.0] * 24, [2.0] * 24)])
    plain = LuisaSeg(release_root, sensors="landsat")[3]
    done = LuisaSeg(release_root, sensors="landsat", transforms=steps)[3]
    torch.testing.assert_close(done["image"], (plain["image"].flip(-2) - 1) / 2)
    assert torch.equal(done["mask"], plain["mask"].flip(-2))
    outside = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE_INDEX}
    wide = LuisaSeg(release_root, sensors="landsat", transforms=v2.Pad(1, fill=outside))[3]
    assert (wide["image"][:, 0] == 0).all()
    assert (wide["mask"][0] == IGNORE_INDEX).all()


def test_chance_is_the_same_for_all_of_a_sample(release_root: Path) -> None:
    torch.manual_seed(0)
    options = {"sensors": ("sentinel2", "landsat"), "window": 1200}
    plain = LuisaSeg(release_root, **options)
    turned = LuisaSeg(release_root, transforms=v2.RandomHorizontalFlip(), **options)
    seen = set()
    for index in range(8):
        before, after = parts(plain[index]), parts(turned[index])
        ways = {
            torch.equal(after[key], before[key].flip(-1)) for key in before if not torch.equal(after[key], before[key])
        }
        still = [key for key in before if torch.equal(after[key], before[key])]
        assert ways <= {True}
        assert not still or len(still) == len(before)
        seen.add(bool(still))
    assert seen == {True, False}


def test_series_of_single_pixels_keep_their_bands_in_order(release_root: Path) -> None:
    steps = v2.Compose([FLIP, v2.Normalize([1.0] * 6, [2.0] * 6)])
    for level in (3, (1, 3)):
        plain = LuisaSeries(release_root, window=30, level=level)[7]
        done = LuisaSeries(release_root, window=30, level=level, transforms=steps)[7]
        torch.testing.assert_close(done["image"], (plain["image"] - 1) / 2)
        assert torch.equal(done["mask"], plain["mask"])
        assert torch.equal(done["dates"], plain["dates"])


def test_transformed_samples_make_batches(release_root: Path) -> None:
    batch = collate(LuisaChange(release_root, transforms=FLIP).__getitems__([0, 5]))
    plain = LuisaChange(release_root).read([0, 5])
    for key in parts(plain):
        assert torch.equal(batch[key], plain[key].flip(-1))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_kornia_and_plain_functions_get_plain_tensors(release_root: Path) -> None:
    import kornia.augmentation as K

    def check(sample: dict[str, Any]) -> dict[str, Any]:
        assert all(type(value) is torch.Tensor for value in parts(sample).values())
        return sample | {"seen": True}

    assert LuisaSeg(release_root, sensors="landsat", transforms=check)[0]["seen"]
    flip = K.AugmentationSequential(K.RandomHorizontalFlip(p=1.0), data_keys=None, keepdim=True)
    plain = LuisaSeg(release_root, sensors="landsat")[3]
    done = LuisaSeg(release_root, sensors="landsat", transforms=flip)[3]
    torch.testing.assert_close(done["image"], plain["image"].flip(-1))
    assert torch.equal(done["mask"], plain["mask"].flip(-1))


@pytest.mark.slow
def test_transforms_do_not_import_torchvision(release_root: Path) -> None:
    code = (
        "import sys; from lulcbench import LuisaSeg\n"
        f"LuisaSeg({str(release_root)!r}, sensors='landsat', transforms=lambda sample: sample)[0]\n"
        "print('torchvision' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
