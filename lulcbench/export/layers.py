"""Layers that can be exported, and reading them tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lulcbench.geotiff import RasterBand
from lulcbench.grid import LABEL_RESOLUTION, Tile, pixels
from lulcbench.legend import LEVELS, NODATA, legend
from lulcbench.legend.qgis import qgis_style, ramp_style, true_color_style
from lulcbench.predictions import Predictions
from lulcbench.release import ArrayKey, Release, Row, TilePosition
from lulcbench.sensors import Band, true_color

# Reflectance that is shown at full intensity: most land is darker. The same for all files, so that they compare.
BRIGHT = 0.3
# Colours of viridis (matplotlib). Fixed values for the same reason.
COUNT_STYLE = ramp_style(
    {1: ("1", "#440154"), 2: ("2", "#3b528b"), 4: ("4", "#21918c"), 8: ("8", "#5ec962"), 16: ("16 or more", "#fde725")}
)
SHARE_STYLE = ramp_style({0: ("0", "#440154"), 0.5: ("0.5", "#21918c"), 1: ("1", "#fde725")})

_COLORS: tuple[Literal["Red", "Green", "Blue"], ...] = ("Red", "Green", "Blue")


@dataclass(frozen=True, slots=True)
class Member:
    """A tile of the release.

    Attributes:
        tile: its place.
        split: its split.
        position: its position in the split.
        row: its row in the arrays.
        region: its region.
    """

    tile: Tile
    split: str
    position: TilePosition
    row: Row
    region: str


@dataclass(frozen=True, slots=True)
class ExportLayer:
    """One layer: a file per place.

    Attributes:
        name: of its files.
        array: what users call it: the name of an array of the release, ``prediction`` or ``probability``.
        resolution: pixel size, m.
        dtype: of the stored values.
        nodata: stored value of missing pixels.
        bands: of the files.
        has: whether a tile has the layer.
        read: values of a tile, ``(band, y, x)``.
        tags: of the files.
        classes: name and colour of each code of a layer of classes.
        style: style for QGIS.
    """

    name: str
    array: str
    resolution: int
    dtype: str
    nodata: float
    bands: tuple[RasterBand, ...]
    has: Callable[[Member], bool]
    read: Callable[[Member], npt.NDArray[Any]]
    tags: dict[str, str] = field(default_factory=dict)
    classes: dict[int, tuple[str, str]] = field(default_factory=dict)
    style: str | None = None


def release_layers(release: Release, members: Sequence[Member]) -> Iterator[ExportLayer]:
    """All layers of a release: imagery, numbers of clear observations, labels at all levels.

    Args:
        release: the release.
        members: tiles whose dates are of interest.
    """
    reader = cache(release.reader)
    seasons = release.manifest.seasons
    for name, info in release.manifest.sensors.items():
        coding = info.coding
        nodata = np.nan if coding.nodata == "NaN" else float(coding.nodata)
        bands, style = _bands(info.bands)
        side = pixels(release.manifest.tile_size, info.resolution)

        def read(key: ArrayKey, side: int, step: Callable[[Member], int], member: Member) -> npt.NDArray[Any]:
            values = reader(member.split).read(key, [member.row], [(0, 0)], (side, side), [step(member)])
            return values.reshape(-1, side, side)

        for key in info.arrays(name):
            common = {"SENSOR": name, "LICENCE": info.licence}
            if key.first == key.last:
                for i, season in enumerate(seasons):
                    start, end = season.days(key.first)
                    tags = common | {"YEAR": str(key.first), "SEASON": season.name, "PERIOD": f"{start}/{end}"}
                    step = partial(_always, i)
                    yield ExportLayer(
                        f"{key}_{season.name}", str(key), info.resolution, coding.dtype, nodata, bands,
                        _everywhere, partial(read, key, side, step), tags, style=style,
                    )  # fmt: skip
                    if key.clear in info.clear_arrays(name):
                        described = (RasterBand("clear observations", unit="1"),)
                        yield ExportLayer(
                            f"{key.clear}_{season.name}", str(key.clear), info.resolution, "uint8", 0, described,
                            _everywhere, partial(read, key.clear, side, step), tags, style=COUNT_STYLE,
                        )  # fmt: skip
            else:
                known: dict[np.datetime64, dict[Member, int]] = {}
                for member in members:
                    for i, day in enumerate(release.dates(member.split, key)[member.position]):
                        if not np.isnat(day):
                            known.setdefault(day, {})[member] = i
                for day, held in sorted(known.items()):
                    yield ExportLayer(
                        f"{key}_{day}", str(key), info.resolution, coding.dtype, nodata, bands,
                        held.__contains__, partial(read, key, side, held.__getitem__), common | {"DATE": str(day)},
                        style=style,
                    )  # fmt: skip
    for name, labels in release.manifest.labels.items():
        for year in labels.years:
            for level in LEVELS:
                yield _class_layer(
                    f"{name}_{year}",
                    level,
                    partial(_within, frozenset(labels.splits)),
                    partial(_stored_codes, release, name, year),
                    {"YEAR": str(year), "LICENCE": labels.licence},
                )


def prediction_layers(predictions: Predictions, probabilities: bool) -> Iterator[ExportLayer]:
    """Layers of a predictions file: classes at its level and coarser ones, and optionally probabilities.

    Raises:
        LulcbenchError: the file holds no probabilities.
    """
    info = predictions.info
    common = {"PREDICTIONS": predictions.sha256}
    has = partial(_within, frozenset([info.split]))
    for i, year in enumerate(info.years):
        tags = common | {"YEAR": str(year)}
        for level in LEVELS[: info.level]:
            yield _class_layer(f"prediction_{year}", level, has, partial(_predicted_codes, predictions, i), tags)
        if probabilities:
            predictions.probabilities(TilePosition(0), i)  # an error now, not after other files
            names = legend().classes
            yield ExportLayer(
                f"probability_{year}",
                f"probability_{year}",
                LABEL_RESOLUTION,
                "float32",
                np.nan,
                tuple(RasterBand(f"{code} {names[code].name}", unit="1") for code in legend().codes(info.level)),
                has,
                partial(_probabilities, predictions, i),
                tags,
                style=SHARE_STYLE,
            )


def _class_layer(
    array: str,
    level: int,
    has: Callable[[Member], bool],
    codes: Callable[[Member], npt.NDArray[np.uint16]],
    tags: dict[str, str],
) -> ExportLayer:
    classes = {code: (legend().classes[code].name, legend().classes[code].color) for code in legend().codes(level)}
    return ExportLayer(
        f"{array}_level{level}",
        array,
        LABEL_RESOLUTION,
        "uint16",
        NODATA,
        (RasterBand(f"class code at level {level}"),),
        has,
        lambda member: legend().remap(codes(member), level, member.tile.id)[None],
        tags | {"LEVEL": str(level), "LEGEND": legend().digest},
        classes,
        qgis_style(classes),
    )


def _bands(bands: Sequence[Band]) -> tuple[tuple[RasterBand, ...], str | None]:
    """Bands of imagery, and the style of it in true colour."""
    places = true_color(bands)
    colors = {} if places is None else dict(zip(places, _COLORS, strict=True))
    described = tuple(
        RasterBand(band.name, band.coding.scale, band.coding.offset, band.unit, colors.get(i))
        for i, band in enumerate(bands)
    )
    if places is None:
        return described, None
    red, green, blue = (place + 1 for place in places)
    return described, true_color_style((red, green, blue), 0, BRIGHT)


def _always(step: int, member: Member) -> int:
    return step


def _everywhere(member: Member) -> bool:
    return True


def _within(splits: frozenset[str], member: Member) -> bool:
    return member.split in splits


def _stored_codes(release: Release, source: str, year: int, member: Member) -> npt.NDArray[np.uint16]:
    codes: npt.NDArray[np.uint16] = release.labels(member.split, year, [member.row], source)[0]
    return codes


def _predicted_codes(predictions: Predictions, year: int, member: Member) -> npt.NDArray[np.uint16]:
    codes: npt.NDArray[np.uint16] = predictions.codes(member.position)[year]
    return codes


def _probabilities(predictions: Predictions, year: int, member: Member) -> npt.NDArray[np.float32]:
    return predictions.probabilities(member.position, year)
