from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from lulcbench import LuisaChange, LuisaCls, LuisaDataModule, LuisaSeg
from lulcbench.datasets import collate
from lulcbench.datasets.augment import Dihedral, Gain, Noise
from lulcbench.datasets.batch import Samples
from lulcbench.datasets.loader import ResidentLoader, WindowLoader
from lulcbench.datasets.sampler import WindowSampler
from lulcbench.errors import LulcbenchError

# Third parties: torch.jit in kornia and torchmetrics, torchgeo's renaming of its tasks, Lightning's advice.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Use torchgeo.tasks:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.*treespec.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
]


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    quick = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1, "limit_test_batches": 1}
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(accelerator="cpu", default_root_dir=folder, **quick | quiet | options)


@pytest.mark.slow
def test_torchgeo_segmentation_task_as_it_is(release_root: Path, tmp_path: Path) -> None:
    from torchgeo.trainers import SemanticSegmentationTask

    data = LuisaDataModule(
        root=release_root, sensors="landsat", level=2, window=1920, batch_size=2, augment=Dihedral(), balanced=True
    )
    data.setup()
    task = SemanticSegmentationTask(
        model="unet",
        backbone="resnet18",
        in_channels=data.datasets["train"].in_channels["landsat"],
        num_classes=14,
        task="multiclass",
        ignore_index=255,
        loss="ce",
    )
    run = trainer(tmp_path)
    run.fit(task, datamodule=data)
    assert torch.isfinite(run.callback_metrics["train_loss"])
    run.test(task, datamodule=data, verbose=False)


def test_torchgeo_classification_task_as_it_is(release_root: Path, tmp_path: Path) -> None:
    from torchgeo.trainers import ClassificationTask

    data = LuisaDataModule(LuisaCls, root=release_root, sensors="landsat", level=1, purity=0.3, batch_size=4)
    data.setup()
    task = ClassificationTask(
        model="resnet18", in_channels=data.datasets["train"].in_channels["landsat"], num_classes=5, task="multiclass"
    )
    run = trainer(tmp_path)
    run.fit(task, datamodule=data)
    assert torch.isfinite(run.callback_metrics["train_loss"])


def test_windows_move_with_lightnings_epochs(release_root: Path, tmp_path: Path) -> None:
    data = LuisaDataModule(root=release_root, sensors="landsat", window=960, train={"phase": "random"}, batch_size=4)
    seen: list[int] = []

    class Watch(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
            seen.append(data.datasets["train"].epoch)
            return self.layer(batch["image"].mean().view(1, 1)).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.0)

    data.setup("fit")
    trainer(tmp_path, max_epochs=3).fit(Watch(), data.train_dataloader())
    assert seen == [0, 0, 1, 1, 2, 2]


class Seen(pl.LightningModule):
    """Keeps what it is trained on: where its windows lie, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.batches: list[tuple[list[list[float]], float]] = []

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        self.batches.append((batch["bounds"].tolist(), float(batch["image"].double().mean())))
        return self.layer(batch["image"].mean().view(1, 1)).sum()

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.0)


class Save(pl.Callback):
    """A checkpoint after every step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "resident", "steps"), [(0, False, (3, 8, 11, 16)), (0, True, (3, 8, 11)), (1, False, (11,))]
)
def test_a_run_stopped_within_an_epoch_goes_on_with_the_next_batch(
    release_root: Path, tmp_path: Path, workers: int, resident: bool, steps: tuple[int, ...]
) -> None:
    def fit(workers: int, **options: Any) -> list[tuple[list[list[float]], float]]:
        model = Seen()
        data = LuisaDataModule(
            root=release_root,
            sensors="landsat",
            batch_size=8,
            num_workers=workers,
            train={} if resident else {"phase": "random"},
            balanced=workers == 0 and not resident,
            resident=resident,
            augment=torch.nn.Sequential(Dihedral(), Gain(0.1), Noise(0.1)),
        )
        resume = options.pop("ckpt_path", None)
        options = {"max_epochs": 3, "limit_train_batches": 1.0} | options
        trainer(tmp_path, **options).fit(model, datamodule=data, ckpt_path=resume)
        return model.batches

    whole = fit(workers, callbacks=[Save(tmp_path)])
    assert len(whole) == 24  # three epochs of 64 windows
    for step in steps:  # within an epoch and at the end of one
        assert fit(workers, ckpt_path=tmp_path / f"{step}.ckpt") == whole[step:], step


