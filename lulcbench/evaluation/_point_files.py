"""Reading files of survey points, tables and vector files, compressed or not, as one table of text.

The type of a file is determined from its content, not from its name; publishers use ``.CSV``, ``.csv.gz`` and archives.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench._coordinates import lacks_map_crs
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS

INSTALL = "Run: pip install 'lulcbench[geo]'."
# Column names in the survey years 2006–2018, in the harmonised database and in 2022 (``survey_…``, ``point_…``).
COLUMNS = {
    "id": ("point_id", "pointid"),
    "lc1": ("lc1", "survey_lc1"),
    "lu1": ("lu1", "survey_lu1"),
    "lat": ("gps_lat", "survey_gps_lat"),
    "lon": ("gps_long", "gps_lon", "survey_gps_long"),
    "east_west": ("gps_ew", "survey_gps_ew"),
    "projection": ("gps_proj", "survey_gps_proj"),
    "precision": ("gps_prec", "survey_gps_prec"),
    "lat_theory": ("th_lat", "point_lat"),
    "lon_theory": ("th_long", "th_lon", "point_long"),
    "x_theory": ("x_laea",),
    "y_theory": ("y_laea",),
    "east_west_theory": ("th_ew",),
    "lat_given": ("lat", "latitude"),
    "lon_given": ("lon", "long", "longitude"),
    "distance": ("obs_dist", "survey_obs_dist"),
    "observed": ("obs_type", "survey_obs_type"),
    "year": ("year", "survey_year"),
    "date": ("surveydate", "survey_date", "survey_dat", "surv_date"),  # shapefiles truncate names to ten characters
    "crs": ("crs", "epsg", "srid"),
}
_CODED = ("lc1", "lu1", "east_west", "east_west_theory", "projection", "observed")
_ABSENT = r"(?:8{1,5}(?:[.,][08]*)?|-1(?:[.,]0*)?|not relevant|na|nan|none|null|)"  # in coded columns
_GEOMETRY = ("geometry", "the_geom", "geom", "wkt", "shape")
# What libraries raise for archives and texts that are cut, damaged, encrypted or not what they seem.
_BROKEN_ARCHIVE = (EOFError, RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_DAMAGED = (OSError, UnicodeError, csv.Error, *_BROKEN_ARCHIVE)
_PACKERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}  # by first bytes
_SEPARATORS = ",;\t|"
_SUFFIXES = (".csv", ".tsv", ".shp", ".gpkg", ".geojson", ".json", ".parquet", ".fgb", ".gml")

Numbers = npt.NDArray[np.float64]
Decisions = Counter[str]


def read_file(
    path: Path, crs: str | None, decisions: Decisions, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read all tables of a file.

    Args:
        path: text table, Parquet or vector file; alone, compressed (gzip, bzip2, xz), or in a zip archive.
        crs: CRS of geometries without one.
        decisions: updated with decision → number of rows.
        columns: further columns, name in the result → name in the file; all are required. If ``class`` is among them,
            land cover of LUCAS (``lc1``) is not.

    Returns:
        The available columns of ``COLUMNS`` and ``columns`` as text, missing values as NA; ``x_geometry`` and
        ``y_geometry``, EPSG:3035 metres, NaN without a geometry.

    Raises:
        LulcbenchError: the file cannot be read or has no table with the required columns.
    """
    columns = columns or {}
    try:
        with _unpacked(path) as files:
            parts = [part for file in files for part in _parts(file, path, crs, decisions, columns)]
    except _DAMAGED as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "Get the file again.") from error
    required = {**({} if "class" in columns else {"lc1": "lc1"}), **columns}
    with_cover = [part for part in parts if required.keys() <= set(part.columns)]
    if not with_cover:
        names = list(dict.fromkeys(str(name) for part in parts for name in part.attrs["columns"]))
        missing = next(
            old
            for name, old in required.items()
            if name == list(required)[-1] or not any(name in part for part in parts)
        )
        known = f"LUCAS calls it {' or '.join(COLUMNS['lc1'])}; the" if missing == "lc1" else "The"
        raise LulcbenchError(
            f"{path} has no column {missing}.", f"{known} file has {', '.join(names[:20]) or 'no table'}."
        )
    if left_out := sum(map(len, parts)) - sum(map(len, with_cover)):
        decisions["rows of tables without the columns of the points, left out"] = left_out
    if len(with_cover) > 1:
        decisions[f"rows of {len(with_cover)} tables read together"] = sum(map(len, with_cover))
    for part in with_cover:
        part.attrs = {}
    return pd.concat(with_cover, ignore_index=True)


