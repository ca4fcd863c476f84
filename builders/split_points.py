"""Assignment of labelled points to splits by spatial blocks, for data sets that come as patches.

A random split of patches puts neighbours on both sides; here, all points of a block of the tile grid are in one split,
and points within the buffer are left out, as for tiles. The lists name one sample per line.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from rasterio.warp import transform

from builders.recipe import SplitRule
from builders.stages.plan import assign
from lulcbench import grid
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile

COLUMNS = ("name", "class", "lon", "lat")


def split_points(table: Path, out: Path, rule: SplitRule, prefix: str, suffix: str = "") -> Counter[str]:
    """Assign points to splits, and write ``<out>/<prefix>-<split>.txt``.

    Args:
        table: CSV with columns ``name``, ``class``, ``lon``, ``lat`` (EPSG:4326 degrees).
        out: folder of the lists.
        rule: fractions, block size, buffer and seed.
        prefix: beginning of the lists' names.
        suffix: what to add to each name, such as ``.jpg``.

    Returns:
        How many points each split has; ``buffer`` counts those left out.

    Raises:
        LulcbenchError: the table is missing, lacks a column, holds a name twice or a point off the grid.
    """
    if not table.is_file():
        raise LulcbenchError(f"{table} is missing.", f"Give a CSV with the columns {', '.join(COLUMNS)}.")
    points = pd.read_csv(table)
    missing = [column for column in COLUMNS if column not in points]
    if missing:
        raise LulcbenchError(f"{table} has no column {missing[0]!r}.", f"It needs {', '.join(COLUMNS)}.")
    if points["name"].duplicated().any():
        raise LulcbenchError(f"{table} names {points['name'][points['name'].duplicated()].iloc[0]!r} twice.")
    x, y = transform("EPSG:4326", grid.CRS, points["lon"], points["lat"])
    places = np.floor(np.array([x, y]) / grid.TILE_SIZE)
    if not np.isfinite(places).all() or places.min() < 0:
        raise LulcbenchError(f"{table} holds points off the grid.", f"lon and lat must lie within {grid.CRS}.")
    cells, cell_of = np.unique(places.astype(int), axis=1, return_inverse=True)
    classes, class_of = np.unique(points["class"], return_inverse=True)
    counts = np.zeros((cells.shape[1], len(classes)), np.int64)
    np.add.at(counts, (cell_of.ravel(), class_of), 1)
    splits = np.array(assign([Tile(int(ix), int(iy)) for ix, iy in cells.T], counts, rule))[cell_of.ravel()]
    for split in rule.fractions:
        names = sorted(points["name"][splits == split].astype(str) + suffix)
        write_atomic(out / f"{prefix}-{split}.txt", ("\n".join(names) + "\n").encode())
    return Counter(splits.tolist())
