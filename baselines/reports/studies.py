"""Pages with the committed results of studies, ``baselines/studies/results/*.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baselines.reports.tables import insert
from lulcbench._files import write_atomic
from lulcbench._parsing import parse_json
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.intervals import caution
from lulcbench.evaluation.metrics import METRICS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "baselines/studies/results"
PAGE = ROOT / "docs/studies.md"
FIGURES = "docs/assets/studies"
MARKERS = ("<!-- reference table: python -m baselines tables -->", "<!-- end of reference table -->")
REFERENCE = "reference"
# Metrics at the finest level of a comparison, beside the overall accuracy of all levels.
MORE = ("macro_f1", "log_loss")
FINEST = 3

INTRODUCTION = """# Studies

Questions of the studies behind this benchmark, asked again: one TOML file in `baselines/studies` and one command each,
`python -m baselines study NAME`. This page is generated from their results (`python -m baselines tables`).

A finding is the difference first minus second, averaged over seeds, with its 95 % interval: the spatial blocks of the
test split are resampled for both together, and the variance between seeds is added; a run with one seed is assumed to
vary as the other does. With one seed each that variance is unknown, and there is no verdict. *As expected* means that
the interval excludes the opposite, *undecided* that it does not. Results on simulated data do not apply to any real
location.
"""


def read_all(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Read all committed results: name of the study → its ``study.json``; the reference first."""
    paths = sorted(folder.glob("*.json"), key=lambda path: (path.stem != REFERENCE, path.stem))
    return {path.stem: parse_json(path.read_bytes(), str(path), "Publish the study again.") for path in paths}


def table(study: dict[str, Any]) -> str:
    """Markdown table: one row per run; overall accuracy at every level, more metrics at level 3, processor time."""
    scores = study["scores"]
    levels = sorted({level for row in scores.values() for level in row["levels"]})
    flat = levels == ["0"]
    columns: list[tuple[str, str, str]] = []
    if flat:
        columns = [(METRICS[metric].label, "0", metric) for metric in next(iter(scores.values()))["levels"]["0"]]
    else:
        columns = [(f"level {level}", level, "overall_accuracy") for level in levels]
        columns += [(f"{METRICS[m].label}, level {FINEST}", str(FINEST), m) for m in MORE if str(FINEST) in levels]
    lines = [
        f"| run | model | seeds | {' | '.join(title for title, _, _ in columns)} | core-minutes |",
        f"|---|---|---|{'---|' * len(columns)}---|",
    ]
    for name, row in scores.items():
        values = [_entry(row["levels"].get(level, {}).get(metric)) for _, level, metric in columns]
        minutes = row["training"]["training_minutes"]["mean"]
        lines.append(
            f"| `{name}` | {row['label']} | {len(row['seeds'])} | {' | '.join(values)} "
            f"| {'–' if minutes is None else f'{minutes:.1f}'} |"
        )
    return "\n".join(lines) + "\n"


def change_table(study: dict[str, Any]) -> str:
    """Markdown table of maps of several years: agreement between years and, beside it, the change that was found.

    One row per run and level; empty for studies of a single year.
    """
    levels_of = {name: row["levels"] for name, row in study["scores"].items()}
    known = {metric for levels in levels_of.values() for level in levels.values() for metric in level}
    shown = [name for name, metric in METRICS.items() if metric.family is Family.SERIES and name in known]
    if not shown:
        return ""
    lines = [
        f"| run | level | {' | '.join(METRICS[name].label for name in shown)} |",
        f"|---|---|{'---|' * len(shown)}",
    ]
    for name, levels in levels_of.items():
        for level, values in sorted(levels.items()):
            lines.append(f"| `{name}` | {level} | {' | '.join(_entry(values.get(metric)) for metric in shown)} |")
    return "\n".join(lines) + "\n"


def _entry(entry: dict[str, Any] | None) -> str:
    if entry is None or entry["mean"] is None:
        return "–"
    return f"{entry['mean']:.3f}" + ("" if entry["sd"] is None else f" ± {entry['sd']:.3f}")


