"""The networks: UNet and DeepLabv3+ (smp), any timm classifier such as ResNet-50, and GoogLeNet (torchvision)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from baselines.config import ClassificationModel, SegmentationModel, expand
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import LANDSAT

# Landsat's own names of surface reflectance bands → those of releases.
OLI = dict(zip((f"SR_B{n}" for n in range(1, 8)), (band.name for band in LANDSAT.bands), strict=True))
ETM = dict(zip((f"SR_B{n}" for n in (1, 2, 3, 4, 5, 7)), list(OLI.values())[1:], strict=True))


def build(config: SegmentationModel | ClassificationModel, channels: int, classes: int) -> nn.Module:
    """A network that maps ``(b, channels, h, w)`` to ``(b, classes, h, w)`` or ``(b, classes)`` logits.

    Raises:
        LulcbenchError: an unknown encoder or model, or weights that cannot be had or do not fit.
    """
    if isinstance(config, SegmentationModel):
        net = _segmentation(config, channels, classes)
        return net if config.pixel_path is None else PixelPath(net, channels, config.pixel_path, classes)
    net = _googlenet(config, channels, classes) if config.kind == "googlenet" else _timm(config, channels, classes)
    if config.weights_file or config.weights not in (None, "imagenet"):
        _load(net, config, channels)
    if config.stem != "standard":
        _enlarge_stem(net, config, channels)
    if config.freeze:
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        for parameter in head(net).parameters():
            parameter.requires_grad_(True)
    return net


class PixelPath(nn.Module):
    """A segmentation network plus a small network of single pixels; the sum of their logits."""

    def __init__(self, net: nn.Module, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.net = net
        self.path = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(b, class, h, w)``."""
        logits: torch.Tensor = self.net(x) + self.path(x)
        return logits


def head(net: nn.Module) -> nn.Module:
    """The classification layer."""
    classifier = net.get_classifier() if hasattr(net, "get_classifier") else net.fc
    return classifier  # type: ignore[no-any-return]


def count_parameters(net: nn.Module) -> dict[str, int]:
    """Trainable and total numbers of parameters."""
    numbers = [(p.numel(), p.requires_grad) for p in net.parameters()]
    return {"trainable": sum(n for n, on in numbers if on), "total": sum(n for n, _ in numbers)}


def _segmentation(config: SegmentationModel, channels: int, classes: int) -> nn.Module:
    import segmentation_models_pytorch as smp

    common = {
        "encoder_name": config.encoder,
        "encoder_weights": config.weights,
        "in_channels": channels,
        "classes": classes,
    }
    try:
        if config.kind == "deeplabv3plus":
            return smp.DeepLabV3Plus(**common)
        default = (256, 128, 64, 32, 16)[: config.depth]
        return smp.Unet(**common, encoder_depth=config.depth, decoder_channels=config.decoder_channels or default)
    except KeyError as error:
        raise LulcbenchError(
            f"smp has no encoder {config.encoder!r}.", "See segmentation_models_pytorch.encoders.get_encoder_names()."
        ) from error
    except OSError as error:
        raise _unavailable(str(config.weights), error) from error


def _timm(config: ClassificationModel, channels: int, classes: int) -> nn.Module:
    import timm

    if not timm.is_model(config.name):
        near = ", ".join(timm.list_models(f"{config.name[:6]}*")[:8]) or "none"
        raise LulcbenchError(f"timm has no model {config.name!r}.", f"Similar names: {near}.")
    imagenet = config.weights == "imagenet" and config.weights_file is None
    options: dict[str, Any] = {"drop_rate": config.drop, "num_classes": classes, "in_chans": channels}
    if config.drop_path:
        options["drop_path_rate"] = config.drop_path
    try:
        net: nn.Module = timm.create_model(config.name, pretrained=imagenet, **options)
    except (OSError, RuntimeError) as error:
        raise _unavailable("imagenet", error) from error
    return net


