"""Pretrained weights of torchgeo, or of a file, for the encoders of classifiers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from baselines.registry import expand
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import LANDSAT

# Names of surface reflectance bands in Landsat products → names in releases.
OLI = dict(zip((f"SR_B{n}" for n in range(1, 8)), (band.name for band in LANDSAT.bands), strict=True))
ETM = dict(zip((f"SR_B{n}" for n in (1, 2, 3, 4, 5, 7)), list(OLI.values())[1:], strict=True))


def load_backbone(net: nn.Module, weights: str | None, file: str | None, title: str, channels: Sequence[str]) -> None:
    """Load weights of torchgeo, or of a file, into a classifier, except into its head.

    Args:
        net: the classifier.
        weights: name of the weights.
        file: file to read instead of downloading the weights.
        title: name of the network, for error messages.
        channels: names of the channels of the network.

    Raises:
        LulcbenchError: the weights are unknown or not available, were trained on other bands, or do not fit.
    """
    if file is not None:
        path = expand(file)
        if not path.is_file():
            raise LulcbenchError(
                f"The weights file {path} is missing.", "Download it first, or omit weights_file to download it now."
            )
        state = _read(path)
    else:
        check_bands(str(weights), channels)
        state = _torchgeo_state(str(weights), len(channels))
    own = net.state_dict()
    state = {k.removeprefix("backbone."): v for k, v in state.items()}
    backbone = {k for k in own if not k.startswith(("fc.", "head.", "classifier."))}
    fitting = {k: v for k, v in state.items() if k in backbone and own[k].shape == v.shape}
    lacking = sorted(backbone - set(fitting))
    if lacking:
        shapes = "; ".join(f"{k}: {tuple(state[k].shape)} ≠ {tuple(own[k].shape)}" for k in lacking if k in state)
        raise LulcbenchError(
            f"{weights or file} do not fit {title}: {len(lacking)} of {len(backbone)} tensors are missing, first "
            f"{lacking[0]}. {shapes[:200]}",
            "Use weights of this architecture and this number of channels.",
        )
    net.load_state_dict(fitting, strict=False)


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


def _read(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)  # weights_only runs no code
    for key in ("state_dict", "model"):
        state = state.get(key, state)
    return state  # type: ignore[no-any-return]
