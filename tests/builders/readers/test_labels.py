"""Labels: rasters and polygons of LUISA, CORINE and own maps on the grid of a release."""

from pathlib import Path
from unicodedata import normalize

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from affine import Affine

from builders.archives import corine, label_source, luisa, own, urban_atlas
from builders.readers.area import Area
from builders.readers.locators import spelled
from builders.readers.polygons import VectorLabels
from builders.recipe import LabelRule
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.class_maps import open_map
from lulcbench.grid import Tile
from lulcbench.legend import corine_grid_codes, legend
from tests.builders.world import write_raster

TILE = Tile(900, 650)


def rule(path: Path, **more: object) -> LabelRule:
    return LabelRule(year=2018, source="corine", path=path, **more)


def luisa_map(folder: Path, resolution: int, crs: str = "EPSG:3035") -> tuple[Path, np.ndarray]:
    n = 4800 // resolution
    codes = np.random.default_rng(1).choice(legend().codes(4), (n, n)).astype(np.int32)
    left, _, _, top = TILE.bounds
    return write_raster(folder / "l.tif", codes, Affine(resolution, 0, left, 0, -resolution, top), crs, 0), codes


def test_luisa_at_50_and_100_m_is_read_exactly(tmp_path: Path) -> None:
    area = Area.of([TILE], 50)
    path, codes = luisa_map(tmp_path / "a", 50)
    np.testing.assert_array_equal(luisa.labels(rule(path)).read(area).codes, codes)
    path, codes = luisa_map(tmp_path / "b", 100)
    np.testing.assert_array_equal(luisa.labels(rule(path)).read(area).codes, codes.repeat(2, 0).repeat(2, 1))


def test_finer_labels_are_put_to_the_vote(tmp_path: Path) -> None:
    codes = np.full((192, 192), 18, np.uint8)
    codes[::2, ::2] = 24  # one in four
    left, _, _, top = TILE.bounds
    path = write_raster(tmp_path / "c.tif", codes, Affine(25, 0, left, 0, -25, top), "EPSG:3035")
    assert np.unique(corine.labels(rule(path)).read(Area.of([TILE], 50)).codes).tolist() == [2310]


def test_unknown_codes_are_named(tmp_path: Path) -> None:
    grid = Affine(50, 0, TILE.bounds[0], 0, -50, TILE.bounds[3])
    path = write_raster(tmp_path / "l.tif", np.full((96, 96), 1110, np.int32), grid, "EPSG:3035")
    with pytest.raises(LulcbenchError, match=r"l\.tif .* not in the LUISA legend: 1110"):
        luisa.labels(rule(path)).read(Area.of([TILE], 50))
    with pytest.raises(LulcbenchError, match="not in the CORINE legend"):
        corine.labels(rule(path)).read(Area.of([TILE], 50))


def test_corine_raster_codes_and_polygons_agree(tmp_path: Path) -> None:
    """The same map as grid codes, as CLC codes in another projection, and as polygons."""
    left, bottom, _, top = TILE.bounds
    to_clc = corine_grid_codes()
    halves = np.repeat([[2, 12, 41]], 96, 0).repeat(32, 1).astype(np.uint8)
    raster = write_raster(tmp_path / "g.tif", halves, Affine(50, 0, left, 0, -50, top), "EPSG:3035")
    clc = np.vectorize(to_clc.get)(halves).astype(np.int32)
    coded = write_raster(tmp_path / "c.tif", clc, Affine(50, 0, left, 0, -50, top), "EPSG:3035", -1)
    boxes = [shapely.box(left + i * 1600, bottom, left + (i + 1) * 1600, top) for i in range(3)]
    polygons = gpd.GeoDataFrame({"Code_18": [str(to_clc[g]) for g in (2, 12, 41)]}, geometry=boxes, crs="EPSG:3035")
    polygons.to_crs("EPSG:4258").to_file(tmp_path / "p.gpkg")
    area = Area.of([TILE], 50)
    got = corine.labels(rule(raster)).read(area).codes
    assert got[0, [0, 40, 80]].tolist() == [112, 2110, 5120]
    np.testing.assert_array_equal(corine.labels(rule(coded)).read(area).codes, got)
    vector = corine.labels(rule(tmp_path / "p.gpkg", field="Code_18")).read(area).codes
    assert (vector != got).mean() < 0.005  # the straight edges bend a little on their way through degrees
    with pytest.raises(LulcbenchError, match=r"(?s)no column CODE_18.*Code_18"):
        corine.labels(rule(tmp_path / "p.gpkg", field="CODE_18")).read(area)


