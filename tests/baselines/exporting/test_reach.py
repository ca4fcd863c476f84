"""The reach of networks: known where it follows from their kernels, never below what a prediction depends on."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.exporting.reach import receptive_field
from baselines.models._grids import Padded
from baselines.models.fusion import Fusion, FusionNet

INPUTS: Any = {"landsat": SimpleNamespace(resolution=30, channels=["a"] * 3)}


class Call(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def between(layer: nn.Module) -> nn.Module:
    """A network with a reach of 3 pixels apart from that of a layer of four channels."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), layer, nn.Conv2d(4, 5, 5, padding=2)).eval()


def channels_last(x: Tensor) -> Tensor:
    return functional.layer_norm(x.movedim(1, -1), (4,)).movedim(-1, 1)


LOCAL = {
    "ReLU6": nn.ReLU6(),
    "Hardsigmoid": nn.Hardsigmoid(),
    "relu6": Call(functional.relu6),
    "clamp": Call(lambda x: x.clamp(0, 1)),
    "sigmoid": Call(lambda x: (1000 * x).sigmoid()),
    "softmax": Call(lambda x: x.softmax(1)),
    "layer_norm": Call(channels_last),
    "normalize": Call(functional.normalize),
    "BatchNorm": nn.BatchNorm2d(4),
    "gate": Call(lambda x: x * torch.tanh(x)),
    "in place": Call(lambda x: functional.hardtanh_(x.clone())),
}


@pytest.mark.parametrize("name", LOCAL)
def test_functions_that_saturate_hide_no_pixels(name: str) -> None:
    assert receptive_field(between(LOCAL[name]), INPUTS) == 3


@pytest.mark.parametrize(
    ("layer", "reach"),
    [
        (nn.MaxPool2d(3, 1, 1), 4),
        (nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(3, 1, 1, 2)), 5),
        (nn.AvgPool2d(3, 1, 1), 4),
    ],
    ids=["maximum", "maximum with dilation", "mean"],
)
def test_windows_of_pooling_add_to_the_reach(layer: nn.Module, reach: int) -> None:
    assert receptive_field(between(layer), INPUTS) == reach


UNBOUNDED = {
    "GroupNorm": nn.GroupNorm(2, 4),
    "InstanceNorm": nn.InstanceNorm2d(4),
    "mean": Call(lambda x: x * x.mean((2, 3), keepdim=True)),
    "less the mean of channels": Call(lambda x: x - x.mean(1, keepdim=True)),  # gradients cancel: not known
    "without gradient": Call(lambda x: x.detach()),
    "maximum of all": Call(lambda x: functional.adaptive_max_pool2d(x, 1) + x),
    "places of maxima": Call(
        lambda x: functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), kernel_size=2)
    ),
    "comparison": Call(lambda x: x + (functional.avg_pool2d(x, 9, 1, 4) > x).to(x)),
}


@pytest.mark.parametrize("name", UNBOUNDED)
def test_networks_whose_reach_is_not_bounded_or_not_known_have_none(name: str) -> None:
    assert receptive_field(between(UNBOUNDED[name]), INPUTS) is None


def test_an_input_without_gradient_leaves_the_reach_unknown() -> None:
    class First(nn.Module):
        def forward(self, images: dict[str, Tensor]) -> Tensor:
            return images["landsat"] * 2.0

    assert receptive_field(First(), INPUTS | {"other": INPUTS["landsat"]}) is None


def unet(encoder: str) -> nn.Module:
    channels = [64, 32, 16, 16, 8]
    net = smp.Unet(encoder, encoder_weights=None, in_channels=3, classes=5, decoder_channels=channels)
    return Padded(net, net.encoder.output_stride)


def deeplab(encoder: str) -> nn.Module:
    net = smp.DeepLabV3Plus(encoder, encoder_weights=None, in_channels=3, classes=5)
    return Padded(net, 32)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`timm-` encoders are deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("build", "encoder", "reach"),
    [
        (unet, "resnet18", 297),
        (unet, "mobilenet_v2", 325),
        (unet, "mit_b0", None),  # attention over all pixels
        (unet, "timm-efficientnet-b0", None),  # means over all pixels
        (deeplab, "resnet18", None),
    ],
    ids=["resnet18", "mobilenet_v2", "mit_b0", "efficientnet", "DeepLabv3+"],
)
def test_the_reach_covers_what_a_network_depends_on(
    build: Callable[[str], nn.Module], encoder: str, reach: int | None
) -> None:
    torch.manual_seed(0)
    net = build(encoder)
    net.train()
    with torch.no_grad():
        net(torch.randn(2, 3, 64, 64))  # statistics of norms that are not those of a new network
    net.double().eval()
    assert receptive_field(net, INPUTS) == reach
    side = 1024 if reach else 512
    start = side // 2  # as the blocks of a map, at a multiple of 32 pixels
    image = torch.randn(1, 3, 64, side, dtype=torch.float64)
    for distance, changes in ((reach, False), (reach // 2, True)) if reach else ((200, True),):
        other = 5 * image + 3
        kept = slice(start - distance, start + 32 + distance)
        other[..., kept] = image[..., kept]
        with torch.no_grad():
            before, after = (net(x)[..., start : start + 32] for x in (image, other))
        assert bool((before - after).abs().max() > 1e-12) == changes


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["early", "middle", "late"])
def test_the_reach_of_fusion_is_that_over_all_sensors(mode: Any) -> None:
    inputs: Any = {
        "sentinel2": SimpleNamespace(resolution=10, channels=["a"] * 2),
        "landsat": SimpleNamespace(resolution=30, channels=["a"] * 3),
    }
    torch.manual_seed(0)
    config = Fusion(encoder="tu-test_resnet", depth=3, decoder_channels=(16, 16, 8), width=8, mode=mode)
    net = FusionNet(config, inputs, 5).double().eval()
    reach = receptive_field(net, inputs)
    assert reach is not None
    start, side = 192 * 3, 384 * 3
    fine, coarse = (torch.randn(1, n, 96 * s, 384 * s, dtype=torch.float64) for n, s in ((2, 3), (3, 1)))
    fine, coarse = fine[..., :96, :], coarse[..., :32, :]
    assert fine.shape[-1] == side
    for distance, changes in ((reach, False), (0, True)):
        low, high = start - distance, start + 32 + distance
        others = {"sentinel2": 5 * fine + 3, "landsat": 5 * coarse + 3}
        others["sentinel2"][..., low:high] = fine[..., low:high]
        others["landsat"][..., low // 3 : -(-high // 3)] = coarse[..., low // 3 : -(-high // 3)]
        with torch.no_grad():
            before = net({"sentinel2": fine, "landsat": coarse})[..., start : start + 32]
            after = net(others)[..., start : start + 32]
        assert bool((before - after).abs().max() > 1e-12) == changes
