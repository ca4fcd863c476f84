"""The tables of a recipe: regions, splits, sensors, labels, files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from builders.recipe.areas import AreaRule
from lulcbench import grid
from lulcbench._files import Frozen, Name
from lulcbench.legend import NODATA, legend
from lulcbench.release import ArrayKey, Sha256
from lulcbench.release.keys import ArrayName
from lulcbench.seasons import Days, Season
from lulcbench.sensors import SENSORS, sensor

Codec = Literal["lz4hc", "lz4", "zstd"]
BUFFER = "buffer"  # in place of a split: tiles that no split may have


def _no_buffer(name: str) -> str:
    if name == BUFFER:
        raise ValueError(f"{BUFFER!r} is not a name for a split: it stands for tiles that no split has")
    return name


SplitName = Annotated[Name, AfterValidator(_no_buffer)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Region(Frozen):
    """A named area of tiles.

    Attributes:
        bounds: left, bottom, right, top in EPSG:3035 metres; None is the whole label map, or the area.
        whole: only tiles that lie entirely inside the bounds; otherwise all that touch them.
        area: polygons of a file; only tiles that hold some of them. With bounds, only those that are also inside.
        split: that all its tiles belong to, such as a ``map`` split to be mapped; None shares them out.
        cells: divides a large region into regions of its own, squares of so many tiles that are named by column and
            row (``europe-09-06``); they are planned one by one, and those without labels do not exist.
        required: it must have tiles with labels.
        covered: only tiles that a scene of the recipe's catalog, which must be on this machine, may touch.
    """

    name: Name
    bounds: grid.Bounds | None = None
    whole: bool = True
    area: AreaRule | None = None
    split: SplitName | None = None
    cells: Annotated[int, Field(ge=1)] | None = None
    required: bool = True
    covered: bool = False

    @model_validator(mode="after")
    def _in_europe(self) -> Self:
        if self.bounds is not None:
            left, bottom, right, top = self.bounds
            most = 10_000 * grid.TILE_SIZE
            if not (0 <= left < right <= most and 0 <= bottom < top <= most):
                raise ValueError(
                    f"bounds {list(self.bounds)} are not left, bottom, right, top in EPSG:3035 metres; "
                    "Europe is within 900000, 900000, 7400000, 5500000"
                )
        return self

    def divided(self) -> tuple[Region, ...]:
        """The regions of its cells, or itself.

        Raises:
            ValueError: it has cells but no bounds.
        """
        if self.cells is None:
            return (self,)
        if self.bounds is None:
            raise ValueError(f"region {self.name} has cells, and needs bounds")
        side = self.cells * grid.TILE_SIZE
        left, bottom, right, top = self.bounds
        return tuple(
            Region(
                name=f"{self.name}-{column:02d}-{row:02d}",
                bounds=(
                    max(left, column * side), max(bottom, row * side),
                    min(right, (column + 1) * side), min(top, (row + 1) * side),
                ),
                whole=self.whole,
                area=self.area,
                split=self.split,
                required=False,
                covered=self.covered,
            )
            for row in range(math.floor(bottom / side), math.ceil(top / side))
            for column in range(math.floor(left / side), math.ceil(right / side))
        )  # fmt: skip


class SplitRule(Frozen):
    """How tiles are shared out.

    Attributes:
        block: side of a spatial block in tiles (10 = 48 km); a block goes to one split as a whole.
        buffer: tiles left out between labelled splits, counted in all eight directions.
        fractions: wanted share of each split; a split that neither this nor a region names does not exist.
        unlabelled: splits that get no labels, and so no buffer; without labels, all.
        stratify_level: legend level whose class shares should be alike in all splits.
        min_labelled: least share of a tile's label pixels that must have a class.
        file: a committed list to use in place of planning.
    """

    block: Annotated[int, Field(ge=1)] = grid.BLOCK_TILES
    buffer: Annotated[int, Field(ge=0)] = 1
    fractions: dict[SplitName, Fraction] = Field(default={"train": 0.7, "val": 0.15, "test": 0.15})
    unlabelled: tuple[SplitName, ...] = ()
    seed: int = 0
    stratify_level: Literal[1, 2, 3, 4] = 2
    min_labelled: Fraction = 0.5
    file: Path | None = None

    @model_validator(mode="after")
    def _sum(self) -> Self:
        if abs(sum(self.fractions.values()) - 1) > 1e-6:
            raise ValueError(f"fractions {self.fractions} must sum to 1")
        return self


class DatedRule(Frozen):
    """Imagery of several years with its dates: the array ``<name>_<first>-<last>``.

    Attributes:
        first, last: first and last year.
        every: composites of so many days, counted from 1 January of each year, on the same dates in all tiles; None
            keeps every day on which a tile has a clear pixel.

    Examples:
        >>> [str(day) for day, _ in DatedRule(first=2018, last=2019, every=180).periods()]
        ['2018-03-31', '2018-09-27', '2018-12-28', '2019-03-31', '2019-09-27', '2019-12-28']
    """

    first: Annotated[int, Field(ge=1900, le=2100)]
    last: Annotated[int, Field(ge=1900, le=2100)]
    every: Annotated[int, Field(ge=1, le=366)] | None = None

    @model_validator(mode="after")
    def _several_years(self) -> Self:
        if self.first >= self.last:
            raise ValueError(f"dated imagery is of several years, not of {self.first} to {self.last}")
        return self

    @property
    def years(self) -> tuple[int, ...]:
        """All years."""
        return tuple(range(self.first, self.last + 1))

    def periods(self) -> list[tuple[date, Days]]:
        """Middle day of each composite, with its first and last day. Those of one year end with it."""
        found = []
        for year in self.years:
            start, end = date(year, 1, 1), date(year, 12, 31)
            while start <= end:
                last = min(start + timedelta(days=(self.every or 1) - 1), end)
                found.append((start + (last - start) // 2, (start, last)))
                start = last + timedelta(days=1)
        return found


class SensorRule(Frozen):
    """What to take of one sensor.

    Attributes:
        years: of the composites by season.
        dated: dated imagery of several years, in addition to the composites or in their place.
        archive: module of ``builders.archives`` that knows what the files mean; by default that of the sensor.
        catalog: catalog or STAC API of these scenes, by default the recipe's. For an archive without a catalog, the
            address of its files with the parts that vary in braces: see the archive's module.
        acquired: first and last day (YYYY-MM-DD) of the scenes to use for every season, in place of the season's own
            days of the year; for scenes without an exact date.
        composite: of the clear observations of a pixel, the ``median`` of each band, or the ``medoid``: the one
            observation, in all bands, that is nearest to all others (see ``builders.stages._composite``).
        max_cloud: scenes with a larger cloud fraction (0…1) in their metadata are not taken.
        quality: a scene without its quality layer is left out, or (``optional``) all its pixels count as clear.
        required: every tile must have a valid pixel of it; otherwise the tile's row may be empty.
        licence: licence of the composites (an SPDX id or a URL).
    """

    name: str
    bands: tuple[str, ...]
    years: tuple[int, ...] = ()
    dated: DatedRule | None = None
    archive: str = ""
    catalog: str = ""
    collection: str = ""
    composite: Literal["median", "medoid"] = "median"
    max_cloud: Annotated[float, Field(ge=0, le=1)] = 0.8
    acquired: tuple[date, date] | None = None
    quality: Literal["required", "optional"] = "required"
    required: bool = True
    licence: str = "CC-BY-4.0"

    @model_validator(mode="before")
    @classmethod
    def _default_archive(cls, data: dict[str, Any]) -> dict[str, Any]:
        name = str(data.get("name"))
        archive = str(data.get("archive", name))
        own = SENSORS[name].collection if name in SENSORS else ""
        return {"archive": archive, "collection": own if archive == name else archive} | data

    @model_validator(mode="after")
    def _known_bands(self) -> Self:
        for band in self.bands:
            sensor(self.name).band(band)
        if not self.bands or not (self.years or self.dated):
            raise ValueError("bands and years must not be empty")
        if self.dated and self.acquired:
            raise ValueError("acquired is for scenes without an exact date, which dated imagery requires")
        if self.acquired and self.acquired[0] > self.acquired[1]:
            raise ValueError(f"acquired begins on {self.acquired[0]}, after its end on {self.acquired[1]}")
        return self

    def spans(self, seasons: tuple[Season, ...], year: int) -> list[Days]:
        """First and last day of the scenes of each season's composite of a year."""
        return [self.acquired or season.days(year) for season in seasons]

    def days(self, seasons: tuple[Season, ...]) -> list[Days]:
        """First and last days of all scenes: of each composite by season, and of each year of dated imagery."""
        composites = [span for year in self.years for span in self.spans(seasons, year)]
        return composites + [
            (date(year, 1, 1), date(year, 12, 31)) for year in (self.dated.years if self.dated else ())
        ]

    @property
    def dated_array(self) -> ArrayKey | None:
        """The array of dated imagery."""
        return ArrayKey(self.name, self.dated.first, self.dated.last) if self.dated else None

    @property
    def arrays(self) -> tuple[ArrayKey, ...]:
        """All arrays of imagery: composites by season, then dated imagery."""
        dated = (self.dated_array,) if self.dated_array else ()
        return (*(ArrayKey(self.name, year) for year in self.years), *dated)


