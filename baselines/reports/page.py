"""One self-contained HTML page that shows what a run is worth: pictures, scores beside references, loss curve."""

from __future__ import annotations

import base64
import csv
import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from baselines.config import ClassificationModel, Config, LuisaData, SegmentationModel, expand
from baselines.data.release import segments
from baselines.run import cut_short, load_run
from baselines.training.callbacks import HISTORY
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.metrics import shown_in
from lulcbench.evaluation.scores import Scores
from lulcbench.legend import legend
from lulcbench.plotting import rgb_panel
from lulcbench.predictions import Predictions
from lulcbench.release import Release

PREDICTIONS = "predictions.zip"
SCORES = "scores.json"
TILES = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One model on the page.

    Attributes:
        config: its run.
        scores: its scores.
        folder: of the run.
        about: the description of its training (``model.json``); None for references, which are not trained.
    """

    config: Config
    scores: Scores
    folder: Path
    about: dict[str, Any] | None


def read_entry(config: Config, runs: Path) -> Entry:
    """A scored run.

    Raises:
        LulcbenchError: the trained model, its predictions or its scores are missing.
    """
    folder = runs / config.name
    for name, command in ((PREDICTIONS, "python -m baselines predict"), (SCORES, "lulcbench score")):
        if not (folder / name).is_file():
            raise LulcbenchError(f"{folder / name} is missing.", f"Run '{command}' first.")
    trained = isinstance(config.model, SegmentationModel | ClassificationModel)
    return Entry(config, Scores.load(folder / SCORES), folder, load_run(folder).about if trained else None)


def write_page(entries: Sequence[Entry], out: Path) -> Path:
    """Write the page.

    Args:
        entries: the model, then the references it is compared with, all of one release.
        out: the HTML file to make.
    """
    main = entries[0]
    data = main.config.data
    if not isinstance(data, LuisaData):
        raise LulcbenchError(f"{main.config.name} is no map.", "The page shows segmentation runs.")
    root = expand(data.root)
    release = Release.open(root)
    for entry in entries:
        if entry.scores.release_digest != release.digest:
            raise LulcbenchError(f"{entry.folder / SCORES} scores another release.", "Predict and score it again.")
    pictures, present = _tiles(main, release)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
    )
    html = environment.get_template("page.html.j2").render(
        release=release.manifest,
        digest=release.digest,
        title=f"{main.config.name}: {main.config.model.kind} on {release.id}",
        tables=[_table(entries, level) for level in sorted(main.scores.levels)],
        metrics=shown_in("baselines"),
        warnings=[(_name(e.config), text) for e in entries if e.about and (text := cut_short(e.about))],
        pictures=pictures,
        curve=_curve(main.folder),
        legend=[(c, legend().classes[c].name, legend().classes[c].color) for c in present],
        split=main.config.predict.split,
        data=data,
        facts=_facts(main),
    )
    write_atomic(out, html.encode())
    return out


def _table(entries: Sequence[Entry], level: int) -> dict[str, Any]:
    """Scores of all models at a level; the best of each metric is marked."""
    metrics = shown_in("baselines")
    rows = []
    for entry in entries:
        scores = entry.scores.levels.get(level)
        name = _name(entry.config) + (" (cut short)" if entry.about and cut_short(entry.about) else "")
        rows.append((name, {metric: scores[metric] if scores else None for metric in metrics}))
    best: dict[str, float | None] = {}
    for name, metric in metrics.items():
        values = [row[name] for _, row in rows if row[name] is not None]
        best[name] = (max if metric.higher_is_better else min)(values, default=None)
    return {"level": level, "classes": len(legend().codes(level)), "rows": rows, "best": best}


def _name(config: Config) -> str:
    names = {"unet": "UNet", "deeplabv3plus": "DeepLabv3+", "forest": "random forest", "majority": "majority class"}
    return names.get(config.model.kind, config.model.kind)


def _tiles(entry: Entry, release: Release) -> tuple[list[dict[str, str]], list[int]]:
    """True colour, label and prediction of the test tiles with the most classes, and the level-4 codes seen."""
    data = entry.config.data
    if not isinstance(data, LuisaData):
        raise TypeError(type(data))
    dataset = segments(data, entry.config.predict.split)
    classes = (dataset.class_fractions(data.year, 4) > 0.01).sum(axis=1)
    rows = np.argsort(-classes, kind="stable")[:TILES]
    level = data.level
    colors = legend().colors(level)
    pictures, present = [], set()
    with Predictions.open(entry.folder / PREDICTIONS, release) as predictions:
        for row in sorted(rows.tolist()):
            sample = dataset[row]
            (sensor,) = dataset.sensors
            image: torch.Tensor = sample["image"].unflatten(0, (len(dataset.seasons), -1))
            season = dataset.shown_season
            values = dataset.normalizers[sensor].denormalize(image[season])
            panel = rgb_panel(values, dataset.band_details(sensor), "")
            label = sample["mask"][level - 1].numpy()
            codes = predictions.codes(row)[0]
            mapped = legend().encode(codes, level)
            present |= {int(c) for c in np.unique(legend().decode(label.astype(np.uint8), level))} | set(codes.flat)
            rgb = (np.asarray(panel.rgb) * 255).astype(np.uint8)
            images = {"true": rgb, "label": colors[label], "prediction": colors[mapped]}
            agreement = float((label == mapped).mean())
            pictures.append(
                {k: _png(v) for k, v in images.items()}
                | {"tile": sample["tile"], "season": dataset.seasons[season], "agreement": f"{agreement:.0%}"}
            )
    return pictures, sorted(int(c) for c in present if c)


def _png(rgb: np.ndarray[Any, Any]) -> str:
    from matplotlib.image import imsave

    # Whole-number enlargement keeps class borders crisp in every browser.
    factor = max(1, 480 // rgb.shape[0])
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(rgb.repeat(factor, 0).repeat(factor, 1)), format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def _curve(folder: Path) -> str | None:
    """The learning curve, or None for models without one."""
    path = folder / HISTORY
    if not path.is_file():
        return None
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    figure = Figure(figsize=(7, 3), layout="constrained")
    axis = figure.subplots()
    for key, label in (("train_loss", "train"), ("val_loss", "validation")):
        points = [(int(r["epoch"]) + 1, float(r[key])) for r in rows if r[key]]
        if points:
            axis.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 30 else None)
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss (mean over levels)")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    axis.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()


def _facts(entry: Entry) -> dict[str, str]:
    packages = ", ".join(f"{n} {version(n)}" for n in ("lulcbench", "torch", "segmentation-models-pytorch"))
    facts = {
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "system": f"{platform.system()} {platform.machine()}",
        "software": f"Python {platform.python_version()}, {packages}",
        "predictions": f"sha256 {entry.scores.predictions_sha256[:16]}…",
        "scorer": entry.scores.scorer_version,
    }
    if entry.about is not None:
        about, machine = entry.about, entry.about["hardware"]
        device = machine["gpu"] or f"{machine['threads']} threads of {machine['cpu']}"
        steps = f"{about['steps']} of {about['planned_steps']} steps ({about['epochs']} epochs)"
        limit = entry.config.train.max_minutes
        limited = "no limit of time" if limit is None else f"at most {limit:g} minutes"
        facts["training"] = f"{steps} in {about['seconds']:.0f} s on {device}; {limited}"
    return facts
