"""The commands about predictions: score, check, compare, submit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from lulcbench import _console
from lulcbench._files import write_atomic
from lulcbench.evaluation.comparison import compare as compare_predictions
from lulcbench.evaluation.intervals import caution
from lulcbench.evaluation.scores import Interval, LevelScores, Scores
from lulcbench.evaluation.scoring import score as score_predictions
from lulcbench.predictions import peek
from lulcbench.release import Manifest
from lulcbench.submission.card import check_predictions, check_sensors, load_card
from lulcbench.submission.client import Client, find_token

PredictionsFile = Annotated[Path, typer.Argument(help="Predictions file (.zip) made by PredictionWriter.")]
Root = Annotated[Path, typer.Option(help="Folder of the release that was predicted.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the ``lulcbench`` command line."""
    for command in (score, check, compare, submit):
        app.command()(command)


def score(
    predictions: PredictionsFile,
    root: Root,
    json: Annotated[Path | None, typer.Option(help="Also write all scores to this JSON file.")] = None,
    classes: Annotated[int | None, typer.Option(help="Also list every class of this level.")] = None,
) -> None:
    """Score predictions against the labels of a release."""
    with _console.progress() as bar:
        task = bar.add_task("scoring", total=None)
        scores = score_predictions(predictions, root, lambda done, total: bar.update(task, completed=done, total=total))
    if json is not None:
        scores.write(json)
    show(scores, classes)


def check(
    predictions: PredictionsFile,
    root: Root,
    card: Annotated[Path | None, typer.Option(help="Model card (TOML) to check too.")] = None,
) -> None:
    """Say whether a leaderboard would take predictions (and a model card), before uploading them."""
    if card is not None:
        check_sensors(load_card(card), Manifest.load(root))
    with _console.progress() as bar:
        task = bar.add_task("checking", total=None)
        info = check_predictions(predictions, root, lambda done, total: bar.update(task, completed=done, total=total))
    with_probabilities = "with" if info.probabilities is not None else "without"
    typer.echo(
        f"{predictions} is good: {info.release}, {info.split} {'→'.join(map(str, info.years))}, level {info.level}, "
        f"{len(info.tiles)} tiles, {with_probabilities} probabilities."
    )


def compare(
    first: PredictionsFile,
    second: PredictionsFile,
    root: Root,
    json: Annotated[Path | None, typer.Option(help="Also write the comparison to this JSON file.")] = None,
) -> None:
    """Test whether the first predictions are better than the second, paired over spatial blocks."""
    with _console.progress() as bar:
        task = bar.add_task("comparing", total=None)
        result = compare_predictions(
            first, second, root, lambda done, total: bar.update(task, completed=done, total=total)
        )
    if json is not None:
        write_atomic(json, (result.model_dump_json(indent=1) + "\n").encode())
    table = Table("level", "metric", "first", "second", "difference", Column("95 % interval", no_wrap=True), "p")
    for row in result.differences:
        interval = f"{row.low:+.3f} {row.high:+.3f}"
        figures = (f"{row.first:.4f}", f"{row.second:.4f}", f"{row.difference:+.4f}", interval, f"{row.p:.3f}")
        table.add_row(str(row.level), _METRICS.get(row.metric, row.metric.replace("_", " ")), *figures)
    out = Console()
    out.print(table)
    simulated = " SIMULATED DATA." if result.simulated else ""
    notes = f"no p-value can be below {result.smallest_p:.2g}. {caution(result.blocks)}".strip()
    out.print(f"{result.blocks} spatial blocks; {notes}{simulated}")


