"""``submission.toml`` beside predictions: the card with which ``lulcbench submit`` enters a baseline on a board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from baselines.config import Config, ForestModel, LuisaData, MajorityModel, SegmentationModel, expand
from baselines.run import cut_short
from lulcbench._files import write_atomic
from lulcbench.release import Release
from lulcbench.submission.card import ModelCard

SUBMISSION = "submission.toml"
CODE = "https://github.com/lulcbench/lulcbench"


def write_submission(config: Config, folder: Path, about: dict[str, Any] | None = None) -> Path:
    """Write the card of a run that predicted a release.

    Args:
        config: the run.
        folder: its folder.
        about: description of the trained network (``model.json``); None for the references, which are not trained.
    """
    card = submission(config, about)
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}"  # JSON of these is TOML too
        for key, value in card.model_dump(mode="json", exclude_none=True).items()
    ]
    write_atomic(folder / SUBMISSION, ("\n".join(lines) + "\n").encode())
    return folder / SUBMISSION


def submission(config: Config, about: dict[str, Any] | None) -> ModelCard:
    """The card, from the config and the description alone."""
    data, model = config.data, config.model
    if not isinstance(data, LuisaData):
        raise TypeError(f"{config.name} predicts no release")
    sensors: tuple[str, ...] = (data.sensor,)
    pretraining, parameters, compute = "none", 0, "none: the manifest counts the classes"
    if isinstance(model, MajorityModel):
        sensors = ()  # it looks at no image
        description = "The most frequent class of the train split everywhere; class frequencies as probabilities."
    elif isinstance(model, ForestModel):
        description = (
            f"Random forest of {model.trees} trees on the seasonal spectra of single pixels; no weights to count."
        )
        compute = f"{model.trees} trees on {model.samples:,} label pixels, on a CPU"
    elif isinstance(model, SegmentationModel) and about is not None:
        hardware = about["hardware"]
        device = hardware["gpu"] or f"{hardware['cpu']}, {hardware['threads']} thread(s)"
        compute = f"{about['seconds'] / 60:.1f} minutes on {device}"
        parameters = about["parameters"]["total"]
        pretraining = "ImageNet" if model.weights == "imagenet" else "none"
        description = f"{model.kind} with a {model.encoder} encoder, {about['steps']} steps ({about['epochs']} epochs)."
        if warning := cut_short(about):
            description += f" {warning}"
    else:
        raise TypeError(f"{config.name} makes no map")
    return ModelCard(
        name=f"{config.name} (reference)",
        authors=("lulcbench",),
        code=CODE,
        sensors=sensors,
        training_data=(f"{Release.open(expand(data.root)).id}, train split",),
        saw_scored_labels=config.predict.split == "train",
        pretraining=pretraining,
        parameters=parameters,
        compute=compute,
        licence="Apache-2.0",
        description=description,
    )
