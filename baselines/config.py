"""What a run is: a TOML file, checked before anything starts. Unknown keys are errors."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lulcbench._parsing import MAX_TEXT_BYTES, parse_toml, read_limited
from lulcbench.errors import LulcbenchError

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Part(BaseModel):
    """Base of all parts of a config: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LuisaData(Part):
    """A release, read through ``LuisaSeg`` (``luisa-seg``) or ``LuisaCls`` (``luisa-cls``).

    Attributes:
        root: folder of the release.
        sensors: one sensor; its seasons × bands become the channels.
        bands: band names to take; None takes all.
        seasons: season names to take; None takes all.
        level: legend level of the classes that the model tells apart.
        window: side of a training window, m (``luisa-seg``).
        stride: step of the moving window, m; None means ``window``.
        purity: least share of a 600 m chip that its class must cover (``luisa-cls``).
    """

    kind: Literal["luisa-seg", "luisa-cls"]
    root: str
    sensor: Literal["landsat", "sentinel2", "planet"] = "landsat"
    year: int = 2018
    bands: Names | None = None
    seasons: Names | None = None
    level: Annotated[int, Field(ge=1, le=4)] = 4
    window: Count = 4800
    stride: Count | None = None
    purity: Annotated[float, Field(gt=0, le=1)] = 0.5


class EuroSatData(Part):
    """The EuroSAT patches (Helber et al. 2019), read straight from its zips.

    Attributes:
        root: folder with ``eurosat_rgb_*.zip`` and the split lists, or with 13-band GeoTIFFs (``eurosat_ms*.zip``).
        split: name of the split: ``random``, ``spatial`` (by longitude) or ``block`` (spatial blocks of the
            project's own splitter).
        bands: a named set or band names; RGB archives hold only ``rgb``.
        train_on: splits to learn from; the published 80/20 protocol learns from train and val together.
    """

    kind: Literal["eurosat"]
    root: str = "$LULCBENCH_REAL_DATA/eurosat_rgb"
    split: Literal["random", "spatial", "block"] = "random"
    bands: Literal["rgb", "swir", "color-infrared", "all"] | Names = "rgb"
    train_on: Annotated[tuple[Literal["train", "val"], ...], Field(min_length=1)] = ("train",)


class SegmentationModel(Part):
    """UNet or DeepLabv3+ of segmentation-models-pytorch.

    Attributes:
        encoder: encoder name known to smp.
        weights: ``imagenet`` or None (from scratch).
        depth: number of encoder stages (UNet only); each halves the resolution.
        decoder_channels: channels of the UNet decoder, from deep to shallow; ``depth`` of them.
        pixel_path: width of a per-pixel network on the spectra that is added to the output; smp's UNet has no skip
            connection at full resolution, and single pixels already tell much. None does without.
    """

    kind: Literal["unet", "deeplabv3plus"]
    encoder: str = "resnet34"
    weights: Literal["imagenet"] | None = None
    depth: Annotated[int, Field(ge=3, le=5)] = 5
    decoder_channels: tuple[Count, ...] | None = None
    pixel_path: Count | None = None

    @model_validator(mode="after")
    def _channels_fit(self) -> SegmentationModel:
        if self.kind == "deeplabv3plus" and (self.depth != 5 or self.decoder_channels):
            raise ValueError("depth and decoder_channels are options of unet only")
        if self.decoder_channels and len(self.decoder_channels) != self.depth:
            raise ValueError(f"decoder_channels must have depth = {self.depth} entries")
        return self


class ClassificationModel(Part):
    """A patch classifier: any timm model, or GoogLeNet (torchvision), the EuroSAT paper's second network.

    Attributes:
        name: timm model name (``timm`` only).
        weights: None (from scratch), ``imagenet``, or a torchgeo weight such as
            ``ResNet50_Weights.SENTINEL2_RGB_MOCO``. Images are standardised by the train split, whatever units the
            weights have seen: a network that is trained whole adapts to that, a frozen one cannot.
        weights_file: a checkpoint file to read instead of downloading.
        stem: ``no-pool`` leaves out the max-pooling, ``small`` also replaces the 7×7 stride-2 convolution by a 3×3 one,
            so that 64-pixel patches are not shrunk 4 × before the first block (ResNets only).
        freeze: train only the classification head.
        drop: dropout before the head.
        drop_path: stochastic depth (timm only).
    """

    kind: Literal["timm", "googlenet"]
    name: str = "resnet50"
    weights: str | None = None
    weights_file: str | None = None
    stem: Literal["standard", "no-pool", "small"] = "standard"
    freeze: bool = False
    drop: Fraction = 0.0
    drop_path: Fraction = 0.0


