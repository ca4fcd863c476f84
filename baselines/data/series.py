"""Time series of dated imagery: samples of single pixels that an older map labels, cleaned by two steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator

from baselines.data._subsets import check_one_of, digest_of, read_subset
from baselines.data.base import DATA, DataConfig, DataInfo, Input, check_composites, shares
from baselines.registry import Count, Names, expand
from baselines.series.pool import SeriesReader
from baselines.series.pseudo import PseudoRule
from baselines.series.samples import SampleRule
from baselines.series.steps import Steps
from lulcbench.datasets.batch import Sample, Samples, positions
from lulcbench.datasets.protocol import BatchDataset
from lulcbench.legend import IGNORE_INDEX, LEVELS, ClassScheme
from lulcbench.release import AUTO, Release
from lulcbench.series.regular import normalized

LEVEL = 2  # default


@DATA.register
class SeriesData(DataConfig):
    """Regular series of single pixels, labelled by an older map in two steps (``baselines.series``).

    Attributes:
        root: folder of a release with dated imagery.
        sensor: its sensor.
        years: years of the maps.
        train_years: years of the training samples; None takes all of ``years``.
        every: days between the steps of a series.
        bands: names of bands; None takes all.
        level: legend level of the classes.
        subset: name of a legend subset in ``baselines/subsets``, or its TOML file, whose classes replace those of
            ``level``; None means LUISA classes.
        labels: source of the labels.
        label_year: year of the map that labels come from.
        most: largest number of cells of one polygon that step 1 sees.
        noise: share of the labels that are made wrong before step 1.
        samples: step 1, see ``SampleRule``.
        pseudo: step 2, see ``PseudoRule``.
        seed: seed of the draws of both steps.
        cache: folder of the results of the steps.
        scheduler: address of a dask scheduler, such as ``tcp://10.0.0.5:8786``, on whose workers tiles are read and
            cells are labelled. All need the release under the same path. Results are the same, so it is not stored.
    """

    kind: Literal["series"] = "series"
    target: ClassVar[str] = "mask"
    task: ClassVar[str] = "series"
    spatial: ClassVar[bool] = False
    sensor: str = "sentinel2"
    years: Annotated[tuple[int, ...], Field(min_length=1)] = (2018, 2019, 2020)
    train_years: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    every: Annotated[int, Field(ge=1, le=180)] = 15
    bands: Names | None = None
    level: Annotated[int, Field(ge=1, le=4)] = LEVEL
    subset: str | None = None
    labels: str = AUTO
    label_year: int = 2018
    most: Count = 100
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    samples: SampleRule = SampleRule()
    pseudo: PseudoRule = PseudoRule()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    cache: str = "runs/series"
    scheduler: Annotated[str | None, Field(exclude=True)] = None

    @model_validator(mode="after")
    def _settings_fit(self) -> SeriesData:
        if list(self.years) != sorted(set(self.years)):
            raise ValueError(f"years {self.years} must ascend without repetition")
        check_one_of(self.level, LEVEL, "level" in self.model_fields_set, self.subset)
        if unknown := set(self.train_years or ()) - set(self.years):
            raise ValueError(f"train_years names {min(unknown)}, which is not among years")
        return self

    @property
    def dataset(self) -> Callable[..., BatchDataset]:
        """The class ``SeriesSamples``."""
        return SeriesSamples

    @property
    def options(self) -> dict[str, Any]:
        """Options of ``SeriesSamples``."""
        return {"steps": self._steps(), "years": self.years, "train_years": self.train_years}

    @property
    def legend_level(self) -> int | None:
        """Legend level of the classes; None for a subset."""
        return self.level if self.subset is None else None

    @property
    def scheme(self) -> ClassScheme:
        """The classes."""
        return ClassScheme.luisa(self.level) if self.subset is None else ClassScheme.of_subset(read_subset(self.subset))

    @property
    def sensor_names(self) -> tuple[str, ...]:
        """The sensor."""
        return (self.sensor,)

    def fitted_options(self, info: DataInfo) -> dict[str, Any]:
        """Mean and standard deviation of the training samples."""
        check_composites(Release.open(expand(self.root)).manifest, info.inputs)
        return {"input": info.inputs[self.sensor]}

    def units(self, dataset: SeriesSamples) -> tuple[str, Sequence[str]]:
        """Spatial blocks."""
        return "spatial blocks", dataset.blocks

    def digest(self) -> str:
        """Digest of imagery, labels and splits of the release, and of the classes of a subset."""
        release = Release.open(expand(self.root)).data_digest
        return release if self.subset is None else digest_of(release, read_subset(self.subset))

    @property
    def root_path(self) -> Path:
        """Folder of the release."""
        return expand(self.root)

    def reader(self) -> SeriesReader:
        """Reader of the series of the release."""
        return SeriesReader(Release.open(expand(self.root).absolute()), self.sensor, self.years, self.every, self.bands)

    def facts(self) -> dict[str, float]:
        """Share of samples that step 1 keeps, and share of labels among them that ``noise`` made wrong."""
        cleaned, _, wrong = self._steps().reliable
        kept = cleaned.kept
        return {"samples_kept": float(kept.mean()), "noise_left": float(wrong[kept].mean()) if kept.any() else 0.0}

    def describe(self, train: SeriesSamples) -> DataInfo:
        """Channels, statistics and classes of the training samples."""
        release, scheme = train.steps.reader.release, train.steps.scheme
        counts = np.bincount(train.labels, minlength=len(scheme.codes()))
        return DataInfo(
            inputs={self.sensor: train.input},
            classes=scheme.names,
            level=self.legend_level,
            digest=self.digest(),
            simulated=release.simulated,
            frequencies=shares(counts),
            subset=None if scheme.subset is None else dict(zip(scheme.names, scheme.subset.codes, strict=True)),
        )

    def _steps(self) -> Steps:
        return Steps(
            self.reader(), expand(self.cache), self.label_year, self.labels, self.scheme, self.most, self.noise,
            self.samples, self.pseudo, self.seed, self.scheduler,
        )  # fmt: skip


class SeriesSamples:
    """Samples of one pixel and year each, from ``Steps``. Implements ``BatchDataset``.

    A sample has ``image``, float32 ``(step·feature, 1, 1)``, normalised, and ``mask``, int64 ``(4, 1, 1)``: the class
    index at levels 1 to 4, ignored at levels finer than that of the labels. For a legend subset it is ``(1, 1, 1)``.

    Args:
        split: ``train`` or ``val``.
        steps: the steps.
        years: years of the maps.
        train_years: years of the samples; None takes all of ``years``.
        input: mean and standard deviation to normalise by; None takes those of the train split.
        **_: options that other datasets have.

    Attributes:
        labels: class indices ``(n,)``.
        blocks: spatial block of each sample.
    """

    def __init__(
        self,
        split: str,
        steps: Steps,
        years: tuple[int, ...],
        train_years: tuple[int, ...] | None = None,
        input: Input | None = None,
        **_: Any,
    ) -> None:
        self.split, self.steps = split, steps
        chosen = steps.training_set(split, train_years)
        self.labels, self.blocks = chosen.labels, chosen.blocks.tolist()
        self.input = input or _input(steps, train_years)
        mean, std = np.array(self.input.mean, np.float32), np.array(self.input.std, np.float32)
        self._images = torch.from_numpy(normalized(chosen.values, mean, std))[:, :, None, None]
        self._masks = torch.from_numpy(_at_levels(self.labels, steps.scheme))[:, :, None, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        """Read several samples."""
        return Samples(self.read(indices), len(indices))

    def __getitem__(self, index: int) -> Sample:
        """Read one sample."""
        return self.__getitems__([index])[0]

    def read(self, indices: Any) -> Sample:
        """Read a batch."""
        at = torch.from_numpy(positions(indices, len(self)))
        return {"image": self._images[at], "mask": self._masks[at]}

    def finish(self, batch: Sample) -> Sample:
        """Return the batch: it is normalised."""
        return batch

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: samples are the same in every epoch."""

    @property
    def fixed(self) -> bool:
        """True."""
        return True


@cache
def _statistics(steps: Steps, years: tuple[int, ...] | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of the training samples; of a feature they are of all its steps."""
    values = steps.training_set("train", years).values
    features = len(steps.reader.features)
    flat = values.reshape(-1, features).astype(np.float64)
    mean, std = np.nanmean(flat, axis=0), np.maximum(np.nanstd(flat, axis=0), 1e-6)
    times = values.shape[1] // features
    return tuple(np.tile(mean, times).tolist()), tuple(np.tile(std, times).tolist())


def _input(steps: Steps, years: tuple[int, ...] | None) -> Input:
    mean, std = _statistics(steps, years)
    reader = steps.reader
    composite = reader.release.manifest.sensor(reader.sensor).composite
    return Input(channels=reader.channels, mean=mean, std=std, resolution=reader.resolution, composite=composite)


def _at_levels(labels: npt.NDArray[np.int64], scheme: ClassScheme) -> npt.NDArray[np.int64]:
    if scheme.subset is not None:
        return labels[:, None]
    masks = np.full((len(labels), len(LEVELS)), IGNORE_INDEX, np.int64)
    for n in scheme.levels:
        masks[:, n - 1] = scheme.over(n)[labels]
    return masks
