"""Files of survey points: kinds, packing, encodings, names of columns."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections import Counter
from pathlib import Path

import geopandas
import pandas as pd
import pyproj
import pytest
import shapely

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation import reference_points
from lulcbench.evaluation._point_files import read_file
from lulcbench.evaluation._point_places import _metres, _with_plain_numbers
from lulcbench.evaluation.class_maps import NONE

ROWS = [
    {"POINT_ID": i, "GPS_LAT": 50.0 + i / 100, "GPS_EW": "E", "GPS_LONG": 5.0, "LC1": "C10", "LU1": "U120"}
    for i in range(3)
]
TABLE = pd.DataFrame(ROWS)
FRAME = geopandas.GeoDataFrame(
    TABLE, geometry=geopandas.points_from_xy(TABLE["GPS_LONG"], TABLE["GPS_LAT"]), crs=4326
).drop(columns=["GPS_LAT", "GPS_EW", "GPS_LONG"])


def packed(path: Path, *members: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.write(member, member.name)
    return path


def write(folder: Path, kind: str) -> Path:
    table, text = folder / "table.csv", TABLE.to_csv(index=False)
    table.write_text(text)
    if kind == "CSV":
        return table.rename(folder / "EU_2018_20200213.CSV")
    if kind in ("csv.gz", "csv.bz2", "csv.xz"):
        compress = {"csv.gz": gzip.compress, "csv.bz2": bz2.compress, "csv.xz": lzma.compress}[kind]
        (folder / f"table.{kind}").write_bytes(compress(text.encode()))
        return folder / f"table.{kind}"
    if kind == "zip":
        (folder / "readme.txt").write_text("LUCAS 2018")
        return packed(folder / "p.ZIP", table, folder / "readme.txt")
    if kind in ("shp", "zipped shp", "Shp"):
        FRAME.to_file(folder / "lucas.shp")
        if kind == "Shp":
            return (folder / "lucas.shp").rename(folder / "lucas.Shp")
        return packed(folder / "p.zip", *folder.glob("lucas.*")) if kind == "zipped shp" else folder / "lucas.shp"
    if kind == "parquet":
        TABLE.to_parquet(folder / "p.parquet")
        return folder / "p.parquet"
    if kind == "geoparquet":
        FRAME.to_parquet(folder / "p.pq")
        return folder / "p.pq"
    FRAME.to_file(folder / f"p.{kind}", driver={"gpkg": "GPKG", "geojson": "GeoJSON", "fgb": "FlatGeobuf"}[kind])
    return folder / f"p.{kind}"


@pytest.mark.parametrize(
    "kind",
    [
        "CSV",
        "csv.gz",
        "csv.bz2",
        "csv.xz",
        "zip",
        "shp",
        "Shp",
        "zipped shp",
        "gpkg",
        "geojson",
        "fgb",
        "parquet",
        "geoparquet",
    ],
)
def test_a_file_is_read_by_what_it_is(tmp_path: Path, kind: str) -> None:
    survey = reference_points.read_points(write(tmp_path, kind))
    table = survey.table.sort_values("id")  # FlatGeobuf sorts by place
    assert table["code"].tolist() == [3110] * 3
    assert table["id"].tolist() == ["0", "1", "2"]
    expected = FRAME.to_crs(3035).geometry
    assert table["x"].tolist() == pytest.approx(expected.x.tolist(), abs=0.01)
    assert table["y"].tolist() == pytest.approx(expected.y.tolist(), abs=0.01)
    assert survey.decisions == {}


@pytest.mark.parametrize(
    ("encoding", "separator", "decisions"),
    [
        ("utf-8-sig", ",", {}),
        ("latin-1", ",", {"rows read in the encoding latin-1": 3}),
        ("utf-16", "\t", {"rows read in the encoding utf-16": 3, "rows separated by '\\t'": 3}),
        ("utf-8", "|", {"rows separated by '|'": 3}),
    ],
    ids=["UTF-8 with mark, commas", "Latin-1, commas", "UTF-16, tabs", "UTF-8, bars"],
)
def test_tables_of_any_encoding_and_separator(
    tmp_path: Path, encoding: str, separator: str, decisions: dict[str, int]
) -> None:
    path = tmp_path / "points.csv"
    TABLE.assign(NAME="Córdoba").to_csv(path, index=False, sep=separator, encoding=encoding)
    survey = reference_points.read_points(path)
    assert survey.table["code"].tolist() == [3110] * 3
    assert survey.decisions == decisions


def test_decimal_commas_and_the_line_that_excel_writes(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("sep=;\n" + TABLE.to_csv(index=False, sep=";", decimal=","))
    survey = reference_points.read_points(path)
    assert survey.table["y"].tolist() == pytest.approx(FRAME.to_crs(3035).geometry.y.tolist(), abs=0.01)
    assert survey.decisions["decimal commas in lat"] == 3
    path.write_text(TABLE.to_csv(index=False).replace("50.01", "50,01"))
    with pytest.raises(LulcbenchError, match="Cannot read"):  # without quotes, its columns would be shifted
        reference_points.read_points(path)
    path.write_text(TABLE.to_csv(index=False).replace("50.01", '"50,01"'))
    assert reference_points.read_points(path).decisions == {"decimal commas in lat": 1}


@pytest.mark.parametrize(
    ("decimal", "texts", "metres"),
    [
        (".", ["1,250", "1,250.5", "2"], [1250, 1250.5, 2]),
        (",", ["1.250", "1.250,5", "2"], [1250, 1250.5, 2]),
        (",", ["1 250", "1\u202f250,5", "1'250"], [1250, 1250.5, 1250]),
        (".", ["1.250", "1,250,000", "2"], [1.25, 1_250_000, 2]),
    ],
)
def test_thousands_are_told_from_fractions_by_the_decimal_sign_of_the_table(
    tmp_path: Path, decimal: str, texts: list[str], metres: list[float]
) -> None:
    path = tmp_path / "points.csv"
    TABLE.assign(OBS_DIST=texts).to_csv(path, index=False, sep=";", decimal=decimal)
    decisions: Counter[str] = Counter()
    table = _with_plain_numbers(read_file(path, None, decisions), decisions)
    assert _metres(table, "distance").tolist() == metres
    assert decisions["thousands separators in distance"] > 0


def test_without_another_number_a_single_separator_is_a_decimal_sign(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    pd.DataFrame({"LC1": ["C10"], "LAT": ["50,123"], "LON": ["10,456"]}).to_csv(path, index=False, sep=";")
    (x,), (y,) = (reference_points.read_points(path).table[axis] for axis in "xy")
    assert pyproj.Transformer.from_crs(3035, 4326, always_xy=True).transform(x, y) == pytest.approx((10.456, 50.123))


def test_codes_of_land_cover_are_read_in_all_their_spellings(tmp_path: Path) -> None:
    covers = ["C10", "c10", " C10 ", "C10 - Broadleaved woodland", "8", "88", "NA", "", "Not relevant", "-1"]
    path = tmp_path / "points.csv"
    pd.DataFrame([ROWS[0] | {"POINT_ID": i, "LC1": cover, "LU1": "8"} for i, cover in enumerate(covers)]).to_csv(
        path, index=False
    )
    survey = reference_points.read_points(path).table
    assert survey["code"].tolist() == [3110] * 4 + [NONE] * 6
    assert set(survey["reason"][4:]) == {"no land cover recorded"}


def test_two_surveys_below_each_other_have_both_sets_of_names(tmp_path: Path) -> None:
    new = {
        f"survey_{name.lower()}": value
        for name, value in (ROWS[0] | {"LC1": "G10 - Inland water", "year": 2022}).items()
    }
    del new["survey_point_id"]
    path = tmp_path / "points.csv"
    pd.DataFrame([*[row | {"year": 2018} for row in ROWS], new | {"POINT_ID": 9}]).to_csv(path, index=False)
    survey = reference_points.read_points(path).table
    assert survey["year"].tolist() == [2018] * 3 + [2022]
    assert survey["x"].notna().all()
    assert (survey["code"] > 0).tolist() == [True] * 3 + [survey["code"][3] > 0]
    # Beside each other they are two values of one thing.
    pd.DataFrame([ROWS[0] | {"survey_lc1": "B11"}]).to_csv(path, index=False)
    with pytest.raises(LulcbenchError, match="two values of lc1, such as C10 and B11"):
        reference_points.read_points(path)


def test_tables_of_one_archive_are_read_together(tmp_path: Path) -> None:
    for country, part in (("AT", TABLE[:1]), ("BE", TABLE[1:])):
        part.to_csv(tmp_path / f"{country}_2018.csv", index=False)
    survey = reference_points.read_points(packed(tmp_path / "eu.zip", *sorted(tmp_path.glob("*.csv"))))
    assert survey.table["id"].tolist() == ["0", "1", "2"]
    assert survey.decisions == {"rows of 2 tables read together": 3}


def test_geometries_without_quotes_in_the_last_column(tmp_path: Path) -> None:
    """As in the table of 2022: several lines, with commas."""
    path = tmp_path / "points.csv"
    header, *rows = TABLE.to_csv(index=False).splitlines()
    lines = [f"{row},MULTILINESTRING ((1 2, 3 4,\n 5 6, 7 8))" for row in rows]
    path.write_text("\n".join([f"{header},geometry", *lines]) + "\n")
    survey = reference_points.read_points(path)
    assert survey.table["code"].tolist() == [3110] * 3
    assert survey.decisions == {"lines left out that continue an unquoted geometry": 3}


def test_polygons_and_groups_of_points(tmp_path: Path) -> None:
    square = shapely.box(4_321_000, 3_210_000, 4_321_100, 3_210_100)
    shapes = [
        square,
        shapely.MultiPolygon([square]),
        shapely.MultiPoint([(4_321_050, 3_210_050)]),
        shapely.MultiPoint([(0, 0), (1, 1)]),
        shapely.LineString([(0, 0), (1, 1)]),
        None,
        shapely.Point(),
    ]
    frame = geopandas.GeoDataFrame(
        {"lc1": ["C10"] * len(shapes), "point_id": range(len(shapes))}, geometry=shapes, crs=3035
    )
    frame.to_file(tmp_path / "points.gpkg")
    survey = reference_points.read_points(tmp_path / "points.gpkg")
    assert survey.table["x"].tolist()[:3] == [4_321_050] * 3
    assert survey.table["place"].tolist()[3:] == ["none: no coordinates"] * 4
    assert survey.decisions == {
        "polygons, evaluated at a point within": 2,
        "lines and groups of points, which have no single position": 2,
    }


def test_unreadable_points(tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match=r"The file of points .* is missing"):
        reference_points.read_points(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_text("point_id,gps_lat,gps_long\n1,1,1\n")
    with pytest.raises(LulcbenchError, match="no column lc1") as caught:
        reference_points.read_points(tmp_path / "a.csv")
    assert "point_id, gps_lat, gps_long" in caught.value.remedy
    whole = write(tmp_path, "csv.gz").read_bytes()
    archive = write(tmp_path, "zip").read_bytes()
    frame = write(tmp_path, "gpkg").read_bytes()
    for content in (
        b"",
        b"\0\1\2 no table",
        b"{ no geojson",
        whole[:-9],
        archive[:90],
        archive[:30] + b"\0" * 40 + archive[70:],
        b"PAR1 no parquet",
        b"PK\x03\x04",
    ):
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(LulcbenchError):
            reference_points.read_points(tmp_path / "broken")
    (tmp_path / "broken.gpkg").write_bytes(frame[:5000])
    with pytest.raises(LulcbenchError):
        reference_points.read_points(tmp_path / "broken.gpkg")
    FRAME.to_file(tmp_path / "no_prj.shp")
    (tmp_path / "no_prj.prj").unlink()
    with pytest.raises(LulcbenchError, match="has no CRS"):
        reference_points.read_points(tmp_path / "no_prj.shp")
    assert reference_points.read_points(tmp_path / "no_prj.shp", "EPSG:4326").table["x"].notna().all()


def test_two_columns_of_one_name_and_layers_without_classes(tmp_path: Path) -> None:
    """The second column of a name is not ignored, and rows of layers without the class are counted."""
    path = tmp_path / "points.csv"
    path.write_text("id,lon,lat,reference,reference\n1,8.8,53.1,231,231\n2,8.9,53.1,231,311\n")
    with pytest.raises(LulcbenchError, match="1 rows with two values of reference, such as 231 and 311"):
        read_file(path, None, Counter(), {"class": "reference"})
    path.write_text("id,lon,lat,reference,reference\n1,8.8,53.1,231,\n2,8.9,53.1,,311\n")
    assert read_file(path, None, Counter(), {"class": "reference"})["class"].tolist() == ["231", "311"]
    layers, decisions = tmp_path / "layers.gpkg", Counter[str]()
    frame = geopandas.GeoDataFrame({"reference": ["231"] * 3}, geometry=[shapely.Point(8.8, 53.1)] * 3, crs=4326)
    frame.to_file(layers, layer="a")
    frame[["geometry"]].head(2).to_file(layers, layer="b")
    assert len(read_file(layers, None, decisions, {"class": "reference"})) == 3
    assert decisions["rows of tables without the columns of the points, left out"] == 2
