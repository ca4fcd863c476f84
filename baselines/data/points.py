"""Time series of own points: a table with one row per point and date, with the class of the point."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field, model_validator

from baselines.data.base import DATA, DataConfig, DataInfo, Input, shares
from baselines.registry import Names, expand
from lulcbench._files import hash_file
from lulcbench.datasets.batch import Sample, Samples, positions
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import sensor
from lulcbench.series.indices import available, with_indices
from lulcbench.series.regular import days_of_year, normalized, regular

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Points:
    """Regular series of labelled points, in the order of their ids.

    Attributes:
        ids, groups: names of the points, and of the groups that are left out together, ``(n,)``.
        values: float32 ``(n, step, feature)``; NaN where a point has no clear date.
        labels: class indices, int64 ``(n,)``.
        classes: names of the classes.
    """

    ids: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    values: Floats
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]


@DATA.register
class PointSeriesData(DataConfig):
    """Series of own points, from a table (Parquet or CSV) with one row per point and date.

    Points of the groups ``val`` and ``test`` form these splits, so that a region or a year is left out as a whole;
    all others are for training.

    Attributes:
        root: the table.
        sensor: that the series are of.
        bands: name of each band → its column.
        scale: value = number · scale.
        nodata: number of missing values; a date without one of the bands counts as missing.
        indices: add spectral indices; bands must then have the names of those of the sensor.
        id, date, year, label, group: columns of the name of a point, the date of a row, the year whose dates make the
            series, the class, and the group.
        classes: classes to use, in this order; points of others are left out. None takes all, in alphabetical order.
        val, test: groups of these splits.
        every: days between the steps of a series.
    """

    kind: Literal["points"] = "points"
    target: ClassVar[str] = "label"
    task: ClassVar[str] = "points"
    spatial: ClassVar[bool] = False
    sensor: str = "sentinel2"
    bands: Annotated[dict[str, str], Field(min_length=1)]
    scale: float = 1.0
    nodata: float | None = None
    indices: bool = True
    id: str = "id"
    date: str = "date"
    year: str = "year"
    label: str = "label"
    group: str = "group"
    classes: Names | None = None
    val: tuple[str, ...] = ()
    test: Names
    every: Annotated[int, Field(ge=1, le=180)] = 30

    @model_validator(mode="after")
    def _splits_apart(self) -> PointSeriesData:
        if both := set(self.val) & set(self.test):
            raise ValueError(f"group {min(both)} is both in val and in test")
        return self

    @property
    def dataset(self) -> type[PointSeries]:
        """The class ``PointSeries``."""
        return PointSeries

    @property
    def options(self) -> dict[str, Any]:
        """The settings."""
        return {"data": self}

    def fitted_options(self, info: DataInfo) -> dict[str, Any]:
        """Mean and standard deviation of the training points."""
        return {"input": info.inputs[self.sensor]}

    @property
    def has_val(self) -> bool:
        """Whether a group is for validation."""
        return bool(self.val)

    @property
    def sensor_names(self) -> tuple[str, ...]:
        """The sensor."""
        return (self.sensor,)

    def units(self, dataset: PointSeries) -> tuple[str, Sequence[str]]:
        """Points, each of its own."""
        return "points", dataset.names

    def digest(self) -> str:
        """SHA-256 of the table."""
        path = expand(self.root)
        if not path.is_file():
            raise LulcbenchError(f"The table {path} is missing.", "Set data.root to a Parquet or CSV file.")
        return hash_file(path)

    def describe(self, train: PointSeries) -> DataInfo:
        """Features and statistics of the training points."""
        return DataInfo(
            inputs={self.sensor: train.input},
            classes=train.classes,
            level=None,
            digest=self.digest(),
            simulated=False,
            frequencies=shares(np.bincount(train.labels, minlength=len(train.classes))),
        )

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features of a step: bands, then indices."""
        return (*self.bands, *self._indices())

    def _indices(self) -> tuple[str, ...]:
        return available([sensor(self.sensor).band(name) for name in self.bands]) if self.indices else ()

    def read(self) -> Points:
        """Read the table and compute regular series.

        Raises:
            LulcbenchError: the table is damaged or lacks a column, a point has several labels, groups or years, a date
                twice, or no date in its year; or no point has one of ``classes``.
        """
        table = self._table()
        named = {self.label, self.group, self.year}
        several = table.groupby(self.id)[list(named)].nunique().gt(1)
        if several.to_numpy().any():
            column = several.columns[several.any()][0]
            raise LulcbenchError(
                f"{self.root}: point {several.index[several[column]][0]} has several values of {column}.",
                "A point has one label, one group and one year; name points of several years apart.",
            )
        classes = self.classes or tuple(sorted(table[self.label].unique()))
        if reserved := set(classes) & {"id", "predicted"}:
            raise LulcbenchError(
                f"{self.root}: a class is named {min(reserved)!r}, as a column of predictions is.", "Rename the class."
            )
        table = table[table[self.label].isin(classes)]
        if table.empty:
            raise LulcbenchError(
                f"{self.root} has no point of the classes {', '.join(classes)}.", "Check data.classes."
            )
        bands = [sensor(self.sensor).band(name) for name in self.bands] if self.indices else []
        parts: dict[str, Floats] = {}
        for name, rows in table.groupby(self.id):
            numbers = rows[list(self.bands.values())].to_numpy(np.float64)
            missing = ~np.isfinite(numbers) | (numbers == self.nodata)
            values = np.where(missing.any(axis=1, keepdims=True), np.nan, numbers * self.scale).astype(np.float32)
            dates = rows[self.date].to_numpy().astype("datetime64[D]")
            try:
                series = regular(values[None], dates, int(rows[self.year].iloc[0]), self.every)[0]
            except LulcbenchError as error:
                raise LulcbenchError(f"{self.root}: point {name}: {error.what}", error.remedy) from error
            parts[str(name)] = with_indices(series, bands, self._indices()) if bands else series
        first = table.groupby(self.id).first()
        return Points(
            np.array(list(parts)),
            first[self.group].to_numpy(str),
            np.stack(list(parts.values())),
            np.array([classes.index(label) for label in first[self.label]], np.int64),
            classes,
        )

    def _table(self) -> pd.DataFrame:
        """The table, sorted by point and date, with ids, labels and groups as text."""
        path = expand(self.root)
        columns = [self.id, self.date, self.year, self.label, self.group, *self.bands.values()]
        try:
            content = io.BytesIO(path.read_bytes())
            # As text: 07 and 7 are two points.
            texts = dict.fromkeys((self.id, self.label, self.group), str)
            table = pd.read_csv(content, dtype=texts) if path.suffix == ".csv" else pd.read_parquet(content)
        except (OSError, ValueError) as error:
            raise LulcbenchError(f"Cannot read the table {path}: {error}.", "Give a Parquet or CSV file.") from error
        if lacking := [name for name in columns if name not in table]:
            raise LulcbenchError(f"{path} has no column {lacking[0]!r}.", f"It has {', '.join(map(str, table))}.")
        table = table[list(dict.fromkeys(columns))]
        for column in (self.id, self.date, self.year, self.label, self.group):
            if (empty := table[column].isna()).any():
                raise LulcbenchError(
                    f"{path}: {empty.sum()} rows have no {column}, the first is row {empty.argmax() + 1}.",
                    "Fill them in, or remove these rows.",
                )
        table = table.astype(texts)
        for column in (self.date, self.year, *self.bands.values()):
            try:
                table[column] = _dates(table[column]) if column == self.date else pd.to_numeric(table[column])
            except (TypeError, ValueError) as error:
                raise LulcbenchError(f"{path}, column {column}: {error}.", "Check its values.") from error
        if len(part := table[self.year][table[self.year] % 1 != 0]):
            raise LulcbenchError(f"{path}, column {self.year}: {part.iloc[0]} is not a year.", "Give whole numbers.")
        return table.sort_values([self.id, self.date], kind="stable")


