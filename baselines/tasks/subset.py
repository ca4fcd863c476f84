"""Segmentation of the classes of a legend subset, such as those of a settlement layer."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.arrays import read_arrays
from baselines.devices import memory_errors, threads
from baselines.predicting.maps import blend_tiles
from baselines.predicting.split import open_split, read_split
from baselines.predicting.unit_counts import FLAT, UnitCounts, count_samples
from baselines.predicting.views import EPSILON
from baselines.tasks.base import Report
from baselines.tasks.segmentation import Segmentation
from lulcbench._files import write_atomic
from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import evaluate, shown_in
from lulcbench.legend import IGNORE_INDEX, LEVELS, LegendSubset
from lulcbench.plotting import Panel

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.data import DataInfo
    from baselines.run import Trained
    from baselines.tasks.base import TaskConfig

PREDICTIONS = "classes.npz"


class SubsetSegmentation(Segmentation):
    """One class of a legend subset per pixel; batches are those of ``Segmentation``.

    Args:
        config: settings of the task.
        info: description of the data, with a subset.
    """

    def __init__(self, config: TaskConfig, info: DataInfo) -> None:
        super().__init__(config, info)
        self.subset = LegendSubset(info.subset or {})
        tables = np.stack([self.subset.table(level) for level in LEVELS])
        self.register_buffer("tables", torch.from_numpy(tables), persistent=False)

    def loss(self, outputs: Tensor, batch: Sample) -> Tensor:
        """Loss of the classes on the grid of the labels."""
        loss: Tensor = self.criterion(outputs, self.truth(batch)[:, None])
        return loss

    def truth(self, batch: Sample) -> Tensor:
        """Class indices of the subset, from the finest level that a label has."""
        mask, tables = batch["mask"].long(), self.tables
        truth = torch.full_like(mask[:, 0], IGNORE_INDEX)
        for row in range(len(LEVELS)):
            known = mask[:, row] != IGNORE_INDEX
            truth = torch.where(known, tables[row][mask[:, row]].long(), truth)  # type: ignore[index]
        return truth

    def predict(self, trained: Trained, folder: Path) -> Path:
        """Write ``classes.npz``: ids of tiles, names of classes, probabilities ``(tile, class, 96, 96)``."""
        config = trained.config
        dataset, batches = read_split(trained, window=config.predict.window, stride=config.predict.stride)
        blended = blend_tiles(dataset, ((batch, trained(batch["image"])) for batch in batches))
        remedy = "Lower predict.batch_size or predict.window."
        with threads(config.threads), memory_errors(f"predict.batch_size = {config.predict.batch_size}", remedy):
            tiles, p = zip(*((tile, self._tempered(p, trained.temperature)) for tile, p in blended), strict=True)
        return write_classes(folder, self.subset.names, list(tiles), p=np.stack(p))

    def score(self, config: Config, folder: Path) -> dict[str, Any]:
        """Metrics over all pixels of the subset."""
        counts = self.count(config, folder)
        values: dict[str, float] = {}
        for family in (Family.CLASSES, Family.CALIBRATION):
            values |= {k: float(v) for k, v in evaluate(family, counts.sums[family.value, FLAT].sum(0)).items()}
        return {name: values[name] for name in shown_in("baselines") if name in values}

    def count(self, config: Config, folder: Path) -> UnitCounts:
        """Counts by spatial block."""
        split = config.predict.split
        module = open_split(config, window=None, stride=None)
        dataset = module.datasets["predict"]
        p = read_classes(folder, self.subset.names, list(dataset.tiles["id"]))[0]
        truth = np.concatenate([self.truth(batch).cpu().numpy() for batch in module.loader("predict")])
        units = np.repeat(np.array(config.data.units(dataset)[1]), truth[0].size)
        flat = np.moveaxis(p, 1, -1).reshape(truth.size, -1).astype(np.float64).clip(EPSILON)
        flat /= flat.sum(1, keepdims=True)
        known = truth.ravel() != IGNORE_INDEX
        return count_samples(
            "spatial blocks", split, units[known], truth.ravel()[known], flat[known], self.subset.names, None
        )

    def report(self, config: Config, folder: Path) -> Report:
        """One table of scores."""
        release = open_split(config, window=None, stride=None).datasets["predict"].release
        names = self.subset.names
        summary = f"{release.manifest.title}. {config.predict.split} split; pixels of other classes are left out."
        facts = [("release", f"{release.id}, digest {release.digest}"), ("classes", ", ".join(names))]
        return Report({f"{len(names)} classes": dict(self.score(config, folder))}, release.id, summary, facts)

    def pictures(self, config: Config, folder: Path, count: int) -> Iterator[tuple[str, Sequence[Panel]]]:
        """The first tiles: true colour, labels and predictions."""
        dataset = open_split(config, window=None, stride=None, normalize=True).datasets["predict"]
        p = read_classes(folder, self.subset.names, list(dataset.tiles["id"]))[0]
        colors, entries = class_colors(self.subset)
        for row in range(min(count, len(dataset))):
            sample = dataset[row]
            truth = self.truth({"mask": sample["mask"][None]})[0].numpy()
            panels = [Panel("label", colors[truth], entries), Panel("prediction", colors[p[row].argmax(0)], entries)]
            yield sample["tile"], [*dataset.rgb_panels(sample), *panels]


def write_classes(folder: Path, names: tuple[str, ...], tiles: Sequence[str], **arrays: npt.NDArray[Any]) -> Path:
    """Write predictions of study classes, ``classes.npz``; a predictions file has only LUISA codes.

    Args:
        folder: folder of a run.
        names: names of the classes.
        tiles: ids of the tiles.
        **arrays: others by name, among them ``p`` with the tiles as the first axis.
    """
    content = io.BytesIO()
    named: dict[str, Any] = {"tiles": np.array(tiles), "names": np.array(names), **arrays}
    np.savez_compressed(content, **named)
    write_atomic(folder / PREDICTIONS, content.getvalue())
    return folder / PREDICTIONS


def read_classes(
    folder: Path, names: tuple[str, ...], tiles: Sequence[str], wanted: Sequence[str] = ("p",)
) -> list[npt.NDArray[Any]]:
    """Read arrays that ``write_classes`` wrote, in the order of their names.

    Raises:
        LulcbenchError: the file is missing or damaged, or has other tiles or classes.
    """
    path = folder / PREDICTIONS
    if not path.is_file():
        raise LulcbenchError(f"{path} is missing.", "Run 'python -m baselines predict' first.")
    file = read_arrays(path, "Predict again.")
    try:
        stored, classes, p = file["tiles"].tolist(), tuple(file["names"].tolist()), file["p"]
        arrays = [file[name] for name in wanted]
    except (KeyError, TypeError) as error:
        raise LulcbenchError(f"{path} is damaged: {error!r}.", "Predict again.") from error
    if stored != list(tiles) or classes != names or len(p) != len(tiles):
        raise LulcbenchError(f"{path} has other tiles or classes.", "Predict again.")
    return arrays


def class_colors(subset: LegendSubset) -> tuple[npt.NDArray[np.uint8], tuple[tuple[str, tuple[int, int, int]], ...]]:
    """Colours of class indices, uint8 ``(256, 3)``, and the entries of the key: name and colour."""
    colors = subset.colors()
    entries = tuple((name, (int(r), int(g), int(b))) for name, (r, g, b) in zip(subset.names, colors, strict=False))
    return colors, entries
