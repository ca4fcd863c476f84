"""What studies compute from counts of predictions, without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.predicting.unit_counts import FLAT, UnitCounts
from baselines.run import Parameters, load_run
from baselines.studies.figures import draw
from baselines.studies.results import Group, compare, resolution_floor
from baselines.studies.runner import Outcome
from baselines.studies.study import Plot, Versus
from baselines.tasks.segmentation import Segmentation
from baselines.train import train
from baselines.training.effort import Effort
from lulcbench.errors import LulcbenchError
from lulcbench.release import Release


def _counts(right: list[int], level: int) -> UnitCounts:
    """One patch per unit, of one class of two; ``right`` says which are predicted correctly."""
    units, hit = len(right), np.array(right)
    counts = np.zeros((units, 3, 2))
    counts[:, 0, 0], counts[:, 1, 0] = hit, 1  # correct, labelled, predicted
    counts[:, 2, 0], counts[:, 2, 1] = hit, 1 - hit
    return UnitCounts(
        unit="patches",
        split="test",
        units=tuple(map(str, range(units))),
        sums={("classes", level): counts},
        classes={level: ("forest", "water")},
    )


def test_resolution_floor_of_legends_with_and_without_levels() -> None:
    first, second = [1, 1, 1, 0] * 25, [1, 1, 0, 1] * 25  # half of the patches differ, by +1 or by −1
    for level in (FLAT, 1):
        group = Group("net", {}, {0: _counts(first, level), 1: _counts(second, level)})
        floor = resolution_floor([group], level)
        assert floor is not None
        # Sd of the difference of a patch is √.5; of the mean of 100 patches it is a tenth of that.
        assert abs(floor - 1.96 * np.sqrt(0.5) / 10) < 0.015
        assert resolution_floor([group], 3) is None
        assert resolution_floor([Group("net", {}, {0: _counts(first, level)})], level) is None


@pytest.mark.parametrize(
    ("metric", "verdict"), [("parameters", "not as expected"), ("training_minutes", "as expected")]
)
def test_fewer_parameters_and_minutes_are_better(metric: str, verdict: str) -> None:
    def group(name: str, size: int, seconds: float) -> Group:
        made = {
            seed: Outcome(
                run=name,
                seed=seed,
                state="done",
                parameters=Parameters(trainable=size, total=size),
                effort=Effort(seconds=0, core_seconds=seconds + seed),
            )
            for seed in (0, 1, 2)
        }
        return Group(name, made, {seed: _counts([1, 0], FLAT) for seed in made})

    versus = Versus(first="large", second="small", metric=metric, expect="better")
    assert compare(versus, group("large", 200, 60), group("small", 100, 600)).verdict == verdict


def test_tiles_of_a_figure_are_those_of_its_predictions(
    release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, model = {"kind": "luisa-seg", "root": str(release_root), "level": 2}, {"kind": "majority"}
    config = Config.parse({"name": "a", "data": data, "model": model})
    train(Experiment.open(config), tmp_path)
    on_val = config.replace(predict={"split": "val"})
    run, folder = load_run(tmp_path / "a", on_val), tmp_path / "a" / "predictions" / "val"
    folder.mkdir(parents=True)
    run.task.predict(run, folder)
    tiles = Release.open(release_root).tiles("val").ids
    shown = {name for name, _, _ in run.task.extremes(on_val, folder, 1, 1)}
    assert shown <= set(tiles)
    # By position, the tiles of val would be shown as those of test.
    for call in (run.task.extremes, run.task.pictures):
        with pytest.raises(LulcbenchError, match="has predictions of val, not of test"):
            list(call(config, folder, 1, *([1] if call == run.task.extremes else [])))
    asked: list[str] = []
    monkeypatch.setattr(Segmentation, "extremes", lambda _, predicted, *rest: asked.append(predicted.predict.split))
    group = Group("a/val", {}, {0: _counts([1, 0], 1)}, {0: folder}, {0: on_val})
    with pytest.raises(LulcbenchError, match="has no tiles"):
        draw(Plot(title="Tiles", chart="tiles", runs=("a/val",)), {"a/val": group}, simulated=True)
    assert asked == ["val"]
