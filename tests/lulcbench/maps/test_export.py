"""Exported models predict what the models themselves predict, and state how far they look."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm.layers
import torch
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier

from baselines.data import Input
from baselines.exporting.graphs import network_graph
from baselines.exporting.pixels import pixel_graph
from baselines.models import MODELS
from lulcbench.errors import LulcbenchError
from lulcbench.maps import MapModel
from tests.lulcbench.maps.conftest import RUNS


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUNS if name != "city"])
def test_an_exported_model_predicts_what_the_model_does(name: str, fitted, exported) -> None:
    model = MapModel.open(exported(name))
    predict = model.predictor()
    rng = torch.Generator().manual_seed(1)
    inputs, first = model.info.inputs, model.info.resolution
    for size in ((96, 192), (48, 48)):
        images = {
            sensor: torch.randn(1, imagery.channels, *(n * first // imagery.resolution for n in size), generator=rng)
            for sensor, imagery in inputs.items()
        }
        for image in images.values():
            image[:, :, :9, :9] = 0  # nodata
        if len(images) > 1 and size == (48, 48):
            images[next(reversed(images))].zero_()  # a sensor that is missing
        with torch.inference_mode():
            given = images if len(images) > 1 else next(iter(images.values()))
            expected = fitted(name).predictor(given)[0].numpy()
        p = predict({sensor: image[0].numpy() for sensor, image in images.items()})
        assert p.dtype == np.float32
        assert p.shape == expected.shape == (len(model.info.classes), *size)
        assert np.abs(p - expected).max() <= 1e-4


@pytest.mark.parametrize(
    "trees",
    [
        HistGradientBoostingClassifier(max_iter=4, early_stopping=False),
        RandomForestClassifier(20, random_state=0),
        ExtraTreesClassifier(20, random_state=0),
    ],
    ids=lambda trees: type(trees).__name__,
)
def test_trees_send_pixels_on_a_threshold_to_the_same_leaf(trees: Any) -> None:
    rng = np.random.default_rng(0)
    spectra = rng.integers(0, 40, (500, 3)).astype(np.float32) / 10
    labels = np.where(spectra[:, 0] + rng.normal(0, 0.5, 500) > 2, 6, 2)
    trees = clone(trees).fit(spectra, labels)
    inputs = {"landsat": Input(channels=("a", "b", "c"), mean=(0.0,) * 3, std=(1.0,) * 3, resolution=30)}
    session = onnxruntime.InferenceSession(pixel_graph({"trees": trees}, None, None, 8, inputs))
    if hasattr(trees, "_predictors"):
        thresholds = [tree[0].nodes["num_threshold"] for tree in trees._predictors]
    else:
        thresholds = [tree.tree_.threshold for tree in trees.estimators_]
    limits = np.concatenate(thresholds).astype(np.float32)
    near = np.concatenate([limits, np.nextafter(limits, np.float32(9)), np.nextafter(limits, np.float32(-9))])
    pixels = np.stack([rng.permutation(near) for _ in range(3)])
    (p,) = session.run(None, {"landsat": pixels[None, :, None]})
    expected = trees.predict_proba(pixels.T)
    assert np.abs(p[0, [2, 6], 0].T - expected).max() <= 1e-6
    assert not p[0, [0, 1, 3, 4, 5, 7]].any()


def test_a_forest_lists_the_classes_of_its_leaves_alone() -> None:
    """All classes of every leaf of a forest of full size did not fit into 16 GiB."""
    rng = np.random.default_rng(0)
    spectra, labels = rng.normal(size=(400, 3)).astype(np.float32), rng.integers(0, 40, 400)
    forest = RandomForestClassifier(10, random_state=0).fit(spectra, labels)
    inputs = {"landsat": Input(channels=("a", "b", "c"), mean=(0.0,) * 3, std=(1.0,) * 3, resolution=30)}
    model = onnx.load_from_string(pixel_graph({"forest": forest}, None, None, 41, inputs))
    (trees,) = (node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    (weights,) = (attribute.floats for attribute in trees.attribute if attribute.name == "target_weights")
    leaves = sum(tree.tree_.n_leaves for tree in forest.estimators_)
    assert leaves <= len(weights) < 2 * leaves


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "tempcnn", "ltae", "transformer"])
def test_an_exported_network_of_series_predicts_what_the_network_does(kind: str) -> None:
    channels = tuple(f"d{day:03d}:{band}" for day in (45, 135, 225, 315) for band in ("red", "nir08", "NDVI"))
    inputs = {"landsat": Input(channels=channels, mean=(0.0,) * 12, std=(1.0,) * 12, resolution=30)}
    network: Any = MODELS.parse({"kind": kind})
    net = network.build(inputs, 5).eval()
    session = onnxruntime.InferenceSession(network_graph(net, partial(torch.softmax, dim=1), inputs))
    for size in ((6, 7), (3, 3)):
        image = torch.randn(2, 12, *size, generator=torch.Generator().manual_seed(1))
        image[:, 3:6] = 0  # a date that is missing
        image[:, :, 0, 0] = 0  # a pixel without any
        with torch.inference_mode():
            expected = net(image).softmax(1).numpy()
        (p,) = session.run(None, {"landsat": image.numpy()})
        assert p.shape == expected.shape == (2, 5, *size)
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
