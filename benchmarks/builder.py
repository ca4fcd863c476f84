"""Seasonal composites by ``python -m builders materialize``, compared with GDAL's warper and NumPy, and with odc-stac.

usage: .venv-bench/bin/python benchmarks/builder.py [--columns 8] [--rows 6] [--dates 12] [--rounds 1]

The simulator renders one summer of Sentinel-2 (``--dates`` acquisitions as COGs and STAC items). Every method
composites the same groups of tiles, ten bands at 10 m, with the same masks and resampling (``composites.py``), and
writes one array per tile. Times are those of whole commands, each in a new process. The builder also widens the mask of
clouds, compares all files with their checksums and counts clear observations, which the peers do not.

``vs_bestpixel`` is null: the package installs, but reads only services on the internet, whose addresses and certificate
authorities are compiled in. ``http_bytes_ratio``: bytes that a file server on loopback sends to a build of a quarter of
the tiles, over the bytes of the COG blocks that these tiles touch. ``registration_error_m``: see ``displacements.py``.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pystac
import rasterio
from rasterio.warp import transform

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import displacements
from benchmarks.composites import BANDS, PEERS
from benchmarks.files import serving
from builders.readers.area import Area
from builders.stages.plan import read
from builders.workspace import Workspace, workspace
from lulcbench.grid import CRS, TILE_SIZE, Tile

CORNER = (900, 648)  # column and row of the south-western tile
GROUP = 2  # tiles along a side of a group, as in the builder
STEP = 50  # m; points at which blocks are looked up, which are larger than 5 km

RECIPE = """
name = "bench"
version = "0.1.0"
title = "Benchmark of the builder"
description = "One summer of Sentinel-2."
simulated = true
catalog = "{catalog}"
labels = []
seasons = [{{ name = "summer", start = "06-25", end = "09-12" }}]
regions = [{{ name = "all", bounds = {bounds}, split = "map" }}]
sensors = [{{ name = "sentinel2", bands = {bands}, years = [2018], max_cloud = 1 }}]
"""

SIMULATE = """
[simulate]
years = [2018]
sensors = ["sentinel2"]
bounds = {bounds}
dates_per_season = {dates}
"""


def main() -> None:
    """Run the benchmark and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=8, help="tiles from west to east")
    parser.add_argument("--rows", type=int, default=6, help="tiles from south to north")
    parser.add_argument("--dates", type=int, default=12, help="acquisitions")
    parser.add_argument("--rounds", type=int, default=1, help="of which the fastest counts")
    parser.add_argument("--scenes", type=Path, help="folder in which to keep the scenes for another run")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        composite(options.peer, workspace(options.scenes / "out"), options.workers)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.scenes or Path(scratch, "scenes")).resolve()
        space = prepare(folder, options.columns, options.rows, options.dates)
        tiles = len(read(space.splits))
        print(f"{tiles} tiles, {options.dates} dates, GDAL {rasterio.__gdal_version__}; load {os.getloadavg()[0]:.1f}")
        rate, processor = speeds(space, tiles, options.rounds)
        result: dict[str, float | None] = {
            "vs_gdalwarp": rate["ours", 1] / rate["gdal_numpy", 1],
            "vs_odc_stac": rate["ours", 1] / rate["odc_stac", 1],
            "vs_bestpixel": None,
            "two_workers": rate["ours", 2] / rate["ours", 1],
            "two_workers_vs_gdalwarp": rate["ours", 2] / rate["gdal_numpy", 2],
            "two_workers_vs_odc_stac": rate["ours", 2] / rate["odc_stac", 2],
            "processor_vs_gdalwarp": processor["gdal_numpy"] / processor["ours"],
            "processor_vs_odc_stac": processor["odc_stac"] / processor["ours"],
            "tiles_per_minute": rate["ours", 1],
            "processor_s_per_tile_and_date": processor["ours"] / tiles / options.dates,
            "differs_from_gdalwarp": difference(space, "gdal_numpy"),
            "differs_from_odc_stac": difference(space, "odc_stac"),
            **packing(space, tiles),
            **http_bytes(space, Path(scratch, "remote"), options.dates),
            **displacements.errors(Path(scratch), Tile(*CORNER)),
        }
    print(f"load {os.getloadavg()[0]:.1f}")
    print(json.dumps({key: None if value is None else round(value, 3) for key, value in result.items()}))


