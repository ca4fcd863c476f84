"""Rows of blocks: windows are blended, decided and written; a journal of complete rows makes runs resumable."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.areas import Area
from lulcbench.grid import Bounds
from lulcbench.maps.conformal import Calibration
from lulcbench.maps.lattice import BLOCK, Index
from lulcbench.maps.layers import encode
from lulcbench.maps.store import Pyramid
from lulcbench.maps.windows import Predicted, blended, bottom


class Rows:
    """The rows of blocks of one year."""

    def __init__(
        self,
        pyramid: Pyramid,
        bounds: Bounds,
        calibration: Calibration | None,
        chosen: Pyramid | None,
        journal: Path,
        predict: Callable[[list[Index]], Iterator[Predicted]],
        area: Area | None = None,
    ) -> None:
        self.pyramid, self.bounds, self.journal, self.predict = pyramid, bounds, journal, predict
        self.area = area  # inside the bounds
        self.chosen = chosen  # takes the decided classes, also of blocks and pixels outside the bounds
        self.limit = calibration.threshold if calibration else None
        self.damaged: dict[str, str] = {}
        self.mapped = 0  # pixels

    def rows(self, wanted: Sequence[Index]) -> Iterator[int]:
        """Write all rows that are not complete yet; yields the number of blocks of each row.

        Rows that lack a tile that could not be read are made again: it may be readable now.

        Args:
            wanted: the blocks, in order.
        """
        finished = self._finished()
        carried: dict[Index, Predicted] = {}
        for i, group in groupby(wanted, lambda index: index[0]):
            blocks = list(group)
            entry = finished.get(i)
            if entry and not entry["damaged"] and entry["digest"] == self._digest(blocks):
                carried = {}
            else:
                carried = self._row(blocks, carried)
                entry = {"row": i, "digest": self._digest(blocks), "damaged": self._row_damage}
                entry["mapped"] = self._row_mapped
                with self.journal.open("ab") as file:
                    file.write((json.dumps(entry) + "\n").encode())
                    file.flush()
                    os.fsync(file.fileno())
            self.damaged |= entry["damaged"]
            self.mapped += entry["mapped"]
            yield len(blocks)

    def _digest(self, blocks: Sequence[Index]) -> str:
        return "".join(part.digest([index for index in blocks if part.holds(index)]) for part in self._parts)

    @property
    def _parts(self) -> list[Pyramid]:
        return [self.pyramid, *([self.chosen] if self.chosen else [])]

    def _finished(self) -> dict[int, dict[str, Any]]:
        """Rows of the journal; a line that a kill cut off is not one."""
        found: dict[int, dict[str, Any]] = {}
        for line in self.journal.read_text(encoding="utf-8").splitlines() if self.journal.is_file() else []:
            with suppress(ValueError):
                entry = json.loads(line)
                if "mapped" in entry:  # older ones do not state it
                    found[entry["row"]] = entry
        return found

    def _row(self, blocks: Sequence[Index], carried: dict[Index, Predicted]) -> dict[Index, Predicted]:
        """Write a row of blocks; returns what the next row needs of its windows."""
        overlap = self.pyramid.frame.lattice.overlap
        own = list(blocks)
        above: list[Index] = []
        if overlap:
            own = sorted({*blocks, *((i, j - 1) for i, j in blocks)})
            above = [(i - 1, j) for i, j in own if (i - 1, j) not in carried]
        self._row_damage: dict[str, str] = {}
        self._row_mapped = 0
        for index in blocks:
            for part in self._parts:
                if part.holds(index):
                    part.erase(index)  # what an earlier run wrote of other tiles
        for at, predicted in carried.items():
            if at[0] == blocks[0][0] - 1:
                self._row_damage |= predicted.damaged
        order = [*above, *own]
        below: dict[Index, Predicted] = {}
        left: tuple[Index, Predicted] | None = None
        for index, predicted in zip(order, self.predict(order), strict=True):
            self._row_damage |= predicted.damaged
            if index in above:
                carried[index] = bottom(predicted)
                continue
            if index in blocks:
                i, j = index
                beside = left[1] if left and left[0] == (i, j - 1) else None
                self._write(index, predicted, beside, carried.get((i - 1, j)), carried.get((i - 1, j - 1)))
            if overlap:
                below[index] = bottom(predicted)
                left = (index, predicted)
        return below

    def _write(
        self, index: Index, own: Predicted, left: Predicted | None, above: Predicted | None, corner: Predicted | None
    ) -> None:
        """Blend, decide and write a block."""
        inside = self._inside(index)
        valid = own.counts["composites"][:BLOCK, :BLOCK] > 0
        if own.p is None or not (valid.any() if self.chosen else (valid & (inside > 0)).any()):
            return
        scheme = self.pyramid.scheme
        classes = len(scheme.codes())
        p = blended(own.p, left, above, corner, self.pyramid.frame.lattice.overlap, classes)
        if self.chosen:
            self.chosen.write(index, {"chosen": np.where(valid, scheme.decide(p[:classes]) + 1, 0)})
        if pixels := int((valid & (inside > 0)).sum()):
            self._row_mapped += pixels
            counts = {name: values[:BLOCK, :BLOCK] * inside for name, values in own.counts.items()}
            self.pyramid.write(index, encode(p, counts, scheme, self.limit))

    def _inside(self, index: Index) -> npt.NDArray[np.uint8]:
        """1 for the pixels of a block whose centre is inside the bounds and the area."""
        lattice = self.pyramid.frame.lattice
        left, _, _, top = lattice.block(index)
        centres = (np.arange(BLOCK) + 0.5) * lattice.resolution
        y, x = top - centres, left + centres
        rows = (y > self.bounds[1]) & (y < self.bounds[3])
        columns = (x > self.bounds[0]) & (x < self.bounds[2])
        inside = (rows[:, None] & columns[None, :]).astype(np.uint8)
        return inside if self.area is None else inside * self.area.mask(lattice.block(index), lattice.resolution)
