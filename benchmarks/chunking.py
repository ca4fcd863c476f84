"""Cost of chunk shapes, codecs, shuffles and bit depths for several ways of reading.

usage: python benchmarks/chunking.py [--tiles 16] [--rounds 5] > table

Image-like Sentinel-2 tiles with 12 bands are stored in each layout and read with the project's own reader, from the
page cache, in random order. The result is processor time per megapixel (of all bands), in ms, the minimum over the
rounds: it depends less on other jobs than wall time. Patterns: whole tiles; 1,200 m windows on the lattice of a 1,200 m
stride; 1,200 m windows at random origins; 600 m chips; and writing.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorstore as ts
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.images import images
from lulcbench.release.shards import read_windows, selections

TILE = 480


def blosc(
    cname: Literal["lz4", "lz4hc", "zstd"] = "lz4hc",
    shuffle: Literal["shuffle", "bitshuffle"] = "shuffle",
    clevel: int = 5,
) -> list[BloscCodec | Crc32cCodec]:
    """A list with one Blosc codec."""
    return [BloscCodec(cname=cname, shuffle=shuffle, clevel=clevel)]


# name → (bands and side of a chunk, tiles in a shard, codecs)
LAYOUTS = {
    "12 × 60²   lz4hc shuffle": ((12, 60), 8, blosc()),
    "12 × 120²  lz4hc shuffle": ((12, 120), 8, blosc()),
    "12 × 240²  lz4hc shuffle": ((12, 240), 8, blosc()),
    "12 × 480²  lz4hc shuffle": ((12, 480), 8, blosc()),
    "4 × 120²   lz4hc shuffle": ((4, 120), 8, blosc()),
    "1 × 480²   lz4hc shuffle": ((1, 480), 8, blosc()),
    "12 × 120²  lz4hc bitshuffle": ((12, 120), 8, blosc(shuffle="bitshuffle")),
    "12 × 120²  lz4hc shuffle, level 3": ((12, 120), 8, blosc(clevel=3)),
    "12 × 120²  lz4hc shuffle, level 9": ((12, 120), 8, blosc(clevel=9)),
    "12 × 120²  lz4 bitshuffle": ((12, 120), 8, blosc("lz4", "bitshuffle")),
    "12 × 120²  lz4 shuffle": ((12, 120), 8, blosc("lz4")),
    "12 × 120²  zstd bitshuffle": ((12, 120), 8, blosc("zstd", "bitshuffle")),
    "12 × 120²  zstd shuffle": ((12, 120), 8, blosc("zstd")),
    "12 × 120²  uncompressed": ((12, 120), 8, []),
    "12 × 120²  lz4hc shuffle + crc32c": ((12, 120), 8, [*blosc(), Crc32cCodec()]),
    "12 × 120²  lz4hc shuffle, shard of 1": ((12, 120), 1, blosc()),
    "12 × 120²  lz4hc shuffle, shard of 16": ((12, 120), 16, blosc()),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    pixels = images(options.tiles, 12, TILE)[:, None]
    stores: dict[str, tuple[ts.TensorStore, int, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, ((bands, side), shard, codecs) in LAYOUTS.items():
            path = Path(folder, str(len(stores)))
            start = processor_time()
            store = write(path, pixels, bands, side, shard, codecs)
            stores[name] = (store, size(path), processor_time() - start)
        coarse = (pixels // 2**4) * 2**4  # 12 significant bits of 16: steps of 0.0016 in reflectance
        path = Path(folder, "coarse")
        start = processor_time()
        store = write(path, coarse, 12, 120, 8, blosc())
        stores["12 × 120²  lz4hc shuffle, 12 bits"] = (store, size(path), processor_time() - start)
        table(stores, pixels, options.rounds)


def write(path: Path, pixels: np.ndarray, bands: int, side: int, shard: int, codecs: list[Any]) -> ts.TensorStore:
    """Store the tiles in a layout; returns the open array."""
    array = zarr.create_array(
        path,
        shape=pixels.shape,
        chunks=(1, 1, bands, side, side),
        shards=(shard, *pixels.shape[1:]),
        dtype="uint16",
        fill_value=0,
        compressors=codecs or None,
    )
    array[:] = pixels
    return ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}, open=True).result()


def processor_time() -> float:
    """Seconds of processor time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def size(path: Path) -> int:
    """Size of a folder in bytes."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def table(stores: dict[str, tuple[ts.TensorStore, int, float]], pixels: np.ndarray, rounds: int) -> None:
    """Measure all layouts, interleaved, and print the table."""
    rng = np.random.default_rng(0)
    tiles = len(pixels)
    anywhere = rng.integers(0, TILE - 120, (64, 2))
    patterns = {
        "tiles": (480, [(t, 0, 0) for t in rng.permutation(tiles)]),
        "lattice": (120, [(t % tiles, y * 120, x * 120) for t, (y, x) in enumerate(rng.integers(0, 4, (64, 2)))]),
        "anywhere": (120, [(t % tiles, y, x) for t, (y, x) in enumerate(anywhere)]),
        "chips": (60, [(t % tiles, y * 60, x * 60) for t, (y, x) in enumerate(rng.integers(0, 8, (64, 2)))]),
    }
    best: dict[tuple[str, str], float] = {}
    for _ in range(rounds):
        for name, (store, _, _) in stores.items():
            for pattern, (side, corners) in patterns.items():
                out = np.zeros((len(corners), 1, 12, side, side), np.uint16)
                windows = selections(
                    [(int(row), int(y), int(x)) for row, y, x in corners], (side, side), [slice(None)] * 2
                )
                start = processor_time()
                for _ in range(5):
                    read_windows(store, windows, out)
                cost = (processor_time() - start) / 5 / (out.size / 12 / 1e6) * 1e3
                best[name, pattern] = min(cost, best.get((name, pattern), np.inf))
    print(f"| bands × pixels, codec | ratio | {' | '.join(patterns)} | writing |")
    print(f"|---|---|{'---|' * len(patterns)}---|")
    for name, (_, stored, used) in stores.items():
        costs = " | ".join(f"{best[name, pattern]:.0f}" for pattern in patterns)
        print(
            f"| {name} | {pixels.nbytes / stored:.2f} | {costs} | {used / (pixels.size / 12 / 1e6) * 1e3:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
