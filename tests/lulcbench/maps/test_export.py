"""Exported models predict what the models themselves predict, and state how far they look."""

from __future__ import annotations

import numpy as np
import pytest
import timm.layers
import torch

from baselines.data import Input
from baselines.exporting.graphs import network_graph
from lulcbench.errors import LulcbenchError
from lulcbench.maps import MapModel


@pytest.mark.parametrize("name", ["unet", "deeplabv3plus", "forest", "majority"])
def test_an_exported_model_predicts_what_the_model_does(name: str, fitted, exported) -> None:
    model = MapModel.open(exported(name))
    predict = model.predictor()
    rng = torch.Generator().manual_seed(1)
    ((sensor, imagery),) = model.info.inputs.items()
    for size in ((96, 160), (64, 64)):
        image = torch.randn(1, imagery.channels, *size, generator=rng)
        image[:, :, :9, :9] = 0  # nodata
        with torch.inference_mode():
            expected = fitted(name).predictor(image)[0].numpy()
        p = predict({sensor: image[0].numpy()})
        assert p.dtype == np.float32
        assert p.shape == expected.shape == (len(model.info.classes), *size)
        assert np.abs(p - expected).max() <= 1e-4


def test_nothing_beyond_the_reach_changes_a_prediction(exported) -> None:
    model = MapModel.open(exported("unet"))
    predict, reach = model.predictor(), model.info.reach
    assert reach == 43
    rng = np.random.default_rng(0)
    image = rng.normal(size=(20, 224, 224)).astype(np.float32)
    cell = slice(96, 128)
    before = predict({"sentinel2": image})[:, cell, cell]
    for distance, changes in ((reach, False), (reach - 10, True)):
        other = rng.normal(0, 100, image.shape).astype(np.float32)
        kept = slice(96 - distance, 128 + distance)
        other[:, kept, kept] = image[:, kept, kept]
        after = predict({"sentinel2": other})[:, cell, cell]
        assert (np.abs(after - before).max() > 1e-6) == changes
    assert MapModel.open(exported("forest")).info.reach == 0
    assert MapModel.open(exported("deeplabv3plus")).info.reach is None  # it averages over the whole image


def test_networks_whose_padding_depends_on_the_size_are_refused() -> None:
    net = torch.nn.Sequential(timm.layers.Conv2dSame(24, 5, 3, stride=2))
    inputs = {"landsat": Input(channels=("a",) * 24, mean=(0.0,) * 24, std=(1.0,) * 24, resolution=30)}
    with pytest.raises(LulcbenchError, match=r"(?s)Conv2dSame.*depends on their size.*encoder with fixed padding"):
        network_graph(net, torch.sigmoid, inputs)
