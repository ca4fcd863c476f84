"""Windows: origins in tiles, and blending of overlapping predictions.

A window has a size and a stride in metres. Along each axis of a tile, windows start every ``stride`` metres, and the
last one ends at the edge of the tile, so that every pixel is covered by any size and any stride up to it; larger
strides leave gaps, for fewer samples. In training, windows may
move from epoch to epoch; an origin depends only on (seed, epoch, index), so that a run can be resumed at any batch and
all processes agree.

Moving windows stay inside their tile, and yet pixels along its edges must be read as often as others. Therefore origins
are drawn uniformly over all positions that overlap the tile, then clamped to it. The expected number of reads of a
pixel is then nowhere smaller than in the middle of the tile; within a window size of an edge it is up to twice as large
along that axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from lulcbench import grid
from lulcbench.errors import LulcbenchError

Phase = Literal["fixed", "systematic", "random"]
Ints = npt.NDArray[np.int64]
_FRACTIONS = 2**32  # resolution of fractions of [0, 1), as integers


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a tile.

    Attributes:
        size: side in metres, at most 4,800 (a tile).
        stride: metres between the origins of neighbouring windows.
        step: origins are multiples of this number of metres, so that windows start at a whole pixel of every sensor.
        phase: ``fixed``: the same lattice every epoch. The other phases have the same number of windows; along each
            axis, all positions are divided equally among them. ``systematic``: all windows move by the same fraction
            of their range, which covers it evenly over the epochs; ``random``: windows move independently.
        seed: seed of the moves.

    Raises:
        LulcbenchError: the phase is unknown, the seed negative, or a length not a whole number of steps or too large.

    Examples:
        >>> windows = Windows(size=1200, stride=900, step=30)
        >>> windows.starts  # metres from the edge of the tile, along either axis
        array([   0,  900, 1800, 2700, 3600])
        >>> windows.offsets([0, 1, 24])  # downwards, to the right
        array([[   0,    0],
               [   0,  900],
               [3600, 3600]])
    """

    size: int
    stride: int
    step: int = 1
    phase: Phase = "fixed"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.phase not in get_args(Phase):
            raise LulcbenchError(f"Unknown window phase {self.phase!r}.", f"Choose from {', '.join(get_args(Phase))}.")
        if self.seed < 0:
            raise LulcbenchError(f"The seed is {self.seed}.", "Use 0 or a larger integer.")
        _check_fits(self.size)
        for what, length in (("A window", self.size), ("A stride", self.stride)):
            grid.pixels(length, self.step, what)

    @classmethod
    def of(
        cls,
        size: int | None,
        stride: int | None,
        resolutions: tuple[int, ...],
        phase: Phase = "fixed",
        seed: int = 0,
    ) -> Windows:
        """Windows whose sizes, strides and origins are whole numbers of pixels at all ``resolutions``.

        Args:
            size: metres; None means the complete tile.
            stride: metres; None means the size (no overlap).
            resolutions: pixel sizes in metres.
            phase: see the class.
            seed: see the class.

        Raises:
            LulcbenchError: a length is not a whole number of pixels, or larger than a tile.
        """
        size = grid.TILE_SIZE if size is None else size
        stride = size if stride is None else stride
        _check_fits(size)
        for resolution in resolutions:
            grid.pixels(size, resolution, "A window")
            grid.pixels(stride, resolution, "A stride")
        return cls(int(size), int(stride), math.lcm(*resolutions), phase, seed)

    @property
    def starts(self) -> Ints:
        """Origins of fixed windows along either axis: metres from the edge of the tile."""
        last = grid.TILE_SIZE - self.size
        inner = np.arange(0, last, self.stride, dtype=np.int64)
        return np.append(inner, last)

    @property
    def per_tile(self) -> int:
        """Number of windows in a tile."""
        return len(self.starts) ** 2

    def offsets(self, index: npt.ArrayLike, epoch: int = 0) -> Ints:
        """Origins of windows in their tiles.

        Args:
            index: indices of windows; ``index % per_tile`` counts row by row from the upper left corner of the tile.
            epoch: training epoch; has no effect if the phase is ``fixed``.

        Returns:
            int64 ``(n, 2)``: metres from the upper left corner of the tile, downwards and to the right.
        """
        index = np.asarray(index, np.int64)
        starts = self.starts
        within = index % self.per_tile
        at = np.stack([within // len(starts), within % len(starts)], axis=-1)
        if self.phase == "fixed":
            fixed: Ints = starts[at]
            return fixed
        if self.phase == "systematic":
            # The R2 sequence covers the square evenly for any number of epochs (Roberts 2018, plastic constant).
            start = np.random.default_rng(self.seed).random(2)
            fraction = (start + epoch * np.array([0.7548776662466927, 0.5698402909980532])) % 1
            fractions = np.broadcast_to((fraction * _FRACTIONS).astype(np.int64), at.shape)
        else:
            bits = _mix(_mix(np.uint64(self.seed), np.uint64(epoch)), index.astype(np.uint64))
            fractions = np.stack([bits >> np.uint64(32), bits & np.uint64(_FRACTIONS - 1)], axis=-1).astype(np.int64)
        return self._moved(at, fractions)

    def _moved(self, at: Ints, fractions: Ints) -> Ints:
        """Origins in metres of windows ``at`` of an axis, moved by ``fractions`` / 2³² of their range of positions.

        Computed in integers, hence exact.
        """
        return self._clamped((at * _FRACTIONS + fractions) * self._positions // (len(self.starts) * _FRACTIONS))

    @property
    def _positions(self) -> int:
        """Number of positions along an axis at which a window overlaps the tile by at least a step."""
        return (grid.TILE_SIZE + self.size) // self.step - 1

    def _clamped(self, positions: Ints) -> Ints:
        """Origins in metres of windows at these positions, clamped to the tile."""
        origins = positions * self.step - (self.size - self.step)
        clamped: Ints = np.clip(origins, 0, grid.TILE_SIZE - self.size)
        return clamped

    def cover(self, resolution: int) -> npt.NDArray[np.float64]:
        """Mean overlap of windows with cells of ``resolution`` metres, along either axis.

        Returns:
            float64 ``(window of an axis, cell)``: the fraction of the window in each cell, averaged over its moves.
            Because axes move independently, ``cover @ values @ cover.T`` is the mean of ``values (cell, cell)`` in each
            window.
        """
        cells = grid.pixels(grid.TILE_SIZE, resolution, "A tile")
        if self.phase == "fixed":
            return _overlap(self.starts, self.size, cells, resolution) / self.size
        by_position = _overlap(self._clamped(np.arange(self._positions)), self.size, cells, resolution) / self.size
        width = self._positions / len(self.starts)  # of the range of positions of a window
        frequency = _overlap(np.arange(len(self.starts)) * width, width, self._positions, 1) / width
        mean: npt.NDArray[np.float64] = frequency @ by_position
        return mean


def _overlap(first: npt.NDArray[np.number], length: float, cells: int, cell: float) -> npt.NDArray[np.float64]:
    """Overlap of intervals of ``length`` from ``first`` with each of ``cells`` cells: ``(interval, cell)``."""
    low, edges = np.asarray(first, np.float64)[:, None], np.arange(cells) * float(cell)
    shared: npt.NDArray[np.float64] = np.minimum(low + length, edges + cell) - np.maximum(low, edges)
    return shared.clip(0)


def _check_fits(size: float) -> None:
    """Check the size first, so that other errors only recommend sizes that fit."""
    if size > grid.TILE_SIZE:
        raise LulcbenchError(
            f"A window of {size:g} m is larger than a tile.",
            f"Use at most {grid.TILE_SIZE} m; window=None means the complete tile.",
        )


def _mix(seed: npt.NDArray[np.uint64] | np.uint64, value: npt.NDArray[np.uint64] | np.uint64) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele et al. 2014): hash of two numbers to 64 bits, vectorised."""
    with np.errstate(over="ignore"):
        z = np.asarray(seed * np.uint64(0x9E3779B97F4A7C15) + value + np.uint64(0x9E3779B97F4A7C15))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
        return mixed


def taper(size: int) -> npt.NDArray[np.float32]:
    """Weights for blending overlapping windows: float32 ``(size, size)``, a pyramid, positive everywhere."""
    ramp = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(np.float32)
    return (np.minimum(ramp[:, None], ramp) / ramp.max()).astype(np.float32)


class Blend:
    """Weighted mean of values predicted in overlapping windows (probabilities or logits) of a tile.

    Args:
        channels: number of values per pixel, such as classes.
        size: height and width of the tile in pixels.

    Examples:
        >>> blend = Blend(channels=1, size=3)
        >>> blend.add(np.full((1, 2, 2), 0.0), y=0, x=0)
        >>> blend.add(np.full((1, 3, 3), 1.0), y=0, x=0)
        >>> blend.result()[0].round(2)
        array([[0.33, 0.33, 1.  ],
               [0.33, 0.5 , 1.  ],
               [1.  , 1.  , 1.  ]], dtype=float32)
    """

    def __init__(self, channels: int, size: int) -> None:
        self._sum = np.zeros((channels, size, size), np.float32)
        self._weight = np.zeros((size, size), np.float32)

    def add(self, values: npt.NDArray[np.floating], y: int, x: int) -> None:
        """Add a window: ``values`` is ``(channel, n, n)``, its upper left pixel at row ``y``, column ``x``."""
        n = values.shape[-1]
        weight = taper(n)
        self._sum[:, y : y + n, x : x + n] += values * weight
        self._weight[y : y + n, x : x + n] += weight

    def result(self) -> npt.NDArray[np.float32]:
        """The weighted mean: float32 ``(channel, y, x)``.

        Raises:
            LulcbenchError: a pixel is not covered by any window.
        """
        if not self._weight.all():
            y, x = (int(i) for i in np.argwhere(self._weight == 0)[0])
            raise LulcbenchError(f"No window covers pixel ({y}, {x}).", "Add all windows of the tile first.")
        return self._sum / self._weight
