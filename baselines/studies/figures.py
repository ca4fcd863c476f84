"""Figures of a study, as declared in its TOML file."""

from __future__ import annotations

import io
import math
import statistics
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from baselines.predicting.unit_counts import AGREEMENT
from baselines.run import load_run
from baselines.studies.results import Group
from baselines.studies.study import TRAINING_VALUES, Plot
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import METRICS
from lulcbench.plotting import Panel

MAX_CLASSES = 20
MANY_TIMES = 20  # ratio of the ends of an axis from which on it is logarithmic
TILES = 3  # best ones, and as many worst ones


Pictures = Callable[[str, int], Iterator[tuple[str, Sequence[Panel]]]]


def draw(plot: Plot, groups: Mapping[str, Group], simulated: bool, pictures: Pictures | None = None) -> bytes:
    """SVG of a figure; the same results give the same bytes.

    Args:
        plot: the figure.
        groups: finished runs by name.
        simulated: whether the data are simulated.
        pictures: gives so many pictures of the predictions of a run, for maps.

    Raises:
        LulcbenchError: none of its runs is finished, or the config has no such key.
    """
    shown = {name: group for name, group in groups.items() if not plot.runs or name in plot.runs}
    if not shown:
        raise LulcbenchError(f"{plot.title}: none of its runs is finished.", "Run the study again.")
    figure = Figure((8, 4.5), layout="constrained")
    if plot.chart == "maps":
        _maps(figure, shown, pictures)
    else:
        charts = {"points": _points, "curves": _curves, "classes": _classes, "tiles": _tiles, "agreement": _agreement}
        charts[plot.chart](figure, plot, shown)
    figure.suptitle(plot.title + (" (simulated data)" if simulated else ""), fontsize=11)
    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "lulcbench"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def _label(metric: str) -> str:
    return TRAINING_VALUES[metric] if metric in TRAINING_VALUES else METRICS[metric].label


def _setting(group: Group, key: str) -> Any:
    value: Any = next(iter(group.outcomes.values())).config
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise LulcbenchError(f"{group.name} has no setting {key}.", "Correct x of the figure.")
        value = value[part]
    if value is None:
        raise LulcbenchError(f"{group.name} does not set {key}.", "Set it, or correct x of the figure.")
    return value


def _points(figure: Any, plot: Plot, groups: Mapping[str, Group]) -> None:
    """Mean, standard deviation and each seed: a row per run, or over the values of a setting."""
    if plot.x is None:
        _rows(figure, plot, groups)
        return
    axes = figure.subplots(1, len(plot.y), squeeze=False)[0]
    for axis, metric in zip(axes, plot.y, strict=True):
        by_config: dict[str, list[tuple[Any, list[float]]]] = {}
        for name, group in groups.items():
            values = _values(group, metric, plot.level)
            if values:
                by_config.setdefault(name.partition(".")[0], []).append((_setting(group, plot.x), values))
        for k, (line, points) in enumerate(by_config.items()):
            points.sort(key=lambda point: (isinstance(point[0], str), point[0]))
            means, spread = zip(*(_mean_and_spread(values) for _, values in points), strict=True)
            axis.errorbar([x for x, _ in points], means, spread, fmt="o-", color=f"C{k}", capsize=3, label=line)
            for x, values in points:
                axis.plot([x] * len(values), values, ".", color=f"C{k}", alpha=0.4)
        axis.set(ylabel=_label(metric), xlabel=plot.x)
        xs = [x for points in by_config.values() for x, _ in points]
        if all(isinstance(x, int | float) and x > 0 for x in xs) and max(xs) >= MANY_TIMES * min(xs):
            axis.set_xscale("log")
        axis.grid(alpha=0.3)
        if len(by_config) > 1:
            axis.legend(frameon=False)


def _rows(figure: Any, plot: Plot, groups: Mapping[str, Group]) -> None:
    across = min(2, len(plot.y))
    axes = figure.subplots(math.ceil(len(plot.y) / across), across, squeeze=False, sharey=True).ravel()
    for axis, metric in zip(axes, plot.y, strict=False):
        for row, group in enumerate(groups.values()):
            values = _values(group, metric, plot.level)
            if values:
                mean, spread = _mean_and_spread(values)
                axis.errorbar(mean, row, xerr=spread, fmt="o", color="C0", capsize=3)
                axis.plot(values, [row] * len(values), ".", color="C0", alpha=0.4)
        axis.set(xlabel=_label(metric), ylim=(len(groups) - 0.5, -0.5))
        axis.set_yticks(range(len(groups)), list(groups), fontsize=8)
        axis.grid(alpha=0.3)
    for axis in axes[len(plot.y) :]:
        axis.remove()


def _values(group: Group, metric: str, level: int | None) -> list[float]:
    return [value for value in group.values(metric, level) if not math.isnan(value)]


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _curves(figure: Any, plot: Plot, groups: Mapping[str, Group]) -> None:
    axis = figure.subplots()
    for k, (name, group) in enumerate(groups.items()):
        for column, style in zip(plot.y, ("-", "--", ":", "-."), strict=False):
            for i, outcome in enumerate(group.outcomes.values()):
                points = [(row["epoch"] + 1, row[column]) for row in outcome.curve if column in row]
                if points:
                    label = None if i else f"{name}: {column}"
                    axis.plot(*zip(*points, strict=True), style, color=f"C{k}", alpha=0.7, label=label)
    if not axis.lines:
        raise LulcbenchError(f"{plot.title}: none of its runs has a learning curve.", "Name runs of networks.")
    axis.set(xlabel="epoch")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)


