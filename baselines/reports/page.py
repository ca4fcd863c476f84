"""Self-contained HTML page of a run: images, a table of scores with those of other runs, learning curve."""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from baselines.config import Config
from baselines.reports.locator import draw_locator
from baselines.run import Trained, load_run
from baselines.tasks import Report
from baselines.training.history import read_history
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.metrics import METRICS

PICTURES = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One run on the page.

    Attributes:
        trained: the trained model.
        report: scores of the run.
        folder: folder of the run.
    """

    trained: Trained
    report: Report
    folder: Path

    @property
    def name(self) -> str:
        """Name of the model, marked if its training was cut short."""
        return self.trained.config.model.label + (" (cut short)" if self.trained.about.warning else "")


def read_entry(config: Config, runs: Path) -> Entry:
    """Read a scored run.

    Raises:
        LulcbenchError: the fitted model, its predictions or its scores are missing.
    """
    folder = runs / config.name
    trained = load_run(folder, config)
    return Entry(trained, trained.task.report(config, folder), folder)


def write_page(entries: Sequence[Entry], out: Path) -> Path:
    """Write the page.

    Args:
        entries: the run, then other runs for comparison, all with the same data.
        out: HTML file to write.

    Raises:
        LulcbenchError: runs have different data.
    """
    main = entries[0]
    config, info = main.trained.config, main.trained.about.info
    for entry in entries:
        if entry.trained.about.data_digest != info.digest:
            raise LulcbenchError(f"{entry.folder} and {main.folder} have different data.", "Train it on the same data.")
    pictures = list(main.trained.task.pictures(config, main.folder, PICTURES))
    given = {name for table in main.report.tables.values() for name in table}
    metrics = {name: metric for name, metric in METRICS.items() if name in given}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
    )
    html = environment.get_template("page.html.j2").render(
        title=f"{config.name}: {config.model.label} on {main.report.data}",
        simulated=info.simulated,
        summary=main.report.summary,
        split=config.predict.split,
        name_of_main=main.name,
        warnings=[(e.trained.config.model.label, e.trained.about.warning) for e in entries if e.trained.about.warning],
        tables=[_table(entries, title) for title in main.report.tables],
        metrics=metrics,
        pictures=[(name, [(panel.title, _png(panel.rgb)) for panel in panels]) for name, panels in pictures],
        legend=dict(sorted(entry for _, panels in pictures for panel in panels for entry in panel.entries)),
        locator=draw_locator(main.report.places, [name for name, _ in pictures]),
        classes=sorted((row for row in main.report.classes if row.support), key=lambda row: -row.support),
        curve=_curve(main.folder),
        facts=_facts(main),
    )
    write_atomic(out, html.encode())
    return out


def _table(entries: Sequence[Entry], title: str) -> dict[str, Any]:
    """One table with the scores of all runs; the best value of each metric is marked."""
    rows = [(entry.name, entry.report.tables.get(title, {})) for entry in entries]
    intervals = {entry.name: entry.report.intervals.get(title, {}) for entry in entries}
    best: dict[str, float | None] = {}
    for name, metric in METRICS.items():
        values = [value for _, row in rows if (value := row.get(name)) is not None]
        best[name] = (max if metric.higher_is_better else min)(values, default=None)
    return {"title": title, "rows": rows, "best": best, "intervals": intervals}


def _png(rgb: npt.NDArray[np.generic]) -> str:
    """PNG of an image, uint8 or float in [0, 1], as base64; enlarged by an integer factor for sharp borders."""
    from matplotlib.image import imsave

    rgb = rgb if rgb.dtype == np.uint8 else (np.asarray(rgb, float) * 255).astype(np.uint8)
    factor = max(1, 480 // rgb.shape[0])
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(rgb.repeat(factor, 0).repeat(factor, 1)), format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def _curve(folder: Path) -> str | None:
    """PNG of the learning curve as base64; None for models without one."""
    rows = read_history(folder)
    if not rows:
        return None
    figure = Figure(figsize=(7, 3), layout="constrained")
    axis = figure.subplots()
    for key, label in (("train_loss", "train"), ("val_loss", "validation")):
        points = [(int(row["epoch"]) + 1, row[key]) for row in rows if key in row]
        if points:
            axis.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 30 else None)
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss (mean over levels)")
    axis.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]  # of MaxNLocator
    axis.grid(alpha=0.3)
    axis.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()


def _facts(entry: Entry) -> list[tuple[str, str]]:
    about = entry.trained.about
    effort, machine, limit = about.effort, about.hardware, entry.trained.config.train.max_minutes
    packages = ", ".join(f"{name} {number}" for name, number in about.versions.items())
    device = machine["gpu"] or f"{machine['threads']} threads of {machine['cpu']}"
    steps = f"{effort.steps} of {effort.planned_steps} steps ({effort.epochs} epochs) in " if effort.steps else ""
    limited = "no time limit" if limit is None else f"at most {limit:g} minutes"
    return [
        *entry.report.facts,
        ("made", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
        ("trained with", packages),
        ("training", f"{steps}{effort.seconds:.0f} s on {device}; {limited}"),
    ]
