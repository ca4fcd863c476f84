"""Releases: windows with a class per pixel (``luisa-seg``), or chips with one class (``luisa-cls``)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from baselines.data._subsets import check_one_of, digest_of, read_subset
from baselines.data.base import DATA, DataConfig, DataInfo, Input, check_composites, shares
from baselines.registry import Count, Names, expand
from lulcbench.datasets import LuisaCls, LuisaDataset, LuisaSeg
from lulcbench.errors import NotAvailableError
from lulcbench.grid import LABEL_RESOLUTION, TILE_SIZE
from lulcbench.legend import IGNORE_INDEX, LEVELS, LegendSubset, legend
from lulcbench.release import Release
from lulcbench.windows import Phase


class LuisaData(DataConfig):
    """Base class of the settings of releases.

    Attributes:
        root: folder of the release.
        sensors: one or several sensors; channels are seasons × bands.
        year: year of imagery and labels.
        history: how many years before ``year`` further composites are from, such as ``[6]``; their channels come first.
        bands: names of bands, of the only sensor or by sensor; None means all.
        seasons: names of seasons; None means all.
        level: legend level of the classes.
        fraction: fixed part of the train tiles to train on, such as 0.01 or 0.1; val and test remain complete.
    """

    sensors: Names = ("landsat",)
    year: int = 2018
    history: tuple[Count, ...] = ()
    bands: Names | dict[str, Names] | None = None
    seasons: Names | None = None
    level: Annotated[int, Field(ge=1, le=4)] = 4
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def options(self) -> dict[str, Any]:
        """Options of ``LuisaDataset`` that select the imagery."""
        return {
            "root": expand(self.root),
            "sensors": self.sensors,
            "year": self.year,
            "history": self.history,
            "bands": self.bands,
            "seasons": self.seasons,
        }

    @property
    def train_options(self) -> dict[str, Any]:
        """The part of the train tiles."""
        return {} if self.fraction == 1 else {"fraction": self.fraction}

    def fitted_options(self, info: DataInfo) -> dict[str, Any]:
        """Bands, seasons and statistics of the training data, also for predictions of another release.

        A release that lacks one of them is refused by name; what it has beyond them is left out.
        """
        check_composites(Release.open(expand(self.root)).manifest, info.inputs)
        channels = {sensor: [c.rpartition(":") for c in i.channels] for sensor, i in info.inputs.items()}
        statistics = {
            sensor: {
                channel.rpartition(":")[2]: (mean, std)
                for channel, mean, std in zip(i.channels, i.mean, i.std, strict=True)
            }
            for sensor, i in info.inputs.items()
        }
        return {
            "bands": {sensor: tuple(dict.fromkeys(band for _, _, band in of)) for sensor, of in channels.items()},
            "seasons": next(iter(info.inputs.values())).seasons,
            "history": next(iter(info.inputs.values())).history,
            "statistics": statistics,
        }

    @property
    def has_val(self) -> bool:
        """Whether the release has a val split."""
        return "val" in Release.open(expand(self.root)).manifest.splits

    @property
    def legend_level(self) -> int | None:
        """Legend level of the classes."""
        return self.level

    @property
    def sensor_names(self) -> tuple[str, ...]:
        """The sensors."""
        return self.sensors

    def units(self, dataset: LuisaDataset) -> tuple[str, Sequence[str]]:
        """Spatial blocks."""
        of_tile = dict(zip(dataset.tiles["id"], dataset.tiles["block"], strict=True))
        tiles = dataset.locate(np.arange(len(dataset))).tiles
        return "spatial blocks", [str(of_tile[tile]) for tile in tiles]

    def digest(self) -> str:
        """Digest of imagery, labels and splits of the release."""
        return Release.open(expand(self.root)).data_digest

    def describe(self, train: LuisaDataset) -> DataInfo:
        """Channels, statistics and classes of the train split."""
        return DataInfo(
            inputs={sensor: _input(train, sensor) for sensor in train.sensors},
            classes=legend().names(self.level),
            level=self.level,
            digest=train.release.data_digest,
            simulated=train.release.simulated,
            frequencies=self._frequencies(train),
        )

    @abstractmethod
    def _frequencies(self, train: Any) -> tuple[float, ...]:
        """Frequencies of the classes in the train split."""


@DATA.register
class LuisaSegData(LuisaData):
    """A release, read through ``LuisaSeg``: windows of imagery with a class per pixel.

    Attributes:
        window: side of a window, in metres.
        stride: stride of the training windows, in metres; None means ``window``. Those of val do not overlap.
        subset: name of a legend subset in ``baselines/subsets``, or its TOML file, whose classes replace those of
            ``level``; None means LUISA classes.
        phase: whether training windows move from epoch to epoch (``lulcbench.windows.Windows``).
    """

    kind: Literal["luisa-seg"] = "luisa-seg"
    target: ClassVar[str] = "mask"
    task: ClassVar[str] = "segmentation"
    window: Count = TILE_SIZE
    stride: Count | None = None
    phase: Phase = "fixed"
    subset: str | None = None

    @model_validator(mode="after")
    def _level_or_subset(self) -> LuisaSegData:
        check_one_of(self.level, len(LEVELS), "level" in self.model_fields_set, self.subset)
        return self

    @property
    def legend_level(self) -> int | None:
        """Legend level of the classes; None for a subset."""
        return self.level if self.subset is None else None

    def digest(self) -> str:
        """Digest of the release, and of the classes of a subset: a changed subset makes other data."""
        release = super().digest()
        return release if self.subset is None else digest_of(release, read_subset(self.subset))

    def describe(self, train: LuisaDataset) -> DataInfo:
        """Channels, statistics and classes of the train split."""
        info = super().describe(train)
        if self.subset is None:
            return info
        subset = read_subset(self.subset)
        return info.model_copy(
            update={
                "classes": subset.names,
                "level": None,
                "digest": digest_of(info.digest, subset),
                "frequencies": shares(_subset_counts(train, self.year, subset)),
                "subset": dict(zip(subset.names, subset.codes, strict=True)),
            }
        )

    @property
    def dataset(self) -> type[LuisaSeg]:
        """The class ``LuisaSeg``."""
        return LuisaSeg

    @property
    def options(self) -> dict[str, Any]:
        """Options of ``LuisaSeg``."""
        return super().options | {"window": self.window}

    @property
    def train_options(self) -> dict[str, Any]:
        """Stride and moves of the training windows."""
        return super().train_options | {"stride": self.stride, "phase": self.phase}

    def _frequencies(self, train: LuisaSeg) -> tuple[float, ...]:
        return shares(train.class_fractions(self.year, self.level).sum(0))


@DATA.register
class LuisaClsData(LuisaData):
    """A release, read through ``LuisaCls``: chips of 600 m with one class.

    Attributes:
        purity: minimum share of the label pixels of a chip that have its class.
    """

    kind: Literal["luisa-cls"] = "luisa-cls"
    target: ClassVar[str] = "label"
    task: ClassVar[str] = "classification"
    purity: Annotated[float, Field(gt=0, le=1)] = 0.5

    @property
    def dataset(self) -> type[LuisaCls]:
        """The class ``LuisaCls``."""
        return LuisaCls

    @property
    def options(self) -> dict[str, Any]:
        """Options of ``LuisaCls``."""
        return super().options | {"purity": self.purity, "level": self.level}

    def _frequencies(self, train: LuisaCls) -> tuple[float, ...]:
        # A class of some pixels need not be the class of any chip.
        labels = legend().encode(train.chips["code"].to_numpy(), self.level)
        return shares(np.bincount(labels, minlength=len(legend().codes(self.level))))


def _subset_counts(train: LuisaDataset, year: int, subset: LegendSubset) -> npt.NDArray[np.int64]:
    """Number of label pixels of each class of a subset, ``(class,)``: of labels of any level, as in training."""
    cells = (TILE_SIZE // LABEL_RESOLUTION) ** 2
    # Pixels that are labelled at a level or finer; those of its children are labelled finer.
    by_level = {n: np.rint(train.class_fractions(year, n) * cells).astype(np.int64).sum(0) for n in LEVELS}
    counts = np.zeros(len(subset.names), np.int64)
    for level, exact in by_level.items():
        if level + 1 in by_level:
            exact = exact - np.bincount(legend().parents(level + 1, level), by_level[level + 1], len(exact)).astype(int)
        index = subset.table(level)[: len(exact)]
        np.add.at(counts, index[index != IGNORE_INDEX], exact[index != IGNORE_INDEX])
    return counts


def _input(dataset: LuisaDataset, sensor: str) -> Input:
    info, bands = dataset.release.manifest.sensor(sensor), dataset.bands[sensor]
    if info.statistics is None:
        raise NotAvailableError(
            f"{dataset.release.id} has no train statistics of {sensor}.", "Train on a release that has a train split."
        )
    at = [info.band_names.index(band) for band in bands]
    by_name = {season.name: season for season in dataset.release.manifest.seasons}
    seasons = tuple(by_name[name] for name in dataset.seasons)
    years = [f"-{before}:" for before in dataset.history] + [""]
    channels = tuple(f"{year}{season.name}:{band}" for year in years for season in seasons for band in bands)
    return Input(
        channels=channels,
        mean=tuple(info.statistics.mean[i] for i in at) * (len(channels) // len(at)),
        std=tuple(info.statistics.std[i] for i in at) * (len(channels) // len(at)),
        resolution=info.resolution,
        seasons=seasons,
        history=dataset.history,
        composite=info.composite,
    )
