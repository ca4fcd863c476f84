from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lulcbench.errors import LulcbenchError
from lulcbench.grid import TILE_SIZE
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend
from lulcbench.windows import Blend, Windows, taper

lengths = st.integers(1, 160).map(
    lambda n: 30 * n
)  # whole pixels of Landsat (30 m), Sentinel-2 (10 m) and Planet (3 m)
phases = st.sampled_from(["fixed", "systematic", "random"])


@given(lengths, lengths, phases, st.integers(0, 50), st.integers(0, 2**31))
def test_windows_lie_in_the_tile_on_whole_pixels(size: int, stride: int, phase: str, epoch: int, seed: int) -> None:
    windows = Windows.of(size, stride, (10, 30, 3), phase, seed)
    offsets = windows.offsets(np.arange(min(windows.per_tile, 500)), epoch)
    assert offsets.min() >= 0
    assert offsets.max() + size <= TILE_SIZE
    assert not (offsets % 30).any()


@given(lengths, lengths)
def test_fixed_windows_cover_every_pixel_in_order(size: int, stride: int) -> None:
    windows = Windows.of(size, stride, (30,))
    starts = windows.starts
    assert starts[0] == 0
    assert starts[-1] + size == TILE_SIZE
    gaps = np.diff(starts)
    assert (gaps > 0).all()
    assert (gaps <= stride).all()
    if stride <= size:
        covered = np.zeros(160, bool)
        for start in starts:
            covered[start // 30 : (start + size) // 30] = True
        assert covered.all()


@given(phases, st.integers(0, 9), st.integers(0, 99), st.permutations(range(30)))
def test_a_window_depends_on_seed_epoch_and_index_alone(phase: str, epoch: int, seed: int, order: list[int]) -> None:
    windows = Windows.of(1200, 600, (10,), phase, seed)
    together = windows.offsets(order, epoch)
    apart = [windows.offsets([i], epoch)[0] for i in order]
    np.testing.assert_array_equal(together, apart)


def test_phases_move_from_epoch_to_epoch_and_fill_their_part() -> None:
    systematic = Windows.of(600, 600, (30,), "systematic", seed=1)
    inner = 8 * 3 + np.arange(2, 6)  # of the fourth row, none at an edge
    origins = {tuple(systematic.offsets([inner[0]], epoch)[0]) for epoch in range(400)}
    assert len(origins) > 250  # of some 500 that exist
    moves = systematic.offsets(inner, 3) - systematic.offsets(inner, 2)
    assert np.ptp(moves, axis=0).max() <= 30  # the same for all windows, except for rounding to whole pixels
    assert abs(moves).max() > 30
    random = Windows.of(600, 600, (30,), "random", seed=1)
    places = random.offsets(inner[0] + random.per_tile * np.arange(2000))  # the same window of 2,000 tiles
    thrown = TILE_SIZE // 30 + 600 // 30 - 1  # places along an axis, of which each of 8 windows has an equal part
    for axis, k in enumerate((3, 2)):
        assert abs(places[:, axis].mean() / 30 - (thrown * (k + 0.5) / 8 - 20 + 0.5)) < 0.5
        assert abs(np.ptp(places[:, axis]) / 30 - thrown / 8) <= 1
    assert not np.array_equal(random.offsets([5], 0), random.offsets([5], 1))


def coverage(windows: Windows, epochs: int, tiles: int = 1) -> np.ndarray:
    """How often a pixel is seen in an epoch, on average over epochs and tiles."""
    n, side = windows.size // windows.step, TILE_SIZE // windows.step
    corners = np.zeros((side + 1, side + 1))
    for epoch in range(epochs):
        y, x = windows.offsets(np.arange(windows.per_tile * tiles), epoch).T // windows.step
        for rows, columns, sign in ((y, x, 1), (y + n, x, -1), (y, x + n, -1), (y + n, x + n, 1)):
            np.add.at(corners, (rows, columns), sign)
    return corners.cumsum(0).cumsum(1)[:side, :side] / (epochs * tiles)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["systematic", "random"])
@pytest.mark.parametrize(("size", "stride"), [(1200, 1200), (1200, 600), (1920, 1920), (2400, 2400), (600, 1200)])
def test_moving_windows_show_edges_and_corners_as_often_as_the_middle(phase: str, size: int, stride: int) -> None:
    windows = Windows.of(size, stride, (30,), phase, seed=2)
    seen = coverage(windows, 1500, 1 if phase == "systematic" else 4)
    n, side = size // 30, len(seen)
    thrown = (TILE_SIZE - size) // 30 + 2 * n - 1
    middle = windows.per_tile * (n / thrown) ** 2
    edge = n // 8  # within which coverage hardly rises
    bands = {"north": seen[0], "south": seen[-1], "west": seen[:, 0], "east": seen[:, -1]}
    for name, band in bands.items():
        np.testing.assert_allclose(band[[0, -1]], middle, rtol=0.15, err_msg=f"corners, {name}")
        assert band.mean() >= middle, name
        assert band.min() > 0.8 * middle, name
    assert seen[:edge, :edge].mean() > 0.9 * middle
    assert seen.min() > 0.8 * middle
    assert seen.max() < 4.4 * middle  # twice along either axis, where both ramps end
    if n < side - n:
        np.testing.assert_allclose(seen[n : side - n, n : side - n], middle, rtol=0.2)
    np.testing.assert_allclose(seen.sum() / n**2, windows.per_tile)  # as many windows as on the lattice


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["fixed", "systematic", "random"])
@pytest.mark.parametrize(("size", "stride"), [(1200, 1200), (900, 450), (30, 330), (4800, 4800)])
def test_cover_is_the_mean_share_of_windows_in_label_cells(phase: str, size: int, stride: int) -> None:
    windows = Windows.of(size, stride, (30,), phase, seed=3)
    n = len(windows.starts)
    cover, seen = windows.cover(50), np.zeros((n, TILE_SIZE))
    epochs = 1 if phase == "fixed" else 3000
    for epoch in range(epochs):
        # The last window of each row, all rows at once: its y moves as that of any other.
        for k, start in enumerate(windows.offsets(np.arange(n) * n + n - 1, epoch)[:, 0]):
            seen[k, start : start + size] += 1
    np.testing.assert_allclose(cover.sum(axis=1), 1)
    expected = seen.reshape(n, 96, 50).sum(-1) / (epochs * size)
    np.testing.assert_allclose(cover, expected, atol=0.15 * expected.max())


