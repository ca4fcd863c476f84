"""The engine on small drawn patches: it learns, resumes exactly after kill -9. Processes: ``series/test_study.py``."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.models.network import NetworkPredictor
from baselines.run import DESCRIPTION, Trained, load_run
from baselines.train import STARTED, train
from baselines.training.calibrate import fit_temperature
from baselines.training.checkpoint import SafeCheckpoint
from baselines.training.history import BEST, HISTORY, LAST, OutOfTime
from baselines.training.module import TrainingModule
from baselines.training.network import make_trainer
from lulcbench.errors import LulcbenchError

WEIGHTS = NetworkPredictor.file
TOML = """
name = "tiny"
[data]
kind = "eurosat"
root = "{root}"
[model]
kind = "timm"
name = "{model}"
[train]
epochs = {epochs}
batch_size = 20
lr = 3e-3
checkpoint_seconds = 0
{more}
"""


def write_config(folder: Path, root: Path, epochs: int = 8, model: str = "test_resnet", more: str = "") -> Path:
    path = folder / "tiny.toml"
    path.write_text(TOML.format(root=root.as_posix(), epochs=epochs, model=model, more=more))
    return path


def fit(config: Config, out: Path, **options: Any) -> Trained:
    return train(Experiment.open(config), out, **options)


def command(config: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "baselines", "train", str(config), "--out", str(out), *more]


@pytest.fixture(scope="module")
def trained(eurosat_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything switched on, trained in this process."""
    out = tmp_path_factory.mktemp("runs")
    more = (
        "ema = 0.9\npatience = 50\naccumulate = 2\n[task]\nsmoothing = 0.05\n[augment]\nmixup = 0.2\ncutmix = 0.5\n"
        "noise = 0.02\n[predict]\ntta = true"
    )
    config = Config.load(write_config(out, eurosat_root, 8, more=more), ('name="all"',))
    fit(config, out)
    return out / "all"


def history(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / HISTORY).read_text().splitlines()))


def test_it_learns_and_leaves_all_that_is_needed(trained: Path) -> None:
    run = load_run(trained)
    assert not (trained / LAST).exists()
    assert run.about.parameters.trainable == run.about.parameters.total > 10_000
    assert 0.2 <= run.about.temperature <= 5
    rows = history(trained)
    assert float(rows[-1]["val_loss"]) < float(rows[0]["val_loss"])
    run.task.predict(run, trained)
    scores = run.task.score(run.config, trained)
    assert scores["overall_accuracy"] > 0.5  # chance is 0.1
    assert scores.items() <= json.loads((trained / "scores.json").read_text()).items()
    assert len((trained / "predictions.csv").read_text().splitlines()) == 31


