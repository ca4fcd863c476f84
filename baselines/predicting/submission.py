"""``submission.toml``: the model card with which ``lulcbench submit`` sends the predictions of a baseline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lulcbench._files import write_atomic
from lulcbench.submission.card import ModelCard

if TYPE_CHECKING:
    from baselines.run import Trained
    from lulcbench.release import Release

SUBMISSION = "submission.toml"
CODE = "https://github.com/lulcbench/lulcbench"


def write_submission(trained: Trained, release: Release, folder: Path) -> Path:
    """Write the model card of a run into its folder; returns its path."""
    card = submission(trained, release)
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}"  # for these types JSON is valid TOML
        for key, value in card.model_dump(mode="json", exclude_none=True).items()
    ]
    write_atomic(folder / SUBMISSION, ("\n".join(lines) + "\n").encode())
    return folder / SUBMISSION


def submission(trained: Trained, release: Release) -> ModelCard:
    """Model card, from the description of the run."""
    about = trained.about
    model, hardware = about.config.model, about.hardware
    fitted = trained.config.predicted.digest() == about.data_digest  # to the labels of this release
    trained_on = release.id if fitted else f"release with digest {about.data_digest}"
    device = hardware["gpu"] or f"{hardware['cpu']}, {hardware['threads']} thread(s)"
    return ModelCard(
        name=f"{about.config.label}, seed {about.config.seed} (reference)",
        authors=("lulcbench",),
        code=CODE,
        sensors=tuple(about.info.inputs) if model.uses_images else (),
        training_data=(f"{trained_on}, train split",),
        saw_scored_labels=fitted and trained.config.predict.split in ("train", "val"),  # temperatures are fitted on val
        pretraining=model.pretraining,
        parameters=about.parameters.total,
        compute=f"{about.effort.seconds / 60:.1f} minutes on {device}",
        training_hours=round(about.effort.seconds / 3600, 4),
        device=device,
        licence="Apache-2.0",
        description=" ".join(filter(None, [model.describe(about), about.warning])),
    )
