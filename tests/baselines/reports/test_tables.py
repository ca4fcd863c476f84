"""The pages show what the committed references say, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from baselines.measure import FOLDER
from baselines.reports.tables import BEGIN, END, FIGURE, PAGES, read_all, render, write
from lulcbench.errors import LulcbenchError

ROOT = Path(__file__).parents[3]


def made(name: str, gpu: str | None, values: list[float]) -> dict[str, Any]:
    """A reference as ``baselines.measure.combine`` makes it, as far as the table needs it."""
    hardware = {"cpu": "Some Processor", "threads": 2, "gpu": gpu}
    run = {
        "parameters": {"total": 23_528_522},
        "epochs": 2,
        "training_seconds": 600.0,
        "training_core_seconds": 1200.0,
        "hardware": hardware,
        "learning_curve": [{"epoch": 0.0, "train_loss": 2.0}, {"epoch": 1.0, "train_loss": 1.0}],
    }
    return {
        "name": name,
        "overall_accuracy": {"mean": sum(values) / len(values), "sd": 0.0012 if len(values) > 1 else None},
        "seeds": list(range(len(values))),
        "simulated": gpu is None,
        "config": {"model": {"kind": "timm", "name": "resnet50"}, "predict": {"split": "test" if gpu else "val"}},
        "hardware": hardware,
        "date": "2026-01-02",
        "runs": [run | {"seed": seed} for seed in range(len(values))],
    }


def test_a_page_gets_a_row_for_each_reference_between_its_markers(tmp_path: Path) -> None:
    for reference in (made("a", "Chip 1", [0.98, 0.99]), made("b", None, [0.5])):
        (tmp_path / f"{reference['name']}.json").write_text(json.dumps(reference))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):  # again: the same
        assert write([page], tmp_path) == [page, tmp_path / FIGURE]
        text = page.read_text()
        assert text.startswith(f"before\n{BEGIN}\n| reference")
        assert text.endswith(f"{END}\nafter\n")
        assert "old" not in text
    assert "| **98.50 %** ± 0.12 | 2 | 2 epochs, 10 minutes | Chip 1, 2026-01-02 |" in text
    assert "`b` (**simulated data**)" in text
    assert "| **50.00 %** on **val** | 1 | 2 epochs, 20 core-minutes | Some Processor, 2 cores, 2026-01-02 |" in text
    first = (tmp_path / FIGURE).read_bytes()
    assert b"<svg" in first
    write([page], tmp_path)
    assert (tmp_path / FIGURE).read_bytes() == first


def test_a_damaged_reference_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(LulcbenchError, match=r"a\.json is not JSON"):
        read_all(tmp_path)


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("no markers")
    with pytest.raises(LulcbenchError, match="lacks the lines"):
        write([tmp_path / "page.md"], tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_the_committed_pages_are_up_to_date(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0].lstrip("\n") == render(read_all())


def test_the_committed_figure_shows_every_run() -> None:
    drawn = (FOLDER / FIGURE).read_text(encoding="utf-8")
    wanted = [f"{made['name']}-seed{run['seed']}" for made in read_all() for run in made["runs"]]
    assert [name for name in wanted if f'<g id="{name}">' not in drawn] == []