def test_losses_are_those_of_the_final_weights_without_augmentation(trained: Path) -> None:
    run = load_run(trained)
    data, losses = Experiment.open(run.config).data, run.about.effort.losses
    assert losses is not None
    net = cast("NetworkPredictor", run.predictor).net.eval()
    size = run.config.predict.batch_size
    for role, value in (("val", losses.val), ("train", losses.train)):
        batches = list(data.loader(role, size))
        step = 1 if role == "val" else -(-len(data.datasets["train"]) // len(data.datasets["val"]))
        chosen = [data.datasets["train"].finish(batch) for batch in batches[::step]]
        with torch.inference_mode():
            outputs = torch.cat([net(batch["image"]) for batch in chosen])
        labels = torch.cat([batch["label"] for batch in chosen])
        expected = torch.nn.functional.cross_entropy(outputs, labels, label_smoothing=0.05)
        assert value == pytest.approx(float(expected), rel=1e-4)
    # Not the mean of the last epoch, which is of augmented samples and of weights that change.
    assert losses.train != pytest.approx(float(history(trained)[-1]["train_loss"]), rel=0.01)


def test_temperature_suits_the_probabilities_that_are_predicted(trained: Path) -> None:
    run = load_run(trained)
    data = Experiment.open(run.config).data
    (batch,) = data.loader("val", 100)
    batch = data.datasets["train"].finish(batch)
    labels = batch["label"]
    labels[::4] = (labels[::4] + 1) % 10  # without errors, no temperature is low enough
    temperature = fit_temperature(run.predictor, run.task, [batch], len(labels))
    plain = replace(run, about=run.about.model_copy(update={"temperature": 1.0}))

    def loss(temperature: float) -> float:
        p = replace(plain, about=plain.about.model_copy(update={"temperature": temperature}))
        return -float(p.probabilities(batch["image"]).gather(1, labels[:, None]).log().mean())

    assert loss(temperature) < min(loss(temperature * 0.998), loss(temperature * 1.002))


def test_other_data_than_a_model_was_trained_on_are_refused(trained: Path) -> None:
    run = load_run(trained)
    with pytest.raises(LulcbenchError, match="trained on other data"):
        run.task.predict(replace(run, about=run.about.model_copy(update={"data_digest": "0" * 64})), trained)


def without(path: Path, section: str, setting: str) -> None:
    """Remove a setting from the config of a stored run."""
    content = json.loads(path.read_text())
    del content["config"][section][setting]
    path.write_text(json.dumps(content))


@pytest.mark.slow
def test_same_seed_same_weights_and_finished_runs_are_left_alone(eurosat_root: Path, tmp_path: Path) -> None:
    config = Config.load(write_config(tmp_path, eurosat_root, 2))
    fit(config, tmp_path / "a")
    made = (tmp_path / "a" / "tiny" / WEIGHTS).stat().st_mtime_ns
    fit(config, tmp_path / "a")
    assert (tmp_path / "a" / "tiny" / WEIGHTS).stat().st_mtime_ns == made
    fit(config, tmp_path / "b")
    first, second = (load_file(tmp_path / k / "tiny" / WEIGHTS) for k in "ab")
    assert all(torch.equal(first[k], second[k]) for k in first)
    with pytest.raises(LulcbenchError, match="another config"):
        fit(config.replace(seed=1), tmp_path / "a")
    fit(config, tmp_path / "a", restart="if-other")
    assert (tmp_path / "a" / "tiny" / WEIGHTS).stat().st_mtime_ns == made
    path = tmp_path / "a" / "tiny" / DESCRIPTION
    without(path, "predict", "smoothing")  # of a version that did not know a setting yet
    fit(config, tmp_path / "a", restart="if-other")
    assert (tmp_path / "a" / "tiny" / WEIGHTS).stat().st_mtime_ns == made
    again = fit(config.replace(predict={"batch_size": 7}), tmp_path / "a")  # concerns no trained model
    assert (tmp_path / "a" / "tiny" / WEIGHTS).stat().st_mtime_ns == made
    assert again.config.predict.batch_size == 7
    described = json.loads(path.read_text())
    described["config"]["train"]["warmup"] = 0.2  # of a version with another default
    path.write_text(json.dumps(described))
    with pytest.raises(LulcbenchError, match="another config"):
        fit(config, tmp_path / "a")
    fit(config.replace(seed=1, train={"epochs": 1}), tmp_path / "a", restart="if-other")
    assert load_run(tmp_path / "a" / "tiny").config.seed == 1


@pytest.mark.slow
def test_resuming_after_kill_is_exact(eurosat_root: Path, tmp_path: Path) -> None:
    path = write_config(tmp_path, eurosat_root, 6, more="ema = 0.9\n[augment]\nnoise = 0.05")
    killed = tmp_path / "killed"
    with subprocess.Popen(command(path, killed), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (killed / "tiny" / LAST).is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = len(history(killed / "tiny"))
    assert 0 < done < 6
    config = Config.load(path)
    without(killed / "tiny" / STARTED, "train", "validate_every")  # of a version that did not know this setting yet
    fit(config, killed)
    fit(config, tmp_path / "whole")
    assert len(history(killed / "tiny")) == 6
    resumed, whole = (load_file(tmp_path / k / "tiny" / WEIGHTS) for k in ("killed", "whole"))
    assert all(torch.equal(resumed[k], whole[k]) for k in whole)


@pytest.mark.slow
def test_a_run_stopped_after_its_last_epoch_ends_with_the_average(eurosat_root: Path, tmp_path: Path) -> None:
    config = Config.load(write_config(tmp_path, eurosat_root, 2, more="ema = 0.9\npatience = 5\nvalidate_every = 2"))
    whole = fit(config, tmp_path / "whole").predictor.net.state_dict()
    for _ in range(2):  # both epochs end with a checkpoint, then nothing is left to train
        with pytest.raises(OutOfTime):
            fit(config, tmp_path / "stopped", deadline=0)
    (tmp_path / "stopped" / "tiny" / BEST).unlink()  # the best epoch is the last
    resumed = fit(config, tmp_path / "stopped").predictor.net.state_dict()
    assert all(torch.equal(resumed[k], whole[k]) for k in whole)


@pytest.mark.slow
def test_what_was_stopped_early_stays_stopped(eurosat_root: Path, tmp_path: Path) -> None:
    path = write_config(tmp_path, eurosat_root, 9, "test_convnext", "patience = 2")
    config = Config.load(path, ("train.lr=1e-12",))  # the second and third epochs are not better
    for _ in range(3):
        with pytest.raises(OutOfTime):
            fit(config, tmp_path, deadline=0)
    fit(config, tmp_path, deadline=0)
    assert len(history(tmp_path / "tiny")) == 3


@pytest.mark.slow
def test_mixed_precision_trains(eurosat_root: Path, tmp_path: Path) -> None:
    config = Config.load(write_config(tmp_path, eurosat_root, 4, more='precision = "bf16-mixed"\nclip = 0.5'))
    fit(config, tmp_path)
    losses = [float(row["train_loss"]) for row in history(tmp_path / "tiny")]
    assert losses[-1] < losses[0]


def test_gradients_are_clipped(eurosat_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    clip = TrainingModule.configure_gradient_clipping

    def watch(task: TrainingModule, optimizer: torch.optim.Optimizer, *args: object, **options: object) -> None:
        clip(task, optimizer, *args, **options)  # type: ignore[arg-type]
        norms.append(float(torch.stack([p.grad.norm() for p in task.parameters() if p.grad is not None]).norm()))

    monkeypatch.setattr(TrainingModule, "configure_gradient_clipping", watch)
    config = Config.load(write_config(tmp_path, eurosat_root, 1, more="clip = 0.01"))
    fit(config, tmp_path)
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)


def test_more_gpus_than_there_are(eurosat_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    config = Config.load(write_config(tmp_path, eurosat_root, 1), ("train.devices=4",))
    with pytest.raises(LulcbenchError, match="has 1 GPUs"):
        make_trainer(config.train, tmp_path, True)


def test_a_frozen_backbone_keeps_its_statistics(eurosat_root: Path, tmp_path: Path) -> None:
    config = Config.load(write_config(tmp_path, eurosat_root, 1), ("model.freeze=true", "train.weight_decay=0.5"))
    torch.manual_seed(config.seed)
    net = fit(config, tmp_path).predictor.net
    buffers = dict(net.named_buffers())
    assert any("running_mean" in name for name in buffers)
    assert all(not v.any() for name, v in buffers.items() if "running_mean" in name)
    assert all((v == 1).all() for name, v in buffers.items() if "running_var" in name)


@pytest.mark.slow
def test_networks_are_trained_in_training_mode(
    eurosat_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[set[bool]] = []
    step = TrainingModule.training_step

    def watch(module: TrainingModule, *batch: Any) -> torch.Tensor:
        modes.append({part.training for part in module.modules()})
        return step(module, *batch)

    monkeypatch.setattr(TrainingModule, "training_step", watch)
    config = Config.load(write_config(tmp_path, eurosat_root, 2))
    experiment = Experiment.open(config)
    for name in ("once", "again"):
        train(experiment, tmp_path / name)
    assert modes == [{True}] * 12
    first, second = (load_file(tmp_path / name / "tiny" / WEIGHTS) for name in ("once", "again"))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_compiling_changes_no_names_and_checkpoints_hold_weights_once(
    eurosat_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiled.append(call) or call)
    config = Config.load(write_config(tmp_path, eurosat_root, 1, more="compile = true\nema = 0.9"))
    with pytest.raises(OutOfTime):
        fit(config, tmp_path, deadline=0)
    assert compiled
    experiment = Experiment.open(config)
    net = config.model.build(experiment.info.inputs, experiment.task.outputs)
    state = SafeCheckpoint().load_checkpoint(tmp_path / "tiny" / LAST)["state_dict"]
    assert set(state) == {f"net.{name}" for name in net.state_dict()}
    fit(config, tmp_path)


def test_the_last_group_of_accumulated_batches_is_a_mean_too(
    eurosat_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []

    def watch(task: TrainingModule, _: object) -> None:
        norms.append(float(sum(p.grad.norm() ** 2 for p in task.parameters() if p.grad is not None)) ** 0.5)

    monkeypatch.setattr(TrainingModule, "on_before_optimizer_step", watch)
    for accumulate in (1, 2):
        path = write_config(tmp_path, eurosat_root, 1, more=f"accumulate = {accumulate}")
        config = Config.load(path, ("train.lr=1e-12",))
        fit(config, tmp_path / str(accumulate))
    assert len(norms) == 3 + 2  # 60 patches: batches 1, 2, 3, then groups 1 + 2 and 3
    assert norms[4] == pytest.approx(norms[2], rel=1e-3)


def test_no_memory_says_what_to_lower(eurosat_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    config = Config.load(write_config(tmp_path, eurosat_root, 1))
    monkeypatch.setattr(TrainingModule, "training_step", fail)
    with pytest.raises(LulcbenchError, match=r"train\.batch_size = 20"):
        fit(config, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("baselines.training.network.fit_temperature", fail)
    with pytest.raises(LulcbenchError, match=r"predict\.batch_size = 16"):
        fit(config, tmp_path)


@pytest.mark.slow
def test_settings_can_be_corrected_if_nothing_was_trained(eurosat_root: Path, tmp_path: Path) -> None:
    config = Config.load(write_config(tmp_path, eurosat_root, 1))
    with pytest.raises(LulcbenchError, match="The weights file"):
        fit(config.replace(model={"weights_file": "none.pth"}), tmp_path)
    fit(config, tmp_path)