def submit(
    predictions: PredictionsFile,
    card: Annotated[Path, typer.Option(help="Model card (TOML).")],
    to: Annotated[str, typer.Option(help="Address of the leaderboard.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the release: check every pixel first.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the scores.")] = True,
) -> None:
    """Send predictions and their model card to a leaderboard; an interrupted upload continues where it stopped."""
    model_card = load_card(card)
    if root is not None:
        check(predictions, root, card)
    else:
        info = peek(predictions)
        _console.console.print(
            f"{predictions.name} says it is {info.release}, {info.split}, level {info.level}, {len(info.tiles)} tiles; "
            "its pixels are not checked (give --root to check them before they are sent).",
            markup=False,
            highlight=False,
        )
    with Client(to, find_token(to)) as client:
        with _console.transfer_progress("upload") as advance:
            submission = client.upload(predictions, model_card, advance)
        if not wait:
            typer.echo(client.page(submission))
            return
        with _console.console.status("waiting for the scores"):
            result = client.wait(submission)
    if result.scores is not None:
        show(result.scores)
    typer.echo(result.url)


def show(scores: Scores, classes: int | None = None) -> None:
    """Print scores as tables on stdout."""
    out = Console()
    simulated = " · SIMULATED DATA" if scores.simulated else ""
    years = "→".join(map(str, scores.years))
    out.print(
        f"[bold]{scores.release}[/] {scores.split} {years} · {scores.tiles} tiles in {scores.blocks} blocks{simulated}"
    )
    out.print(_level_table(scores))
    if len(next(iter(scores.levels.values())).regions) > 1:
        out.print(_region_table(scores))
    tree = scores.hierarchical
    severity, f1 = (with_interval(getattr(tree, k), tree.intervals.get(k), " ") for k in ("mistake_severity", "f1"))
    out.print(f"mistake severity {severity} levels (mean over mistakes), hierarchical F1 {f1}")
    for change in scores.change or ():
        f1, iou = (with_interval(getattr(change, k), change.intervals.get(k), " ") for k in ("f1", "iou"))
        out.print(
            f"change, level {change.level}: {change.changed:,} of {change.pixels:,} pixels changed; "
            f"F1 {f1}, IoU {iou}, from–to F1 {_or_dash(change.from_to_f1)}"
        )
    if warning := caution(scores.blocks):
        out.print(warning)
    if classes in scores.levels:
        out.print(_class_table(scores.levels[classes]))
    out.print(f"scorer {scores.scorer_version} · predictions {scores.predictions_sha256[:12]}")


_METRICS = {
    "overall_accuracy": "accuracy",
    "balanced_accuracy": "balanced acc.",
    "miou": "mIoU",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "log_loss": "log loss",
    "brier": "Brier",
    "ece": "ECE",
}


def _class_table(level: LevelScores) -> Table:
    name = Column("class", no_wrap=True, overflow="ellipsis", ratio=1)
    table = Table("code", name, "labels", "precision", "recall", "F1", "IoU", expand=True)
    for row in level.classes:
        if row.support or row.predicted:
            figures = [_or_dash(value) for value in (row.precision, row.recall, row.f1, row.iou)]
            table.add_row(str(row.code), row.name, f"{row.support:,}", *figures)
    return table


def _level_table(scores: Scores) -> Table:
    levels = list(scores.levels.values())
    table = Table("", *(f"level {level.level}" for level in levels))
    table.add_row("pixels", *(f"{level.pixels:,}" for level in levels))
    for name, title in _METRICS.items():
        table.add_row(title, *(_figure(level, name) for level in levels))
    for edge in (0, 1):
        title = f"mIoU, {levels[0].boundary[edge].name}"
        table.add_row(title, *(_or_dash(level.boundary[edge].miou) for level in levels))
    return table


def _region_table(scores: Scores) -> Table:
    levels = list(scores.levels.values())
    table = Table("mIoU by region", *(f"level {level.level}" for level in levels))
    for i, region in enumerate(levels[0].regions):
        table.add_row(region.name, *(_or_dash(level.regions[i].miou) for level in levels))
    return table


def with_interval(value: float | None, interval: Interval | None, between: str = "\n") -> str:
    """A figure and, dimmed and after ``between``, its interval; a dash where it is undefined."""
    return _or_dash(value) + (f"{between}[dim]{interval.low:.3f}–{interval.high:.3f}[/]" if interval else "")


def _figure(level: LevelScores, name: str) -> str:
    value = getattr(level, name, None)
    if value is None and level.calibration is not None:
        value = getattr(level.calibration, name, None)
    return with_interval(value, level.intervals.get(name))


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
