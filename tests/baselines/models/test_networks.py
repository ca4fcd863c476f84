"""Networks: what settings build, which weights they take, and what they refuse."""

from __future__ import annotations

import pickle
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from lightning import seed_everything
from safetensors.torch import save_file

from baselines.config import Config
from baselines.data import Input
from baselines.data.patches import ALL, DISK_ORDER, RGB
from baselines.experiment import Experiment
from baselines.models._pretrained import check_bands
from baselines.models.network import count_parameters
from baselines.training.history import OutOfTime
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


def test_weights_with_other_names_are_assigned_by_order(tmp_path: Path) -> None:
    import timm

    source = timm.create_model("test_resnet", num_classes=1000)
    named = {f"layer{i}": v for i, v in enumerate(source.state_dict().values())}
    torch.save(named, tmp_path / "weights.pth")
    model = {"kind": "timm", "name": "test_resnet", "weights_file": str(tmp_path / "weights.pth")}
    with pytest.raises(LulcbenchError, match="do not fit"):
        Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": model}).model.build(imagery(3), 10)
    config = Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": model | {"weights_by_order": True}})
    net = config.model.build(imagery(3), 10)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in source.state_dict().items() if not k.startswith("fc."))
    swapped = list(named.items())[1:] + list(named.items())[:1]
    torch.save(dict(swapped), tmp_path / "weights.pth")
    with pytest.raises(LulcbenchError, match="do not fit"):
        config.model.build(imagery(3), 10)


def test_pretrained_networks_see_the_units_and_the_size_of_their_weights() -> None:
    stored = torch.randint(0, 256, (2, 3, 64, 64)).float()
    mean, std = torch.tensor([80.0, 90.0, 100.0]), torch.tensor([50.0, 40.0, 30.0])
    data = {"sentinel2": Input(channels=RGB, mean=tuple(mean.tolist()), std=tuple(std.tolist()), resolution=10)}
    units = {"weights_mean": [127.5] * 3, "weights_std": [127.5] * 3, "size": 96}
    model = {"kind": "timm", "name": "test_resnet"} | units
    net = Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": model}).model.build(data, 10).eval()
    expected = torch.nn.functional.interpolate(stored / 127.5 - 1, size=(96, 96), mode="bilinear")
    given = (stored - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(net(given), net.net(expected), atol=1e-4, rtol=1e-4)
    with pytest.raises(LulcbenchError, match="one value per channel"):
        Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": model}).model.build(imagery(4), 10)
    with pytest.raises(LulcbenchError, match="belong together"):
        Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": model | {"weights_std": None}})


def test_a_probe_fits_the_head_to_features_and_nothing_else(eurosat_root: Path, tmp_path: Path) -> None:
    model = {"kind": "timm", "name": "test_efficientnet", "probe": 1.0, "size": 64}
    data = {"kind": "eurosat", "root": str(eurosat_root)}
    config = Config.parse({"name": "a", "data": data, "model": model, "predict": {"calibrate": False}})
    experiment = Experiment.open(config)
    fitted = config.model.fit(experiment, tmp_path)
    fitted.predictor.save(tmp_path)
    loaded = config.model.load(tmp_path, config, experiment.task)
    fresh = seeded(config, experiment)
    for name, before in fresh.state_dict().items():
        after = loaded.net.state_dict()[name]
        assert torch.equal(before, after) != name.startswith("net.classifier."), name
    dataset = experiment.data.datasets["train"]
    batch = dataset.finish(dataset.read(range(len(dataset))))
    assert (loaded(batch["image"]).argmax(1) == batch["label"]).float().mean() > 0.9
    with pytest.raises(OutOfTime):
        config.model.fit(experiment, tmp_path, deadline=0.0)


def seeded(config: Config, experiment: Experiment) -> torch.nn.Module:
    """The network before training."""
    seed_everything(config.seed, verbose=False)
    return config.model.build(experiment.info.inputs, experiment.task.outputs)


def test_encoders_are_loaded_from_files_of_whole_networks(tmp_path: Path) -> None:
    import onnx
    import segmentation_models_pytorch as smp

    source = smp.Unet("resnet18", encoder_weights=None, in_channels=6, classes=3)
    tensors = [
        onnx.numpy_helper.from_array(v.numpy(), f"model.{k}")
        for k, v in source.state_dict().items()
        if not k.endswith("num_batches_tracked")
    ]
    graph = onnx.helper.make_graph([], "weights", [], [], initializer=tensors)
    path = tmp_path / "weights.onnx"
    onnx.save(onnx.helper.make_model(graph), path)
    model = {"kind": "unet", "encoder": "resnet18", "weights_file": str(path)}
    data = {"kind": "luisa-seg", "root": "unused", "sensors": "landsat"}
    config = Config.parse({"name": "a", "data": data, "model": model})
    net = config.model.build(imagery(6), 10).net
    for name, value in source.encoder.state_dict().items():
        assert torch.equal(net.encoder.state_dict()[name], value)
    assert config.model.pretraining == "weights.onnx"
    scratch = config.model.without_weights().build(imagery(6), 10).net.encoder
    assert not torch.equal(scratch.conv1.weight, net.encoder.conv1.weight)
    with pytest.raises(LulcbenchError, match="does not fit resnet18: 1 of"):
        config.model.build(imagery(3), 10)
    path.write_bytes(b"no model")
    with pytest.raises(LulcbenchError, match="not a readable ONNX file"):
        config.model.build(imagery(6), 10)


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    import timm

    def build(name: str, **more: object) -> None:
        model = {"kind": "timm", "name": "test_resnet", "weights_file": str(tmp_path / name)} | more
        Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": model}).model.build(imagery(3), 10)

    (tmp_path / "junk.pth").write_bytes(b"junk")
    (tmp_path / "code.pth").write_bytes(pickle.dumps({"a": print}, protocol=2))
    (tmp_path / "junk.safetensors").write_bytes(b"junk" * 100)
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("junk.pth", "code.pth", "junk.safetensors", "list.pth"):
        with pytest.raises(LulcbenchError, match=f"{name} is not a readable file of weights"):
            build(name)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "sorted.safetensors")
    build("sorted.safetensors")
    with pytest.raises(LulcbenchError, match="in the order of their names"):
        build("sorted.safetensors", weights_by_order=True)
