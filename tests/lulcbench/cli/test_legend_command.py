"""`lulcbench legend` against the file that defines the legend."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import LulcbenchError


def shown(*options: str) -> str:
    result = CliRunner().invoke(app, ["legend", *options])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def known() -> list[dict[str, str]]:
    path = Path(__file__).parents[3] / "lulcbench" / "data" / "luisa_legend.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return sorted(csv.DictReader(file), key=lambda row: int(row["l4_code"]))


def test_all_forms_name_the_same_classes(known: list[dict[str, str]]) -> None:
    rows = list(csv.DictReader(io.StringIO(shown("--format", "csv", "--level", "4"))))
    assert [(row["code"], row["parent"], row["name"], row["color"]) for row in rows] == [
        (row["l4_code"], row["l3_code"], row["l4_name"], row["l4_hex"]) for row in known
    ]
    content = json.loads(shown("--format", "json", "--level", "4"))["classes"]
    assert [{name: str(value) for name, value in row.items()} for row in content] == rows
    style = ElementTree.fromstring(shown("--format", "qml", "--level", "4"))  # noqa: S314
    assert [(entry.get("value"), entry.get("color")) for entry in style.iter("paletteEntry")] == [
        (row["code"], row["color"]) for row in rows
    ]
    attributes = json.loads(shown("--format", "cf", "--level", "4"))
    assert attributes["flag_values"] == [0, *(int(row["code"]) for row in rows)]
    assert len(attributes["flag_meanings"].split(" ")) == len(attributes["flag_colors"].split(" ")) == len(rows) + 1
    table = shown("--level", "4")
    assert all(row["name"] in table and row["color"] in table for row in rows)


def test_by_default_all_levels_are_listed(known: list[dict[str, str]]) -> None:
    rows = list(csv.DictReader(io.StringIO(shown("--format", "csv"))))
    assert len(rows) == sum(len({row[f"l{level}_code"] for row in known}) for level in (1, 2, 3, 4))
    codes = {row["code"] for row in rows} | {""}
    assert all(row["parent"] in codes for row in rows)


def test_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "legend.qml"
    assert shown("--format", "qml", "--out", str(path)) == f"{path}\n"
    assert path.read_text(encoding="utf-8") == shown("--format", "qml")
    assert shown("--out", str(path.with_suffix(".csv"))) == f"{path.with_suffix('.csv')}\n"
    assert path.with_suffix(".csv").read_text(encoding="utf-8") == shown("--format", "csv")
    assert shown("--out", str(path.with_suffix(".CSV"))) == f"{path.with_suffix('.CSV')}\n"
    for options in (["--out", str(path.with_suffix(".txt"))], ["--level", "7"]):
        assert isinstance(CliRunner().invoke(app, ["legend", *options]).exception, LulcbenchError)
