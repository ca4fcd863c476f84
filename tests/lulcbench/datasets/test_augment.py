"""Augmentations: what each does to images, and that labels follow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lulcbench.datasets.augment import Affine, Dihedral, Gain, Mix, Noise, dihedral, seeded, undo_dihedral
from lulcbench.errors import LulcbenchError


def run(augment: nn.Module, batch: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    with seeded(seed):
        return augment(batch)  # type: ignore[no-any-return]


@pytest.mark.parametrize("k", range(8))
def test_symmetries_are_undone(k: int) -> None:
    x = torch.arange(2 * 9).view(2, 3, 3)
    assert torch.equal(undo_dihedral(dihedral(x, k), k), x)


def test_the_eight_symmetries_differ() -> None:
    x = torch.arange(9).view(3, 3)
    assert len({tuple(dihedral(x, k).flatten().tolist()) for k in range(8)}) == 8


def test_turning_keeps_sensors_and_labels_aligned() -> None:
    coarse = torch.rand(32, 1, 4, 4)
    batch = {
        "image": {"landsat": coarse, "sentinel2": coarse.repeat_interleave(3, -1).repeat_interleave(3, -2)},
        "mask": (coarse * 1000).long(),
        "tile": ["E0000N0000"] * 32,
    }
    turned = run(Dihedral(), batch)
    assert torch.equal(turned["image"]["sentinel2"][..., ::3, ::3], turned["image"]["landsat"])
    assert torch.equal(turned["mask"], (turned["image"]["landsat"] * 1000).long())
    assert turned["tile"] == batch["tile"]
    ways = [
        [k for k in range(8) if torch.equal(dihedral(before, k), after)]
        for before, after in zip(coarse, turned["image"]["landsat"], strict=True)
    ]
    assert sorted(k for (k,) in ways) == sorted(4 * list(range(8)))  # each symmetry equally often
    assert all(map(torch.equal, run(Dihedral(), batch)["mask"], turned["mask"]))
    assert not torch.equal(run(Dihedral(), batch, 1)["mask"], turned["mask"])


@pytest.mark.parametrize(
    "batch",
    [
        {"image": torch.rand(1, 1, 2, 3)},
        {"image": torch.rand(4, 6, 6), "mask": torch.zeros(4)},  # series of 6 dates and 6 bands, none of them pixels
    ],
    ids=["oblong", "pixels"],
)
def test_what_has_no_squares_cannot_be_turned(batch: dict[str, Any]) -> None:
    with pytest.raises(LulcbenchError, match="not square"):
        Dihedral()(batch)


def test_noise_gain_and_affine_change_images_by_what_they_say() -> None:
    images = torch.randn(64, 3, 16, 16)
    noise = run(Noise(0.5), {"image": images})["image"] - images
    assert float(noise.std()) == pytest.approx(0.5, rel=0.05)
    gained = run(Gain(0.1), {"image": images})["image"]
    design = torch.stack([images[3, 1].flatten(), torch.ones(256)], 1)  # one gain and offset per sample and channel
    fit = torch.linalg.lstsq(design, gained[3, 1].flatten()[:, None]).solution.flatten()
    torch.testing.assert_close(design @ fit, gained[3, 1].flatten())
    assert 0 < abs(float(fit[0]) - 1) < 0.5
    smooth = torch.linspace(-1, 1, 16).expand(8, 1, 16, 16).contiguous()
    moved = run(Affine(20, 0.1, 0.1), {"image": smooth})["image"]
    assert moved.shape == smooth.shape
    assert 0.01 < float((moved - smooth).abs().mean()) < 0.5


def test_affine_shifts_and_zooms_by_at_most_its_limits() -> None:
    ramp = ((torch.arange(65) + 0.5) / 65 * 2 - 1).expand(256, 1, 65, 65)  # coordinates of pixel centres
    centres = run(Affine(0, 0.1, 0), {"image": ramp})["image"][:, 0, 32, 32]
    assert float(centres.abs().max()) <= 0.2 + 1e-5  # a tenth of the side, which is 2 long
    assert float(centres.abs().max()) > 0.15
    zoomed = run(Affine(0, 0, 0.25), {"image": ramp})["image"]
    slopes = (zoomed[:, 0, 32, 40] - zoomed[:, 0, 32, 24]) / (ramp[0, 0, 32, 40] - ramp[0, 0, 32, 24])
    assert 1 / 1.25 - 1e-4 <= float(slopes.min()) < 0.9
    assert 1.1 < float(slopes.max()) <= 1.25 + 1e-4


def test_affine_moves_all_sensors_alike_and_would_blur_masks() -> None:
    ramp = torch.linspace(-1, 1, 32).expand(4, 2, 32, 32)
    batch = {"image": {"a": ramp, "b": nn.functional.interpolate(ramp, scale_factor=2, mode="bilinear")}}
    moved = run(Affine(30, 0.1, 0.1), batch)["image"]
    halved = nn.functional.avg_pool2d(moved["b"], 2)
    torch.testing.assert_close(halved[..., 8:24, 8:24], moved["a"][..., 8:24, 8:24], atol=0.02, rtol=0)
    with pytest.raises(LulcbenchError, match="blur"):
        Affine(30, 0.1, 0.1)({"image": ramp, "mask": torch.zeros(4, 32, 32)})


def test_autocast_leaves_coordinates_in_full_precision() -> None:
    batch = {"image": torch.randn(4, 3, 16, 16)}
    moved = run(Affine(15, 0.1, 0.1), batch)["image"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(Affine(15, 0.1, 0.1), batch)["image"], moved)


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_mixing_keeps_the_share_it_reports(way: str) -> None:
    numbers = torch.arange(8)
    fine = numbers.float()[:, None, None, None].expand(8, 1, 32, 32)
    batch = {"image": {"a": fine, "b": fine[..., ::2, ::2]}, "label": numbers}
    for seed in range(5):
        mixed = run(Mix(**{way: 1.0}), batch, seed)
        weight = mixed["label_weight"]
        expected = weight * mixed["label"] + (1 - weight) * mixed["label_partner"]
        torch.testing.assert_close(mixed["image"]["a"].mean((1, 2, 3)), expected, rtol=1e-4, atol=1e-4)
        near = mixed["image"]["a"][..., ::2, ::2] - mixed["image"]["b"]  # the same box, to a pixel of the coarser
        assert float((near.abs() > 1e-5).float().mean()) < 0.13
    assert run(Mix(**{way: 1.0}, p=0), batch) == batch


def test_masks_cannot_be_mixed() -> None:
    with pytest.raises(LulcbenchError, match="one label per sample"):
        Mix(mixup=1.0)({"image": torch.zeros(2, 1, 4, 4), "mask": torch.zeros(2, 4, 4)})


def test_seeding_puts_the_generator_back() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = torch.rand(2)
    with seeded(9):
        inside = torch.rand(2)
    assert torch.equal(torch.cat([first, torch.rand(2)]), expected)
    with seeded(9):
        assert torch.equal(torch.rand(2), inside)


def test_noise_and_gain_leave_nodata_as_it_is() -> None:
    image = torch.rand(2, 3, 8, 8) + 0.1
    image[:, :, 2] = 0
    for augment in (Noise(0.5), Gain(0.5)):
        changed = augment({"image": image})["image"]
        assert (changed[:, :, 2] == 0).all()
        assert (changed[:, :, 3] != image[:, :, 3]).all()
