"""Batches: in which memory, in which order, turned how."""

from __future__ import annotations

import gc
import resource
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lulcbench import LuisaCls, LuisaSeg
from lulcbench.datasets import WindowLoader
from lulcbench.datasets._buffers import Buffers
from lulcbench.datasets.sampler import InOrder, WindowSampler, balanced


@pytest.fixture(scope="module")
def seg(release_root: Path) -> LuisaSeg:
    return LuisaSeg(release_root, window=1200, stride=600)


@pytest.mark.slow
def test_memory_is_used_again_only_when_nobody_holds_it() -> None:
    buffers, shape = Buffers(), (3, 1000)
    first = buffers.empty(shape, torch.float32)
    address = first.data_ptr()
    view = first[1:].numpy()
    del first
    gc.collect()
    assert buffers.empty(shape, torch.float32).data_ptr() != address
    del view
    gc.collect()
    both = [buffers.empty(shape, torch.float32) for _ in range(2)]
    assert address in {tensor.data_ptr() for tensor in both}


def test_threads_do_not_fight_for_memory() -> None:
    buffers = Buffers()

    class Vanishing(list[np.ndarray]):
        """Looks full until somebody takes from it, as a list does that another thread empties at that moment."""

        def __bool__(self) -> bool:
            return True

    buffers._free[40] = Vanishing()
    assert buffers.empty((10,), torch.float32).shape == (10,)


def test_memory_is_pinned_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    empty = torch.empty

    def record(*args: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        asked.append(pin_memory)
        return empty(*args, **options)

    monkeypatch.setattr(torch, "empty", record)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Buffers().empty((2, 3), torch.uint16).shape == (2, 3)
    assert asked == [True]
    # Worker processes leave pinning to the DataLoader.
    monkeypatch.setattr("lulcbench.datasets._buffers.get_worker_info", lambda: object())
    assert Buffers().empty((2, 3), torch.uint16).shape == (2, 3)
    assert asked == [True]


def test_images_and_masks_are_in_pinned_memory(release_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = LuisaSeg(release_root, sensors="landsat")
    expected = dataset.read([0, 1])
    pinned: set[int] = set()
    empty = torch.empty

    def record(*args: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        tensor = empty(*args, **options)
        if pin_memory:
            pinned.add(tensor.untyped_storage().data_ptr())
        return tensor

    monkeypatch.setattr(torch, "empty", record)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    batch = LuisaSeg(release_root, sensors="landsat").read([0, 1])
    for key in ("image", "mask"):
        assert batch[key].untyped_storage().data_ptr() in pinned
        assert torch.equal(batch[key], expected[key])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_epochs(release_root: Path) -> None:
    dataset = LuisaSeg(release_root)
    loader = WindowLoader(dataset, 16)

    def resident_after(epochs: int) -> int:
        for _ in range(epochs):
            for _batch in loader:
                pass
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    batch = dataset.read(range(16))["image"].nbytes
    before = resident_after(3)
    assert resident_after(10) - before < 2 * batch  # one batch lost an epoch would be ten


def test_batches_that_are_kept_keep_their_values(seg: LuisaSeg) -> None:
    batches = [seg.read([i])["image"] for i in range(8)]
    for i, image in enumerate(batches):
        torch.testing.assert_close(image, seg.read([i])["image"])


def test_samplers(release_root: Path) -> None:
    dataset = LuisaSeg(release_root, phase="systematic")
    sampler = WindowSampler(dataset, seed=1)
    sampler.set_epoch(2)
    order = list(sampler)
    assert sorted(order) == list(range(len(dataset)))
    assert dataset.epoch == 2
    sampler.set_epoch(2, start=10)
    assert list(sampler) == order[10:]
    assert len(sampler) == len(order) - 10
    sampler.set_epoch(3)
    assert list(sampler) != order

    chips = LuisaCls(release_root, sensors="landsat", level=2, purity=0.3)
    drawn = chips.labels[list(WindowSampler(chips, weights=balanced(chips)))]
    before, after = (np.bincount(labels, minlength=14) for labels in (chips.labels, drawn))
    present = before > 0
    assert after[present].std() < before[present].std()
    weights = balanced(dataset)
    assert len(weights) == len(dataset)
    assert float(weights.sum()) == pytest.approx(1)
    assert float(weights.max()) > float(weights.min())


@pytest.mark.parametrize("processes", [1, 2, 3, 200])
def test_each_sample_once_on_several_processes(
    release_root: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    dataset = LuisaSeg(release_root, sensors="landsat", split="test", window=960)
    shares: dict[bool, list[list[int]]] = {True: [], False: []}
    for rank in range(processes):
        monkeypatch.setattr("lulcbench.datasets.sampler._share", lambda rank=rank: (processes, rank))
        for pad, found in shares.items():
            sampler = InOrder(dataset, pad=pad)
            found.append(list(sampler))
            assert len(found[-1]) == len(sampler)
    assert sorted(chain(*shares[False])) == list(range(len(dataset)))
    assert len({len(share) for share in shares[True]}) == 1
    assert set(chain(*shares[True])) == set(range(len(dataset)))


def test_the_loader_keeps_order_and_passes_errors_on(seg: LuisaSeg) -> None:
    sampler = WindowSampler(seg, seed=4)
    loader = WindowLoader(seg, 16, sampler)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-len(seg) // 16)
    order = list(sampler)
    for k, batch in enumerate(batches):
        expected = seg.read(order[16 * k : 16 * k + 16])
        assert torch.equal(batch["image"], expected["image"])
        assert torch.equal(batch["bounds"], expected["bounds"])
    for batch in loader:  # left before its end
        assert len(batch["image"]) == 16
        break
    with pytest.raises(IndexError):
        list(WindowLoader(seg, 2, [0, 1, len(seg)]))
