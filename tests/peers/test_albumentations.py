"""Transforms of albumentations are used as they are; pixels that they fill are ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lulcbench import LuisaChange, LuisaSeg
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX

A = pytest.importorskip("albumentations", reason="not installed: make test-peers")
cv2 = pytest.importorskip("cv2")

OPTIONS: dict[str, Any] = {"sensors": "landsat", "level": 1}
STEPS = {
    "rotation": lambda: A.Rotate((30, 60), p=1.0),
    "affine": lambda: A.Affine(scale=(0.5, 0.8), translate_percent=0.2, rotate=20, p=1.0),
    "padding": lambda: A.PadIfNeeded(50, 60),
    "dropout": lambda: A.CoarseDropout(fill_mask=0, p=1.0),
    "reflected": lambda: A.Rotate((30, 60), border_mode=cv2.BORDER_REFLECT, p=1.0),
    "flip": lambda: A.HorizontalFlip(p=1.0),
}


@pytest.mark.parametrize("name", STEPS)
def test_masks_hold_what_the_library_moves_and_nothing_else(release_root: Path, name: str) -> None:
    """The expectation: the same transform, with the same seed, of a mask in which each pixel holds its number."""
    plain = LuisaSeg(release_root, **OPTIONS)[9]
    image = plain["image"].movedim(0, -1).numpy()
    numbers = np.arange(1, plain["mask"].numel() + 1, dtype=np.float32).reshape(plain["mask"].shape)
    filled = A.Compose([STEPS[name]()], seed=7)(image=image, mask=numbers)
    wanted = torch.cat([torch.tensor([IGNORE_INDEX]), plain["mask"].flatten()])[torch.from_numpy(filled["mask"]).long()]
    done = LuisaSeg(release_root, transforms=A.Compose([STEPS[name]()], seed=7), **OPTIONS)[9]
    assert torch.equal(done["mask"], wanted)
    assert torch.equal(done["image"], torch.from_numpy(filled["image"]).movedim(-1, 0))
    assert bool((wanted == IGNORE_INDEX).any()) == (name not in ("flip", "reflected"))
    assert done["tile"] == plain["tile"]


def test_seasons_and_levels_are_moved_together(release_root: Path) -> None:
    options = OPTIONS | {"flatten": False, "level": (1, 3)}
    plain = LuisaSeg(release_root, **options)[9]
    done = LuisaSeg(release_root, transforms=A.HorizontalFlip(p=1.0), **options)[9]
    for key in ("image", "mask"):
        assert torch.equal(done[key], plain[key].flip(-1))


def test_several_images_and_other_sizes_are_refused(release_root: Path) -> None:
    flip = A.HorizontalFlip(p=1.0)
    with pytest.raises(LulcbenchError, match="one image and one mask"):
        LuisaChange(release_root, transforms=flip)[0]
    with pytest.raises(LulcbenchError, match="of one size"):
        LuisaSeg(release_root, sensors="sentinel2", mask_resolution="label", transforms=flip)[0]
