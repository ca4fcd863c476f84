"""A model, a task and a kind of data are each added by one class that registers itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from baselines.config import Config
from baselines.data import DATA, DataInfo, Input
from baselines.data.luisa import LuisaSegData
from baselines.experiment import Experiment
from baselines.models import MODELS
from baselines.models.network import NetworkConfig
from baselines.registry import Count, Kind, Registry
from baselines.run import load_run
from baselines.tasks import TASKS
from baselines.tasks.segmentation import Segmentation, SegmentationConfig
from baselines.train import train
from baselines.training.history import read_history
from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX


class Fusion(NetworkConfig):
    """Single pixels of several sensors, of which the first gives the grid."""

    kind: Literal["toy-fusion"] = "toy-fusion"
    title: ClassVar[str] = "toy fusion"
    dense: ClassVar[bool] = True
    width: Count = 16

    def build(self, inputs: Mapping[str, Input], outputs: int) -> nn.Module:
        return FusionNet({name: len(i.channels) for name, i in inputs.items()}, self.width, outputs)


class FusionNet(nn.Module):
    def __init__(self, channels: Mapping[str, int], width: int, outputs: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: nn.Conv2d(n, width, 1) for name, n in channels.items()})
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, images: dict[str, Tensor]) -> Tensor:
        size = next(iter(images.values())).shape[-2:]
        parts = [nn.functional.adaptive_avg_pool2d(self.encoders[name](image), size) for name, image in images.items()]
        return self.head(torch.stack(parts).sum(0).relu())  # type: ignore[no-any-return]


class WithEdges(SegmentationConfig):
    """Classes, and one more output: how much of a label pixel's neighbourhood bears other classes."""

    kind: Literal["toy-edges"] = "toy-edges"

    def build(self, info: DataInfo) -> WithEdgesTask:
        return WithEdgesTask(self, info)


class WithEdgesTask(Segmentation):
    def __init__(self, config: SegmentationConfig, info: DataInfo) -> None:
        super().__init__(config, info)
        self.outputs = len(info.classes) + 1
        self.log_variance = nn.Parameter(torch.zeros(1))  # a weight of the loss that is learnt, as in multi-task losses

    def edges(self, batch: Sample) -> Tensor:
        truth = self.truth(batch).float()[:, None]
        return (nn.functional.avg_pool2d(truth, 3, 1, 1) != truth).float()

    def loss(self, outputs: Tensor, batch: Sample) -> Tensor:
        edges = nn.functional.adaptive_avg_pool2d(outputs[:, -1:].float().sigmoid(), batch["mask"].shape[-2:])
        off = nn.functional.mse_loss(edges, self.edges(batch))
        return super().loss(outputs[:, :-1], batch) + off * (-self.log_variance).exp()[0] + self.log_variance[0]

    def activate(self, outputs: Tensor) -> Tensor:
        return super().activate(outputs[:, :-1])

    def metrics(self, p: Tensor, truth: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        known = truth != IGNORE_INDEX
        return super().metrics(p, truth) | {
            "confidence": ((p.amax(1) * known).sum(), known.sum()),
            "log_variance": (self.log_variance.detach()[0], torch.ones(())),
        }


class SummerData(LuisaSegData):
    """The summers of a release."""

    kind: Literal["toy-summer"] = "toy-summer"
    seasons: tuple[str, ...] = ("summer",)


@pytest.fixture
def registered() -> Iterator[None]:
    toys: list[tuple[Registry[Any], type[Kind]]] = [(MODELS, Fusion), (TASKS, WithEdges), (DATA, SummerData)]
    for registry, cls in toys:
        registry.register(cls)
    yield
    for registry, cls in toys:
        registry.unregister(cls.model_fields["kind"].default)


TOML = """
name = "toy"
[data]
kind = "toy-summer"
root = "{root}"
sensors = ["landsat", "sentinel2"]
level = 1
[task]
kind = "toy-edges"
[model]
kind = "toy-fusion"
[train]
epochs = 4
batch_size = 2
lr = 1e-2
ema = 0.5
[predict]
tta = true
batch_size = 1
"""


@pytest.mark.slow
@pytest.mark.usefixtures("registered")
def test_a_new_model_task_and_kind_of_data_are_trained_and_predicted_by_a_config(
    release_root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(TOML.format(root=release_root.as_posix()))
    config = Config.load(path, ("model.width=8",))
    assert type(config.model) is Fusion
    assert config.replace(model={"width": 9}).digest != config.digest
    experiment = Experiment.open(config)
    assert {name: len(i.channels) for name, i in experiment.info.inputs.items()} == {"landsat": 6, "sentinel2": 5}
    trained = train(experiment, tmp_path)
    rows = read_history(tmp_path / "toy")
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert 0 < rows[-1]["val_confidence"] <= 1
    assert 0 != rows[-1]["val_log_variance"] != rows[0]["val_log_variance"]  # trained with the network
    trained.task.predict(trained, tmp_path / "toy")
    scores = trained.task.score(config, tmp_path / "toy")
    assert 0 < scores["overall_accuracy"] < 1
    assert "toy fusion, 8 steps" in (tmp_path / "toy" / "submission.toml").read_text()
    images = experiment.data.datasets["val"].read([0])["image"]
    assert torch.equal(load_run(tmp_path / "toy").predictor(images), trained.predictor(images))
    with pytest.raises(LulcbenchError, match="images of one sensor"):
        train(Experiment.open(Config.parse(config.model_dump() | {"name": "one", "model": {"kind": "unet"}})), tmp_path)


def test_what_was_registered_is_gone_with_its_file(release_root: Path) -> None:
    with pytest.raises(LulcbenchError, match="no model of kind 'toy-fusion'"):
        Config.parse(
            {"name": "a", "data": {"kind": "luisa-seg", "root": str(release_root)}, "model": {"kind": "toy-fusion"}}
        )


def test_only_one_class_of_a_kind_and_of_the_right_base_can_be_registered() -> None:
    registry = Registry("model", NetworkConfig)
    registry.register(Fusion)
    assert list(registry) == ["toy-fusion"]
    with pytest.raises(TypeError, match="model 'toy-fusion' is already registered: Fusion"):
        registry.register(Fusion)
    with pytest.raises(TypeError, match="SummerData is not a NetworkConfig with a kind"):
        registry.register(SummerData)
