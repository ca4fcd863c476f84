"""The ground at 3 m: the material of every cell, derived from a 50 m label map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from builders.simulate import composition, patterns
from builders.simulate.config import SimulationConfig
from builders.simulate.labels import LabelMap
from builders.simulate.noise import Float, generator, key, mix, mix2, portable, uniform, value_noise
from lulcbench.grid import LABEL_RESOLUTION
from lulcbench.legend import IGNORE_INDEX, legend

_TURNS = 16  # number of possible bearings of fields, streets and rows
_WARP = 24.0  # metres, scale of the deviation of true boundaries from the edges of label pixels
_PATCH_CELL = 1_200.0  # metres, maximum extent of one mixture: larger patches are divided
_ROAD_ZOOM = 5  # roads are drawn on a 10 m grid

Bytes = npt.NDArray[np.uint8]


class Surface:
    """The ground of one year. ``materials`` is a pure function of position and can be evaluated in any order.

    Args:
        labels: the label map of that year.
        year: the year, which determines the crops of parcels.
        config: the simulation.
    """

    def __init__(self, labels: LabelMap, year: int, config: SimulationConfig) -> None:
        self.left, self.top = labels.left, labels.top
        self.shape = labels.codes.shape
        self._tables = composition.tables(config.seed, config.patch_variation, config.inclusions)
        self._ranks = patterns.ranks(config.seed)
        codes = legend().codes(4)
        index = legend().encode(labels.codes, 4, "label map")
        # Unlabelled pixels are rendered as sea.
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
        angle = turn * (np.pi / _TURNS)
        self._cos, self._sin = portable(np.cos, angle), portable(np.sin, angle)

    def materials(self, x: Float, y: Float) -> Bytes:
        """Material indices of points.

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
        # The inclusion class varies more slowly than the inclusion pattern, so that most inclusions have one class.
        nibble = self._hidden_kind.ravel()[flat]
        kind = np.where(hides, tables.hidden[kind, nibble], kind)
        variant = (patch & np.uint32(composition.VARIANTS - 1)).astype(np.int32)
        table = (kind.astype(np.int32) * composition.VARIANTS + variant) << 8

        # Streets, rows and parcels are aligned with the bearing of their patch.
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
        objects = tables.objects.ravel()[table + rank]
        visible: Bytes = np.where(objects == composition.NO_OBJECT, ground, objects)
        return visible

    def _parcels(
        self, u: Float, v: Float, kind: Bytes, patch: npt.NDArray[np.uint32]
    ) -> tuple[Bytes, npt.NDArray[np.bool_]]:
        """A random byte of the parcel of each point, and whether the point is on the strip between two parcels."""
        field = self._tables.field
        width = field[kind, 1]
        strip = np.floor(v / width)
        salt = mix(strip.astype(np.int32).view(np.uint32) + patch)
        # Each strip has its own parcel length (60 to 140 %) and start.
        stretch = np.float32(0.6) + (salt & np.uint32(255)).astype(np.float32) * np.float32(0.8 / 255)
        length = field[kind, 0] * stretch
        along = u / length + (salt >> np.uint32(8) & np.uint32(1023)).astype(np.float32) / np.float32(1024)
        index = np.floor(along).astype(np.int32).view(np.uint32)
        parcel = (mix(salt + index * np.uint32(0x9E3779B9) + self._crop_key) & np.uint32(255)).astype(np.uint8)
        edge = self._tables.edge_width[kind]
        at_edge = (v - strip * width < edge) | ((along - np.floor(along)) * length < edge)
        return parcel, at_edge

    def grid(self) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
        """Eastings of the columns and northings of the rows of the label map, EPSG:3035 metres."""
        rows, columns = self.shape
        x = self.left + (np.arange(columns) + 0.5) * LABEL_RESOLUTION
        return x, self.top - (np.arange(rows) + 0.5) * LABEL_RESOLUTION

    def _cells(self, seed: int, name: str, size: float) -> npt.NDArray[np.uint32]:
        """A hash for each label pixel that is equal within irregular cells of about ``size`` metres."""
        x, y = self.grid()
        bend = [value_noise(x, y, 0.7 * size, key(seed, name, axis), 2) * np.float32(0.3 * size) for axis in "xy"]
        return mix2((x[None, :] + bend[0]) // size, (y[:, None] + bend[1]) // size, key(seed, name))

    def _patches(self, seed: int) -> npt.NDArray[np.uint32]:
        # Patches of water are larger than those of land.
        cells = np.where(
            self.water, self._cells(seed, "water", 12 * _PATCH_CELL), self._cells(seed, "patch", _PATCH_CELL)
        )
        return mix(cells + self._classes.astype(np.uint32) * np.uint32(0x85EBCA6B))

    def _bearings(self, seed: int) -> Float:
        return uniform(self._cells(seed, "bearing", 1.5 * _PATCH_CELL))

    def _trace_roads(self, road: int) -> Bytes:
        """Rank by distance from the centre line of the road class, on a 10 m grid: uint8, 0 on the centre line."""
        mask = (self._classes == road).repeat(_ROAD_ZOOM, axis=0).repeat(_ROAD_ZOOM, axis=1)
        soft = ndimage.gaussian_filter(mask.astype(np.float32), 3.0)
        # Relative to the local maximum, so that the road has the same width in wide and narrow strips of the class.
        ridge = np.maximum(ndimage.maximum_filter(soft, 9), 1e-3)
        lane: Bytes = (255 * (1 - np.clip((soft / ridge - 0.7) / 0.3, 0, 1))).astype(np.uint8)
        return lane
