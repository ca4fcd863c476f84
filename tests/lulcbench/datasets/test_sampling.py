"""The order of samples: balanced by class, for data of any size, on several processes, resumed anywhere."""

from __future__ import annotations

import tracemalloc
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from lulcbench import LuisaChange, LuisaCls, LuisaSeg
from lulcbench.datasets import WindowLoader, collate
from lulcbench.datasets.sampler import WindowSampler, balanced
from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend


class Huge:
    """Stands for a dataset with more samples than torch.multinomial takes."""

    split, fixed = "train", True

    def __init__(self, n: int = 2**24 + 3) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def on_process(monkeypatch: pytest.MonkeyPatch, rank: int, processes: int, *args: Any, **options: Any) -> list[int]:
    monkeypatch.setattr("lulcbench.datasets.sampler._share", lambda: (processes, rank))
    return list(WindowSampler(*args, **options))


def brute(dataset: LuisaSeg, years: tuple[int, ...]) -> np.ndarray:
    """The weights by the rule itself, window by window from the 50 m labels."""
    level = max(dataset.levels)
    fractions = {
        year: dataset.tiles[[f"luisa_{year}_{code}" for code in legend().codes(level)]].to_numpy() for year in years
    }
    weights = np.zeros(len(dataset))
    for i in range(len(dataset)):
        sample = dataset[i]
        share = fractions[int(sample["year"])].mean(axis=0)
        mask = sample["mask"].numpy()
        weights[i] = sum(1 / share[index] for index in mask[mask != 255]) / mask.size
    return weights / weights.sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("window", "stride", "year"), [(1200, 1200, 2018), (900, 450, (2012, 2018)), (None, None, 2012)]
)
def test_a_windows_weight_is_by_its_own_labels(release_root: Path, window: Any, stride: Any, year: Any) -> None:
    dataset = LuisaSeg(
        release_root, sensors="landsat", year=year, level=3, window=window, stride=stride, mask_resolution="label"
    )
    weights = balanced(dataset)
    assert weights.dtype == torch.float64
    np.testing.assert_allclose(weights, brute(dataset, dataset.years), rtol=1e-4)
    if window:
        of_a_tile = weights.view(len(dataset.tiles), -1)
        assert float((of_a_tile.max(1).values / of_a_tile.mean(1)).max()) > 1.2  # no tile lends all windows its weight


def test_rare_classes_come_more_often(release_root: Path) -> None:
    dataset = LuisaSeg(release_root, sensors="landsat", level=2, window=600, mask_resolution="label")
    classes = np.stack(
        [np.bincount(s["mask"].ravel(), minlength=256)[:14] for s in map(dataset.__getitem__, range(256))]
    )
    even = classes.sum(0)
    drawn = classes[list(WindowSampler(dataset, weights=balanced(dataset), seed=3))].sum(0)
    rare = (even > 0) & (even < even.sum() / 50)
    assert rare.any()
    assert (drawn[rare] > 1.5 * even[rare]).all()
    assert drawn[rare].sum() > 2 * even[rare].sum()


def test_pairs_of_years_and_single_pixels_have_weights(release_root: Path) -> None:
    pairs = LuisaChange(release_root, level=2)
    weights = balanced(pairs)
    assert len(weights) == len(pairs)
    one = [balanced(LuisaSeg(release_root, sensors="landsat", level=2, year=year)) for year in pairs.pair]
    assert not torch.equal(weights, one[0])
    pixels = LuisaSeg(release_root, sensors="landsat", level=2, window=30)
    weights = balanced(pixels)
    assert len(weights) == len(pixels) == 4 * 160**2
    # Pixels inside a label cell have the weight of its class.
    at = 160 * 80 + 80  # from 2,400 m, which is a cell's edge
    tile = pixels.tiles.iloc[0]
    (code,) = (c for i, c in enumerate(legend().codes(2)) if i == int(pixels[at]["mask"]))
    share = pixels.tiles[f"luisa_2018_{code}"].mean()
    total = sum(
        (pixels.tiles[f"luisa_2018_{c}"] / pixels.tiles[f"luisa_2018_{c}"].mean()).fillna(0).sum()
        for c in legend().codes(2)
    )
    assert tile["row"] == 0
    assert float(weights[at]) == pytest.approx(1 / share / (total * 160**2), rel=0.02)