def _dates(values: pd.Series[Any]) -> pd.Series[Any]:
    """Dates of a column: dates themselves, or text such as 2018-06-30; in 03/05/2018, day and month are not known."""
    if pd.api.types.is_numeric_dtype(values):
        raise ValueError(f"{values.iloc[0]} is a number, not a date")
    return pd.to_datetime(values, format="ISO8601", utc=True).dt.tz_localize(None)


class PointSeries:
    """The points of one split. Implements ``BatchDataset``.

    A sample has ``image``, float32 ``(step·feature, 1, 1)``, normalised, ``label``, the class index, int64 ``(1, 1)``,
    and ``id``.

    Args:
        split: ``train``, ``val`` or ``test``.
        data: the settings.
        input: mean and standard deviation to normalise by; None takes those of the train split.
        **_: options that other datasets have.

    Attributes:
        names: names of the points.
        labels: class indices ``(n,)``.
        classes: names of the classes.

    Raises:
        LulcbenchError: the table is unusable (see ``PointSeriesData.read``), or the split has no points.
    """

    fixed = True

    def __init__(self, split: str, data: PointSeriesData, input: Input | None = None, **_: Any) -> None:
        points = data.read()
        held = {"val": data.val, "test": data.test}
        for name in (*data.val, *data.test):
            if name not in points.groups:
                raise LulcbenchError(
                    f"No point is in the group {name!r}.", f"Groups are {', '.join(np.unique(points.groups))}."
                )
        training = ~np.isin(points.groups, data.val + data.test)
        chosen = np.isin(points.groups, held[split]) if split in held else training
        if not chosen.any() or not training.any():
            raise LulcbenchError(f"The {split} split has no points.", "Check data.val and data.test.")
        self.split, self.classes = split, points.classes
        self.names, self.labels = points.ids[chosen].tolist(), points.labels[chosen]
        self.input = input or _input(data, points.values[training])
        mean, std = np.array(self.input.mean, np.float32), np.array(self.input.std, np.float32)
        flat = points.values[chosen].reshape(len(self.names), -1)
        self._images = torch.from_numpy(normalized(flat, mean, std))[:, :, None, None]

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
        at = positions(indices, len(self))
        return {
            "image": self._images[torch.from_numpy(at)],
            "label": torch.from_numpy(self.labels[at])[:, None, None],
            "id": [self.names[i] for i in at],
        }

    def finish(self, batch: Sample) -> Sample:
        """Return the batch: it is normalised."""
        return batch

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: samples are the same in every epoch."""


def _input(data: PointSeriesData, values: Floats) -> Input:
    """Names of the channels, and the mean and standard deviation of each feature over all its steps."""
    days = days_of_year(data.every)
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    mean, std = np.nanmean(flat, axis=0), np.maximum(np.nanstd(flat, axis=0), 1e-6)
    return Input(
        channels=tuple(f"d{day:03d}:{name}" for day in days for name in data.features),
        mean=tuple(np.tile(mean, len(days)).tolist()),
        std=tuple(np.tile(std, len(days)).tolist()),
        resolution=sensor(data.sensor).resolution,
    )
