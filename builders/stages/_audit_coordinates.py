"""The part of the audit that looks at a release as others see it: names, places and scales in the Zarr hierarchy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import zarr

from lulcbench.grid import Tile
from lulcbench.release import ArrayKey, Manifest
from lulcbench.release.entries import NO_DATE


class Checks(Protocol):
    """What counts checks and keeps problems."""

    def check(self, name: str, good: bool, problem: str) -> None:
        """Count one check; keep the problem if it failed."""


def coordinates(root: Path, manifest: Manifest, index: pd.DataFrame, found: Checks) -> None:
    """Check metadata and coordinates against the manifest, the index and the grid."""
    group = zarr.open_group(root, mode="r", use_consolidated=False)
    _metadata(root, found)
    for name, column in (("tile", "id"), ("split", "split"), ("region", "region")):
        stored = [str(value) for value in _read(group, name)]
        same = all(stored[int(row)] == value for row, value in zip(index["row"], index[column], strict=True))
        found.check("tiles are named", same and len(stored) == manifest.array_rows, f"{name} differs from the index")
    padding = sorted(set(range(manifest.array_rows)) - set(index["row"]))
    names, splits = _read(group, "tile"), _read(group, "split")
    for row in padding:
        found.check("padding has no tile", not splits[row] and str(names[row]) not in set(index["id"]), f"row {row}")
    seasons = [season.name for season in manifest.seasons]
    if any(info.years for info in manifest.sensors.values()):
        found.check("seasons are named", [str(s) for s in _read(group, "season")] == seasons, "season differs")
    for name, info in manifest.sensors.items():
        bands = [str(band) for band in _read(group, f"band_{name}")]
        found.check("bands are named", bands == list(info.band_names), f"band_{name} differs from the manifest")
        for key in info.arrays(name):
            attributes = dict(group[str(key)].attrs)
            found.check(
                "scales", _scales(attributes, info.coding) and attributes["units"] == info.bands[0].unit, str(key)
            )
            if key.first != key.last:
                _dates(group, key, set(map(int, index["row"])), found)
    resolutions = {info.resolution for info in manifest.sensors.values()}
    resolutions |= {info.resolution for info in manifest.labels.values()}
    for resolution in sorted(resolutions):
        easting, northing = (_read(group, f"{axis}_{resolution}m") for axis in ("easting", "northing"))
        for row, tile in zip(map(int, index["row"]), index["id"], strict=True):
            affine = Tile.from_id(tile).transform(resolution)
            n = len(easting[row])
            first, last = affine @ (0.5, 0.5), affine @ (n - 0.5, n - 0.5)
            right = (easting[row][0], northing[row][0]) == first and (easting[row][-1], northing[row][-1]) == last
            even = bool((np.diff(easting[row]) == resolution).all() and (np.diff(northing[row]) == -resolution).all())
            found.check("tiles are in their places", right and even, f"{tile} at {resolution} m")


def _dates(group: zarr.Group, key: ArrayKey, rows: set[int], found: Checks) -> None:
    """Dates of each tile ascend within the years of the array; none follows a missing one, and padding has none."""
    for row, days in enumerate(_read(group, f"date_{key}")):
        known = days[days != NO_DATE]
        years = known.astype("datetime64[D]").astype("datetime64[Y]").astype(int) + 1970
        good = bool((np.diff(known) > 0).all() and (days[: len(known)] != NO_DATE).all())
        good = good and bool(((years >= key.first) & (years <= key.last)).all()) and (row in rows or not len(known))
        found.check("dates ascend within the years", good, f"{key}, row {row}")


def _metadata(root: Path, found: Checks) -> None:
    """Consolidated metadata are copies of each array's own."""
    held = json.loads((root / "zarr.json").read_bytes())["consolidated_metadata"]["metadata"]
    own = {path.parent.name: json.loads(path.read_bytes()) for path in root.glob("*/zarr.json")}
    found.check("metadata are consolidated", held.keys() == own.keys(), f"{sorted(held.keys() ^ own.keys())}")
    for name in held.keys() & own.keys():
        found.check("metadata are consolidated", held[name] == own[name], f"{name} differs")


def _scales(attributes: dict[str, Any], coding: Any) -> bool:
    """Whether CF attributes say what the manifest's coding does."""
    if coding.dtype == "float32":
        return not {"scale_factor", "add_offset", "_FillValue"} & attributes.keys()
    same = math.isclose(attributes.get("scale_factor", 1), coding.scale, rel_tol=1e-12)
    same = same and math.isclose(attributes.get("add_offset", 0), coding.offset, rel_tol=1e-12)
    return same and attributes.get("_FillValue") == coding.nodata


def _read(group: zarr.Group, name: str) -> Any:
    array = group.get(name)
    return np.asarray(array[...]) if isinstance(array, zarr.Array) else np.empty(0)
