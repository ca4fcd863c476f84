"""Options that datasets share, and the conversion of their values: scalars become tuples, NumPy numbers Python ones."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

from lulcbench.datasets._transforms import Transform
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.legend import legend
from lulcbench.release import Manifest
from lulcbench.seasons import Season, differing_seasons
from lulcbench.windows import Phase

# Mean and standard deviation by sensor and band, in the band's unit.
BandStatistics = Mapping[str, Mapping[str, tuple[float, float]]]

Init = TypeVar("Init", bound=Callable[..., None])


class Options(TypedDict, total=False):
    """Options of every dataset, described in ``LuisaDataset``."""

    labels: str | None
    level: int | Sequence[int]
    seasons: str | Season | Sequence[str | Season] | None
    bands: str | Sequence[str] | dict[str, str | Sequence[str]] | None
    transforms: Transform | None
    normalize: bool | str
    statistics: BandStatistics | None
    query: str | None
    regions: str | Sequence[str] | None
    classes: int | Sequence[int] | None
    max_cloud: float | None
    fraction: float | None
    clear_counts: bool
    keys: str | Sequence[str] | None
    download: bool | str


class Windowed(TypedDict, total=False):
    """Options of datasets with windows of any size."""

    window: int | None
    stride: int | None
    phase: Phase
    seed: int


class Yearly(TypedDict, total=False):
    """Options of datasets with samples of single years."""

    year: int | Sequence[int]


class Historical(TypedDict, total=False):
    """Options of datasets whose samples may have composites of earlier years too."""

    history: int | Sequence[int]


class Flat(TypedDict, total=False):
    """Options of datasets that can fold the seasons into the channels."""

    flatten: bool


def spell_out(options: Any, defaults: Callable[..., None]) -> Callable[[Init], Init]:
    """Decorator of ``__init__(…, **options: Unpack[options])``: help() and notebooks then show each option.

    Args:
        options: the ``TypedDict``.
        defaults: function with parameters of these names, whose defaults and annotations are shown.
    """

    def decorate(init: Init) -> Init:
        shared = inspect.signature(defaults).parameters
        own = inspect.signature(init)
        spelled = [option for option in own.parameters.values() if option.kind is not option.VAR_KEYWORD]
        spelled += [
            option.replace(kind=option.KEYWORD_ONLY)
            for name, option in shared.items()
            if name in options.__optional_keys__
        ]
        init.__signature__ = own.replace(parameters=spelled)  # type: ignore[attr-defined]
        return init

    return decorate


def names(value: str | Iterable[str], what: str) -> tuple[str, ...]:
    """Convert a name or several names to a tuple.

    Raises:
        LulcbenchError: the value is neither, or a name occurs twice.
    """
    several = (value,) if isinstance(value, str) else _several(value)
    if several is None or not all(isinstance(name, str) for name in several):
        raise LulcbenchError(f"{what} is {value!r}.", "Use a name or a list of names.")
    return _each_once(tuple(str(name) for name in several), what)


def integers(value: int | Iterable[int], what: str) -> tuple[int, ...]:
    """Convert an integer or several integers to a tuple.

    Raises:
        LulcbenchError: the value is neither, or an integer occurs twice.
    """
    several = None if isinstance(value, str) else _several(value)
    return (
        (integer(value, what),)
        if several is None
        else _each_once(tuple(integer(entry, what) for entry in several), what)
    )


def _each_once[Entry](chosen: tuple[Entry, ...], what: str) -> tuple[Entry, ...]:
    """The choice.

    Raises:
        LulcbenchError: an entry occurs twice, which would double samples or mix up channels.
    """
    if double := [entry for position, entry in enumerate(chosen) if entry in chosen[:position]]:
        raise LulcbenchError(f"{what} names {double[0]!r} twice.", "Name each once.")
    return chosen


def integer(value: Any, what: str) -> int:
    """Convert an integer of any numeric type.

    Raises:
        LulcbenchError: the value is not an integer.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(int(value) if isinstance(value, float) and value.is_integer() else value)
    except TypeError:
        pass
    raise LulcbenchError(f"{what} is {value!r}.", "Use a whole number.")


def number(value: Any, what: str) -> float:
    """Convert a number of any numeric type.

    Raises:
        LulcbenchError: the value is not a number.
    """
    try:
        if not isinstance(value, str):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise LulcbenchError(f"{what} is {value!r}.", "Use a number.")


def choose_seasons(
    manifest: Manifest, chosen: str | Season | Sequence[str | Season] | None
) -> tuple[tuple[str, ...], list[int] | None]:
    """Names of the chosen seasons, and their positions in the release; None takes all.

    Args:
        manifest: of the release.
        chosen: names, or seasons that must have the same days in the release.

    Raises:
        NotAvailableError: there is no such season, or it has other days.
        LulcbenchError: no season was chosen.
    """
    known = tuple(season.name for season in manifest.seasons)
    if chosen is None:
        return known, None
    several = isinstance(chosen, Iterable) and not isinstance(chosen, str | Season)
    wanted: tuple[Any, ...] = tuple(chosen) if several else (chosen,)
    if differing := differing_seasons(manifest.seasons, (season for season in wanted if isinstance(season, Season))):
        raise NotAvailableError(
            f"{manifest.id} has other seasons: {'; '.join(differing)}.", "Use a release whose seasons have these days."
        )
    seasons = names([season.name if isinstance(season, Season) else season for season in wanted], "seasons")
    if not seasons:
        raise LulcbenchError("No season was chosen.", f"{manifest.id} has {', '.join(known)}.")
    for season in seasons:
        if season not in known:
            raise NotAvailableError(f"{manifest.id} has no season {season!r}.", f"It has {', '.join(known)}.")
    return seasons, [known.index(season) for season in seasons]


