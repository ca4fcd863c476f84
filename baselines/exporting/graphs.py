"""Fitted models as ONNX graphs.

The inputs of a graph are named after the sensors: normalised images, float32 ``(b, channel, y, x)``. Its output,
``probabilities``, is float32 ``(b, class, y, x)`` on the grid of the first sensor, or ``(b, class)`` for patches.
Stacks have a second output, ``members``, ``(b, member·class, y, x)``.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from baselines.data import Input
from baselines.devices import Images
from lulcbench.errors import LulcbenchError
from lulcbench.maps.model import MEMBERS, OUTPUT

OPSET = 20
ML_OPSET = 3  # of ai.onnx.ml, which has the ensembles of trees
_SIDE = 128  # px of the traced images of the coarsest sensor


class _Probabilities(nn.Module):
    """A network whose inputs are positional, one per sensor, and whose outputs are probabilities."""

    def __init__(self, net: nn.Module, activate: Callable[[Tensor], Tensor], sensors: Sequence[str]) -> None:
        super().__init__()
        self.net, self.activate, self.sensors = net, activate, tuple(sensors)

    def forward(self, *images: Tensor) -> Tensor:
        by_sensor: Images = images[0] if len(images) == 1 else dict(zip(self.sensors, images, strict=True))
        return self.activate(self.net(by_sensor))


def network_graph(
    net: nn.Module, activate: Callable[[Tensor], Tensor], inputs: Mapping[str, Input], side: int | None = None
) -> bytes:
    """A network as a serialized ONNX model of free batch size, height and width.

    Args:
        net: the network, in evaluation mode.
        activate: maps its outputs to class probabilities.
        inputs: sensor → input.
        side: pixels of the images of a network that only takes one size; None leaves the size free.

    Raises:
        LulcbenchError: the padding of the network depends on the size of its images.
    """
    same = (m for m in net.modules() if isinstance(m, nn.Conv2d) and "Same" in type(m).__name__)
    if side is None and (layer := next(same, None)):
        # torch.export searches for a proof that the shapes agree and does not end.
        raise LulcbenchError(
            f"A layer of the network ({type(layer).__name__}) pads images by an amount that depends on their size, "
            "as TensorFlow does; it cannot be exported for windows of any size.",
            "Use an encoder with fixed padding, such as resnet18, or tu-efficientnet_b0 for tu-tf_efficientnet_b0.",
        )
    examples = trace_images(inputs, side or _SIDE)
    free = torch.export.Dim.AUTO
    dimensions = {0: free} if side else {0: free, 2: free, 3: free}
    module = _Probabilities(net, activate, list(inputs)).eval()
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    model = exported(
        module,
        tuple(example.to(device) for example in examples),
        list(inputs),
        [OUTPUT],
        (tuple(dimensions for _ in examples),),
    )
    stored = io.BytesIO()
    onnx.save_model(plain(model), stored)
    return stored.getvalue()


def exported(
    module: nn.Module, examples: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str], dynamic: Any
) -> Any:
    """A module as an ONNX model.

    Args:
        module: the module, in evaluation mode.
        examples: its arguments.
        inputs: their names.
        outputs: names of the results.
        dynamic: the free axes of the arguments, see ``torch.onnx.export``.

    Raises:
        LulcbenchError: torch does not export it.
    """
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer about the code of third parties
        program = torch.onnx.export(
            module,
            examples,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise LulcbenchError("torch has not exported the network.", "Report it.")
    return program.model_proto


def trace_images(inputs: Mapping[str, Input], side: int) -> list[Tensor]:
    """Random images ``(2, channel, y, x)`` of one extent; those of the coarsest sensor have ``side`` pixels."""
    coarsest = max(imagery.resolution for imagery in inputs.values())
    rng = torch.Generator().manual_seed(0)
    sides = [round(side * coarsest / imagery.resolution) for imagery in inputs.values()]
    return [
        torch.randn(2, len(imagery.channels), n, n, generator=rng)
        for imagery, n in zip(inputs.values(), sides, strict=True)
    ]


def frequencies_graph(frequencies: npt.NDArray[np.float32], inputs: Mapping[str, Input], dense: bool) -> bytes:
    """A model that predicts the same probabilities ``(class,)`` for every pixel, or patch."""
    first = next(iter(inputs))
    classes = len(frequencies)
    constants: dict[str, npt.NDArray[Any]] = {
        "frequencies": frequencies.reshape(1, classes, *([1, 1] if dense else [])),
        "classes": np.array([classes], np.int64),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "end": np.array([4], np.int64),
    }
    nodes = [
        helper.make_node("Shape", [first], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["batch"]),
        helper.make_node("Slice", ["shape", "two", "end"], ["pixels"]),
        helper.make_node("Concat", ["batch", "classes", *(["pixels"] if dense else [])], ["wanted"], axis=0),
        helper.make_node("Expand", ["frequencies", "wanted"], [OUTPUT]),
    ]
    return assemble(nodes, constants, inputs, classes, dense)


def assemble(
    nodes: Sequence[Any],
    constants: Mapping[str, npt.NDArray[Any]],
    inputs: Mapping[str, Input],
    classes: int,
    dense: bool,
    members: int = 0,
) -> bytes:
    """A checked and serialized model of nodes and constants, with the outputs described above."""
    space = ["height", "width"]
    graph = helper.make_graph(
        list(nodes),
        "lulcbench",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", len(imagery.channels), *space])
            for name, imagery in inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width, *(space if dense else [])])
            for name, width in ((OUTPUT, classes), (MEMBERS, members * classes))
            if width
        ],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    used = {node.domain for node in nodes}
    opsets = [helper.make_opsetid("", OPSET)]
    opsets += [helper.make_opsetid("ai.onnx.ml", ML_OPSET)] if "ai.onnx.ml" in used else []
    model = helper.make_model(graph, opset_imports=opsets, producer_name="lulcbench", ir_version=10)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def plain(model: Any) -> Any:
    """The model without the tracer's notes, which hold paths of the machine that wrote it."""
    del model.metadata_props[:]
    for message in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        message.doc_string = ""
        del message.metadata_props[:]
    return model
