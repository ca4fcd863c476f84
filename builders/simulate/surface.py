"""The ground at 3 m: from a 50 m label map to the material of every cell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from builders.simulate import composition, patterns
from builders.simulate.config import SimulationConfig
from builders.simulate.labels import LabelMap
from builders.simulate.noise import Float, generator, key, mix, mix2, uniform, value_noise
from lulcbench.grid import LABEL_RESOLUTION
from lulcbench.legend import IGNORE_INDEX, legend

_TURNS = 16  # bearings that fields, streets and rows can take
_WARP = 24.0  # metres by which true boundaries stray from the label's cells
_PATCH_CELL = 1_200.0  # metres: even one large patch changes its mixture about this often
_ROAD_ZOOM = 5  # roads are traced on a 10 m grid

Bytes = npt.NDArray[np.uint8]


class Surface:
    """The ground of one year. ``materials`` is a pure function of position, so it can be asked anywhere, in any order.

    Args:
        labels: the label map of that year.
        year: crops rotate with it; everything else stays.
        config: the simulation.
    """

    def __init__(self, labels: LabelMap, year: int, config: SimulationConfig) -> None:
        self.left, self.top = labels.left, labels.top
        self.shape = labels.codes.shape
        self._tables = composition.tables(config.seed, config.patch_variation, config.inclusions)
        self._ranks = patterns.ranks(config.seed)
        codes = legend().codes(4)
        index = legend().encode(labels.codes, 4, "label map")
        # Nothing is known beyond the map; open sea is the least odd thing to show there.
        self._classes = np.where(index == IGNORE_INDEX, codes.index(5230), index).astype(np.uint8)
        self._pattern_of = np.array(
            [patterns.NAMES.index(composition.compositions()[c].pattern) for c in codes], np.uint8
        )
        self._crop_key = np.uint32(key(config.seed, "crops", year))
        self._warp = [patterns.smooth(generator(config.seed, "warp", n), 8.0) * np.float32(_WARP / 2) for n in "xy"]
        self._hidden_rank = patterns.rank(patterns.smooth(generator(config.seed, "hidden"), 9.0))
        kinds = patterns.rank(patterns.smooth(generator(config.seed, "hidden-kind"), 24.0))
        self._hidden_kind = (mix(kinds >> 4) & np.uint32(15)).astype(np.uint8)
        self._road = self._trace_roads(codes.index(1221))
        self.water = np.array(codes)[self._classes] >= 5000
        self.patch = self._patches(config.seed)
        turn = (self._bearings(config.seed) * _TURNS).astype(np.uint8) % _TURNS
        angle = turn.astype(np.float32) * np.float32(np.pi / _TURNS)
        self._cos, self._sin = np.cos(angle), np.sin(angle)

    def materials(self, x: Float, y: Float) -> Bytes:
        """Material index at points.

        Args:
            x: metres east of ``left``, float32 (h, w).
            y: metres south of ``top``, float32 (h, w).

        Returns:
            uint8 (h, w).
        """
        tables, size, wrap = self._tables, np.float32(LABEL_RESOLUTION), patterns.SIZE - 1
        column, row = (x / patterns.CELL).astype(np.int32), (y / patterns.CELL).astype(np.int32)
        flat = (row & wrap) * patterns.SIZE + (column & wrap)
        i = ((y + self._warp[1].ravel()[flat]) / size).astype(np.int32).clip(0, self.shape[0] - 1)
        j = ((x + self._warp[0].ravel()[flat]) / size).astype(np.int32).clip(0, self.shape[1] - 1)
        at = i * self.shape[1] + j
        kind = self._classes.ravel()[at]
        patch = self.patch.ravel()[at]

        hides = self._hidden_rank.ravel()[flat] < tables.hidden_share[kind]
        # One class to each hidden patch: constant over cells that are bent more than the patches are wide.
        nibble = self._hidden_kind.ravel()[flat]
        kind = np.where(hides, tables.hidden[kind, nibble], kind)
        variant = (patch & np.uint32(composition.VARIANTS - 1)).astype(np.int32)
        table = (kind.astype(np.int32) * composition.VARIANTS + variant) << 8

        # Streets, rows and parcels follow the bearing of their patch.
        cos, sin = self._cos.ravel()[at], self._sin.ravel()[at]
        u, v = x * cos + y * sin, y * cos - x * sin
        p = ((v / patterns.CELL).astype(np.int32) & wrap) * patterns.SIZE
        p += (u / patterns.CELL).astype(np.int32) & wrap
        pattern = self._pattern_of[kind]
        rank = self._ranks.ravel()[p + pattern.astype(np.int32) * patterns.SIZE**2]
        roads = pattern == patterns.ROAD
        if roads.any():
            step = np.float32(LABEL_RESOLUTION / _ROAD_ZOOM)
            r = (y[roads] / step).astype(np.int32).clip(0, self._road.shape[0] - 1)
            c = (x[roads] / step).astype(np.int32).clip(0, self._road.shape[1] - 1)
            rank[roads] = self._road[r, c]

        parcel, at_edge = self._parcels(u, v, kind, patch)
        byte = np.where(tables.natural[kind], self._ranks[patterns.BLOTCH].ravel()[flat], parcel)
        drifts = pattern == patterns.DRIFT
        if drifts.any():
            byte[drifts] = self._ranks[patterns.DRIFT].ravel()[flat[drifts]]
        ground = np.where(at_edge, tables.edge[kind], tables.ground.ravel()[table + byte])
        thing = tables.objects.ravel()[table + rank]
        seen: Bytes = np.where(thing == composition.NO_OBJECT, ground, thing)
        return seen

    def _parcels(
        self, u: Float, v: Float, kind: Bytes, patch: npt.NDArray[np.uint32]
    ) -> tuple[Bytes, npt.NDArray[np.bool_]]:
        """A random byte for the parcel that each point lies in, and whether the point is on the strip between two."""
        field = self._tables.field
        width = field[kind, 1]
        strip = np.floor(v / width)
        salt = mix(strip.astype(np.int32).view(np.uint32) + patch)
        # Each strip has its own parcel length (60 to 140 %) and start.
        stretch = np.float32(0.6) + (salt & np.uint32(255)).astype(np.float32) * np.float32(0.8 / 255)
        length = field[kind, 0] * stretch
        along = u / length + (salt >> np.uint32(8) & np.uint32(1023)).astype(np.float32) / np.float32(1024)
        number = np.floor(along).astype(np.int32).view(np.uint32)
        parcel = (mix(salt + number * np.uint32(0x9E3779B9) + self._crop_key) & np.uint32(255)).astype(np.uint8)
        edge = self._tables.edge_width[kind]
        at_edge = (v - strip * width < edge) | ((along - np.floor(along)) * length < edge)
        return parcel, at_edge

    def grid(self) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
        """Eastings of the label map's columns and northings of its rows, EPSG:3035 metres."""
        rows, columns = self.shape
        x = self.left + (np.arange(columns) + 0.5) * LABEL_RESOLUTION
        return x, self.top - (np.arange(rows) + 0.5) * LABEL_RESOLUTION

    def _cells(self, seed: int, name: str, size: float) -> npt.NDArray[np.uint32]:
        """Irregular cells of about ``size`` metres: a hash for each label cell."""
        x, y = self.grid()
        bend = [value_noise(x, y, 0.7 * size, key(seed, name, axis), 2) * np.float32(0.3 * size) for axis in "xy"]
        return mix2((x[None, :] + bend[0]) // size, (y[:, None] + bend[1]) // size, key(seed, name))

    def _patches(self, seed: int) -> npt.NDArray[np.uint32]:
        # Open water changes over wider stretches than land does.
        cells = np.where(
            self.water, self._cells(seed, "water", 12 * _PATCH_CELL), self._cells(seed, "patch", _PATCH_CELL)
        )
        return mix(cells + self._classes.astype(np.uint32) * np.uint32(0x85EBCA6B))

    def _bearings(self, seed: int) -> Float:
        return uniform(self._cells(seed, "bearing", 1.5 * _PATCH_CELL))

    def _trace_roads(self, road: int) -> Bytes:
        """Rank of distance from the middle of the road class, on a 10 m grid: uint8, 0 in the middle."""
        mask = (self._classes == road).repeat(_ROAD_ZOOM, axis=0).repeat(_ROAD_ZOOM, axis=1)
        soft = ndimage.gaussian_filter(mask.astype(np.float32), 3.0)
        # Relative to the ridge, so that the lane is as wide in a broad strip of the class as in a narrow one.
        ridge = np.maximum(ndimage.maximum_filter(soft, 9), 1e-3)
        lane: Bytes = (255 * (1 - np.clip((soft / ridge - 0.7) / 0.3, 0, 1))).astype(np.uint8)
        return lane
