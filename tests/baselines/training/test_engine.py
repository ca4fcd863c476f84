"""The engine on small drawn patches: it learns, resumes exactly after kill -9, agrees over processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from baselines.config import Config
from baselines.data import load, load_evaluation
from baselines.data.arrays import Arrays
from baselines.data.eurosat import ALL, CLASSES, DISK_ORDER
from baselines.models.networks import build, check_bands, count_parameters
from baselines.predicting.classify import predict_patches, probabilities, score
from baselines.run import WEIGHTS, Trained, load_run
from baselines.tasks.task import Task
from baselines.training.calibrate import fit_temperature, temper
from baselines.training.callbacks import BEST, HISTORY, LAST
from baselines.training.checkpoint import SafeCheckpoint
from baselines.training.train import OutOfTime, make_trainer, train
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import LANDSAT

LANDSAT_BANDS = tuple(band.name for band in LANDSAT.bands)
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


def command(config: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "baselines", "train", str(config), "--out", str(out), *more]


@pytest.fixture(scope="module")
def trained(eurosat_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything switched on, trained in this process."""
    out = tmp_path_factory.mktemp("runs")
    more = (
        "ema = 0.9\npatience = 50\nsmoothing = 0.05\naccumulate = 2\n[augment]\nmixup = 0.2\ncutmix = 0.5\n"
        "noise = 0.02\n[predict]\ntta = true"
    )
    config = Config.load(write_config(out, eurosat_root, 8, more=more), ('name="all"',))
    train(config, load(config), out)
    return out / "all"


def history(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / HISTORY).read_text().splitlines()))


def test_it_learns_and_leaves_all_that_is_needed(trained: Path) -> None:
    run = load_run(trained)
    assert not (trained / LAST).exists()
    assert run.about["parameters"]["trainable"] == run.about["parameters"]["total"] > 10_000
    assert 0.2 <= run.temperature <= 5
    rows = history(trained)
    assert float(rows[-1]["val_loss"]) < float(rows[0]["val_loss"])
    scores = predict_patches(run, load_evaluation(run.config, run.about["data_digest"]), trained)
    assert scores["overall_accuracy"] > 0.5  # chance is 0.1
    assert scores == json.loads((trained / "scores.json").read_text())
    assert len((trained / "predictions.csv").read_text().splitlines()) == 31


def test_temperature_suits_the_probabilities_that_are_predicted(trained: Path) -> None:
    run = load_run(trained)
    problem = load(run.config)
    assert isinstance(problem.val, Arrays)
    labels = problem.val.targets.clone()
    labels[::4] = (labels[::4] + 1) % 10  # without errors, no temperature is low enough
    val = Arrays(problem.val.images, labels, problem.val.ids)
    temperature = fit_temperature(Task(run.net, replace(problem, val=val), run.config))
    p = torch.from_numpy(probabilities(Trained(run.net, run.config, run.about | {"temperature": 1.0}), val.images))

    def loss(temperature: float) -> float:
        return -float(temper(p, temperature).gather(1, labels.long()).log().mean())

    assert loss(temperature) < min(loss(temperature * 0.998), loss(temperature * 1.002))


def test_other_data_than_a_model_was_trained_on_are_refused(trained: Path) -> None:
    with pytest.raises(LulcbenchError, match="trained on other data"):
        load_evaluation(load_run(trained).config, "0" * 64)


def test_same_seed_same_weights_and_finished_runs_are_left_alone(eurosat_root: Path, tmp_path: Path) -> None:
    config = Config.load(write_config(tmp_path, eurosat_root, 2))
    problem = load(config)
    train(config, problem, tmp_path / "a")
    made = (tmp_path / "a" / "tiny" / WEIGHTS).stat().st_mtime_ns
    train(config, problem, tmp_path / "a")
    assert (tmp_path / "a" / "tiny" / WEIGHTS).stat().st_mtime_ns == made
    train(config, problem, tmp_path / "b")
    first, second = (load_file(tmp_path / k / "tiny" / WEIGHTS) for k in "ab")
    assert all(torch.equal(first[k], second[k]) for k in first)
    with pytest.raises(LulcbenchError, match="another config"):
        train(config.replace(seed=1), problem, tmp_path / "a")
    train(config, problem, tmp_path / "a", restart="if-other")
    assert (tmp_path / "a" / "tiny" / WEIGHTS).stat().st_mtime_ns == made
    train(config.replace(seed=1, train={"epochs": 1}), problem, tmp_path / "a", restart="if-other")
    assert load_run(tmp_path / "a" / "tiny").config.seed == 1


