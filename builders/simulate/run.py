"""From a configuration to a catalog of scenes on disk."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pystac
from rich.progress import Progress, TaskID

from builders.simulate.acquisitions import Acquisition, plan
from builders.simulate.archive import write_catalog, write_scene
from builders.simulate.config import SensorName, SimulationConfig
from builders.simulate.ground import Shading, relief
from builders.simulate.labels import LabelMap, label_maps
from builders.simulate.mixtures import Footprint, coarsen, fractions
from builders.simulate.scenes import Layer, take
from builders.simulate.surface import Surface
from lulcbench.grid import Bounds
from lulcbench.sensors import LANDSAT, PLANET, SENTINEL2, Band, Sensor

_SENSORS: dict[SensorName, Sensor] = {"sentinel2": SENTINEL2, "landsat": LANDSAT, "planet": PLANET}
_WORKERS = 2


def simulate(config: SimulationConfig, out: Path, progress: Progress | None = None) -> None:
    """Render scenes and label maps.

    Args:
        config: what to render.
        out: folder to fill: ``catalog.json`` (written last), a folder for each collection, and
            ``labels/luisa_<year>.tif`` (50 m, EPSG:3035, int32, nodata 0). What an earlier run left there is replaced.
        progress: where to show a bar, or None.

    Raises:
        LulcbenchError: the label map cannot be used.
    """
    maps = label_maps(config)
    (out / "catalog.json").unlink(missing_ok=True)
    for name in ("sentinel-2-l2a", "landsat-c2-l2", "planet-fusion", "labels"):
        shutil.rmtree(out / name, ignore_errors=True)
    for year, labels in maps.items():
        labels.write(out / "labels" / f"luisa_{year}.tif", config.bounds)
    passes = sum(4 * config.dates_per_season * len(_years(config, sensor)) for sensor in config.sensors)
    task = progress.add_task("simulate", total=passes) if progress is not None else None
    items = []
    for year, labels in maps.items():
        sensors = [sensor for sensor in config.sensors if year in _years(config, sensor)]
        if sensors:
            items += _render_year(config, labels, year, sensors, out, progress, task)
    write_catalog(out, items, config.seed)


def _years(config: SimulationConfig, sensor: SensorName) -> tuple[int, ...]:
    return config.years if sensor == "landsat" else (config.target_year,)


def _render_year(
    config: SimulationConfig, labels: LabelMap, year: int, sensors: list[SensorName], out: Path,
    progress: Progress | None, task: TaskID | None,
) -> list[pystac.Item]:  # fmt: skip
    surface = Surface(labels, year, config)
    deviations = relief(surface, config)

    def layers(bounds: Bounds, *sizes: int) -> tuple[Footprint, dict[int, Layer]]:
        footprint = Footprint.over(bounds)
        finest = min(sizes)
        samples = {3: 1, 10: 3, 30: 6}[finest]
        counts = {finest: fractions(surface, footprint, finest, samples)}
        for size in sizes:
            if size != finest:
                counts[size] = coarsen(counts[finest], size // finest)
        return footprint, {
            size: Layer(counts[size], Shading(surface, deviations, footprint, size, config.seed), size)
            for size in sizes
        }

    items = []
    shared = None
    if "sentinel2" in sensors:
        shared = layers(config.bounds, 10, 20, 30)
    for name in sensors:
        if name == "planet":
            footprint, ground = layers(config.planet_bounds or config.bounds, 3)
        elif name == "landsat":
            footprint, ground = shared or layers(config.bounds, 30)
            ground = {30: ground[30]}
        else:
            assert shared is not None  # noqa: S101
            footprint, ground = shared[0], {size: shared[1][size] for size in (10, 20)}
        sensor = _SENSORS[name]

        def render(taken: Acquisition, sensor: Sensor = sensor, footprint: Footprint = footprint,
                   ground: dict[int, Layer] = ground) -> pystac.Item:  # fmt: skip
            images, cloud = take(taken, sensor, _channels(sensor, taken), ground, footprint)
            item = write_scene(out, taken, sensor, images, cloud, footprint)
            if progress is not None and task is not None:
                progress.advance(task)
            return item

        with ThreadPoolExecutor(_WORKERS) as pool:
            items += pool.map(render, plan(config, name, year, sensor.resolution))
    return items


def _channels(sensor: Sensor, taken: Acquisition) -> tuple[Band, ...]:
    # Level-2A has no cirrus channel, and Landsat before 8 no coastal one.
    missing = {"cirrus"} | ({"coastal"} if taken.platform in ("landsat-5", "landsat-7") else set())
    return tuple(band for band in sensor.bands if band.asset not in missing)
