"""The grid: an integer index is an exact georeference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile, area_weights, pixels, tiles_over

indices = st.integers(0, 9999)


@given(indices, indices)
def test_id_round_trip(ix: int, iy: int) -> None:
    assert Tile.from_id(Tile(ix, iy).id) == Tile(ix, iy)


def test_shapes_and_transform() -> None:
    tile = Tile(897, 695)
    assert [tile.shape(r)[0] for r in (3, 10, 30, 50)] == [1600, 480, 160, 96]
    assert tile.bounds == (897 * 4800, 695 * 4800, 898 * 4800, 696 * 4800)
    for resolution in (3, 10, 30, 50):
        height, width = tile.shape(resolution)
        left, bottom, right, top = tile.bounds
        assert tile.transform(resolution) @ (0, 0) == (left, top)
        assert tile.transform(resolution) @ (width, height) == (right, bottom)


@given(st.integers(10, 9000), st.integers(10, 9000), st.integers(1, 4), st.integers(1, 4))
def test_tiles_over_covers_without_overlap(ix: int, iy: int, nx: int, ny: int) -> None:
    left, bottom, _, _ = Tile(ix, iy).bounds
    bounds = (left + 100, bottom + 100, left + nx * 4800 - 100, bottom + ny * 4800 - 100)
    touching = tiles_over(bounds)
    assert len(set(touching)) == nx * ny
    assert set(tiles_over(bounds, whole=True)) == {t for t in touching if _inside(t.bounds, bounds)}


def _inside(inner: tuple[float, ...], outer: tuple[float, ...]) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


@pytest.mark.parametrize("bad", ["E1N1", "E0897N069", "../etc", "E0897N0695x", "e0897n0695", ""])
def test_bad_ids(bad: str) -> None:
    with pytest.raises(LulcbenchError, match="tile id"):
        Tile.from_id(bad)


def test_bad_indices_and_lengths() -> None:
    with pytest.raises(LulcbenchError, match="outside the grid"):
        Tile(-1, 3)
    with pytest.raises(LulcbenchError, match="1230 or 1240"):
        pixels(1234, 10)
    with pytest.raises(LulcbenchError, match="whole number"):
        Tile(1, 1).shape(7)
    with pytest.raises(LulcbenchError, match="empty"):
        tiles_over((10, 0, 5, 5))


def test_blocks_are_squares_of_tiles() -> None:
    assert Tile(890, 699).block() == Tile(899, 690).block() != Tile(900, 690).block()
    assert Tile(4, 5).block(2) == Tile(5, 4).block(2) == "B002-002"


@given(st.integers(1, 700))
@settings(max_examples=30, deadline=None)
def test_area_weights_conserve_area(n: int) -> None:
    weights = area_weights(n, 96)
    assert weights.shape == (96, n)
    assert np.allclose(weights.sum(axis=1), 1)
    assert np.allclose(weights.sum(axis=0), 96 / n)
