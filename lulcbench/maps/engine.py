"""Maps of a release with a model: windows are predicted, blended, decided and written, row by row of blocks.

A row is written as soon as it is complete, so that memory does not depend on the height of the map. Every window is
predicted by itself, on one thread, from imagery that does not depend on the area asked for. Hence the bytes of a map do
not depend on the number of processes, and any part of a map that is asked for alone has the same values.
"""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.geozarr import METADATA
from lulcbench.grid import Bounds
from lulcbench.maps.cog import write_cogs
from lulcbench.maps.imagery import Counts, ReleaseImagery
from lulcbench.maps.lattice import BLOCK, Frame, Index, Lattice
from lulcbench.maps.layers import Probabilities, encode, layers, temper
from lulcbench.maps.metadata import tags, write_metadata
from lulcbench.maps.model import STEP, MapModel, ModelInfo, Predictor
from lulcbench.maps.overviews import write_overviews
from lulcbench.maps.store import Pyramid
from lulcbench.release import Release

WORK = ".work"
Progress = Callable[[int, int], None]  # blocks done, blocks in total


@dataclass(frozen=True, slots=True)
class MapOptions:
    """What to map, and how.

    Attributes:
        years: of the imagery; empty takes all years that the release has of the sensors of the model.
        bounds: area in EPSG:3035 metres; None is all of the release. Pixels whose centre is outside have no data.
        halo: pixels around a block that the model sees; None takes its reach, at most 160.
        cog: write GeoTIFFs, too.
    """

    years: tuple[int, ...] = ()
    bounds: Bounds | None = None
    halo: int | None = None
    cog: bool = False


@dataclass(frozen=True, slots=True)
class MapResult:
    """What was mapped.

    Attributes:
        folder: of the map.
        years: of its groups.
        blocks: number of blocks with data, over all years.
        damaged: tiles that could not be read, which have no data → what is wrong.
    """

    folder: Path
    years: tuple[int, ...]
    blocks: int
    damaged: dict[str, str] = field(default_factory=dict)


def map_release(
    model: str | Path,
    root: str | Path,
    out: str | Path,
    options: MapOptions | None = None,
    *,
    workers: int = 1,
    replace: bool = False,
    progress: Progress | None = None,
) -> MapResult:
    """Map a release with an exported model; a run that was interrupted is resumed.

    Args:
        model: folder of the exported model.
        root: folder or URL of the release.
        out: folder of the map, see ``lulcbench.maps``.
        options: what to map.
        workers: number of processes that predict; 1 predicts in this process.
        replace: replace another map in ``out``.
        progress: is told the numbers of finished blocks and of all blocks.

    Raises:
        LulcbenchError: the model is not valid or does not predict pixels of the LUISA legend; the release lacks what it
            needs; the area does not overlap the release; ``out`` holds something else; the disk is full.
    """
    opened, options = MapModel.open(model), options or MapOptions()
    info = opened.info
    if not info.dense or info.level is None:
        raise LulcbenchError(
            f"{info.name} classifies patches{'' if info.level else ' of another legend'}; a map needs LUISA classes of "
            "pixels.",
            "Use a segmentation model that was trained on a release.",
        )
    release = Release.open(root)
    years = options.years or _years(release, opened)
    step = _step(opened)
    lattice = Lattice.of(info.resolution, info.reach, step, options.halo)
    imagery = {year: ReleaseImagery(release, info, year) for year in years}
    any_year = imagery[years[0]]
    bounds = _clip(options.bounds, any_year.bounds)
    wanted = _blocks(any_year, lattice, bounds) if bounds else []
    if bounds is None or not wanted:
        raise NotAvailableError(
            f"The area {options.bounds} does not overlap {release.id}.",
            f"Its tiles span {any_year.bounds}: left, bottom, right, top in EPSG:3035 metres.",
        )
    folder = Path(out)
    plan = {
        "model": opened.digest,
        "release": release.digest,
        "years": list(years),
        "bounds": list(bounds),
        "lattice": asdict(lattice),
        "cog": options.cog,
    }
    frame = Frame.over(lattice, bounds)
    done, damaged = 0, dict[str, str]()
    total = len(wanted) * len(years)
    with (
        _disk(folder),
        _prepared(folder, plan, replace) as work,
        _predictions(workers, opened, imagery, lattice) as predict,
    ):
        for year in years:
            pyramid = Pyramid(folder / str(year), frame, layers(info.level, any_year.has_clear), info.level)
            pyramid.create()
            run = _Run(pyramid, bounds, info, work / f"{year}.jsonl", partial(predict, year))
            for blocks in run.rows(wanted):
                done += blocks
                if progress:
                    progress(done, total)
            damaged |= run.damaged
            write_overviews(pyramid, wanted)
            if options.cog:
                write_cogs(pyramid, folder / "cog" / str(year), wanted, tags(opened, release, year))
        write_metadata(folder, opened, release, years, frame, bounds, damaged, options.cog)
    shutil.rmtree(folder / WORK)
    return MapResult(folder, tuple(years), total, damaged)


