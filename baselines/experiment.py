"""A config brought to life: its data opened, its task made."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.config import Config
from baselines.data import DataInfo
from baselines.tasks import Task
from baselines.training.augment import augmentation
from lulcbench.datasets.datamodule import LuisaDataModule


@dataclass(frozen=True, slots=True)
class Experiment:
    """All that is needed to fit a model.

    Attributes:
        config: the run.
        data: train and val, opened; augmented and read as the config says.
        info: what they hold.
        task: what is learnt of them.
    """

    config: Config
    data: LuisaDataModule
    info: DataInfo
    task: Task

    @classmethod
    def open(cls, config: Config) -> Experiment:
        """Open the data of a config.

        Raises:
            LulcbenchError: they are missing, damaged or lack what the config asks for.
        """
        train = config.train
        data = LuisaDataModule(
            config.data.dataset,
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
            **config.data.options | config.task.options,
        )
        data.setup("fit")
        info = config.data.describe(data.datasets["train"])
        return cls(config, data, info, config.task.build(info))
