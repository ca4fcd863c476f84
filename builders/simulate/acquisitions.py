"""Simulated acquisitions: date, sun, clouds, processing baseline and geolocation error of every scene."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from builders.simulate.config import SensorName, SimulationConfig
from builders.simulate.noise import generator, portable
from lulcbench.errors import LulcbenchError

_S2_BASELINES = ("02.06", "02.08", "05.00", "05.10")
_LATITUDE = 50.0  # degrees, for the sun


@dataclass(frozen=True)
class Acquisition:
    """One pass of one sensor.

    Attributes:
        id: id of the pass; scene ids append the number of the granule.
        salt: random key of the pass.
        sensor: sensor name.
        year: year of the ground that is imaged.
        season: index of the season in the configuration.
        time: UTC.
        platform: name such as ``sentinel-2a``.
        cloud: target fraction under cloud.
        sun: azimuth and elevation, degrees.
        shift: geolocation error (east, north) in metres.
        baseline: Sentinel-2 processing baseline; None for other sensors.
        wedge: edge of the swath, as a unit normal (x, y) and the position at which it cuts the country, as a fraction
            of its width; None if the swath covers the country.
        late: delay of the phenology in days.
        haze: residual of the atmospheric correction: additive reflectance in the blue.
    """

    id: str
    salt: str
    sensor: SensorName
    year: int
    season: int
    time: dt.datetime
    platform: str
    cloud: float
    sun: tuple[float, float]
    shift: tuple[float, float]
    baseline: str | None
    wedge: tuple[float, float, float] | None
    late: float
    haze: float


def plan(config: SimulationConfig, sensor: SensorName, year: int, resolution: int) -> list[Acquisition]:
    """All passes of a sensor over a year, in order of time."""
    passes = []
    for season, part in enumerate(config.seasons):
        # Stratified by cloud probability, so that every season has clear and cloudy passes, as in a real archive.
        odds = generator(config.seed, sensor, year, season).permutation(config.dates_per_season)
        first, last = part.days(year)
        days = (last - first).days
        for n in range(config.dates_per_season):
            rng = generator(config.seed, sensor, year, season, n)
            # One pass in each of equally long parts of the season, so that dates do not coincide.
            day = first + dt.timedelta(days=int((n + rng.uniform(0.1, 0.9)) * days / config.dates_per_season))
            passes.append(_acquire(config, sensor, year, season, day, n, int(odds[n]), resolution, rng))
    if len({taken.time.date() for taken in passes}) < len(passes):
        raise LulcbenchError(
            f"Two passes of {sensor} in {year} would be on the same day.",
            "Give the recipe seasons that do not overlap, and longer ones or fewer 'dates_per_season'.",
        )
    return passes


def _acquire(
    config: SimulationConfig, sensor: SensorName, year: int, season: int, day: dt.date, n: int, rank: int,
    resolution: int, rng: np.random.Generator,
) -> Acquisition:  # fmt: skip
    declination = -23.44 * portable(np.cos, np.radians(360 / 365.25 * (day.timetuple().tm_yday + 10)))
    elevation = float(np.clip(90 - _LATITUDE + declination - 4, 12, 70))
    sun = (round(float(rng.uniform(150, 168)), 2), round(elevation, 2))
    if sensor == "sentinel2":
        platform = ("sentinel-2a", "sentinel-2b")[n % 2]
        baseline = _S2_BASELINES[(season + 3 * n) % len(_S2_BASELINES)]
        time = dt.time(10, 30, int(rng.integers(60)))
        name = f"S{platform[-2:].upper()}_{day:%Y%m%d}_{n}_L2A"
    elif sensor == "landsat":
        # Landsat 5 ended in November 2011 and Landsat 8 began in 2013, so that only Landsat 7 covers 2012.
        platform = "landsat-8" if year >= 2013 else "landsat-7"
        baseline, time = None, dt.time(10, 5, int(rng.integers(60)))
        name = f"L{'C' if platform == 'landsat-8' else 'E'}0{platform[-1]}_L2SP_{day:%Y%m%d}_02_T1"
    else:
        platform, baseline, time = "planetscope", None, dt.time(10, 0)
        name = f"PF-SR_{day:%Y%m%d}"
    cloud = 0.0 if sensor == "planet" else _cloud(config.cloudiness, (rank + rng.random()) / config.dates_per_season)
    wedge = None
    # The clearest of several passes covers the whole country.
    if sensor != "planet" and rng.random() < 0.5 and (rank > 0 or config.dates_per_season == 1):
        side = 1.0 if rng.random() < 0.5 else -1.0
        tilt = np.radians(rng.uniform(8, 16))
        east, north = side * float(portable(np.cos, tilt)), -side * float(portable(np.sin, tilt))
        wedge = (east, north, float(rng.uniform(0.1, 0.35)))
    shift = np.clip(rng.normal(0, config.geolocation_error, 2), -0.95, 0.95) * resolution
    return Acquisition(
        id=f"{name}_sim",
        salt=f"{config.seed}/{name}",
        sensor=sensor,
        year=year,
        season=season,
        time=dt.datetime.combine(day, time, dt.UTC),
        platform=platform,
        cloud=cloud,
        sun=sun,
        shift=(round(float(shift[0]), 2), round(float(shift[1]), 2)),
        baseline=baseline,
        wedge=wedge,
        late=float(rng.normal(0, 6)),
        haze=float(abs(rng.normal(0, 0.006))),
    )


def _cloud(mean: float, odds: float) -> float:
    # The sky is mostly clear or mostly cloudy; archive searches exclude scenes above about 70 % cloud cover.
    return 0.0 if mean == 0 else float(min(beta.ppf(odds, 0.9, 0.9 * (1 - mean) / mean), 0.7))
