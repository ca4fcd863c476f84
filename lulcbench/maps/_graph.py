"""Checks of ONNX graphs of unknown origin, before a runtime reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lulcbench.errors import CorruptFileError, UnsupportedFormatError

_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
# Loops, whose number of turns the graph itself computes: no bound on the time of a prediction could be stated.
_LOOPS = {"Loop", "Scan", "SequenceMap"}
_REMEDY = "Export it with 'python -m baselines export RUN --out FOLDER'."


def check_graph(content: bytes, path: Path, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
    """Refuse a graph that is not plain ONNX with the inputs and the output of its description.

    Args:
        content: the serialized model.
        path: its name, for error messages.
        inputs: name → channels.
        outputs: name → classes.

    Raises:
        CorruptFileError: it is not an ONNX model, or has other inputs or outputs, or of another type than float32.
        UnsupportedFormatError: it has operators that are not standard, loops, or weights in other files.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf has exceptions of its own
        raise CorruptFileError(f"{path} is not an ONNX model: {short(error)}.", _REMEDY) from error
    if not model.graph.node:
        raise CorruptFileError(f"{path} is not an ONNX model: it has no nodes.", _REMEDY)
    foreign = sorted({node.domain for node in _nodes(model)} - _DOMAINS)
    if foreign or len(model.functions):
        named = foreign[0] if foreign else model.functions[0].domain
        raise UnsupportedFormatError(
            f"{path} has operators that are not standard (of {named[:80]!r}).", "Only operators of ONNX itself are run."
        )
    loops = sorted({node.op_type for node in _nodes(model)} & _LOOPS)
    if loops:
        raise UnsupportedFormatError(
            f"{path} has an operator {loops[0]}, which may run without end.",
            "Export the model with a fixed number of steps; recurrent layers have operators such as LSTM.",
        )
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.external_data):
            raise UnsupportedFormatError(
                f"{path} keeps weights in another file ({tensor.name[:80]!r}).", "Store all weights inside the file."
            )
    names = {tensor.name for tensor in model.graph.initializer}
    for value in (*(own for own in model.graph.input if own.name not in names), *model.graph.output):
        kind = value.type.tensor_type.elem_type
        if kind != onnx.TensorProto.FLOAT:
            known = onnx.TensorProto.DataType.Name(kind) if kind in onnx.TensorProto.DataType.values() else str(kind)
            raise CorruptFileError(
                f"{path} has {value.name[:80]!r} of the type {known}; inputs and outputs are FLOAT.", _REMEDY
            )
    given = {value.name: _channels(value) for value in model.graph.input if value.name not in names}
    if given != inputs:
        raise CorruptFileError(
            f"{path} takes the inputs {given}, not {dict(inputs)} as its description states.", _REMEDY
        )
    results = {value.name: _channels(value) for value in model.graph.output}
    if results != outputs:
        raise CorruptFileError(f"{path} has the outputs {results}, not {dict(outputs)}.", _REMEDY)


def _channels(value: Any) -> int | None:
    """Length of the second axis of an input or output; None if it is not fixed."""
    dimensions = value.type.tensor_type.shape.dim
    return int(dimensions[1].dim_value) if len(dimensions) > 1 and dimensions[1].HasField("dim_value") else None


def _graphs(model: Any) -> Iterable[Any]:
    """The main graph and those inside its nodes, such as the branches of a condition."""
    stack = [model.graph]
    while stack:
        graph = stack.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                stack += [attribute.g] if attribute.HasField("g") else []
                stack += list(attribute.graphs)


def _nodes(model: Any) -> Iterable[Any]:
    for graph in _graphs(model):
        yield from graph.node


def _tensors(model: Any) -> Iterable[Any]:
    """All stored tensors: initializers, sparse ones, and those in attributes."""
    for graph in _graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                for sparse in (
                    *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                    *attribute.sparse_tensors,
                ):
                    yield from (sparse.values, sparse.indices)


def short(error: Exception) -> str:
    """The message of an error on one line, at most 300 characters long."""
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= 300 else f"{text[:300]}…"
