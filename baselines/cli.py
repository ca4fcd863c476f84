"""The command line: ``python -m baselines train|predict|page|…``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baselines.config import Config, ForestModel, MajorityModel, SegmentationModel
from lulcbench import _console
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from baselines.run import Trained

app = typer.Typer(
    help="Reference models: train, predict, reproduce the committed scores.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file such as baselines/configs/demo.toml.")]
ConfigPaths = Annotated[list[Path], typer.Argument(metavar="CONFIG...", help="TOML files.")]
Out = Annotated[Path, typer.Option("--out", help="Runs lie in OUT/<name>.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace one setting.")]
PREDICTIONS = "predictions.zip"


@app.command()
def train(
    config: ConfigPath,
    out: Out = Path("runs"),
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what is there.")] = False,
    renew: Annotated[bool, typer.Option("--renew", help="Throw away a run of another config or release.")] = False,
    settings: Set = None,
) -> None:
    """Train a network; resumes a run that was interrupted."""
    run = Config.load(config, tuple(settings or ()))
    if isinstance(run.model, ForestModel | MajorityModel):
        _console.console.print(f"{run.name}: a {run.model.kind} reference is learnt when it predicts.")
        return
    from baselines.data import load
    from baselines.training.train import train as fit

    fit(run, load(run), out, "always" if restart else "if-other" if renew else "never")
    typer.echo(str(out / run.name))


@app.command()
def predict(configs: ConfigPaths, out: Out = Path("runs"), settings: Set = None) -> None:
    """Predict the test split: a release's predictions go to ``lulcbench score``, patches are scored here."""
    for config in configs:
        run = Config.load(config, tuple(settings or ()))
        typer.echo(_predict(run, out / run.name))


def _predict(run: Config, folder: Path) -> str:
    if isinstance(run.model, ForestModel | MajorityModel):
        from baselines.models.simple import predict_reference
        from baselines.predicting.submission import write_submission

        path = predict_reference(run, folder / PREDICTIONS)
        write_submission(run, folder)
        return str(path)
    trained = _trained(run, folder)
    if isinstance(run.model, SegmentationModel):
        from baselines.predicting.predict import predict_network
        from baselines.predicting.submission import write_submission

        path = predict_network(trained, folder / PREDICTIONS)
        write_submission(run, folder, trained.about)
        return str(path)
    from baselines.data import load_evaluation
    from baselines.predicting.classify import predict_patches

    scores = predict_patches(trained, load_evaluation(run, trained.about["data_digest"]), folder)
    for pair in scores["confused"]:
        _console.console.print(f"{pair['patches']:5d} × {pair['label']} taken for {pair['predicted']}")
    return f"{run.name}: overall accuracy {scores['overall_accuracy']:.4f} ({scores['patches']:,} patches)"


@app.command()
def patch(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained classifier.")],
    files: Annotated[list[Path], typer.Argument(help="GeoTIFFs of one place; several are taken as dates.")],
    bands: Annotated[str | None, typer.Option(help="Band names of the files, comma-separated, in order.")] = None,
) -> None:
    """Classify a georeferenced patch, or patches of one place over dates; JSON on stdout."""
    from baselines.predicting.patch import predict_files
    from baselines.run import load_run

    results = predict_files(load_run(folder), files, bands.split(",") if bands else None)
    typer.echo(json.dumps(results, indent=1, ensure_ascii=False))


@app.command()
def page(
    configs: ConfigPaths,
    to: Annotated[Path, typer.Option("--to", help="The HTML file to write.")],
    out: Out = Path("runs"),
) -> None:
    """Write one HTML page: pictures and learning curve of the first run, its scores beside those of the others."""
    from baselines.reports.page import read_entry, write_page

    typer.echo(str(write_page([read_entry(Config.load(c), out) for c in configs], to)))


@app.command()
def measure(
    config: ConfigPath,
    out: Out = Path("runs"),
    seed: Annotated[list[int] | None, typer.Option(help="A seed; give the option several times.")] = None,
) -> None:
    """Make a reference: train with each seed, score the test split, add to baselines/reference/<name>.json."""
    from baselines.measure import add
    from baselines.measure import measure as measure_seed

    run = Config.load(config)
    for n in seed or (0, 1, 2):
        path = add(run, [measure_seed(run, n, out)])  # each as it comes: the next may be interrupted
    typer.echo(str(path))


@app.command()
def tables() -> None:
    """Write the table of references into README.md and DATASET_CARD.md, and draw their learning curves."""
    from baselines.reports.tables import PAGES, write

    for path in write([Path(__file__).parents[1] / page for page in PAGES]):
        typer.echo(str(path))


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="Name of a committed reference (baselines/reference/*.json).")],
    out: Out = Path("runs/reproduce"),
    seeds: Annotated[int | None, typer.Option(min=1, help="Take only the first so many of its seeds.")] = None,
) -> None:
    """Retrain a reference; exit code 1 unless the result lies within its tolerance."""
    from baselines.measure import reproduce as again

    if not again(name, out, seeds):
        raise typer.Exit(1)


@app.command()
def gpu(
    minutes: Annotated[float, typer.Option(help="Wall-clock limit; another call goes on where this one stops.")] = 25,
    out: Out = Path("runs/gpu"),
    smoke: Annotated[bool, typer.Option("--smoke", help="Rehearse with tiny networks on a CPU.")] = False,
    job: Annotated[list[str] | None, typer.Option(help="Only these jobs.")] = None,
) -> None:
    """Make the reference scores, most wanted first."""
    from baselines.gpu import run_jobs

    for path in run_jobs(minutes, out, smoke, tuple(job or ())):
        typer.echo(str(path))


def _trained(run: Config, folder: Path) -> Trained:
    """The trained model of a config, with the config's own settings for prediction."""
    from baselines.run import Trained, load_run

    trained = load_run(folder)
    # The configs themselves, not their digests: a newer version may know more settings, all at their defaults.
    if trained.config != run.replace(predict=trained.config.predict.model_dump()):
        raise LulcbenchError(
            f"{folder} was trained with other settings than {run.name} has now.", "Train it again with --restart."
        )
    return Trained(trained.net, run, trained.about)


def main() -> None:
    """Entry point."""
    _console.run(app)
