"""Inline SVG charts. Colours that depend on dark mode are CSS classes; every mark has a title for screen readers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape

from lulcbench.evaluation.scores import LevelScores, ReliabilityBin

# Viridis at 0, ¼, ½, ¾, 1 (matplotlib, CC0): monotonic in lightness, readable with colour blindness and in grey.
_VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
SERIES = ("s0", "s1", "s2", "s3", "s4", "s5")


def ramp(value: float) -> str:
    """Colour of a value from 0 to 1."""
    at = min(max(value, 0.0), 1.0) * (len(_VIRIDIS) - 1)
    low = min(int(at), len(_VIRIDIS) - 2)
    mix = [round(a + (b - a) * (at - low)) for a, b in zip(_VIRIDIS[low], _VIRIDIS[low + 1], strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mix)


def bar(value: float, color: str) -> Markup:
    """A bar beside the number in a table cell, hidden from screen readers."""
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="8"/><rect class="value" width="{}" height="8" fill="{}"/></svg>'
    ).format(f"{100 * value:.1f}", color)


def confusion(level: LevelScores) -> Markup:
    """Row-normalised confusion matrix: rows are labels, columns predictions; empty classes are left out."""
    matrix, classes = level.confusion, level.classes
    kept = [i for i, c in enumerate(classes) if c.support or c.predicted]
    n, cell = len(kept), max(9, min(30, 560 // max(len(kept), 1)))
    left, top = 190, 46
    size = n * cell
    parts = [_open(left + size + 4, top + size + 4, "Confusion matrix: rows are labels, columns are predictions")]
    for at, i in enumerate(kept):
        middle = at * cell + cell / 2
        code = classes[i].code
        parts.append(_text(left - 4, top + middle + 3, f"{classes[i].name[:26]} {code}", "end"))
        parts.append(
            Markup('<text class="tick" transform="translate({} {}) rotate(-90)">{}</text>').format(
                f"{left + middle + 3:.1f}", top - 4, code
            )
        )
        total = sum(matrix[i]) or 1
        for to, j in enumerate(kept):
            share = matrix[i][j] / total
            if matrix[i][j]:
                title = f"{classes[i].name} predicted as {classes[j].name}: {matrix[i][j]:,} px, {share:.1%}"
                parts.append(_rect(left + to * cell, top + at * cell, cell - 1, cell - 1, ramp(share**0.5), title))
                if cell >= 20 and share >= 0.005:
                    shade = "dark" if share**0.5 < 0.6 else "light"
                    at_x, at_y = left + to * cell + cell / 2, top + at * cell + cell / 2 + 3
                    parts.append(
                        Markup('<text class="cell {}" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                            shade, f"{at_x:.1f}", f"{at_y:.1f}", f"{100 * share:.0f}"
                        )
                    )
    parts.append(Markup('<rect class="frame" x="{}" y="{}" width="{}" height="{}"/>').format(left, top, size, size))
    return _close(parts)


def reliability(bins: Sequence[ReliabilityBin]) -> Markup:
    """Accuracy against confidence; a calibrated model is on the diagonal. The area of dots grows with their pixels."""
    size, edge = 260, 34
    total = sum(b.pixels for b in bins) or 1
    used = [(b.confidence, b.accuracy, b.pixels) for b in bins if b.confidence is not None and b.accuracy is not None]
    points = [(edge + confidence * size, 8 + size - accuracy * size) for confidence, accuracy, _ in used]
    parts = [
        _open(size + edge + 12, size + 44, "Reliability curve: accuracy against mean confidence"),
        _frame(edge, size),
    ]
    parts.append(Markup('<path class="guide" d="M{} {}L{} {}"/>').format(edge, 8 + size, edge + size, 8))
    if points:
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(Markup('<path class="line s0" d="M{}"/>').format(line))
    for (confidence, accuracy, pixels), (x, y) in zip(used, points, strict=True):
        title = f"confidence {confidence:.2f}, accuracy {accuracy:.2f}, {pixels:,} px"
        radius = 2.5 + 7 * (pixels / total) ** 0.5
        parts.append(_dot(x, y, radius, "s0", title))
    for tick in (0, 0.5, 1):
        parts.append(_text(edge + tick * size, size + 22, f"{tick:g}", "middle"))
        parts.append(_text(edge - 5, 12 + size - tick * size, f"{tick:g}", "end"))
    parts.append(_text(edge + size / 2, size + 40, "confidence", "middle"))
    return _close(parts)


def error_map(cells: Sequence[dict[str, Any]]) -> Markup:
    """Map of accuracy in EPSG:3035, north up."""
    if not cells:
        return Markup("")
    left, bottom = min(c["x"] for c in cells), min(c["y"] for c in cells)
    right, top = max(c["x"] + c["size"] for c in cells), max(c["y"] + c["size"] for c in cells)
    # At most 420 px wide, and no cell larger than 48 px.
    scale = min(420 / max(right - left, top - bottom), 48 / max(c["size"] for c in cells))
    parts = [_open(max((right - left) * scale, 120) + 80, (top - bottom) * scale + 22, "Map of accuracy, north up")]
    for c in cells:
        x, y = 2 + (c["x"] - left) * scale, 2 + (top - c["y"] - c["size"]) * scale
        title = f"E {c['x'] // 1000} km, N {c['y'] // 1000} km: accuracy {c['accuracy']:.3f}, {c['pixels']:,} px"
        side = max(c["size"] * scale - 0.6, 1.2)
        parts.append(_rect(x, y, side, side, ramp(c["accuracy"]), title))
    width, height = (right - left) * scale, (top - bottom) * scale
    parts += [
        _text(2, height + 16, f"E {left // 1000} km", "start"),
        _text(max(width, 190), height + 16, f"E {right // 1000} km", "end"),
        _text(width + 8, 12, f"N {top // 1000} km", "start"),
        _text(width + 8, max(height, 26), f"N {bottom // 1000} km", "start"),
    ]
    return _close(parts)


def ramp_key(label: str) -> Markup:
    """Colour bar of ``ramp`` from 0 to 1."""
    parts = [_open(240, 32, f"{label}: dark is 0, light is 1")]
    parts += [_rect(20 + i * 10, 2, 10, 10, ramp(i / 19), "") for i in range(20)]
    parts += [_text(20, 25, "0", "middle"), _text(120, 25, label, "middle"), _text(220, 25, "1", "middle")]
    return _close(parts)


def intervals(rows: Sequence[tuple[str, float, float | None, float | None]], label: str) -> Markup:
    """Forest plot: values with their 95 % intervals, one row per series."""
    bounds = [v for _, value, low, high in rows for v in (value, low, high) if v is not None]
    if not bounds:
        return Markup("")
    low_end, high_end = min(bounds), max(bounds)
    pad = (high_end - low_end) * 0.08 or 0.01
    # Scores from 0 to 1 have no ticks outside that range.
    floor, ceiling = (0.0, 1.0) if low_end >= 0 and high_end <= 1 else (-math.inf, math.inf)
    low_end, high_end = max(low_end - pad, floor), min(high_end + pad, ceiling)
    left, width, step = 8, 190, 22  # shown in its own size in a table, so that its text is readable

    def x(value: float) -> float:
        return left + (value - low_end) / (high_end - low_end) * width

    parts = [_open(left * 2 + width, step * len(rows) + 26, f"{label} with 95 % confidence intervals")]
    for i, (name, value, low, high) in enumerate(rows):
        y, css = 12 + i * step, SERIES[i % len(SERIES)]
        if low is not None and high is not None:
            parts.append(
                Markup('<path class="line {}" d="M{} {}H{}"/>').format(css, f"{x(low):.1f}", y, f"{x(high):.1f}")
            )
        interval = f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""
        parts.append(_dot(x(value), y, 4.5, css, f"{name}: {value:.3f}{interval}"))
    y = step * len(rows) + 18
    parts += [_text(left, y, f"{low_end:.3f}", "start"), _text(left + width, y, f"{high_end:.3f}", "end")]
    return _close(parts)


def history(points: Sequence[tuple[datetime, float, str]], best: Sequence[tuple[datetime, float, str]]) -> Markup:
    """All values over time, and the best so far as a step line; both lists in order of time."""
    if not points:
        return Markup("")
    width, height, left = 640, 240, 44
    start, end = points[0][0], points[-1][0]
    span = (end - start).total_seconds() or 1.0
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    pad = (high - low) * 0.1 or 0.01
    low, high = low - pad, high + pad

    def x(at: datetime) -> float:
        return left + (at - start).total_seconds() / span * (width - 20) + 8

    def y(value: float) -> float:
        return 8 + (high - value) / (high - low) * height

    parts = [_open(width + left, height + 34, "Every score by date of submission, and the best so far")]
    parts.append(Markup('<rect class="frame" x="{}" y="8" width="{}" height="{}"/>').format(left, width - 4, height))
    stairs = f"M{x(best[0][0]):.1f} {y(best[0][1]):.1f}"
    for at, value, _ in best[1:]:
        stairs += f"H{x(at):.1f}V{y(value):.1f}"
    parts.append(Markup('<path class="line s0" d="{}H{}"/>').format(stairs, f"{x(end):.1f}"))
    leaders = set(best)
    for at, value, name in points:
        css = "s0" if (at, value, name) in leaders else "faint"
        parts.append(_dot(x(at), y(value), 4, css, f"{at:%Y-%m-%d} {name}: {value:.3f}"))
    parts += [_text(left - 5, y(v) + 4, f"{v:.3f}", "end") for v in (low + pad, high - pad)]
    parts += [_text(left + 8, height + 26, f"{start:%Y-%m-%d}", "start")]
    if start.date() != end.date():
        parts += [_text(left + width - 12, height + 26, f"{end:%Y-%m-%d}", "end")]
    return _close(parts)


def sizes(points: Sequence[tuple[str, int, float]], label: str) -> Markup:
    """Values against numbers of parameters, on a logarithmic scale: (name, parameters > 0, value)."""
    width, height, left = 640, 240, 44
    low, high = min(p[2] for p in points), max(p[2] for p in points)
    pad = (high - low) * 0.1 or 0.01
    low, high = low - pad, high + pad
    first, last = (math.log10(at(p[1] for p in points)) for at in (min, max))
    first, last = math.floor(first), max(math.ceil(last), math.floor(first) + 1)

    def x(power: float) -> float:
        return left + 8 + (power - first) / (last - first) * (width - 20)

    parts = [_open(width + left, height + 34, f"{label} against the number of parameters")]
    parts.append(Markup('<rect class="frame" x="{}" y="8" width="{}" height="{}"/>').format(left, width - 4, height))
    for name, parameters, value in points:
        y = 8 + (high - value) / (high - low) * height
        parts.append(_dot(x(math.log10(parameters)), y, 5, "s0", f"{name}: {value:.3f}, {parameters:,} parameters"))
    steps = (1, 2, 5) if last - first < 3 else (1,)
    for tick in [step * 10**power for power in range(first, last) for step in steps] + [10**last]:
        text = f"{tick:,}" if tick < 10**6 else f"{tick // 10**6:,} M"
        anchor = "start" if tick == 10**first else "end" if tick == 10**last else "middle"
        parts.append(_text(x(math.log10(tick)), height + 26, text, anchor))
    for value in (low + pad, high - pad):
        parts.append(_text(left - 5, 12 + (high - value) / (high - low) * height, f"{value:.3f}", "end"))
    return _close(parts)


def _open(width: float, height: float, label: str) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}">'
    ).format(round(width), round(height), label)


def _close(parts: list[Markup]) -> Markup:
    return Markup("").join([*parts, Markup("</svg>")])


def _frame(left: float, size: float) -> Markup:
    return Markup('<rect class="frame" x="{}" y="8" width="{}" height="{}"/>').format(left, size, size)


def _text(x: float, y: float, text: Any, anchor: str) -> Markup:
    return Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        f"{x:.1f}", f"{y:.1f}", anchor, text
    )


def _rect(x: float, y: float, width: float, height: float, fill: str, title: str) -> Markup:
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="{}">{}</rect>').format(
        f"{x:.1f}", f"{y:.1f}", f"{width:.1f}", f"{height:.1f}", fill, _title(title)
    )


def _dot(x: float, y: float, radius: float, css: str, title: str) -> Markup:
    return Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}">{}</circle>').format(
        css, f"{x:.1f}", f"{y:.1f}", f"{radius:.1f}", _title(title)
    )


def _title(text: str) -> Markup:
    return Markup("<title>{}</title>").format(escape(text)) if text else Markup("")