def prepare(folder: Path, columns: int, rows: int, dates: int) -> Workspace:
    """Scenes, plan and search."""
    folder.mkdir(parents=True, exist_ok=True)
    left, bottom = (TILE_SIZE * n for n in CORNER)
    bounds = [left, bottom, left + TILE_SIZE * columns, bottom + TILE_SIZE * rows]
    text = RECIPE.format(catalog="${SCENES}/catalog.json", bounds=bounds, bands=list(BANDS))
    (folder / "recipe.toml").write_text(text + SIMULATE.format(bounds=bounds, dates=dates))
    space = workspace(folder / "out")
    for stage in ("scenes", "plan", "search"):
        builders(space, stage)
    return space


def builders(space: Workspace, stage: str, *options: str) -> float:
    """A command of the builders in a new process; returns the seconds that it took."""
    recipe = space.root.with_name("recipe.toml")
    return run("-m", "builders", stage, str(recipe), "--out", str(space.root), *options)


def run(*arguments: str) -> float:
    """Python in a new process; returns the seconds that it took."""
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603 (own command)
        [sys.executable, *arguments], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    if done.returncode:
        raise SystemExit(f"{arguments[:3]} failed: {done.stderr[-2000:]}")
    return time.perf_counter() - start


def speeds(space: Workspace, tiles: int, rounds: int) -> tuple[dict[tuple[str, int], float], dict[str, float]]:
    """Tiles per minute by method and number of worker processes, and processor seconds of a method with one worker."""
    rates: dict[tuple[str, int], float] = {}
    processor: dict[str, float] = {}
    for _ in range(rounds):
        for name in ("ours", *PEERS):
            for workers in (1, 2):
                used = children_seconds()
                if name == "ours":
                    shutil.rmtree(space.cache, ignore_errors=True)
                    (space.work / "verified.json").unlink(missing_ok=True)
                    seconds = builders(space, "materialize", "--workers", str(workers))
                else:
                    shutil.rmtree(space.work / name, ignore_errors=True)
                    parent = str(space.root.parent)
                    seconds = run(__file__, "--peer", name, "--workers", str(workers), "--scenes", parent)
                used, rate = children_seconds() - used, 60 * tiles / seconds
                rates[name, workers] = max(rates.get((name, workers), 0), rate)
                if workers == 1:
                    processor[name] = min(processor.get(name, used), used)
                print(f"{name:<12}{workers} workers{rate:8.1f} tiles/min{used:8.1f} s processor time", flush=True)
    return rates, processor


