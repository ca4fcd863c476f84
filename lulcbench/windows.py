"""Moving windows over tiles: where they lie, and how predictions made in them are blended back.

A window has a size and a stride in metres. Along each axis of a tile, windows start every ``stride`` metres and the
last one is flush with the tile's edge, so that every pixel is covered whatever the size and stride. In training
windows may move from epoch to epoch; where a window lies depends only on (seed, epoch, index), so that a run can be
resumed anywhere and every process agrees.

Windows stay inside their tile, and yet the pixels along its edges must be seen as often as the others. So a window is
thrown at any place where it would touch the tile, all places alike, and pushed back inside if it sticks out. In
expectation no pixel is then seen less often than those in the middle; those just inside a window's width from an edge
are seen up to twice as often along that axis.
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
_PARTS = 2**32


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a tile.

    Attributes:
        size: edge length in metres, at most a tile's 4,800.
        stride: metres between neighbouring windows.
        step: windows start at multiples of this many metres, so that they begin on a whole pixel of every sensor.
        phase: ``fixed``: the same lattice every epoch. The others keep the number of windows; along each axis, each has
            an equal part of all places to itself. ``systematic``: all windows move alike from epoch to epoch, filling
            their parts evenly; ``random``: every window moves by itself.
        seed: of the moves.

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
        """Windows that are a whole number of pixels at each of ``resolutions`` (m).

        Args:
            size: metres; None takes the whole tile.
            stride: metres; None takes the size (no overlap).
            resolutions: pixel sizes that sizes, strides and origins must suit.
            phase: see the class.
            seed: see the class.

        Raises:
            LulcbenchError: a length is no whole number of pixels, or larger than a tile.
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
        """Metres from the tile's edge to each window's, along either axis, where windows do not move."""
        last = grid.TILE_SIZE - self.size
        inner = np.arange(0, last, self.stride, dtype=np.int64)
        return np.append(inner, last)

    @property
    def per_tile(self) -> int:
        """Number of windows in a tile."""
        return len(self.starts) ** 2

    def offsets(self, index: npt.ArrayLike, epoch: int = 0) -> Ints:
        """Where windows lie in their tiles.

        Args:
            index: window numbers; ``index % per_tile`` counts row by row from the tile's upper left corner.
            epoch: training epoch; matters unless the phase is ``fixed``.

        Returns:
            int64 ``(n, 2)``: metres from the tile's upper left corner to the window's, downwards and to the right.
        """
        index = np.asarray(index, np.int64)
        starts = self.starts
        within = index % self.per_tile
        at = np.stack([within // len(starts), within % len(starts)], axis=-1)
        if self.phase == "fixed":
            fixed: Ints = starts[at]
            return fixed
        if self.phase == "systematic":
            # The R2 sequence fills the square evenly for any number of epochs (Roberts 2018, plastic constant).
            origin = np.random.default_rng(self.seed).random(2)
            part = (origin + epoch * np.array([0.7548776662466927, 0.5698402909980532])) % 1
            parts = np.broadcast_to((part * _PARTS).astype(np.int64), at.shape)
        else:
            bits = _mix(_mix(np.uint64(self.seed), np.uint64(epoch)), index.astype(np.uint64))
            parts = np.stack([bits >> np.uint64(32), bits & np.uint64(_PARTS - 1)], axis=-1).astype(np.int64)
        return self._place(at, parts)

    def _place(self, at: Ints, parts: Ints) -> Ints:
        """Metres from the tile's edge to where windows ``at`` of an axis lie, ``parts`` of 2³² through their own part.

        All in whole steps, hence exact.
        """
        return self._push_in((at * _PARTS + parts) * self._places // (len(self.starts) * _PARTS))

    @property
    def _places(self) -> int:
        """Number of places along an axis to throw a window at: all where it overlaps the tile by at least a step."""
        return (grid.TILE_SIZE + self.size) // self.step - 1

    def _push_in(self, thrown: Ints) -> Ints:
        """Metres from the tile's edge to windows that were thrown at those places."""
        first = thrown * self.step - (self.size - self.step)
        pushed: Ints = np.clip(first, 0, grid.TILE_SIZE - self.size)
        return pushed

    def cover(self, resolution: int) -> npt.NDArray[np.float64]:
        """In which cells of ``resolution`` metres the windows lie, along either axis.

        Returns:
            float64 ``(window of an axis, cell)``: the share of the window in each cell, on average over its moves. As
            axes move independently, ``cover @ values @ cover.T`` are the means of ``values (cell, cell)`` over windows.
        """
        cells = grid.pixels(grid.TILE_SIZE, resolution, "A tile")
        if self.phase == "fixed":
            return _overlap(self.starts, self.size, cells, resolution) / self.size
        thrown = np.arange(self._places)
        there = _overlap(self._push_in(thrown), self.size, cells, resolution) / self.size
        part = self._places / len(self.starts)
        often = _overlap(np.arange(len(self.starts)) * part, part, self._places, 1) / part
        mean: npt.NDArray[np.float64] = often @ there
        return mean


def _overlap(first: npt.NDArray[np.number], length: float, cells: int, cell: float) -> npt.NDArray[np.float64]:
    """By how much intervals of ``length`` from ``first`` overlap each of ``cells`` cells: ``(interval, cell)``."""
    low, edges = np.asarray(first, np.float64)[:, None], np.arange(cells) * float(cell)
    shared: npt.NDArray[np.float64] = np.minimum(low + length, edges + cell) - np.maximum(low, edges)
    return shared.clip(0)


def _check_fits(size: float) -> None:
    """Before anything else about a size: what it is advised to be must fit, too."""
    if size > grid.TILE_SIZE:
        raise LulcbenchError(
            f"A window of {size:g} m is larger than a tile.",
            f"Use at most {grid.TILE_SIZE} m; window=None takes the whole tile.",
        )


def _mix(seed: npt.NDArray[np.uint64] | np.uint64, value: npt.NDArray[np.uint64] | np.uint64) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele et al. 2014): 64 well-mixed bits of two numbers, for whole arrays at once."""
    with np.errstate(over="ignore"):
        z = np.asarray(seed * np.uint64(0x9E3779B97F4A7C15) + value + np.uint64(0x9E3779B97F4A7C15))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
        return mixed


def taper(size: int) -> npt.NDArray[np.float32]:
    """Weights with which overlapping windows are blended: float32 ``(size, size)``, a pyramid, nowhere zero."""
    ramp = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(np.float32)
    return (np.minimum(ramp[:, None], ramp) / ramp.max()).astype(np.float32)


class Blend:
    """Blends values predicted in overlapping windows (probabilities or logits) back to one tile.

    Args:
        channels: number of values a pixel, such as classes.
        size: the tile's height and width in pixels.

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
            LulcbenchError: some pixel was covered by no window.
        """
        if not self._weight.all():
            y, x = (int(i) for i in np.argwhere(self._weight == 0)[0])
            raise LulcbenchError(f"No window covers pixel ({y}, {x}).", "Add all windows of the tile first.")
        return self._sum / self._weight
