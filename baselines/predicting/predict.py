"""Predictions of a split: moving windows, blended, brought to the 50 m label grid by area, written for the scorer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.config import Config, LuisaData, expand
from baselines.data.release import channels, segments
from baselines.run import Trained, threads_of
from baselines.training.calibrate import average_views, temper
from lulcbench import _console, grid
from lulcbench.datasets import LuisaSeg
from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend
from lulcbench.predictions import PredictionWriter, to_label_grid
from lulcbench.release import Release
from lulcbench.windows import Blend

TilePredictor = Callable[[Tensor], npt.NDArray[np.float32]]


def predict_network(trained: Trained, out: Path) -> Path:
    """Predict a split with a trained UNet or DeepLabv3+ and write ``out``.

    Args:
        trained: the model.
        out: the predictions file, ``….zip``.

    Raises:
        LulcbenchError: the release is not the one that it was trained on, or memory ran out.
    """
    config = trained.config
    data = _luisa(config)
    release = Release.open(expand(data.root))
    if release.digest != trained.about["data_digest"]:
        raise LulcbenchError(
            f"{config.name} was trained on another release ({trained.about['data_digest'][:12]}…) than "
            f"{release.id} at {data.root} ({release.digest[:12]}…).",
            "Predict the release it was trained on, or train it on this one.",
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = trained.net.to(device)
    settings = config.predict

    @torch.inference_mode()
    def window_probabilities(images: Tensor) -> npt.NDArray[np.float32]:
        p: npt.NDArray[np.float32] = average_views(net, images.to(device), config).cpu().numpy()
        return p

    def tempered(p: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # On the label grid, as the temperature was fitted there: an average of tempered pixels is another thing.
        result: npt.NDArray[np.float32] = temper(torch.from_numpy(p)[None], trained.temperature)[0].numpy()
        return result

    dataset = segments(data, settings.split, settings.window, settings.stride)
    if list(channels(dataset)) != list(trained.about["channels"]):
        raise LulcbenchError(
            f"{config.name} takes {trained.about['channels']}.", f"The release gives {channels(dataset)}."
        )
    try:
        found = tiles(dataset, window_probabilities, settings.batch_size, data.level)
        with threads_of(config):
            return write(config, ((tile, tempered(p)) for tile, p in found), out)
    except torch.OutOfMemoryError as error:
        raise LulcbenchError(
            f"The device's memory ran out with predict.batch_size = {settings.batch_size}.", "Lower it."
        ) from error


def tiles(
    dataset: LuisaSeg, predictor: TilePredictor, batch_size: int, level: int
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Each tile's id and probabilities ``(class, 96, 96)``, blended from its windows (in dataset order: by tile)."""
    resolution = dataset.resolution()
    size = grid.TILE_SIZE // resolution
    blend, current = Blend(len(legend().codes(level)), size), ""
    for start in range(0, len(dataset), batch_size):
        indices = range(start, min(start + batch_size, len(dataset)))
        batch, windows = dataset.read(indices), dataset.locate(indices)
        values = predictor(batch["image"])
        for tile, value, (y, x) in zip(batch["tile"], values, windows.offsets // resolution, strict=True):
            if tile != current:
                if current:
                    yield current, to_label_grid(blend.result())
                blend, current = Blend(len(legend().codes(level)), size), tile
            blend.add(value, int(y), int(x))
    yield current, to_label_grid(blend.result())


def write(config: Config, predicted: Iterator[tuple[str, npt.NDArray[np.float32]]], out: Path) -> Path:
    """Write tiles with their mapped class (see ``decide``) and all probabilities, at the model's level."""
    data = _luisa(config)
    release = Release.open(expand(data.root))
    split = config.predict.split
    codes = np.array(legend().codes(data.level), np.uint16)
    with (
        PredictionWriter(out, release, split, data.year, data.level, probabilities=True) as writer,
        _console.progress() as bar,
    ):
        for tile, p in bar.track(predicted, total=release.manifest.tiles(split), description=f"predict {split}"):
            p = np.clip(p, 0, 1)
            p /= p.sum(0)
            writer.write(tile, codes[decide(p, data.level)], p)
    return out


def decide(p: npt.NDArray[np.float32], level: int) -> npt.NDArray[np.intp]:
    """The mapped class of each pixel, decided from the top of the legend down.

    The likeliest class of level 1, within it the likeliest of level 2, and so on: the single likeliest fine class may
    lie under an unlikely coarse one.

    Args:
        p: ``(class, y, x)`` probabilities at ``level``.
        level: their level.

    Returns:
        ``(y, x)`` class indices at ``level``.
    """
    allowed = p
    for coarse in range(1, level):
        parents = legend().parents(level, coarse)
        sums = np.zeros((len(legend().codes(coarse)), *p.shape[1:]), np.float32)
        np.add.at(sums, parents, allowed)
        allowed = np.where(parents[:, None, None] == sums.argmax(0), allowed, 0)
    return allowed.argmax(0)


def _luisa(config: Config) -> LuisaData:
    if not isinstance(config.data, LuisaData) or config.data.kind != "luisa-seg":
        raise LulcbenchError(f"{config.name} holds labelled patches, not a map.", "Use 'python -m baselines predict'.")
    return config.data
