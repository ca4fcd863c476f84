"""Checkpoints without pickle: a Lightning checkpoint as one safetensors file, written atomically.

The tree of a checkpoint (dicts, lists, scalars) is stored as JSON in the metadata of the file, its tensors in the body.
 Opening a checkpoint of unknown origin therefore runs no code.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError


class SafeCheckpoint(CheckpointIO):
    """Reads and writes Lightning checkpoints as safetensors."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to ``path``; an interrupted save leaves the old file unchanged."""
        tensors: dict[str, torch.Tensor] = {}
        tree = json.dumps(_encode(checkpoint, tensors))
        write_atomic(Path(path), save(tensors, metadata={"tree": tree}))

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            LulcbenchError: the file is missing, truncated or not a checkpoint.
        """
        path = Path(path)
        if not path.is_file():
            raise LulcbenchError(f"The checkpoint {path} is missing.", "Run 'python -m baselines train' first.")
        try:
            with safe_open(path, framework="pt") as file:
                tree = json.loads((file.metadata() or {})["tree"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError) as error:
            raise LulcbenchError(
                f"{path} is not a complete checkpoint: {error}.", "Delete it and train again."
            ) from error
        checkpoint: dict[str, Any] = _decode(tree, tensors)
        return checkpoint

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete a checkpoint that is no longer needed."""
        Path(path).unlink(missing_ok=True)


def _encode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Convert a value to a JSON tree; containers are tagged, so that keys, tuples and tensors can be restored."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        # A copy: tensors that share storage cannot be stored twice.
        tensors[name] = value.detach().cpu().contiguous().clone()
        # safetensors has one memory order; fused optimizers need their states in the order of the weights.
        order = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()
        return {"channels_last" if order else "tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_encode(v, tensors) for v in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}: {value!r}")


def _decode(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "channels_last":
        return tensors[content].contiguous(memory_format=torch.channels_last)
    if kind == "dict":
        return {_decode(k, tensors): _decode(v, tensors) for k, v in content}
    items = [_decode(v, tensors) for v in content]
    return tuple(items) if kind == "tuple" else items
