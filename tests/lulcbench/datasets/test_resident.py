"""Datasets that are kept in memory whole give the very batches that are read from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lulcbench.datasets.resident
from lulcbench import LuisaChange, LuisaCls, LuisaSeg, LuisaSeries
from lulcbench.datasets import WindowLoader
from lulcbench.datasets.batch import Sample, Samples
from lulcbench.datasets.loader import ResidentLoader
from lulcbench.datasets.resident import ResidentDataset
from lulcbench.datasets.sampler import WindowSampler
from lulcbench.errors import LulcbenchError

KINDS: list[tuple[Any, dict[str, Any]]] = [
    (LuisaSeg, {"sensors": ("landsat", "sentinel2"), "level": (1, 2, 3, 4), "mask_resolution": "label"}),
    (LuisaSeg, {"sensors": "landsat", "normalize": "device", "flatten": False}),
    (LuisaCls, {"sensors": "landsat", "purity": 0.3}),
    (LuisaChange, {}),
    (LuisaSeries, {"window": 240}),
]


class Made:
    """A dataset of given entries, of any type."""

    split, fixed = "train", True

    def __init__(self, **entries: Any) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(next(iter(self.entries.values())))

    def read(self, indices: Sequence[int] | np.ndarray) -> Sample:
        return {key: value[torch.as_tensor(list(indices))] for key, value in self.entries.items()}

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        return Samples(self.read(indices), len(indices))

    def finish(self, batch: Sample) -> Sample:
        return batch

    def set_epoch(self, epoch: int) -> None:
        pass


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    return type(one) is type(other) and one == other


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=[f"{k.__name__}-{'-'.join(o)}" for k, o in KINDS])
def test_batches_are_those_that_the_dataset_reads(
    release_root: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, options: dict[str, Any]
) -> None:
    dataset = kind(release_root, **options)
    monkeypatch.setattr(lulcbench.datasets.resident, "READ_BYTES", 10**6)  # several pieces
    kept = ResidentDataset(dataset)
    assert len(kept) == len(dataset)
    order = np.random.default_rng(0).permutation(len(dataset))[:50].tolist()
    assert same(kept.read(order), dataset.read(order))


def test_masks_take_a_byte_per_pixel(release_root: Path) -> None:
    dataset = LuisaSeg(release_root, sensors="landsat", level=(1, 2, 3, 4))
    tensors = {key: value for key, value in dataset.read([0]).items() if isinstance(value, torch.Tensor)}
    assert tensors["mask"].dtype == torch.int64
    per_sample = sum(value.nbytes for value in tensors.values()) - 7 * tensors["mask"].numel()
    assert ResidentDataset.size(dataset) == len(dataset) * per_sample


def test_values_that_a_byte_cannot_hold_are_refused() -> None:
    masks = torch.zeros(3, 2, 2, dtype=torch.int64)
    masks[1] = 255
    assert same(ResidentDataset(Made(mask=masks)).read([1, 2]), {"mask": masks[1:]})
    for wrong in (-1, 256):
        masks[2, 0, 0] = wrong
        with pytest.raises(LulcbenchError, match="mask holds other values"):
            ResidentDataset(Made(mask=masks))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_images_that_are_not_finite_are_refused(wrong: float) -> None:
    images = torch.zeros(3, 1, 2, 2)
    images[1, 0, 0, 1] = wrong
    with pytest.raises(LulcbenchError, match=r"train: sample 1 holds NaN or infinite values \(image\)"):
        ResidentDataset(Made(image=images))


def test_all_of_uint16_is_kept() -> None:
    values = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(16, -1)
    assert same(ResidentDataset(Made(image=values)).read(range(16)), {"image": values})


def test_samples_lie_on_the_device_and_are_gathered_there(release_root: Path) -> None:
    kept = ResidentDataset(LuisaSeg(release_root, sensors="landsat", normalize="device"), "meta")
    batch = kept.read([1, 3, 3])
    assert {batch[key].device.type for key in ("image", "mask", "bounds")} == {"meta"}
    assert batch["image"].shape == (3, 24, 40, 40)
    assert (batch["image"].dtype, batch["mask"].dtype) == (torch.uint16, torch.int64)


def test_samples_that_change_cannot_be_kept(release_root: Path) -> None:
    for options in ({"phase": "random"}, {"transforms": lambda sample: sample}):
        dataset = LuisaSeg(release_root, sensors="landsat", **options)
        with pytest.raises(LulcbenchError, match="train split change from epoch to epoch"):
            ResidentLoader(dataset, 4)


def test_the_loader_gives_what_the_reading_one_gives_and_resumes(release_root: Path) -> None:
    dataset = LuisaSeg(release_root, sensors="landsat")
    loaders = [
        kind(dataset, 7, WindowSampler(dataset, seed=2), drop_last=True) for kind in (WindowLoader, ResidentLoader)
    ]
    for epoch in (0, 1):
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        read, gathered = map(list, loaders)
        assert len(read) == len(loaders[0]) == len(loaders[1]) == 64 // 7
        assert all(map(same, read, gathered))
    kept = loaders[1]
    batches = iter(kept)
    next(batches)
    next(batches)
    assert kept.state_dict() == {"epoch": 1, "batches": 2}
    again = ResidentLoader(kept.dataset, 7, WindowSampler(dataset, seed=2), drop_last=True)
    assert again.dataset is kept.dataset  # nothing is read again
    again.load_state_dict({"epoch": 1, "batches": 2})
    again.sampler.set_epoch(1)
    assert all(map(same, list(again), read[2:]))