def notes(study: dict[str, Any]) -> str:
    """What the table shows, and the smallest difference that the test blocks resolve."""
    levels = {level for row in study["scores"].values() for level in row["levels"]}
    shown = "" if levels == {"0"} else "Overall accuracy by level; "
    text = f"{shown}mean ± standard deviation over seeds. Minutes of processor time per training."
    floors = {level: floor for level, floor in study["resolution_floor"].items() if floor is not None}
    if floors:
        values = ", ".join(
            (f"{floor:.3f} at level {level}" if level != "0" else f"{floor:.3f}") for level, floor in floors.items()
        )
        text += (
            f" **Resolution floor**: differences in overall accuracy between two single runs below {values} are not "
            "resolved (median half-width of the paired 95 % interval between two seeds of the same run)."
        )
    blocks = {c["units"] for c in study["comparisons"] if c["unit"] == "spatial blocks"}
    return " ".join([text, *sorted({caution(n) for n in blocks} - {""})]) + "\n"


def heading(study: dict[str, Any]) -> str:
    """Title of a study, marked if its data are simulated."""
    return f"{study['title']} (simulated data)" if study["simulated"] else str(study["title"])


def section(study: dict[str, Any], figures: str) -> str:
    """Section of the page: question, findings, table, figures, provenance.

    Args:
        study: results of the study.
        figures: folder of the figures, relative to the page.
    """
    parts = [f"## {heading(study)}\n", f"{' '.join(study['question'].split())}\n"]
    parts += ["".join(f"- {c['finding']}\n" for c in study["comparisons"])] if study["comparisons"] else []
    parts += ["".join(f"- {problem}\n" for problem in study["problems"])] if study["problems"] else []
    parts += [f"{' '.join(study['note'].split())}\n"] if study["note"] else []
    parts += [table(study), notes(study)]
    parts += [changes] if (changes := change_table(study)) else []
    if unfinished := study["unfinished"]:
        names = ", ".join(f"{run['run']} (seed {run['seed']}, {run['state']})" for run in unfinished)
        parts.append(f"Without a result: {names}.\n")
    parts += [f"![{entry['title']}]({figures}/{entry['file']})\n" for entry in study["figures"]]
    parts.append("; ".join(f"{key}: {value}" for key, value in study["facts"].items()) + ".\n")
    return "\n".join(parts)


def page(studies: dict[str, dict[str, Any]], not_run: Sequence[dict[str, Any]] = ()) -> str:
    """The page of all studies.

    Args:
        studies: the published results.
        not_run: name, title, question and core minutes of studies without any.
    """
    parts = [INTRODUCTION, *(section(study, "assets/studies") for study in studies.values())]
    if not_run:
        lines = [
            f"- **{study['title']}** (`{study['name']}`, {study['core_minutes']:g} core-minutes): "
            f"{' '.join(study['question'].split())}\n"
            for study in not_run
        ]
        parts.append("## Not run yet\n\n" + "".join(lines))
    return "\n".join(parts)


def reference(study: dict[str, Any], figures: str = FIGURES) -> str:
    """The reference table of README and dataset card, with its figures."""
    images = "\n".join(f"![{entry['title']}]({figures}/{entry['file']})" for entry in study["figures"])
    note = f"{' '.join(study['note'].split())}\n\n" if study["note"] else ""
    return f"**{heading(study)}**\n\n{table(study)}\n{notes(study)}\n{note}{images}\n"


def write(
    pages: Sequence[Path], not_run: Sequence[dict[str, Any]] = (), folder: Path = FOLDER, to: Path = PAGE
) -> list[Path]:
    """Write the page of all studies, and the reference table into other pages; returns the files written.

    Args:
        pages: pages with markers.
        not_run: studies without results, see ``page``.
        folder: folder of the results.
        to: page of all studies.
    """
    studies = read_all(folder)
    write_atomic(to, page(studies, not_run).encode())
    if REFERENCE not in studies:
        return [to]
    for other in pages:
        insert(other, reference(studies[REFERENCE]), MARKERS)
    return [to, *pages]