def children_seconds() -> float:
    """Processor time of the processes that this process has started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def composite(peer: str, space: Workspace, workers: int) -> None:
    """Composite all tiles with a peer, in worker processes if these are several."""
    groups: dict[tuple[int, int], list[Tile]] = {}
    for row in read(space.splits):
        groups.setdefault((row.tile.ix // GROUP, row.tile.iy // GROUP), []).append(row.tile)
    (space.work / peer).mkdir()
    function = functools.partial(composite_group, peer, space)
    if workers == 1:
        list(map(function, groups.values()))
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            list(pool.map(function, groups.values()))


def composite_group(peer: str, space: Workspace, tiles: list[Tile]) -> None:
    """Write one ``.npy`` file per tile, as the builder does: 10,000 · (reflectance + 0.1), 0 where missing."""
    area = Area.of(tiles, 10)
    values = PEERS[peer](scenes(space), area)
    stored = np.where(np.isfinite(values), np.rint(values + 1000), 0).clip(0, 65535).astype(np.uint16)
    for tile in tiles:
        np.save(space.work / peer / f"{tile.id}.npy", np.ascontiguousarray(stored[(slice(None), *area.window(tile))]))


def scenes(space: Workspace) -> list[pystac.Item]:
    """The items by time."""
    catalog = pystac.Catalog.from_file(str(space.scenes / "catalog.json"))
    items = sorted(catalog.get_items(recursive=True), key=lambda item: str(item.datetime))
    for item in items:
        item.make_asset_hrefs_absolute()
    return items


def difference(space: Workspace, peer: str) -> float:
    """Median absolute difference in reflectance between the composites of the builder and those of a peer."""
    differences = []
    for path in sorted((space.cache / "sentinel2_2018").glob("*[!r].npy"))[::5]:
        ours = np.load(path)[0].astype(np.int64)
        other = np.load(space.work / peer / f"{path.name.partition('-')[0]}.npy").astype(np.int64)
        differences.append(np.abs(ours - other)[(ours > 0) & (other > 0)])
    return float(np.median(np.concatenate(differences))) / 10_000


def packing(space: Workspace, tiles: int) -> dict[str, float]:
    """What becomes of the composites: time to pack and audit, and size of the release."""
    seconds = builders(space, "pack", "--workers", "1", "--replace") + run("-m", "builders", "audit", str(space.root))
    size = sum(path.stat().st_size for path in space.root.rglob("*") if path.is_file())
    return {"pack_and_audit_s_per_tile": seconds / tiles, "release_mb_per_tile": size / 1e6 / tiles}


def http_bytes(space: Workspace, folder: Path, dates: int) -> dict[str, float]:
    """Bytes that a build of a quarter of the tiles fetches, over those of the blocks that these touch."""
    folder.mkdir()
    tiles = [row.tile for row in read(space.splits)]
    xs, ys = ([tile.bounds[axis] for tile in tiles] for axis in (0, 1))
    side = GROUP * TILE_SIZE
    middle = [low + math.ceil((max(values) - low) / 2 / side) * side for values in (xs, ys) for low in [min(values)]]
    with serving(space.scenes) as server:
        catalog = pystac.Catalog(id="remote", description="Scenes on a server.")
        for item in scenes(space):
            for asset in item.assets.values():
                asset.href = f"{server.address}/{Path(asset.href).relative_to(space.scenes)}"
            item.clear_links()
            catalog.add_item(item)
        catalog.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
        text = RECIPE.format(catalog=folder / "catalog.json", bounds=[min(xs), min(ys), *middle], bands=list(BANDS))
        (folder / "recipe.toml").write_text(text)
        remote = workspace(folder / "out")
        builders(remote, "plan")
        builders(remote, "search")
        server.sent.clear()
        builders(remote, "materialize", "--workers", "1")
        built = [row.tile for row in read(remote.splits)]
        touched = sum(touched_bytes(path, built) for path in server.sent)
        sent = server.sent.total()
    return {"http_bytes_ratio": sent / touched, "http_mb_per_tile_and_date": sent / 1e6 / len(built) / dates}


def touched_bytes(path: Path, tiles: list[Tile]) -> int:
    """Bytes of the blocks of a file that hold a pixel of one of the tiles."""
    along = np.arange(0, TILE_SIZE + 1, STEP)
    blocks: set[tuple[int, int]] = set()
    with rasterio.open(path) as file:
        height, width = file.block_shapes[0]
        for tile in tiles:
            x, y = (part.ravel() for part in np.meshgrid(tile.bounds[0] + along, tile.bounds[1] + along))
            columns, rows = np.floor(~file.transform @ np.array(transform(CRS, file.crs, x, y))).astype(int)
            inside = (columns >= 0) & (columns < file.width) & (rows >= 0) & (rows < file.height)
            blocks.update(zip((columns[inside] // width).tolist(), (rows[inside] // height).tolist(), strict=True))
        return sum(int(file.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=1) or 0) for x, y in blocks)


if __name__ == "__main__":
    main()