@contextmanager
def _unpacked(path: Path) -> Iterator[list[Path]]:
    """Yield the files to read: the file itself, or the tables of an archive, unpacked into a temporary folder."""
    with path.open("rb") as file:
        head = file.read(6)
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder)
        opener = next((opener for magic, opener in _PACKERS.items() if head.startswith(magic)), None)
        if opener is not None:
            unpacked = inner / path.stem
            with opener(path) as packed, unpacked.open("wb") as file:
                shutil.copyfileobj(packed, file)
            yield [unpacked]
        elif head.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(inner)
            members = sorted(member for member in inner.rglob("*") if member.is_file() and member.stat().st_size)
            known = [member for member in members if member.suffix.lower() in _SUFFIXES]
            yield known or [member for member in members if member.suffix.lower() == ".txt"]
        else:
            yield [path]


def _parts(
    file: Path, named: Path, crs: str | None, decisions: Decisions, columns: Mapping[str, str]
) -> list[pd.DataFrame]:
    with file.open("rb") as opened:
        head = opened.read(4096)
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1]
    if head[:4] == b"PAR1":
        return [_canonical(frame, named, crs, decisions, columns) for frame in [_read_parquet(file, named)]]
    if start not in (b"{", b"[", b"<") and (b"\0" not in head or head[:2] in (b"\xff\xfe", b"\xfe\xff")):
        return [_canonical(_read_text(file, named, decisions), named, crs, decisions, columns)]
    return [_canonical(frame, named, crs, decisions, columns) for frame in _read_layers(file, named)]