@pytest.mark.slow
def test_more_samples_than_a_multinomial_takes() -> None:
    data = Huge()
    weights = torch.zeros(len(data))
    weights[-1] = weights[5] = 1
    tracemalloc.start()
    drawn = list(islice(WindowSampler(data, weights=weights), 100_000))
    shuffled = WindowSampler(data)
    some = list(islice(shuffled, 100_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(drawn) == {5, len(data) - 1}
    assert abs(drawn.count(5) - 50_000) < 1000
    assert len(set(some)) == 100_000
    assert max(some) > 2**23
    assert peak < 450 * 2**20  # a list of all would take more; the weights' bounds are 128 MiB
    shuffled.set_epoch(1)
    assert list(islice(shuffled, 5)) != some[:5]


@pytest.mark.parametrize(("n", "processes"), [(10, 1), (10, 3), (2, 5), (200_003, 2)])
@pytest.mark.parametrize("drop_last", [True, False])
def test_processes_share_samples_as_torchs_distributed_sampler_does(
    monkeypatch: pytest.MonkeyPatch, n: int, processes: int, drop_last: bool
) -> None:
    data = Huge(n)
    (alone,) = [on_process(monkeypatch, 0, 1, data, seed=4)]
    assert sorted(alone) == list(range(n))
    for rank in range(processes):
        theirs = DistributedSampler(data, processes, rank, shuffle=False, drop_last=drop_last)  # type: ignore[arg-type]
        places = list(theirs)
        assert on_process(monkeypatch, rank, processes, data, shuffle=False, drop_last=drop_last) == places
        shuffled = on_process(monkeypatch, rank, processes, data, seed=4, drop_last=drop_last)
        assert shuffled == [alone[place] for place in places]


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    orders = set()
    for seed in range(3):
        sampler = WindowSampler(Huge(50), seed=seed)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            orders.add(tuple(sampler))
            assert list(sampler) == list(sampler)
    assert len(orders) == 9


def test_processes_share_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    data, weights = Huge(150_001), torch.arange(150_001.0)
    alone = on_process(monkeypatch, 0, 1, data, weights=weights)
    shares = [on_process(monkeypatch, rank, 4, data, weights=weights) for rank in range(4)]
    assert {len(share) for share in shares} == {37_501}
    for rank, share in enumerate(shares):
        assert share[:37_500] == alone[rank:150_000:4]


@pytest.mark.parametrize(
    "weights", [torch.ones(9), torch.zeros(10), torch.tensor([-1.0] + 9 * [1]), torch.ones(10) / 0]
)
def test_weights_that_do_not_fit(weights: torch.Tensor) -> None:
    with pytest.raises(LulcbenchError, match="eights"):
        WindowSampler(Huge(10), weights=weights)


def test_negative_seed() -> None:
    with pytest.raises(LulcbenchError, match="seed is -1"):
        WindowSampler(Huge(10), seed=-1)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_loop_of_ones_own_resumes_within_an_epoch(release_root: Path, weighted: bool) -> None:
    def make() -> tuple[WindowLoader, WindowSampler]:
        dataset = LuisaSeg(release_root, sensors="landsat", phase="random")
        sampler = WindowSampler(dataset, weights=balanced(dataset) if weighted else None, seed=2)
        return WindowLoader(dataset, 7, sampler), sampler

    loader, sampler = make()
    sampler.set_epoch(3)
    batches = iter(loader)
    for _ in range(2):
        next(batches)
    state = loader.state_dict()
    assert state == {"epoch": 3, "batches": 2}  # not what was read ahead
    rest = [batch["bounds"] for batch in batches]
    assert len(rest) == len(loader) - 2

    again, sampler = make()
    again.load_state_dict(state)
    assert again.state_dict() == state
    sampler.set_epoch(state["epoch"])
    assert len(again) == len(loader)
    resumed = [batch["bounds"] for batch in again]
    assert len(resumed) == len(rest)
    assert all(map(torch.equal, resumed, rest))
    sampler.set_epoch(4)
    assert len(list(again)) == len(loader)  # later epochs are whole
    again.load_state_dict(state)
    sampler.set_epoch(5)
    assert len(list(again)) == len(loader)  # so is any other epoch than the one that was stopped


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_windows_that_nobody_moves_are_noticed(release_root: Path, workers: int) -> None:
    dataset = LuisaSeg(release_root, sensors="landsat", window=960, phase="random")

    def epoch() -> None:
        method = "forkserver" if workers else None  # a new worker for each epoch, which has not read itself
        for _ in DataLoader(
            dataset, 25, shuffle=True, collate_fn=collate, num_workers=workers, multiprocessing_context=method
        ):
            pass

    epoch()
    with nullcontext() if workers else pytest.warns(UserWarning, match="did not move: call set_epoch"):
        epoch()
    assert dataset._epochs.samples_read == 2 * len(dataset)  # workers' share counted too
    for k in (1, 2, 3):
        dataset.set_epoch(k)
        dataset.read(range(len(dataset)))
    fixed = LuisaSeg(release_root, sensors="landsat", window=2400)
    for _ in range(3):
        fixed.read(range(len(fixed)))


def test_chips_are_weighted_by_their_label(release_root: Path) -> None:
    chips = LuisaCls(release_root, sensors="landsat", level=1, purity=0.3)
    weights = balanced(chips)
    totals = [float(weights[chips.labels == label].sum()) for label in np.unique(chips.labels)]
    np.testing.assert_allclose(totals, 1 / len(totals))
