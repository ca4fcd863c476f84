"""Configs: TOML files that define a run, validated before anything starts. Unknown keys are errors."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainValidator, SerializeAsAny, ValidationError, model_validator

from baselines.data import DATA, DataConfig
from baselines.models import MODELS, ModelConfig
from baselines.registry import Count, Part
from baselines.settings import AugmentConfig, PredictConfig, TrainConfig
from baselines.tasks import TASKS, TaskConfig
from lulcbench._parsing import MAX_TEXT_BYTES, parse_toml, read_limited
from lulcbench.errors import LulcbenchError

CONFIGS = Path(__file__).parent / "configs"


class Config(Part):
    """One run. Read it with ``Config.load``.

    Attributes:
        name: results are written to ``<out>/<name>``.
        seed: seed of weights, data order and augmentation.
        threads: processor threads of each process in training and prediction. The order of floating-point sums, and
            with it their last digits, depends on this number; None uses one thread per processor.
        data, task, model: sections with a ``kind`` (``baselines.data``, ``baselines.tasks``, ``baselines.models``);
            ``task.kind`` defaults to the task of the data.

    Example:
        >>> config = Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": {"kind": "timm"}})
        >>> config.task.kind, config.model.name
        ('classification', 'resnet50')
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    threads: Count | None = None
    data: Annotated[SerializeAsAny[DataConfig], PlainValidator(DATA.parse)]
    task: Annotated[SerializeAsAny[TaskConfig], PlainValidator(TASKS.parse)]
    model: Annotated[SerializeAsAny[ModelConfig], PlainValidator(MODELS.parse)]
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    predict: PredictConfig = PredictConfig()

    @model_validator(mode="before")
    @classmethod
    def _name_task(cls, content: Any) -> Any:
        """Fill in the default of ``task.kind``."""
        if not isinstance(content, dict) or not isinstance(content.get("data"), dict):
            return content
        kind, task = content["data"].get("kind"), content.get("task", {})
        if kind not in DATA or not isinstance(task, dict):
            return content
        return content | {"task": {"kind": DATA[kind].task} | task}

    @model_validator(mode="after")
    def _parts_fit(self) -> Config:
        self.task.check(self.data)
        dense = self.task.dense
        if self.model.dense not in (None, dense):
            output = {True: "predicts every pixel", False: "predicts one class per patch"}
            raise ValueError(f"model {self.model.kind} {output[not dense]}, but task {self.task.kind} does not")
        if not self.model.has_loss and (idle := self._idle()):
            raise ValueError(
                f"model {self.model.kind} is not trained by a loss: {', '.join(idle)} would have no effect"
            )
        sensors = set(self.data.sensor_names)
        if unknown := sorted(set(self.predict.missing) - sensors):
            raise ValueError(
                f"predict.missing names {', '.join(unknown)}, but data.sensors are {', '.join(sorted(sensors))}"
            )
        if sensors <= set(self.predict.missing):
            raise ValueError("predict.missing names all sensors: at least one must remain")
        if not self.data.spatial and (self.augment.dihedral or self.augment.affine or self.predict.tta):
            raise ValueError(
                f"data {self.data.kind} are single pixels: set augment.dihedral = false, without affine or tta"
            )
        if self.predict.years and "years" not in type(self.data).model_fields:
            raise ValueError(f"predict.years is for maps of several years, which data {self.data.kind} do not give")
        if list(self.predict.years or ()) != sorted(set(self.predict.years or ())):
            raise ValueError("predict.years must be in ascending order, each year once")
        of_val = self.predict.split == "val" and self.predict.root in (None, getattr(self.data, "root", None))
        if self.predict.smoothing and self.predict.stay == "val" and of_val:
            raise ValueError(
                'predict.stay = "val" would choose the smoothing by the labels that the maps are scored on: set it to '
                '"labels" or to numbers, or predict another split'
            )
        if self.predict.smoothing and "years" not in type(self.data).model_fields:
            raise ValueError(f"predict.smoothing is for maps of several years, which data {self.data.kind} do not give")
        if (self.predict.window or self.predict.stride) and not (dense and self.data.spatial):
            raise ValueError(
                f"predict.window and predict.stride are for maps, which task {self.task.kind} does not give"
            )
        if dense and (self.augment.mixup or self.augment.cutmix):
            raise ValueError("mixup and cutmix require one class per patch")
        if dense and self.augment.affine:
            raise ValueError("affine requires one class per patch: it would interpolate the labels of pixels")
        return self

    def _idle(self) -> list[str]:
        """Settings that have an effect on models with a loss only, and are set."""
        loss = ("level_weights", "smoothing", "focal", "dice", "class_balance")
        default = type(self.task).model_fields
        idle = [f"task.{name}" for name in loss if getattr(self.task, name) != default[name].default]
        idle += [f"task.kind = {self.task.kind!r}"] if self.task.addition else []
        return idle + (["predict.tta"] if self.predict.tta else [])

    @property
    def predicted(self) -> DataConfig:
        """The data to predict: those of training, at ``predict.root`` and of ``predict.years`` if these are set."""
        update = {"root": self.predict.root, "years": self.predict.years}
        return self.data.model_copy(update={key: value for key, value in update.items() if value is not None})

    @property
    def label(self) -> str:
        """Model, sensors and task in words.

        Example:
            >>> data = {"kind": "luisa-seg", "root": "data", "sensors": ["landsat", "sentinel2"]}
            >>> task = {"kind": "segmentation-edges"}
            >>> Config.parse({"name": "a", "data": data, "task": task, "model": {"kind": "fusion"}}).label
            'middle fusion of landsat and sentinel2, with distances to edges'
        """
        sensors = " and ".join(self.data.sensor_names)
        of = "of" if len(self.data.sensor_names) > 1 else "on"
        images = f" {of} {sensors}" if self.model.uses_images else ""
        return self.model.label + images + (f", {self.task.addition}" if self.task.addition else "")

    @property
    def digest(self) -> str:
        """SHA-256 of the config in canonical form."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def same_as(self, stored: Any, *, predicting: bool = True) -> bool:
        """Whether a stored config has the same settings.

        Stored settings are compared, not digests: those that a newer version added count as defaults, so that it
        accepts the runs of an older one, but not those with another value of a setting whose default has changed
        since. Settings that are not stored, such as the address of a scheduler, make no other run.

        Args:
            stored: content of a config as ``model_dump(mode="json")`` writes it.
            predicting: whether section ``predict`` counts, which has no effect on a trained model.

        Example:
            >>> config = Config.parse({"name": "a", "data": {"kind": "eurosat"}, "model": {"kind": "timm"}})
            >>> older = config.model_dump(mode="json")
            >>> del older["train"]["ema"]
            >>> config.same_as(older)
            True
        """
        ignored = set() if predicting else {"predict"}
        try:
            before = Config.parse(stored)
        except LulcbenchError:  # it has a setting that no longer exists
            return False
        return before.model_dump(mode="json", exclude=ignored) == self.model_dump(mode="json", exclude=ignored)

    @classmethod
    def load(cls, path: str | os.PathLike[str], overrides: tuple[str, ...] = ()) -> Config:
        """Read a TOML file.

        Args:
            path: the file.
            overrides: ``section.key=value`` settings that replace those of the file, values in TOML syntax.

        Raises:
            LulcbenchError: the file is missing or is not TOML, or has an unknown key or an invalid value.
        """
        path = Path(path)
        if not path.is_file():
            known = ", ".join(sorted(p.name for p in CONFIGS.glob("*.toml")))
            raise LulcbenchError(f"The config {path} is missing.", f"baselines/configs/ has {known}.")
        content = parse_toml(read_limited(path, MAX_TEXT_BYTES), str(path), "Compare it with baselines/configs/.")
        for override in overrides:
            _apply(content, override)
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: dict[str, Any], where: str = "config") -> Config:
        """Validate a config given as nested dicts; ``where`` is its name in error messages.

        Raises:
            LulcbenchError: an unknown key or an invalid value.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            lines = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors())
            remedy = "The keys are documented in baselines/config.py and in the class of each kind."
            raise LulcbenchError(f"{where}: {lines}.", remedy) from error

    def replace(self, **sections: Any) -> Config:
        """Return a changed copy; a dict updates a section: ``config.replace(seed=1, train={"epochs": 2})``."""
        content = self.model_dump()
        # Settings that are not stored, since results do not depend on them, are still those of the copy.
        for name, section in ((name, getattr(self, name)) for name in ("data", "task", "model")):
            unstored = (field for field, info in type(section).model_fields.items() if info.exclude)
            content[name] |= {field: getattr(section, field) for field in unstored}
        for key, value in sections.items():
            content[key] = content[key] | value if isinstance(value, dict) else value
        return Config.parse(content)


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    try:
        value = parse_toml(f"value = {text}")["value"]
    except LulcbenchError:
        value = text  # a bare word is a string
    if not equals:
        raise LulcbenchError(f"{override!r} is not an assignment.", "Write section.key=value.")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise LulcbenchError(f"{override!r}: {parent} is not a section.", "Write section.key=value.")
    content[last] = value
