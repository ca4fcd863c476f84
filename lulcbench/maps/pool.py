"""Predictions of windows, in this process, several, or on a dask cluster, with the same results."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lulcbench._parallel import executor, in_order, slots
from lulcbench.errors import LulcbenchError
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.maps.lattice import Index, Lattice
from lulcbench.maps.model import MapModel
from lulcbench.maps.smoothing import Smoothing
from lulcbench.maps.windows import Predicted, predict_window
from lulcbench.release import Release
from lulcbench.remote import is_remote

_opened = threading.local()  # a worker of dask may have several threads; what they read is not shared


@dataclass(frozen=True, slots=True)
class Work:
    """What workers need to predict any window; opened once in each of them.

    Attributes:
        model: folder of the model, absolute.
        root: folder of the release, absolute, or its URL.
        digests: of the model and the release: a worker on another machine might find others there.
        lattice: of the map.
        smoothing: smooths the probabilities.
        token: of this map: what was opened for another one is not used again.
    """

    model: Path
    root: str
    digests: tuple[str, str]
    lattice: Lattice
    smoothing: Smoothing | None
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def of(cls, model: MapModel, release: Release, lattice: Lattice, smoothing: Smoothing | None) -> Work:
        """The work of a map."""
        root = release.root if is_remote(release.root) else str(Path(release.root).absolute())
        return cls(model.folder.absolute(), root, (model.digest, release.digest), lattice, smoothing)

    def __call__(self, job: tuple[int, Index]) -> Predicted:
        """Predict the window of a year and a block.

        Raises:
            LulcbenchError: the model or the release of this worker is another one; see also ``predict_window``.
        """
        year, index = job
        if getattr(_opened, "token", None) != self.token:
            _opened.__dict__.clear()
            self._open()
        if year not in _opened.imagery:
            _opened.imagery[year] = ReleaseImagery(_opened.release, _opened.info, year)
        imagery, temperature = _opened.imagery[year], _opened.info.temperature
        return predict_window(_opened.predictor, imagery, self.lattice, index, temperature, self.smoothing)

    def _open(self) -> None:
        model, release = MapModel.open(self.model), Release.open(self.root)
        if (model.digest, release.digest) != self.digests:
            raise LulcbenchError(
                f"A worker does not find the model of this map in {self.model}, or the release in {self.root}.",
                "All workers need the same files under the same paths: use a shared file system, or copy them.",
            )
        _opened.info, _opened.predictor, _opened.release = model.info, model.predictor(), release
        _opened.imagery = {}
        _opened.token = self.token


@contextmanager
def predictions(
    work: Work, workers: int, scheduler: str | None = None
) -> Iterator[Callable[[int, list[Index]], Iterator[Predicted]]]:
    """Yield a function of a year and windows, which yields their predictions in order.

    Args:
        work: what is predicted.
        workers: number of processes; 1 predicts in this one.
        scheduler: address of a dask scheduler, whose workers predict instead.

    Raises:
        LulcbenchError: a process was killed, or the cluster cannot be reached.
    """
    try:
        with executor(workers, scheduler) as pool:
            # Two more than work at a time keep all of them busy; more would only take memory.
            yield lambda year, order: in_order(pool, work, [(year, i) for i in order], slots(pool, workers) + 2)
    finally:
        _opened.__dict__.clear()
