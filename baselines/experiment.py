"""An experiment: a config with its data opened and its task built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from baselines.config import Config
from baselines.data import DataInfo
from baselines.tasks import Task
from baselines.training.augment import augmentation

if TYPE_CHECKING:
    from lulcbench.datasets.datamodule import LuisaDataModule


@dataclass(frozen=True, slots=True)
class Experiment:
    """Everything that fitting a model requires.

    Attributes:
        config: the run.
        data: train and val splits, opened, read and augmented according to the config.
        info: description of the data.
        task: task on these data.
    """

    config: Config
    data: LuisaDataModule
    info: DataInfo
    task: Task

    @classmethod
    def open(cls, config: Config, **options: Any) -> Experiment:
        """Open the data of a config.

        Args:
            config: the config.
            **options: of the datasets, in place of those of the config.

        Raises:
            LulcbenchError: the data are missing or damaged, or lack something that the config requires.
        """
        from lulcbench.datasets.datamodule import LuisaDataModule  # imports Lightning, which takes seconds

        train = config.train
        data = LuisaDataModule(
            config.data.dataset,
            val_split="val" if config.data.has_val else None,
            batch_size=train.batch_size,
            num_workers=train.workers,
            augment=augmentation(config.augment),
            train=config.data.train_options,
            balanced=train.balanced,
            resident="auto",
            resident_gib=train.resident_gib,
            drop_last=True,
            pad=False,  # see TrainingModule: processes do not wait for each other in validation
            seed=config.seed,
            **config.data.options | config.task.options | options,
        )
        data.setup("fit")
        info = config.data.describe(data.datasets["train"])
        for role, dataset in data.datasets.items():
            if role != "train":  # Lightning normalises a batch by its own dataset, whose statistics may be others
                config.data.normalize_alike(dataset, info)
        return cls(config, data, info, config.task.build(info))