@dataclass(frozen=True, slots=True)
class Predicted:
    """What is known of the used part of a window, a block and its overlap.

    Attributes:
        p: weighted probabilities, float32 ``(class, y, x)``; None if no pixel has data.
        counts: ``composites`` and, if it is known, ``clear``, see ``lulcbench.maps.imagery.Window``: uint8 ``(y, x)``.
        damaged: tiles of the window that could not be read → what is wrong.
    """

    p: Probabilities | None
    counts: dict[str, Counts]
    damaged: dict[str, str]


def predict_window(predictor: Predictor, imagery: ReleaseImagery, lattice: Lattice, index: Index) -> Predicted:
    """Predict the window of a block.

    Raises:
        LulcbenchError: a prediction with data is not finite.
    """
    window = imagery.read(lattice.window(index))
    used = slice(lattice.halo, lattice.side - lattice.halo)
    counts = {"composites": window.composites} | ({} if window.clear is None else {"clear": window.clear})
    counts = {name: values[used, used].copy() for name, values in counts.items()}
    composites = counts["composites"]
    damaged = {
        tile.id: imagery.damaged[tile.id] for tile in imagery.tiles(lattice.window(index)) if tile.id in imagery.damaged
    }
    if not composites.any():
        return Predicted(None, counts, damaged)
    p = predictor(window.images)[:, used, used]
    if not np.isfinite(p).all():
        wrong = ~np.isfinite(p).all(axis=0)
        if (wrong & (composites > 0)).any():
            raise LulcbenchError(
                f"{imagery.info.name} predicts values that are not finite in the window "
                f"{tuple(lattice.window(index))} of {imagery.year}.",
                "Check the weights of the model and the imagery there.",
            )
        p = np.where(wrong, np.float32(0), p)
    return Predicted(p * lattice.weights() if lattice.overlap else p.copy(), counts, damaged)