class LabelRule(Frozen):
    """Labels of one year, all of which become LUISA codes.

    Attributes:
        name: of the source in the release, whose arrays are ``<name>_<year>``; by default that of the legend.
        source: legend of the file: LUISA, CORINE or an own map, each a raster or polygons with ``field``; or polygons
            of Urban Atlas.
        layer: of a vector file with several.
        field: column of the codes or words of polygons.
        band: of a raster with several: its number or description; not needed where one description names the year.
        min_cover: least share of a label pixel that polygons, or finer pixels of a raster, must cover to label it.
        codes: of an own map: its code or word → LUISA code of any level; 0 leaves it unlabelled on purpose.
        edition: name of a LUISA edition in ``builders.archives.luisa``, or of another map in words.
        sha256: pins the edition; a file with another digest is refused.
        required: every tile of a labelled split must have enough of these labels (``min_labelled``); otherwise a tile
            may lack them.
        licence: of the labels, by default the recipe's ``label_licence``.
    """

    name: ArrayName = ""
    year: int
    source: Literal["luisa", "corine", "urban-atlas", "own"]
    path: Path
    layer: str | None = None
    field: str | None = None
    band: Annotated[int, Field(ge=1)] | str | None = None
    min_cover: Fraction = 0.5
    codes: dict[str, int] | None = None
    edition: str | None = None
    sha256: Sha256 | None = None
    required: bool = True
    licence: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_name(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {"name": str(data.get("source", ""))} | data

    @property
    def array(self) -> ArrayKey:
        """The array that the labels become."""
        return ArrayKey(self.name, self.year)

    @model_validator(mode="after")
    def _own_codes(self) -> Self:
        if (self.codes is not None) != (self.source == "own"):
            raise ValueError('source = "own" and codes go together')
        check_codes(self.codes or {})
        return self


def check_codes(codes: Mapping[str, int]) -> None:
    """Nothing, if all targets are LUISA codes or 0.

    Raises:
        ValueError: one is not.
    """
    wrong = {own: code for own, code in codes.items() if code not in legend().classes and code != NODATA}
    if wrong:
        own, code = next(iter(wrong.items()))
        raise ValueError(f"{own!r} is mapped to {code}, which is not a LUISA code")


class PackRule(Frozen):
    """Tiles in one shard (a shard is written by one worker, in memory), and the compressor."""

    shard_tiles: Annotated[int, Field(ge=1)] = 8
    codec: Codec = "lz4hc"


class IngestRule(Frozen):
    """Scenes in files that have no catalog: where they are, and what their names and headers do not tell.

    Attributes:
        kind: ``files``, described by ``builders.ingest``; or a data set that must be converted.
        path: a folder, searched with its sub-folders, a zip file of one, or a single raster.
        pattern: of the names of the files to take.
        sensor: of all files.
        platform: such as ``landsat-8``, on which the numbers of Landsat's bands depend.
        bands: names of the bands of each file with several, in file order.
        dates: day of acquisition; several if each file repeats ``bands`` for each date.
        acquired: first and last day, if the day is not known; in place of ``dates``.
        scale: value = DN · scale + offset; if not given, that of the file or of its product.
        offset: see ``scale``.
        nodata: DN of missing pixels; if not given, that of the file or of its product.
        unit: of radar backscatter, ``dB`` or ``1`` (linear power).
        baseline: Sentinel-2 processing baseline, such as ``02.07``.
        level: processing level, if names of files do not tell it.
        allow_l1c: take Sentinel-2 Level-1C, which is not surface reflectance; its collection is ``sentinel-2-l1c``.
    """

    kind: Literal["files", "flanders"] = "files"
    path: Path
    pattern: str = "*"
    sensor: str | None = None
    platform: str | None = None
    bands: tuple[str, ...] = ()
    dates: tuple[date, ...] = ()
    acquired: tuple[date, date] | None = None
    scale: Annotated[float, Field(allow_inf_nan=False, gt=0)] | None = None
    offset: Annotated[float, Field(allow_inf_nan=False)] | None = None
    nodata: float | None = None
    unit: Literal["dB", "1"] | None = None
    baseline: Annotated[str, Field(pattern=r"^\d\d\.\d\d$")] | None = None
    level: Literal["L1C", "L2A"] | None = None
    allow_l1c: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dates and self.acquired:
            raise ValueError("dates and acquired exclude each other")
        if self.acquired and self.acquired[0] > self.acquired[1]:
            raise ValueError(f"acquired begins on {self.acquired[0]}, after its end on {self.acquired[1]}")
        if self.offset is not None and self.scale is None:
            raise ValueError("offset is given without scale")
        return self


class Download(Frozen):
    """A file that a build downloads before anything else, unless it is there.

    Attributes:
        path: where to; ``${DOWNLOADS}`` is a folder of the workspace, or ``LULCBENCH_DOWNLOADS`` of the environment.
        sha256: pins the content. Without it the build ends after the download, with an error that states it.
    """

    url: Annotated[str, Field(pattern=r"^https?://")]
    path: Path
    sha256: Sha256 | None = None