def _read_text(file: Path, named: Path, decisions: Decisions) -> pd.DataFrame:
    encoding = _encoding(file)
    with file.open(encoding=encoding, newline="") as opened:
        header = opened.readline()
        skipped = 1 if header.lower().startswith("sep=") else 0  # written by Excel
        header = opened.readline() if skipped else header
    names = {name for olds in COLUMNS.values() for name in olds}
    fields = {
        sep: [name.strip().lower() for name in next(csv.reader([header], delimiter=sep), [])] for sep in _SEPARATORS
    }
    separator = max(_SEPARATORS, key=lambda sep: sum(name in names for name in fields[sep]))
    options: dict[str, Any] = {
        "sep": separator,
        "encoding": encoding,
        "skiprows": skipped,
        "dtype": "string",
        "index_col": False,  # otherwise, an extra field in all rows would shift the columns by one
        "skipinitialspace": True,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table: pd.DataFrame = pd.read_csv(file, **options)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        if fields[separator][-1] not in _GEOMETRY:
            raise LulcbenchError(
                f"Cannot read {named}: {error}.",
                "Write the table again, with quotes around text that contains the separator.",
            ) from error
        table = _without_geometry(file, encoding, separator, skipped, decisions)
    except ValueError as error:
        raise LulcbenchError(f"Cannot read {named}: {error}.", "Give a table of LUCAS points (CSV).") from error
    names_given = next(csv.reader([header], delimiter=separator), [])
    if len(names_given) == len(table.columns) and len(set(names_given)) < len(names_given):
        table.columns = pd.Index(names_given)  # pandas renames the second of two columns, which would be ignored
    if encoding not in ("utf-8", "utf-8-sig"):
        decisions[f"rows read in the encoding {encoding}"] += len(table)
    if separator != ",":
        decisions[f"rows separated by {separator!r}"] += len(table)
    return table


def _without_geometry(file: Path, encoding: str, separator: str, skipped: int, decisions: Decisions) -> pd.DataFrame:
    """A table whose last column is a geometry of several lines without quotes, as that of 2022, without this column.

    Rows of the table are told from lines of a geometry by the whole number in their first column.
    """
    with file.open(encoding=encoding, newline="") as opened:
        lines = csv.reader(opened, delimiter=separator)
        for _ in range(skipped):
            next(lines)
        names = next(lines)[:-1]
        everything = list(lines)
    rows = [line[: len(names)] for line in everything if len(line) > len(names) and line[0].strip().isdigit()]
    decisions["lines left out that continue an unquoted geometry"] += len(everything) - len(rows)
    table = pd.DataFrame(rows, columns=names, dtype="string")
    filled: pd.DataFrame = table.mask(table == "")
    return filled


def _encoding(file: Path) -> str:
    """Encoding of a text: by its byte-order mark, else UTF-8 if it decodes, else Latin-1."""
    with file.open("rb") as opened:
        head = opened.read(3)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if head == b"\xef\xbb\xbf":
        return "utf-8-sig"
    try:
        with file.open(encoding="utf-8") as opened:
            for _ in iter(lambda: opened.read(1 << 20), ""):
                pass
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _read_parquet(file: Path, named: Path) -> pd.DataFrame:
    geopandas = _geopandas(named)
    try:
        try:
            frame: pd.DataFrame = geopandas.read_parquet(file)
        except ValueError:  # a table without geometry
            frame = pd.read_parquet(file)
    except Exception as error:  # pyarrow and geopandas raise several unrelated types of errors
        raise LulcbenchError(f"Cannot read {named}: {error}.", "Give a Parquet file of LUCAS points.") from error
    return frame


def _read_layers(file: Path, named: Path) -> list[pd.DataFrame]:
    geopandas = _geopandas(named)
    with tempfile.TemporaryDirectory() as folder:
        if file.suffix.lower() == ".shp":
            # GDAL finds the parts of a shapefile by suffixes in lower or upper case, not in a mixture of them.
            for part in file.parent.iterdir():
                if part.stem.lower() == file.stem.lower():
                    (Path(folder) / f"points{part.suffix.lower()}").symlink_to(part.resolve())
            file = Path(folder) / "points.shp"
        try:
            layers: list[pd.DataFrame] = [
                geopandas.read_file(file, layer=layer) for layer in geopandas.list_layers(file)["name"]
            ]
        except Exception as error:  # pyogrio raises several unrelated types of errors
            raise LulcbenchError(f"Cannot read {named}: {error}.", "Give a vector file of LUCAS points.") from error
    return layers


def _geopandas(named: Path) -> Any:
    try:
        import geopandas
    except ImportError as error:
        raise LulcbenchError(f"Reading {named.name} needs geopandas.", INSTALL) from error
    return geopandas


def _canonical(
    table: pd.DataFrame, named: Path, crs: str | None, decisions: Decisions, more: Mapping[str, str]
) -> pd.DataFrame:
    """Rename the columns of ``COLUMNS`` and ``more``.

    If a table has several of the names of a column, the values must agree.
    """
    lower: dict[str, list[int]] = {}
    for position, name in enumerate(table.columns):
        lower.setdefault(str(name).strip().lower(), []).append(position)
    columns: dict[str, Any] = {}
    for name, olds in {**COLUMNS, **{name: (old.strip().lower(),) for name, old in more.items()}}.items():
        given = [_text(table.iloc[:, i], name) for old in olds for i in lower.get(old, [])]
        if not given:
            continue
        columns[name] = given[0]
        for other in given[1:]:
            differs = columns[name].notna() & other.notna() & (columns[name] != other)
            if (name in ("lc1", "lu1", "year") or name in more) and differs.any():
                raise LulcbenchError(
                    f"{named} has {int(differs.sum()):,} rows with two values of {more.get(name, name)}, such as "
                    f"{columns[name][differs].iloc[0]} and {other[differs].iloc[0]}.",
                    "Give one row per survey, and one column of each name.",
                )
            columns[name] = columns[name].fillna(other)
    x, y = _geometry(table, named, crs, decisions, ("lat" in columns or "lat_theory" in columns))
    result = pd.DataFrame(columns | {"x_geometry": x, "y_geometry": y}, index=table.index)
    result.attrs["columns"] = [name for name in table.columns if str(name) != "geometry"]
    return result


def _text(column: pd.Series[Any], name: str) -> pd.Series[Any]:
    text = column.astype("string").str.strip()
    if name in _CODED:
        text = text.mask(text.str.fullmatch(_ABSENT, case=False).fillna(False))
    if name in ("lc1", "lu1"):
        return text.str.extract(r"^([A-Za-z]\w*)", expand=False).str.upper().fillna(text)  # 2022: "B11 - Common wheat"
    if name in ("id", "year", "observed", "projection", "east_west", "east_west_theory", "crs"):
        text = text.str.replace(
            r"^(\d+)[.,]0+$", r"\1", regex=True
        )  # integers in a column with missing values become 2018.0
    return text.mask((text == "").fillna(False))


def _geometry(
    table: pd.DataFrame, named: Path, crs: str | None, decisions: Decisions, has_columns: bool
) -> tuple[Numbers, Numbers]:
    nowhere = np.full(len(table), np.nan)
    shapes: Any = getattr(table, "geometry", None)
    if not hasattr(shapes, "geom_type"):
        return nowhere, nowhere.copy()
    if lacks_map_crs(shapes.crs):
        shapes = shapes.set_crs(None, allow_override=True)  # "undefined", as GeoPackages state
    if shapes.crs is None and crs is None:
        if has_columns:
            decisions["geometries without a CRS, not used beside the columns"] += len(table)
            return nowhere, nowhere.copy()
        raise LulcbenchError(
            f"{named} has no CRS.", "Give it with --points-crs, or add it: a shapefile needs its .prj file."
        )
    shapes = shapes.set_crs(crs) if shapes.crs is None else shapes
    shapes = shapes.to_crs(CRS)
    kind = shapes.geom_type
    single = (kind == "MultiPoint") & (shapes.count_geometries() == 1)
    polygon = kind.isin(["Polygon", "MultiPolygon"])
    point = kind == "Point"
    other = kind.notna() & ~shapes.is_empty & ~point & ~single & ~polygon
    for mask, decision in (
        (polygon, "polygons, evaluated at a point within"),
        (other, "lines and groups of points, which have no single position"),
    ):
        if mask.any():
            decisions[decision] += int(mask.sum())
    usable = ((point & ~shapes.is_empty) | single | (polygon & ~shapes.is_empty)).to_numpy(bool)
    within = shapes[usable].representative_point()
    for out, values in ((nowhere, within.x), (y := nowhere.copy(), within.y)):
        out[usable] = np.where(np.isfinite(values), values, np.nan)
    return nowhere, y