def test_kornia_augments_batches(release_root: Path) -> None:
    import kornia.augmentation as K

    augment = K.AugmentationSequential(K.RandomHorizontalFlip(p=1.0), data_keys=None, keepdim=True)
    batch = LuisaSeg(release_root, sensors="landsat").read([0, 1])
    flipped = augment({"image": batch["image"], "mask": batch["mask"].unsqueeze(1).float()})
    torch.testing.assert_close(flipped["image"], batch["image"].flip(-1))
    torch.testing.assert_close(flipped["mask"].squeeze(1).long(), batch["mask"].flip(-1))


def test_figures_of_augmented_batches_have_no_coordinates(release_root: Path, tmp_path: Path) -> None:
    batches: list[dict[str, Any]] = []

    class Keep(Seen):
        def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
            batches.append(batch)
            return super().training_step(batch, index)

    for augment in (None, Dihedral()):
        data = LuisaDataModule(root=release_root, sensors="landsat", window=1200, batch_size=2, augment=augment)
        trainer(tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(Keep(), datamodule=data)
    labels = [bool(data.plot(Samples(batch, 2)[0]).axes[0].get_xticklabels()) for batch in batches]
    assert labels == [True, False]


def test_torchvision_transforms_samples(release_root: Path) -> None:
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    flip = v2.RandomHorizontalFlip(p=1.0)

    def transform(sample: dict[str, Any]) -> dict[str, Any]:
        pair = {"image": tv_tensors.Image(sample["image"]), "mask": tv_tensors.Mask(sample["mask"])}
        return sample | flip(pair)

    plain = LuisaSeg(release_root, sensors="landsat")[3]
    flipped = LuisaSeg(release_root, sensors="landsat", transforms=transform)[3]
    assert torch.equal(flipped["image"], plain["image"].flip(-1))
    assert torch.equal(flipped["mask"], plain["mask"].flip(-1))
    loader = DataLoader(LuisaSeg(release_root, sensors="landsat", transforms=transform), 2, collate_fn=collate)
    assert next(iter(loader))["image"].shape[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("read_before", [False, True], ids=["fresh", "after-reading"])
def test_workers_of_every_kind(release_root: Path, method: str, read_before: bool) -> None:
    dataset = LuisaSeg(release_root, sensors="landsat", window=960, phase="random")
    expected = dataset.read(range(8)) if read_before or method != "fork" else None
    sampler = WindowSampler(dataset, shuffle=False)
    loader = DataLoader(
        dataset,
        4,
        sampler=sampler,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context=method,
        collate_fn=collate,
        timeout=120,
    )
    epochs = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process was forked from one that had read")
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            batches = list(loader)
            epochs.append(torch.cat([batch["bounds"] for batch in batches]))
            assert len(epochs[-1]) == len(dataset)
            if epoch == 0 and expected is not None:
                images = torch.cat([batch["image"] for batch in batches])
                torch.testing.assert_close(images[:8], expected["image"])
    assert not torch.equal(*epochs)  # workers that live on see the epoch change


def test_windows_of_evaluation_do_not_move(release_root: Path) -> None:
    data = LuisaDataModule(root=release_root, sensors="landsat", phase="random", test={"stride": 600})
    data.setup()
    phases = {role: dataset.windows.phase for role, dataset in data.datasets.items()}
    assert phases == {"train": "random", "val": "fixed", "test": "fixed", "predict": "fixed"}


def test_pairs_of_years_go_through_the_module(release_root: Path) -> None:
    data = LuisaDataModule(LuisaChange, root=release_root, window=960, batch_size=2)
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    assert batch["image_from"].shape == batch["image_to"].shape
    assert set(data.datasets) == {"train", "val"}


def test_batches_are_the_same_from_memory_and_from_disk(release_root: Path, tmp_path: Path) -> None:
    seen = []
    for resident in (False, True, "auto"):
        data = LuisaDataModule(root=release_root, sensors="landsat", batch_size=7, resident=resident, drop_last=True)
        model = Seen()
        trainer(tmp_path, max_epochs=2, limit_train_batches=1.0).fit(model, datamodule=data)
        kinds = {type(data.train_dataloader()), type(data.val_dataloader())}
        assert kinds == {ResidentLoader if resident else WindowLoader}
        assert isinstance(data.test_dataloader() if data.setup("test") is None else None, WindowLoader)
        seen.append(model.batches)
    assert len(seen[0]) == 2 * (64 // 7)  # the last window of an epoch fills no batch
    assert seen[0] == seen[1] == seen[2]


def test_what_does_not_fit_or_moves_is_not_kept(release_root: Path) -> None:
    options = {"root": release_root, "sensors": "landsat", "resident": "auto"}
    sizes = []
    for split in ("train", "val"):
        dataset = LuisaSeg(release_root, split, sensors="landsat")
        sizes.append(
            len(dataset) * (24 * 40 * 40 * 4 + 40 * 40 + 4 * 8 + 9 * 8 + 8)
        )  # image, mask, bounds, transform, year
    for gib, kind in ((sum(sizes) / 2**30, ResidentLoader), ((sum(sizes) - 1) / 2**30, WindowLoader)):
        data = LuisaDataModule(**options, resident_gib=gib)
        data.setup("fit")
        assert type(data.train_dataloader()) is kind
    moving = LuisaDataModule(**options, phase="random")
    moving.setup("fit")
    assert type(moving.train_dataloader()) is WindowLoader
    forced = LuisaDataModule(**options | {"resident": True}, phase="random")
    forced.setup("fit")
    with pytest.raises(LulcbenchError, match="change from epoch to epoch"):
        forced.train_dataloader()
    with pytest.raises(LulcbenchError, match="resident is 'yes'"):
        LuisaDataModule(**options | {"resident": "yes"})


def test_a_split_smaller_than_a_batch_is_not_left_out(release_root: Path) -> None:
    data = LuisaDataModule(root=release_root, sensors="landsat", window=4800, batch_size=5, drop_last=True)
    data.setup("fit")
    assert [len(batch["tile"]) for batch in data.train_dataloader()] == [4]


def test_augmentation_is_seeded_and_leaves_other_draws_alone(release_root: Path, tmp_path: Path) -> None:
    class Draws(Seen):
        def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
            self.batches.append((float(torch.rand(1)), float(batch["image"].double().sum())))
            return self.layer(batch["image"].mean().view(1, 1)).sum()

    def fit(seed: int, augment: torch.nn.Module | None) -> list[Any]:
        pl.seed_everything(5, verbose=False)
        model = Draws()
        data = LuisaDataModule(
            root=release_root, sensors="landsat", window=4800, batch_size=4, seed=seed, augment=augment
        )
        trainer(tmp_path, max_epochs=3, limit_train_batches=1.0).fit(model, datamodule=data)
        return model.batches

    plain, noisy, again, other = (
        fit(seed, augment) for seed, augment in ((0, None), (0, Noise(1.0)), (0, Noise(1.0)), (1, Noise(1.0)))
    )
    assert noisy == again
    assert [draw for draw, _ in plain] == [draw for draw, _ in noisy]
    assert len({total for _, total in [*noisy, *other]}) == 6  # each epoch and seed has its own noise


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batchsize": 4}, r"option 'batchsize'.*Did you mean batch_size"),
        ({"train": {"windows": 600}}, r"option 'windows'.*Did you mean window"),
        ({"dataset": "LuisaSeg"}, r"dataset is 'LuisaSeg'.*class itself"),
        ({"root": "/nowhere"}, r"No release at /nowhere"),
        ({"root": None}, r"LuisaSeg needs root"),
        ({"batch_size": 0}, r"batch_size is 0"),
        ({"num_workers": "2"}, r"num_workers is '2'"),
        ({"augment": "flip"}, r"augment is 'flip'"),
        ({"train": "random"}, r"train is 'random'"),
        ({"test": {"phase": "random"}}, r"phase applies to training only"),
        ({"split": "val"}, r"several splits"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_arguments_are_checked_at_construction(release_root: Path, arguments: dict[str, Any], message: str) -> None:
    given = {"root": release_root, "sensors": "landsat"} | arguments
    with pytest.raises(LulcbenchError, match=re.compile(message, re.DOTALL)) as error:
        LuisaDataModule(**{name: value for name, value in given.items() if value is not None})
    assert error.value.remedy
