"""Where a file is: the addresses that catalogs write, and what identifies a local file.

The same name has two normal forms in Unicode: macOS decomposes accents in names of files (NFD), most programs compose
them (NFC). Names of files, layers, columns and bands are found in either form.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import rasterio

from lulcbench._files import hash_file
from lulcbench.errors import LulcbenchError
from lulcbench.vectors import same_name

SIDECARS = (".msk", ".aux.xml")  # added to the name of a raster
WORLD_FILES = (".tfw", ".tifw", ".tiffw", ".j2w", ".wld")  # in place of its suffix
VIRTUAL = re.compile(r"/vsicurl/(?P<url>https?://.+)|/vsis3/(?P<key>.+)")
LANDSATLOOK = re.compile(r"https://landsatlook\.usgs\.gov/data/(?=collection02/)")


def locate(href: str) -> str:
    """The path or URL that GDAL opens for an ``href`` of a catalog.

    URLs of local files, percent-encoded paths and names in the other normal form of Unicode become plain paths of files
    that exist, downloads of the USGS those of its bucket. Other
    URLs and GDAL's virtual paths stay.

    Examples:
        >>> locate("file:///data/sc%C3%A8ne%201/red.tif")
        '/data/scène 1/red.tif'
        >>> locate("/vsizip/data/scene.zip/red.tif"), locate("https://example.org/a%20b.tif")
        ('/vsizip/data/scene.zip/red.tif', 'https://example.org/a%20b.tif')
    """
    local = re.match(r"file:(?://(?:localhost)?(?=/))?", href, re.IGNORECASE)
    if local:
        href = unquote(href[local.end() :])
    if match := VIRTUAL.match(href):  # as its address, by which a file that was replaced is noticed
        href = f"s3://{match['key']}" if match["key"] else match["url"]
    if match := LANDSATLOOK.match(href):  # which needs a login; the bucket holds the same files
        return f"s3://usgs-landsat/{href[match.end() :]}"
    if is_local(href) and not _is_there(Path(href)):
        return next((str(path) for text in (unquote(href), href) if _is_there(path := spelled(Path(text)))), href)
    return href


def spelled(path: Path) -> Path:
    """The file that exists under a path or, part by part, under its name in the other normal form of Unicode."""
    if _is_there(path):
        return path
    found = Path()
    for part in path.parts:
        step = found / part
        if not _is_there(step):
            try:
                other = same_name(part, (entry.name for entry in found.iterdir()), str(found))
            except OSError:
                return path
            if other is None:
                return path
            step = found / other
        found = step
    return found


def _is_there(path: Path) -> bool:
    """Whether a file exists; a name that is too long for one does not."""
    try:
        return path.exists()
    except OSError:
        return False


def is_local(path: str) -> bool:
    """Whether ``path`` is a plain path, not a URL or one of GDAL's virtual paths."""
    return "://" not in path and not path.startswith("/vsi")


def file_size(path: str) -> int | None:
    """Size of a local file in bytes; None for others.

    Raises:
        LulcbenchError: the local file is missing.
    """
    if not is_local(path):
        return None
    try:
        return Path(path).stat().st_size
    except OSError as error:
        raise LulcbenchError(f"{path} is missing.", "Fetch the scene again, or remove it from the catalog.") from error


def companions(path: str | Path) -> list[Path]:
    """The files beside a local one that GDAL reads with it, as far as they exist.

    Masks, metadata such as a nodata value, world files, all parts of a shapefile, and the sources of a virtual raster.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".vrt" and path.is_file():
        return [Path(source) for source in _sources(path, path.stat().st_mtime_ns)]
    if suffix == ".shp":
        return [
            part for part in sorted(path.parent.glob("*")) if part.stem.lower() == path.stem.lower() and part != path
        ]
    beside = [path.with_name(path.name + added) for added in SIDECARS] + [path.with_suffix(end) for end in WORLD_FILES]
    return [file for file in beside if file.is_file()]


@lru_cache(maxsize=512)
def _sources(path: Path, time: int) -> tuple[str, ...]:
    try:
        with rasterio.open(path) as dataset:
            return tuple(name for name in dataset.files if Path(name) != path and Path(name).is_file())
    except rasterio.errors.RasterioError:  # an error when it is read
        return ()


def file_stamp(path: str | Path) -> tuple[int, ...] | None:
    """Size and time of modification (ns) of a local file and its companions; None for other paths.

    By it a file is noticed that was replaced.
    """
    try:
        stats = [Path(path).stat(), *(file.stat() for file in companions(path))]
    except OSError:
        return None
    return tuple(number for stat in stats for number in (stat.st_size, stat.st_mtime_ns))


def companion_digests(path: Path) -> dict[str, str]:
    """SHA-256 of the companions of a local file, by name."""
    return {file.name: hash_file(file) for file in companions(path)}