def polygons(folder: Path, codes: list[object], shapes: list[object]) -> LabelRule:
    frame = gpd.GeoDataFrame({"code": codes}, geometry=shapes, crs="EPSG:3035")
    frame.to_file(folder / "p.gpkg")
    return rule(folder / "p.gpkg", field="code")


def test_ground_under_polygons_of_several_classes_is_not_labelled(tmp_path: Path) -> None:
    """In any order, also between two polygons of one class."""
    left, bottom, right, top = TILE.bounds
    west, east = shapely.box(left, bottom, left + 3200, top), shapely.box(left + 1600, bottom, right, top)
    for n, order in enumerate([(311, 211), (211, 311), (311, 211, 311)]):
        (tmp_path / str(n)).mkdir()
        shapes = [west if code == 311 else east for code in order]
        got = corine.labels(polygons(tmp_path / str(n), list(order), shapes)).read(Area.of([TILE], 50))
        assert [np.unique(part).tolist() for part in np.split(got.codes, [32, 64], axis=1)] == [[3110], [0], [2110]]
        np.testing.assert_array_equal(got.overlapping, got.codes == 0)  # counted apart from
        assert not got.sparse.any()  # ground without a polygon


def test_a_column_in_several_layers_needs_the_layer_that_is_meant(tmp_path: Path) -> None:
    """A GeoPackage of two years; a table without geometries beside them is not a layer to choose from."""
    path = tmp_path / "p.gpkg"
    for layer, code in (("y2012", 311), ("y2018", 112)):
        gpd.GeoDataFrame({"code": [code]}, geometry=[shapely.box(*TILE.bounds)], crs="EPSG:3035").to_file(
            path, layer=layer
        )
    pyogrio.write_dataframe(pd.DataFrame({"code": [1]}), path, layer="notes")
    area = Area.of([TILE], 50)
    assert np.unique(corine.labels(rule(path, field="code", layer="y2018")).read(area).codes).tolist() == [112]
    with pytest.raises(LulcbenchError, match=r"several layers with the column code: y2012, y2018"):
        corine.labels(rule(path, field="code")).read(area)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_found_in_either_normal_form_of_unicode(tmp_path: Path, form: str) -> None:
    """File, layer, column and word are written in one form, the recipe in the other."""
    other = "NFD" if form == "NFC" else "NFC"
    folder = tmp_path / normalize(form, "données") / normalize(other, "carte é")  # a path of both forms
    folder.mkdir(parents=True)
    path = folder / normalize(form, "forêts.gpkg")
    column, layer, word = (normalize(form, text) for text in ("libellé", "été", "forêt"))
    frame = gpd.GeoDataFrame({column: [word]}, geometry=[shapely.box(*TILE.bounds)], crs="EPSG:3035")
    frame.to_file(path, layer=layer)
    frame.to_file(path, layer="autre")
    asked = spelled(Path(normalize(other, str(path))))
    assert asked.samefile(path)
    column, layer, word = (normalize(other, text) for text in (column, layer, word))
    area = Area.of([TILE], 50)
    labels = VectorLabels(asked, {word: 3110}, "own", layer, column)
    assert np.unique(labels.read(area).codes).tolist() == [3110]
    with pytest.raises(LulcbenchError, match="several layers with"):  # found in both
        VectorLabels(asked, {word: 3110}, "own", None, column).read(area)
    with pytest.raises(LulcbenchError, match="two Unicode spellings"):
        VectorLabels(
            asked, {normalize(f, word): 311 + i for i, f in enumerate(("NFC", "NFD"))}, "own", layer, column
        ).read(area)


def test_names_of_which_several_spellings_exist_are_refused(tmp_path: Path) -> None:
    for name in ("e\u0301t\u00e9.tif", "\u00e9te\u0301.tif"):
        (tmp_path / name).touch()
    assert spelled(tmp_path / "\u00e9te\u0301.tif").name == "\u00e9te\u0301.tif"
    with pytest.raises(LulcbenchError, match="several spellings"):
        spelled(tmp_path / "\u00e9t\u00e9.tif")
    assert spelled(tmp_path / "hiver" / "a.tif") == tmp_path / "hiver" / "a.tif"


def test_the_layer_that_has_the_column_is_read_wherever_it_stands(tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame({"name": ["border"]}, geometry=[shapely.box(*TILE.bounds)], crs="EPSG:3035")
    frame.to_file(tmp_path / "p.gpkg", layer="border")
    frame.assign(code=311).to_file(tmp_path / "p.gpkg", layer="cover")
    codes = corine.labels(rule(tmp_path / "p.gpkg", field="code")).read(Area.of([TILE], 50)).codes
    assert np.unique(codes).tolist() == [3110]


def test_points_and_lines_among_polygons_label_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left, bottom, right, top = TILE.bounds
    line = shapely.LineString([(left, bottom), (right, top)])
    point = shapely.Point(left + 100, bottom + 100)
    collection = shapely.GeometryCollection([shapely.box(*TILE.bounds), line])
    made = polygons(tmp_path, [311, 112], [collection, point])
    area = Area.of([TILE], 50)
    assert np.unique(corine.labels(made).read(area).codes).tolist() == [3110]
    assert "1 features without an area are not labelled" in caplog.text
    with pytest.raises(LulcbenchError, match=r"p\.gpkg has no polygon"):
        corine.labels(polygons(tmp_path, [311], [line])).read(area)


def test_numbers_of_an_own_map_are_whole_and_of_one_meaning(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "l.tif", np.full((9, 9), 7, np.uint8), Affine(50, 0, 0, 0, -50, 0), "EPSG:3035")
    for wrong in ("\u00b2", "--5", "7.0", ""):
        with pytest.raises(LulcbenchError, match="the mapping of its codes names"):
            own.labels(LabelRule(year=2018, source="own", path=path, codes={"7": 3110, wrong: 2110}))
    with pytest.raises(LulcbenchError, match="has 7 in several spellings, with the codes 3110 and 2110"):
        own.labels(LabelRule(year=2018, source="own", path=path, codes={"7": 3110, "07": 2110}))


@pytest.mark.parametrize("kind", ["dbf", "xml"])
def test_pixels_that_an_attribute_table_translates_are_not_codes(tmp_path: Path, kind: str) -> None:
    """Desktop GIS stores 1, 2, 3 … and the codes in a table; the first of these are codes of LUISA as well."""
    transform = Affine(50, 0, TILE.bounds[0], 0, -50, TILE.bounds[3])
    path = write_raster(tmp_path / "l.tif", np.full((96, 96), 2, np.uint8), transform, "EPSG:3035")

    def beside(codes: list[int]) -> None:
        columns = {"Value": [1, 2], "Count": [1, 9215], "Red": [11, 12], "CODE": codes}
        if kind == "dbf":
            pyogrio.write_dataframe(pd.DataFrame(columns), tmp_path / "t.dbf", driver="ESRI Shapefile")
            (tmp_path / "t.dbf").rename(tmp_path / "l.tif.vat.dbf")
        else:
            fields = "".join(f"<FieldDefn><Name>{name}</Name></FieldDefn>" for name in columns)
            rows = "".join(f"<Row>{''.join(f'<F>{columns[name][i]}</F>' for name in columns)}</Row>" for i in range(2))
            (tmp_path / "l.tif.aux.xml").write_text(
                f'<PAMDataset><PAMRasterBand band="1"><GDALRasterAttributeTable>{fields}{rows}'
                "</GDALRasterAttributeTable></PAMRasterBand></PAMDataset>"
            )

    beside([2110, 3110])
    message = r"attribute table that translates 1 to 2110 \(column CODE\)"
    with pytest.raises(LulcbenchError, match=message):
        luisa.labels(rule(path)).read(Area.of([TILE], 50))
    with pytest.raises(LulcbenchError, match=message):
        open_map(path)
    beside([111, 112])  # of CORINE, whose grid codes mean the same
    assert (corine.labels(rule(path)).read(Area.of([TILE], 50)).codes == 112).all()


@pytest.mark.parametrize(
    ("values", "doubt"),
    [
        ([11, 12, 21, 23, 31, 41], r"the values 11, 12, 21, 23, 31, 41 are classes of level 2"),
        ([1, 2, 3], r"the values 1, 2, 3 are classes of level 1"),
        ([2, 112, 311], r"both grid codes \(2\) and CLC codes \(112, 311\)"),
        ([2, 12, 23, 24, 41, 18], None),
        ([112, 211, 311, 999], None),
    ],
    ids=["level 2", "level 1", "both", "grid codes", "CLC codes"],
)
def test_aggregated_corine_is_not_taken_for_grid_codes(tmp_path: Path, values: list[int], doubt: str | None) -> None:
    pixels = np.array(values, np.int16)[np.arange(96 * 96).reshape(96, 96) // 700 % len(values)]
    transform = Affine(50, 0, TILE.bounds[0], 0, -50, TILE.bounds[3])
    path = write_raster(tmp_path / "l.tif", pixels, transform, "EPSG:3035")
    for read in (lambda: corine.labels(rule(path)).read(Area.of([TILE], 50)), lambda: open_map(path, "corine")):
        if doubt is None:
            assert read()
        else:
            with pytest.raises(LulcbenchError, match=doubt):
                read()
    if doubt is None:
        return
    columns = {"Value": values, "Count": [1] * len(values), "LABEL3": [f"class {value}" for value in values]}
    pyogrio.write_dataframe(pd.DataFrame(columns), tmp_path / "t.dbf", driver="ESRI Shapefile")
    (tmp_path / "t.dbf").rename(tmp_path / "l.tif.vat.dbf")
    assert corine.labels(rule(path)).read(Area.of([TILE], 50)).codes.any()


def test_labels_of_another_year_are_refused_by_the_name_of_their_band(tmp_path: Path) -> None:
    left, _, _, top = TILE.bounds
    where = Affine(50, 0, left, 0, -50, top)
    path = write_raster(tmp_path / "l.tif", np.full((96, 96), 2110, np.int32), where, "EPSG:3035", 0, ("LUISA_2012",))
    told = LabelRule(year=2018, source="luisa", path=path)
    with pytest.raises(LulcbenchError, match=r"has labels of 2012 by its name 'LUISA_2012'.* labels of 2018"):
        luisa.labels(told).read(Area.of([TILE], 50))
    for meant in (told.model_copy(update={"band": 1}), told.model_copy(update={"year": 2012})):
        assert (luisa.labels(meant).read(Area.of([TILE], 50)).codes == 2110).all()


def test_urban_atlas_of_a_year_is_not_read_from_the_column_of_another(tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match="has labels of 2012 by its name 'code_2012'"):
        urban_atlas.labels(LabelRule(year=2018, source="urban-atlas", path=tmp_path / "u.gpkg", field="code_2012"))


@pytest.mark.parametrize(
    ("name", "option"), [("labels.tif", {"field": "code"}), ("labels.tif", {"layer": "a"}), ("p.gpkg", {"band": 1})]
)
def test_an_option_for_files_of_the_other_kind_is_refused(tmp_path: Path, name: str, option: dict) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(LulcbenchError, match=f"'{next(iter(option))}' of the labels means nothing"):
        label_source(LabelRule(year=2018, source="luisa", path=tmp_path / name, **option))
