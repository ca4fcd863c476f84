"""The Zarr hierarchy of a release: its arrays, their dimensions, coordinates and attributes.

One hierarchy, at the root of the release. All arrays share the tile axis, on which the tiles of a split follow one
another; each split begins at the boundary of a shard, so that a shard holds tiles of one split alone. The rows between
are padding: no bytes, ids that are not ids of tiles.

Attributes follow CF (scale_factor, add_offset, flag_values, grid_mapping) and the GeoZarr conventions ``proj:`` and
``spatial:``; metadata are consolidated, so that ``xarray.open_zarr(root)`` opens the release from disk and over HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec

from builders.recipe import Codec
from builders.stages._shards import CHUNK_SIDE, DATED_CHUNK_SIDE, Array, create
from builders.stages.plan import Planned
from lulcbench._files import hash_file
from lulcbench.geozarr import GRID_MAPPING, PROJ, SPATIAL, class_attributes, consolidate
from lulcbench.grid import CRS, LABEL_RESOLUTION, TILE_SIZE, pixels
from lulcbench.release import MANIFEST, ArrayKey, FileInfo, label_shape
from lulcbench.release.entries import NO_DATE
from lulcbench.seasons import Season
from lulcbench.sensors import CLASS_CODES, CLEAR_COUNTS, Band

COORDINATE_ROWS = 4096  # in one chunk of a coordinate


@dataclass(frozen=True, slots=True)
class TileAxis:
    """Where tiles lie along the tile axis.

    Attributes:
        splits: tiles of each split, in order.
        shard_tiles: tiles in a shard.
    """

    splits: Mapping[str, Sequence[Planned]]
    shard_tiles: int

    @property
    def first_rows(self) -> dict[str, int]:
        """Row of the first tile of each split."""
        rows: dict[str, int] = {}
        first = 0
        for split, tiles in self.splits.items():
            rows[split] = first
            first += -(-len(tiles) // self.shard_tiles) * self.shard_tiles
        return rows

    @property
    def size(self) -> int:
        """Length of the axis: it ends with the last tile."""
        return max((first + len(self.splits[split]) for split, first in self.first_rows.items()), default=0)

    def split_of(self, shard: int) -> str:
        """The split that a shard holds tiles of."""
        begun = [split for split, first in self.first_rows.items() if first <= shard * self.shard_tiles]
        return begun[-1]


def image_array(
    key: ArrayKey,
    resolution: int,
    bands: Sequence[Band],
    steps: int,
    axis: Literal["season", "time"] = "season",
    clear_counts: bool = False,
) -> Array:
    """The array of a sensor's imagery: ``(tile, season, band, y, x)``, or dated, ``(tile, time, band, y, x)``.

    Args:
        key: its identity.
        resolution: pixel size, m.
        bands: in stored order.
        steps: seasons, or dates of a tile.
        axis: what the steps are.
        clear_counts: whether ``clear_array`` has the numbers of clear observations.
    """
    n = pixels(TILE_SIZE, resolution)
    side = max(1, (CHUNK_SIDE if axis == "season" else DATED_CHUNK_SIDE) // resolution)
    coding, unit = bands[0].coding, bands[0].unit
    attributes: dict[str, Any] = {
        "long_name": f"{key.name} {'composite of each season' if axis == 'season' else 'series'}",
        "units": unit,
    }
    if coding.nodata != "NaN":
        attributes |= {"_FillValue": coding.nodata, "scale_factor": coding.scale}
        # Left out where it is 0: readers then decode 16 bits to float32.
        attributes |= {"add_offset": coding.offset} if coding.offset else {}
    if clear_counts:
        attributes["ancillary_variables"] = str(key.clear)
    step = "season" if axis == "season" else f"time_{key}"
    return Array(
        key,
        (steps, len(bands), n, n),
        (1 if axis == "season" else max(1, steps), len(bands), side, side),
        coding,
        ("tile", step, f"band_{key.name}", f"y_{resolution}m", f"x_{resolution}m"),
        attributes | _spatial(resolution, "" if axis == "season" else f" date_{key}"),
    )


def clear_array(key: ArrayKey, resolution: int, seasons: int) -> Array:
    """The array of the numbers of clear observations ``(tile, season, y, x)`` behind an array of imagery.

    Args:
        key: of the imagery.
        resolution: pixel size, m.
        seasons: number of seasons.
    """
    n = pixels(TILE_SIZE, resolution)
    side = max(1, CHUNK_SIDE // resolution)
    attributes = {
        "long_name": f"number of clear observations in the {key.name} composite of each season",
        "standard_name": "number_of_observations",
        "units": "1",
        "comment": "0 where the composite has no value; 255 is 255 or more",
    }
    return Array(
        key.clear,
        (seasons, n, n),
        (1, side, side),
        CLEAR_COUNTS,
        ("tile", "season", f"y_{resolution}m", f"x_{resolution}m"),
        attributes | _spatial(resolution),
    )


def label_array(key: ArrayKey) -> Array:
    """The array of class codes ``(tile, y, x)``; coarser codes than those of level 4 may occur."""
    attributes: dict[str, Any] = {"long_name": f"{key.name} class code", **class_attributes()}
    dimensions = ("tile", f"y_{LABEL_RESOLUTION}m", f"x_{LABEL_RESOLUTION}m")
    shape = label_shape()
    return Array(key, shape, shape, CLASS_CODES, dimensions, attributes | _spatial(LABEL_RESOLUTION))


def write_arrays(folder: Path, arrays: Iterable[Array], axis: TileAxis, codec: Codec) -> None:
    """Create the hierarchy with its arrays, empty; those that are there already are kept."""
    group = zarr.open_group(folder, mode="a")
    for array in arrays:
        if str(array.key) not in group:
            create(group, array, axis.size, axis.shard_tiles, codec)


def write_coordinates(
    folder: Path,
    arrays: Sequence[Array],
    axis: TileAxis,
    bands: Mapping[str, Sequence[Band]],
    seasons: Sequence[Season],
    attributes: Mapping[str, Any],
    dates: Mapping[ArrayKey, npt.NDArray[np.datetime64]] | None = None,
) -> None:
    """Write the coordinates of arrays that ``write_arrays`` made, and consolidate the metadata: the last act.

    Args:
        folder: of the hierarchy.
        arrays: all of them.
        axis: the tiles.
        bands: of each sensor, in stored order.
        seasons: of arrays with a season axis.
        attributes: of the hierarchy, such as its title.
        dates: of dated arrays: datetime64 ``(row, time)``, NaT where a tile has fewer dates or a row is padding.
    """
    group = zarr.open_group(folder, mode="a")
    tiles: list[Planned | None] = [None] * axis.size
    for split, first in axis.first_rows.items():
        tiles[first : first + len(axis.splits[split])] = axis.splits[split]
    ids = [f"padding-{row}" if tile is None else tile.tile.id for row, tile in enumerate(tiles)]
    _strings(group, "tile", ids, "tile", "id of the tile")
    _strings(group, "split", ["" if t is None else t.split for t in tiles], "tile", "split of the tile")
    _strings(group, "region", ["" if t is None else t.region for t in tiles], "tile", "region of the tile")
    if any("season" in array.dimensions for array in arrays):
        names = [season.name for season in seasons]
        spans = {"start": [season.start for season in seasons], "end": [season.end for season in seasons]}
        _strings(group, "season", names, "season", "season of the composite", **spans)
    for name, own in bands.items():
        wavelengths = {"wavelengths_um": [band.wavelength for band in own]}
        _strings(group, f"band_{name}", [band.name for band in own], f"band_{name}", f"band of {name}", **wavelengths)
    for resolution in sorted({TILE_SIZE // array.tile_shape[-1] for array in arrays}):
        _places(group, tiles, resolution)
    for key, days in (dates or {}).items():
        missing = np.isnat(days)
        whole = days.astype("datetime64[D]").astype(np.int64)
        values = np.where(missing, NO_DATE, whole).astype(np.int32)
        units = {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian", "_FillValue": NO_DATE}
        _coordinate(group, f"date_{key}", values, ("tile", f"time_{key}"), {"long_name": "date", **units})
    _coordinate(group, "spatial_ref", np.array(0, np.int32), (), GRID_MAPPING)
    known = {
        "Conventions": "CF-1.11",
        "coordinates": "split region spatial_ref",
        "zarr_conventions": [PROJ],
        "proj:code": CRS,
    }
    consolidate(folder, dict(attributes) | known)


def list_files(
    folder: Path, arrays: Sequence[Array], axis: TileAxis, licence: Callable[[ArrayKey | None], str]
) -> tuple[FileInfo, ...]:
    """All files of a release but its manifest, each with its array and split, hashed in parallel.

    Args:
        folder: of the release.
        arrays: of its hierarchy.
        axis: the tiles.
        licence: of the files of an array, or of coordinates, tables and texts (None).
    """
    keys = {str(array.key): array.key for array in arrays}
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)

    def info(path: Path) -> FileInfo:
        relative = path.relative_to(folder)
        array = keys.get(relative.parts[0])
        shard = int(relative.parts[2]) if array and relative.parts[1] == "c" else None
        return FileInfo.model_validate(
            {
                "path": relative.as_posix(),
                "bytes": path.stat().st_size,
                "sha256": hash_file(path),
                "licence": licence(array),
                "split": None if shard is None else axis.split_of(shard),
                "array": array,
            }
        )

    with ThreadPoolExecutor() as threads:  # hashing releases the interpreter
        return tuple(threads.map(info, paths))


def _spatial(resolution: int, more: str = "") -> dict[str, Any]:
    """Attributes that say where pixels lie: by coordinates, since each tile has a place of its own."""
    n = pixels(TILE_SIZE, resolution)
    return {
        "coordinates": f"split region easting_{resolution}m northing_{resolution}m{more}",
        "grid_mapping": "spatial_ref",
        "zarr_conventions": [PROJ, SPATIAL],
        "proj:code": CRS,
        "spatial:dimensions": [f"y_{resolution}m", f"x_{resolution}m"],
        "spatial:shape": [n, n],
        "spatial:transform_type": "lookup",
        "spatial:registration": "pixel",
    }


def _places(group: zarr.Group, tiles: Sequence[Planned | None], resolution: int) -> None:
    """Easting and northing of the pixel centres of each tile; NaN for padding."""
    n = pixels(TILE_SIZE, resolution)
    steps = (np.arange(n) + 0.5) * resolution
    left, top = (
        np.array([[np.nan if tile is None else tile.tile.bounds[edge]] for tile in tiles]).reshape(-1, 1)
        for edge in (0, 3)
    )
    for name, axis, values in (("easting", "x", left + steps), ("northing", "y", top - steps)):
        attributes = {
            "standard_name": f"projection_{axis}_coordinate",
            "long_name": f"{name} of pixel centres",
            "units": "m",
        }
        _coordinate(group, f"{name}_{resolution}m", values, ("tile", f"{axis}_{resolution}m"), attributes)


def _strings(group: zarr.Group, name: str, values: Sequence[str], dimension: str, long_name: str, **more: Any) -> None:
    array = group.create_array(
        name,
        shape=(len(values),),
        chunks=(max(1, min(len(values), COORDINATE_ROWS)),),
        dtype="string",
        dimension_names=(dimension,),
        attributes={"long_name": long_name, **more},
        overwrite=True,
    )
    array[...] = np.array(values, dtype=np.dtypes.StringDType())


def _coordinate(
    group: zarr.Group, name: str, values: npt.NDArray[Any], dimensions: tuple[str, ...], attributes: Mapping[str, Any]
) -> None:
    chunks = tuple(max(1, min(n, COORDINATE_ROWS)) for n in values.shape)
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=chunks,
        dtype=values.dtype,
        compressors=BloscCodec(cname="zstd", shuffle="shuffle"),
        dimension_names=dimensions,
        attributes=dict(attributes),
        overwrite=True,
    )
    array[...] = values
