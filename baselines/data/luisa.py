"""Releases: windows with a class per pixel (``luisa-seg``), or chips with one class (``luisa-cls``)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from baselines.data.base import DATA, DataConfig, DataInfo, Input, shares
from baselines.registry import Count, Names, expand
from lulcbench.datasets import LuisaCls, LuisaDataset, LuisaSeg
from lulcbench.errors import NotAvailableError
from lulcbench.grid import TILE_SIZE
from lulcbench.legend import legend
from lulcbench.release import Release
from lulcbench.windows import Phase


class LuisaData(DataConfig):
    """Base class of the settings of releases.

    Attributes:
        root: folder of the release.
        sensors: one or several sensors; channels are seasons × bands.
        year: year of imagery and labels.
        bands: names of bands, of the only sensor or by sensor; None means all.
        seasons: names of seasons; None means all.
        level: legend level of the classes.
        fraction: fixed part of the train tiles to train on, such as 0.01 or 0.1; val and test remain complete.
    """

    sensors: Names = ("landsat",)
    year: int = 2018
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
            "bands": self.bands,
            "seasons": self.seasons,
        }

    @property
    def train_options(self) -> dict[str, Any]:
        """The part of the train tiles."""
        return {} if self.fraction == 1 else {"fraction": self.fraction}

    def fitted_options(self, info: DataInfo) -> dict[str, Any]:
        """Statistics of the training data, also for predictions of another release."""
        statistics = {
            sensor: {
                channel.rpartition(":")[2]: (mean, std)
                for channel, mean, std in zip(i.channels, i.mean, i.std, strict=True)
            }
            for sensor, i in info.inputs.items()
        }
        return {"statistics": statistics}

    @property
    def legend_level(self) -> int:
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
        """Digest of the release."""
        return Release.open(expand(self.root)).digest

    def describe(self, train: LuisaDataset) -> DataInfo:
        """Channels, statistics and classes of the train split."""
        return DataInfo(
            inputs={sensor: _input(train, sensor) for sensor in train.sensors},
            classes=legend().names(self.level),
            level=self.level,
            digest=train.release.digest,
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
        phase: whether training windows move from epoch to epoch (``lulcbench.windows.Windows``).
    """

    kind: Literal["luisa-seg"] = "luisa-seg"
    target: ClassVar[str] = "mask"
    task: ClassVar[str] = "segmentation"
    window: Count = TILE_SIZE
    stride: Count | None = None
    phase: Phase = "fixed"

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
        return shares(np.bincount(train.labels, minlength=len(legend().codes(self.level))))


def _input(dataset: LuisaDataset, sensor: str) -> Input:
    info, bands = dataset.release.manifest.sensor(sensor), dataset.bands[sensor]
    if info.statistics is None:
        raise NotAvailableError(
            f"{dataset.release.id} has no train statistics of {sensor}.", "Train on a release that has a train split."
        )
    at = [info.band_names.index(band) for band in bands]
    seasons = len(dataset.seasons)
    return Input(
        channels=tuple(f"{season}:{band}" for season in dataset.seasons for band in bands),
        mean=tuple(info.statistics.mean[i] for i in at) * seasons,
        std=tuple(info.statistics.std[i] for i in at) * seasons,
        resolution=info.resolution,
    )