def _classes(figure: Any, plot: Plot, groups: Mapping[str, Group]) -> None:
    reference = next(iter(groups.values()))
    level = reference.levels[-1] if plot.level is None else plot.level
    counts = next(iter(reference.counts.values()))
    names = counts.classes[level]
    support = counts.sums["classes", level].sum(0)[1]
    order = [i for i in support.argsort(kind="stable")[::-1][:MAX_CLASSES] if support[i]]
    (axis,) = _class_axes(figure, [names[i] for i in order], 1, len(groups))
    width = 0.8 / len(groups)
    for k, (name, group) in enumerate(groups.items()):
        f1 = [Family.CLASSES.view(c.sums["classes", level].sum(0)).f1 for c in group.counts.values()]
        lengths = [statistics.fmean(0.0 if math.isnan(v[i]) else v[i] for v in f1) for i in order]
        axis.barh([j + (k + 0.5) * width - 0.4 for j in range(len(order))], lengths, width, label=name)
    axis.set(xlabel="F1", xlim=(0, 1))
    _legend_below(figure, *axis.get_legend_handles_labels())


def _class_axes(figure: Any, names: Sequence[str], columns: int, bars: int) -> Sequence[Any]:
    """Axes side by side with a row per class, the first one at the top, high enough for so many bars per row."""
    figure.set_size_inches(8, 1.4 + len(names) * max(0.2, 0.11 * bars))
    axes: Sequence[Any] = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
    axes[0].set_yticks(range(len(names)), [textwrap.shorten(name, 48, placeholder=" …") for name in names], fontsize=8)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    for axis in axes:
        axis.grid(alpha=0.3, axis="x")
        axis.set_axisbelow(True)
    return axes


def _agreement(figure: Any, plot: Plot, groups: Mapping[str, Group]) -> None:
    """Share of the pixels of a class that have it in the next year too, of runs and, as a line, of the labels."""
    reference = next(iter(groups.values()))
    level = reference.levels[-1] if plot.level is None else plot.level
    counts = next(iter(reference.counts.values()))
    if any((AGREEMENT, level) not in c.sums for group in groups.values() for c in group.counts.values()):
        raise LulcbenchError(f"{plot.title}: its runs are not of several years.", "Name runs of the task series.")
    labels = counts.sums[AGREEMENT, level].sum(0)[:, 2:]
    order = [i for i in labels[:, 0].sum(0).argsort(kind="stable")[::-1][:MAX_CLASSES] if labels[:, 0, i].all()]
    axes = _class_axes(figure, [counts.classes[level][i] for i in order], len(labels), len(groups))
    width = 0.8 / len(groups)
    for pair, axis in enumerate(axes):
        for k, (name, group) in enumerate(groups.items()):
            sums = [c.sums[AGREEMENT, level].sum(0)[pair] for c in group.counts.values()]
            lengths = [statistics.fmean(s[1, i] / max(1, s[0, i]) for s in sums) for i in order]
            axis.barh([j + (k + 0.5) * width - 0.4 for j in range(len(order))], lengths, width, label=name)
        for j, i in enumerate(order):
            share = labels[pair, 1, i] / labels[pair, 0, i]
            axis.plot([share, share], [j - 0.4, j + 0.4], "k-", label=None if j else "labels")
        axis.set(xlabel=f"agreement, years {pair + 1} and {pair + 2}", xlim=(0, 1.02), xticks=(0, 0.25, 0.5, 0.75, 1))
    _legend_below(figure, *axes[0].get_legend_handles_labels())


def _legend_below(figure: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
    """A legend below the axes, where it covers no bar."""
    figure.legend(handles, names, loc="outside lower center", frameon=False, fontsize=8, ncols=3)


def _maps(figure: Any, groups: Mapping[str, Group], pictures: Pictures | None) -> None:
    """The first tile of each run: its pictures side by side."""
    if pictures is None:
        raise LulcbenchError("There are no pictures of predictions.", "Choose another chart.")
    rows = [(name, next(pictures(name, 1))) for name in groups]
    columns = max(len(panels) for _, (_, panels) in rows)
    figure.set_size_inches(2.6 * columns, 2.8 * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, (tile, panels)) in zip(axes, rows, strict=True):
        for axis, panel in zip(line, panels, strict=False):
            axis.imshow(panel.rgb, interpolation="nearest")
            axis.set_title(panel.title, fontsize=8)
        for axis in line:
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"{name}, {tile}", fontsize=7)
    colors = {text: color for _, (_, panels) in rows for panel in panels for text, color in panel.entries}
    patches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*color), edgecolor="0.5", linewidth=0.5)
        for color in colors.values()
    ]
    _legend_below(figure, patches, list(colors))


def _tiles(figure: Any, plot: Plot, groups: Mapping[str, Group]) -> None:
    name, group = next(iter(groups.items()))
    seed, folder = next(iter(group.folders.items()))
    trained = load_run(folder.parents[1], group.configs[seed])  # the split and the release of the predictions
    level = group.levels[-1] if plot.level is None else plot.level
    rows = trained.task.extremes(trained.config, folder, TILES, level)
    if not rows:
        raise LulcbenchError(f"{plot.title}: {name} has no tiles with labels.", "Name a run that maps a release.")
    figure.set_size_inches(6.5, 2.2 * len(rows))
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for row, (tile, share, panels) in zip(axes, rows, strict=True):
        for axis, panel in zip(row, panels, strict=True):
            axis.imshow(panel.rgb, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(panel.title, fontsize=7)
        row[0].set_ylabel(f"{tile}\n{share:.0%} right", fontsize=8)
    figure.supxlabel(f"{name}, seed {seed}: the best {len(rows) // 2} tiles, then the worst", fontsize=8)
