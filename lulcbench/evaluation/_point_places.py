"""Positions of survey points.

A LUCAS point is a node of a 2 km grid, its *theoretical* position. The *measured* (GPS) position is that of the
surveyor, at the distance ``obs_dist`` from the point; for the 5,037 points of Czechia 2018 the correlation with the
distance between the two positions is 0.999. Land cover and land use are those of the point, not of the position of the
surveyor, so the measured position is used only if the surveyor was at the point.

Source: the field form of the survey (Eurostat, LUCAS 2018, technical reference document C1) and the description of the
harmonised database (d'Andrimont et al. 2020, Scientific Data 7, 352).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation._point_files import INSTALL, Decisions, Numbers
from lulcbench.grid import CRS

if TYPE_CHECKING:
    import pyproj

AT_POINT = 25.0  # m, half a label pixel: measured positions are used up to this distance from the point
IN_SITU = 100.0  # m, limit of the survey between observations at the point and from afar
CONTRADICTION = 1000.0  # m, half the spacing of the survey grid: positions this far apart belong to different points
NEAR_GREENWICH = 0.05  # degrees
SAME = 5.0  # m; coordinates with five decimals are rounded by up to a metre
_DEGREES = ("lat", "lon", "lat_theory", "lon_theory", "lat_given", "lon_given")  # unless a CRS is given
_METRES = ("distance", "precision", "x_theory", "y_theory")
_SPACES = "[ '\u00a0\u2009\u202f]"  # that separate thousands

Bools = npt.NDArray[np.bool_]


def places(table: pd.DataFrame, crs: str | None, name: str, decisions: Decisions) -> pd.DataFrame:
    """Positions of points.

    Args:
        table: table from ``read_file``.
        crs: CRS of coordinates that are not degrees; None if all are degrees, or the table has a column with the CRS.
        name: name of the file, for error messages.
        decisions: updated with decision → number of points.

    Returns:
        ``x`` and ``y``, EPSG:3035 metres, NaN if unknown, and ``place``: the rule, or why the position is unknown.

    Raises:
        LulcbenchError: coordinates are not degrees and their CRS is unknown.
    """
    table = _with_plain_numbers(table, decisions)
    given = np.stack([table["x_geometry"], table["y_geometry"]]).astype(np.float64)
    has_geometry = bool(np.isfinite(given).any())
    lon, lon_theory = _signed(table, decisions)
    stated = np.full(len(table), crs or "", object)
    if crs is None and "crs" in table:
        stated = table["crs"].fillna("").to_numpy(object)
    gps, absent = _measured_crs(table, decisions)
    lon[absent] = np.nan
    odd = np.zeros(len(table), bool)
    pairs = {}
    for key, east, latitude, crs_of_rows in (
        ("measured", lon, "lat", np.where(stated == "", gps, stated)),
        ("theoretical", lon_theory, "lat_theory", stated),
        ("given", _numbers(table, "lon_given"), "lat_given", stated),
    ):
        north, what = _numbers(table, latitude), f"{name} ({key} positions)"
        missing = _unmeasured(east, north, key != "given")
        east, north = (np.where(missing, np.nan, values) for values in (east, north))
        pairs[key], out = _projected(east, north, crs_of_rows, has_geometry, what, decisions)
        odd |= out
    measured, theoretical = pairs["measured"], pairs["theoretical"]
    given = np.where(np.isfinite(given), given, pairs["given"])
    laea = np.stack([_numbers(table, "x_theory"), _numbers(table, "y_theory")])
    theoretical = np.where(np.isfinite(theoretical), theoretical, laea)
    return _decide(table, measured, theoretical, given, odd)


def _decide(table: pd.DataFrame, measured: Numbers, theoretical: Numbers, given: Numbers, odd: Bools) -> pd.DataFrame:
    distance, precision = (_metres(table, key) for key in ("distance", "precision"))
    afar = _observed_from_afar(table)
    has_measured = np.isfinite(measured).all(axis=0)
    has_given = np.isfinite(given).all(axis=0)
    has_columns = has_measured | np.isfinite(theoretical).all(axis=0)
    known_distance = np.nan_to_num(distance)
    # A geometry that is neither position of the columns contradicts them; other than the measured one, it is the point.
    off = np.fmin(_apart(given, measured), _apart(given, theoretical))
    contradictory = has_given & has_columns & (off > CONTRADICTION + known_distance)
    is_point = has_given & ~np.isfinite(theoretical).all(axis=0) & ~(_apart(given, measured) <= SAME)
    point = np.where(is_point, given, theoretical)
    node = _nodes(table)
    reach = np.where(np.isnan(distance), IN_SITU, distance + AT_POINT)
    by_id = ~np.isfinite(point).all(axis=0) & has_measured & (_apart(node, measured) <= reach)
    point = np.where(by_id, node, point)
    has_point = np.isfinite(point).all(axis=0)
    apart = _apart(measured, point)
    away = np.where(np.isnan(distance), np.nan_to_num(apart), distance)
    both = has_measured & has_point
    rules = {
        "none: geometry and coordinates contradict each other": contradictory,
        "none: coordinates out of range": odd & ~has_point & ~has_measured,
        "none: no coordinates": ~has_point & ~has_measured,
        "none: observed from afar, and only the position of the surveyor is known": (
            ~has_point & (afar | (known_distance > IN_SITU))
        ),
        "none: imprecise GPS, and only the position of the surveyor is known": ~has_point & (precision > IN_SITU),
        "theoretical (contradicts the measured position)": both
        & (apart > CONTRADICTION + known_distance)
        & ~(away <= AT_POINT),
        "theoretical (observed from afar)": both & (afar | (away > AT_POINT)),
        "theoretical (imprecise GPS)": both & (precision > AT_POINT),
        "measured": has_measured,
        "geometry or coordinates of the file": is_point,
        "theoretical": has_point,
    }
    place = np.select(list(rules.values()), list(rules), "none: no coordinates")
    place = np.where(by_id & np.char.startswith(place, "theoretical"), "theoretical (grid node of the point id)", place)
    chosen = np.where(place == "measured", measured, point)
    chosen[:, np.char.startswith(place, "none")] = np.nan
    return pd.DataFrame({"x": chosen[0], "y": chosen[1], "place": place}, index=table.index)


def _apart(a: Numbers, b: Numbers) -> Numbers:
    distance: Numbers = np.hypot(*(a - b))
    return distance


def _observed_from_afar(table: pd.DataFrame) -> Bools:
    """Whether ``obs_type`` states an observation elsewhere than at the point (1, "In situ < 100 m")."""
    if "observed" not in table:
        return np.zeros(len(table), bool)
    text = table["observed"].str.lower()
    at_point = text.str.contains(r"^1\b|in.?situ\s*<", regex=True)
    return (text.notna() & ~at_point.fillna(False)).to_numpy(bool)


def _nodes(table: pd.DataFrame) -> Numbers:
    """Grid nodes from point ids: EEEENNNN, kilometres of EPSG:3035; NaN for other ids."""
    if "id" not in table:
        return np.full((2, len(table)), np.nan)
    kilometres = table["id"].str.extract(r"^(\d{4})(\d{4})$")
    return np.stack(
        [pd.to_numeric(kilometres[i], errors="coerce").to_numpy(np.float64, na_value=np.nan) * 1000 for i in (0, 1)]
    )


def _signed(table: pd.DataFrame, decisions: Decisions) -> tuple[Numbers, Numbers]:
    """Measured and theoretical longitudes with signs. Many tables have measured longitudes without signs.

    The sign is in ``gps_ew``. If that is missing or contradicts the theoretical longitude, the sign of the latter is
    used, provided that theoretical longitudes of that survey year have signs.
    """
    lon, theory = _numbers(table, "lon"), _numbers(table, "lon_theory")
    by_node = np.zeros(len(table), bool)
    for values, latitude in ((lon, "lat"), (theory, "lat_theory")):
        mirrored = _west_by_node(table, values, _numbers(table, latitude))
        by_node |= mirrored
        values[mirrored] *= -1
    side, side_theory = _sides(table, "east_west"), _sides(table, "east_west_theory")
    theory = np.where(side_theory < 0, -np.abs(theory), theory)
    year = table["year"].fillna("") if "year" in table else pd.Series("", index=table.index)
    has_signs = pd.Series(theory < 0, index=table.index).groupby(year).transform("any").to_numpy(bool)
    unsigned = ~has_signs & (side < 0) & (np.abs(theory - np.abs(lon)) < 0.5)
    theory = np.where(unsigned, -theory, theory)
    signed = np.where(side < 0, -np.abs(lon), lon)
    contradicts = (side > 0) & (lon < 0)
    # Near Greenwich, both signs are close to the theoretical longitude.
    nearer = (np.abs(-signed - theory) < np.abs(signed - theory)) & (np.abs(lon) > NEAR_GREENWICH)
    unknown = _is_odd_side(table) & (lon > NEAR_GREENWICH)
    unresolved = (contradicts | unknown) & ~np.isfinite(theory)
    no_side = np.isfinite(lon) & ~np.isfinite(theory) & (side == 0) & (np.abs(lon) > NEAR_GREENWICH)
    if (lon < 0).any() or (np.abs(lon) > 180).any():  # they have signs, or are metres
        no_side[:] = False
    for mask, decision in (
        (by_node, "longitudes without a sign, west by the grid node of the point id"),
        (no_side, "measured longitudes without a sign or gps_ew, taken as east"),
        (unsigned, "theoretical longitudes without a sign, west by gps_ew"),
        ((side < 0) & (lon > 0) & ~nearer, "measured longitudes without a sign, west by gps_ew"),
        (nearer & (side == 0), "measured longitudes that took the sign of the theoretical one"),
        (
            (nearer & (side != 0)) | (contradicts & ~unresolved),
            "gps_ew that contradicts the theoretical longitude, not followed",
        ),
        (unresolved & ~unknown, "measured longitudes whose sign contradicts gps_ew, not used"),
        (unresolved & unknown, "measured longitudes without a sign, whose gps_ew is not east or west, not used"),
    ):
        if mask.any():
            decisions[decision] += int(mask.sum())
    return np.where(unresolved, np.nan, np.where(nearer, -signed, signed)), theory


def _west_by_node(table: pd.DataFrame, east: Numbers, north: Numbers) -> Bools:
    """Where a longitude lacks its sign: the grid node of the point id lies at the mirrored position."""
    nodes = _nodes(table)
    known = np.isfinite(nodes).all(axis=0) & (east > NEAR_GREENWICH) & (east <= 180) & (np.abs(north) <= 90)
    west = np.zeros(len(table), bool)
    if known.any():
        import pyproj

        x, y = _to_metres(pyproj.CRS.from_epsg(4326)).transform(-east[known], north[known])
        west[known] = np.hypot(x - nodes[0, known], y - nodes[1, known]) < CONTRADICTION
    return west


def _sides(table: pd.DataFrame, name: str) -> npt.NDArray[np.int64]:
    """−1 west, 1 east, 0 unknown: "W", "West" or 2; "E", "East" or 1."""
    text = table.get(name, pd.Series(pd.NA, index=table.index, dtype="string")).str.lower()
    west, east = (text.str.match(start).fillna(False).to_numpy(bool) for start in (r"w|2\b", r"e|1\b"))
    return east.astype(np.int64) - west


def _is_odd_side(table: pd.DataFrame) -> Bools:
    """Where ``gps_ew`` has a value that is neither east nor west."""
    if "east_west" not in table:
        return np.zeros(len(table), bool)
    stated = table["east_west"].str.strip().fillna("") != ""
    odd: Bools = stated.to_numpy(bool) & (_sides(table, "east_west") == 0)
    return odd


def _with_plain_numbers(table: pd.DataFrame, decisions: Decisions) -> pd.DataFrame:
    """The table with numbers in one notation, with a decimal point and without thousands separators.

    Degrees have no thousands. Whether ``1,250`` metres are a fraction or a thousand is decided by the decimal sign of
    the other numbers, if there is one.
    """
    columns = {name: table[name] for name in (*_DEGREES, *_METRES) if name in table}
    for name, text in columns.items():
        text = text.str.replace("\u2212", "-", regex=False)  # the minus of typesetting
        if name in _DEGREES:
            text = text.str.replace(r"^(\d[\d.,]*)\s*°?\s*[NE]?$", r"\1", regex=True, case=False)
            text = text.str.replace(r"^(\d[\d.,]*)\s*°?\s*[SW]$", r"-\1", regex=True, case=False)
            text = text.str.replace(r"^(-\d[\d.,]*)\s*°$", r"\1", regex=True)
        columns[name] = text
    signs = set()
    for name, text in columns.items():
        digits = r"\d+" if name in _DEGREES else r"(?:\d{1,2}|\d{4,})"
        signs |= {sign for sign in ".," if text.str.fullmatch(rf"[-+]?\d+[{sign}]{digits}").fillna(False).any()}
    for name, text in columns.items():
        for separator, decimal in ((_SPACES, "[.,]"), (",", "[.]"), ("[.]", ",")):
            start = rf"[-+]?\d{{1,3}}(?:{separator}\d{{3}})"
            patterns = [rf"{start}{{2,}}(?:{decimal}\d+)?", rf"{start}{decimal}\d+"]
            if separator == _SPACES or (name in _METRES and signs == {decimal.strip("[]")}):
                patterns.append(start)
            grouped = text.str.fullmatch("|".join(patterns)).fillna(False)
            if grouped.any():
                decisions[f"thousands separators in {name}"] += int(grouped.sum())
                text = text.where(~grouped, text.str.replace(separator, "", regex=True))
        comma = text.str.fullmatch(r"[-+]?\d+,\d+").fillna(False)
        if comma.any():
            decisions[f"decimal commas in {name}"] += int(comma.sum())
            text = text.where(~comma, text.str.replace(",", ".", regex=False))
        columns[name] = text
    return table.assign(**columns)


def _numbers(table: pd.DataFrame, name: str) -> Numbers:
    """A column as numbers; NaN if missing."""
    if name not in table:
        return np.full(len(table), np.nan)
    return np.array(pd.to_numeric(table[name], errors="coerce"), np.float64)


def _metres(table: pd.DataFrame, name: str) -> Numbers:
    """Metres of ``obs_dist`` or ``gps_prec``; NaN for negative numbers, 8888 and 88888, which mean "unknown"."""
    values = _numbers(table, name)
    return np.where((values >= 0) & ~np.isin(np.floor(values), (8888, 88888)), values, np.nan)


def _measured_crs(table: pd.DataFrame, decisions: Decisions) -> tuple[npt.NDArray[np.object_], Bools]:
    """CRS in ``gps_proj``, empty for degrees, and mask of points without a GPS position ("no signal")."""
    text = table.get("projection", pd.Series(pd.NA, index=table.index, dtype="string")).str.lower().fillna("")
    names = np.full(len(table), "", object)
    absent = np.zeros(len(table), bool)
    for name in text.unique():
        if name in ("", "1") or re.match(r"1\b|wgs.?84|etrs.?89$", name):
            continue
        rows = (text == name).to_numpy(bool)
        if re.match(r"epsg:?\s*\d{4,}$", name):
            names[rows] = "EPSG:" + "".join(filter(str.isdigit, name))
            continue
        absent |= rows
        decisions[f"measured positions not used, because gps_proj is {name!r}"] += int(rows.sum())
    return names, absent


def _projected(
    east: Numbers, north: Numbers, stated: npt.NDArray[np.object_], optional: bool, what: str, decisions: Decisions
) -> tuple[Numbers, Bools]:
    """Project positions to EPSG:3035, ``(2, n)``; also returns the mask of coordinates out of range."""
    try:
        import pyproj
        from pyproj.exceptions import CRSError
    except ImportError as error:
        raise LulcbenchError("Converting LUCAS points to EPSG:3035 requires pyproj.", INSTALL) from error
    present = np.isfinite(east) & np.isfinite(north)
    out = present & ((np.abs(north) > 90) | (np.abs(east) > 180))
    result = np.full((2, len(east)), np.nan)
    odd = np.zeros(len(east), bool)
    for name in sorted({str(name) for name in stated}):
        rows = present & (stated == name)
        try:
            source = pyproj.CRS.from_user_input(int(name) if name.isdigit() else name or 4326)
        except CRSError as error:
            raise LulcbenchError(f"{what}: the CRS {name!r} is unknown.", "Give one such as EPSG:3035.") from error
        metres = 2 * int((out & rows).sum()) > int(rows.sum())
        if metres and not source.is_projected:
            if optional:
                decisions[f"coordinates of {what} that are not degrees, not used in addition to the geometry"] += int(
                    rows.sum()
                )
                continue
            raise LulcbenchError(
                f"{what}: most coordinates are not degrees.",
                "Give their CRS, for instance --points-crs EPSG:3035, or a column crs.",
            )
        if source.is_projected and not metres:
            source = pyproj.CRS.from_epsg(4326)
        usable = rows if metres else rows & ~out
        odd |= rows & ~usable
        result[:, usable] = _to_metres(source).transform(east[usable], north[usable])
    result[:, ~np.isfinite(result).all(axis=0)] = np.nan
    return result, odd


@lru_cache(maxsize=32)
def _to_metres(source: pyproj.CRS) -> pyproj.Transformer:
    """To EPSG:3035; kept, because PROJ takes a tenth of a second to choose the operation."""
    import pyproj

    return pyproj.Transformer.from_crs(source, CRS, always_xy=True)


def _unmeasured(east: Numbers, north: Numbers, lucas: bool) -> Bools:
    """Mask of positions that were not measured: 0° N 0° E, and numbers of digits 8 or 9, such as 88.888 or -9999.

    Marks within the range of degrees are those of LUCAS, which has no point at 8.888° N or 88.888° E. In other tables,
    these are positions.
    """
    missing: Bools = (east == 0) & (north == 0)
    for values, least in ((east, 88 if lucas else 888), (north, 8 if lucas else 888)):
        text = pd.Series([f"{abs(value):.10g}" for value in values], dtype="string")
        missing |= text.str.fullmatch(r"8+(\.8*9?)?|99+(\.9+)?").to_numpy(bool) & (np.abs(values) >= least)
    return missing
