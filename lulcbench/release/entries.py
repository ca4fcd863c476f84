"""Entries of a manifest: what it states of a sensor, a source of labels, a source of data and a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lulcbench._files import Frozen, Name, Text
from lulcbench.release.keys import ArrayKey
from lulcbench.sensors import Band, Coding, check_bands

MANIFEST = "release.json"
# Of columns of the index; so no names of labels, whose columns begin with them.
COLUMN_PREFIXES = ("valid", "cloud", "clear", "shift")
TRAIN = "train"  # the split that statistics and class counts are of
NO_DATE = -(2**31)  # in coordinates of dates, which count days since 1970-01-01
AUTO = "auto"  # in place of the name of a source of labels: see ``Manifest.choose_labels``
SPLITS = (TRAIN, "val", "test")  # the usual ones; a release may have others, such as an unlabelled ``map``

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Statistics(Frozen):
    """Mean and standard deviation of each band in its unit, over the valid pixels of only the train split.

    Attributes:
        pixels: number of these pixels, in all seasons and years.
    """

    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    pixels: Annotated[int, Field(gt=0)]


class SensorInfo(Frozen):
    """Description of the imagery of one sensor.

    It suffices to read the arrays: a sensor need not be one of ``lulcbench.sensors.SENSORS``.

    Attributes:
        resolution: pixel size, m.
        bands: in stored order, each with its coding.
        years: years of the arrays ``<name>_<year>``, whose second axis is the season.
        spans: first and last year of the arrays ``<name>_<first>-<last>``, whose second axis is time: each tile has
            dates of its own, in the coordinate ``date_<array>``.
        licence: an SPDX id or a URL.
        statistics: statistics of the train split over all arrays; None if the release has no train split.
        composite: how the clear observations of a season became one; None of imagery that is not a composite.
        clear_counts: whether each array ``<name>_<year>`` has a companion ``<name>-clear_<year>``, uint8 ``(tile,
            season, y, x)``: the number of clear observations that the composite of a pixel was made from; 255 is 255
            or more.
    """

    resolution: Annotated[int, Field(gt=0)]
    bands: tuple[Band, ...]
    years: tuple[int, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    licence: Text
    statistics: Statistics | None
    composite: Literal["median", "medoid"] | None = None
    clear_counts: bool = False

    @model_validator(mode="after")
    def _bands_agree(self) -> SensorInfo:
        check_bands(self.bands)
        stated = self.statistics
        if stated and not len(self.bands) == len(stated.mean) == len(stated.std):
            raise ValueError("bands and statistics differ in length")
        if any(first >= last for first, last in self.spans):
            raise ValueError(f"spans {self.spans} must begin before they end")
        return self

    def arrays(self, name: str) -> tuple[ArrayKey, ...]:
        """Arrays of the sensor ``name``."""
        return tuple(ArrayKey(name, year) for year in self.years) + tuple(ArrayKey(name, *span) for span in self.spans)

    def clear_arrays(self, name: str) -> tuple[ArrayKey, ...]:
        """The arrays of the numbers of clear observations of the sensor, which is called ``name``."""
        return tuple(ArrayKey(name, year).clear for year in self.years) if self.clear_counts else ()

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in stored order."""
        return tuple(band.name for band in self.bands)

    @property
    def coding(self) -> Coding:
        """Coding of the values, the same for all bands."""
        return self.bands[0].coding


class LabelInfo(Frozen):
    """Description of the labels of one source, such as LUISA, CORINE or the map of a study.

    Attributes:
        years: years of the arrays ``<source>_<year>``.
        splits: splits with these labels.
        resolution: pixel size, m.
        legend_digest: digest of the legend of the codes.
        class_counts: label pixels of the train split: year → level-4 (or coarser, as stored) code → count; empty where
            the train split has none of these labels.
    """

    years: Annotated[tuple[int, ...], Field(min_length=1)]
    splits: Annotated[tuple[Name, ...], Field(min_length=1)]
    resolution: Literal[50] = 50
    legend_digest: Sha256
    licence: Text
    class_counts: dict[int, dict[int, int]]

    @model_validator(mode="after")
    def _counts_are_of_train(self) -> LabelInfo:
        if sorted(self.class_counts) != (sorted(self.years) if TRAIN in self.splits else []):
            raise ValueError("class_counts must be of the years of the train split's labels")
        return self


class Source(Frozen):
    """Origin of data, with the information to find and credit it."""

    id: Text
    title: Text
    licence: Text
    attribution: Text
    href: Text | None = None
    sha256: Sha256 | None = None


class FileInfo(Frozen):
    """One file of the release.

    Attributes:
        path: path below the root.
        array: array of shards and metadata, for selective downloads; None for coordinates, tables and texts.
        split: split of shards, each of which has tiles of one split.
    """

    path: str
    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256
    licence: Text
    split: Name | None = None
    array: ArrayKey | None = None

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in path or "\0" in path:
            raise ValueError(f"path {path!r} leaves the release folder")
        # Each file has one spelling, and none that downloads use themselves or that a terminal would obey.
        if "/".join(parts) != path or path.startswith(".") or path == MANIFEST or not path.isprintable():
            raise ValueError(f"path {path!r} cannot be the name of a file of a release")
        return path


def split_order(names: Iterable[str]) -> list[str]:
    """Sort splits: the usual ones first, then others by name."""
    return sorted(set(names), key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))
