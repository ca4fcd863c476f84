"""Fusion: sensors meet in metres, an absent sensor has no effect, and windows may have any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.config import Config
from baselines.data import Input
from baselines.experiment import Experiment
from baselines.models._grids import Padded, align, pad_to
from baselines.models.fusion import Attention
from baselines.run import load_run
from baselines.train import train
from lulcbench.errors import LulcbenchError

MODES = ("early", "middle", "late")


def inputs(**resolutions: float) -> dict[str, Input]:
    return {
        name: Input(channels=("a", "b"), mean=(0.0, 0.0), std=(1.0, 1.0), resolution=resolution)
        for name, resolution in resolutions.items()
    }


def config(root: str = "r", mode: str = "middle", **sections: dict) -> Config:
    model = {"kind": "fusion", "encoder": "resnet18", "depth": 3, "decoder_channels": [16, 16, 8], "width": 8}
    data = {"kind": "luisa-seg", "root": root, "sensors": ["landsat", "sentinel2"], "level": 1}
    return Config.parse({"name": mode, "data": data, "model": model | {"mode": mode}} | sections)


def test_alignment_follows_the_metres_of_pixel_centres() -> None:
    # Values that are linear in metres stay so on any grid, up to the last pixel centres.
    for resolution, to, n in ((30, 10, 40), (10, 30, 120), (80, 60, 7), (24, 10, 50)):
        x = (torch.arange(n) + 0.5) * resolution
        size = int(n * resolution / to)
        there = (torch.arange(size) + 0.5) * to
        got = align(x.expand(1, 1, 3, -1), resolution, (3, size), to)[0, 0, 0]
        inside = (there >= x[0]) & (there <= x[-1])
        torch.testing.assert_close(got[inside], there[inside], rtol=1e-4, atol=0.01)
        torch.testing.assert_close(got[~inside], there[~inside].clamp(float(x[0]), float(x[-1])))
    same = torch.randn(1, 2, 5, 5)
    assert torch.equal(align(same, 30, (5, 5), 30), same)


def test_padding_is_cropped_exactly_and_absent_where_the_stride_divides() -> None:
    net = Padded(torch.nn.Identity(), 16)
    for size in (1, 15, 16, 40, 48):
        image = torch.randn(1, 2, size, size + 3)
        assert torch.equal(net(image), image)
    whole = torch.randn(1, 1, 32, 16)
    assert pad_to(whole, 16) is whole
    assert pad_to(torch.tensor([[[[1.0, 2.0]]]]), 4)[0, 0].tolist() == [[1, 2, 2, 2]] * 4


@pytest.mark.parametrize("kind", ["unet", "deeplabv3plus"])
def test_windows_that_the_stride_does_not_divide_are_predicted_as_padded_ones(kind: str) -> None:
    model = {"kind": kind, "encoder": "resnet18", "weights": None}
    parsed = Config.parse({"name": "a", "data": {"kind": "luisa-seg", "root": "r"}, "model": model})
    net = parsed.model.build(inputs(landsat=30), 3).eval()
    image = torch.randn(1, 2, 40, 50)
    assert net(image).shape == (1, 3, 40, 50)
    assert torch.equal(net(image), net(pad_to(image, net.stride))[..., :40, :50])


@pytest.mark.parametrize("mode", MODES)
def test_an_absent_sensor_changes_nothing_and_a_present_one_does(mode: str) -> None:
    net = config(mode=mode).model.build(inputs(landsat=30, sentinel2=10), 4).eval()
    images = {"landsat": torch.randn(2, 2, 20, 20), "sentinel2": torch.randn(2, 2, 60, 60)}
    both = net(images)
    assert both.shape == (2, 4, 20, 20)
    for name in images:
        without = net(images | {name: torch.zeros_like(images[name])})
        assert not torch.allclose(both, without)
        # Only the sample without the sensor changes.
        partly = images[name].clone()
        partly[1] = 0
        torch.testing.assert_close(net(images | {name: partly})[0], both[0])
        torch.testing.assert_close(net(images | {name: partly})[1], without[1])
    nothing = net({name: torch.zeros_like(image) for name, image in images.items()})
    assert torch.isfinite(nothing).all()


def test_attention_ignores_features_of_absent_sensors_whatever_they_are() -> None:
    fuse = Attention([2, 2], 3)
    features = [torch.randn(2, 2, 4, 4), torch.full((2, 2, 4, 4), torch.nan)]
    present = torch.tensor([[True, False], [True, False]])
    fused = fuse(features, present)
    torch.testing.assert_close(fused, fuse.projections[0](features[0]))


@pytest.mark.parametrize("mode", MODES)
def test_what_two_sensors_say_together_is_not_the_sum_of_what_each_says(mode: str) -> None:
    net = config(mode=mode).model.build(inputs(landsat=30, sentinel2=30), 4).eval()
    torch.nn.init.zeros_(net.head.weight)  # only the path of single pixels
    for score in net.pixel_fuse.scores:
        torch.nn.init.zeros_(score.weight)
    one, other = torch.randn(2, 1, 2, 16, 16), torch.randn(2, 1, 2, 16, 16)
    value = {(i, j): net({"landsat": one[i], "sentinel2": other[j]}) for i in (0, 1) for j in (0, 1)}
    assert not torch.allclose(value[0, 0] + value[1, 1], value[0, 1] + value[1, 0], atol=1e-3)


def test_hiding_leaves_every_sample_a_sensor_it_has() -> None:
    net = config().model.build(inputs(landsat=30, sentinel2=10), 4)
    net.hide = 0.5
    images = [torch.ones(500, 2, 2, 2), torch.ones(500, 2, 6, 6)]
    images[1][:250] = 0
    present = net.train()._present(images)
    assert present.any(1).all()
    assert not present[:250, 1].any()
    assert 0.3 < present[250:, 0].float().mean() < 0.7
    assert 0.15 < present[250:].all(1).float().mean() < 0.35  # both are kept with 0.5²
    assert net.eval()._present(images)[250:].all()


@pytest.mark.slow
def test_fusion_trains_and_predicts_with_any_sensor_missing(release_root: Path, tmp_path: Path) -> None:
    run = config(str(release_root), train={"steps": 4, "batch_size": 2}, threads=1)
    trained = train(Experiment.open(run), tmp_path)
    scores = {}
    for missing in ((), ("landsat",), ("sentinel2",)):
        predicting = run.replace(predict={"missing": missing, "batch_size": 1})
        loaded = load_run(tmp_path / run.name, predicting)
        folder = tmp_path / ("-".join(missing) or "all")
        loaded.task.predict(loaded, folder)
        scores[missing] = loaded.task.score(predicting, folder)["log_loss"]
    assert len(set(scores.values())) == 3
    assert np.isfinite(list(scores.values())).all()
    assert trained.config.model.label == "middle fusion"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(LulcbenchError, match=r"missing names planet, but data\.sensors are landsat, sentinel2"):
        config(predict={"missing": ["planet"]})
    with pytest.raises(LulcbenchError, match="at least one must remain"):
        config(predict={"missing": ["landsat", "sentinel2"]})
    with pytest.raises(LulcbenchError, match="takes several sensors"):
        config().model.build(inputs(landsat=30), 4)
    with pytest.raises(LulcbenchError, match="depth = 3 entries"):
        config(model={"kind": "fusion", "depth": 3})
    with pytest.raises(LulcbenchError, match="no encoder 'none'"):
        config().model.model_copy(update={"encoder": "none"}).build(inputs(landsat=30, sentinel2=10), 4)
