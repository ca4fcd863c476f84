"""Pretrained weights of torchgeo, or of a file, for the encoders of classifiers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from baselines.data import Input
from baselines.registry import expand
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import LANDSAT

# Names of surface reflectance bands in Landsat products → names in releases.
OLI = dict(zip((f"SR_B{n}" for n in range(1, 8)), (band.name for band in LANDSAT.bands), strict=True))
ETM = dict(zip((f"SR_B{n}" for n in (1, 2, 3, 4, 5, 7)), list(OLI.values())[1:], strict=True))


def load_backbone(
    net: nn.Module,
    weights: str | None,
    file: str | None,
    title: str,
    channels: Sequence[str],
    by_order: bool = False,
) -> None:
    """Load weights of torchgeo, or of a file, into a classifier, except into its head.

    Args:
        net: the classifier.
        weights: name of the weights.
        file: file to read instead of downloading the weights.
        title: name of the network, for error messages.
        channels: names of the channels of the network.
        by_order: the file names its tensors otherwise: they are assigned in their order, and their shapes must agree.

    Raises:
        LulcbenchError: the weights are unknown or not available, were trained on other bands, or do not fit.
    """
    if file is not None:
        state = _read(file)
    else:
        check_bands(str(weights), channels)
        state = _torchgeo_state(str(weights), len(channels))
    if by_order and str(file).endswith(".safetensors"):
        raise LulcbenchError(
            f"{file} has its tensors in the order of their names, not in that of the network.",
            "Give a file of PyTorch or ONNX, or one whose names are those of the network, without weights_by_order.",
        )
    own = net.state_dict()
    state = {k.removeprefix("backbone."): v for k, v in state.items()}
    backbone = [k for k in own if not k.startswith(("fc.", "head.", "classifier."))]
    if by_order:
        state = dict(zip(backbone, state.values(), strict=False))  # the head, if the file has one, is last
    fitting = {k: state[k] for k in backbone if k in state and own[k].shape == state[k].shape}
    lacking = [k for k in backbone if k not in fitting]
    if lacking:
        shapes = "; ".join(f"{k}: {tuple(state[k].shape)} ≠ {tuple(own[k].shape)}" for k in lacking if k in state)
        raise LulcbenchError(
            f"{weights or file} do not fit {title}: {len(lacking)} of {len(backbone)} tensors are missing, first "
            f"{lacking[0]}. {shapes[:200]}",
            "Use weights of this architecture and this number of channels.",
        )
    net.load_state_dict(fitting, strict=False)


def load_encoder(encoder: nn.Module, file: str, title: str) -> None:
    """Load the encoder of a network of smp from a file, whose names may have the prefix ``model.``.

    Args:
        encoder: the encoder.
        file: the file.
        title: name of the encoder, for error messages.

    Raises:
        LulcbenchError: the file is missing or damaged, or has another encoder or another number of channels.
    """
    state = {name.removeprefix("model.").removeprefix("encoder."): v for name, v in _read(file).items()}
    own = encoder.state_dict()
    # Of no effect, and not in ONNX files: counters, and the layers of EfficientNet behind the last feature map.
    unused = {k for k in own if k.endswith("num_batches_tracked") or k.startswith(("_conv_head.", "_bn1."))}
    lacking = [k for k, v in own.items() if k not in unused and (k not in state or state[k].shape != v.shape)]
    if lacking:
        raise LulcbenchError(
            f"{file} does not fit {title}: {len(lacking)} of {len(own) - len(unused)} tensors are missing or have "
            f"another shape, first {lacking[0]}.",
            "Use the file of this encoder, with this number of channels.",
        )
    encoder.load_state_dict({k: state[k] for k in own if k not in unused}, strict=False)


class InputOfWeights(nn.Module):
    """A network whose images are converted to the units and the size with which its weights were trained.

    Args:
        net: the network.
        imagery: the statistics by which its images are normalised.
        mean, std: those of the weights, per channel, in stored units; None leaves the images normalised as they are.
        size: side of the images in pixels, to which they are resampled (bilinear); None leaves it as it is.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self,
        net: nn.Module,
        imagery: Input,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        size: int | None,
    ) -> None:
        super().__init__()
        self.net, self.size = net, size
        own_mean, own_std = torch.tensor(imagery.mean), torch.tensor(imagery.std)
        mean_, std_ = (own_mean, own_std) if mean is None or std is None else (torch.tensor(mean), torch.tensor(std))
        if mean_.shape != own_mean.shape or std_.shape != own_std.shape:
            raise LulcbenchError(
                f"weights_mean and weights_std have {len(mean_)} and {len(std_)} values, the data {len(own_mean)} "
                "channels.",
                "Give one value per channel.",
            )
        self.register_buffer("scale", (own_std / std_).view(-1, 1, 1))
        self.register_buffer("shift", ((own_mean - mean_) / std_).view(-1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the outputs of the network."""
        x = x * self.scale + self.shift
        if self.size is not None:
            x = nn.functional.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        outputs: torch.Tensor = self.net(x)
        return outputs


def check_bands(weights: str, channels: Sequence[str]) -> None:
    """Check that weights of torchgeo were trained on these bands in this order.

    Args:
        weights: name of the weights.
        channels: names such as ``B04`` or ``summer:red``.

    Raises:
        LulcbenchError: the bands differ, or the weights are unknown.
    """
    landsat = ETM if "_ETM_SR_" in weights else OLI
    bands = _weight(weights).meta.get("bands", ())
    trained = [landsat.get(band) or re.sub(r"^B(\d)$", r"B0\1", band.upper()) for band in bands]
    given = [name.rpartition(":")[2] for name in channels]
    if trained and len(trained) == len(given) and given != trained:
        raise LulcbenchError(
            f"{weights} were trained on {', '.join(trained)}, in this order; the data have {', '.join(given)}.",
            "Set data.bands to those, or choose weights for these.",
        )


def unavailable(name: str, error: Exception, url: str | None = None) -> LulcbenchError:
    """The error for weights that are not available."""
    where = f" from {url}" if url else ""
    return LulcbenchError(
        f"Cannot get the weights {name}{where}: {error}.",
        f"Weights are downloaded; without a network put the file into {torch.hub.get_dir()}/checkpoints or the Hugging "
        "Face cache (HF_HOME), or set model.weights_file. To train from scratch, omit model.weights.",
    )


def _weight(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third-party import warnings
        from torchgeo.models import get_weight
    try:
        return get_weight(name)
    except ValueError as error:
        raise LulcbenchError(
            f"torchgeo has no weights {name!r}.", "Names look like ResNet50_Weights.SENTINEL2_RGB_MOCO."
        ) from error


def _torchgeo_state(name: str, channels: int) -> dict[str, torch.Tensor]:
    weight = _weight(name)
    expected = weight.meta.get("in_chans", channels)
    if expected != channels:
        raise LulcbenchError(
            f"{name} take {expected} channels, the data have {channels}.", "Choose the bands they were trained on."
        )
    try:
        state: dict[str, torch.Tensor] = weight.get_state_dict(progress=True)
    except (OSError, RuntimeError) as error:
        raise unavailable(name, error, weight.url) from error
    return state


def _read(file: str) -> dict[str, torch.Tensor]:
    path = expand(file)
    if not path.is_file():
        raise LulcbenchError(
            f"The weights file {path} is missing.", "Download it first, or omit weights_file to download it now."
        )
    if path.suffix == ".onnx":
        return _initializers(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)  # weights_only runs no code
        for key in ("state_dict", "model"):
            state = state.get(key, state)
        return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    except Exception as error:  # torch, pickle, struct, zipfile and safetensors raise errors of their own
        raise LulcbenchError(
            f"{path} is not a readable file of weights, or holds other things than tensors: {error}.",
            "Download it again, or give its tensors alone.",
        ) from error


def _initializers(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of an ONNX file by name."""
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph  # a file of unknown origin may name any other
        return {i.name: torch.from_numpy(onnx.numpy_helper.to_array(i).copy()) for i in graph.initializer}
    except Exception as error:  # the parser of protobuf raises errors of its own, without a common base class
        raise LulcbenchError(f"{path} is not a readable ONNX file: {error}.", "Download it again.") from error
