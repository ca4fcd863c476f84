"""Coordinates of rasters that are not those of a map: read as they are, the raster would be empty in part or whole."""

from __future__ import annotations

from typing import Any

FAR_DEGREES, FAR_METRES = 1000.0, 1e9  # coordinates beyond are not on Earth, and PROJ takes hours for them
TURN = 181.0  # degrees of longitude; global files may end somewhat beyond 180


def coordinate_fault(crs: Any, bounds: tuple[float, float, float, float]) -> tuple[str, str] | None:
    """What is wrong with the coordinates of a raster, and the remedy; None if they are those of a map.

    Args:
        crs: a ``rasterio.CRS``.
        bounds: left, bottom, right, top in its units.
    """
    if not (crs.is_geographic or crs.is_projected):
        return (
            f"has a projection that is neither geographic nor projected: {crs.to_wkt()[:60]}.",
            "Assign the right one, for instance with gdal_edit.py -a_srs.",
        )
    if max(map(abs, bounds)) > (FAR_DEGREES if crs.is_geographic else FAR_METRES):
        return (
            f"is not on Earth: its bounds are {tuple(bounds)} in {crs.to_string()[:40]}.",
            "Correct its transform or its projection.",
        )
    if crs.is_geographic and max(abs(bounds[0]), abs(bounds[2])) > TURN:
        return (
            f"has longitudes from {bounds[0]:g} to {bounds[2]:g} degrees.",
            "They must be between -180 and 180: rewrap it, for instance with gdalwarp -te -180 -90 180 90.",
        )
    return None


def lacks_map_crs(crs: Any) -> str:
    """What the coordinate system of a vector file is, if it is none of a map; else empty.

    Args:
        crs: a ``pyproj.CRS``, or None.
    """
    if crs is None:
        return "no CRS"
    if crs.is_geographic or crs.is_projected:
        return ""
    return f"a CRS that is neither geographic nor projected ({str(crs.name)[:60]})"
