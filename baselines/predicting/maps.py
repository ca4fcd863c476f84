"""Maps of tiles: predictions of windows are blended, averaged to the 50 m label grid, decided and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lulcbench import _console
from lulcbench.datasets import LuisaSeg
from lulcbench.datasets.batch import Sample
from lulcbench.grid import TILE_SIZE
from lulcbench.legend import decide, legend
from lulcbench.predictions import PredictionWriter, to_label_grid
from lulcbench.windows import Blend

if TYPE_CHECKING:
    from torch import Tensor

    from baselines.run import Trained

Probabilities = npt.NDArray[np.float32]


def blend_tiles(dataset: LuisaSeg, predicted: Iterable[tuple[Sample, Tensor]]) -> Iterator[tuple[str, Probabilities]]:
    """Blend the windows of each tile; yields id and probabilities, float32 ``(class, 96, 96)``, of tiles.

    Args:
        dataset: dataset of the windows.
        predicted: batches of the dataset in its order (by tile), with their probabilities ``(b, class, y, x)``.
    """
    resolution = dataset.resolution()
    size = TILE_SIZE // resolution
    blend, current, start = Blend(0, size), "", 0
    for batch, p in predicted:
        windows = dataset.locate(range(start, start + len(p)))
        start += len(p)
        for tile, value, (y, x) in zip(batch["tile"], p.cpu().numpy(), windows.offsets // resolution, strict=True):
            if tile != current:
                if current:
                    yield current, to_label_grid(blend.result())
                blend, current = Blend(len(value), size), tile
            blend.add(value, int(y), int(x))
    if current:
        yield current, to_label_grid(blend.result())


def write_maps(trained: Trained, dataset: LuisaSeg, maps: Iterable[tuple[str, Probabilities]], out: Path) -> Path:
    """Write the class codes (see ``decide``) and probabilities of all tiles at the level of the model.

    Args:
        trained: the trained model.
        dataset: dataset of the split.
        maps: id and probabilities ``(class, 96, 96)`` of every tile of the split.
        out: predictions file to write, ``….zip``.

    Returns:
        The predictions file.
    """
    level, (year,) = trained.about.info.level or 4, dataset.years
    codes = np.array(legend().codes(level), np.uint16)
    with (
        PredictionWriter(out, dataset.release, dataset.split, year, level, probabilities=True) as writer,
        _console.progress() as bar,
    ):
        for tile, p in bar.track(maps, total=len(dataset.tiles), description=f"predict {dataset.split}"):
            p = np.clip(p, 0, 1)
            p /= p.sum(0)
            writer.write(tile, codes[decide(p, level)], p)
    return out
