"""A small map written by the library's own writer: patches of random classes, every layer, two overviews."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import zarr

from lulcbench.geozarr import consolidate
from lulcbench.legend import ClassScheme
from lulcbench.maps.lattice import Frame, Lattice
from lulcbench.maps.layers import SMOOTHED, encode, layers
from lulcbench.maps.overviews import write_overviews
from lulcbench.maps.store import Pyramid

SCHEME = ClassScheme.luisa(4)
RESOLUTION = 30
LEFT, TOP = 4320000, 3153600
SIDE = 480  # px
ATTRIBUTES = {
    "lulcbench:format": "lulcbench-map/1",
    "title": "Land cover by a test",
    "summary": "SIMULATED DATA: results do not apply to any real location. Random patches.",
    "license": "CC-BY-4.0",
    "lulcbench:model": {"name": "random patches", "digest": "0" * 64},
    "lulcbench:release": {"id": "none-0.0.0", "digest": "1" * 64},
    "lulcbench:simulated": True,
    "legend_digest": SCHEME.digest,
}


def write_map(
    folder: Path,
    years: Sequence[int] = (2012, 2018),
    scheme: ClassScheme = SCHEME,
    limit: float | None = None,
    complete: Collection[int] | None = None,
) -> Path:
    """Write a map of a scheme, with conformal answers if there is a limit; other years than ``complete`` lack rows."""
    zarr.open_group(folder, mode="w")
    title = ATTRIBUTES["title"] if scheme is SCHEME else f"Land cover at {scheme.depth} levels"
    index = (-TOP // (SIDE * RESOLUTION), LEFT // (SIDE * RESOLUTION))
    frame = Frame(Lattice(RESOLUTION, 0, 0), index, (1, 1), halvings=2)
    assert frame.bounds == (LEFT, TOP - SIDE * RESOLUTION, LEFT + SIDE * RESOLUTION, TOP)
    for year in years:
        own = layers(scheme, smoothed=True, conformal=None if limit is None else 0.9)
        pyramid = Pyramid(folder / str(year), frame, own, scheme)
        pyramid.create()
        p, counts = _patches(np.random.default_rng(year))
        if complete is not None and year not in complete:
            counts = {name: np.where(np.arange(SIDE)[:, None] < 400, values, 0) for name, values in counts.items()}
        p = SCHEME.aggregate(p, scheme.depth)
        pyramid.write(index, encode(p, counts, scheme=scheme, limit=limit))
        write_overviews(pyramid, [index])
        consolidate(pyramid.folder, json.loads((pyramid.folder / "zarr.json").read_bytes())["attributes"])
    consolidate(folder, ATTRIBUTES | {"title": title, "years": list(years), "legend_digest": scheme.digest})
    return folder


def _patches(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Probabilities of patches of 24 pixels with ragged borders, and other layers; a corner has no data."""
    patches = rng.integers(0, 46, (SIDE // 24 + 2, SIDE // 24 + 2))
    y, x = np.mgrid[:SIDE, :SIDE]
    jitter = rng.integers(0, 12, (2, SIDE, SIDE))
    chosen = patches[(y + jitter[0]) // 24, (x + jitter[1]) // 24]
    p = rng.random((46, SIDE, SIDE), np.float32) ** 40
    np.put_along_axis(p, chosen[None], p.sum(0, keepdims=True) + np.float32(0.1), axis=0)
    composites = np.where(y + x > 200, rng.integers(1, 5, (SIDE, SIDE)), 0)
    changed = (y + x > 200) & (rng.random((SIDE, SIDE)) < 0.5)
    return p / p.sum(axis=0), {"composites": composites.astype(np.uint8), SMOOTHED: changed.astype(np.uint8)}
