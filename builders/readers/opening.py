"""Opening rasters: checks, files that were replaced, tokens that end, servers that break connections."""

from __future__ import annotations

import math
import os
import re
import warnings
from contextlib import suppress
from functools import lru_cache
from threading import get_ident

import pyproj
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from builders.readers.access import HTTP, Access, Keys, access, redact, refused
from builders.readers.locators import file_size, file_stamp, is_local
from builders.readers.scene import Asset
from builders.readers.servers import MissingFileError, is_on_server, server_stamp
from lulcbench._coordinates import coordinate_fault
from lulcbench.errors import LulcbenchError

_stamps: dict[str, str] = {}  # of files on servers that are open
_addresses: dict[str, str] = {}  # of files on servers, by the names under which GDAL opened them

ERRORS = (RasterioError, CPLE_BaseError)  # a damaged file may raise either
READS = 2  # further attempts to read a file on a server


def opened(path: str, crs: str | None = None, size: int | None = None, stamp: str | None = None) -> DatasetReader:
    """A raster that stays open for further calls; not to be closed. A file that was replaced is opened again.

    Args:
        path: path or URL.
        crs: projection stated by the catalog, if any.
        size: size in bytes at the time of the search, if known.
        stamp: what identified a file on a server at the time of the search, if known.

    Raises:
        LulcbenchError: it is missing, damaged, without georeference, changed, or in another projection.
    """
    if size is not None and file_size(path) != size:
        raise LulcbenchError(
            f"{path} has {file_size(path)} bytes, but had {size} when searched: it is truncated or was replaced.",
            "Fetch it again, or run 'python -m builders search' again to use the new file.",
        )
    if stamp is not None:
        note_stamp(path, stamp)
    dataset = _kept(path, file_stamp(path) or _stamps.get(path), None if is_local(path) else access(path), get_ident())
    if crs is not None and not _same_crs(dataset.crs, crs):
        raise LulcbenchError(
            f"{path} is in {dataset.crs.to_string()}, but its catalog states {crs}.",
            "Correct proj:code of the item, or replace the file by the one that the item describes.",
        )
    return dataset


