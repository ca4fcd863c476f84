"""Processes that predict windows, in any number with the same results."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from lulcbench.errors import LulcbenchError
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.maps.lattice import Index, Lattice
from lulcbench.maps.model import MapModel
from lulcbench.maps.smoothing import Smoothing
from lulcbench.maps.windows import Predicted, predict_window

_state: dict[str, Any] = {}


def _open_worker(
    model: MapModel, imagery: dict[int, ReleaseImagery], lattice: Lattice, smoothing: Smoothing | None
) -> None:
    options = {"temperature": model.info.temperature, "smoothing": smoothing}
    _state.update(predictor=model.predictor(), imagery=imagery, lattice=lattice, options=options)


def _work(year: int, index: Index) -> Predicted:
    return predict_window(_state["predictor"], _state["imagery"][year], _state["lattice"], index, **_state["options"])


@contextmanager
def predictions(
    workers: int,
    model: MapModel,
    imagery: dict[int, ReleaseImagery],
    lattice: Lattice,
    smoothing: Smoothing | None,
) -> Iterator[Callable[[int, list[Index]], Iterator[Predicted]]]:
    """Yield a function of a year and windows, which yields their predictions in order.

    Args:
        workers: number of processes; 1 predicts in this one.
        model: the model.
        imagery: its inputs, by year.
        lattice: of the map.
        smoothing: smooths the probabilities.

    Raises:
        LulcbenchError: a process was killed.
    """
    if workers == 1:
        predictor = model.predictor()
        temperature = model.info.temperature
        yield lambda year, order: (
            predict_window(predictor, imagery[year], lattice, index, temperature, smoothing) for index in order
        )
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, context, _open_worker, (model, imagery, lattice, smoothing)) as pool:

        def predict(year: int, order: list[Index]) -> Iterator[Predicted]:
            waiting: deque[Future[Predicted]] = deque()
            for index in order:
                waiting.append(pool.submit(_work, year, index))
                if len(waiting) > workers + 1:  # enough to keep all busy; more would only take memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield predict
        except BrokenProcessPool as error:
            raise LulcbenchError(
                "A process that predicted was killed; probably memory ran out.",
                "Lower --workers and run the command again: it continues where it stopped.",
            ) from error
