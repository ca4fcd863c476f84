"""A copy of a network in which nothing can cancel or saturate: gradients show which pixels a prediction depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Unknown(Exception):
    """A function for which no replacement with the same dependences is known."""


class Positive(TorchFunctionMode):
    """Replaces functions whose gradient may vanish by others with the same dependences and positive gradients.

    These are calls of functions and of methods of tensors, also those in modules: activations saturate, norms of equal
    channels are constant, and only one pixel of a window is its maximum. Values stay positive and do not overflow.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the replacement of a function, or the function."""
        return _REPLACED.get(func, func)(*args, **(kwargs or {}))


def positive(net: nn.Module) -> nn.Module:
    """A copy of the structure in float64 with positive weights, to be called within ``Positive``."""
    probe = deepcopy(net).cpu().double().eval()
    for parameter in probe.parameters():
        value = 1 / max(1, parameter[0].numel()) if parameter.ndim > 1 else 1.0
        parameter.data.fill_(value)
        parameter.requires_grad_(False)
    return probe


def _bounded(x: Tensor, *_: Any, **__: Any) -> Tensor:
    """Between 0 and 1 for positive values; the gradient is positive everywhere."""
    return x / (1 + x.detach().abs())


def _same(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _over(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Each value depends on all others along some axes."""
    return _bounded(x + x.mean(dim=list(axes), keepdim=True))


def _softmax(x: Tensor, dim: int | None = -1, *_: Any, **__: Any) -> Tensor:
    return _over(x, [-1 if dim is None else dim])


def _normalize(x: Tensor, p: float = 2.0, dim: int = 1, *_: Any, **__: Any) -> Tensor:
    return _over(x, [dim])


def _layer_norm(x: Tensor, normalized_shape: Sequence[int], *_: Any, **__: Any) -> Tensor:
    return _over(x, range(-len(normalized_shape), 0))


def _group_norm(x: Tensor, groups: int, *_: Any, **__: Any) -> Tensor:
    by_group = x.reshape(x.shape[0], groups, -1)
    return _over(by_group, [-1]).reshape(x.shape)


def _instance_norm(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return _over(x, range(2, x.ndim))


def _max_pool(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The mean of a window."""
    height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    weight = torch.full((x.shape[1], 1, height, width), 1 / (height * width), dtype=x.dtype)
    if ceil_mode:
        x = F.pad(x, (0, width - 1, 0, height - 1))
    return F.conv2d(x, weight, None, stride or kernel_size, padding, dilation, x.shape[1])


def _unknown(*_: Any, **__: Any) -> Tensor:
    """Maxima with their places: what is done with these cannot be followed."""
    raise Unknown


def _adaptive_max_pool(x: Tensor, output_size: Any, *_: Any, **__: Any) -> Tensor:
    return F.adaptive_avg_pool2d(x, output_size)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    weights = query.mean(dim=-1, keepdim=True) + key.mean(dim=(-2, -1), keepdim=True)
    return _bounded(weights + value.mean(dim=-2, keepdim=True))


_ACTIVATIONS = (
    *(
        "relu",
        "relu6",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "sigmoid",
        "tanh",
        "silu",
        "gelu",
        "elu",
        "selu",
        "celu",
    ),
    *("leaky_relu", "prelu", "rrelu", "softplus", "softsign", "mish", "logsigmoid", "tanhshrink", "softshrink"),
    *("hardshrink", "clamp", "clamp_min", "clamp_max", "clip", "erf"),
)


def _named(names: Sequence[str], replacement: Callable[..., Any]) -> dict[Any, Callable[..., Any]]:
    """The functions and methods of these names, also those that change their argument, → their replacement."""
    places = (F, torch, torch.Tensor, torch._C._nn)
    return {
        getattr(place, own): replacement
        for place in places
        for name in names
        for own in (name, f"{name}_")
        if hasattr(place, own)
    }


_REPLACED: dict[Any, Callable[..., Any]] = {
    **_named(_ACTIVATIONS, _bounded),
    **_named(("softmax", "log_softmax", "softmin"), _softmax),
    **_named(("normalize",), _normalize),
    **_named(("batch_norm",), _same),
    **_named(("layer_norm", "rms_norm"), _layer_norm),
    **_named(("group_norm",), _group_norm),
    **_named(("instance_norm",), _instance_norm),
    **_named(("max_pool2d",), _max_pool),
    **_named(("adaptive_max_pool2d",), _adaptive_max_pool),
    **_named(("max_pool2d_with_indices", "adaptive_max_pool2d_with_indices"), _unknown),
    **_named(("scaled_dot_product_attention",), _attention),
}