def _enlarge_stem(net: nn.Module, config: ClassificationModel, channels: int) -> None:
    conv = None if config.kind == "googlenet" else getattr(net, "conv1", None)
    if not isinstance(conv, nn.Conv2d) or not hasattr(net, "maxpool"):
        raise LulcbenchError(f"stem = {config.stem!r} does not fit {_name(config)}.", "It is for plain ResNets.")
    net.maxpool = nn.Identity()
    if config.stem == "no-pool":
        return
    if config.weights or config.weights_file:
        raise LulcbenchError("stem = 'small' discards the pretrained first layer.", "Use stem = 'no-pool'.")
    net.conv1 = nn.Conv2d(channels, conv.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")


def _googlenet(config: ClassificationModel, channels: int, classes: int) -> nn.Module:
    from timm.models import adapt_input_conv
    from torchvision.models import GoogLeNet_Weights, googlenet

    if config.weights not in (None, "imagenet") and config.weights_file is None:
        raise LulcbenchError(f"There are no {config.weights} for GoogLeNet.", "Use weights = 'imagenet' or none.")
    if config.drop_path:
        raise LulcbenchError("GoogLeNet knows no drop_path.", "Leave it out, or use drop.")
    if config.weights is None or config.weights_file is not None:
        net = googlenet(weights=None, init_weights=True, aux_logits=False, num_classes=classes)
    else:
        try:
            net = googlenet(weights=GoogLeNet_Weights.IMAGENET1K_V1)
        except OSError as error:
            raise _unavailable("imagenet", error) from error
        net.fc = nn.Linear(net.fc.in_features, classes)
        net.transform_input = False  # inputs come normalised by the train split
    if channels != 3:
        first = net.conv1.conv
        net.conv1.conv = nn.Conv2d(channels, first.out_channels, 7, stride=2, padding=3, bias=False)
        # As timm does: pretrained filters repeat over the channels, scaled so that their sum stays.
        net.conv1.conv.weight = nn.Parameter(adapt_input_conv(channels, first.weight.detach()))
    net.dropout.p = config.drop
    return net


def _load(net: nn.Module, config: ClassificationModel, channels: int) -> None:
    """Load torchgeo weights (or a file) into the backbone; the head stays new."""
    if config.weights_file is not None:
        path = expand(config.weights_file)
        if not path.is_file():
            raise LulcbenchError(
                f"No weights file {path}.", "Fetch it first, or leave weights_file out to have it downloaded."
            )
        state = _read(path)
    else:
        state = _torchgeo_state(str(config.weights), channels)
    own = net.state_dict()
    state = {k.removeprefix("backbone."): v for k, v in state.items()}
    backbone = {k for k in own if not k.startswith(("fc.", "head.", "classifier."))}
    fitting = {k: v for k, v in state.items() if k in backbone and own[k].shape == v.shape}
    lacking = sorted(backbone - set(fitting))
    if lacking:
        shapes = "; ".join(f"{k}: {tuple(state[k].shape)} ≠ {tuple(own[k].shape)}" for k in lacking if k in state)
        raise LulcbenchError(
            f"{config.weights or config.weights_file} do not fit {_name(config)}: {len(lacking)} of {len(backbone)} "
            f"tensors lack, first {lacking[0]}. {shapes[:200]}",
            "Use weights of this architecture and this number of channels.",
        )
    net.load_state_dict(fitting, strict=False)


def check_bands(config: SegmentationModel | ClassificationModel, names: Sequence[str]) -> None:
    """Refuse torchgeo weights that were trained on other bands, or on these in another order.

    Args:
        config: the model.
        names: of the channels, such as ``B04`` or ``summer:red``.

    Raises:
        LulcbenchError: they differ, or there are no such weights.
    """
    if isinstance(config, SegmentationModel) or config.weights_file or config.weights in (None, "imagenet"):
        return
    landsat = ETM if "_ETM_SR_" in config.weights else OLI
    bands = _weight(config.weights).meta.get("bands", ())
    trained = [landsat.get(band) or re.sub(r"^B(\d)$", r"B0\1", band.upper()) for band in bands]
    given = [name.rpartition(":")[2] for name in names]
    if trained and given != trained:
        raise LulcbenchError(
            f"{config.weights} were trained on {', '.join(trained)}, in this order; the data give {', '.join(given)}.",
            "Set data.bands to those, or choose weights for these.",
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
        raise _unavailable(name, error, weight.url) from error
    return state


def _name(config: ClassificationModel) -> str:
    return "GoogLeNet" if config.kind == "googlenet" else config.name


def _read(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)  # weights_only runs no code
    for key in ("state_dict", "model"):
        state = state.get(key, state)
    return state  # type: ignore[no-any-return]


def _unavailable(name: str, error: Exception, url: str | None = None) -> LulcbenchError:
    where = f" from {url}" if url else ""
    return LulcbenchError(
        f"Cannot get the weights {name}{where}: {error}.",
        f"With a network they come by themselves; without, put the file into {torch.hub.get_dir()}/checkpoints or the "
        "Hugging Face cache (HF_HOME), or name it in model.weights_file. To train from scratch, leave weights out.",
    )