def choose_history(history: int | Sequence[int]) -> tuple[int, ...]:
    """How many years before the year of a sample its earlier composites are from, the earliest first.

    Raises:
        LulcbenchError: one is not positive, or is given twice.
    """
    chosen = sorted(integers(history, "history"), reverse=True)
    if chosen and chosen[-1] < 1:
        raise LulcbenchError(
            f"history is {history!r}.", "Count years backwards from year: history=6, or history=(1, 2)."
        )
    return tuple(chosen)


def check_choices(
    sensors: tuple[str, ...], years: tuple[int, ...], levels: tuple[int, ...], normalize: object, transforms: object
) -> None:
    """Check what can be checked without a release.

    Raises:
        LulcbenchError: nothing was chosen, a level does not exist, or an option has another type.
    """
    for what, chosen in (("sensor", sensors), ("year", years), ("level", levels)):
        if not chosen:
            raise LulcbenchError(f"No {what} was chosen.", "Name at least one.")
    for level in levels:
        legend().codes(level)
    if normalize not in (True, False, "device"):
        raise LulcbenchError(f"normalize is {normalize!r}.", 'Use True, False or "device".')
    if transforms is not None and not callable(transforms):
        raise LulcbenchError(f"transforms is {transforms!r}.", "Make one callable of them, such as v2.Compose(...).")


def choose_bands(
    manifest: Manifest,
    sensors: tuple[str, ...],
    chosen: str | Sequence[str] | dict[str, str | Sequence[str]] | None,
) -> tuple[dict[str, tuple[str, ...]], dict[str, list[int]]]:
    """Names of the chosen bands of each sensor, and their positions in the release; None takes all.

    Raises:
        NotAvailableError: there is no such band.
        LulcbenchError: no band was chosen, or the sensor is ambiguous.
    """
    if chosen is not None and not isinstance(chosen, dict):
        if len(sensors) > 1:
            raise LulcbenchError(
                "bands is a list, but there are several sensors.", 'Use {"sentinel2": [...], "landsat": [...]}.'
            )
        chosen = {sensors[0]: chosen}
    of_sensor = chosen or {}
    for name in of_sensor:
        if name not in sensors:
            raise LulcbenchError(f"bands names {name!r}.", f"The sensors chosen are {', '.join(sensors)}.")
    bands, index = {}, {}
    for name in sensors:
        known = manifest.sensor(name).band_names
        bands[name] = names(of_sensor.get(name, known), "bands")
        if not bands[name]:
            raise LulcbenchError(f"No band of {name} was chosen.", f"It has {', '.join(known)}.")
        for band in bands[name]:
            if band not in known:
                raise NotAvailableError(
                    f"{manifest.id} holds no band {band!r} of {name}.", f"It holds {', '.join(known)}."
                )
        index[name] = [known.index(band) for band in bands[name]]
    return bands, index


def _several(value: Any) -> tuple[Any, ...] | None:
    try:
        return tuple(value)
    except TypeError:
        return None


def choose_statistics(
    manifest: Manifest, sensors: tuple[str, ...], bands: dict[str, tuple[str, ...]], given: BandStatistics | None
) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and standard deviation of the chosen bands: those given, or those of the release's train split.

    Raises:
        LulcbenchError: a sensor or band lacks statistics, or they are not a mean and a positive standard deviation.
    """
    chosen: dict[str, dict[str, tuple[float, float]]] = {}
    for name in sensors:
        info = manifest.sensor(name)
        if given is not None:
            known: Mapping[str, tuple[float, float]] = given.get(name, {})
        elif info.statistics is not None:
            stated = zip(info.statistics.mean, info.statistics.std, strict=True)
            known = dict(zip(info.band_names, stated, strict=True))
        else:
            raise LulcbenchError(
                f"{manifest.id} has no statistics of {name} to normalise with: it has no train split.",
                "Pass those of the training data, statistics=train.statistics, or use normalize=False.",
            )
        chosen[name] = {band: _mean_and_std(known, name, band) for band in bands[name]}
    return chosen


def _mean_and_std(known: Mapping[str, tuple[float, float]], sensor: str, band: str) -> tuple[float, float]:
    try:
        mean, std = (float(value) for value in known[band])
    except (KeyError, TypeError, ValueError) as error:
        raise LulcbenchError(
            f"statistics holds no mean and standard deviation of band {band} of {sensor}.",
            "Pass {sensor: {band: (mean, std)}} for every band that is read.",
        ) from error
    if not (math.isfinite(mean) and 0 < std < math.inf):
        raise LulcbenchError(
            f"statistics of band {band} of {sensor} are mean {mean} and standard deviation {std}.",
            "They must be finite, and the standard deviation positive.",
        )
    return mean, std
