"""Table and figure of the committed reference scores, generated from ``baselines/reference/*.json``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baselines.measure import FOLDER, read
from baselines.models import MODELS
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError

BEGIN, END = "<!-- references: python -m baselines tables -->", "<!-- end of references -->"
FIGURE = "learning-curves.svg"
PAGES = ("README.md", "DATASET_CARD.md")


def read_all(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Read all committed reference scores, in alphabetical order."""
    return [read(path.stem, folder) for path in sorted(folder.glob("*.json"))]


def render(references: Sequence[dict[str, Any]]) -> str:
    """Markdown table with one row per reference score, with machine and date."""
    if not references:
        return "No reference has been measured yet.\n"
    lines = [
        "| reference | model | overall accuracy on test | seeds | longest training | machine, date |",
        "|---|---|---|---|---|---|",
    ]
    for reference in references:
        accuracy, runs = reference["overall_accuracy"], reference["runs"]
        spread = "" if accuracy["sd"] is None else f" ± {100 * accuracy['sd']:.2f}"
        simulated = " (**simulated data**)" if reference["simulated"] else ""
        split = reference["config"]["predict"]["split"]
        on_split = "" if split == "test" else f" on **{split}**"
        weights = runs[0]["parameters"]["total"]
        model = MODELS.parse(reference["config"]["model"]).label + (
            f", {weights / 1e6:.1f} M parameters" * bool(weights)
        )
        lines.append(
            f"| `{reference['name']}`{simulated} | {model} "
            f"| **{100 * accuracy['mean']:.2f} %**{spread}{on_split} | {len(reference['seeds'])} "
            f"| {_effort(runs)} | {_machine(reference)}, {reference['date']} |"
        )
    return "\n".join([*lines, "", f"![Learning curves of these runs](baselines/reference/{FIGURE})"]) + "\n"


def _effort(runs: Sequence[dict[str, Any]]) -> str:
    """Epochs and time of the longest run; on CPUs the processor time of all cores."""
    gpu = runs[0]["hardware"]["gpu"]
    seconds = max(run["training_seconds" if gpu else "training_core_seconds"] for run in runs)
    epochs = f"{runs[0]['epochs']} epochs, " if runs[0]["epochs"] else ""
    return f"{epochs}{seconds / 60:.0f} {'minutes' if gpu else 'core-minutes'}"


def _machine(reference: dict[str, Any]) -> str:
    counts = sorted({run["hardware"]["threads"] for run in reference["runs"]})
    threads = "one core" if counts == [1] else f"{' or '.join(map(str, counts))} cores"
    return str(reference["hardware"]["gpu"] or f"{reference['hardware']['cpu']}, {threads}")


def insert(page: Path, table: str, markers: tuple[str, str] = (BEGIN, END)) -> None:
    """Write the table between the two markers of a page.

    Raises:
        LulcbenchError: a marker is missing.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not begin or not end:
        raise LulcbenchError(
            f"{page} lacks the lines '{markers[0]}' and '{markers[1]}'.", "Insert them around the table."
        )
    write_atomic(page, f"{before}{begin}\n{table}{end}{after}".encode())


def figure(references: Sequence[dict[str, Any]]) -> bytes:
    """SVG of the learning curves: training loss of all runs by epoch."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "lulcbench"}):  # same curves → same bytes
        drawing = Figure((8, 4.5), layout="constrained")
        axes = drawing.subplots()
        for k, reference in enumerate(references):
            for i, run in enumerate(reference["runs"]):
                curve = run["learning_curve"]
                axes.plot(
                    [row["epoch"] + 1 for row in curve],
                    [row["train_loss"] for row in curve],
                    color=f"C{k}",
                    label=None if i else f"{reference['name']}, {len(reference['seeds'])} seed(s)",
                    gid=f"{reference['name']}-seed{run['seed']}",
                )
        axes.set(xlabel="epoch", ylabel="training loss (with label smoothing)", ylim=(0, None))
        axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]  # of MaxNLocator
        axes.legend(frameon=False)
        content = io.BytesIO()
        drawing.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def write(pages: Sequence[Path], folder: Path = FOLDER) -> list[Path]:
    """Update pages and figure from the reference scores; returns the files written."""
    references = read_all(folder)
    table = render(references)
    for page in pages:
        insert(page, table)
    written = list(pages)
    if references:
        write_atomic(folder / FIGURE, figure(references))
        written.append(folder / FIGURE)
    return written
