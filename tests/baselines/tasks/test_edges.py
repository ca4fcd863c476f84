"""The second task of segmentation: distances to class edges, against SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.tasks.edges import truncated_distance
from baselines.train import train
from baselines.training.history import read_history
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend


def test_truncated_distances_are_those_of_scipy() -> None:
    edge = np.random.default_rng(0).random((3, 40, 33)) < 0.02
    edge[2] = False
    expected = [np.minimum(distance_transform_edt(~e), 6) if e.any() else np.full(e.shape, 6.0) for e in edge]
    got = truncated_distance(torch.from_numpy(edge), 6)
    np.testing.assert_allclose(got.numpy(), np.stack(expected), rtol=1e-6)
    assert truncated_distance(torch.ones(1, 2, 2, dtype=torch.bool), 9).max() == 0


def test_distances_are_signed_and_ignored_pixels_have_no_edge(release_root: Path) -> None:
    task = {"kind": "segmentation-edges", "truncation": 3, "edge_level": 1}
    config = Config.parse(
        {
            "name": "edges",
            "threads": 1,
            "data": {"kind": "luisa-seg", "root": str(release_root), "level": 2},
            "task": task,
            "model": {"kind": "unet", "encoder": "resnet18", "depth": 3, "decoder_channels": [8, 8, 8]},
        }
    )
    built = config.task.build(Experiment.open(config).info)
    codes = np.full((1, 4, 8), 3110, np.uint16)
    codes[0, :, :3] = 1210  # artificial, three pixels wide
    codes[0, 3] = 0
    mask = torch.from_numpy(np.stack([legend().encode(codes, level) for level in LEVELS], 1))
    distance, labelled = built.distance(mask)
    assert (labelled.numpy() == (codes != 0)).all()
    expected = np.array([2.5, 1.5, 0.5, -0.5, -1.5, -2.5, -3, -3]) / 3
    np.testing.assert_allclose(distance[0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(distance[0, 2], expected, rtol=1e-6)

    outputs = torch.zeros(1, len(built.info.classes) + 1, 4, 8)
    outputs[:, -1] = distance.clamp(-0.999, 0.999).atanh()
    batch = {"mask": mask}
    perfect = built.loss(outputs, batch).detach()
    outputs[:, -1] = -outputs[:, -1]
    assert float(built.loss(outputs, batch).detach()) > float(perfect)
    assert (built.activate(outputs).sum(1) - 1).abs().max() < 1e-5
    mask[:] = IGNORE_INDEX
    assert float(built.loss(outputs, batch).detach()) == 0


@pytest.mark.slow
def test_both_tasks_are_learnt_with_weights_that_are_learnt_too(release_root: Path, tmp_path: Path) -> None:
    config = Config.parse(
        {
            "name": "edges",
            "threads": 1,
            "data": {"kind": "luisa-seg", "root": str(release_root), "level": 2},
            "task": {"kind": "segmentation-edges", "focal": 1.0, "dice": 0.2, "class_balance": 0.5},
            "model": {"kind": "unet", "encoder": "resnet18", "depth": 3, "decoder_channels": [8, 8, 8]},
            "train": {"epochs": 3, "batch_size": 2, "lr": 1e-2},
        }
    )
    trained = train(Experiment.open(config), tmp_path)
    rows = read_history(tmp_path / "edges")
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert rows[-1]["val_distance_weight"] not in (1.0, rows[0]["val_distance_weight"])
    trained.task.predict(trained, tmp_path / "edges")
    assert 0 < trained.task.score(config, tmp_path / "edges")["overall_accuracy"] < 1
