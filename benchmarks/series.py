"""Reading the series of single pixels in random order: a release against one GeoTIFF per date, and against zarr-python.

    python -m benchmarks.series [--pixels 1000000] [--tiles 12] [--dates 60]

All hold the same values, 5 bands of 10 m, and read the same pixels in the same order and in the same batches, each of
them as well as its library allows: the pixels of a batch are grouped, so that a chunk or block is decoded once per
batch.

- ``release``: ``ShardReader.read_pixels``.
- ``zarr_release``: zarr-python on the array of the release itself, whose chunks hold all dates.
- ``zarr_dates``: zarr-python on an array with chunks of one date, chunk by chunk.
- ``zarr_release_vindex``, ``zarr_dates_vindex``: the same arrays by ``vindex``, one call per batch; they read a part of
  the large batches.
- ``geotiff``: rasterio on one file per tile and date, open throughout, block by block, on two threads, with a block
  cache of 256 MiB. A cache that holds all of the data would measure memory: releases are larger than that.

Large batches are those of drawing samples, small ones those of training. The last line is one JSON object: ``vs_zarr``
and ``vs_geotiff`` are the ratios to the fastest peer of each kind on large batches, ``…_small`` on small ones.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import rasterio
import zarr
from rasterio.windows import Window
from zarr.codecs import BloscCodec

from builders.stages._hierarchy import TileAxis, image_array, list_files, write_arrays, write_coordinates
from builders.stages._shards import ShardJob, write_shard
from builders.stages.plan import Planned
from lulcbench.grid import Tile
from lulcbench.release import ArrayKey, Manifest, Release, SensorInfo
from lulcbench.sensors import SENTINEL2

KEY = ArrayKey("sentinel2", 2018, 2020)
BANDS = tuple(SENTINEL2.band(name) for name in ("B02", "B03", "B04", "B08", "B11"))
SIDE = 480
BATCH, SMALL = 50_000, 1024  # pixels
SMALL_BATCHES = 10
BLOCK = 128  # side of the blocks of the GeoTIFFs
CACHE_MIB = 256  # of blocks that GDAL keeps
Ints = npt.NDArray[np.integer]
ReadPixels = Callable[[npt.NDArray[np.integer], npt.NDArray[np.integer]], npt.NDArray[np.uint16]]


def write(folder: Path, tiles: int, dates: int) -> None:
    """Write the same values as a release, as one GeoTIFF per tile and date, and as an array of zarr-python."""
    planned = {"train": [Planned(Tile(900 + i, 650), "here", "b", "train") for i in range(tiles)]}
    axis = TileAxis(planned, shard_tiles=1)
    array = image_array(KEY, 10, BANDS, dates, axis="time")
    root = folder / "release"
    write_arrays(root, [array], axis, "lz4")
    shape = (tiles, dates, len(BANDS), SIDE, SIDE)
    plain = zarr.create_array(
        folder / "plain.zarr", shape=shape, chunks=(1, 1, len(BANDS), 120, 120), dtype="uint16",
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
    )  # fmt: skip
    days = np.tile(np.datetime64("2018-01-05") + 18 * np.arange(dates), (tiles, 1))
    for tile in range(tiles):
        values = _values(tile, dates)
        np.save(folder / f"{tile}.npy", values)
        files = (folder / f"{tile}.npy",)
        write_shard(ShardJob(array, "train", axis.size, 1, "lz4", tile, files, root, folder / f"{tile}.json"))
        plain[tile] = values
        for date in range(dates):
            profile = {"driver": "GTiff", "dtype": "uint16", "count": len(BANDS), "height": SIDE, "width": SIDE}
            profile |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "zstd", "crs": "EPSG:3035"}
            transform = planned["train"][tile].tile.transform(10)
            with rasterio.open(folder / f"{tile}-{date}.tif", "w", **profile, transform=transform) as file:
                file.write(values[date])
        (folder / f"{tile}.npy").unlink()
    write_coordinates(
        root, [array], axis, {"sentinel2": BANDS}, (), {"title": "Benchmark (SIMULATED DATA)"}, {KEY: days}
    )
    info = SensorInfo(resolution=10, bands=BANDS, spans=((2018, 2020),), licence="CC0-1.0", statistics=None)
    Manifest(
        name="series", version="0.1.0", title="Benchmark", description="", simulated=True, seasons=(),
        sensors={"sentinel2": info}, labels={}, regions=("here",), splits={"train": tiles}, first_rows=axis.first_rows,
        sources=(), files=list_files(root, [array], axis, lambda key: "CC0-1.0"), builder="benchmark",
    ).write(root)  # fmt: skip


def _values(tile: int, dates: int) -> npt.NDArray[np.uint16]:
    """Smooth in time and space with noise, so that it compresses as imagery does."""
    rng = np.random.default_rng(tile)
    ground = rng.integers(800, 4000, (len(BANDS), SIDE // 16, SIDE // 16)).repeat(16, 1).repeat(16, 2)
    season = 400 * np.sin(np.arange(dates) * 2 * np.pi * 18 / 365)
    noise = rng.integers(0, 60, (dates, len(BANDS), SIDE, SIDE))
    values: npt.NDArray[np.uint16] = (ground + season[:, None, None, None] + noise).astype(np.uint16)
    return values


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=1_000_000)
    parser.add_argument("--tiles", type=int, default=12)
    parser.add_argument("--dates", type=int, default=60)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        # In a process of its own: the peak of memory is that of reading.
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(folder, options.tiles, options.dates))
        writer.start()
        writer.join()
        print(json.dumps(measure(folder, options)))
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, options: Any) -> dict[str, float]:
    """Pixels per second of each reader, and ratios."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, options.tiles, options.pixels)
    places = rng.integers(0, SIDE, (options.pixels, 2))
    rates: dict[str, dict[int, float]] = {}
    peak = 0.0
    for batch in (BATCH, SMALL):
        first = Release.open(folder / "release").reader("train").read_pixels(KEY, rows[:batch], places[:batch])
        for name, reader, part in _readers(folder, options):
            np.testing.assert_array_equal(reader(rows[:SMALL], places[:SMALL]), first[:SMALL])  # opens all, too
            end = min(options.pixels, batch * (part if batch == BATCH else SMALL_BATCHES))
            start = time.perf_counter()
            for at in range(0, end, batch):
                reader(rows[at : min(at + batch, end)], places[at : min(at + batch, end)])
            rates.setdefault(name, {})[batch] = end / (time.perf_counter() - start)
            print(f"{name:20} batches of {batch:,}: {rates[name][batch]:,.0f} pixels/s", flush=True)
            if name == "release" and batch == BATCH:  # before the others have read
                peak = max(peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(f"{'pixels/s':20}" + "".join(f"{f'batches of {batch:,}':>20}" for batch in (BATCH, SMALL)))
    for name, by_batch in rates.items():
        print(f"{name:20}" + "".join(f"{by_batch[batch]:20,.0f}" for batch in (BATCH, SMALL)))
    found: dict[str, float] = {}
    for suffix, batch in (("", BATCH), ("_small", SMALL)):
        own = rates["release"][batch]
        found[f"vs_geotiff{suffix}"] = round(own / rates["geotiff"][batch], 2)
        found[f"vs_zarr{suffix}"] = round(own / max(r[batch] for n, r in rates.items() if n.startswith("zarr")), 2)
    return found | {"peak_mib": round(peak), "pixels_per_s": round(rates["release"][BATCH])}


def _readers(folder: Path, options: Any) -> Iterator[tuple[str, ReadPixels, int]]:
    """Name of each reader, what reads a batch, and how many large batches it reads at most."""
    reader = Release.open(folder / "release").reader("train")
    yield "release", lambda rows, places: reader.read_pixels(KEY, rows, places), 10**9
    own = zarr.open_array(folder / "release" / str(KEY), mode="r")
    yield "zarr_release", partial(_by_chunk, own), 10**9
    plain = zarr.open_array(folder / "plain.zarr", mode="r")
    yield "zarr_dates", partial(_by_chunk, plain), 10**9
    yield "zarr_release_vindex", partial(_by_vindex, own), 1
    yield "zarr_dates_vindex", partial(_by_vindex, plain), 1
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MIB), GeoTiffs(folder, options.tiles, options.dates) as files:
        yield "geotiff", files.read, 10**9


