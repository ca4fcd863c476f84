"""Sections of a config that all runs share: training, augmentation, prediction."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from baselines.registry import Count, Fraction, NotNegative, Part, Positive
from lulcbench._files import Name


class TrainConfig(Part):
    """Training of a network.

    The schedule depends on steps, never on the clock, so that a busy machine trains the same network as an idle one.

    Attributes:
        epochs: passes over the training split; 20 unless ``steps`` is given.
        steps: number of optimizer steps, instead of ``epochs``; independent of the size of the training split.
        max_minutes: time limit, as a safeguard: longer training stops before the end of its schedule. The run, its
            page and its cards then state that it was cut short.
        batch_size: samples per batch and device.
        lr, weight_decay: learning rate and weight decay of AdamW.
        warmup: fraction of the schedule in which the learning rate rises; it then falls to 0 along a cosine.
        accumulate: batches per optimizer step.
        clip: maximum norm of the gradient; None disables clipping.
        precision: ``bf16-mixed`` or ``32-true``; None means bf16 on a GPU, 32 bits on a CPU.
        ema: decay of the exponential moving average of the weights; None disables it.
        compile: use ``torch.compile``; worthwhile for long runs on a GPU.
        patience: number of validations without a lower loss before training stops; None disables early stopping.
        devices, nodes: number of GPUs (on a CPU: processes) per machine, and of machines.
        checkpoint_seconds: minimum time between checkpoints, which are written at the ends of epochs.
        balanced: draw samples of rare classes more often (``lulcbench.datasets.sampler.balanced``).
        resident_gib: data sets up to this size (train and val together) are kept on the device completely.
        workers: number of processes that read larger data sets; 0 prefetches with threads.
        validate_every: number of epochs between validations.
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
                raise ValueError("epochs and steps both set the length of training: give only one of them")
            if not given:
                return content | {"epochs": 20}
        return content


class AugmentConfig(Part):
    """Augmentation of batches on the device.

    Attributes:
        dihedral: flips and quarter turns.
        affine: maximum rotation (degrees), shift (fraction of the side) and zoom (fraction); borders are reflected.
        noise: standard deviation of Gaussian noise, in standard deviations of the band.
        gain: standard deviation of a random gain and offset per patch and band, in the same units.
        mixup, cutmix: parameter of the beta distribution (classification); 0 disables it.
        mix_probability: probability that a batch is mixed.
    """

    dihedral: bool = True
    affine: tuple[float, float, float] | None = None
    noise: NotNegative = 0.0
    gain: NotNegative = 0.0
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
    mix_probability: Annotated[float, Field(ge=0, le=1)] = 1.0


class PredictConfig(Part):
    """Prediction.

    Attributes:
        split: split to predict, any of the data. Predictions of a split without labels are written, but not scored.
        years: years to map in place of those of the data, for data of time series; they may be years that the model has
            not seen.
        root: another release to predict, with the statistics of the training data; None means that of ``data.root``.
        window, stride: side and stride of the moving window, in metres; overlapping windows are blended. None means
            complete tiles.
        batch_size: windows or patches per batch.
        missing: sensors whose images are replaced by nodata, as if they were missing.
        tta: average over the eight flips and quarter turns.
        calibrate: fit a temperature on the val split, and apply it.
        smoothing: how maps of several years are smoothed by a hidden Markov model (``baselines.series.smoothing``);
            probabilities are those of ``forward-backward`` in both cases, classes of ``viterbi`` are the most probable
            sequence. None leaves each year as it is.
        stay: probability that the class of a pixel is the same a year later, at level 1, 2, … given the coarser one.
            ``labels`` estimates it from the first and the last labels of the train split that are not newer than
            ``data.label_year``; ``val`` chooses it by the change in the labels of the val split. Both also count which
            class became which.
    """

    split: Name = "test"
    years: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    root: str | None = None
    window: Count | None = None
    stride: Count | None = None
    batch_size: Count = 16
    missing: tuple[str, ...] = ()
    tta: bool = False
    calibrate: bool = True
    smoothing: Literal["forward-backward", "viterbi"] | None = None
    stay: Literal["labels", "val"] | tuple[Annotated[float, Field(gt=0, lt=1)], ...] = "val"