def test_fixed_windows_of_a_test_split_lie_where_they_always_did() -> None:
    expected = [(y, x) for y in (0, 1920, 2880) for x in (0, 1920, 2880)]
    windows = Windows.of(1920, 1920, (10, 30), seed=7)
    for epoch in (0, 3):
        assert [tuple(place) for place in windows.offsets(np.arange(-9, 9), epoch).tolist()] == 2 * expected


def test_whole_tiles_and_single_pixels_stay() -> None:
    for size, resolution in ((TILE_SIZE, 10), (30, 30)):
        fixed, random = (Windows.of(size, size, (resolution,), phase) for phase in ("fixed", "random"))
        index = np.arange(min(fixed.per_tile, 1000))
        np.testing.assert_array_equal(random.offsets(index, 5), fixed.offsets(index))


@pytest.mark.parametrize(
    ("size", "stride", "resolutions", "message"),
    [
        (6000, 600, (10,), "larger than a tile"),
        (5000, 600, (30,), "5000 m is larger than a tile"),  # not: use 4980 or 5010
        (1205, 600, (10,), "not a whole number of 10 m pixels"),
        (1200, 610, (10, 30), "A stride of 610 m is not a whole number of 30 m pixels"),
        (0, 600, (10,), "not a whole number"),
    ],
)
def test_lengths_that_do_not_fit(size: int, stride: int, resolutions: tuple[int, ...], message: str) -> None:
    with pytest.raises(LulcbenchError, match=message):
        Windows.of(size, stride, resolutions)


def test_unknown_phase() -> None:
    with pytest.raises(LulcbenchError, match="systematic"):
        Windows.of(600, 600, (10,), "sometimes")


@pytest.mark.parametrize("phase", ["systematic", "random"])
def test_negative_seed(phase: str) -> None:
    with pytest.raises(LulcbenchError, match="seed is -1"):
        Windows.of(600, 600, (10,), phase, seed=-1)


@given(st.sampled_from([300, 600, 900, 1200, 4800]), st.sampled_from([150, 300, 600]))
def test_blending_true_values_gives_them_back(size: int, stride: int) -> None:
    tile = np.random.default_rng(0).random((3, 160, 160)).astype(np.float32)
    windows = Windows.of(size, min(size, stride), (30,))
    blend, n = Blend(3, 160), size // 30
    for y, x in windows.offsets(np.arange(windows.per_tile)) // 30:
        blend.add(tile[:, y : y + n, x : x + n], int(y), int(x))
    np.testing.assert_allclose(blend.result(), tile, rtol=1e-5)


def test_blend_trusts_the_middle_of_a_window_more_than_its_edge() -> None:
    blend = Blend(1, 6)
    blend.add(np.zeros((1, 4, 4), np.float32), 0, 0)
    with pytest.raises(LulcbenchError, match=r"\(0, 4\)"):
        blend.result()
    for y, x in ((0, 2), (2, 0), (2, 2)):
        blend.add(np.ones((1, 4, 4), np.float32), y, x)
    result = blend.result()[0]
    assert result[0, 0] == 0
    assert result[1, 2] < result[1, 3] < 1
    assert taper(4).tolist()[1] == [0.5, 1, 1, 0.5]


codes = st.lists(st.sampled_from([0, *legend().classes]), min_size=1, max_size=50)


@given(codes, st.sampled_from(LEVELS), st.sampled_from(LEVELS))
def test_level_remaps_agree_whatever_the_way(values: list[int], fine: int, coarse: int) -> None:
    array = np.array(values, np.uint16)
    tree = legend()
    fine, coarse = max(fine, coarse), min(fine, coarse)
    direct, by_fine = tree.remap(array, coarse), tree.remap(tree.remap(array, fine), coarse)
    known = tree.remap(array, fine) != 0
    np.testing.assert_array_equal(direct[known], by_fine[known])
    indices = tree.encode(array, fine)
    np.testing.assert_array_equal(tree.decode(indices, fine), tree.remap(array, fine))
    labelled = indices != IGNORE_INDEX
    parents = tree.parents(fine, coarse)[indices[labelled]]
    np.testing.assert_array_equal(parents, tree.encode(array, coarse)[labelled])