def test_resuming_after_kill_is_exact(eurosat_root: Path, tmp_path: Path) -> None:
    path = write_config(tmp_path, eurosat_root, 12, more="ema = 0.9\n[augment]\nnoise = 0.05")
    killed = tmp_path / "killed"
    with subprocess.Popen(command(path, killed), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (killed / "tiny" / LAST).is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = len(history(killed / "tiny"))
    assert 0 < done < 12
    config = Config.load(path)
    problem = load(config)
    train(config, problem, killed)
    train(config, problem, tmp_path / "whole")
    assert len(history(killed / "tiny")) == 12
    resumed, whole = (load_file(tmp_path / k / "tiny" / WEIGHTS) for k in ("killed", "whole"))
    assert all(torch.equal(resumed[k], whole[k]) for k in whole)


def test_a_run_stopped_after_its_last_epoch_ends_with_the_average(eurosat_root: Path, tmp_path: Path) -> None:
    config = Config.load(write_config(tmp_path, eurosat_root, 2, more="ema = 0.9\npatience = 5\nvalidate_every = 2"))
    problem = load(config)
    whole = train(config, problem, tmp_path / "whole").net.state_dict()
    for _ in range(2):  # both epochs end with a checkpoint, then nothing is left to train
        with pytest.raises(OutOfTime):
            train(config, problem, tmp_path / "stopped", deadline=0)
    (tmp_path / "stopped" / "tiny" / BEST).unlink()  # the best epoch is the last
    resumed = train(config, problem, tmp_path / "stopped").net.state_dict()
    assert all(torch.equal(resumed[k], whole[k]) for k in whole)


def test_what_was_stopped_early_stays_stopped(eurosat_root: Path, tmp_path: Path) -> None:
    path = write_config(tmp_path, eurosat_root, 9, "test_convnext", "patience = 2")
    config = Config.load(path, ("train.lr=1e-12",))  # the second epoch is no better, nor the third
    problem = load(config)
    for _ in range(3):
        with pytest.raises(OutOfTime):
            train(config, problem, tmp_path, deadline=0)
    train(config, problem, tmp_path, deadline=0)
    assert len(history(tmp_path / "tiny")) == 3


def test_mixed_precision_trains(eurosat_root: Path, tmp_path: Path) -> None:
    config = Config.load(write_config(tmp_path, eurosat_root, 4, more='precision = "bf16-mixed"\nclip = 0.5'))
    train(config, load(config), tmp_path)
    losses = [float(row["train_loss"]) for row in history(tmp_path / "tiny")]
    assert losses[-1] < losses[0]


def test_gradients_are_clipped(eurosat_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    clip = Task.configure_gradient_clipping

    def watch(task: Task, optimizer: torch.optim.Optimizer, *args: object, **options: object) -> None:
        clip(task, optimizer, *args, **options)  # type: ignore[arg-type]
        norms.append(float(torch.stack([p.grad.norm() for p in task.parameters() if p.grad is not None]).norm()))

    monkeypatch.setattr(Task, "configure_gradient_clipping", watch)
    config = Config.load(write_config(tmp_path, eurosat_root, 1, more="clip = 0.01"))
    train(config, load(config), tmp_path)
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)


def test_more_gpus_than_there_are(eurosat_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    config = Config.load(write_config(tmp_path, eurosat_root, 1), ("train.devices=4",))
    with pytest.raises(LulcbenchError, match="has 1 GPUs"):
        make_trainer(config, tmp_path, True)


def test_a_frozen_backbone_keeps_its_statistics(eurosat_root: Path, tmp_path: Path) -> None:
    config = Config.load(write_config(tmp_path, eurosat_root, 1), ("model.freeze=true", "train.weight_decay=0.5"))
    torch.manual_seed(config.seed)
    net = train(config, load(config), tmp_path).net
    buffers = dict(net.named_buffers())
    assert any("running_mean" in name for name in buffers)
    assert all(not v.any() for name, v in buffers.items() if "running_mean" in name)
    assert all((v == 1).all() for name, v in buffers.items() if "running_var" in name)


def test_compiling_changes_no_names_and_checkpoints_hold_weights_once(
    eurosat_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiled.append(call) or call)
    config = Config.load(write_config(tmp_path, eurosat_root, 1, more="compile = true\nema = 0.9"))
    problem = load(config)
    with pytest.raises(OutOfTime):
        train(config, problem, tmp_path, deadline=0)
    assert compiled
    net = build(config.model, 3, 10)
    state = SafeCheckpoint().load_checkpoint(tmp_path / "tiny" / LAST)["state_dict"]
    assert set(state) == {f"net.{name}" for name in net.state_dict()}
    train(config, problem, tmp_path)


def test_the_last_group_of_accumulated_batches_is_a_mean_too(
    eurosat_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []

    def watch(task: Task, _: object) -> None:
        norms.append(float(sum(p.grad.norm() ** 2 for p in task.parameters() if p.grad is not None)) ** 0.5)

    monkeypatch.setattr(Task, "on_before_optimizer_step", watch)
    for accumulate in (1, 2):
        path = write_config(tmp_path, eurosat_root, 1, more=f"accumulate = {accumulate}")
        config = Config.load(path, ("train.lr=1e-12",))
        train(config, load(config), tmp_path / str(accumulate))
    assert len(norms) == 3 + 2  # 60 patches: batches 1, 2, 3, then groups 1 + 2 and 3
    assert norms[4] == pytest.approx(norms[2], rel=1e-3)


def test_no_memory_says_what_to_lower(eurosat_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    config = Config.load(write_config(tmp_path, eurosat_root, 1))
    problem = load(config)
    monkeypatch.setattr(Task, "training_step", fail)
    with pytest.raises(LulcbenchError, match=r"train\.batch_size = 20"):
        train(config, problem, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("baselines.training.train.fit_temperature", fail)
    with pytest.raises(LulcbenchError, match=r"predict\.batch_size = 16"):
        train(config, problem, tmp_path)


def test_settings_can_be_mended_where_nothing_was_trained(eurosat_root: Path, tmp_path: Path) -> None:
    config = Config.load(write_config(tmp_path, eurosat_root, 1))
    problem = load(config)
    with pytest.raises(LulcbenchError, match="No weights file"):
        train(config.replace(model={"weights_file": "none.pth"}), problem, tmp_path)
    train(config, problem, tmp_path)


def test_two_processes_learn_what_one_does(eurosat_root: Path, tmp_path: Path) -> None:
    # No batch norm: with it, halves of a batch are normalised apart, and equality is not to be expected.
    more = "clip = 1.0\nema = 0.5\npatience = 3\n[augment]\ndihedral = false"
    path = write_config(tmp_path, eurosat_root, 2, "test_convnext", more)
    config = Config.load(path)
    train(config, load(config), tmp_path / "one")
    two = command(path, tmp_path / "two", "--set", "train.devices=2", "--set", "train.batch_size=10")
    made = subprocess.run(two, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert made.returncode == 0, made.stderr[-3000:]
    for one, other in zip(history(tmp_path / "one" / "tiny"), history(tmp_path / "two" / "tiny"), strict=True):
        for key in ("train_loss", "val_loss", "val_accuracy"):
            assert float(one[key]) == pytest.approx(float(other[key]), rel=2e-3), key


def test_frozen_backbones_train_their_head_alone() -> None:
    config = Config.parse(
        {"name": "a", "data": {"kind": "eurosat"}, "model": {"kind": "timm", "name": "resnet50", "freeze": True}}
    )
    count = count_parameters(build(config.model, 3, 10))
    assert count == {"trainable": 2048 * 10 + 10, "total": 23_528_522}


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"name": "resnet_none"}, "no model"),
        ({"name": "test_vit", "stem": "small"}, "does not fit"),
        ({"weights": "ResNet50_Weights.NONE"}, "no weights"),
        ({"weights": "ResNet50_Weights.SENTINEL2_ALL_MOCO"}, "13 channels"),
        ({"weights": "ResNet50_Weights.SENTINEL2_RGB_MOCO"}, "weights_file"),
        ({"weights": "ResNet50_Weights.SENTINEL2_RGB_MOCO", "weights_file": "no.pth"}, "No weights file"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torchgeo's own imports
def test_weights_that_cannot_be_had_say_how(model: dict, says: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    config = Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": {"kind": "timm"} | model})
    with pytest.raises(LulcbenchError, match=says):
        build(config.model, 3, 10)


def test_pretrained_backbones_are_loaded(tmp_path: Path) -> None:
    import timm

    source = timm.create_model("test_resnet", num_classes=0)
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in source.state_dict().items()}}, path)
    model = {"kind": "timm", "name": "test_resnet", "weights": "mine", "weights_file": str(path)}
    config = Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": model})
    net = build(config.model, 3, 10)
    assert all(torch.equal(net.state_dict()[k], v) for k, v in source.state_dict().items())
    with pytest.raises(LulcbenchError, match="do not fit"):
        build(config.model, 4, 10)
    unnamed = build(config.model.model_copy(update={"weights": None}), 3, 10)
    assert torch.equal(unnamed.conv1[0].weight, net.conv1[0].weight)


@pytest.mark.parametrize(
    ("weights", "bands", "given"),
    [
        ("SENTINEL2_RGB_MOCO", ("B04", "B03", "B02"), ("B02", "B03", "B04")),
        ("SENTINEL2_ALL_MOCO", ALL, DISK_ORDER),
        ("LANDSAT_OLI_SR_MOCO", LANDSAT_BANDS, LANDSAT_BANDS[::-1]),
        ("LANDSAT_ETM_SR_MOCO", LANDSAT_BANDS[1:], LANDSAT_BANDS[:-1]),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torchgeo's own imports
def test_weights_want_their_bands_in_their_order(weights: str, bands: tuple[str, ...], given: tuple[str, ...]) -> None:
    model = Config.parse(
        {"name": "a", "data": {"kind": "eurosat"}, "model": {"kind": "timm", "weights": f"ResNet50_Weights.{weights}"}}
    ).model
    check_bands(model, [f"summer:{band}" for band in bands])
    with pytest.raises(LulcbenchError, match="in this order"):
        check_bands(model, given)


def test_pretrained_googlenet_keeps_its_first_layer_on_any_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import googlenet

    source = googlenet(weights=None, init_weights=False, aux_logits=False)
    monkeypatch.setattr("torchvision.models.googlenet", lambda **_: deepcopy(source))  # instead of a download
    model = {"kind": "googlenet", "weights": "imagenet"}
    config = Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": model})
    first = source.conv1.conv.weight
    adapted = build(config.model, 6, 10).conv1.conv.weight
    torch.testing.assert_close(adapted, torch.cat([first, first], 1) / 2)
    assert torch.equal(build(config.model, 3, 10).conv1.conv.weight, first)


def test_googlenet_is_the_second_network() -> None:
    config = Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": {"kind": "googlenet"}})
    net = build(config.model, 13, 10).eval()
    assert net(torch.zeros(2, 13, 64, 64)).shape == (2, 10)


def test_scores_by_hand() -> None:
    p = np.eye(10, dtype=np.float32)[[0, 0, 1, 2, 2]]
    scores = score(p, np.array([0, 1, 1, 2, 255]), CLASSES)
    assert scores["patches"] == 4
    assert scores["overall_accuracy"] == 0.75
    assert scores["confused"] == [{"label": "Forest", "predicted": "AnnualCrop", "patches": 1}]
    assert scores["class_accuracy"]["Forest"] == 0.5
    assert scores["class_accuracy"]["River"] is None