class _Run:
    """The rows of blocks of one year."""

    def __init__(
        self,
        pyramid: Pyramid,
        bounds: Bounds,
        info: ModelInfo,
        journal: Path,
        predict: Callable[[list[Index]], Iterator[Predicted]],
    ) -> None:
        self.pyramid, self.bounds, self.info, self.journal, self.predict = pyramid, bounds, info, journal, predict
        self.damaged: dict[str, str] = {}

    def rows(self, wanted: Sequence[Index]) -> Iterator[int]:
        """Write all rows that are not complete yet; yields the number of blocks of each row.

        Args:
            wanted: the blocks, in order.
        """
        finished = self._finished()
        carried: dict[Index, Predicted] = {}
        for i, group in groupby(wanted, lambda index: index[0]):
            blocks = list(group)
            entry = finished.get(i)
            if entry and entry["digest"] == self.pyramid.digest(blocks):
                self.damaged |= entry["damaged"]
            else:
                carried = self._row(blocks, carried)
                entry = {"row": i, "digest": self.pyramid.digest(blocks), "damaged": self._row_damage}
                self.damaged |= self._row_damage
                with self.journal.open("ab") as file:
                    file.write((json.dumps(entry) + "\n").encode())
                    file.flush()
                    os.fsync(file.fileno())
            yield len(blocks)

    def _finished(self) -> dict[int, dict[str, Any]]:
        """Rows of the journal; a line that a kill cut off is not one."""
        found: dict[int, dict[str, Any]] = {}
        for line in self.journal.read_text(encoding="utf-8").splitlines() if self.journal.is_file() else []:
            with suppress(ValueError):
                entry = json.loads(line)
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
        order = [*above, *own]
        below: dict[Index, Predicted] = {}
        left: tuple[Index, Predicted] | None = None
        for index, predicted in zip(order, self.predict(order), strict=True):
            self._row_damage |= predicted.damaged
            if index in above:
                carried[index] = _bottom(predicted)
                continue
            if index in blocks:
                i, j = index
                beside = left[1] if left and left[0] == (i, j - 1) else None
                self._write(index, predicted, beside, carried.get((i - 1, j)), carried.get((i - 1, j - 1)))
            if overlap:
                below[index] = _bottom(predicted)
                left = (index, predicted)
        return below

    def _write(
        self, index: Index, own: Predicted, left: Predicted | None, above: Predicted | None, corner: Predicted | None
    ) -> None:
        """Blend, decide and write a block."""
        inside = self._inside(index)
        counts = {name: values[:BLOCK, :BLOCK] * inside for name, values in own.counts.items()}
        if own.p is None or not counts["composites"].any():
            return
        p = own.p[:, :BLOCK, :BLOCK]
        overlap = self.pyramid.frame.lattice.overlap
        # In one order, so that sums do not depend on anything.
        if above is not None and above.p is not None:
            p[:, :overlap] += above.p[:, :, :BLOCK]
        if left is not None and left.p is not None:
            p[:, :, :overlap] += left.p[:, :BLOCK, BLOCK:]
        if corner is not None and corner.p is not None:
            p[:, :overlap, :overlap] += corner.p[:, :, BLOCK:]
        self.pyramid.write(index, encode(temper(p, self.info.temperature), counts, self.pyramid.level))

    def _inside(self, index: Index) -> npt.NDArray[np.uint8]:
        """1 for the pixels of a block whose centre is inside the area."""
        lattice = self.pyramid.frame.lattice
        left, _, _, top = lattice.block(index)
        centres = (np.arange(BLOCK) + 0.5) * lattice.resolution
        y, x = top - centres, left + centres
        rows = (y > self.bounds[1]) & (y < self.bounds[3])
        columns = (x > self.bounds[0]) & (x < self.bounds[2])
        return (rows[:, None] & columns[None, :]).astype(np.uint8)


def _bottom(predicted: Predicted) -> Predicted:
    """The part of a window that overlaps the blocks below it."""
    p = None if predicted.p is None else predicted.p[:, BLOCK:].copy()
    return Predicted(p, {}, {})


def _years(release: Release, model: MapModel) -> tuple[int, ...]:
    """Years of which the release has all sensors of a model."""
    sensors = release.manifest.sensors
    sets = [set(sensors[name].years) if name in sensors else set[int]() for name in model.info.inputs]
    years = tuple(sorted(set.intersection(*sets)))
    if not years:
        raise NotAvailableError(
            f"{release.id} has no year of {', '.join(model.info.inputs)}.",
            f"It has {', '.join(f'{name} ({sensor.years})' for name, sensor in sensors.items()) or 'no imagery'}.",
        )
    return years


