"""The part of the audit that asks whether labels lie on the imagery, and whether they are of its year."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from builders.stages._registration import Image
from lulcbench.grid import LABEL_RESOLUTION
from lulcbench.legend import NODATA
from lulcbench.release import ArrayKey

Floats = npt.NDArray[np.floating[Any]]
Codes = npt.NDArray[np.int64]
Verdict = tuple[str, bool, str]

LEVEL = 3  # of the classes that are compared
REACH = 3  # cells by which labels are moved in each direction
MIN_CELLS = 1000
# The variance that the classes explain is highest where labels lie on the imagery. Moved by one cell of 50 m it is
# lower by 1.5 % (CORINE on Landsat, Lanjarón) to 15 % (simulated); labels that fit better by 1 % elsewhere lie wrong.
GAIN = 0.01
MIN_EXPLAINED = 0.02  # with less, labels and imagery are not related
MIN_CHANGED = 200  # cells of another class in the other year
KEEP = 20_000  # changed cells that are kept


class Checks(Protocol):
    """What keeps measurements."""

    measured: dict[str, Any]


class LabelFit:
    """How well the labels of all tiles fit the imagery of their year, where they are and when they are moved."""

    def __init__(self) -> None:
        self.explained: dict[tuple[ArrayKey, ArrayKey], Floats] = {}
        self.tiles: dict[tuple[ArrayKey, ArrayKey], int] = defaultdict(int)
        self.cells: dict[tuple[str, int, int], list[int]] = defaultdict(lambda: [0, 0])  # labelled in both, changed
        self.sums: dict[tuple[ArrayKey, ArrayKey, int], Floats] = {}
        self.changed: dict[tuple[ArrayKey, ArrayKey], list[tuple[Floats, Codes, Codes]]] = defaultdict(list)

    def add(self, images: Mapping[ArrayKey, Image], labels: Mapping[ArrayKey, npt.NDArray[np.uint16]]) -> None:
        """Take the samples of a tile.

        Args:
            images: of the tile, by array.
            labels: LUISA codes of the tile ``(y, x)``, by array.
        """
        codes = {key: _at_level(stored) for key, stored in labels.items()}
        for key, here in codes.items():
            others = [other for other in codes if other.name == key.name and other.first != key.first]
            for other in others:
                both = (here != NODATA) & (codes[other] != NODATA)
                if key.first < other.first:
                    count = self.cells[key.name, key.first, other.first]
                    count[0] += int(both.sum())
                    count[1] += int((both & (here != codes[other])).sum())
            for image in images.values():
                if image.key.first == key.first:
                    cells = _cells(image, here.shape[0])
                    self._moved(image.key, key, cells, here)
                    for other in others:
                        self._changed(image.key, key, cells, here, codes[other])

    def _moved(self, image: ArrayKey, key: ArrayKey, cells: Floats, codes: Codes) -> None:
        inner = codes[REACH:-REACH, REACH:-REACH]
        side = inner.shape[0]
        classes, index = np.unique(inner, return_inverse=True)
        index = index.reshape(inner.shape)
        # The same cells for every move: labelled, and observed after every move.
        known = (inner != NODATA) & _observed_around(np.isfinite(cells[0]))
        if known.sum() < MIN_CELLS or len(np.unique(index[known])) < 2:
            return
        counts = np.bincount(index[known], minlength=len(classes))
        explained = np.zeros((2 * REACH + 1, 2 * REACH + 1))
        for dy in range(2 * REACH + 1):
            for dx in range(2 * REACH + 1):
                for band in cells[:, dy : dy + side, dx : dx + side]:
                    values = band[known] - band[known].mean()
                    total = float((values**2).sum())
                    sums = np.bincount(index[known], values, len(classes))
                    explained[dy, dx] += (
                        float((sums[counts > 0] ** 2 / counts[counts > 0]).sum()) / total if total else 0
                    )
        explained /= len(cells)
        self.explained[image, key] = self.explained.get((image, key), 0) + explained
        self.tiles[image, key] += 1

    def _changed(self, image: ArrayKey, key: ArrayKey, cells: Floats, here: Codes, there: Codes) -> None:
        known = (here != NODATA) & (there != NODATA) & np.isfinite(cells).all(axis=0)
        same, changed = known & (here == there), known & (here != there)
        for code in np.unique(here[same]):
            values = cells[:, same & (here == code)].astype(np.float64)
            sums = np.vstack([np.append(values.sum(axis=1), values.shape[1]), np.append((values**2).sum(axis=1), 0)])
            place = (image, key, int(code))
            self.sums[place] = self.sums.get(place, 0) + sums
        kept = self.changed[image, key]
        if changed.any() and sum(len(own) for _, own, _ in kept) < KEEP:
            kept.append((cells[:, changed].T, here[changed], there[changed]))

    def verdicts(self, found: Checks) -> Iterator[Verdict]:
        """Checks of the whole release: name, whether it is good, what is wrong."""
        for (image, key), total in self.explained.items():
            explained = total / self.tiles[image, key]
            here, best = float(explained[REACH, REACH]), float(explained.max())
            if best < MIN_EXPLAINED:
                continue
            dy, dx = (int(v) - REACH for v in np.unravel_index(int(explained.argmax()), explained.shape))
            found.measured[f"variance of {image} that {key} explains"] = round(here, 4)
            # Labels fit the imagery that lies dx cells east of them: they are dx cells too far west.
            yield (
                "labels lie on the imagery",
                best <= here * (1 + GAIN),
                f"{key} fits {image} better when it is moved by {dx * LABEL_RESOLUTION:+d} m east and "
                f"{-dy * LABEL_RESOLUTION:+d} m north: {best:.3f} of the variance is explained instead of {here:.3f}",
            )
        for (name, first, second), (cells, changed) in self.cells.items():
            if cells >= 5 * 96 * 96:
                found.measured[f"cells of {name} that differ between {first} and {second}"] = round(changed / cells, 4)
                yield (
                    "labels of two years differ",
                    changed > 0,
                    f"{name}_{first} and {name}_{second} are the same in all {cells} cells",
                )
        for (image, key), parts in self.changed.items():
            yield from self._year(image, key, parts, found)

    def _year(
        self, image: ArrayKey, key: ArrayKey, parts: list[tuple[Floats, Codes, Codes]], found: Checks
    ) -> Iterator[Verdict]:
        """Cells whose class changed look like the class of their year, not like that of the other one."""
        sums = {code: part for (of, at, code), part in self.sums.items() if (of, at) == (image, key)}
        means = {code: part[0, :-1] / part[0, -1] for code, part in sums.items()}
        total = np.sum(list(sums.values()), axis=0) if sums else np.zeros((2, 2))
        variance = total[1, :-1] / max(total[0, -1], 1) - (total[0, :-1] / max(total[0, -1], 1)) ** 2
        own = other = 0
        for values, here, there in parts:
            for a, b in {(int(a), int(b)) for a, b in zip(here, there, strict=True)}:
                if a in means and b in means:
                    chosen = values[(here == a) & (there == b)]
                    to_own, to_other = (
                        ((chosen - means[code]) ** 2 / np.maximum(variance, 1e-8)).sum(axis=1) for code in (a, b)
                    )
                    own += int((to_own < to_other).sum())
                    other += int((to_own > to_other).sum())
        if own + other >= MIN_CHANGED:
            share = own / (own + other)
            found.measured[f"changed cells of {key} that look like their class, {image}"] = round(share, 3)
            yield (
                "labels are of the year of the imagery",
                share >= 0.5,
                f"{1 - share:.0%} of the {own + other} cells of {key} whose class changed look, in {image}, like the "
                "class of the other year",
            )


def _at_level(codes: npt.NDArray[np.uint16]) -> Codes:
    """Codes at ``LEVEL``; coarser ones are unlabelled."""
    out = codes.astype(np.int64)
    while (out >= 10**LEVEL).any():
        out = np.where(out >= 10**LEVEL, out // 10, out)
    return np.where(out >= 10 ** (LEVEL - 1), out, NODATA)


def _cells(image: Image, side: int) -> Floats:
    """Means over seasons on the label grid, ``(band, y, x)``; of coarse pixels, those at the centres of cells."""
    known = np.isfinite(image.values)
    count = known.sum(axis=0)
    values = np.where(known, image.values, 0).sum(axis=0) / np.where(count, count, 1)
    values = np.where(count, values, np.nan)
    factor = LABEL_RESOLUTION // image.resolution
    if factor * image.resolution == LABEL_RESOLUTION:
        means: Floats = values.reshape(len(values), side, factor, side, factor).mean(axis=(2, 4))
        return means
    centres = ((np.arange(side) + 0.5) * LABEL_RESOLUTION / image.resolution).astype(int)
    at: Floats = values[:, centres[:, None], centres[None, :]]
    return at


def _observed_around(known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Inner cells whose neighbours up to ``REACH`` away are all observed."""
    window = 2 * REACH + 1
    views = np.lib.stride_tricks.sliding_window_view(known, (window, window))
    around: npt.NDArray[np.bool_] = views.all(axis=(2, 3))
    return around