class ForestModel(Part):
    """Per-pixel random forest on the seasonal spectra (as in Witjes et al. 2022).

    Attributes:
        trees: number of trees.
        samples: training pixels, drawn at random from the train split.
        min_leaf: least samples in a leaf.
    """

    kind: Literal["forest"]
    trees: Count = 200
    samples: Count = 100_000
    min_leaf: Count = 2


class MajorityModel(Part):
    """Always the most frequent class of the train split: what any model must beat."""

    kind: Literal["majority"]


class TrainConfig(Part):
    """How a network is trained.

    The schedule follows steps, never the clock, so that a busy machine trains the same network as a quiet one.

    Attributes:
        epochs: passes over the training split; 20 unless ``steps`` is given.
        steps: optimizer steps, in place of ``epochs``: as many whatever the size of the training split.
        max_minutes: a safety net: training that lasts longer stops where it is, its schedule unfinished. The run, its
            page and its cards then say that it was cut short.
        lr, weight_decay: AdamW.
        warmup: fraction of the schedule in which the learning rate rises; a cosine brings it back to 0.
        accumulate: batches per optimizer step.
        clip: largest norm of the gradient; None never clips.
        precision: ``bf16-mixed`` or ``32-true``; None takes bf16 on a GPU, 32 bits on a CPU.
        ema: decay of the exponential moving average of the weights; None does without.
        smoothing: label smoothing.
        compile: by torch.compile; pays on long runs on a GPU.
        patience: validations without better loss before training stops; None never stops early.
        level_weights: weights of the log-likelihood at levels 1 to 4 (LUISA data); finer levels than the model's
            are left out.
        devices, nodes: GPUs (without one: processes) a machine, and machines; batch_size is that of each.
        checkpoint_seconds: least time between two checkpoints (made at the end of an epoch): what a killed run loses.
        resident_gib: data sets up to this size are kept on the device whole.
        workers: processes that read data sets larger than that.
        validate_every: epochs from one validation to the next.
    """

    epochs: Count | None = None
    steps: Count | None = None
    max_minutes: Positive | None = None
    batch_size: Count = 8
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup: Fraction = 0.1
    accumulate: Count = 1
    clip: Positive | None = 1.0
    precision: Literal["bf16-mixed", "32-true"] | None = None
    compile: bool = False
    ema: Fraction | None = None
    smoothing: Fraction = 0.0
    patience: Count | None = None
    level_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    devices: Count = 1
    nodes: Count = 1
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 30.0
    resident_gib: Positive = 8.0
    workers: Annotated[int, Field(ge=0)] = 0
    validate_every: Count = 1

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, content: Any) -> Any:
        if isinstance(content, dict):
            given = [key for key in ("epochs", "steps") if content.get(key) is not None]
            if len(given) > 1:
                raise ValueError("epochs and steps both say how long training lasts: give one of them")
            if not given:
                return content | {"epochs": 20}
        return content


class AugmentConfig(Part):
    """Augmentation, on the device, batch by batch.

    Attributes:
        dihedral: flips and quarter turns.
        affine: largest rotation (degrees), shift (fraction of the side) and zoom (fraction); reflected borders.
        noise: standard deviation of Gaussian noise, in standard deviations of the band.
        gain: standard deviation of a random gain and offset per patch and band, same units.
        mixup, cutmix: parameter of the beta distribution (classification); 0 does without.
        mix_probability: probability that a batch is mixed at all.
    """

    dihedral: bool = True
    affine: tuple[float, float, float] | None = None
    noise: Annotated[float, Field(ge=0)] = 0.0
    gain: Annotated[float, Field(ge=0)] = 0.0
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    mix_probability: Annotated[float, Field(ge=0, le=1)] = 1.0


