"""Reading the series of single pixels in random order: a release against one GeoTIFF per date, and against zarr-python.

    python -m benchmarks.series [--pixels 1000000] [--tiles 4] [--dates 60]

All three hold the same values, 5 bands of 10 m. The release is read by ``ShardReader.read_pixels`` in batches. The
others read pixel by pixel, as a user would without it: rasterio from each file, zarr-python from an array with chunks
of one date. They read a part of the pixels, and are compared by pixels per second. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import zarr
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
BATCH = 50_000  # pixels


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
            profile |= {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "zstd", "crs": "EPSG:3035"}
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
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--dates", type=int, default=60)
    parser.add_argument("--part", type=int, default=300, help="pixels that the slow readers read")
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
    reader = Release.open(folder / "release").reader("train")
    start = time.perf_counter()
    for first in range(0, options.pixels, BATCH):
        ours = reader.read_pixels(KEY, rows[first : first + BATCH], places[first : first + BATCH])
        if not first:
            head = ours[: options.part].copy()
    own = options.pixels / (time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    some = list(zip(rows[: options.part].tolist(), places[: options.part].tolist(), strict=True))
    start = time.perf_counter()
    by_file = []
    for row, (y, x) in some:
        series = []
        for date in range(options.dates):
            with rasterio.open(folder / f"{row}-{date}.tif") as file:
                series.append(file.read(window=((y, y + 1), (x, x + 1)))[:, 0, 0])
        by_file.append(np.array(series))
    geotiff = options.part / (time.perf_counter() - start)
    plain = zarr.open_array(folder / "plain.zarr", mode="r")
    start = time.perf_counter()
    by_zarr = [np.asarray(plain[row, :, :, y, x]) for row, (y, x) in some]
    zarr_python = options.part / (time.perf_counter() - start)
    np.testing.assert_array_equal(head, by_file)
    np.testing.assert_array_equal(head, by_zarr)
    print(f"release {own:,.0f}, GeoTIFF per date {geotiff:,.1f}, zarr-python {zarr_python:,.1f} pixels/s")
    return {
        "vs_geotiff": round(own / geotiff, 1),
        "vs_zarr": round(own / zarr_python, 1),
        "peak_mib": round(peak),
        "pixels_per_s": round(own),
    }


if __name__ == "__main__":
    main()
