"""Studies: they run what is missing, go on after a kill or a failure, and compare over spatial blocks."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from baselines.predicting.unit_counts import UnitCounts, count_samples
from baselines.registry import Part
from baselines.reports import studies
from baselines.run import Parameters
from baselines.studies.command import publish, run
from baselines.studies.report import sentence
from baselines.studies.results import Group, compare
from baselines.studies.runner import COUNTS, OUTCOME, Outcome, prediction_folder
from baselines.studies.study import Study, Versus
from baselines.training.effort import Effort, Losses
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.comparison import compare as compare_files
from lulcbench.evaluation.scoring import score

UNET = """
name = "unet"
threads = 1
[data]
kind = "luisa-seg"
root = "{root}"
[model]
kind = "unet"
encoder = "resnet18"
depth = 3
decoder_channels = [16, 16, 8]
[train]
steps = 6
batch_size = 2
checkpoint_seconds = 0
"""
MAJORITY = 'name = "majority"\n[data]\nkind = "luisa-seg"\nroot = "{root}"\n[model]\nkind = "majority"\n'
STUDY = """
title = "UNet and majority"
question = "Is a UNet better than the majority class?"
core_minutes = 1
seeds = [0, 1]

[configs.unet]
file = "./unet.toml"
predictions = { plain = ["predict.calibrate=false"], calibrated = [] }

[configs.majority]
file = "./majority.toml"
seeds = [0]

[settings]
one = []
wrong = ["data.sensors=sentinel1"]

[[comparisons]]
first = "unet.one/calibrated"
second = "majority.one"
level = 1
expect = "better"

[[comparisons]]
first = "unet.one/plain"
second = "majority.one"
level = 2
metric = "macro_f1"
where = "edge"

[[figures]]
title = "Accuracy"
chart = "points"
y = ["overall_accuracy", "loss_gap"]

[[figures]]
title = "Loss"
chart = "curves"
y = ["train_loss", "val_loss"]

[[figures]]
title = "Classes"
chart = "classes"
level = 1

