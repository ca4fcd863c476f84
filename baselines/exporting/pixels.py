"""Classifiers of single pixels as ONNX graphs: members of scikit-learn on spectra or features, stacked or alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
import torch
from onnx import helper, numpy_helper
from torch import nn

from baselines.data import Input
from baselines.exporting.graphs import ML_OPSET, OPSET, assemble, exported, plain
from lulcbench.maps.model import MEMBERS, OUTPUT

Arrays = dict[str, npt.NDArray[Any]]


@dataclass
class _Parts:
    """Nodes and constants of a graph that grows."""

    nodes: list[Any] = field(default_factory=list)
    constants: Arrays = field(default_factory=dict)

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: Any = np.int64) -> str:
        """Add a constant; returns its name."""
        self.constants[name] = np.asarray(value, dtype)
        return name

    def insert(self, model: Any, name: str, source: str, output: str) -> str:
        """Add all nodes that an output of a model with one input needs; names are prefixed by ``name``."""
        inner = onnx.compose.add_prefix(model, f"{name}_").graph
        known = f"{name}_{output}"
        self.add("Identity", [source], inner.input[0].name)
        self.nodes += _needed(inner.node, known)
        self.constants |= {tensor.name: numpy_helper.to_array(tensor) for tensor in inner.initializer}
        return known


def pixel_graph(
    members: Mapping[str, Any],
    regression: Any,
    features: nn.Module | None,
    classes: int,
    inputs: Mapping[str, Input],
) -> bytes:
    """Classifiers of scikit-learn as one graph; all sensors have one grid.

    Args:
        members: name → fitted classifier, whose ``classes_`` are class indices.
        regression: a classifier of the probabilities of all members side by side; None if there is one member.
        features: maps normalised spectra ``(n, channel)`` to features; None classifies the spectra themselves.
        classes: number of classes, including those that the members do not know.
        inputs: sensor → input.
    """
    parts = _Parts()
    channels = sum(len(imagery.channels) for imagery in inputs.values())
    image = parts.add("Concat", list(inputs), "image", axis=1)
    pixels = parts.add("Transpose", [image], "pixels", perm=[0, 2, 3, 1])
    x = parts.add("Reshape", [pixels, parts.constant("rows", [-1, channels])], "spectra")
    width = channels
    if features is not None:
        example = torch.zeros(2, channels)
        model = plain(exported(features, (example,), ["x"], ["features"], [{0: torch.export.Dim.AUTO}]))
        x = parts.insert(model, "features", x, "features")
        with torch.no_grad():
            width = features(example).shape[1]
    known = [_placed(parts, name, member, x, width, classes) for name, member in members.items()]
    if regression is None:
        (flat,) = known
    else:
        joined = parts.add("Concat", known, "joined", axis=1)
        flat = _placed(parts, "regression", regression, joined, len(known) * classes, classes)
    shape = parts.add("Shape", [pixels], "shape")
    places = parts.add("Slice", [shape, parts.constant("zero", [0]), parts.constant("three", [3])], "places")
    outputs = {OUTPUT: (flat, classes)}
    if regression is not None:
        outputs[MEMBERS] = (joined, len(known) * classes)
    for name, (values, width) in outputs.items():
        wanted = parts.add("Concat", [places, parts.constant(f"{name}_width", [width])], f"{name}_shape", axis=0)
        maps = parts.add("Reshape", [values, wanted], f"{name}_maps")
        parts.add("Transpose", [maps], name, perm=[0, 3, 1, 2])
    width = 0 if regression is None else len(known)
    return assemble(parts.nodes, parts.constants, inputs, classes, dense=True, members=width)


def _placed(parts: _Parts, name: str, classifier: Any, source: str, width: int, classes: int) -> str:
    """Probabilities ``(n, class)`` of a classifier, with columns for classes that it does not know."""
    if hasattr(classifier, "_predictors"):
        known = _boosted(parts, name, classifier, source)
    elif hasattr(classifier, "estimators_"):
        known = _forest(parts, name, classifier, source)
    else:
        known = _converted(parts, name, classifier, source, width)
    place = np.zeros((len(classifier.classes_), classes), np.float32)
    place[np.arange(len(classifier.classes_)), classifier.classes_] = 1
    return parts.add("MatMul", [known, parts.constant(f"{name}_place", place, np.float32)], f"{name}_placed")


@dataclass(frozen=True)
class _Trees:
    """Nodes of all trees of an ensemble, one after the other.

    Attributes:
        sizes: number of nodes of each tree.
        leaf: whether a node is a leaf.
        feature, threshold, left, right: of nodes that are not; a pixel goes left where its feature is not above the
            threshold (float64).
        weights: ``(nodes, targets, values)`` that reached leaves add to the targets.
    """

    sizes: Sequence[int]
    leaf: npt.NDArray[np.bool_]
    feature: npt.NDArray[Any]
    threshold: npt.NDArray[Any]
    left: npt.NDArray[Any]
    right: npt.NDArray[Any]
    weights: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]

    def add_to(self, parts: _Parts, source: str, output: str, base: Sequence[float]) -> str:
        """The sums of all trees and of ``base``, one per target.

        Not by skl2onnx: it compares float32 features with thresholds that it rounds to the nearest float32, which sends
        some pixels to another leaf; it needs 16 GiB for a forest of a hundred deep trees and 41 classes, because it
        lists all classes for every leaf; and version 1.20 fails on the boosted trees of scikit-learn 1.9.
        """
        tree = np.repeat(np.arange(len(self.sizes)), self.sizes)
        node = np.concatenate([np.arange(size) for size in self.sizes])
        # The greatest float32 that is not above the threshold: no float32 is between the two.
        limits = np.where(self.leaf, 0, self.threshold)
        rounded = limits.astype(np.float32)
        rounded = np.where(rounded > limits, np.nextafter(rounded, np.float32(-np.inf)), rounded)
        reached, targets, values = self.weights
        return parts.add(
            "TreeEnsembleRegressor",
            [source],
            output,
            domain="ai.onnx.ml",
            n_targets=len(base),
            base_values=list(base),
            nodes_treeids=tree.tolist(),
            nodes_nodeids=node.tolist(),
            nodes_modes=np.where(self.leaf, "LEAF", "BRANCH_LEQ").tolist(),
            nodes_featureids=np.where(self.leaf, 0, self.feature).tolist(),
            nodes_values=rounded.tolist(),
            nodes_truenodeids=np.where(self.leaf, 0, self.left).tolist(),
            nodes_falsenodeids=np.where(self.leaf, 0, self.right).tolist(),
            target_treeids=tree[reached].tolist(),
            target_nodeids=node[reached].tolist(),
            target_ids=targets.tolist(),
            target_weights=values.tolist(),
        )


def _forest(parts: _Parts, name: str, forest: Any, source: str) -> str:
    """Probabilities of a random forest: the mean of the class fractions of the reached leaves."""
    trees = [estimator.tree_ for estimator in forest.estimators_]
    values = np.concatenate([tree.value[:, 0] for tree in trees])
    left = np.concatenate([tree.children_left for tree in trees])
    leaf = left == -1
    reached, targets = np.nonzero(values * leaf[:, None])
    ensemble = _Trees(
        sizes=[tree.node_count for tree in trees],
        leaf=leaf,
        feature=np.concatenate([tree.feature for tree in trees]),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        left=left,
        right=np.concatenate([tree.children_right for tree in trees]),
        weights=(reached, targets, values[reached, targets] / len(trees)),
    )
    return ensemble.add_to(parts, source, f"{name}_known", [0.0] * values.shape[1])


def _boosted(parts: _Parts, name: str, boosting: Any, source: str) -> str:
    """Probabilities of gradient-boosted trees: the softmax of sums of leaves."""
    trees = [(k, tree.nodes) for rounds in boosting._predictors for k, tree in enumerate(rounds)]
    target = np.repeat([k for k, _ in trees], [len(nodes) for _, nodes in trees])
    nodes = np.concatenate([nodes for _, nodes in trees])
    leaf = nodes["is_leaf"] == 1
    base = boosting._baseline_prediction.ravel()
    ensemble = _Trees(
        sizes=[len(nodes) for _, nodes in trees],
        leaf=leaf,
        feature=nodes["feature_idx"],
        threshold=nodes["num_threshold"],
        left=nodes["left"],
        right=nodes["right"],
        weights=(np.flatnonzero(leaf), target[leaf], nodes["value"][leaf]),
    )
    raw = ensemble.add_to(parts, source, f"{name}_raw", base.tolist())
    if len(base) > 1:
        return parts.add("Softmax", [raw], f"{name}_known", axis=1)
    second = parts.add("Sigmoid", [raw], f"{name}_second")
    first = parts.add("Sub", [parts.constant(f"{name}_all", [[1]], np.float32), second], f"{name}_first")
    return parts.add("Concat", [first, second], f"{name}_known", axis=1)


def _converted(parts: _Parts, name: str, classifier: Any, source: str, width: int) -> str:
    """Probabilities of a classifier that skl2onnx converts."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    converted = to_onnx(
        classifier,
        initial_types=[("x", FloatTensorType([None, width]))],
        options={"zipmap": False},
        target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
    )
    return parts.insert(converted, name, source, converted.graph.output[1].name)


def _needed(nodes: Sequence[Any], output: str) -> list[Any]:
    """The nodes that an output depends on, in order."""
    wanted, kept = {output}, []
    for node in reversed(list(nodes)):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]
