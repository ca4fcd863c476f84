"""The command line: ``python -m baselines train|predict|page|…``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baselines.config import Config, SegmentationModel
from lulcbench import console
from lulcbench.errors import LulcbenchError

app = typer.Typer(
    help="Reference models: train, predict, reproduce the committed scores.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file such as baselines/configs/demo.toml.")]
Out = Annotated[Path, typer.Option("--out", help="Runs lie in OUT/<name>.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace one setting.")]
PREDICTIONS = "predictions.zip"


@app.command()
def train(
    config: ConfigPath,
    out: Out = Path("runs"),
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what is there.")] = False,
    settings: Set = None,
) -> None:
    """Train a network; resumes a run that was interrupted."""
    run = Config.load(config, tuple(settings or ()))
    from baselines.data import load
    from baselines.train import train as fit

    fit(run, load(run), out, restart)
    typer.echo(str(out / run.name))


@app.command()
def predict(config: ConfigPath, out: Out = Path("runs"), settings: Set = None) -> None:
    """Predict the test split of a release; the file is ready for ``lulcbench score``."""
    run = Config.load(config, tuple(settings or ()))
    folder = out / run.name
    if isinstance(run.model, SegmentationModel):
        from baselines.predict import predict_network
        from baselines.run import Trained, load_run

        trained = load_run(folder)
        if trained.about["config_digest"] != run.replace(predict=trained.config.predict.model_dump()).digest:
            raise LulcbenchError(
                f"{folder} was trained with other settings than {config}.", "Train it again with --restart."
            )
        path = predict_network(Trained(trained.net, run, trained.about), None, folder / PREDICTIONS)
    else:
        from baselines.references import predict_reference

        path = predict_reference(run, folder / PREDICTIONS)
    typer.echo(str(path))


def main() -> None:
    """Entry point."""
    console.run(app)
