"""Configuration of the simulator, frozen and validated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from builders.simulate.events import Event
from lulcbench import grid
from lulcbench.errors import LulcbenchError
from lulcbench.seasons import SEASONS, Season

SensorName = Literal["sentinel2", "landsat", "planet"]
Bounds = tuple[float, float, float, float]


class SimulationConfig(BaseModel):
    """A simulated area and the scenes rendered of it.

    Attributes:
        seed: the same seed and configuration give the same bytes.
        bounds: (left, bottom, right, top) in EPSG:3035 metres; scenes cover at least this area.
        label_map: a LUISA GeoTIFF to render instead of a procedural map (any georeferenced CRS and pixel size;
            resampled to the 50 m grid by nearest neighbour). It is assumed to show the last of ``years``.
        label_map_edition: edition of ``label_map``, as in the recipe's labels.
        label_map_sha256: SHA-256 of ``label_map``; another file is refused.
        years: years of the label maps. Landsat is rendered for all of them, Sentinel-2 and Planet for the
            last.
        every_year: sensors besides Landsat that are rendered for all of ``years``.
        events: storms, fires and building, see ``builders.simulate.events``.
        sensors: names of the sensors to render.
        seasons: seasons in which scenes are acquired, taken from the recipe.
        dates_per_season: number of acquisitions per season and sensor.
        cloudiness: mean fraction of a scene under cloud.
        planet_bounds: the smaller area for Planet (a hundred times the pixels of Landsat); None means ``bounds``.
        geolocation_error: standard deviation of a scene's displacement along each axis, in pixels of the sensor.
        patch_variation: variation of the material mixture between the patches of a class; 0 gives equal mixtures.
        spectral_variation: relative standard deviation of the reflectance of patches about that of their materials.
        inclusions: fraction of the ground, below the minimum mapping unit, that differs from its label.
        climate_scale: wavelength of the procedural map's biomes (metres). A small value packs the climates of Europe
            into a few dozen kilometres, so that train and test areas share most classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 23
    bounds: Bounds = (4_320_000, 3_120_000, 4_377_600, 3_139_200)
    label_map: Path | None = None
    label_map_edition: str | None = None
    label_map_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    years: Annotated[tuple[int, ...], Field(min_length=1)] = (2012, 2018)
    every_year: tuple[SensorName, ...] = ()
    events: tuple[Event, ...] = ()
    sensors: Annotated[tuple[SensorName, ...], Field(min_length=1)] = ("sentinel2", "landsat")
    seasons: Annotated[tuple[Season, ...], Field(min_length=1)] = SEASONS
    dates_per_season: Annotated[int, Field(ge=1, le=12)] = 2
    cloudiness: Annotated[float, Field(ge=0, le=0.9)] = 0.2
    planet_bounds: Bounds | None = None
    geolocation_error: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    patch_variation: Annotated[float, Field(ge=0, le=1)] = 0.35
    spectral_variation: Annotated[float, Field(ge=0, le=0.5)] = 0.08
    inclusions: Annotated[float, Field(ge=0, le=0.5)] = 0.12
    climate_scale: Annotated[float, Field(gt=0)] = 10_000.0

    @model_validator(mode="after")
    def _consistent(self) -> SimulationConfig:
        for name, box in (("bounds", self.bounds), ("planet_bounds", self.planet_bounds)):
            if box is not None and not (box[0] < box[2] and box[1] < box[3]):
                raise ValueError(f"{name} {box} are empty: give left, bottom, right, top in EPSG:3035 metres")
        if list(self.years) != sorted(set(self.years)):
            raise ValueError(f"years {self.years} must ascend without repetition")
        if self.planet_bounds is not None and not _inside(self.planet_bounds, self.bounds):
            raise ValueError(f"planet_bounds {self.planet_bounds} must be inside bounds {self.bounds}")
        if self.events and self.label_map is not None:
            raise ValueError("events would change the given label_map: remove one of them")
        for event in self.events:
            if not self.years[0] < event.year <= self.years[-1]:
                raise ValueError(f"the {event.kind} of {event.year} is not between the years {self.years}")
        for value in self.bounds:
            if value % grid.LABEL_RESOLUTION:
                raise ValueError(f"bounds {self.bounds} must be multiples of {grid.LABEL_RESOLUTION} m")
        return self

    @classmethod
    def parse(cls, table: dict[str, object], seasons: tuple[Season, ...], where: str) -> SimulationConfig:
        """Create a configuration from a parsed TOML table.

        Args:
            table: keys and values.
            seasons: seasons of the recipe.
            where: name of the file, for error messages.

        Raises:
            LulcbenchError: a key is unknown or a value is not valid.
        """
        if "seasons" in table:
            raise LulcbenchError(f"{where}: [simulate] names seasons.", "Scenes use the [[seasons]] of the recipe.")
        try:
            return cls.model_validate(table | {"seasons": seasons})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the table"
            raise LulcbenchError(
                f"{where}: [simulate] {key}: {first['msg']}.", f"Known keys: {', '.join(cls.model_fields)}."
            ) from error

    @property
    def target_year(self) -> int:
        """The year of the label map, from which the maps of earlier years are derived."""
        return self.years[-1]


def _inside(inner: Bounds, outer: Bounds) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]
