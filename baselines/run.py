"""What a finished run leaves behind: weights as safetensors, and a description that says what they fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from baselines.config import Config
from baselines.data.arrays import Problem
from baselines.models.networks import build
from lulcbench import __version__
from lulcbench._files import write_atomic
from lulcbench._parsing import MAX_TEXT_BYTES, parse_json, read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
KEYS = (
    "config_digest",
    "data_digest",
    "legend_digest",
    "mean",
    "std",
    "level",
    "simulated",
    "temperature",
    "parameters",
    "steps",
    "planned_steps",
    "cut_short",
)
PACKAGES = ("torch", "lightning", "timm", "segmentation-models-pytorch", "torchgeo")


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network and what it was trained on.

    Attributes:
        net: the network, in evaluation mode.
        config: its run.
        about: the description: channels, mean, std, classes, level, data and legend digests, temperature, parameters,
            steps made and planned, and whether ``train.max_minutes`` cut training short.
    """

    net: nn.Module
    config: Config
    about: dict[str, Any]

    @property
    def temperature(self) -> float:
        """Divides logits before the softmax, so that probabilities are calibrated on the val split."""
        return float(self.about["temperature"])

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Images as stored → what the network takes; those of releases come normalised already."""
        if self.about["mean"] is None:
            return images
        mean = torch.tensor(self.about["mean"], device=images.device).view(-1, 1, 1)
        std = torch.tensor(self.about["std"], device=images.device).view(-1, 1, 1)
        return (images.float() - mean) / std


@contextmanager
def threads_of(config: Config) -> Iterator[None]:
    """Compute with the number of threads of a config, and afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cut_short(about: dict[str, Any]) -> str | None:
    """A sentence on a training run that ``train.max_minutes`` stopped before its schedule ended, else None."""
    if not about["cut_short"]:
        return None
    minutes = about["config"]["train"]["max_minutes"]
    return (
        f"Training was cut short after {about['steps']} of {about['planned_steps']} steps by "
        f"train.max_minutes = {minutes:g}."
    )


def save_run(folder: Path, net: nn.Module, config: Config, problem: Problem, facts: dict[str, Any]) -> None:
    """Write weights, then the description: a folder with ``model.json`` is whole.

    Args:
        folder: of the run.
        net: the network.
        config: its run.
        problem: its data.
        facts: what else to say, such as temperature and parameters.
    """
    state = {k: v.detach().cpu().contiguous().clone() for k, v in net.state_dict().items()}
    write_atomic(folder / WEIGHTS, save(state))
    about = {
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest,
        "data_digest": problem.digest,
        "legend_digest": legend().digest if problem.level is not None else None,
        "channels": problem.channels,
        "mean": problem.mean,
        "std": problem.std,
        "classes": problem.classes,
        "level": problem.level,
        "simulated": problem.simulated,
        **facts,
    }
    write_atomic(folder / DESCRIPTION, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())


def load_run(folder: Path) -> Trained:
    """Read what ``save_run`` wrote.

    Raises:
        LulcbenchError: nothing was trained there, a file is damaged, or the legend has changed since.
    """
    again = "Train it: python -m baselines train CONFIG."
    path = folder / DESCRIPTION
    if not path.is_file():
        raise LulcbenchError(f"No trained model in {folder} ({DESCRIPTION} is missing).", again)
    try:
        about = parse_json(read_limited(path, MAX_TEXT_BYTES), str(path), again)
        config = Config.parse(about["config"], str(path))
        weights = load((folder / WEIGHTS).read_bytes())
        channels, classes = len(about["channels"]), len(about["classes"])
        if missing := [key for key in KEYS if key not in about]:
            raise KeyError(missing[0])
        if any(about[key] is not None and len(about[key]) != channels for key in ("mean", "std")):
            raise ValueError("mean and std are not one a channel")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, LulcbenchError):
            raise
        raise LulcbenchError(f"The model in {folder} is damaged: {error!r}.", again) from error
    if about["legend_digest"] not in (None, legend().digest):
        raise LulcbenchError(
            f"The model in {folder} was trained with another legend ({about['legend_digest'][:12]}…).", again
        )
    # Its own weights follow, so nothing pretrained is needed.
    net = build(config.model.model_copy(update={"weights": None, "weights_file": None}), channels, classes)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise LulcbenchError(f"The weights in {folder} do not fit their description: {error}", again) from error
    return Trained(net.eval().to(memory_format=torch.channels_last), config, about)


def versions() -> dict[str, str]:
    """Versions of this project and of the packages that a result depends on, as far as they are installed."""
    found = {"lulcbench": __version__}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
