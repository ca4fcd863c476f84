"""Commands on predictions: score, check, compare, submit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from lulcbench import _console
from lulcbench._console import new_table, result_console
from lulcbench.cli._output import Json, put_json
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.comparison import compare as compare_predictions
from lulcbench.evaluation.intervals import caution
from lulcbench.evaluation.metrics import METRICS, RANKING, Metric
from lulcbench.evaluation.scores import Estimate, LevelScores, Scores, SubsetScores
from lulcbench.evaluation.scoring import score as score_predictions
from lulcbench.predictions import peek
from lulcbench.release import AUTO, Manifest
from lulcbench.submission.card import check_predictions, check_sensors, load_card
from lulcbench.submission.client import Client, find_token

PredictionsFile = Annotated[Path, typer.Argument(help="Predictions file (.zip) written by PredictionWriter.")]
Labels = Annotated[
    str, typer.Option(help="Source of the labels, such as luisa or corine; by default LUISA, or the only one.")
]
Root = Annotated[Path, typer.Option(help="Folder of the release that was predicted.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the ``lulcbench`` command line."""
    for command in (score, check, compare, submit):
        app.command()(command)


def score(
    predictions: PredictionsFile,
    root: Root,
    labels: Labels = AUTO,
    json: Json = None,
    classes: Annotated[int | None, typer.Option(help="Also list every class of this level.")] = None,
) -> None:
    """Score predictions against the labels of a release."""
    finest = peek(predictions).level
    if classes is not None and not 1 <= classes <= finest:
        raise LulcbenchError(
            f"--classes is {classes}, but the predictions have levels 1 to {finest}.", "Choose one of these levels."
        )
    with _console.counted_progress("scoring") as advance:
        scores = score_predictions(predictions, root, advance, labels)
    if put_json(json, scores):
        show(scores, classes)


def check(
    predictions: PredictionsFile,
    root: Root,
    card: Annotated[Path | None, typer.Option(help="Model card (TOML) to check too.")] = None,
    json: Json = None,
) -> None:
    """Check predictions (and a model card) as a leaderboard does, before uploading them."""
    if card is not None:
        check_sensors(load_card(card), Manifest.load(root))
    with _console.counted_progress("checking") as advance:
        info = check_predictions(predictions, root, advance)
    if not put_json(json, info):
        return
    with_probabilities = "with" if info.probabilities is not None else "without"
    typer.echo(
        f"{predictions} is valid: {info.release}, {info.split} {'→'.join(map(str, info.years))}, level {info.level}, "
        f"{len(info.tiles)} tiles, {with_probabilities} probabilities."
    )


def compare(
    first: PredictionsFile,
    second: PredictionsFile,
    root: Root,
    labels: Labels = AUTO,
    json: Json = None,
) -> None:
    """Test whether the first predictions are better than the second, paired over spatial blocks."""
    with _console.counted_progress("comparing") as advance:
        result = compare_predictions(first, second, root, advance, labels)
    if not put_json(json, result):
        return
    table = new_table("level", "metric", "first", "second", "difference", Column("95 % interval", no_wrap=True), "p")
    for row in result.differences:
        interval = f"{row.low:+.3f} {row.high:+.3f}"
        cells = (f"{row.first:.4f}", f"{row.second:.4f}", f"{row.difference:+.4f}", interval, f"{row.p:.3f}")
        table.add_row(str(row.level), METRICS[row.metric].label, *cells)
    out = result_console()
    out.print(table)
    simulated = " SIMULATED DATA." if result.simulated else ""
    notes = f"no p-value can be below {result.smallest_p:.2g}. {caution(result.blocks)}".strip()
    out.print(f"{result.blocks} spatial blocks with labelled pixels; {notes}{simulated}")


def submit(
    predictions: PredictionsFile,
    card: Annotated[Path, typer.Option(help="Model card (TOML).")],
    to: Annotated[str, typer.Option(help="Address of the leaderboard.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the release, to check every pixel first.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the scores.")] = True,
) -> None:
    """Send predictions and their model card to a leaderboard; an interrupted upload is resumed."""
    model_card = load_card(card)
    if root is not None:
        check(predictions, root, card)
    else:
        info = peek(predictions)
        _console.console.print(
            f"According to its metadata, {predictions.name} predicts {info.release}, {info.split}, level {info.level}, "
            f"{len(info.tiles)} tiles; its pixels are not checked (give --root to check them before they are sent).",
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
    out = result_console()
    simulated = " · SIMULATED DATA" if scores.simulated else ""
    years = "→".join(map(str, scores.years))
    out.print(
        f"[bold]{scores.release}[/] {scores.split} {years} · {scores.source} labels · {scores.tiles} tiles in "
        f"{scores.blocks} blocks{simulated}"
    )
    if scores.unscored_years:
        out.print(f"not scored, because there are no labels: {', '.join(map(str, scores.unscored_years))}")
    out.print(_level_table(scores))
    if len(next(iter(scores.levels.values())).regions) > 1:
        out.print(_region_table(scores))
    if warning := caution(scores.blocks):
        out.print(warning)
    if classes in scores.levels:
        out.print(_class_table(scores.levels[classes]))
    out.print(f"scorer {scores.scorer_version} · predictions {scores.predictions_sha256[:12]}")


def _class_table(level: LevelScores) -> Table:
    name = Column("class", no_wrap=True, overflow="ellipsis", ratio=1)
    table = new_table("code", name, "labels", "precision", "recall", "F1", "IoU")
    for row in level.classes:
        if row.support or row.predicted:
            cells = [_or_dash(value) for value in (row.precision, row.recall, row.f1, row.iou)]
            table.add_row(str(row.code), row.name, f"{row.support:,}", *cells)
    return table


def _level_table(scores: Scores) -> Table:
    levels = list(scores.levels.values())
    table = new_table("", *(f"level {level.level}" for level in levels))
    table.add_row("pixels", *(f"{level.pixels:,}" for level in levels))
    changes = [level.change for level in levels if level.change is not None]
    if changes:
        table.add_row("changed pixels", *(f"{change.changed:,}" for change in changes))
    for name, metric in METRICS.items():
        if any(name in level.metrics for level in levels):
            table.add_row(title(metric), *(_cell(scores, level, metric) for level in levels))
    for subset in levels[0].boundary:
        subsets = [scores for level in levels for scores in level.boundary if scores.name == subset.name]
        table.add_row(f"{METRICS[RANKING].label}, {subset.name}", *_ranking(subsets))
    return table


def _region_table(scores: Scores) -> Table:
    levels = list(scores.levels.values())
    table = new_table(f"{METRICS[RANKING].label} by region", *(f"level {level.level}" for level in levels))
    for region in levels[0].regions:
        subsets = [subset for level in levels for subset in level.regions if subset.name == region.name]
        table.add_row(region.name, *_ranking(subsets))
    return table


def _ranking(subsets: list[SubsetScores]) -> list[str]:
    return [with_interval(subset.metrics.get(RANKING)) for subset in subsets]


def title(metric: Metric) -> str:
    """Label of a metric, with its unit."""
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def with_interval(estimate: Estimate | None) -> str:
    """Format a value with its interval, dimmed, on a second line; a dash if there is no value."""
    if estimate is None:
        return "–"
    interval = "" if estimate.low is None else f"\n[dim]{estimate.low:.3f}–{estimate.high:.3f}[/]"
    return f"{estimate.value:.4f}{interval}"


def _cell(scores: Scores, level: LevelScores, metric: Metric) -> str:
    if level.level != scores.level and not metric.family.at_every_level:
        return ""
    return with_interval(level.metrics.get(metric.name))


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
