"""Command line: ``python -m baselines train|predict|page|…``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lulcbench import _console

if TYPE_CHECKING:
    from baselines.config import Config

# Modules that load torch are imported inside the commands that need them.
app = typer.Typer(
    help="Reference models: train, predict, reproduce the committed scores.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file such as baselines/configs/demo.toml.")]
ConfigPaths = Annotated[list[Path], typer.Argument(metavar="CONFIG...", help="TOML files.")]
Out = Annotated[Path, typer.Option("--out", help="Runs are written to OUT/<name>.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace one setting.")]


@app.command()
def train(
    configs: ConfigPaths,
    out: Out = Path("runs"),
    restart: Annotated[bool, typer.Option("--restart", help="Discard an existing run.")] = False,
    renew: Annotated[
        bool, typer.Option("--renew", help="Discard an existing run of another config or release.")
    ] = False,
    settings: Set = None,
) -> None:
    """Fit models; interrupted training of a network is resumed."""
    from baselines.experiment import Experiment
    from baselines.train import train as fit

    for config in configs:
        run = _load(config, settings)
        fit(Experiment.open(run), out, "always" if restart else "if-other" if renew else "never")
        typer.echo(str(out / run.name))


@app.command()
def predict(configs: ConfigPaths, out: Out = Path("runs"), settings: Set = None) -> None:
    """Predict a split; predictions of patches are also scored, those of a release by ``lulcbench score``.

    The split is ``predict.split``, by default test, and may be one without labels: --set predict.split=map.
    """
    from baselines.run import load_run

    for config in configs:
        run = _load(config, settings)
        trained = load_run(out / run.name, run)
        typer.echo(str(trained.task.predict(trained, out / run.name)))


@app.command()
def patch(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained classifier.")],
    files: Annotated[list[Path], typer.Argument(help="GeoTIFFs of one location, one per date.")],
    bands: Annotated[str | None, typer.Option(help="Band names of the files, comma-separated, in order.")] = None,
) -> None:
    """Classify a georeferenced patch, or patches of one location at several dates; writes JSON to stdout."""
    from baselines.predicting.patch import predict_files
    from baselines.run import load_run

    results = predict_files(load_run(folder), files, bands.split(",") if bands else None)
    typer.echo(json.dumps(results, indent=1, ensure_ascii=False))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained model.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the exported model, for 'lulcbench map'.")],
) -> None:
    """Write a trained model as ONNX with its description, which needs no torch to run."""
    from baselines.export import export as write
    from baselines.run import load_run

    typer.echo(str(write(load_run(run), out).folder))


@app.command()
def page(
    configs: ConfigPaths,
    to: Annotated[Path, typer.Option("--to", help="HTML file to write.")],
    out: Out = Path("runs"),
) -> None:
    """Write one HTML page: images and learning curve of the first run, and a table of the scores of all runs."""
    from baselines.reports.page import read_entry, write_page

    typer.echo(str(write_page([read_entry(_load(config), out) for config in configs], to)))


@app.command()
def measure(
    config: ConfigPath,
    out: Out = Path("runs"),
    seed: Annotated[list[int] | None, typer.Option(help="Seed; repeatable.")] = None,
) -> None:
    """Compute a reference score: train with each seed, score test, add to baselines/reference/<name>.json."""
    from baselines.measure import add
    from baselines.measure import measure as measure_seed

    run = _load(config)
    for n in seed or (0, 1, 2):
        path = add(run, [measure_seed(run, n, out)])  # after each seed: the next may be interrupted
    typer.echo(str(path))


@app.command()
def study(
    name: Annotated[str, typer.Argument(metavar="STUDY", help="Name in baselines/studies, or a TOML file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of all studies, which share runs.")] = Path("runs/studies"),
    root: Annotated[Path | None, typer.Option(help="Release or archive instead of those of the configs.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    minutes: Annotated[float | None, typer.Option(help="Wall-clock limit; the next call resumes.", min=0)] = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="Smallest models, one epoch, one seed.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only runs of this config or setting; repeatable.")] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Train nothing: write the page of what is finished.")
    ] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="Copy results and figures into the repository, for 'tables'.")
    ] = False,
) -> None:
    """Run what is missing of a study, compare its runs over spatial blocks, and write its page."""
    from baselines.studies import command

    path, complete = command.run(name, out, root, processes, minutes, rehearse, tuple(only or ()), report)
    for file in (path, *(command.publish(path) if publish else ())):
        typer.echo(str(file))
    if not complete:
        raise typer.Exit(1)


@app.command()
def tables() -> None:
    """Write the committed scores into README.md, DATASET_CARD.md and docs/studies.md, and plot the learning curves."""
    from baselines.reports import studies, tables
    from baselines.studies.command import not_run

    pages = [Path(__file__).parents[1] / page for page in tables.PAGES]
    for path in [*tables.write(pages), *studies.write(pages, not_run())]:
        typer.echo(str(path))


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="Name of a committed reference score (baselines/reference/*.json).")],
    out: Out = Path("runs/reproduce"),
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of its seeds to train; default: all.")] = None,
) -> None:
    """Train a reference again; exit code 1 if the score is outside its tolerance."""
    from baselines.measure import reproduce as train_again

    if not train_again(name, out, seeds):
        raise typer.Exit(1)


@app.command()
def gpu(
    minutes: Annotated[float, typer.Option(help="Wall-clock limit; the next call resumes.")] = 25,
    out: Out = Path("runs/gpu"),
    smoke: Annotated[bool, typer.Option("--smoke", help="Rehearse with tiny networks on a CPU.")] = False,
    job: Annotated[list[str] | None, typer.Option(help="Only these jobs.")] = None,
) -> None:
    """Compute the reference scores in order of priority."""
    from baselines.gpu import run_jobs

    for path in run_jobs(minutes, out, smoke, tuple(job or ())):
        typer.echo(str(path))


@app.command()
def difficulty(
    root: Annotated[Path, typer.Argument(help="Folder of a release with Landsat.")],
    pixels: Annotated[int, typer.Option(help="Maximum number of label pixels for training.", min=100)] = 60_000,
    tolerance: Annotated[float | None, typer.Option(help="Exit code 1 if a score deviates more.", min=0)] = None,
) -> None:
    """Weighted F1 of a per-pixel random forest on seasonal Landsat spectra, next to the published scores."""
    from baselines.difficulty import PUBLISHED
    from baselines.difficulty import difficulty as run

    scores = run(root.resolve(), pixels=pixels)
    typer.echo("level  weighted F1  Witjes et al. 2022")
    for level, score in scores.items():
        typer.echo(f"{level:>5}  {score:>11.3f}  {PUBLISHED.get(level, '–')!s:>18}")
    if tolerance is not None and any(abs(scores[level] - score) > tolerance for level, score in PUBLISHED.items()):
        raise typer.Exit(1)


def _load(path: Path, settings: list[str] | None = None) -> Config:
    from baselines.config import Config

    return Config.load(path, tuple(settings or ()))


def main() -> None:
    """Entry point."""
    _console.run(app)
