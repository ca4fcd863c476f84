"""Networks: what settings build, which weights they take, and what they refuse."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from baselines.config import Config
from baselines.data import Input
from baselines.data.patches import ALL, DISK_ORDER, RGB
from baselines.models._pretrained import check_bands
from baselines.models.network import count_parameters
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import LANDSAT

LANDSAT_BANDS = tuple(band.name for band in LANDSAT.bands)


def imagery(channels: int) -> dict[str, Input]:
    """EuroSAT's RGB, or as many channels without meaning."""
    names = RGB if channels == 3 else tuple(f"channel{i}" for i in range(channels))
    return {"sentinel2": Input(channels=names, mean=(0.0,) * channels, std=(1.0,) * channels, resolution=10)}


def test_frozen_backbones_train_their_head_alone() -> None:
    config = Config.parse(
        {"name": "a", "data": {"kind": "eurosat"}, "model": {"kind": "timm", "name": "resnet50", "freeze": True}}
    )
    count = count_parameters(config.model.build(imagery(3), 10))
    assert count == {"trainable": 2048 * 10 + 10, "total": 23_528_522}


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"name": "resnet_none"}, "no model"),
        ({"name": "test_vit", "stem": "small"}, "does not fit"),
        ({"weights": "ResNet50_Weights.NONE"}, "no weights"),
        ({"weights": "ResNet50_Weights.SENTINEL2_ALL_MOCO"}, "13 channels"),
        ({"weights": "ResNet50_Weights.SENTINEL2_RGB_MOCO"}, "weights_file"),
        ({"weights": "ResNet50_Weights.SENTINEL2_RGB_MOCO", "weights_file": "no.pth"}, "The weights file"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torchgeo's own imports
def test_weights_that_cannot_be_had_say_how(
    model: dict, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    config = Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": {"kind": "timm"} | model})
    with pytest.raises(LulcbenchError, match=says):
        config.model.build(imagery(3), 10)


def test_pretrained_backbones_are_loaded(tmp_path: Path) -> None:
    import timm

    source = timm.create_model("test_resnet", num_classes=0)
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in source.state_dict().items()}}, path)
    model = {"kind": "timm", "name": "test_resnet", "weights": "mine", "weights_file": str(path)}
    config = Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": model})
    net = config.model.build(imagery(3), 10)
    assert all(torch.equal(net.state_dict()[k], v) for k, v in source.state_dict().items())
    with pytest.raises(LulcbenchError, match="do not fit"):
        config.model.build(imagery(4), 10)
    unnamed = config.model.model_copy(update={"weights": None}).build(imagery(3), 10)
    assert torch.equal(unnamed.conv1[0].weight, net.conv1[0].weight)


@pytest.mark.parametrize(
    ("weights", "bands", "given"),
    [
        ("SENTINEL2_RGB_MOCO", ("B04", "B03", "B02"), ("B02", "B03", "B04")),
        ("SENTINEL2_ALL_MOCO", ALL, DISK_ORDER),
        ("LANDSAT_OLI_SR_MOCO", LANDSAT_BANDS, LANDSAT_BANDS[::-1]),
        ("LANDSAT_ETM_SR_MOCO", LANDSAT_BANDS[1:], LANDSAT_BANDS[:-1]),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torchgeo's own imports
def test_weights_want_their_bands_in_their_order(weights: str, bands: tuple[str, ...], given: tuple[str, ...]) -> None:
    check_bands(f"ResNet50_Weights.{weights}", [f"summer:{band}" for band in bands])
    with pytest.raises(LulcbenchError, match="in this order"):
        check_bands(f"ResNet50_Weights.{weights}", given)


def test_pretrained_googlenet_keeps_its_first_layer_on_any_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import googlenet

    source = googlenet(weights=None, init_weights=False, aux_logits=False)
    monkeypatch.setattr("torchvision.models.googlenet", lambda **_: deepcopy(source))  # instead of a download
    model = {"kind": "googlenet", "weights": "imagenet"}
    config = Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": model})
    first = source.conv1.conv.weight
    adapted = config.model.build(imagery(6), 10).conv1.conv.weight
    torch.testing.assert_close(adapted, torch.cat([first, first], 1) / 2)
    assert torch.equal(config.model.build(imagery(3), 10).conv1.conv.weight, first)


def test_googlenet_is_the_second_network() -> None:
    config = Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": {"kind": "googlenet"}})
    net = config.model.build(imagery(13), 10).eval()
    assert net(torch.zeros(2, 13, 64, 64)).shape == (2, 10)


@pytest.mark.parametrize("kind", ["unet", "deeplabv3plus"])
def test_segmentation_networks_give_outputs_for_every_pixel(kind: str) -> None:
    model = {"kind": kind, "encoder": "resnet18", "pixel_path": 4}
    config = Config.parse({"name": "a", "data": {"kind": "luisa-seg", "root": "r"}, "model": model})
    net = config.model.build(imagery(5), 7).eval()
    assert net(torch.zeros(2, 5, 64, 64)).shape == (2, 7, 64, 64)
    wrong = config.replace(model={"encoder": "resnet0"})
    with pytest.raises(LulcbenchError, match="no encoder 'resnet0'"):
        wrong.model.build(imagery(5), 7)
    with pytest.raises(LulcbenchError, match="images of one sensor; the data have landsat, sentinel2"):
        config.model.build({"landsat": imagery(5)["sentinel2"], **imagery(5)}, 7)
