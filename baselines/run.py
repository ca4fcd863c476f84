"""Finished runs: the fitted model and its description."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from baselines.config import Config
from baselines.data import DataInfo
from baselines.devices import Images, best_device, hardware
from baselines.models import Fitted, Predictor
from baselines.predicting.views import temper
from baselines.registry import Part
from baselines.tasks import Task
from baselines.training.card import write_card
from baselines.training.effort import Effort
from lulcbench import __version__
from lulcbench._console import console
from lulcbench._files import write_atomic
from lulcbench._parsing import MAX_TEXT_BYTES, parse_json, read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend

if TYPE_CHECKING:
    from baselines.experiment import Experiment

DESCRIPTION = "model.json"
TRAIN_AGAIN = "Train it: python -m baselines train CONFIG."
PACKAGES = ("torch", "lightning", "scikit-learn", "timm", "segmentation-models-pytorch", "torchgeo")


class Parameters(Part):
    """Number of weights in total, and of those that were trained; 0 for models without weights."""

    trainable: int = 0
    total: int = 0


class About(Part):
    """The description of a run, ``model.json``.

    Attributes:
        config: config of the run.
        config_digest: digest of the config.
        data_digest: digest of the data.
        legend_digest: digest of the LUISA legend; None for other legends.
        info: description of the data.
        temperature: divides logits before the softmax, so that probabilities are calibrated on the val split.
        parameters: number of weights of the model.
        effort: time and steps of fitting.
        hardware: machine that fitted the model.
        versions: versions of packages.
    """

    config: Config
    config_digest: str
    data_digest: str
    legend_digest: str | None
    info: DataInfo
    temperature: Annotated[float, Field(gt=0)]
    parameters: Parameters
    effort: Effort
    hardware: dict[str, Any]
    versions: dict[str, str]

    @property
    def warning(self) -> str | None:
        """A sentence if ``train.max_minutes`` stopped the run before its schedule ended, else None."""
        if not self.effort.cut_short:
            return None
        return (
            f"Training was cut short after {self.effort.steps} of {self.effort.planned_steps} steps by "
            f"train.max_minutes = {self.config.train.max_minutes:g}."
        )


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted model with its task and description.

    Attributes:
        predictor: the fitted model.
        task: the task it was fitted to.
        config: config of the run.
        about: description of the run.
    """

    predictor: Predictor
    task: Task
    config: Config
    about: About

    def __call__(self, images: Images) -> Tensor:
        """Class probabilities of normalised images, not calibrated, without the sensors of ``predict.missing``."""
        if isinstance(images, dict):
            missing = self.config.predict.missing
            images = {k: torch.zeros_like(image) if k in missing else image for k, image in images.items()}
        return self.predictor(images)

    @property
    def temperature(self) -> float:
        """Temperature of the predictions; 1 if ``predict.calibrate`` is off."""
        return self.about.temperature if self.config.predict.calibrate else 1.0

    def probabilities(self, images: Images) -> Tensor:
        """Calibrated class probabilities ``(b, class)`` of normalised images, for tasks with one class per sample."""
        return temper(self(images), self.temperature).cpu()


def save_run(folder: Path, experiment: Experiment, fitted: Fitted) -> About:
    """Write a fitted model, its card, and last its description: a folder with ``model.json`` is complete.

    Args:
        folder: folder of the run.
        experiment: config, data and task.
        fitted: the fitted model.

    Returns:
        The description.
    """
    config, info, predictor = experiment.config, experiment.info, fitted.predictor
    predictor.save(folder)
    about = About(
        config=config,
        config_digest=config.digest,
        data_digest=info.digest,
        legend_digest=legend().digest if info.level is not None or info.subset is not None else None,
        info=info,
        temperature=fitted.temperature,
        parameters=Parameters(**predictor.count_parameters()),
        effort=fitted.effort,
        hardware=hardware(),
        versions=versions(),
    )
    write_card(folder, predictor, about)
    write_atomic(folder / DESCRIPTION, (about.model_dump_json(indent=1) + "\n").encode())
    return about


def load_run(folder: Path, config: Config | None = None) -> Trained:
    """Read a run that ``save_run`` wrote.

    Args:
        folder: folder of the run.
        config: current config, whose settings for prediction apply; None uses those of the stored config.

    Raises:
        LulcbenchError: the folder has no trained model, a file is damaged, the legend has changed since, or the config
            has other settings for training, or asks for calibrated probabilities of a model without a temperature.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise LulcbenchError(f"{folder} has no trained model ({DESCRIPTION} is missing).", TRAIN_AGAIN)
    content = parse_json(read_limited(path, MAX_TEXT_BYTES), str(path), TRAIN_AGAIN)
    try:
        about = About.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise LulcbenchError(
            f"The model in {folder} is damaged: {DESCRIPTION}, {where}: {first['msg']}.", TRAIN_AGAIN
        ) from error
    if about.legend_digest not in (None, legend().digest):
        raise LulcbenchError(
            f"The model in {folder} was trained with another legend ({about.legend_digest[:12]}…).", TRAIN_AGAIN
        )
    run = config or about.config
    if not run.same_as(content["config"], predicting=False):
        raise LulcbenchError(
            f"{folder} was trained with other settings than those of {run.name}.", "Train it again with --restart."
        )
    _check_calibration(folder, run, about)
    task = run.task.build(about.info)
    predictor = run.model.load(folder, run, task)
    return Trained(predictor.to(best_device()), task, run, about)


def _check_calibration(folder: Path, run: Config, about: About) -> None:
    """Check that the temperature is that of the probabilities to predict, which prediction settings change.

    Raises:
        LulcbenchError: it is to be applied, but none was fitted.
    """
    fitted, asked = about.config.predict, run.predict
    if not asked.calibrate or not about.effort.steps:  # models without steps have no temperature
        return
    if not fitted.calibrate:
        raise LulcbenchError(
            f"The model in {folder} was trained with predict.calibrate = false: it has no temperature to apply.",
            "Set predict.calibrate = false, or train it again with --restart.",
        )
    if fitted.tta != asked.tta:
        console.print(
            f"[yellow]{run.name}: the temperature was fitted with predict.tta = {str(fitted.tta).lower()}, and is "
            f"applied to predictions with {str(asked.tta).lower()}.[/]"
        )


def versions() -> dict[str, str]:
    """Versions of this project and of the installed packages that results depend on."""
    installed = {"lulcbench": __version__}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed
