"""Urban Atlas: polygons of its codes become LUISA codes, none finer than they are."""

from __future__ import annotations

import csv
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from builders.archives import label_source, urban_atlas
from builders.readers.area import Area
from builders.recipe import LabelRule
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile
from lulcbench.legend import corine_to_luisa, legend

TILE = Tile(900, 650)
AREA = Area.of([TILE], 50)


def write(path: Path, codes: list[str], layer: str = "XX001L1_TOWN_UA2018", column: str = "code_2018") -> Path:
    """Stripes of 480 m from west to east, with one code each, in the layout of Urban Atlas."""
    left, bottom, _, top = TILE.bounds
    boxes = [shapely.box(left + 480 * i, bottom, left + 480 * (i + 1), top) for i in range(len(codes))]
    table = {column: codes, "class_2018": ["-"] * len(codes), "geometry": [shapely.MultiPolygon([b]) for b in boxes]}
    gpd.GeoDataFrame(table, crs="EPSG:3035").to_file(path, layer=layer, driver="GPKG")
    return path


def rule(path: Path, **more: object) -> LabelRule:
    return LabelRule(year=2018, source="urban-atlas", path=path, **more)


def test_every_code_has_a_luisa_code_that_is_not_finer() -> None:
    """By the names of both legends: a class that has one equivalent may be of level 4, others are coarser."""
    with urban_atlas.TABLE.open() as file:
        rows = {int(row["code"]): row for row in csv.DictReader(file)}
    assert len(rows) == 27 + 2
    assert set(urban_atlas.crosswalk().values()) <= {*legend().classes, 0}
    for code, row in rows.items():
        level = len(row["luisa_code"]) if row["luisa_code"] != "0" else 0
        assert (row["relation"] == "exact") == (level == 4), row
        first = code // 10_000
        assert level == 0 or int(row["luisa_code"][0]) == {1: 1, 2: 2, 3: 3, 4: 4, 5: 5}[first], row


def test_classes_that_urban_atlas_shares_with_corine_become_the_same() -> None:
    """Its codes extend those of CORINE. Roads are a class of their own here, which CORINE has with railways."""
    shared = {12100: 121, 12300: 123, 12400: 124, 13300: 133, 14100: 141, 14200: 142, 11100: 111, 23000: 231}
    assert {ua: urban_atlas.crosswalk()[ua] for ua in shared} == {ua: corine_to_luisa()[c] for ua, c in shared.items()}


def test_polygons_become_labels_and_places_without_data_have_none(tmp_path: Path) -> None:
    codes = ["11100", "11210", "12220", "31000", "50000", "91000"]
    path = write(tmp_path / "town.gpkg", codes)
    labels = label_source(rule(path)).read(AREA)
    values = np.unique(labels.codes[:, : 480 * 5 // 50])
    assert set(values) == {1111, 11, 1221, 31, 5}
    assert not labels.codes[:, 480 * 5 // 50 + 1 :].any()
    middle = [int(labels.codes[48, (480 * i + 240) // 50]) for i in range(6)]
    assert middle == [1111, 11, 1221, 31, 5, 0]


def test_the_layer_of_land_use_is_found_among_others(tmp_path: Path) -> None:
    path = write(tmp_path / "town.gpkg", ["x"], "XX001L1_TOWN_UA2018_Boundary", "fua_name")
    write(path, ["31000"])
    assert set(np.unique(label_source(rule(path)).read(AREA).codes)) == {0, 31}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"year": 2012}, r"no column code_2012"),
        ({"field": "class"}, r"no column class"),
        ({"layer": "other"}, r"town\.gpkg has no layer other"),
    ],
)
def test_a_file_of_another_year_or_layer_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write(tmp_path / "town.gpkg", ["31000"])
    with pytest.raises(LulcbenchError, match=message):
        label_source(rule(path).model_copy(update=change)).read(AREA)


def test_two_layers_of_land_use_need_a_name(tmp_path: Path) -> None:
    path = write(tmp_path / "town.gpkg", ["31000"])
    write(path, ["50000"], "XX001L1_TOWN_UA2018_revised")
    with pytest.raises(LulcbenchError, match="several layers with the column code_2018"):
        label_source(rule(path))
    named = rule(path, layer="XX001L1_TOWN_UA2018_revised")
    assert set(np.unique(label_source(named).read(AREA).codes)) == {0, 5}


@pytest.mark.parametrize("codes", [["20000"], ["11111"], ["311"]])
def test_codes_of_other_editions_or_legends_are_refused(tmp_path: Path, codes: list[str]) -> None:
    """20000 is agriculture of the edition of 2006."""
    path = write(tmp_path / "town.gpkg", codes)
    with pytest.raises(LulcbenchError, match=rf"not in the Urban Atlas legend: {codes[0]}"):
        label_source(rule(path)).read(AREA)


def test_a_raster_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "town.tif"
    path.write_bytes(b"")
    with pytest.raises(LulcbenchError, match="is not a vector file of Urban Atlas"):
        label_source(rule(path))
