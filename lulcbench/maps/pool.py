"""Predictions of windows, in this process, several, or on a dask cluster, with the same results."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lulcbench._parallel import executor, in_order, slots
from lulcbench.errors import LulcbenchError
from lulcbench.maps.dated import open_imagery
from lulcbench.maps.ensemble import AnyModel, Ensemble, map_predictor, open_model
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.maps.lattice import Index, Lattice
from lulcbench.maps.model import Image, MapModel
from lulcbench.maps.smoothing import Smoothing
from lulcbench.maps.windows import Predicted, predict_window
from lulcbench.release import Release
from lulcbench.remote import is_remote

_opened: dict[str, Opened] = {}  # by the token of the map; one at a time
_opening = threading.Lock()


class Opened:
    """The inputs of a map; threads share them: one of them reads while another one predicts."""

    def __init__(self, model: AnyModel | Ensemble, release: Release) -> None:
        self.info, self._predict, self._release = model.info, map_predictor(model), release
        self._imagery: dict[int, ReleaseImagery] = {}
        self._lock, self._running = threading.RLock(), threading.Lock()

    @classmethod
    def of(cls, work: Work) -> Opened:
        """Open the files of a map.

        Raises:
            LulcbenchError: they are others than where the map was begun.
        """
        model, release = open_model(work.models), Release.open(work.root)
        if (model.digest, release.digest) != work.digests:
            raise LulcbenchError(
                f"A worker does not find the model of this map in {', '.join(map(str, work.models))}, or the release "
                f"in {work.root}.",
                "All workers need the same files under the same paths: use a shared file system, or copy them.",
            )
        return cls(model, release)

    def imagery(self, year: int) -> ReleaseImagery:
        """Imagery of a year."""
        with self._lock:
            if year not in self._imagery:
                self._imagery[year] = open_imagery(self._release, self.info, year)
            return self._imagery[year]

    def predict(self, images: Mapping[str, Image]) -> Image:
        """Predict, one thread at a time: a second network would take a second processor, and more memory."""
        with self._running:
            return self._predict(images)


@dataclass(frozen=True, slots=True)
class Work:
    """What workers need to predict any window; opened once in each of them.

    Attributes:
        models: folders of the models, absolute; none if one is not exported.
        root: folder of the release, absolute, or its URL.
        digests: of the model and the release: a worker on another machine might find others there.
        lattice: of the map.
        smoothing: smooths the probabilities.
        token: of this map: what was opened for another one is not used again.
    """

    models: tuple[Path, ...]
    root: str
    digests: tuple[str, str]
    lattice: Lattice
    smoothing: Smoothing | None
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def of(cls, model: AnyModel | Ensemble, release: Release, lattice: Lattice, smoothing: Smoothing | None) -> Work:
        """The work of a map."""
        members = model.members if isinstance(model, Ensemble) else (model,)
        folders = tuple(member.folder.absolute() for member in members if isinstance(member, MapModel))
        root = release.root if is_remote(release.root) else str(Path(release.root).absolute())
        models = folders if len(folders) == len(members) else ()
        return cls(models, root, (model.digest, release.digest), lattice, smoothing)

    def __call__(self, job: tuple[int, Index]) -> Predicted:
        """Predict the window of a year and a block.

        Raises:
            LulcbenchError: the model or the release of this worker is another one; see also ``predict_window``.
        """
        year, index = job
        with _opening:
            if self.token not in _opened:
                _opened.clear()
                _opened[self.token] = Opened.of(self)
            inputs = _opened[self.token]
        temperature = inputs.info.temperature
        return predict_window(inputs.predict, inputs.imagery(year), self.lattice, index, temperature, self.smoothing)


@contextmanager
def predictions(
    model: AnyModel | Ensemble, release: Release, work: Work, workers: int, scheduler: str | None = None
) -> Iterator[Callable[[int, list[Index]], Iterator[Predicted]]]:
    """Yield a function of a year and windows, which yields their predictions in order.

    Args:
        model: the model of the work; other processes open it themselves.
        release: likewise.
        work: what is predicted.
        workers: number of processes; 1 predicts in this one.
        scheduler: address of a dask scheduler, whose workers predict instead.

    Raises:
        LulcbenchError: a process was killed, or the cluster cannot be reached; or other processes would need a model
            that is not exported.
    """
    here = workers == 1 and scheduler is None
    if here:
        _opened.clear()
        _opened[work.token] = Opened(model, release)
    elif not work.models:
        raise LulcbenchError(
            f"{model.info.name} is not exported, and other processes cannot read it.",
            "Use one worker and no scheduler, or export the model as ONNX.",
        )
    try:
        with ExitStack() as stack:
            # One thread reads while another one predicts and this one writes.
            pool = stack.enter_context(ThreadPoolExecutor(2) if here else executor(workers, scheduler))
            # Two more than work at a time keep all of them busy; more would only take memory.
            yield lambda year, order: in_order(pool, work, [(year, i) for i in order], slots(pool, workers) + 2)
    finally:
        _opened.clear()
