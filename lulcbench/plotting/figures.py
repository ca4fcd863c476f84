"""Figures of panels, of series, of error matrices and of bars. All text has 7 points or more."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lulcbench.plotting.panels import Panel
from lulcbench.sensors import Band

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lulcbench.plotting.picture import Picture

Bounds = tuple[float, float, float, float]
MAX_LEGEND = 48  # entries; the rest are counted in the last one
TEXT = 7  # points
_PANEL, _GAP = 4.0, 0.25  # side of a panel and space between two, in inches
_LEFT, _RIGHT, _TOP = 0.72, 0.2, 0.12  # margins, in inches
_LINE = 0.15  # height of a line of the legend, in inches
_COLUMN, _CHARACTERS = 3.5, 52  # width of a column of the legend, in inches and in characters
_HEADER = 0.26  # height of a line of a title, in inches
_AXIS = 0.5  # height of the coordinates below a panel, in inches
_SERIES = 7.0  # width of the lines of a series, in inches
BREAK = np.timedelta64(183, "D")  # a line is broken where a series has no date for half a year

# Centre wavelengths in µm up to which bands have a colour: that of the light, and for infrared ones customary ones.
_BAND_COLORS = (
    (0.45, "#6a3fb5"), (0.52, "#1f5fd0"), (0.60, "#2a9134"), (0.69, "#d01c1c"), (0.77, "#f06292"), (0.90, "#8e24aa"),
    (1.20, "#4a148c"), (1.40, "#90a4ae"), (1.80, "#b8860b"), (np.inf, "#5d4037"),
)  # fmt: skip
_OTHER_COLORS = ("#222222", "#888888", "#00838f", "#bb7700")
_STYLES = ("-", "--", ":", "-.")


def figure(
    panels: Sequence[Panel],
    suptitle: str,
    simulated: bool,
    show_titles: bool = True,
    *,
    bounds: Bounds | None = None,
    credit: str = "",
) -> Picture:
    """Figure of panels side by side with one legend below them, independent of GUIs.

    Args:
        panels: images of one place.
        suptitle: title of the figure.
        simulated: adds a mark to the title.
        show_titles: write the title of each panel above it.
        bounds: west, south, east and north of all panels in metres; adds coordinates and a scale bar.
        credit: line below the figure, such as of ``credit``.
    """
    return _compose(panels, suptitle, simulated, show_titles, bounds, credit)[0]


def line_figure(
    dates: npt.NDArray[np.datetime64],
    values: npt.NDArray[np.floating],
    bands: Sequence[Band],
    panels: Sequence[Panel],
    suptitle: str,
    simulated: bool,
    show_titles: bool = True,
    *,
    sensor: str = "",
    bounds: Bounds | None = None,
    credit: str = "",
) -> Picture:
    """Figure of values ``(time, band)`` over dates, with one line per band, followed by the panels.

    Lines have the colours of their bands and are broken where there is no date for half a year (``BREAK``).
    """
    fig, axis = _compose(panels, suptitle, simulated, show_titles, bounds, credit, series=_SERIES)
    gaps = np.flatnonzero(np.diff(dates) > BREAK) + 1
    when = np.insert(dates, gaps, dates[gaps - 1] + np.timedelta64(1, "D")) if len(gaps) else dates
    broken = np.insert(np.asarray(values, np.float64), gaps, np.nan, axis=0)
    for band, (color, style), line in zip(bands, band_styles(bands), broken.T, strict=True):
        axis.plot(when, line, marker="o", markersize=4, label=band.name, color=color, linestyle=style)
    optical = bands[0].wavelength is not None and bands[0].unit == "1"
    axis.set_ylabel(f"{sensor} {'reflectance' if optical else bands[0].unit}".strip(), fontsize=9)
    axis.legend(fontsize=TEXT, ncols=2)
    axis.tick_params(axis="x", rotation=30, labelsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.grid(alpha=0.25)
    return fig


def band_styles(bands: Sequence[Band]) -> list[tuple[str, str]]:
    """Colour and line style of each band: bands of one colour differ in style.

    Example:
        >>> from lulcbench.sensors import LANDSAT
        >>> band_styles([LANDSAT.band("red"), LANDSAT.band("green")])
        [('#d01c1c', '-'), ('#2a9134', '-')]
    """
    used: dict[str, int] = {}
    styles = []
    for number, band in enumerate(bands):
        if band.wavelength is None:
            color = _OTHER_COLORS[number % len(_OTHER_COLORS)]
        else:
            color = next(color for limit, color in _BAND_COLORS if band.wavelength <= limit)
        styles.append((color, _STYLES[used.get(color, 0) % len(_STYLES)]))
        used[color] = used.get(color, 0) + 1
    return styles


def matrix_figure(matrices: Sequence[tuple[str, npt.ArrayLike, Sequence[int]]], simulated: bool = False) -> Picture:
    """Figure of error matrices side by side: shades are shares of the row, numbers are the entries.

    Args:
        matrices: title, matrix ``(n, n)`` with rows of the reference and columns of the map, and codes ``(n,)``;
            classes without entries are left out.
        simulated: adds a mark to the title.
    """
    from lulcbench.plotting.picture import Picture

    shown = []
    for title, values, codes in matrices:
        matrix = np.asarray(values, np.float64)
        used = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
        shown.append((title, matrix[np.ix_(used, used)], [str(codes[int(i)]) for i in used]))
    side = max(5.5, 1.2 + 0.34 * max((len(names) for *_, names in shown), default=0))  # room for numbers of 7 points
    fig = Picture(figsize=(side * len(shown), side), layout="constrained")
    for axis, (title, matrix, names) in zip(np.atleast_1d(fig.subplots(1, len(shown))), shown, strict=True):
        axis.imshow(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12), cmap="Greens", vmin=0, vmax=1)
        axis.set_title(title, fontsize=9)
        axis.set(xlabel="map", ylabel="reference")
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=TEXT)
        axis.set_yticks(range(len(names)), names, fontsize=TEXT)
        for i, j in np.argwhere(matrix > 0):
            text = f"{matrix[i, j]:.0f}" if matrix.max() > 1 else f"{matrix[i, j]:.3f}".lstrip("0")
            dark = matrix[i, j] > 0.6 * matrix[i].sum()
            axis.text(j, i, text, ha="center", va="center", fontsize=TEXT, color="white" if dark else "black")
    _title(fig, "Error matrix", simulated)
    return fig


def bar_figure(
    bars: Sequence[tuple[str, float, tuple[float, float] | None, float]],
    label: str,
    names: tuple[str, str],
    simulated: bool = False,
) -> Picture:
    """Figure of pairs of horizontal bars, the first with an interval.

    Args:
        bars: name, first value with its interval or None, second value.
        label: of the values.
        names: of the first and the second bars.
        simulated: adds a mark to the title.
    """
    from lulcbench.plotting.picture import Picture

    fig = Picture(figsize=(7, 1.2 + 0.34 * len(bars)), layout="constrained")
    axis = fig.subplots()
    place = np.arange(len(bars), dtype=float)
    axis.barh(place - 0.2, [value for _, value, _, _ in bars], 0.38, label=names[0], color="#1b7f5c")
    axis.barh(place + 0.2, [other for *_, other in bars], 0.38, label=names[1], color="#b9c4bf")
    for at, (_, value, interval, _) in zip(place, bars, strict=True):
        if interval is not None:
            ends = [[max(value - interval[0], 0)], [max(interval[1] - value, 0)]]
            axis.errorbar(value, at - 0.2, xerr=ends, color="black", capsize=2, linewidth=1)
    axis.set_yticks(place, [textwrap.shorten(name, 40, placeholder=" …") for name, *_ in bars], fontsize=TEXT)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.legend(fontsize=TEXT)
    _title(fig, label.partition(",")[0], simulated)
    return fig


def legend_entries(panels: Iterable[Panel]) -> list[tuple[str, tuple[int, int, int]]]:
    """Entries of all panels, each once, at most ``MAX_LEGEND``; the last one then counts the rest."""
    entries = list(dict.fromkeys(entry for panel in panels for entry in panel.entries))
    if len(entries) <= MAX_LEGEND:
        return entries
    shown = entries[: MAX_LEGEND - 1]
    return [*shown, (f"+ {len(entries) - len(shown)} more", (255, 255, 255))]


def _compose(
    panels: Sequence[Panel],
    suptitle: str,
    simulated: bool,
    show_titles: bool,
    bounds: Bounds | None,
    credit: str,
    series: float = 0.0,
) -> tuple[Picture, Any]:
    """The figure, and axes of a series at its left if it has a width. All is placed in inches: nothing overlaps."""
    from lulcbench.plotting.picture import Picture

    left = _LEFT if bounds is not None or series else _RIGHT
    inner = _beside(series, bounds) + (_PANEL + _GAP) * len(panels) - _GAP * bool(panels)
    width = left + inner + _RIGHT
    columns = _columns(legend_entries(panels), max(1, int((width - 2 * _RIGHT) / _COLUMN)))
    lines = max((sum(text.count("\n") + 1 for text, _ in column) for column in columns), default=0)
    title = _wrapped(suptitle, simulated, width)
    notes = textwrap.wrap(credit, int(width * 17))
    # From the bottom: credit, legend, coordinates, panels, their titles, title.
    under = 0.1 + 0.14 * len(notes) + (lines * _LINE + 0.15 if columns else 0)
    base = under + (_AXIS if bounds is not None or series else 0.08)
    captions = [caption for panel in panels for caption in [textwrap.wrap(panel.title, 46)]]
    above = _HEADER * max((len(caption) for caption in captions), default=1) * 0.8 if show_titles else 0.0
    height = base + _PANEL + above + _HEADER * (title.count("\n") + 1) + _TOP
    fig = Picture(figsize=(width, height))
    fig.suptitle(title, y=1 - _TOP / height, va="top")

    def place(x: float, wide: float) -> Any:
        return fig.add_axes((x / width, base / height, wide / width, _PANEL / height))

    axis = place(left, series) if series else None
    at = left + _beside(series, bounds)
    for number, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        one = place(at, _PANEL)
        _draw(one, panel, bounds, number == 0)
        if show_titles:
            one.set_title("\n".join(caption), fontsize=9, pad=4)
        at += _PANEL + _GAP
    for number, column in enumerate(columns):
        x = _RIGHT + number * (width - 2 * _RIGHT) / len(columns)
        _legend(fig, column, x / width, (under - 0.02) / height)
    if notes:
        fig.text(
            _RIGHT / width,
            0.08 / height,
            "\n".join(notes),
            fontsize=TEXT,
            va="bottom",
            color="#444444",
            linespacing=1.3,
        )
    return fig, axis


def _beside(series: float, bounds: Bounds | None) -> float:
    """Width of a series and of the space beside it, where the coordinates of the next panel are."""
    return series + (0.3 if bounds is None else _LEFT + 0.1) if series else 0.0


def _draw(axis: Any, panel: Panel, bounds: Bounds | None, first: bool) -> None:
    """An image, with coordinates and a scale bar if its place is known."""
    if bounds is None:
        axis.imshow(panel.rgb, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        return
    west, south, east, north = (value / 1000 for value in bounds)
    axis.imshow(panel.rgb, interpolation="nearest", extent=(west, east, south, north))
    places = [west + (east - west) * share for share in (0.0, 0.5, 1.0)]
    axis.set_xticks(places, [f"{x:,.1f}" for x in places], fontsize=TEXT)
    for label, side in zip(axis.get_xticklabels(), ("left", "center", "right"), strict=True):
        label.set_horizontalalignment(side)
    axis.set_xlabel("east, km", fontsize=TEXT, labelpad=2)
    axis.set_yticks([])
    if first:
        places = [south + (north - south) * share for share in (0.0, 0.5, 1.0)]
        axis.set_yticks(places, [f"{y:,.1f}" for y in places], fontsize=TEXT)
        axis.set_ylabel("north, km", fontsize=TEXT, labelpad=2)
    _scale_bar(axis, west, south, east - west)


def _scale_bar(axis: Any, west: float, south: float, side: float) -> None:
    """A bar of a round length near a quarter of the side, readable on any image."""
    from matplotlib.patches import Rectangle

    wanted = side / 4
    unit = 10.0 ** np.floor(np.log10(wanted))
    length = max(step * unit for step in (1, 2, 5) if step * unit <= wanted * 1.0001)
    x, y = west + 0.04 * side, south + 0.04 * side
    back: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    axis.add_patch(Rectangle((x - 0.02 * side, y - 0.02 * side), length + 0.04 * side, 0.095 * side, **back))
    axis.add_patch(Rectangle((x, y), length, 0.015 * side, facecolor="black", edgecolor="none"))
    text = f"{length:g} km" if length >= 1 else f"{1000 * length:g} m"
    axis.text(x + length / 2, y + 0.02 * side, text, fontsize=TEXT, ha="center", va="bottom", color="black")


def _columns(
    entries: Sequence[tuple[str, tuple[int, int, int]]], most: int
) -> list[list[tuple[str, tuple[int, int, int]]]]:
    """Entries with wrapped names in at most ``most`` columns of about as many lines."""
    wrapped = [("\n".join(textwrap.wrap(name, _CHARACTERS)), color) for name, color in entries]
    total = sum(name.count("\n") + 1 for name, _ in wrapped)
    height = -(-total // most)
    columns: list[list[tuple[str, tuple[int, int, int]]]] = []
    used = height
    for name, color in wrapped:
        if used >= height:
            columns.append([])
            used = 0
        columns[-1].append((name, color))
        used += name.count("\n") + 1
    return columns


def _legend(fig: Figure, column: Sequence[tuple[str, tuple[int, int, int]]], x: float, y: float) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=(r / 255, g / 255, b / 255), edgecolor="#999999", linewidth=0.5, label=name)
        for name, (r, g, b) in column
    ]
    fig.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(x, y), borderaxespad=0, borderpad=0, frameon=False,
        fontsize=TEXT, labelspacing=0.35, handlelength=1.6,
    )  # fmt: skip


def _wrapped(text: str, simulated: bool, width: float) -> str:
    """A title in lines that fit a width in inches."""
    if simulated:
        text += " – SIMULATED\N{NO-BREAK SPACE}DATA"
    per_line = max(int(width * 9), 16)  # characters of 12 points, estimated low
    lines = [wrapped for line in text.splitlines() for wrapped in textwrap.wrap(line, per_line)]
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def _title(fig: Figure, text: str, simulated: bool) -> None:
    """Set the title of a figure, wrapped to its width."""
    fig.suptitle(_wrapped(text, simulated, fig.get_figwidth()))