class PredictConfig(Part):
    """How predictions are made.

    Attributes:
        split: split to predict.
        window, stride: moving window, m; overlapping windows are blended. None means the whole tile.
        batch_size: windows or patches at a time.
        tta: average over the eight flips and quarter turns.
        calibrate: fit a temperature on the val split.
    """

    split: Literal["val", "test"] = "test"
    window: Count | None = None
    stride: Count | None = None
    batch_size: Count = 16
    tta: bool = False
    calibrate: bool = True


Data = Annotated[LuisaData | EuroSatData, Field(discriminator="kind")]
Model = Annotated[SegmentationModel | ClassificationModel | ForestModel | MajorityModel, Field(discriminator="kind")]


class Config(Part):
    """One run. Read it with ``Config.load``.

    Attributes:
        name: results lie in ``<out>/<name>``.
        seed: of weights, data order and augmentation.
        threads: processor threads of each process in training and prediction. The order in which numbers are summed
            depends on it, and with it their last digits; None takes as many as there are.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    threads: Count | None = None
    data: Data
    model: Model
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    predict: PredictConfig = PredictConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> Config:
        segments = self.data.kind == "luisa-seg"
        if isinstance(self.model, ClassificationModel) and segments:
            raise ValueError(f"model {self.model.kind} classifies patches, but data {self.data.kind} is segmented")
        if isinstance(self.model, SegmentationModel | ForestModel | MajorityModel) and not segments:
            raise ValueError(f"model {self.model.kind} segments, but data {self.data.kind} holds labelled patches")
        if segments and (self.augment.mixup or self.augment.cutmix):
            raise ValueError("mixup and cutmix are for patch classification")
        if segments and self.augment.affine:
            raise ValueError("affine would blur labels: it is for patch classification")
        judged = self.train.level_weights[: getattr(self.data, "level", 4)]
        if min(self.train.level_weights) < 0 or not any(judged):
            raise ValueError("train.level_weights must not be negative, and one of a level that is learnt above 0")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the config in canonical form."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @classmethod
    def load(cls, path: str | os.PathLike[str], overrides: tuple[str, ...] = ()) -> Config:
        """Read a TOML file.

        Args:
            path: the file.
            overrides: ``section.key=value`` settings that replace those of the file, values in TOML syntax.

        Raises:
            LulcbenchError: the file is missing, is not TOML, or holds an unknown key or an impossible value.
        """
        path = Path(path)
        if not path.is_file():
            known = ", ".join(sorted(p.name for p in (Path(__file__).parent / "configs").glob("*.toml")))
            raise LulcbenchError(f"No config {path}.", f"baselines/configs/ has {known}.")
        content = parse_toml(read_limited(path, MAX_TEXT_BYTES), str(path), "Compare it with baselines/configs/.")
        for override in overrides:
            _apply(content, override)
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: dict[str, Any], where: str = "config") -> Config:
        """Check a config given as nested dicts; ``where`` names it in errors."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            lines = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors())
            raise LulcbenchError(f"{where}: {lines}.", "The keys are documented in baselines/config.py.") from error

    def replace(self, **sections: Any) -> Config:
        """A copy with some keys changed; a dict updates a section: ``config.replace(seed=1, train={"epochs": 2})``."""
        content = self.model_dump()
        for key, value in sections.items():
            content[key] = content[key] | value if isinstance(value, dict) else value
        return Config.parse(content)


def expand(path: str) -> Path:
    """A path of a config with ``$NAME`` and ``~`` replaced.

    Raises:
        LulcbenchError: a variable is not set, or empty.
    """
    for name in re.findall(r"\$\{?(\w+)", path):
        if not os.environ.get(name):
            raise LulcbenchError(f"{path}: {name} is not set.", f"Set {name} to the folder, or write the path.")
    return Path(os.path.expandvars(path)).expanduser()


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    try:
        value = parse_toml(f"value = {text}")["value"]
    except LulcbenchError:
        value = text  # a bare word is a string
    if not equals:
        raise LulcbenchError(f"{override!r} sets nothing.", "Write section.key=value.")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise LulcbenchError(f"{override!r}: {parent} is no section.", "Write section.key=value.")
    content[last] = value
