"""Checkpoints, temperature and the mapped class: each against what it must do by definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.predicting.views import temper
from baselines.training.checkpoint import SafeCheckpoint
from lulcbench.errors import LulcbenchError
from lulcbench.legend import decide, legend


def test_checkpoints_come_back_as_they_were(tmp_path: Path) -> None:
    shared = torch.randn(3)
    tree = {"a": shared, "b": [shared, (1, 2.5, None, True, "x")], 3: {"c": torch.tensor(4)}}
    tree["d"] = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    path = tmp_path / "last.ckpt"
    SafeCheckpoint().save_checkpoint(tree, path)
    back = SafeCheckpoint().load_checkpoint(path)
    assert torch.equal(back["a"], shared)
    assert back["b"][1] == (1, 2.5, None, True, "x")
    assert int(back[3]["c"]) == 4
    assert back["d"].stride() == tree["d"].stride()
    assert torch.equal(back["d"], tree["d"])
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(LulcbenchError, match="not a complete checkpoint"):
        SafeCheckpoint().load_checkpoint(path)


def test_interrupted_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    SafeCheckpoint().save_checkpoint({"step": 1}, path)
    with pytest.raises(TypeError, match="cannot hold"):
        SafeCheckpoint().save_checkpoint({"step": object()}, path)
    assert SafeCheckpoint().load_checkpoint(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_temperature_divides_logits() -> None:
    logits = torch.randn(4, 7)
    torch.testing.assert_close(temper(logits.softmax(1), 2.0), (logits / 2).softmax(1))


def test_classes_are_decided_from_the_top_down() -> None:
    codes = list(legend().codes(4))
    p = np.zeros((46, 1, 2), np.float32)
    p[codes.index(2110), 0] = 0.4  # agriculture holds the likeliest single class …
    for code in (3110, 3120, 3130):
        p[codes.index(code), 0, 0] = 0.2  # … but forest as a whole is likelier in the first pixel
    p[codes.index(3110), 0, 1] = 0.35
    assert [codes[i] for i in decide(p, 4)[0]] == [3110, 2110]
    only = np.eye(46, dtype=np.float32)[:, :, None]
    assert (decide(only, 4)[:, 0] == np.arange(46)).all()
