"""Figures of tiles and samples: true colour next to labels in legend colours. Simulated data are marked."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.release import ArrayKey, Release
from lulcbench.seasons import nearest_to_midsummer
from lulcbench.sensors import Band, true_color

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LEGEND = 18
_WIDTH = 4.0  # width of a panel and the legend below it, in inches
_LINE = 0.14  # height of a line of the legend, in inches


@dataclass(frozen=True, slots=True)
class Panel:
    """One image of a figure: RGB ``(y, x, 3)`` as uint8 or float in [0, 1], and legend entries (name, RGB 0 to 255)."""

    title: str
    rgb: npt.NDArray[np.generic]
    entries: tuple[tuple[str, tuple[int, int, int]], ...] = ()


def rgb_panel(values: npt.NDArray[np.floating], bands: Sequence[Band], title: str) -> Panel:
    """True colour of values ``(band, y, x)``, stretched to their 2nd to 98th percentile; NaN is black.

    If red, green or blue is missing, the first three bands are shown instead, or the first one in grey.
    """
    channels = true_color(bands)
    if channels is None:
        channels = (0, 0, 0) if len(bands) < 3 else (0, 1, 2)
        title += f" ({'/'.join(dict.fromkeys(bands[i].name for i in channels))})"
    rgb = np.stack([values[i] for i in channels], -1)
    low, high = np.nanpercentile(rgb, (2, 98)) if np.isfinite(rgb).any() else (0.0, 1.0)
    return Panel(title, np.nan_to_num(np.clip((rgb - low) / max(high - low, 1e-6), 0, 1)))


def class_panel(indices: npt.NDArray[np.integer], level: int, title: str) -> Panel:
    """Class indices ``(y, x)`` of a level in legend colours; the legend lists the classes in order of frequency.

    Raises:
        LulcbenchError: an index is not a class of that level.
    """
    check_classes(indices, len(legend().codes(level)), f"The map {title!r}")
    present, counts = np.unique(indices[indices != IGNORE_INDEX], return_counts=True)
    codes, names, colors = legend().codes(level), legend().names(level), legend().colors(level)
    entries = []
    for i in present[np.argsort(-counts)][:MAX_LEGEND]:
        red, green, blue = (int(v) for v in colors[i])
        entries.append((f"{codes[i]} {names[i]}", (red, green, blue)))
    return Panel(f"{title}, level {level}", colors[indices], tuple(entries))


def change_panel(changed: npt.NDArray[np.integer], title: str) -> Panel:
    """Map of change ``(y, x)``: 1 is black, 0 white, and ignored pixels are grey.

    Raises:
        LulcbenchError: there are other values.
    """
    check_classes(changed, 2, f"The map {title!r}")
    colors = np.full((256, 3), 255, np.uint8)
    colors[1], colors[IGNORE_INDEX] = 0, 160
    return Panel(title, colors[changed])


def check_classes(indices: npt.NDArray[np.integer], classes: int, what: str) -> None:
    """Check that all values are class indices below ``classes`` or ``IGNORE_INDEX``.

    Raises:
        LulcbenchError: a value is not; states it.
    """
    bad = indices[((indices < 0) | (indices >= classes)) & (indices != IGNORE_INDEX)]
    if bad.size:
        raise LulcbenchError(
            f"{what} has the class {bad.flat[0]}.",
            f"Valid are 0 to {classes - 1}, and {IGNORE_INDEX} for ignored pixels.",
        )


def tile_panels(
    release: Release,
    tile: str,
    sensor_names: Sequence[str] | None = None,
    season: str | None = None,
    level: int = 3,
) -> list[Panel]:
    """Panels of a tile: true colour of each sensor (None: all) and year in one season, and the labels of each year.

    The default season is the one nearest to midsummer.

    Raises:
        NotAvailableError: the release has no such tile, sensor or season.
        LulcbenchError: there is no such level.
    """
    legend().codes(level)
    manifest = release.manifest
    names = [info.name for info in manifest.seasons]
    if season is not None and season not in names:
        raise NotAvailableError(f"{release.id} has no season {season!r}.", f"It has {', '.join(names)}.")
    position = names.index(season) if season else nearest_to_midsummer(manifest.seasons)
    table = release.index()
    rows = zip(table["split"], table["row"].to_numpy(np.int64), strict=True)
    locations = dict(zip(table["id"], rows, strict=True))
    if tile not in locations:
        examples = ", ".join(list(locations)[:5])
        raise NotAvailableError(
            f"{release.id} has no tile {tile!r}.", f"Examples of its tiles: {examples}; all are in its index."
        )
    split, row = locations[tile]
    reader = release.reader(split)
    panels = []
    for name in sensor_names or manifest.sensors:
        info = manifest.sensor(name)
        n = (manifest.tile_size // info.resolution,) * 2
        for year in info.years:
            stored = reader.read(ArrayKey(name, year), [row], [(0, 0)], n, [position])[0, 0]
            title = f"{name} {year}, {names[position]}"
            panels.append(rgb_panel(info.coding.decode(stored), info.bands, title))
    for source, held in manifest.labels.items():
        for year in held.years if split in held.splits else ():
            codes = release.labels(split, year, [row], source)[0]
            panels.append(class_panel(legend().encode(codes, level, tile), level, f"{source} labels of {year}"))
    return panels


def figure(panels: Sequence[Panel], suptitle: str, simulated: bool, show_titles: bool = True) -> Figure:
    """Figure of panels side by side, independent of GUIs; ``simulated`` adds a mark to the title."""
    from matplotlib.figure import Figure as NewFigure

    fig = NewFigure(figsize=(_WIDTH * len(panels), _height(panels)), layout="constrained")
    _draw(np.atleast_1d(fig.subplots(1, len(panels))), panels, show_titles)
    _title(fig, suptitle, simulated)
    return fig


def line_figure(
    dates: npt.NDArray[np.datetime64],
    values: npt.NDArray[np.floating],
    bands: Sequence[Band],
    panels: Sequence[Panel],
    suptitle: str,
    simulated: bool,
    show_titles: bool = True,
) -> Figure:
    """Figure of values ``(time, band)`` over dates, with one line per band, followed by the panels."""
    from matplotlib.figure import Figure as NewFigure

    widths = [7.0] + [_WIDTH] * len(panels)
    fig = NewFigure(figsize=(sum(widths), _height(panels)), layout="constrained")
    axis, *others = np.atleast_1d(fig.subplots(1, len(widths), width_ratios=widths))
    for band, line in zip(bands, values.T, strict=True):
        axis.plot(dates, line, marker="o", label=band.name)
    optical = bands[0].wavelength is not None and bands[0].unit == "1"
    axis.set_ylabel("reflectance" if optical else bands[0].unit)
    axis.legend(fontsize=7, ncols=2)
    axis.tick_params(axis="x", rotation=30)
    _draw(others, panels, show_titles)
    _title(fig, suptitle, simulated)
    return fig


def matrix_figure(matrices: Sequence[tuple[str, npt.ArrayLike, Sequence[int]]], simulated: bool = False) -> Figure:
    """Figure of error matrices side by side: shades are shares of the row, numbers are the entries.

    Args:
        matrices: title, matrix ``(n, n)`` with rows of the reference and columns of the map, and codes ``(n,)``;
            classes without entries are left out.
        simulated: adds a mark to the title.
    """
    from matplotlib.figure import Figure as NewFigure

    fig = NewFigure(figsize=(5.5 * len(matrices), 5.5), layout="constrained")
    for axis, (title, values, codes) in zip(np.atleast_1d(fig.subplots(1, len(matrices))), matrices, strict=True):
        matrix = np.asarray(values, np.float64)
        used = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
        matrix = matrix[np.ix_(used, used)]
        names = [str(codes[int(i)]) for i in used]
        axis.imshow(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12), cmap="Greens", vmin=0, vmax=1)
        axis.set_title(title, fontsize=9)
        axis.set(xlabel="map", ylabel="reference")
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
        axis.set_yticks(range(len(names)), names, fontsize=6)
        for i, j in np.argwhere(matrix > 0):
            text = f"{matrix[i, j]:.0f}" if matrix.max() > 1 else f"{matrix[i, j]:.3f}".lstrip("0")
            dark = matrix[i, j] > 0.6 * matrix[i].sum()
            axis.text(j, i, text, ha="center", va="center", fontsize=5, color="white" if dark else "black")
    _title(fig, "Error matrix", simulated)
    return fig


def bar_figure(
    bars: Sequence[tuple[str, float, tuple[float, float] | None, float]],
    label: str,
    names: tuple[str, str],
    simulated: bool = False,
) -> Figure:
    """Figure of pairs of horizontal bars, the first with an interval.

    Args:
        bars: name, first value with its interval or None, second value.
        label: of the values.
        names: of the first and the second bars.
        simulated: adds a mark to the title.
    """
    from matplotlib.figure import Figure as NewFigure

    fig = NewFigure(figsize=(7, 1.2 + 0.34 * len(bars)), layout="constrained")
    axis = fig.subplots()
    place = np.arange(len(bars), dtype=float)
    axis.barh(place - 0.2, [value for _, value, _, _ in bars], 0.38, label=names[0], color="#1b7f5c")
    axis.barh(place + 0.2, [other for *_, other in bars], 0.38, label=names[1], color="#b9c4bf")
    for at, (_, value, interval, _) in zip(place, bars, strict=True):
        if interval is not None:
            ends = [[max(value - interval[0], 0)], [max(interval[1] - value, 0)]]
            axis.errorbar(value, at - 0.2, xerr=ends, color="black", capsize=2, linewidth=1)
    axis.set_yticks(place, [textwrap.shorten(name, 40, placeholder=" …") for name, *_ in bars], fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.legend(fontsize=7)
    _title(fig, label.partition(",")[0], simulated)
    return fig


def _height(panels: Sequence[Panel]) -> float:
    """Height in inches of panels with titles and the longest legend."""
    lines = max((-(-len(panel.entries) // 2) for panel in panels), default=0)
    return _WIDTH + 0.8 + _LINE * (lines + 1)


def _draw(axes: Sequence[Any], panels: Sequence[Panel], show_titles: bool) -> None:
    from matplotlib.patches import Patch

    for axis, panel in zip(axes, panels, strict=True):
        axis.imshow(panel.rgb, interpolation="nearest")
        if show_titles:
            axis.set_title(panel.title, fontsize=9)
        axis.set(xticks=[], yticks=[], anchor="N")  # at the top, so that free space is below, at the legends
        if panel.entries:
            patches = [
                Patch(color=(r / 255, g / 255, b / 255), label=textwrap.shorten(name, 38, placeholder=" …"))
                for name, (r, g, b) in panel.entries
            ]
            axis.legend(handles=patches, loc="upper center", bbox_to_anchor=(0.5, -0.01), fontsize=5.5, ncols=2)


def _title(fig: Figure, text: str, simulated: bool) -> None:
    """Set the title of a figure, wrapped to its width."""
    if simulated:
        text += " – SIMULATED\N{NO-BREAK SPACE}DATA"
    per_line = int(fig.get_figwidth() * 10)  # characters of 12 points, estimated low
    lines = [wrapped for line in text.splitlines() for wrapped in textwrap.wrap(line, per_line)]
    fig.suptitle("\n".join(lines).replace("\N{NO-BREAK SPACE}", " "))
