"""A metric is added in one file: once it is registered, everything has it, and nothing else is changed for it."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from typer.testing import CliRunner

from baselines import measure
from baselines.cli import app as baselines_app
from baselines.config import Config
from leaderboard.export import export
from leaderboard.scoring.job import score_file
from leaderboard.store import ledger
from leaderboard.store.records import replay
from lulcbench.cli import app
from lulcbench.evaluation.confusion import divide
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import METRICS, Metric, register
from lulcbench.legend import legend
from lulcbench.predictions import PredictionWriter
from lulcbench.release import Release, TilePosition
from tests.leaderboard.harness import Service, make_entry


def _kappa(c: Any) -> np.ndarray:
    total = c.support.sum(axis=-1)
    chance = divide((c.support * c.predicted).sum(axis=-1), total**2)
    return divide(divide(c.correct.sum(axis=-1), total) - chance, 1 - chance)


NEW = (
    Metric(
        "kappa",
        "Cohen's κ",
        "Accuracy beyond chance.",
        Family.CLASSES,
        _kappa,
        low=-1.0,
        tables=frozenset({"board", "baselines", "subsets"}),
        sklearn="cohen_kappa_score()",
    ),
    Metric("wrong", "Error rate", "Pixels that are wrong.", Family.HIERARCHY, lambda h: divide(h.mistakes, h.pixels),
           higher_is_better=False),
    Metric(
        "doubt",
        "Mean doubt",
        "One minus the mean confidence.",
        Family.CALIBRATION,
        lambda s: 1 - divide(s.confidence.sum(axis=-1), s.pixels.sum(axis=-1)),
    ),
    Metric("turnover", "Turnover", "Pixels that changed.", Family.CHANGE,
           lambda s: divide(s.changed_in_both + s.changed_in_label, s.pixels), unit="of all"),
    Metric("kinds", "Kinds of change", "How many from–to pairs there are.", Family.TRANSITIONS,
           lambda t: np.asarray((t.label > 0).sum(axis=(-2, -1)), np.float64), high=np.inf, intervals=False),
)  # fmt: skip
NAMES = {metric.name for metric in NEW}


@pytest.fixture
def registered(metric_list: None) -> None:
    for metric in NEW:
        register(metric)


@dataclass(frozen=True)
class Made:
    """What the scoring process made of predictions of one year and of change, both with probabilities."""

    files: dict[str, Path]
    results: dict[str, Any]


@pytest.fixture
def made(registered: None, release_root: Path, tmp_path: Path) -> Made:
    release, codes = Release.open(release_root), np.array(legend().codes(4), np.uint16)
    files: dict[str, Path] = {}
    rng = np.random.default_rng(0)
    for name, years in (("map", [2018]), ("other", [2018]), ("change", [2012, 2018])):
        files[name] = tmp_path / f"{name}.zip"
        with PredictionWriter(files[name], release, "test", years, probabilities=True) as writer:
            tiles = release.tiles("test")
            for position, tile in enumerate(tiles.ids):
                row = tiles.row(TilePosition(position))
                labels = np.stack([release.labels("test", year, [row])[0] for year in years])
                wrong = ~np.isin(labels, codes) | (rng.random(labels.shape) < 0.3)
                predicted = np.where(wrong, rng.choice(codes, labels.shape), labels)
                share = np.full((len(years), len(codes), 96, 96), 0.3 / (len(codes) - 1), np.float32)
                np.put_along_axis(share, legend().encode(predicted, 4)[:, None].astype(int), 0.7, 1)
                one = slice(None) if len(years) > 1 else 0
                writer.write(tile, predicted[one], share[one])
    (tmp_path / "media").mkdir()
    return Made(files, {name: score_file(path, [release_root], tmp_path / "media") for name, path in files.items()})


def run(command: Any, *arguments: Any) -> str:
    result = CliRunner().invoke(command, [str(one) for one in arguments], env={"COLUMNS": "220"})
    assert result.exit_code == 0, result.output
    return result.output


def test_scores_and_command_line_have_it(made: Made, release_root: Path, tmp_path: Path) -> None:
    for name in ("map", "change"):
        shown = run(app, "score", made.files[name], "--root", release_root, "--json", tmp_path / "scores.json")
        levels = json.loads((tmp_path / "scores.json").read_text())["levels"]
        expected = NAMES if name == "change" else NAMES - {"turnover", "kinds"}
        assert expected <= set(levels["4"]["metrics"])
        assert (NAMES & set(levels["1"]["metrics"])) == expected - {"wrong"}
        for metric in NEW:
            assert (metric.label in shown) == (metric.name in expected)
        estimate = levels["2"]["metrics"]["kappa"]
        assert estimate["low"] < estimate["value"] < estimate["high"]
        assert f"{estimate['value']:.4f}" in shown
        assert levels["4"]["regions"][0]["metrics"]["kappa"]["value"] <= 1
        confusion = np.array(levels["2"]["confusion"])
        at = [np.repeat(axis, confusion.ravel()) for axis in np.indices(confusion.shape).reshape(2, -1)]
        assert estimate["value"] == pytest.approx(cohen_kappa_score(*at))
    compared = run(app, "compare", made.files["map"], made.files["other"], "--root", release_root)
    assert {metric.label for metric in NEW if metric.label in compared} == {"Cohen's κ", "Error rate", "Mean doubt"}


def test_the_board_has_it(service: Service, made: Made, tmp_path: Path) -> None:
    entries = [make_entry(made.results, number, kind) for number, kind in enumerate(made.files, start=1)]
    for entry in entries:
        ledger.write(service.settings.ledger, entry)
    replay(service.db, service.settings)
    for query, names in (("task=segmentation", NAMES - {"turnover", "kinds"}), ("task=change", NAMES)):
        task = query.split("=")[1]
        for row in service.rows(task=task, sort="kappa"):
            assert {name for name in NAMES if row[name] is not None} == names
            assert row["kappa_low"] < row["kappa"] < row["kappa_high"]
        page = service.client.get(f"/?{query}").text
        assert {metric.name for metric in NEW if f"{metric.label}</a>" in page.replace("&#39;", "'")} == names
        text = service.client.get(f"/api/v1/leaderboard?{query}&format=csv&sort=wrong").text
        table = list(csv.DictReader(io.StringIO(text)))
        assert [float(line["wrong"]) for line in table] == sorted(float(line["wrong"]) for line in table)
        history = service.client.get(f"/history?{query}&sort=doubt").text
        assert "History of the best Mean doubt" in history
    submission = service.client.get(f"/submissions/{entries[2].submission}").text.replace("&#39;", "'")
    for metric in NEW:
        assert re.search(f'title="{metric.description}">{metric.label}</th>', submission), metric.name
    by_region = submission.split("By region")[1].split("</table>")[0]
    assert "Cohen's κ" in by_region
    pair = f"id={entries[0].submission}&id={entries[1].submission}"
    assert service.client.get(f"/compare?{pair}").text.count("Error rate") >= 2  # side by side, and tested
    (test,) = service.client.get(f"/api/v1/compare?{pair}").json()["tests"]
    assert {row["metric"] for row in test["differences"]} >= {"kappa", "wrong", "doubt"}
    assert all(metric.description in service.client.get("/about").text for metric in NEW)
    assert "kappa" in service.client.get("/?sort=anything").text  # among the columns that there are
    out = export(service.db, service.settings, tmp_path / "site")
    assert {f"{name}_high" for name in NAMES} <= set(pd.read_parquet(out / "leaderboard.parquet"))


def test_pages_and_measurements_of_the_baselines_have_it(registered: None, release_root: Path, tmp_path: Path) -> None:
    config = tmp_path / "majority.toml"
    config.write_text(
        f'name = "majority"\n[data]\nkind = "luisa-seg"\nroot = "{release_root.as_posix()}"\nsensors = "landsat"\n'
        '[model]\nkind = "majority"\n'
    )
    run(baselines_app, "train", config, "--out", tmp_path)
    run(baselines_app, "predict", config, "--out", tmp_path)
    predictions = tmp_path / "majority" / "predictions.zip"
    run(app, "score", predictions, "--root", release_root, "--json", predictions.with_name("scores.json"))
    run(baselines_app, "page", config, "--to", tmp_path / "index.html", "--out", tmp_path)
    page = (tmp_path / "index.html").read_text().replace("&#39;", "'")
    shown = [metric for metric in METRICS.values() if "baselines" in metric.tables]
    headings = re.findall(r'<th title="([^"]*)">([^<]*)</th>', page)
    assert headings == [(m.description, m.label + ("" if m.higher_is_better else " ↓")) for m in shown]
    assert {"Cohen's κ", "Error rate ↓", "Mean doubt"} <= {label for _, label in headings}
    measured = measure.measure(Config.load(config), 0, tmp_path)
    assert measured["levels"]["4"]["kappa"] == pytest.approx(0)  # one class for all pixels has the accuracy of chance
    assert set(measured["levels"]["1"]) == {metric.name for metric in shown}
