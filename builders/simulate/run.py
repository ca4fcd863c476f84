"""From a configuration to a catalog of scenes on disk."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pystac
from threadpoolctl import threadpool_limits

from builders._progress import Report, counter, silent
from builders.simulate.acquisitions import Acquisition, plan
from builders.simulate.archive import write_catalog, write_scene
from builders.simulate.config import SensorName, SimulationConfig
from builders.simulate.ground import Relief, Shading, relief
from builders.simulate.labels import label_maps
from builders.simulate.mixtures import Footprint, coarsen, fractions
from builders.simulate.scenes import Layer, take
from builders.simulate.surface import Surface
from lulcbench.grid import LABEL_RESOLUTION, Bounds
from lulcbench.sensors import SENSORS, Band, Sensor

_WORKERS = 2
# Scenes are cut into granules of at most this size (metres), so that memory does not grow with the area.
_GRANULE: dict[SensorName, int] = {"sentinel2": 28_800, "landsat": 28_800, "planet": 9_600}
# Pixel sizes (metres) that a sensor's bands are rendered at; coarser bands are averaged from the last.
_LAYERS: dict[SensorName, tuple[int, ...]] = {"sentinel2": (10, 20), "landsat": (30,), "planet": (3,)}
# Points per pixel along each axis at which the 3 m ground is looked up, by the finest pixel size of a granule.
_SAMPLES = {3: 1, 10: 3, 30: 6}


def simulate(config: SimulationConfig, out: Path, report: Report = silent) -> None:
    """Render scenes and label maps.

    Args:
        config: what to render.
        out: folder to fill: ``catalog.json`` (written last), a folder for each collection, and
            ``labels/luisa_<year>.tif`` (50 m, EPSG:3035, int32, nodata 0). What an earlier run left there is replaced.
        report: called with renderings done and renderings in all.

    Raises:
        LulcbenchError: the label map cannot be used.
    """
    maps = label_maps(config)
    (out / "catalog.json").unlink(missing_ok=True)
    for name in (*(sensor.collection for sensor in SENSORS.values()), "labels"):
        shutil.rmtree(out / name, ignore_errors=True)
    for year, labels in maps.items():
        labels.write(out / "labels" / f"luisa_{year}.tif", config.bounds)
    dates = len(config.seasons) * config.dates_per_season
    advance = counter(
        report,
        sum(dates * len(_years(config, sensor)) * len(list(_granules(config, sensor))) for sensor in config.sensors),
    )
    items: dict[str, list[pystac.Item]] = {SENSORS[sensor].collection: [] for sensor in config.sensors}
    for year, labels in maps.items():
        groups = _groups(config, year)
        if not groups:
            continue
        surface = Surface(labels, year, config)
        deviations = relief(surface, config)
        for group in groups:
            for number, bounds in enumerate(_granules(config, group[0])):
                granule = _Granule(config, surface, deviations, bounds, group, number)
                for sensor in group:
                    items[SENSORS[sensor].collection] += granule.render(sensor, year, out, advance)
    write_catalog(out, items, config.seed)


class _Granule:
    """A piece of the country, as the sensors of one group see it in one year."""

    def __init__(
        self, config: SimulationConfig, surface: Surface, deviations: Relief, bounds: Bounds,
        group: tuple[SensorName, ...], number: int,
    ) -> None:  # fmt: skip
        self._config, self._number = config, number
        self._country = Footprint.over(config.bounds)
        self._footprint = Footprint.over(bounds)
        sizes = sorted({size for sensor in group for size in _LAYERS[sensor]})
        counts = {sizes[0]: fractions(surface, self._footprint, sizes[0], _SAMPLES[sizes[0]])}
        for size in sizes[1:]:
            counts[size] = coarsen(counts[sizes[0]], size // sizes[0])
        self._layers = {
            size: Layer(counts[size], Shading(surface, deviations, self._footprint, size, config.seed), size)
            for size in sizes
        }

    def render(self, name: SensorName, year: int, out: Path, advance: Callable[[], None]) -> list[pystac.Item]:
        """Take all scenes of a sensor in a year."""
        sensor = SENSORS[name]
        layers = {size: self._layers[size] for size in _LAYERS[name]}

        def scene(taken: Acquisition) -> pystac.Item:
            bands = _channels(sensor, taken)
            images, cloud = take(taken, sensor, bands, layers, self._footprint, self._country)
            advance()
            season = self._config.seasons[taken.season].name
            name = f"{taken.id}_g{self._number:02d}"
            return write_scene(out, name, taken, season, sensor, images, cloud, self._footprint)

        # The workers are the parallelism; BLAS threads of their own would only spin against each other.
        with threadpool_limits(1), ThreadPoolExecutor(_WORKERS) as pool:
            return list(pool.map(scene, plan(self._config, name, year, sensor.resolution)))


def _years(config: SimulationConfig, sensor: SensorName) -> tuple[int, ...]:
    return config.years if sensor == "landsat" or sensor in config.every_year else (config.target_year,)


def _groups(config: SimulationConfig, year: int) -> list[tuple[SensorName, ...]]:
    """The sensors of a year, grouped by the fractions they share: Landsat's pixels are sums of Sentinel-2's."""
    present = [sensor for sensor in config.sensors if year in _years(config, sensor)]
    nested = tuple(sensor for sensor in present if sensor != "planet")
    alone = tuple(sensor for sensor in present if sensor == "planet")
    return [group for group in (nested, alone) if group]


def _granules(config: SimulationConfig, sensor: SensorName) -> Iterator[Bounds]:
    left, bottom, right, top = config.planet_bounds or config.bounds if sensor == "planet" else config.bounds

    def cut(low: float, high: float) -> list[tuple[float, float]]:
        pieces = math.ceil((high - low) / _GRANULE[sensor])
        step = math.ceil((high - low) / pieces / LABEL_RESOLUTION) * LABEL_RESOLUTION
        return [(low + n * step, min(low + (n + 1) * step, high)) for n in range(pieces)]

    for (south, north), (west, east) in itertools.product(cut(bottom, top), cut(left, right)):
        yield (west, south, east, north)


def _channels(sensor: Sensor, taken: Acquisition) -> tuple[Band, ...]:
    # Level-2A has no cirrus channel, and Landsat before 8 no coastal one.
    missing = {"cirrus"} | ({"coastal"} if taken.platform == "landsat-7" else set())
    return tuple(band for band in sensor.bands if band.asset not in missing)
