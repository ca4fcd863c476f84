"""Where a survey point lies: measured or theoretical coordinates, their signs, missing values and units."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation import reference_points
from lulcbench.evaluation.class_maps import NONE, at_level

TO_3035 = pyproj.Transformer.from_crs(4326, 3035, always_xy=True)
# Arable land 2 km from the centre of EPSG:3035 (52° N 10° E = 4321000 3210000).
HERE = {"th_lat": 52, "th_long": 10}
BESIDE = {"gps_lat": 52, "gps_long": 10.001}  # 69 m to the east
COVER = {"lc1": "B11", "lu1": "U111"}


def read(folder: Path, *rows: dict[str, object], crs: str | None = None) -> reference_points.ReferencePoints:
    path = folder / "points.csv"
    pd.DataFrame([COVER | row for row in rows]).to_csv(path, index=False)
    return reference_points.read_points(path, crs)


def place(folder: Path, *rows: dict[str, object]) -> str:
    (found,) = read(folder, *rows).table["place"]
    return str(found)


def test_a_harmonised_table_is_read(tmp_path: Path) -> None:
    survey = read(
        tmp_path,
        {"point_id": 1, "gps_lat": 52, "gps_long": 10, "th_lat": 0, "th_long": 0},
        {"point_id": 2, "lc1": "C10", "lu1": "U120", "gps_lat": 88.888, "gps_long": 88.888} | HERE,
        {"point_id": 3, "lc1": "ZZZ", "gps_lat": None, "gps_long": None, "th_lat": None, "th_long": None},
        {"point_id": 4, "lc1": None, "lu1": None, "gps_lat": 52, "gps_long": 10} | HERE,
    ).table
    assert survey["code"].tolist() == [2110, 3110, NONE, NONE]
    assert survey["x"].tolist()[:2] == pytest.approx([4_321_000, 4_321_000], abs=0.01)
    assert survey["y"].tolist()[:2] == pytest.approx([3_210_000, 3_210_000], abs=0.01)
    assert np.isnan(survey["x"][2])
    assert survey["reason"].tolist() == ["", "", "no LUISA class for LUCAS ZZZ/U111", "no land cover recorded"]
    assert survey["place"].tolist() == ["measured", "theoretical", "none: no coordinates", "measured"]


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        ({}, "theoretical (observed from afar)"),  # the two places are 69 m apart
        ({"obs_dist": 3}, "measured"),
        ({"obs_dist": "3,0", "obs_type": "In situ < 100 m"}, "measured"),
        ({"obs_dist": 3, "obs_type": 1, "gps_prec": 4}, "measured"),
        ({"obs_dist": 70, "obs_type": "In situ < 100 m"}, "theoretical (observed from afar)"),
        ({"obs_dist": 8888, "obs_type": 1}, "theoretical (observed from afar)"),
        ({"obs_type": "In situ > 100 m"}, "theoretical (observed from afar)"),
        ({"obs_dist": 3, "obs_type": 2.0}, "theoretical (observed from afar)"),
        ({"obs_dist": 3, "obs_type": "In office PI"}, "theoretical (observed from afar)"),
        ({"obs_dist": 3, "gps_prec": 60}, "theoretical (imprecise GPS)"),
        ({"obs_dist": 3, "gps_prec": 8888}, "measured"),
        ({"obs_dist": 3, "gps_proj": "No GPS signal"}, "theoretical"),
        ({"obs_dist": 3, "gps_proj": 2}, "theoretical"),
        ({"obs_dist": 3, "gps_proj": "WGS84"}, "measured"),
    ],
)
def test_the_measured_place_counts_if_the_surveyor_stood_at_the_point(
    tmp_path: Path, observed: dict[str, object], expected: str
) -> None:
    survey = read(tmp_path, HERE | BESIDE | observed).table
    assert survey["place"].tolist() == [expected]
    assert survey["x"][0] == pytest.approx(4_321_000 + (68.7 if expected == "measured" else 0), abs=0.5)


def test_the_place_of_a_distant_surveyor_alone_is_not_enough(tmp_path: Path) -> None:
    assert place(tmp_path, BESIDE | {"obs_dist": 60, "obs_type": 1}) == "measured"
    afar = "none: observed from afar, and only the position of the surveyor is known"
    assert place(tmp_path, BESIDE | {"obs_dist": 400}) == afar
    assert place(tmp_path, BESIDE | {"obs_type": "In situ > 100 m"}) == afar
    assert place(tmp_path, BESIDE | {"gps_prec": 500}).startswith("none: imprecise GPS")


def test_the_point_id_names_the_node_of_the_grid(tmp_path: Path) -> None:
    """43203210 is (4320000, 3210000), EPSG:3035."""
    lon, lat = TO_3035.transform(4_320_060, 3_210_000, direction="INVERSE")
    row = {"point_id": 43203210, "gps_lat": round(lat, 6), "gps_long": round(lon, 6), "obs_dist": 60}
    survey = read(tmp_path, row).table
    assert survey["place"].tolist() == ["theoretical (grid node of the point id)"]
    assert survey["x"].tolist() == [4_320_000]
    elsewhere = read(tmp_path, row | {"point_id": 41003210}).table
    assert elsewhere["place"].tolist() == ["measured"]


@pytest.mark.parametrize("west", ["West", "W", "w", 2, "2.0"])
def test_a_measured_longitude_without_sign_is_west_by_gps_ew(tmp_path: Path, west: object) -> None:
    survey = read(tmp_path, {"gps_lat": 40.0, "GPS_EW": west, "gps_long": 3.5, "th_lat": 40.0, "th_long": -3.5})
    assert (survey.table["x"][0], survey.table["y"][0]) == pytest.approx(TO_3035.transform(-3.5, 40.0))
    assert survey.table["place"].tolist() == ["measured"]
    assert survey.decisions == {"measured longitudes without a sign, west by gps_ew": 1}
    signed = read(tmp_path, {"gps_lat": 40.0, "GPS_EW": west, "gps_long": -3.5})
    assert signed.table["x"][0] == survey.table["x"][0]
    assert signed.decisions == {}


@pytest.mark.parametrize(
    ("row", "longitude", "decision"),
    [
        ({"gps_long": 3.5, "th_long": -3.5}, -3.5, "measured longitudes that took the sign of the theoretical one"),
        (
            {"gps_long": 3.5, "gps_ew": "", "th_long": -3.5},
            -3.5,
            "measured longitudes that took the sign of the theoretical one",
        ),
        (
            {"gps_long": 3.5, "gps_ew": "East", "th_long": -3.5},
            -3.5,
            "gps_ew that contradicts the theoretical longitude, not followed",
        ),
        (
            {"gps_long": -3.5, "gps_ew": "East", "th_long": -3.5},
            -3.5,
            "gps_ew that contradicts the theoretical longitude, not followed",
        ),
        (
            {"gps_long": 3.5, "gps_ew": "West", "th_long": 3.5},
            -3.5,
            "theoretical longitudes without a sign, west by gps_ew",
        ),
        ({"gps_long": -3.5, "gps_ew": "East"}, None, "measured longitudes whose sign contradicts gps_ew, not used"),
        (
            {"gps_long": 3.5, "gps_ew": "Ouest"},
            None,
            "measured longitudes without a sign, whose gps_ew is not east or west, not used",
        ),
    ],
)
def test_signs_of_longitudes_that_disagree(
    tmp_path: Path, row: dict[str, object], longitude: float | None, decision: str
) -> None:
    survey = read(tmp_path, {"gps_lat": 40.0, "th_lat": 40.0} | row)
    assert decision in survey.decisions
    if longitude is None:
        assert survey.table["x"].isna().all()
    else:
        assert survey.table["x"][0] == pytest.approx(TO_3035.transform(longitude, 40.0)[0])


def test_either_side_of_greenwich_is_near(tmp_path: Path) -> None:
    survey = read(tmp_path, {"gps_lat": 50.0, "gps_long": 0.0001, "gps_ew": "East", "th_lat": 50.0, "th_long": -0.0001})
    assert survey.decisions == {}
    assert survey.table["x"][0] == pytest.approx(TO_3035.transform(0.0001, 50.0)[0])


@pytest.mark.parametrize(
    "missing", ["88.888", "88.888888", "88.88", "88", "888.888", "8", "8.888888", "-88.888888", "-9999", "-999.0"]
)
def test_eights_and_nines_stand_for_not_measured(tmp_path: Path, missing: str) -> None:
    longitude = "10.1" if missing.partition(".")[0] == "8" else missing
    survey = read(tmp_path, {"gps_lat": missing, "gps_long": longitude} | HERE)
    assert survey.table["place"].tolist() == ["theoretical"]
    alone = read(tmp_path, {"gps_lat": missing, "gps_long": longitude})
    assert alone.table["place"].tolist() == ["none: no coordinates"]


@pytest.mark.parametrize(("lat", "lon"), [(8.25, 4.5), (8.888, 10.0), (23.5, 88.888), (88.5, 99.5)])
def test_eights_and_nines_of_other_tables_are_positions(tmp_path: Path, lat: float, lon: float) -> None:
    (tmp_path / "own.csv").write_text(f"lat,lon,label\n{lat},{lon},311\n-9999,-9999,311\n52,10,311\n")
    found = reference_points.read_points(tmp_path / "own.csv", class_column="label").table
    assert (found["x"][0], found["y"][0]) == pytest.approx(TO_3035.transform(lon, lat))
    assert found["place"].tolist() == [
        "geometry or coordinates of the file",
        "none: no coordinates",
        "geometry or coordinates of the file",
    ]


def test_whole_degrees_of_lucas_are_positions_unless_all_digits_are_alike(tmp_path: Path) -> None:
    assert place(tmp_path, {"gps_lat": 8.25, "gps_long": 10.0}) == "measured"


def test_a_longitude_of_8_degrees_is_one(tmp_path: Path) -> None:
    assert place(tmp_path, {"gps_lat": 50.1, "gps_long": 8.0}) == "measured"


def test_the_first_row_may_have_no_place(tmp_path: Path) -> None:
    survey = read(tmp_path, {"th_lat": "", "gps_lat": 88.888888, "gps_long": 88.888888}, {"th_lat": ""} | BESIDE)
    assert survey.table["place"].tolist() == ["none: no coordinates", "measured"]


def test_metres_in_columns_of_degrees_need_a_crs(tmp_path: Path) -> None:
    rows = [{"point_id": i, "th_lat": 3_210_000 + i, "th_long": 4_321_000} for i in range(3)]
    with pytest.raises(LulcbenchError, match=r"most coordinates are not degrees.*") as caught:
        read(tmp_path, *rows)
    assert "--points-crs" in caught.value.remedy
    told = read(tmp_path, *rows, crs="EPSG:3035").table
    assert told["y"].tolist() == pytest.approx([3_210_000, 3_210_001, 3_210_002])
    in_file = read(tmp_path, *(row | {"srid": 3035} for row in rows)).table
    assert in_file["x"].tolist() == pytest.approx([4_321_000] * 3)
    # The measured ones are degrees nevertheless.
    both = read(tmp_path, *(row | {"gps_lat": 52, "gps_long": 10} for row in rows), crs="EPSG:3035").table
    assert both["place"].tolist() == ["measured"] * 3
    with pytest.raises(LulcbenchError, match="is unknown"):
        read(tmp_path, *rows, crs="EPSG:0")


def test_a_single_row_out_of_range_is_left_out(tmp_path: Path) -> None:
    survey = read(tmp_path, *(BESIDE | {"point_id": i} for i in (1, 2)), {"gps_lat": 520.0, "gps_long": 10})
    assert survey.table["place"].tolist() == ["measured", "measured", "none: coordinates out of range"]


def test_gps_proj_may_name_a_crs(tmp_path: Path) -> None:
    survey = read(tmp_path, {"gps_lat": 3_210_000, "gps_long": 4_321_000, "gps_proj": "EPSG:3035"})
    assert (survey.table["x"][0], survey.table["y"][0]) == pytest.approx((4_321_000, 3_210_000))


def test_geometry_and_columns_of_a_vector_file(tmp_path: Path) -> None:
    east = shapely.Point(4_321_069, 3_210_000)
    frame = geopandas.GeoDataFrame(
        [COVER | {"obs_dist": 69.0} | BESIDE, COVER | {"obs_dist": 69.0} | BESIDE, COVER | {"obs_dist": 2.0} | BESIDE],
        geometry=[shapely.Point(4_321_000, 3_210_000), east, shapely.Point(4_421_000, 3_210_000)],
        crs=3035,
    )
    frame.to_file(tmp_path / "points.gpkg")
    survey = reference_points.read_points(tmp_path / "points.gpkg").table
    assert survey["place"].tolist() == [
        "theoretical (observed from afar)",  # the geometry is not the measured position, so it is the point
        "measured",
        "none: geometry and coordinates contradict each other",
    ]
    assert survey["x"].tolist()[:2] == pytest.approx([4_321_000, 4_321_068.7], abs=0.5)


def test_records_of_a_point_count_once(tmp_path: Path) -> None:
    row = {"point_id": 7, "year": 2018} | BESIDE
    survey = read(
        tmp_path, row, row, {"point_id": 8, "lc1": "C10", "lu1": "U120"} | row | {"point_id": 8}, row | {"point_id": 8}
    )
    assert survey.table["place"].tolist() == [
        "measured",
        "none: repeated record",
        *["none: records of the same point and year contradict each other"] * 2,
    ]


def test_only_classes_contradict_each_other_and_years_are_not_invented(tmp_path: Path) -> None:
    """At four places, without ids: classes without years, one of them twice, one class and none, classes of a year."""
    rows: list[dict[str, object]] = [
        *({"lc1": cover} | BESIDE | {"gps_long": 9.0} for cover in ("B11", "C10", "B11")),
        *({"lc1": "C10"} | BESIDE | {"gps_long": 9.1} for _ in range(2)),
        *({"lc1": cover, "year": 2018} | BESIDE | {"gps_long": 9.2} for cover in ("", "C10", "ZZZ")),
        *({"lc1": cover, "year": 2018} | BESIDE | {"gps_long": 9.3} for cover in ("B11", "C10")),
    ]
    survey = read(tmp_path, *(row | {"lu1": "U120" if row["lc1"] == "C10" else "U111"} for row in rows)).table
    assert (survey["code"] == NONE).tolist() == [False] * 5 + [True, False, True, False, False]
    assert survey["place"].tolist() == [
        *["none: records of the same point, without years, contradict each other"] * 3,
        *["measured", "none: repeated record"],
        *["measured"] * 3,
        *["none: records of the same point and year contradict each other"] * 2,
    ]
    assert survey["reason"].tolist()[5] == "no land cover recorded"


@pytest.mark.real
def test_real_points_of_czechia(real_data: Path) -> None:
    path = real_data / "lucas_cz_2018" / "cz_lucas_points_l1_2018.shp"
    if not path.is_file():
        pytest.skip(f"{path.name} is not among the real data")
    survey = reference_points.read_points(path).table
    assert len(survey) == 5037
    assert survey["x"].between(4_400_000, 5_000_000).all()
    known = survey["code"] > 0
    assert 0.7 < known.mean() < 0.8  # grassland (E) without land use is the bulk of the rest
    assert set(survey["reason"][~known].str[-3]) <= {"E", "F", "D"}
    # The file carries its maker's own classes: 1 artificial, 2 crops, 4 forest, 8 wetland, 9 water.
    table = geopandas.read_file(path)
    theirs, ours = table["label_l1"], at_level(survey["code"], 1)
    for label, code in ((1, 1), (2, 2), (4, 3), (8, 4), (9, 5)):
        assert (ours[theirs == label] == code).mean() > 0.99
    # The measured position is as far from the grid node of the point id as the surveyor recorded.
    node = table["point_id"].astype(str).str.extract(r"(\d{4})(\d{4})").astype(float) * 1000
    apart = np.hypot(table.geometry.x - node[0], table.geometry.y - node[1])
    assert np.corrcoef(apart, table["obs_dist"])[0, 1] > 0.99
    afar = survey["place"] == "theoretical (grid node of the point id)"
    assert afar.sum() == (table["obs_dist"] > 25).sum() == 179
    assert survey["x"][afar].tolist() == node[0][afar].tolist()


@pytest.mark.real
def test_a_real_harmonised_record_and_a_real_table_of_2015(real_data: Path) -> None:
    record = reference_points.read_points(real_data / "clcplus_nl" / "lucas_40283224.gpkg").table
    assert record["place"].tolist() == ["measured"]
    assert record[["reason", "year", "id"]].iloc[0].tolist() == ["no LUISA class for LUCAS C10/U111", 2018, "40283224"]
    assert np.hypot(record["x"][0] - 4_028_000, record["y"][0] - 3_224_000) < 5
    survey = reference_points.read_points(real_data / "lucas_eu_2015" / "lucas_2015.csv").table
    assert len(survey) == 21_859
    assert set(survey["place"]) == {"geometry or coordinates of the file"}
    # Each lies within half the spacing of the grid from the node that its id names.
    node = survey["id"].str.extract(r"(\d{4})(\d{4})").astype(float) * 1000
    assert (np.hypot(survey["x"] - node[0], survey["y"] - node[1]) < 1000).mean() > 0.99


def test_a_longitude_without_sign_is_west_by_the_grid_node_of_the_point_id(tmp_path: Path) -> None:
    """Tables without gps_ew: the mirrored position is hundreds of kilometres from the node."""
    x, y = 3_000_000, 3_210_000
    lon, lat = TO_3035.transform(x, y, direction="INVERSE")
    for latitude, longitude in (("gps_lat", "gps_long"), ("th_lat", "th_long")):
        found = read(tmp_path, {"point_id": f"{x // 1000}{y // 1000}", latitude: lat, longitude: -lon})
        assert found.table[["x", "y"]].to_numpy() == pytest.approx(np.array([[x, y]]), abs=1)
        assert found.decisions == {"longitudes without a sign, west by the grid node of the point id": 1}
    found = read(tmp_path, {"point_id": 7, "gps_lat": lat, "gps_long": -lon})
    assert found.decisions == {"measured longitudes without a sign or gps_ew, taken as east": 1}


@pytest.mark.parametrize(
    ("lat", "lon"),
    [("52.0°", "\u221210.0"), ("52 N", "10 W"), ("52.0n", "10.0°w"), ("52°N", "-10°")],
    ids=["minus sign", "letters", "both", "degree signs"],
)
def test_degrees_may_have_signs_of_typesetting(tmp_path: Path, lat: str, lon: str) -> None:
    found = read(tmp_path, {"th_lat": lat, "th_long": lon}).table
    assert found[["x", "y"]].to_numpy()[0] == pytest.approx(TO_3035.transform(-10, 52), abs=0.01)


def test_geometries_of_an_undefined_system_need_a_crs(tmp_path: Path) -> None:
    crs = pyproj.CRS.from_wkt('LOCAL_CS["Undefined Cartesian SRS",UNIT["metre",1]]')
    frame = geopandas.GeoDataFrame([COVER], geometry=[shapely.Point(4_321_000, 3_210_000)], crs=crs)
    frame.to_parquet(tmp_path / "points.parquet")
    with pytest.raises(LulcbenchError, match="has no CRS"):
        reference_points.read_points(tmp_path / "points.parquet")
    found = reference_points.read_points(tmp_path / "points.parquet", "EPSG:3035").table
    assert found[["x", "y"]].to_numpy()[0] == pytest.approx([4_321_000, 3_210_000])
