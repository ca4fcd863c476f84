"""Loss, augmentation, checkpoints, sampling: each against what it must do by definition."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.config import AugmentConfig
from baselines.data.arrays import Arrays, EpochSampler, check_finite
from baselines.predicting.predict import decide
from baselines.tasks.losses import FlatLoss, HierarchicalLoss, area_average
from baselines.training.augment import augment, dihedral, generator, mix, undo_dihedral
from baselines.training.calibrate import temper
from baselines.training.checkpoint import SafeCheckpoint
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend

RNG = np.random.default_rng(0)


def targets(codes: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([legend().encode(codes, level) for level in LEVELS], 1))


def test_hierarchical_loss_is_the_mean_log_likelihood_of_the_levels() -> None:
    codes = RNG.choice(legend().codes(4), (2, 6, 6)).astype(np.uint16)
    logits = torch.randn(2, 46, 6, 6)
    p = logits.softmax(1).numpy()
    expected = []
    for level in LEVELS:
        parents, index = legend().parents(4, level), legend().encode(codes, level)
        coarse = np.stack([p[:, parents == c].sum(1) for c in range(len(legend().codes(level)))], 1)
        expected.append(-np.log(np.take_along_axis(coarse, index[:, None].astype(int), 1)).mean())
    assert float(HierarchicalLoss(4)(logits, targets(codes))) == pytest.approx(np.mean(expected), rel=1e-5)


def test_autocast_leaves_loss_and_coordinates_in_full_precision() -> None:
    logits, images = torch.randn(1, 46, 40, 40), torch.randn(4, 3, 16, 16)
    target = targets(RNG.choice(legend().codes(4), (1, 24, 24)).astype(np.uint16))
    config = AugmentConfig(dihedral=False, affine=(15, 0.1, 0.1))
    label = torch.zeros(4, 1, dtype=torch.uint8)
    loss, moved = HierarchicalLoss(4)(logits, target), augment(images, label, config, generator(0))[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert float(HierarchicalLoss(4)(logits, target)) == float(loss)
        assert torch.equal(augment(images, label, config, generator(0))[0], moved)


def test_ignored_pixels_move_nothing_and_coarse_labels_count_where_they_can() -> None:
    codes = np.full((1, 4, 4), 3110, np.uint16)
    loss, logits = HierarchicalLoss(4), torch.randn(1, 46, 4, 4, requires_grad=True)
    codes[0, :2] = 0
    value = loss(logits, targets(codes))
    value.backward()
    assert logits.grad is not None
    assert logits.grad[:, :, :2].abs().max() == 0
    assert logits.grad[:, :, 2:].abs().max() > 0
    assert float(loss(logits.detach(), targets(np.zeros_like(codes)))) == 0
    coarse = targets(np.full((1, 4, 4), 112, np.uint16))
    assert (coarse[:, 3] == IGNORE_INDEX).all()
    assert float(loss(logits.detach(), coarse)) > 0


def test_flat_loss_ignores_and_smooths() -> None:
    logits, target = torch.randn(3, 10), torch.tensor([[1], [IGNORE_INDEX], [2]], dtype=torch.uint8)
    expected = -logits.log_softmax(1)[[0, 2], [1, 2]].mean()
    assert float(FlatLoss()(logits, target)) == pytest.approx(float(expected))
    assert float(FlatLoss(0.1)(logits, target)) != pytest.approx(float(expected))


@pytest.mark.parametrize("size", [160, 480])
def test_area_average_keeps_sums(size: int) -> None:
    p = torch.randn(1, 5, size, size).softmax(1)
    coarse = area_average(p, (96, 96))
    assert coarse.shape == (1, 5, 96, 96)
    torch.testing.assert_close(coarse.sum(1), torch.ones(1, 96, 96))
    torch.testing.assert_close(coarse.mean((2, 3)), p.mean((2, 3)))


def test_area_average_learns_after_it_only_looked() -> None:
    p = torch.rand(1, 2, 13, 13, requires_grad=True)
    with torch.inference_mode():
        area_average(p, (7, 7))
    area_average(p, (7, 7)).sum().backward()
    assert p.grad is not None


@pytest.mark.parametrize("k", range(8))
def test_symmetries_are_undone(k: int) -> None:
    x = torch.arange(2 * 9).view(2, 3, 3)
    assert torch.equal(undo_dihedral(dihedral(x, k), k), x)


def test_the_eight_symmetries_differ() -> None:
    x = torch.arange(9).view(3, 3)
    assert len({tuple(dihedral(x, k).flatten().tolist()) for k in range(8)}) == 8


def test_labels_turn_with_images_across_resolutions() -> None:
    label = torch.randint(0, 5, (16, 1, 6, 6), dtype=torch.uint8)
    image = label.float().repeat_interleave(5, 2).repeat_interleave(5, 3)
    turned, labels = augment(image, label, AugmentConfig(), generator(3))
    assert torch.equal(turned, labels.float().repeat_interleave(5, 2).repeat_interleave(5, 3))
    assert not torch.equal(turned, image)
    again, _ = augment(image, label, AugmentConfig(), generator(3))
    assert torch.equal(turned, again)
    other, _ = augment(image, label, AugmentConfig(), generator(4))
    assert not torch.equal(turned, other)


def test_noise_gain_and_affine_do_what_they_say() -> None:
    images, labels = torch.randn(64, 3, 16, 16), torch.zeros(64, 1, dtype=torch.uint8)
    plain = AugmentConfig(dihedral=False)
    assert torch.equal(augment(images, labels, plain, generator(0))[0], images)
    noisy = augment(images, labels, AugmentConfig(dihedral=False, noise=0.5), generator(0))[0]
    assert float((noisy - images).std()) == pytest.approx(0.5, rel=0.05)
    gained = augment(images, labels, AugmentConfig(dihedral=False, gain=0.1), generator(0))[0]
    assert 0 < float((gained - images).abs().mean()) < 0.5
    smooth = torch.linspace(-1, 1, 16).expand(8, 1, 16, 16).contiguous()
    moved = augment(smooth, labels[:8], AugmentConfig(dihedral=False, affine=(20, 0.1, 0.1)), generator(0))[0]
    assert moved.shape == smooth.shape
    assert 0.01 < float((moved - smooth).abs().mean()) < 0.5


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_mixing_keeps_the_share_it_reports(way: str) -> None:
    images = torch.stack([torch.full((1, 32, 32), float(i)) for i in range(8)])
    mixed, partner, weight = mix(images, AugmentConfig(**{way: 1.0}), generator(5))
    expected = weight * torch.arange(8.0) + (1 - weight) * partner
    torch.testing.assert_close(mixed.mean((1, 2, 3)), expected, rtol=1e-4, atol=1e-4)
    assert mix(images, AugmentConfig(**{way: 1.0}, mix_probability=0), generator(5))[2] == 1.0


def test_checkpoints_come_back_as_they_were(tmp_path: Path) -> None:
    shared = torch.randn(3)
    tree = {"a": shared, "b": [shared, (1, 2.5, None, True, "x")], 3: {"c": torch.tensor(4)}}
    tree["d"] = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    path = tmp_path / "last.ckpt"
    SafeCheckpoint().save_checkpoint(tree, path)
    back = SafeCheckpoint().load_checkpoint(path)
    assert torch.equal(back["a"], shared)
    assert back["b"][1] == (1, 2.5, None, True, "x")
    assert int(back[3]["c"]) == 4
    assert back["d"].stride() == tree["d"].stride()
    assert torch.equal(back["d"], tree["d"])
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(LulcbenchError, match="no whole checkpoint"):
        SafeCheckpoint().load_checkpoint(path)


def test_interrupted_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    SafeCheckpoint().save_checkpoint({"step": 1}, path)
    with pytest.raises(TypeError, match="cannot hold"):
        SafeCheckpoint().save_checkpoint({"step": object()}, path)
    assert SafeCheckpoint().load_checkpoint(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_takes_every_sample_once(world: int) -> None:
    taken = [i for rank in range(world) for i in EpochSampler(10, 0, False, rank, world)]
    assert Counter(taken) == Counter(range(10))


def test_training_order_depends_on_seed_and_epoch_and_is_split_evenly() -> None:
    parts = [list(EpochSampler(11, 0, True, rank, 2)) for rank in range(2)]
    assert [len(part) for part in parts] == [5, 5]
    assert len({*parts[0], *parts[1]}) == 10
    sampler = EpochSampler(11, 0, True)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(EpochSampler(11, 0, True)) == first


def test_large_data_stay_on_the_host_and_are_never_copied() -> None:
    arrays = Arrays(torch.zeros(5, 1, 2, 2), torch.zeros(5, 1, dtype=torch.uint8), tuple("abcde"))
    assert arrays.nbytes == 5 * (16 + 1)
    device = torch.device("meta")
    assert arrays.to(device).images.device == device
    host = arrays.to(device, resident=False)
    assert host.images is arrays.images
    images, labels = host.gather(torch.tensor([1, 3]))
    assert images.device == labels.device == device
    assert images.shape == (2, 1, 2, 2)
    assert deepcopy(arrays).images is arrays.images  # the moving average copies the task


def test_nan_inputs_are_refused() -> None:
    images = torch.zeros(3, 1, 2, 2)
    images[1, 0, 0, 0] = float("nan")
    with pytest.raises(LulcbenchError, match="sample 1"):
        check_finite(images, "train")


def test_temperature_divides_logits() -> None:
    logits = torch.randn(4, 7)
    torch.testing.assert_close(temper(logits.softmax(1), 2.0), (logits / 2).softmax(1))


def test_classes_are_decided_from_the_top_down() -> None:
    codes = list(legend().codes(4))
    p = np.zeros((46, 1, 2), np.float32)
    p[codes.index(2110), 0] = 0.4  # agriculture holds the likeliest single class …
    for code in (3110, 3120, 3130):
        p[codes.index(code), 0, 0] = 0.2  # … but forest as a whole is likelier in the first pixel
    p[codes.index(3110), 0, 1] = 0.35
    assert [codes[i] for i in decide(p, 4)[0]] == [3110, 2110]
    only = np.eye(46, dtype=np.float32)[:, :, None]
    assert (decide(only, 4)[:, 0] == np.arange(46)).all()