[[figures]]
title = "Tiles"
chart = "tiles"
level = 1
runs = ["unet.one/plain"]
"""


@pytest.fixture
def study(tmp_path: Path, release_root: Path) -> Path:
    for name, text in (("unet", UNET), ("majority", MAJORITY)):
        (tmp_path / f"{name}.toml").write_text(text.format(root=release_root.as_posix()))
    (tmp_path / "small.toml").write_text(STUDY)
    return tmp_path / "small.toml"


@pytest.mark.slow
def test_a_killed_study_is_resumed_and_failing_runs_stop_no_other(study: Path, release_root: Path) -> None:
    out = study.parent / "out"
    job = Study.load(study).jobs()[0]
    first = out / "runs" / job.config().name
    command = [sys.executable, "-m", "baselines", "study", str(study), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 240
        while not (first / "history.csv").is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (first / OUTCOME).is_file()

    page, complete = run(str(study), out)
    assert not complete
    content = json.loads((out / "small" / "study.json").read_text())
    assert content["simulated"]
    failed = {(o["run"], o["seed"]): o for o in content["unfinished"]}
    assert set(failed) == {("unet.wrong", 0), ("unet.wrong", 1), ("majority.wrong", 0)}
    assert all("sentinel1" in o["error"] and o["remedy"] and o["state"] == "failed" for o in failed.values())
    assert set(content["scores"]) == {"unet.one/plain", "unet.one/calibrated", "majority.one"}
    assert content["scores"]["unet.one/plain"]["seeds"] == [0, 1]

    plain, calibrated = (prediction_folder(job, out, name) for name in ("plain", "calibrated"))
    expected = score(calibrated / "predictions.zip", release_root).levels[3]
    stored = content["scores"]["unet.one/calibrated"]["levels"]["3"]
    for metric in ("overall_accuracy", "macro_f1", "miou", "log_loss"):
        assert stored[metric]["values"][0] == pytest.approx(expected[metric], abs=1e-12)
    html = page.read_text()
    assert html.count("<svg") == 0
    assert html.count("data:image/svg+xml;base64,") == 4
    assert "Simulated data" in html
    assert "unet.wrong, seed 1: failed" in html
    assert set(content["resolution_floor"]) == {"1", "2", "3", "4"}
    assert all(0 <= floor < 0.5 for floor in content["resolution_floor"].values())
    tiles = (out / "small" / "small-4.svg").read_text()
    shares = [float(share) for share in re.findall(r"<!-- (\d+)% right -->", tiles)]
    assert len(shares) == 2  # all tiles of the split
    assert shares == sorted(shares, reverse=True)

    written = publish(page, study.parent / "results", study.parent / "figures")
    assert [path.name for path in written] == ["small.json", *(f"small-{n}.svg" for n in (1, 2, 3, 4))]
    published = studies.read_all(study.parent / "results")
    text = studies.page(published)
    assert "## UNet and majority (simulated data)" in text
    assert all(f"- {c['finding']}\n" in text for c in content["comparisons"])
    accuracy = content["scores"]["unet.one/plain"]["levels"]["1"]["overall_accuracy"]
    row = next(line for line in text.splitlines() if line.startswith("| `unet.one/plain` | UNet on landsat | 2 |"))
    assert f"| {accuracy['mean']:.3f} ± {accuracy['sd']:.3f} |" in row
    assert "Without a result: unet.wrong (seed 0, failed)" in text
    assert "**Resolution floor**" in text
    assert "![Tiles](assets/studies/small-4.svg)" in text

    modified = {path: path.stat().st_mtime_ns for path in out.rglob("model.json")}
    (plain / COUNTS).unlink()
    run(str(study), out, only=("unet.one",))
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model.json")} == modified, (
        "a finished run was repeated"
    )
    assert (plain / COUNTS).is_file()
    again = json.loads((out / "small" / "study.json").read_text())
    assert again["comparisons"] == content["comparisons"]

    # Another study that asks for the same run under another name has its result at once.
    other = study.with_name("other.toml")
    other.write_text(study.read_text().replace("[configs.unet]", "[configs.net]").replace("unet.one", "net.one"))
    run(str(other), out, only=("net.one",))
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model.json")} == modified, "a run was not shared"
    shared = json.loads((out / "other" / "study.json").read_text())["scores"]
    assert shared["net.one/plain"] == content["scores"]["unet.one/plain"]
    assert [r["level"] for r in again["comparisons"]] == [1, 2]
    assert all(r["low"] <= r["difference"] <= r["high"] and 0 < r["p"] <= 1 for r in again["comparisons"])


@pytest.mark.slow
def test_runs_have_processes_of_their_own_and_one_that_dies_stops_no_other(study: Path) -> None:
    other = 'file = "./majority.toml"\nset = ["predict.batch_size=3"]'
    text = study.read_text().replace('file = "./unet.toml"', other).replace("[0, 1]", "[0]")
    study.write_text(text.replace('wrong = ["data.sensors=sentinel1"]', ""))
    killed: list[str] = []

    def kill_one() -> None:
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        killed.append(str(children[0].pid))
        children[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    run(str(study), study.parent / "out", processes=2)
    killer.join()
    assert killed
    content = json.loads((study.parent / "out" / "small" / "study.json").read_text())
    (dead,) = content["unfinished"]
    assert dead["error"] == "Its process ended with signal SIGKILL."
    assert "lower train.batch_size" in dead["remedy"]
    (done,) = content["runs"]
    assert {dead["run"], done["run"]} == {"unet.one", "majority.one"}


def test_a_rehearsal_trains_the_smallest_models_with_one_seed(study: Path, release_root: Path) -> None:
    out = study.parent / "rehearsal"
    run(str(study), out, root=release_root, rehearse=True, only=("majority.one",))
    content = json.loads((out / "small-rehearsal" / "study.json").read_text())
    assert content["rehearsal"]
    with pytest.raises(LulcbenchError, match="no results to publish"):
        publish(out / "small-rehearsal" / "index.html", out, out)
    assert [o["run"] for o in content["unfinished"]] == ["unet.one", "unet.wrong", "majority.wrong"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("level = 1", 'metric = "kappa"', "no metric 'kappa'"),
        ('second = "majority.one"\nlevel = 1', 'second = "forest"', "no run 'forest'"),
        ('"predict.calibrate=false"', '"train.lr=1"', "only predict"),
        ('metric = "macro_f1"', 'metric = "log_loss"', "not counted at edges"),
        ('metric = "macro_f1"\nwhere = "edge"', 'metric = "loss_gap"', "neither a level nor a place"),
        ("core_minutes = 1", "", "core_minutes: Field required"),
        ("core_minutes = 1", "core_minutes = 1\nskip = ['unet.two']", "skip names unet.two"),
        ("question", "questions", "questions: Extra inputs are not permitted"),
        ("seeds = [0, 1]", "seeds = []", "seeds: Tuple should have at least 1 item"),
    ],
    ids=[
        "metric that does not exist",
        "run that does not exist",
        "setting of training as one of prediction",
        "metric without counts at edges",
        "value of training at edges",
        "missing key",
        "skipped run that does not exist",
        "unknown key",
        "no seeds",
    ],
)
def test_invalid_studies_are_refused_before_anything_runs(study: Path, old: str, new: str, says: str) -> None:
    study.write_text(study.read_text().replace(old, new, 1))
    with pytest.raises(LulcbenchError, match=says):
        Study.load(study)


def test_lists_in_a_comparison_stand_for_all_combinations(study: Path) -> None:
    text = study.read_text()
    before = Study.load(study).comparisons
    study.write_text(text.replace("[[comparisons]]\n", "[[comparisons]]\nmargin = [0.1, 0.2]\n", 1))
    after = Study.load(study).comparisons
    assert len(after) == len(before) + 1
    assert [c.margin for c in after[:2]] == [0.1, 0.2]
    assert after[0].model_copy(update={"margin": 0.0}) == before[0]


def test_unknown_studies_name_those_there_are() -> None:
    with pytest.raises(LulcbenchError, match="There is no study 'none'"):
        Study.load("none")


class Case(Part):
    """Accuracies of seeds in each block, of 100 pixels each."""

    accuracies: tuple[tuple[float, ...], ...]

    def group(self, name: str) -> Group:
        counts = {}
        for seed, blocks in enumerate(self.accuracies):
            right = [round(100 * a) for a in blocks]
            sums = np.array([[[r, 0], [100, 0], [r, 100 - r]] for r in right])
            units = tuple(f"block{i}" for i in range(len(blocks)))
            counts[seed] = UnitCounts("spatial blocks", "test", units, {("classes", 1): sums}, {1: ("a", "b")})
        outcome = {
            seed: Outcome(
                run=name,
                seed=seed,
                state="done",
                effort=Effort(seconds=1, core_seconds=1, losses=Losses(train=1.0, val=1.0 + blocks[0])),
                parameters=Parameters(),
            )
            for seed, blocks in enumerate(self.accuracies)
        }
        return Group(name, outcome, counts)


def test_differences_are_means_over_seeds_and_their_interval_has_the_variance_of_blocks_and_seeds() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.4, 0.6, 12)
    better = Case(accuracies=tuple(tuple(base + 0.2 + shift) for shift in (-0.01, 0.0, 0.01))).group("first")
    worse = Case(accuracies=(tuple(base),)).group("second")
    result = compare(Versus(first="first", second="second", level=1, expect="better"), better, worse)
    assert result.difference == pytest.approx(0.2, abs=0.005)
    assert result.verdict == "as expected"
    assert result.p is not None
    assert result.p < 0.01
    assert result.seeds == (3, 1)
    # All blocks differ by the same amount, so what remains is the variance between seeds, which the run with one seed
    # is assumed to have too: t(2) · 0.01 · √(1/3 + 1).
    assert result.high - result.difference == pytest.approx(4.303 * 0.01 * (4 / 3) ** 0.5, rel=0.15)
    single = compare(
        Versus(first="first", second="second", expect="better"),
        Case(accuracies=(tuple(base + 0.2),)).group("first"),
        worse,
    )
    assert single.verdict is None
    assert single.high - single.difference == pytest.approx(0, abs=0.02)
    assert sentence(single).endswith("and 1 and 1 seed, without the variance between seeds.")
    margin = compare(Versus(first="second", second="first", expect="no worse", margin=0.3), worse, better)
    assert margin.verdict == "as expected"
    gap = compare(Versus(first="first", second="first", metric="loss_gap"), better, better)
    assert (gap.difference, gap.p, gap.unit) == (0.0, None, "seeds")
    lossless = {seed: o.model_copy(update={"effort": None}) for seed, o in better.outcomes.items()}
    with pytest.raises(LulcbenchError, match="second has no loss_gap"):
        compare(
            Versus(first="first", second="second", metric="loss_gap"), better, Group("second", lossless, better.counts)
        )
    other = Case(accuracies=((0.5, 0.5, 0.5),)).group("other")
    with pytest.raises(LulcbenchError, match="different tiles"):
        compare(Versus(first="first", second="other"), better, other)
    with pytest.raises(LulcbenchError, match="two or more seeds"):
        compare(Versus(first="other", second="other", metric="loss_gap"), other, other)


@pytest.mark.slow
def test_a_comparison_of_single_seeds_is_that_of_the_library(study: Path, release_root: Path) -> None:
    out = study.parent / "out"
    text = study.read_text().replace("[0, 1]", "[0]").replace('"./unet.toml"', '"./majority.toml"')
    study.write_text(text.replace('one = []\nwrong = ["data.sensors=sentinel1"]', "one = []"))
    study.write_text(study.read_text().replace('second = "majority.one"', 'second = "unet.one/plain"', 1))
    run(str(study), out)
    result = json.loads((out / "small" / "study.json").read_text())["comparisons"][0]
    job = Study.load(study).jobs()[0]
    folders = [prediction_folder(job, out, name) for name in ("calibrated", "plain")]
    (difference,) = (
        d
        for d in compare_files(*(folder / "predictions.zip" for folder in folders), release_root).differences
        if (d.level, d.metric) == (1, "overall_accuracy")
    )
    assert [result[k] for k in ("difference", "low", "high", "p")] == pytest.approx(
        [getattr(difference, k) for k in ("difference", "low", "high", "p")]
    )


def test_samples_are_counted_by_unit_at_every_level() -> None:
    truth = np.array([0, 1, 1, 255])
    p = np.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [1, 1, 1]]) / np.array([[1], [1], [1], [3]])
    counts = count_samples("patches", "test", ["x", "x", "y", "y"], truth, p, ("a", "b", "c"), None)
    assert counts.units == ("x", "y")
    assert counts.sums["classes", 0].tolist() == [[[1, 0, 0], [1, 1, 0], [2, 0, 0]], [[0, 1, 0], [0, 1, 0], [0, 1, 0]]]
    calibration = counts.sums["calibration", 0].sum(axis=(0, 2))
    nll = -np.log(0.6) - np.log(0.3) - np.log(0.7)
    brier = (0.16 + 0.09 + 0.01) + (0.36 + 0.49 + 0.01) + (0.04 + 0.09 + 0.01)
    assert calibration == pytest.approx([3, 0.6 + 0.6 + 0.7, 2, nll, brier])


def test_counts_are_stored_as_they_are_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    counts = count_samples("patches", "val", ["x", "y"], np.array([0, 1]), np.full((2, 2), 0.5), ("a", "b"), None)
    counts.save(tmp_path / COUNTS)
    stored = UnitCounts.load(tmp_path / COUNTS)
    assert (stored.unit, stored.split, stored.units, stored.classes) == ("patches", "val", ("x", "y"), {0: ("a", "b")})
    assert all(np.array_equal(stored.sums[key], values) for key, values in counts.sums.items())
    whole = (tmp_path / COUNTS).read_bytes()
    (tmp_path / COUNTS).write_bytes(whole[:-30])
    with pytest.raises(LulcbenchError, match="is damaged"):
        UnitCounts.load(tmp_path / COUNTS)
    refused = 0
    for position in range(0, len(whole), 7):  # also where zlib or the parser of headers find it first
        for change in (1, 0x80):
            (tmp_path / COUNTS).write_bytes(
                whole[:position] + bytes([whole[position] ^ change]) + whole[position + 1 :]
            )
            try:
                UnitCounts.load(tmp_path / COUNTS)
            except LulcbenchError:
                refused += 1
    assert refused > len(whole) / 7