def _groups(rows: Ints, places: Ints, side: int) -> Iterator[tuple[int, int, int, Ints]]:
    """Tile, first row and column of each block that has pixels, and which pixels."""
    cells = np.column_stack([rows, places // side])
    blocks, of_block = np.unique(cells, axis=0, return_inverse=True)
    order = np.argsort(of_block, kind="stable")
    parts = np.split(order, np.searchsorted(of_block[order], np.arange(1, len(blocks))))
    for (tile, y, x), mine in zip((blocks * [1, side, side]).tolist(), parts, strict=True):
        yield tile, y, x, mine


def _by_chunk(array: Any, rows: Ints, places: Ints) -> npt.NDArray[np.uint16]:
    """Read each chunk, with all of its dates, once; zarr-python decodes the chunks of a selection concurrently."""
    out = np.empty((len(rows), array.shape[1], array.shape[2]), np.uint16)
    side = array.chunks[-1]
    for tile, y, x, mine in _groups(rows, places, side):
        window = array[tile, :, :, y : y + side, x : x + side]
        out[mine] = np.moveaxis(window[:, :, places[mine, 0] - y, places[mine, 1] - x], 2, 0)
    return out


def _by_vindex(array: Any, rows: Ints, places: Ints) -> npt.NDArray[np.uint16]:
    """Read the coordinates of all values in one call."""
    dates, bands = np.arange(array.shape[1])[None, :, None], np.arange(array.shape[2])[None, None, :]
    at = (rows[:, None, None], dates, bands, places[:, 0, None, None], places[:, 1, None, None])
    values: npt.NDArray[np.uint16] = array.vindex[tuple(np.broadcast_arrays(*at))]
    return values


class GeoTiffs:
    """One file per tile and date, all open; a thread reads the files of every second date.

    Args:
        folder: folder of the files.
        tiles, dates: their numbers.
    """

    def __init__(self, folder: Path, tiles: int, dates: int) -> None:
        names = [[folder / f"{tile}-{date}.tif" for tile in range(tiles)] for date in range(dates)]
        self._files = [[rasterio.open(name) for name in row] for row in names]
        self._pool = ThreadPoolExecutor(2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        for row in self._files:
            for file in row:
                file.close()

    def read(self, rows: Ints, places: Ints) -> npt.NDArray[np.uint16]:
        """Read a batch: each block once, into memory that the thread owns."""
        groups = list(_groups(rows, places, BLOCK))
        out = np.empty((len(rows), len(self._files), len(BANDS)), np.uint16)

        def read_date(date: int) -> None:
            for tile, y, x, mine in groups:
                window = Window(x, y, min(BLOCK, SIDE - x), min(BLOCK, SIDE - y))
                values = self._files[date][tile].read(window=window)
                out[mine, date] = values[:, places[mine, 0] - y, places[mine, 1] - x].T

        list(self._pool.map(read_date, range(len(self._files))))
        return out


if __name__ == "__main__":
    main()