def states_simulated(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a raster whose tag ``SIMULATED`` is true, as the files of the simulator and of its maps."""
    with warnings.catch_warnings(), suppress(*ERRORS):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return str(file.tags().get("SIMULATED", "")).lower() == "true"
    return False


def note_stamp(path: str, stamp: str) -> None:
    """What identifies a file on a server now; if it was another before, what is kept of the file is dropped."""
    if _stamps.setdefault(path, stamp) != stamp:
        forget(path)
        _stamps[path] = stamp


def stamp_of(path: str) -> str | None:
    """What identifies a file on a server, if that is known."""
    return _stamps.get(path)


def open_asset(asset: Asset, crs: str | None) -> DatasetReader:
    """The file of a channel, as it was at the time of the search; see ``opened``."""
    return opened(asset.href, asset.crs or crs, asset.bytes, asset.stamp)


@lru_cache(maxsize=1024)
def _same_crs(crs: rasterio.CRS, stated: str) -> bool:
    try:
        other = rasterio.CRS.from_user_input(stated)
        return bool(crs == other or _horizontal(crs) == _horizontal(other))
    except (*ERRORS, ValueError, pyproj.exceptions.CRSError) as error:
        clear_errors()
        raise LulcbenchError(
            f"A catalog states the projection {stated!r}, which is not one: {error}.", "Correct proj:code of the item."
        ) from error


def _horizontal(crs: rasterio.CRS) -> rasterio.CRS:
    """A projection without its heights, which some files and catalogs state and others do not."""
    whole = pyproj.CRS.from_wkt(crs.to_wkt())
    return rasterio.CRS.from_user_input(whole.sub_crs_list[0] if whole.is_compound else whole.to_2d())


@lru_cache(maxsize=512)
def _kept(path: str, stamp: tuple[int, ...] | str | None, how: Access | None, thread: int) -> DatasetReader:
    """A renewed token opens a file again, and each thread its own: GDAL's datasets are for one at a time."""
    return open_raster(path)


def name_of(dataset: DatasetReader) -> str:
    """The path or URL of a raster as its catalog has it, without a signature."""
    return _addresses.get(dataset.name, str(dataset.name))


def open_raster(path: str) -> DatasetReader:
    """Open a raster and check its georeference.

    Raises:
        LulcbenchError: it is missing, damaged or without georeference, or its server refuses it or cannot be reached.
    """
    dataset = _open(path)
    if not dataset.count:
        raise LulcbenchError(f"{path} has no bands.", "Name one of the rasters in it.")
    if any("complex" in dtype for dtype in dataset.dtypes):
        raise LulcbenchError(f"{path} holds complex numbers.", "Convert them to backscatter, or take another product.")
    if dataset.crs is None or dataset.transform.is_identity:
        points = "only ground control points and " if dataset.gcps[0] else ""
        raise LulcbenchError(
            f"{path} has {points}no georeference.",
            "Warp it with gdalwarp, which uses the points."
            if points
            else "Give it a projection and a transform, for instance with gdal_translate.",
        )
    if dataset.transform.is_degenerate or not all(map(math.isfinite, dataset.transform)):
        raise LulcbenchError(f"{path} has the transform {tuple(dataset.transform)[:6]}.", "Give its pixels a size.")
    if fault := coordinate_fault(dataset.crs, dataset.bounds):
        raise LulcbenchError(f"{path} {fault[0]}", fault[1])
    return dataset


def _open(path: str) -> DatasetReader:
    """A dataset; on a server that is reachable after further attempts, since connections break and tokens end."""
    for attempts in range(READS if is_on_server(path) else 0, -1, -1):
        how = None if is_local(path) else access(path)
        try:
            with warnings.catch_warnings(), _environment(how):
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                dataset = rasterio.open(how.path if how else path)
                # A part of the header that is damaged is an error at the next call that looks for one.
                _ = [dataset.mask_flag_enums, dataset.nodatavals, dataset.descriptions, dataset.colorinterp]
            _addresses[dataset.name] = path
            return dataset
        except (*ERRORS, ValueError) as error:  # texts in a damaged header, and paths, are decoded
            clear_errors()
            failure = broken(path, error)
            if isinstance(failure, MissingFileError) or not is_on_server(path):
                raise failure from error
            server_stamp(path)  # raises if the server is the cause
            if not attempts:
                raise failure from error
            forget(path)
    raise AssertionError


def _environment(how: Access | None) -> rasterio.Env:
    """GDAL's settings to open a file; it keeps them for later reads."""
    if how is None:
        return rasterio.Env()
    session = Keys(dict(how.keys)) if how.keys else None
    return rasterio.Env(session, **(HTTP | dict(how.options)))


def broken(path: str, error: Exception) -> LulcbenchError:
    """The error for a file that cannot be read."""
    if refusal := refused(path, error):
        return refusal
    if re.search(r"No such file|does not exist|response(?: |_)code ?[:=] ?(404|410)", str(error)):
        return MissingFileError(f"{path} does not exist.", "Correct its address, or fetch it again and rerun.")
    if is_local(path) and _is_vector(path):
        return LulcbenchError(f"{path} is a vector file, not a raster.", "Name a raster, or end its name as is usual.")
    return LulcbenchError(
        f"Cannot read {path}: {redact(str(error))}.",
        "It is missing, truncated or not a raster; fetch it again and rerun.",
    )


def _is_vector(path: str) -> bool:
    import pyogrio  # only to tell what a file is that cannot be read

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that its name ends in another way
            return len(pyogrio.list_layers(path)) > 0
    except (pyogrio.errors.DataSourceError, ValueError):
        return False


def forget(path: str) -> None:
    """Drop what GDAL keeps of a file on a server: after a broken connection or wrong bytes it would not ask again."""
    how = access(path)
    cached = how.path if how.path.startswith("/vsi") else f"/vsicurl/{how.path}"
    with suppress(*ERRORS), _environment(how), rasterio.Env(CPL_VSIL_CURL_NON_CACHED=cached):
        rasterio.open(how.path).close()
    clear_errors()


def clear_errors() -> None:
    """Make GDAL forget its last error, which rasterio would raise again when it asks for properties of other files."""
    with suppress(*ERRORS):
        rasterio.CRS.from_epsg(4326)  # which starts with a clean record of errors
