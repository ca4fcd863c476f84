"""Pictures of samples: what they show, what they say, and that all of it is inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lulcbench import LuisaChange, LuisaCls, LuisaSeg, LuisaSeries
from lulcbench.datasets import LuisaDataset
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX

KINDS: list[tuple[Any, dict[str, Any]]] = [
    (LuisaSeg, {"sensors": "landsat"}),
    (LuisaSeg, {"sensors": ("landsat", "sentinel2"), "level": (1, 4), "window": None}),
    (LuisaCls, {"sensors": "landsat"}),
    (LuisaChange, {"window": None}),
    (LuisaSeries, {}),
    (LuisaSeries, {"window": 30}),
    (LuisaSeries, {"window": 30, "level": (1, 4)}),
]


def label(sample: dict[str, Any]) -> torch.Tensor:
    """What a model would predict of a sample."""
    return sample["label"] if "label" in sample else sample["mask"]


def everything_is_inside(picture: Figure) -> bool:
    FigureCanvasAgg(picture).draw()
    frame = picture.bbox
    texts = [picture._suptitle, *(axis.title for axis in picture.axes)]
    legends = [axis.get_legend() for axis in picture.axes if axis.get_legend() is not None]
    boxes = [part.get_window_extent() for part in [*texts, *legends]]
    return all(
        box.x0 >= frame.x0 and box.y0 >= frame.y0 and box.x1 <= frame.x1 and box.y1 <= frame.y1 for box in boxes
    ) and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i] if a.width and b.width)


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=[f"{k.__name__}-{'-'.join(o)}" for k, o in KINDS])
def test_predictions_are_shown_whole(release_root: Path, kind: Any, options: dict[str, Any]) -> None:
    dataset: LuisaDataset = kind(release_root, **options)
    sample = dataset[1]
    plain = dataset.plot(sample)
    by_argument = dataset.plot(sample, prediction=label(sample))
    by_torchgeo = dataset.plot(sample | {"prediction": label(sample)}, show_titles=False, suptitle="mine")
    for picture in (plain, by_argument, by_torchgeo):
        assert "SIMULATED DATA" in picture._suptitle.get_text()
        assert everything_is_inside(picture)
    assert len(by_argument.axes) == len(by_torchgeo.axes)
    more_axes = len(by_argument.axes) > len(plain.axes)
    in_title = by_argument._suptitle.get_text() != plain._suptitle.get_text()
    assert more_axes != in_title
    assert not any(axis.get_title() for axis in by_torchgeo.axes)
    assert by_torchgeo._suptitle.get_text().startswith("mine")


@pytest.mark.parametrize("window", [1200, 180, 30])  # 180 m: as many pixels as Landsat has bands
def test_series_show_the_mean_of_each_band(release_root: Path, window: int) -> None:
    dataset = LuisaSeries(release_root, window=window)
    picture = dataset.plot(dataset[2])
    image = LuisaSeries(release_root, window=window, normalize=False)[2]["image"].reshape(8, 6, -1).numpy()
    stored = LuisaSeries(release_root, window=window, normalize="device")[2]["image"].reshape(8, 6, -1).numpy()
    expected = np.ma.masked_array(image, stored == 0).mean(-1).filled(np.nan)
    assert np.isfinite(expected).any()
    lines = picture.axes[0].lines
    assert [line.get_label() for line in lines] == list(dataset.bands["landsat"])
    for line, values in zip(lines, expected.T, strict=True):
        np.testing.assert_allclose(line.get_ydata(), values, atol=1e-4)
    for raw in ("device", False):
        other = LuisaSeries(release_root, window=window, normalize=raw)
        if raw == "device":
            np.testing.assert_allclose(other.plot(other[2]).axes[0].lines[3].get_ydata(), expected[:, 3], atol=1e-4)


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=[f"{k.__name__}-{'-'.join(o)}" for k, o in KINDS])
def test_predictions_that_are_none(release_root: Path, kind: Any, options: dict[str, Any]) -> None:
    dataset: LuisaDataset = kind(release_root, **options)
    sample = dataset[1]
    good = label(sample)
    dataset.plot(sample, prediction=torch.full_like(good, IGNORE_INDEX))
    for index in (200, -1, dataset.num_classes if kind is not LuisaChange else 2):
        with pytest.raises(LulcbenchError, match=f"class {index}"):
            dataset.plot(sample, prediction=torch.full_like(good, index))
    for other in (good.float(), torch.stack([good] * 5), np.zeros((3, 3, 3, 3), np.int64)):
        with pytest.raises(LulcbenchError, match="A prediction is"):
            dataset.plot(sample, prediction=other)
    with pytest.raises(LulcbenchError, match="batch"):
        dataset.plot(dataset.read([0, 1]))
