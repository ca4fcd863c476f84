"""Outlines of the tiles of a release, as a GeoPackage: where each split lies, and what the index says of each tile.

The index of a release is GeoParquet, which QGIS of many distributions does not read.
"""

from __future__ import annotations

import tempfile
from itertools import cycle
from pathlib import Path
from typing import Any

from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Tile
from lulcbench.legend import legend
from lulcbench.legend.qgis import outline_style
from lulcbench.release import Release

# Okabe-Ito, told apart also with a colour vision deficiency and on imagery; in the order of the splits of the release.
COLORS = ("#e69f00", "#56b4e9", "#cc79a7", "#f0e442", "#0072b2", "#d55e00")
# Part of the index: shares of the classes of these levels. SQLite has at most 2,000 columns, many years have more.
SHARES = (1, 2)


def write_outlines(release: Release, path: Path) -> Path:
    """Write all tiles of a release as squares, with a style for QGIS that colours the splits.

    Columns are those of the index that are a text or a number: split, region, block, shares of valid and cloudy pixels,
    numbers of clear observations, displacements, and shares of classes at levels 1 and 2.

    Args:
        release: the release.
        path: the file, ending in ``.gpkg``; it is replaced atomically.

    Returns:
        ``path``.

    Raises:
        LulcbenchError: geopandas is not installed, or GDAL cannot write the file.
        OSError: the disk is full.
    """
    try:
        import geopandas
        import pyogrio
        import shapely
    except ImportError as error:
        raise LulcbenchError("Writing outlines requires geopandas.", "Run: pip install 'lulcbench[geo]'.") from error

    index = release.index()
    columns: dict[str, Any] = {name: index[name] for name in ("id", "split", "region", "block", "row") if name in index}
    columns |= {name: index[name] for name in index.columns if _is_measure(release, name)}
    squares = [shapely.box(*Tile.from_id(tile).bounds) for tile in index["id"]]
    frame = geopandas.GeoDataFrame(columns, geometry=squares, crs=CRS)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        part = Path(folder) / path.name
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z"})  # the same bytes each time
        try:
            frame.to_file(part, driver="GPKG", layer="tiles", index=False, VERSION="1.2")  # that QGIS 3.22 knows
        except pyogrio.errors.DataSourceError as error:
            raise LulcbenchError(
                f"GDAL cannot write {path}: {error}.", "Check that the folder can be written and has room."
            ) from error
        finally:
            pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
        splits = dict.fromkeys(index["split"])
        style = outline_style("split", dict(zip(splits, cycle(COLORS), strict=False)))
        write_atomic(path.with_suffix(".qml"), style.encode())
        part.replace(path)
    return path


def _is_measure(release: Release, column: str) -> bool:
    """Whether a column of the index is a number that describes the tile, and is not a share of a fine class."""
    name, _, rest = column.partition("_")
    if name in release.manifest.labels:
        year, _, code = rest.partition("_")
        return year.isdigit() and any(code == str(known) for level in SHARES for known in legend().codes(level))
    return name in ("valid", "cloud", "clear", "shift")
