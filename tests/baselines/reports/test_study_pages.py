"""The pages show what the committed results of studies say, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from baselines.reports.studies import FIGURES, MARKERS, PAGE, REFERENCE, change_table, page, read_all, reference, write
from baselines.reports.tables import PAGES
from baselines.studies.command import not_run
from baselines.studies.study import STUDIES
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.metrics import METRICS

ROOT = Path(__file__).parents[3]


def test_the_committed_page_of_studies_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(read_all(), not_run())


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_reference_tables_are_up_to_date(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    table = text.partition(MARKERS[0])[2].partition(MARKERS[1])[0].lstrip("\n")
    assert table == reference(read_all()[REFERENCE])
    assert "(simulated data)" in table


def test_the_committed_figures_are_those_of_the_results() -> None:
    listed = {entry["file"] for study in read_all().values() for entry in study["figures"]}
    assert {path.name for path in (ROOT / FIGURES).iterdir()} == listed


def test_pages_without_markers_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "page.md"
    other.write_text("no markers")
    with pytest.raises(LulcbenchError, match="lacks the lines"):
        write([other], to=tmp_path / "studies.md")


def test_the_page_names_the_studies_without_results() -> None:
    missing = not_run()
    assert {study["name"] for study in missing} == {path.stem for path in STUDIES.glob("*.toml")} - set(read_all())
    text = page(read_all(), missing).partition("## Not run yet")[2]
    assert all(f"**{study['title']}** (`{study['name']}`" in text for study in missing)
    assert "Not run yet" not in page(read_all())


def test_agreement_between_years_stands_beside_the_change_that_was_found() -> None:
    study = read_all()["multi-year"]
    lines = change_table(study).splitlines()
    head = lines[0].strip("| ").split(" | ")
    for metric in ("year_agreement", "near_change_precision", "near_change_recall", "flicker_ratio"):
        column = head.index(METRICS[metric].label)
        for name, row in study["scores"].items():
            for level, values in row["levels"].items():
                (line,) = (one for one in lines if one.startswith(f"| `{name}` | {level} |"))
                assert line.strip("| ").split(" | ")[column].startswith(f"{values[metric]['mean']:.3f}")
    assert change_table(study) in page({"multi-year": study})
    assert change_table(read_all()[REFERENCE]) == ""
