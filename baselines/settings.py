"""The sections of a config that all runs share: training, augmentation, prediction."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from baselines.registry import Count, Fraction, NotNegative, Part, Positive


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
        compile: by torch.compile; pays on long runs on a GPU.
        patience: validations without better loss before training stops; None never stops early.
        devices, nodes: GPUs (without one: processes) a machine, and machines; batch_size is that of each.
        checkpoint_seconds: least time between two checkpoints (made at the end of an epoch): what a killed run loses.
        balanced: draw samples of rare classes more often (``lulcbench.datasets.sampler.balanced``).
        resident_gib: data sets up to this size (train and val together) are kept on the device whole.
        workers: processes that read data sets larger than that; 0 reads ahead by threads.
        validate_every: epochs from one validation to the next.
    """

    epochs: Count | None = None
    steps: Count | None = None
    max_minutes: Positive | None = None
    batch_size: Count = 8
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.05
    warmup: Fraction = 0.1
    accumulate: Count = 1
    clip: Positive | None = 1.0
    precision: Literal["bf16-mixed", "32-true"] | None = None
    compile: bool = False
    ema: Fraction | None = None
    patience: Count | None = None
    devices: Count = 1
    nodes: Count = 1
    checkpoint_seconds: NotNegative = 30.0
    balanced: bool = False
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
    noise: NotNegative = 0.0
    gain: NotNegative = 0.0
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
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
