"""A release is a function of its inputs alone: not of which tiles are computed together, in which order, by whom."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from builders.ingest.catalog import File, item, write
from builders.stages import _index, _jobs, materialize, pack, plan, search
from builders.workspace import workspace
from lulcbench._parallel import each, executor
from lulcbench.sensors import LANDSAT, SENTINEL2, Sensor
from tests.builders import world
from tests.builders.stages import kill

pytestmark = pytest.mark.slow

RECIPE = world.RECIPE.replace(
    "[[labels]]",
    """[[sensors]]
name = "sentinel2"
bands = ["B04", "B08"]
years = [2018]
composite = "medoid"

[[labels]]""",
)
SENSORS: list[tuple[Sensor, tuple[str, ...], str, int]] = [
    (LANDSAT, ("red", "nir08"), "qa_pixel", 30),
    (SENTINEL2, ("B04", "B08"), "scl", 10),
]
TILES = 6


def noise(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Smooth noise from 0 to 1."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    ranks: np.ndarray = (values - values.min()) / np.ptp(values)
    return ranks


def scene(folder: Path, sensor: Sensor, bands: Sequence[str], quality: str, resolution: int, seed: int) -> Any:
    """A textured scene with clouds, whose west or east is missing."""
    transform, shape = world.frame(resolution)
    scale, offset = (2.75e-5, -0.2) if sensor is LANDSAT else (1e-4, 0)
    planes = []
    for i, _ in enumerate(bands):
        values = np.rint((0.05 + 0.3 * noise(shape, 10 * seed + i) - offset) / scale).astype(np.uint16)
        values[:, slice(0, shape[1] // 3) if seed % 2 else slice(2 * shape[1] // 3, None)] = 0
        planes.append(values)
    cloud, clear = (world.CLOUD, world.CLEAR) if sensor is LANDSAT else (9, 4)
    mask = np.where(noise(shape, 100 + seed) > 0.6, cloud, clear).astype(np.uint16 if sensor is LANDSAT else np.uint8)
    name = f"{sensor.name}-{seed}"
    data = world.write_raster(folder / f"{name}.tif", np.stack(planes), transform, world.UTM, 0)
    layer = world.write_raster(folder / f"{name}-{quality}.tif", mask, transform, world.UTM)
    day = datetime(2018, 7, 1 + 3 * seed, 10, tzinfo=UTC)
    files = [File("data", data, [sensor.band(band) for band in bands], scale, offset, 0), File(quality, layer)]
    more = {} if sensor is LANDSAT else {"s2__processing_baseline": "02.07"}
    return item(name, sensor, files, (day, day), eo__cloud_cover=10.0, **more)


def build(
    home: Path, out: str, change: Callable[[Sequence[Any]], Sequence[Any]], pool: Executor | None
) -> dict[str, str]:
    """SHA-256 of all files of a release whose jobs run in another order and, with a pool, elsewhere."""
    space = workspace(home / out)
    recipe = world.load(home / "recipe.toml", space.scenes)

    def shuffled(pool: Executor | None, function: Any, jobs: Sequence[Any]) -> Iterator[Any]:
        return each(pool, function, list(change(jobs)))

    with pytest.MonkeyPatch.context() as patch:
        for module in (materialize, pack, _index):
            patch.setattr(module, "each", shuffled)
        rows = plan.plan(recipe, space)
        materialize.materialize(recipe, space, list(change(rows)), search.search(recipe, space, rows), pool)
        pack.pack(recipe, space, rows, pool)
    return kill.tree(space.root)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sensors with two scenes each, over six tiles."""
    folder = tmp_path_factory.mktemp("grouping")
    items = [scene(folder / "scenes", *about, seed) for about in SENSORS for seed in (1, 2)]
    world.write_raster(folder / "labels.tif", *world.labels())
    write(folder, "world", "World", items)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def expected(home: Path) -> dict[str, str]:
    return build(home, "expected", lambda jobs: jobs, None)


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[int, Executor | None]]:
    with ExitStack() as stack:
        yield {workers: stack.enter_context(executor(workers)) for workers in (1, 2, 3)}


# Sides of groups in pixels (single tiles, several, all, sides that do not fit the lattice of cells), and workers.
@pytest.mark.parametrize(("side", "workers"), [(1, 1), (500, 2), (5000, 3), (480, 3), (160, 2)])
def test_any_grouping_order_and_number_of_workers_give_the_same_bytes(
    home: Path,
    expected: dict[str, str],
    pools: dict[int, Executor | None],
    tmp_path: Path,
    side: int,
    workers: int,
) -> None:
    """Some tiles are in the cache already, of a build that was killed and had other groups."""
    rng = random.Random(side)
    out = str(tmp_path / "release")
    space = workspace(Path(out))
    recipe = world.load(home / "recipe.toml", space.scenes)
    rows = plan.plan(recipe, space)
    done = rng.sample(rows, rng.randint(1, TILES // 2))
    materialize.materialize(recipe, space, done, search.search(recipe, space, rows), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_jobs, "GROUP", side)
        found = build(home, out, lambda jobs: rng.sample(list(jobs), len(jobs)), pools[workers])
    assert found == expected


def test_the_scenes_have_what_makes_tiles_depend_on_their_neighbours(home: Path, expected: dict[str, str]) -> None:
    """Clouds whose mask is widened across edges of tiles, several dates, and a third of each scene missing."""
    counts = [np.load(path) for path in (home / "expected.work" / "cache").rglob("*.clear.npy")]
    assert len(counts) == TILES * 2
    assert set(np.unique(counts[0])) == {0, 1, 2}
    edges = [np.load(path)[0, 0] for path in (home / "expected.work" / "cache" / "landsat_2018").glob("*[!r].npy")]
    assert all((edge[:, -1] > 0).any() or (edge[:, 0] > 0).any() for edge in edges)
