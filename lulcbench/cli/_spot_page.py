"""The page of ``spot``: what changed in each patch, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lulcbench.cli._page import Row
from lulcbench.legend import legend
from lulcbench.plotting import rgb_panel

if TYPE_CHECKING:
    import pandas as pd

    from lulcbench.evaluation.patch_series import PatchSeries
    from lulcbench.evaluation.spot_images import Spotted

Picture = npt.NDArray[np.uint8]
_HEIGHT, _WIDTH = 120, 6  # px: of the picture of probabilities, and of a date in it
_AROUND: Final = 1.0  # sides of a patch that are shown on each side of it
_LEAST = 240  # px, along the side of a picture; smaller ones are enlarged by whole numbers
_SHARE = 0.02  # of the probabilities of all dates, of classes that the legend lists
_NICE = (1, 2, 5)  # lengths of the bar of scale begin with these


def rows_of_table(changes: pd.DataFrame, patches: Mapping[str, PatchSeries]) -> list[Row]:
    """Rows of changes in a table of probabilities."""
    return [
        _row(row, patches[row["place"]], [], f"{row['place']}: {row['kind']}") for row in changes.to_dict("records")
    ]


def rows_of_images(spotted: Spotted, top: int) -> list[Row]:
    """Rows of changes in images, with the image before and the one after."""
    rows = []
    for rank, row in enumerate(spotted.changes.head(top).to_dict("records"), start=1):
        title = f"{rank}. {row['kind']} at {row['lat']:.5f}° N, {row['lon']:.5f}° E"
        rows.append(_row(row, spotted.series[row["place"]], _images(spotted, row), title))
    return rows


def _row(row: Mapping[Any, Any], patch: PatchSeries, images: list[tuple[str, Picture]], title: str) -> Row:
    first, last = row["first"], row["last"]
    names = [f"{code} {legend().classes[code].name}" for code in (row["before"], row["after"])]
    text = f"{names[0]} → {names[1]}, between {first} and {last}; confidence {row['confidence']:.0%}."
    if np.isfinite(row["x"]):
        text += f" {row['x']:.0f}, {row['y']:.0f} (EPSG:3035)."
    sides = [("before", patch.dates <= np.datetime64(first)), ("after", patch.dates >= np.datetime64(last))]
    pictures = [(f"probabilities {side}", _bars(patch, used)) for side, used in sides] if not images else list(images)
    days = f"{patch.dates[0]} to {patch.dates[-1]}"
    pictures.append((f"probabilities of all dates, {days}", _bars(patch, np.ones(len(patch.dates), bool), first, last)))
    shares = patch.probabilities.mean(axis=0)
    keys: dict[str, str] = {}
    for at in np.argsort(-shares):
        if shares[at] >= _SHARE:
            one = legend().classes[int(patch.codes[at])]
            keys[f"{one.code} {one.name}"] = one.color
    return Row(title, text, pictures, tuple(keys.items()))


def _images(spotted: Spotted, row: Mapping[Any, Any]) -> list[tuple[str, Picture]]:
    """The patch and what is around it, before and after in one stretch, with a bar of scale."""
    images = spotted.images
    size, side = spotted.model.info.resolution, spotted.side
    margin = round(_AROUND * side / size) * size
    left, top = row["left"], row["top"]
    bounds = (left - margin, top - side - margin, left + side + margin, top + margin)
    dates = [np.datetime64(row[name]) for name in ("first", "last")]
    values = [images.picture(date, bounds) for date in dates]
    width = values[0].shape[-1]
    both = rgb_panel(np.concatenate(values, axis=-1), images.bands, "").rgb
    pixels = np.rint(np.asarray(both, np.float64) * 255).astype(np.uint8)
    times = max(1, round(_LEAST / width))
    pictures = []
    for at, (when, date) in enumerate(zip(("before", "after"), dates, strict=True)):
        own = np.repeat(np.repeat(pixels[:, at * width : (at + 1) * width], times, axis=0), times, axis=1)
        n, m = margin // size * times, round((margin + side) / size) * times
        for low, high in ((n - 1, m),):  # the outline of the patch
            own[low, low : high + 1] = own[high, low : high + 1] = 255
            own[low : high + 1, low] = own[low : high + 1, high] = 255
        bar = _bar(own, size / times)
        what = "composite of" if images.composites else "image of"
        stated = str(date)[:4] if images.composites else str(date)
        pictures.append((f"{when}: {what} {stated}; {width * size:,} m across, bar {bar:,} m", own))
    return pictures


def _bar(picture: Picture, size: float) -> int:
    """Draw a bar of scale of about a quarter of the width; returns its length in metres."""
    wanted = picture.shape[1] * size / 4
    power = 10 ** int(np.floor(np.log10(wanted)))
    length = max(nice * power for nice in _NICE if nice * power <= wanted)
    end, low = 8 + round(length / size), picture.shape[0] - 10
    picture[low - 1 : low + 5, 7 : end + 1] = 0
    picture[low : low + 4, 8:end] = 255
    return int(length)


def _bars(
    patch: PatchSeries, used: npt.NDArray[np.bool_], first: str | None = None, last: str | None = None
) -> Picture:
    """Stacked probabilities in the colours of the legend, one column per date; black lines enclose the change."""
    p = patch.probabilities[used]
    if not len(p):
        return np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    colors = np.array([list(bytes.fromhex(legend().classes[int(code)].color[1:])) for code in patch.codes], np.uint8)
    heights = (np.arange(_HEIGHT) + 0.5) / _HEIGHT
    at = (p.cumsum(axis=1)[:, None, :] < heights[None, :, None]).sum(axis=2).clip(max=len(colors) - 1)
    picture: Picture = np.repeat(colors[at].transpose(1, 0, 2), _WIDTH, axis=1)
    if first is not None and last is not None:
        days = patch.dates[used]
        ends = (np.searchsorted(days, np.datetime64(first), "right"), np.searchsorted(days, np.datetime64(last)))
        for end in ends:
            picture[:, min(max(int(end) * _WIDTH - 1, 0), picture.shape[1] - 1)] = 0
    return picture
