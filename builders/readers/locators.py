"""Where a file is: the addresses that catalogs write, and what identifies a local file."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from lulcbench.errors import LulcbenchError

LANDSATLOOK = re.compile(r"https://landsatlook\.usgs\.gov/data/(?=collection02/)")


def locate(href: str) -> str:
    """The path or URL that GDAL opens for an ``href`` of a catalog.

    URLs of local files and percent-encoded paths become plain paths, downloads of the USGS those of its bucket. Other
    URLs and GDAL's virtual paths stay.

    Examples:
        >>> locate("file:///data/sc%C3%A8ne%201/red.tif")
        '/data/scène 1/red.tif'
        >>> locate("/vsizip/data/scene.zip/red.tif"), locate("https://example.org/a%20b.tif")
        ('/vsizip/data/scene.zip/red.tif', 'https://example.org/a%20b.tif')
    """
    local = re.match(r"file:(?://(?:localhost)?(?=/))?", href, re.IGNORECASE)
    if local:
        return unquote(href[local.end() :])
    if match := LANDSATLOOK.match(href):  # which needs a login; the bucket holds the same files
        return f"s3://usgs-landsat/{href[match.end() :]}"
    if is_local(href) and "%" in href and not Path(href).exists() and Path(unquote(href)).exists():
        return unquote(href)
    return href


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


def file_stamp(path: str | Path) -> tuple[int, int] | None:
    """Size and time of modification (ns) of a local file, by which a replaced one is noticed; None for other paths."""
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
