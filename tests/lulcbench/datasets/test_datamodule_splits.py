"""Splits of the data module: any names, in four roles."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from lulcbench import LuisaCls, LuisaDataModule, LuisaSeg, Release
from lulcbench.errors import LulcbenchError, NotAvailableError
from tests.builders.labelled import IMAGERY, MAPPED, build

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.*treespec.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
]
OPTIONS = {"sensors": "landsat", "level": 1, "window": 1200, "batch_size": 8}


class Mean(pl.LightningModule):
    """Trains one weight; predicts the mean of every image."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.validated = 0

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        return self.layer(batch["image"].mean().view(1, 1)).sum()

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        self.validated += len(batch["tile"])

    def predict_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        assert "mask" not in batch
        return batch["image"].mean((1, 2, 3))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.0)


def trainer(folder: Path) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        max_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return build(tmp_path_factory.mktemp("mapped"), MAPPED)


@pytest.fixture(scope="module")
def imagery(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return build(tmp_path_factory.mktemp("imagery"), IMAGERY)


def splits(data: LuisaDataModule) -> dict[str, str]:
    return {role: dataset.split for role, dataset in data.datasets.items()}


def test_lightning_predicts_an_unlabelled_split(mapped: Release, tmp_path: Path) -> None:
    data = LuisaDataModule(root=mapped, predict_split="map", **OPTIONS)
    model = Mean()
    trainer(tmp_path).fit(model, datamodule=data)
    assert model.validated == len(data.datasets["val"])
    predicted = torch.cat(trainer(tmp_path).predict(model, datamodule=data))
    assert splits(data) == {"train": "train", "val": "val", "predict": "map"}
    images = LuisaSeg(mapped, "map", "landsat", labels=None, window=1200).read(range(len(predicted)))["image"]
    torch.testing.assert_close(predicted, images.mean((1, 2, 3)))


def test_roles_take_any_split(mapped: Release) -> None:
    data = LuisaDataModule(root=mapped, train_split="test", val_split="train", test_split="val", **OPTIONS)
    data.setup()
    assert splits(data) == {"train": "test", "val": "train", "test": "val", "predict": "val"}
    assert data.datasets["predict"] is data.datasets["test"]
    tiles = {tile for batch in data.val_dataloader() for tile in batch["tile"]}
    assert tiles == set(mapped.tiles("train").ids)
    assert {id(dataset.release) for dataset in data.datasets.values()} == {id(mapped)}  # opened once


def test_training_without_validation(mapped: Release, tmp_path: Path) -> None:
    data = LuisaDataModule(root=mapped, val_split=None, **OPTIONS)
    model = Mean()
    with pytest.warns(UserWarning, match="have no `val_dataloader`. Skipping val loop"):
        trainer(tmp_path).fit(model, datamodule=data)
    assert (model.validated, splits(data)) == (0, {"train": "train"})
    assert splits(pickle.loads(pickle.dumps(data))) == {"train": "train"}  # noqa: S301


def test_setup_without_a_stage_opens_what_the_release_has(imagery: Release) -> None:
    data = LuisaDataModule(root=imagery, predict_split="map", normalize=False, **OPTIONS)
    data.setup()
    assert splits(data) == {"predict": "map"}
    assert data.datasets["predict"].label_source is None
    batch = next(iter(data.predict_dataloader()))
    assert batch["tile"][0] in imagery.tiles("map").ids
    for dataloader in (data.train_dataloader, data.val_dataloader, data.test_dataloader):
        with pytest.raises(LulcbenchError, match="is not open"):
            dataloader()


def test_splits_that_a_release_lacks_are_named_with_those_that_it_has(imagery: Release, mapped: Release) -> None:
    data = LuisaDataModule(root=imagery, normalize=False, **OPTIONS)
    for stage, names in (("fit", "'train' or 'val'"), (None, "'train' or 'val' or 'test'"), ("predict", "'test'")):
        with pytest.raises(NotAvailableError, match=f"no split {names}.") as caught:
            data.setup(stage)
        assert "It has map: choose by " in caught.value.remedy
    with pytest.raises(NotAvailableError, match="no split 'mapp'") as caught:
        LuisaDataModule(root=mapped, predict_split="mapp", **OPTIONS).setup("predict")
    assert caught.value.remedy == "It has train, val, test, map: choose by predict_split."
    with pytest.raises(LulcbenchError, match="stage is 'fitt'"):
        data.setup("fitt")
    with pytest.raises(LulcbenchError, match="no test split") as caught:
        LuisaDataModule(root=mapped, test_split=None, **OPTIONS).test_dataloader()
    assert "test_split=" in caught.value.remedy


def test_labels_are_left_out_of_prediction_alone(mapped: Release) -> None:
    with pytest.raises(NotAvailableError, match="no luisa labels in its split 'map'"):
        LuisaDataModule(root=mapped, test_split="map", **OPTIONS).setup("test")
    with pytest.raises(NotAvailableError, match="no luiza labels"):
        LuisaDataModule(root=mapped, predict_split="map", labels="luiza", **OPTIONS).setup("predict")
    named = LuisaDataModule(root=mapped, predict_split="map", labels="luisa", **OPTIONS)
    named.setup()
    assert named.datasets["test"].label_source == "luisa"
    assert named.datasets["predict"].label_source is None


def test_a_release_is_downloaded_by_split(mapped: Release, tmp_path: Path) -> None:
    data = LuisaDataModule(
        root=tmp_path / "here", download=mapped.root, test_split=None, predict_split="map", **OPTIONS
    )
    data.setup("predict")
    assert splits(data) == {"predict": "map"}
    files = {file.path: file.split for file in mapped.manifest.files if file.array is not None and file.split}
    arrived = {split for path, split in files.items() if (tmp_path / "here" / path).exists()}
    assert arrived == {"map"}
    data.setup()
    assert splits(data) == {"predict": "map", "train": "train", "val": "val"}


def test_other_data_open_all_roles(mapped: Release) -> None:
    """A dataset that does not name a release has the usual splits."""
    data = LuisaDataModule(functools.partial(LuisaCls, mapped, purity=0.1), sensors="landsat", level=1)
    data.setup("fit")
    assert splits(data) == {"train": "train", "val": "val"}
    assert set(next(iter(data.val_dataloader()))["label"].tolist()) <= set(range(5))


def test_the_seed_moves_the_windows_of_training_alone(mapped: Release) -> None:
    def origins(seed_: int, **options: Any) -> list[Any]:
        data = LuisaDataModule(root=mapped, **OPTIONS, train={"phase": "random", **options}, seed=seed_)
        data.setup("fit")
        return [data.datasets[role].locate(range(9)).offsets.tolist() for role in ("train", "val")]

    (first, val), (second, same) = origins(1), origins(2)
    assert first != second
    assert val == same
    assert origins(1)[0] == first
    assert origins(2, seed=1)[0] == first  # an option of the split goes first


class Means(Mean):
    """Keeps the mean of the images of each stage."""

    def __init__(self) -> None:
        super().__init__()
        self.means: dict[str, list[float]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        self.means["train"].append(float(batch["image"].mean()))
        return super().training_step(batch, index)

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        self.means["val"].append(float(batch["image"].mean()))

    def test_step(self, batch: dict[str, Any], index: int) -> None:
        self.means["test"].append(float(batch["image"].mean()))


def test_splits_are_normalised_by_their_own_statistics_on_the_device(mapped: Release, tmp_path: Path) -> None:
    dark = {"landsat": {band.name: (0.0, 1.0) for band in mapped.manifest.sensor("landsat").bands}}
    means = {}
    for normalize in (True, "device"):
        data = LuisaDataModule(root=mapped, **OPTIONS, test={"statistics": dark}, normalize=normalize)
        model = Means()
        own = trainer(tmp_path)
        own.fit(model, data)
        own.test(model, data, verbose=False)
        means[normalize] = model.means
    for role, values in means[True].items():
        assert means["device"][role] == pytest.approx(values, abs=1e-4)
    assert abs(means[True]["train"][0]) < 2
    assert means[True]["test"][0] > 0.01
