"""Regular series: values on fixed days of a year, interpolated between the clear dates of that year alone."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.grid import LABEL_RESOLUTION, TILE_SIZE, pixels

Floats = npt.NDArray[np.float32]
_SIDE = pixels(TILE_SIZE, LABEL_RESOLUTION)
_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
_YEAR = 365  # days of the shortest year


def days_of_year(every: int) -> npt.NDArray[np.int64]:
    """The fixed days: the middle ones of the whole periods of ``every`` days since 1 January, counted from 0.

    They are the same in leap years, whose days after 28 February are counted on, as one day later.

    Raises:
        LulcbenchError: ``every`` is not from 1 to 365.

    Examples:
        >>> days_of_year(90).tolist()
        [45, 135, 225, 315]
    """
    if not 1 <= every <= _YEAR:
        raise LulcbenchError(f"Steps are {every} days apart.", f"Give 1 to {_YEAR} days.")
    return np.arange(_YEAR // every, dtype=np.int64) * every + every // 2


def cell_means(image: Floats, shape: tuple[int, int] = (_SIDE, _SIDE)) -> Floats:
    """Means of the pixels of each cell that have a value, ``(band, *shape)``; NaN where none has.

    Pixels that are not a whole part of a cell, such as those of 30 m, are taken by their place: the one at the centre.

    Args:
        image: values ``(band, y, x)``, NaN where missing.
        shape: numbers of cells, downwards and to the right; those of a tile and its label cells by default.
    """
    (height, rest), (width, rest_x) = (divmod(n, m) for n, m in zip(image.shape[1:], shape, strict=True))
    if rest or rest_x or min(height, width) < 2:
        y, x = (((np.arange(m) + 0.5) * (n / m)).astype(np.int64) for n, m in zip(image.shape[1:], shape, strict=True))
        centres: Floats = image[:, y][:, :, x]
        return centres
    blocks = image.reshape(len(image), shape[0], height, shape[1], width)
    valid = np.isfinite(blocks)
    total = np.where(valid, blocks, 0).sum(axis=(2, 4))
    number = valid.sum(axis=(2, 4))
    means: Floats = np.where(number > 0, total / np.maximum(number, 1), np.nan).astype(np.float32)
    return means


def as_days(dates: Any) -> npt.NDArray[np.datetime64]:
    """Dates of any kind that NumPy reads as datetime64[D] ``(time,)``; times of day are dropped.

    Raises:
        LulcbenchError: they are not dates, such as 30 February, or of another calendar than that of satellites: climate
            models have years of 360 days, whose dates would be off by up to a week.
    """
    first = np.asarray(dates, object).ravel()[:1] if not isinstance(dates, np.ndarray) or dates.dtype == object else ()
    calendar = next((str(getattr(day, "calendar", _CALENDARS[0])) for day in first), _CALENDARS[0])
    if calendar not in _CALENDARS:
        raise LulcbenchError(f"Dates are of the calendar {calendar}.", "Give dates of the common calendar (UTC).")
    try:
        return np.asarray(dates, "datetime64[D]")
    except (ValueError, TypeError) as error:
        raise LulcbenchError(f"Dates cannot be read: {error}.", "Give dates such as 2018-06-30.") from error


def check_dates(dates: npt.NDArray[np.datetime64]) -> None:
    """Check that dates ascend.

    Raises:
        LulcbenchError: a date is missing, occurs twice, or precedes the one before it; names it.
    """
    if np.isnat(dates).any():
        raise LulcbenchError("A date is missing (NaT).", "Leave out images without a date.")
    steps = np.diff(dates.astype("datetime64[D]").astype(np.int64))
    if (steps <= 0).any():
        at = int(np.flatnonzero(steps <= 0)[0]) + 1
        what = "occurs twice" if steps[at - 1] == 0 else f"follows {dates[at - 1]}"
        raise LulcbenchError(f"Dates do not ascend: {dates[at]} {what}.", "Sort the images by date, one per date.")


def regular(values: Floats, dates: npt.NDArray[np.datetime64], year: int, every: int) -> Floats:
    """Series of pixels on the fixed days of a year.

    Each value is interpolated linearly between the nearest clear dates of the pixel before and after the day, and
    constant before the first and after the last clear date **of the same year**: dates of other years, in which a
    change may lie, have no influence.

    Args:
        values: ``(n, time, band)``, NaN or masked where not clear; bands with gaps of their own are interpolated by
            themselves.
        dates: datetime64 ``(time,)``, in ascending order; of any years.
        year: the year.
        every: days between the fixed days, see ``days_of_year``.

    Returns:
        float32 ``(n, step, band)``; NaN for bands of pixels without a clear date in the year.

    Raises:
        LulcbenchError: dates do not ascend or are of another calendar, none is in the year, or values are not of as
            many dates.

    Examples:
        >>> dates = np.array(["2017-12-30", "2018-02-15", "2018-08-14"], "datetime64[D]")
        >>> values = np.array([9, 1, 3], np.float32).reshape(1, 3, 1)
        >>> regular(values, dates, 2018, every=90)[0, :, 0].round(2).tolist()  # 9 is of another year
        [1.0, 2.0, 3.0, 3.0]
    """
    dates = as_days(dates)
    check_dates(dates)
    if np.ndim(values) != 3 or np.shape(values)[1] != len(dates):
        raise LulcbenchError(
            f"Values {np.shape(values)} are not of {len(dates)} dates.",
            "Give them as pixel, time and band, with a date each.",
        )
    start = np.datetime64(date(year, 1, 1), "D")
    days = (dates - start).astype(np.int64)
    own = dates.astype("datetime64[Y]").astype(np.int64) + 1970 == year
    if not own.any():
        raise LulcbenchError(f"There is no date in {year}.", "Leave the year out, or add images of it.")
    days, values = days[own], np.ma.filled(np.ma.asarray(values[:, own], np.float32), np.nan)
    finite = np.isfinite(values)
    if (finite == finite[..., :1]).all():
        return _interpolated(values, finite[..., 0], days, every)
    bands = range(values.shape[2])
    return np.concatenate([_interpolated(values[..., [b]], finite[..., b], days, every) for b in bands], axis=2)


def _interpolated(values: Floats, clear: npt.NDArray[np.bool_], days: npt.NDArray[np.int64], every: int) -> Floats:
    """Values on the fixed days, of those that are clear ``(n, time)``; see ``regular``."""
    count = len(days)
    number = np.arange(count)
    before = np.maximum.accumulate(np.where(clear, number, -1), axis=1)
    after = np.minimum.accumulate(np.where(clear, number, count)[:, ::-1], axis=1)[:, ::-1]
    rows = np.arange(len(values))
    steps = days_of_year(every)
    out = np.full((len(values), len(steps), values.shape[2]), np.nan, np.float32)
    seen = clear.any(axis=1)
    for step, day in enumerate(steps):
        at = int(np.searchsorted(days, day, side="right"))  # dates before it are on or before the day
        low = before[:, at - 1] if at else np.full(len(values), -1)
        high = after[:, at] if at < count else np.full(len(values), count)
        first, second = np.where(low < 0, high, low), np.where(high >= count, low, high)
        first, second = np.where(seen, first, 0), np.where(seen, second, 0)
        span = np.maximum(days[second] - days[first], 1)
        share = np.where(second > first, (day - days[first]) / span, 0).astype(np.float32)[:, None]
        out[:, step] = (1 - share) * values[rows, first] + share * values[rows, second]
    out[~seen] = np.nan
    return out


def normalized(
    values: npt.NDArray[np.float32], mean: npt.NDArray[np.float32], std: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Normalised values ``(…, channel)``, 0 where missing."""
    scaled: npt.NDArray[np.float32] = np.nan_to_num((values - mean) / std, nan=0.0, posinf=0.0, neginf=0.0)
    return scaled.astype(np.float32)
