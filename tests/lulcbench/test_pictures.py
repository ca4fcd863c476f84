"""Pictures of samples: what they show, what they say, and that all of it is inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from lulcbench import LuisaChange, LuisaCls, LuisaSeg, LuisaSeries
from lulcbench.datasets import LuisaDataset
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.plotting import figures, transition_panel

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


def words(picture: Figure) -> list[Text]:
    """All text that a picture shows; labels of ticks beyond the ends of an axis are not drawn."""
    FigureCanvasAgg(picture).draw()
    hidden = set()
    for axis in (line for axes in picture.axes for line in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        hidden |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    texts = picture.findobj(Text)
    return [text for text in texts if text.get_visible() and text.get_text() and text not in hidden]


def everything_is_inside(picture: Figure) -> bool:
    """No text and no image is cut off, and none of the former overlaps another or an image that it is not part of."""
    frame, texts = picture.bbox, words(picture)
    legends = [*picture.legends, *(axis.get_legend() for axis in picture.axes if axis.get_legend() is not None)]
    boxes = [part.get_window_extent() for part in texts]
    images = [axis.get_window_extent() for axis in picture.axes]
    inside = all(
        box.x0 >= frame.x0 and box.y0 >= frame.y0 and box.x1 <= frame.x1 and box.y1 <= frame.y1
        for box in [*boxes, *images, *(part.get_window_extent() for part in legends)]
    )
    apart = not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i] if a.width and b.width)
    free = all(
        (image.x0 <= box.x0 and box.x1 <= image.x1 and image.y0 <= box.y0 and box.y1 <= image.y1)
        or not box.overlaps(image)
        for box in boxes
        for image in images
    )
    return inside and apart and free


def legend_names(picture: Figure) -> list[str]:
    return [" ".join(text.get_text().split()) for part in picture.legends for text in part.get_texts()]


@pytest.mark.slow
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
    years = dataset.dates.astype("datetime64[Y]")
    first = int((years == years[0]).sum())
    for line, values in zip(lines, expected.T, strict=True):
        np.testing.assert_allclose(np.delete(line.get_ydata(), first), values, atol=1e-4)
        assert np.isnan(line.get_ydata()[first])  # the line is broken between the years
    for raw in ("device", False):
        other = LuisaSeries(release_root, window=window, normalize=raw)
        if raw == "device":
            drawn = np.delete(other.plot(other[2]).axes[0].lines[3].get_ydata(), first)
            np.testing.assert_allclose(drawn, expected[:, 3], atol=1e-4)


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


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=[f"{k.__name__}-{'-'.join(o)}" for k, o in KINDS])
def test_text_is_readable_and_sources_are_named(release_root: Path, kind: Any, options: dict[str, Any]) -> None:
    dataset: LuisaDataset = kind(release_root, **options)
    texts = words(dataset.plot(dataset[1]))
    assert min(text.get_fontsize() for text in texts) >= 7
    shown = " ".join(" ".join(text.get_text().split()) for text in texts)
    assert "LUISA" in shown
    assert "CC-BY-4.0" in shown
    assert f"Release {dataset.release.id}, EPSG:3035." in shown
    for name in dataset.sensors:
        assert name in shown


def test_the_legend_is_whole_or_counts_the_rest(release_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = LuisaSeg(release_root, sensors="sentinel2", level=4, window=None)
    sample = dataset[2]
    present = [int(i) for i in sample["mask"].unique() if int(i) != IGNORE_INDEX]
    names = [f"{legend().codes(4)[i]} {legend().names(4)[i]}" for i in present]
    others = {"no value in the image", "no class at this level"}
    assert len(names) > 18
    assert set(legend_names(dataset.plot(sample))) - others == set(names)
    monkeypatch.setattr(figures, "MAX_LEGEND", 8)
    short = legend_names(dataset.plot(sample))
    assert len(short) == 8
    whole = len(names) + ("no value in the image" in short)
    assert short[-1] in {f"+ {whole - 7} more", f"+ {whole - 6} more"}  # pixels coarser than the level may be an entry


def test_coordinates_and_scale_are_those_of_the_window(release_root: Path) -> None:
    dataset = LuisaSeg(release_root, sensors="landsat", window=1200)
    sample = dataset[3]
    west, south, east, north = (value / 1000 for value in sample["bounds"].tolist())
    axis = dataset.plot(sample).axes[0]
    np.testing.assert_allclose(axis.images[0].get_extent(), (west, east, south, north))
    assert [label.get_text() for label in axis.get_xticklabels()] == [
        f"{value:,.1f}" for value in (west, (west + east) / 2, east)
    ]
    bar = axis.patches[1]
    assert bar.get_width() == pytest.approx(0.2)  # of 1.2 km
    assert "200 m" in [text.get_text() for text in axis.texts]
    # A transform may have moved the pixels: then there are no coordinates.
    turned = LuisaSeg(release_root, sensors="landsat", window=1200, transforms=lambda entry: entry)
    assert not turned.plot(turned[3]).axes[0].get_xticklabels()


def test_change_is_shown_as_from_and_to(release_root: Path) -> None:
    dataset = LuisaChange(release_root, window=None, level=1)
    sample = dataset[1]
    before, after = (sample[f"mask_{when}"].numpy() for when in ("from", "to"))
    changed = (before != after) & (before != IGNORE_INDEX) & (after != IGNORE_INDEX)
    assert changed.any()
    panel = next(axis for axis in dataset.plot(sample).axes if axis.get_title().startswith("change 2012 → 2018"))
    rgb = panel.images[0].get_array()
    names, codes = legend().names(1), legend().codes(1)
    title, panels = dataset._picture(sample, None)
    entries = dict(panels[-1].entries)
    for first, second in set(zip(before[changed].tolist(), after[changed].tolist(), strict=True)):
        color = entries[f"{codes[first]} {names[first]} → {codes[second]} {names[second]}"]
        assert (rgb[(before == first) & (after == second)] == color).all()
    assert len(set(entries.values())) == len(entries)
    assert (rgb[(before == after) & (before != IGNORE_INDEX)] == entries["unchanged"]).all()
    assert title == sample["tile"]


def test_many_transitions_are_counted() -> None:
    before = np.repeat(np.arange(10), 3)[None]
    after = (before + 1) % 10
    after[0, :3] = IGNORE_INDEX
    panel = transition_panel(before, after, 2, "change")
    assert [name for name, _ in panel.entries][-2:] == ["2 other transitions", "change not known"]
    assert len(panel.entries) == 7 + 2
    assert panel.title == "change, level 2"


def test_lines_have_the_colours_of_their_bands(release_root: Path) -> None:
    dataset = LuisaSeries(release_root)
    axis = dataset.plot(dataset[2]).axes[0]
    colors = {line.get_label(): np.array(to_rgb(line.get_color())) for line in axis.lines}
    for channel, name in enumerate(("red", "green", "blue")):
        assert colors[name].argmax() == channel
    assert len({tuple(color) for color in colors.values()}) == len(colors)
    assert axis.get_ylabel() == "landsat reflectance"


def test_notebooks_show_pictures_by_themselves(release_root: Path) -> None:
    dataset = LuisaSeg(release_root, sensors="landsat")
    assert dataset.plot(dataset[0])._repr_png_().startswith(b"\x89PNG")
