"""``submission.toml`` beside predictions: the card with which ``lulcbench submit`` enters a baseline on a board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lulcbench._files import write_atomic
from lulcbench.submission.card import ModelCard

if TYPE_CHECKING:
    from baselines.run import About, Trained
    from lulcbench.release import Release

SUBMISSION = "submission.toml"
CODE = "https://github.com/lulcbench/lulcbench"


def write_submission(trained: Trained, release: Release, folder: Path) -> Path:
    """Write the card of a run that predicted a release into the folder of the run."""
    card = submission(trained.about, release)
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}"  # JSON of these is TOML too
        for key, value in card.model_dump(mode="json", exclude_none=True).items()
    ]
    write_atomic(folder / SUBMISSION, ("\n".join(lines) + "\n").encode())
    return folder / SUBMISSION


def submission(about: About, release: Release) -> ModelCard:
    """The card, from the description of the run alone."""
    model, hardware = about.config.model, about.hardware
    device = hardware["gpu"] or f"{hardware['cpu']}, {hardware['threads']} thread(s)"
    return ModelCard(
        name=f"{about.config.name} (reference)",
        authors=("lulcbench",),
        code=CODE,
        sensors=tuple(about.info.inputs) if model.uses_images else (),
        training_data=(f"{release.id}, train split",),
        saw_scored_labels=False,  # baselines predict val or test
        pretraining=model.pretraining,
        parameters=about.parameters.total,
        compute=f"{about.effort.seconds / 60:.1f} minutes on {device}",
        licence="Apache-2.0",
        description=" ".join(filter(None, [model.describe(about), about.warning])),
    )