def _step(model: MapModel) -> int:
    """Pixels of the map that are a whole number of steps of every sensor."""
    resolutions = [imagery.resolution for imagery in model.info.inputs.values()]
    if model.info.reach == 0:
        return math.lcm(*resolutions) // model.info.resolution
    return math.lcm(*(STEP * r for r in resolutions)) // model.info.resolution


def _clip(bounds: Bounds | None, extent: Bounds) -> Bounds | None:
    """The part of an area inside an extent; None if there is none.

    Raises:
        LulcbenchError: the area is empty.
    """
    if bounds is None:
        return extent
    left, bottom, right, top = bounds
    if not (all(map(math.isfinite, bounds)) and left < right and bottom < top):
        raise LulcbenchError(f"Bounds {bounds} are empty.", "Give left, bottom, right, top in EPSG:3035 metres.")
    left, bottom = max(left, extent[0]), max(bottom, extent[1])
    right, top = min(right, extent[2]), min(top, extent[3])
    return (left, bottom, right, top) if left < right and bottom < top else None


def _blocks(imagery: ReleaseImagery, lattice: Lattice, bounds: Bounds) -> list[Index]:
    """Blocks in which the area and tiles of the release overlap, row by row."""
    found: set[Index] = set()
    for tile in imagery.tiles(bounds):
        if (part := _clip(bounds, tile.bounds)) is not None:
            found.update(lattice.blocks(part))
    return sorted(found)


@contextmanager
def _prepared(folder: Path, plan: dict[str, Any], replace: bool) -> Iterator[Path]:
    """The folder of what a map needs while it is made; taken up again if it is of the same map.

    Raises:
        LulcbenchError: the folder holds something else, or another process works in it.
    """
    work, own = folder / WORK, folder / WORK / "plan.json"
    text = json.dumps(plan, indent=1, sort_keys=True) + "\n"
    same = own.is_file() and own.read_text(encoding="utf-8") == text
    if folder.is_dir() and any(folder.iterdir()) and not same:
        complete, ours = (folder / METADATA).is_file(), own.is_file()
        if not replace or not (complete or ours):
            what = "holds a map already" if complete else "holds a part of another map" if ours else "is not empty"
            raise LulcbenchError(f"{folder} {what}.", "Give another --out, or --replace for a map.")
        shutil.rmtree(folder)
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LulcbenchError(
            f"Another process makes the map in {folder}.", "Wait for it, or give another --out."
        ) from error
    try:
        for left in sorted(folder.rglob("*.partial")):  # by zarr, when it was killed
            left.unlink()
        write_atomic(own, text.encode())
        yield work
    finally:
        lock.release()


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise LulcbenchError(
            f"The disk of {folder} is full.",
            "Free some space and run the command again: it continues where it stopped.",
        ) from error


_state: dict[str, Any] = {}


def _open_worker(model: MapModel, imagery: dict[int, ReleaseImagery], lattice: Lattice) -> None:
    _state.update(predictor=model.predictor(), imagery=imagery, lattice=lattice)


def _work(year: int, index: Index) -> Predicted:
    return predict_window(_state["predictor"], _state["imagery"][year], _state["lattice"], index)


@contextmanager
def _predictions(
    workers: int, model: MapModel, imagery: dict[int, ReleaseImagery], lattice: Lattice
) -> Iterator[Callable[[int, list[Index]], Iterator[Predicted]]]:
    """A function of a year and windows, which yields their predictions in order."""
    if workers == 1:
        predictor = model.predictor()
        yield lambda year, order: (predict_window(predictor, imagery[year], lattice, index) for index in order)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, context, _open_worker, (model, imagery, lattice)) as pool:

        def predict(year: int, order: list[Index]) -> Iterator[Predicted]:
            waiting: deque[Future[Predicted]] = deque()
            for index in order:
                waiting.append(pool.submit(_work, year, index))
                if len(waiting) > workers + 1:  # enough to keep all busy; more would only take memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        yield predict
