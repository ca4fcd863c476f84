"""Split labelled points by spatial blocks, for data sets of patches such as EuroSAT.

A random split assigns neighbouring patches to different splits. Here whole blocks of the tile grid are assigned to
splits, and points within the buffer are dropped, as for tiles. The lists have one sample per line.
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
from lulcbench.release import SPLITS

COLUMNS = ("name", "class", "lon", "lat")


def split_points(table: Path, out: Path, rule: SplitRule, prefix: str, suffix: str = "") -> Counter[str]:
    """Assign points to train, val and test, and write ``<out>/<prefix>-<split>.txt``.

    Args:
        table: CSV with columns ``name``, ``class``, ``lon``, ``lat`` (EPSG:4326 degrees).
        out: folder of the lists.
        rule: fractions, block size, buffer and seed.
        prefix: prefix of the file names of the lists.
        suffix: suffix to append to each sample name, such as ``.jpg``.

    Returns:
        Number of points by split; ``buffer`` counts those left out.

    Raises:
        LulcbenchError: the table or a column is missing, a name occurs twice, or a point is outside the grid.
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
    positions = np.floor(np.array([x, y]) / grid.TILE_SIZE)
    if not np.isfinite(positions).all() or positions.min() < 0:
        raise LulcbenchError(f"{table} holds points outside the grid.", f"lon and lat must be within {grid.CRS}.")
    cells, cell_of = np.unique(positions.astype(int), axis=1, return_inverse=True)
    classes, class_of = np.unique(points["class"], return_inverse=True)
    counts = np.zeros((cells.shape[1], len(classes)), np.int64)
    np.add.at(counts, (cell_of.ravel(), class_of), 1)
    splits = np.array(assign([Tile(int(ix), int(iy)) for ix, iy in cells.T], counts, rule))[cell_of.ravel()]
    for split in SPLITS:
        names = sorted(points["name"][splits == split].astype(str) + suffix)
        write_atomic(out / f"{prefix}-{split}.txt", ("\n".join(names) + "\n").encode())
    return Counter(splits.tolist())
