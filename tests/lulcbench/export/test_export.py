"""Exported GeoTIFFs, read back by GDAL, against the arrays of the release, read by zarr."""

from __future__ import annotations

import csv
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import geopandas
import numpy as np
import pyarrow.parquet
import pytest
import rasterio
import zarr
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import CorruptFileError, LulcbenchError
from lulcbench.export import ExportOptions, export_release
from lulcbench.grid import Tile
from lulcbench.predictions import PredictionWriter
from tests.builders.stages.test_hierarchy import dated_release

SEASONS = ("winter", "spring", "summer", "autumn")


@pytest.fixture(scope="module")
def group(release_root: Path) -> Iterator[zarr.Group]:
    return zarr.open_group(release_root, mode="r")


@pytest.fixture(scope="module")
def exported(release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imagery of one season and labels of a release."""
    out = tmp_path_factory.mktemp("exported")
    result = export_release(release_root, out, ExportOptions(years=(2018,), seasons=("summer",)))
    assert (result.tiles, result.left_out) == (8, ())
    return out / "east"


def joined(
    group: zarr.Group, values: np.ndarray, file: rasterio.DatasetReader, fill: float, rows: np.ndarray | None = None
) -> np.ndarray:
    """Tiles ``(row, band, y, x)`` at the places that the coordinates of the release state."""
    expected = np.full((file.count, file.height, file.width), fill, values.dtype)
    resolution = round(file.transform.a)
    easting, northing = group[f"easting_{resolution}m"][...], group[f"northing_{resolution}m"][...]
    n = values.shape[-1]
    for row in np.flatnonzero(np.isfinite(easting[:, 0])) if rows is None else rows:
        y, x = file.index(easting[row, 0], northing[row, 0])
        expected[:, y : y + n, x : x + n] = values[row]
    return expected


def legend_rows() -> list[dict[str, str]]:
    path = Path(__file__).parents[3] / "lulcbench" / "data" / "luisa_legend.csv"
    with path.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


@pytest.mark.parametrize(
    ("array", "band_names"),
    [
        ("landsat_2018", ["blue", "green", "red", "nir08", "swir16", "swir22"]),
        ("sentinel2_2018", ["B02", "B03", "B04", "B08", "B11"]),
    ],
)
def test_imagery_is_that_of_the_release(exported: Path, group: zarr.Group, array: str, band_names: list[str]) -> None:
    with rasterio.open(exported / f"{array}_summer_east.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (file.crs.to_epsg(), file.nodata, file.dtypes[0]) == (3035, 0, "uint16")
        assert tuple(file.bounds) == (4344000, 3129600, 4363200, 3139200)
        assert list(file.descriptions) == band_names
        assert set(file.scales), set(file.offsets) == ({1e-4}, {-0.1})
        colors = [color.name for color in file.colorinterp]
        assert [band_names[colors.index(name)] for name in ("red", "green", "blue")] in (
            ["red", "green", "blue"],
            ["B04", "B03", "B02"],
        )
        tags = file.tags()
        assert (tags["SIMULATED"], tags["SEASON"], tags["PERIOD"]) == ("true", "summer", "2018-06-25/2018-09-12")
        expected = joined(group, group[array][:, SEASONS.index("summer")], file, 0)
        stored = file.read()
        np.testing.assert_array_equal(stored, expected)
        assert 0.2 < (stored > 0).mean() < 1  # there is something to be missed
    clear = f"{array.replace('_', '-clear_')}"
    with rasterio.open(exported / f"{clear}_summer_east.tif") as file:
        np.testing.assert_array_equal(file.read(), joined(group, group[clear][:, 2][:, None], file, 0))
        assert file.nodata == 0


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_labels_have_the_classes_of_a_level(exported: Path, group: zarr.Group, level: int) -> None:
    rows = legend_rows()
    coarse = {int(row["l4_code"]): int(row[f"l{level}_code"]) for row in rows} | {0: 0}
    named = {int(row[f"l{level}_code"]): row[f"l{level}_name"] for row in rows}
    path = exported / f"luisa_2018_level{level}_east.tif"
    with rasterio.open(path) as file:
        codes = np.vectorize(coarse.__getitem__)(group["luisa_2018"][...]).astype(np.uint16)
        np.testing.assert_array_equal(file.read(), joined(group, codes[:, None], file, 0))
        assert (file.nodata, file.colorinterp[0].name) == (0, "palette")
        table = file.colormap(1)
        colors = {code: "#{:02x}{:02x}{:02x}".format(*table[code][:3]) for code in named}
        if level == 4:
            assert colors == {int(row["l4_code"]): row["l4_hex"] for row in rows}
    text = path.read_bytes().decode("latin-1")
    assert all(f"<F>{name.replace('&', '&amp;')}</F>" in text for name in named.values())
    style = ElementTree.parse(path.with_suffix(".qml"))  # noqa: S314 - our own
    entries = {int(entry.get("value", "")): entry for entry in style.iter("paletteEntry")}
    assert {code: entry.get("label") for code, entry in entries.items()} == {
        code: f"{code} {name}" for code, name in named.items()
    }
    assert {code: entry.get("color") for code, entry in entries.items()} == colors


def test_outlines_show_the_splits_and_the_index(exported: Path, release_root: Path, group: zarr.Group) -> None:
    path = exported.parent / "tiles_tiny-0.1.0.gpkg"
    frame = geopandas.read_file(path, engine="pyogrio")
    index = pyarrow.parquet.read_table(release_root / "index.parquet").to_pandas().set_index("id").loc[frame["id"]]
    assert frame.crs.to_epsg() == 3035
    assert sorted(frame["id"]) == sorted(filter(None, group["tile"][...].tolist()))
    for column in ("split", "region", "block", "valid_sentinel2_2018", "clear_landsat_2012", "luisa_2018_21"):
        assert frame[column].tolist() == index[column].tolist(), column
    assert not {"luisa_2018_211", "luisa_2018_2110", "links", "geometry_bbox"} & set(frame.columns)
    easting, northing = group["easting_10m"][...], group["northing_10m"][...]
    for row, box in zip(frame["row"], frame.geometry.bounds.to_numpy(), strict=True):
        x, y = easting[row], northing[row]
        assert box.tolist() == [x.min() - 5, y.min() - 5, x.max() + 5, y.max() + 5]
    style = ElementTree.parse(path.with_suffix(".qml"))  # noqa: S314 - our own
    (renderer,) = style.iter("renderer-v2")
    assert renderer.get("attr") == "split"
    assert {entry.get("value") for entry in style.iter("category")} == set(frame["split"])
    colors = [prop.get("v") for prop in style.iter("prop") if prop.get("k") == "line_color"]
    assert len(set(colors)) == 3


def test_counts_have_the_same_colours_in_all_files(exported: Path) -> None:
    """Without a style, QGIS stretches grey between the values it finds: a file of ones is black."""
    styles = [path.read_text() for path in sorted(exported.glob("*-clear_*.qml"))]
    assert len(styles) == 2
    assert len(set(styles)) == 1
    values = [float(item.get("value", "nan")) for item in ElementTree.fromstring(styles[0]).iter("item")]  # noqa: S314 - our own
    assert values == sorted(values)
    assert values[0] == 1


def test_labels_coarser_than_a_level_are_nodata_there(tmp_path: Path) -> None:
    from benchmarks.label_release import make_release

    codes = np.full((1, 96, 96), 3110)
    codes[0, :50] = 31
    make_release(tmp_path / "release", {2018: codes})
    out = tmp_path / "out"
    for path in export_release(tmp_path / "release", out).files:
        with rasterio.open(path) as file:
            level = int(file.tags()["LEVEL"])
            expected = np.full((96, 96), int("3110"[:level]))
            expected[:50] = 3 if level == 1 else 31 if level == 2 else 0
            np.testing.assert_array_equal(file.read(1), expected)


def test_tiles_that_are_not_exported_are_nodata_and_overviews_invent_no_class(
    release_root: Path, group: zarr.Group, tmp_path: Path
) -> None:
    tiles = {str(tile): row for row, tile in enumerate(group["tile"][...])}
    wanted = ("E0905N0652", "E0908N0653")  # opposite corners
    options = ExportOptions(layers=("sentinel2", "luisa_2018"), tiles=wanted, seasons=("spring",), levels=(3,))
    for path in export_release(release_root, tmp_path, options).files:
        with rasterio.open(path) as file:
            assert tuple(file.bounds) == (4344000, 3129600, 4363200, 3139200)
            stored, side = file.read(), file.height // 2
            for tile, at in ((wanted[0], np.s_[:, side:, :side]), (wanted[1], np.s_[:, :side, -side:])):
                if "sentinel2" in path.name:
                    np.testing.assert_array_equal(stored[at], group["sentinel2_2018"][tiles[tile], 1])
                assert stored[at].any()
                stored[at] = 0
            assert not stored.any()
            found = set(np.unique(file.read()).tolist())
        if path.name.startswith("sentinel2"):
            with rasterio.open(path, overview_level=0) as half:
                assert half.height == side
                assert not half.read()[:, : side // 2, : side // 2].any()
        else:
            assert found > {0}


def test_classes_of_overviews_are_classes_of_the_label_map(tmp_path: Path) -> None:
    """Six tiles wide: GDAL makes an overview."""
    from benchmarks.label_release import make_release, smooth_codes

    make_release(tmp_path / "release", {2018: smooth_codes(6, seed=3)})
    (path,) = export_release(tmp_path / "release", tmp_path / "out", ExportOptions(levels=(4,))).files
    with rasterio.open(path) as file, rasterio.open(path, overview_level=0) as half:
        full, coarse = file.read(1), half.read(1)
    assert coarse.shape == (full.shape[0] // 2, full.shape[1] // 2)
    children = np.stack([full[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    assert (children == coarse).any(axis=0).all()
    counts = (children[:, None] == children[None]).sum(axis=1)
    np.testing.assert_array_equal(((children == coarse) * counts).max(axis=0), counts.max(axis=0))


def test_files_per_tile_lie_where_the_tile_does(release_root: Path, group: zarr.Group, tmp_path: Path) -> None:
    options = ExportOptions(layers=("landsat",), splits=("val",), years=(2012,), seasons=("autumn",), per_tile=True)
    files = export_release(release_root, tmp_path, options).files
    rows = [row for row, split in enumerate(group["split"][...]) if split == "val"]
    assert [path.parent.name for path in files] == [str(group["tile"][row]) for row in rows]
    for row, path in zip(rows, files, strict=True):
        with rasterio.open(path) as file:
            assert tuple(file.bounds) == Tile.from_id(path.parent.name).bounds
            np.testing.assert_array_equal(file.read(), group["landsat_2012"][row, 3])


def test_an_area_selects_the_tiles_that_it_overlaps(release_root: Path, tmp_path: Path) -> None:
    # It touches the edge of the tile to the east: no overlap.
    options = ExportOptions(layers=("luisa",), levels=(1,), bounds=(4348799, 3130000, 4353600, 3130001), per_tile=True)
    places = {path.parent.name for path in export_release(release_root, tmp_path, options).files}
    assert places == {"E0905N0652", "E0906N0652"}


@pytest.mark.slow
def test_dated_imagery_has_a_file_per_date(tmp_path: Path) -> None:
    root, key, dates, values = dated_release(tmp_path)
    result = export_release(root, tmp_path / "out", ExportOptions(years=(2017,)))
    known = sorted({str(day) for day in dates[dates < np.datetime64("2018-01-01")]})
    assert [path.name for path in result.files] == [f"{key}_{day}_here.tif" for day in known]
    group = zarr.open_group(root, mode="r")
    for path, day in zip(result.files, known, strict=True):
        held = dates == np.datetime64(day)
        own = np.array([v[h][0] if h.any() else np.zeros_like(v[0]) for v, h in zip(values, held, strict=True)])
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(), joined(group, own, file, 0, np.flatnonzero(held.any(axis=1))))
            assert file.descriptions == ("red", "nir08")


def test_predictions_and_probabilities_are_those_that_were_written(predicted_root: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    known = sorted({(int(row["l2_code"]), int(row["l1_code"])) for row in legend_rows()})
    p = rng.dirichlet(np.ones(14), (3, 96, 96)).transpose(0, 3, 1, 2)
    codes = np.array([code for code, _ in known])[p.argmax(axis=1)]
    with PredictionWriter(tmp_path / "p.zip", predicted_root, "test", 2018, level=2, probabilities=True) as writer:
        for own, tile in enumerate(writer.info.tiles):
            writer.write(tile, codes[own], p[own])
    with pytest.raises(LulcbenchError, match="Nothing of level 4 meets all conditions"):
        export_release(predicted_root, tmp_path / "out", ExportOptions(predictions=tmp_path / "p.zip", levels=(2, 4)))
    options = ExportOptions(predictions=tmp_path / "p.zip", probabilities=True)
    files = {path.name: path for path in export_release(predicted_root, tmp_path / "out", options).files}
    assert list(files) == [
        "prediction_2018_level1_here.tif", "prediction_2018_level2_here.tif", "probability_2018_here.tif",
    ]  # fmt: skip
    group = zarr.open_group(predicted_root, mode="r")
    with rasterio.open(files["prediction_2018_level2_here.tif"]) as file:
        np.testing.assert_array_equal(file.read(), joined(group, codes[:, None].astype(np.uint16), file, 0))
    with rasterio.open(files["prediction_2018_level1_here.tif"]) as file:
        coarse = np.vectorize(dict(known).__getitem__)(codes).astype(np.uint16)
        np.testing.assert_array_equal(file.read(), joined(group, coarse[:, None], file, 0))
    with rasterio.open(files["probability_2018_here.tif"]) as file:
        assert np.isnan(file.nodata)
        assert [text.split()[0] for text in file.descriptions] == [str(code) for code, _ in known]
        np.testing.assert_allclose(file.read(), joined(group, p, file, np.nan), atol=0.01)
    assert 'type="singlebandpseudocolor"' in files["probability_2018_here.tif"].with_suffix(".qml").read_text()


def test_predictions_of_other_tiles_are_an_error(release_root: Path, tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "p.zip", release_root, "val", 2018, level=1) as writer:
        for tile in writer.info.tiles:
            writer.write(tile, np.full((96, 96), 3))
    for more, message in (
        ({}, "None of the 4 tiles has prediction_2018"),
        ({"probabilities": True}, "no probabilities"),
    ):
        options = ExportOptions(predictions=tmp_path / "p.zip", splits=("train",), **more)
        with pytest.raises(LulcbenchError, match=message):
            export_release(release_root, tmp_path / "out", options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ("nope",)}, "has no layer 'nope'"),
        ({"tiles": ("E0001N0001",)}, "has no tile 'E0001N0001'"),
        ({"regions": ("mars",)}, "has no region 'mars'"),
        ({"splits": ("map",)}, "has no split 'map'"),
        ({"years": (1999,)}, "has no year 1999"),
        ({"seasons": ("monsoon",)}, "has no season 'monsoon'"),
        ({"levels": (5,)}, "has no level 5"),
        ({"bounds": (0, 0, 1, 1)}, "No tile of tiny-0.1.0 meets all conditions"),
        ({"bounds": (1, 0, 0, 1)}, "are empty"),
        ({"bounds": (0, 0, float("nan"), 1)}, "are empty"),
        ({"layers": ("luisa",), "seasons": ("summer",)}, "None of the layers is of a season"),
        ({"layers": ("landsat",), "levels": (1,)}, "None of the layers is of a level"),
        ({"layers": ("sentinel2",), "years": (2012,)}, "No layer meets all conditions"),
        ({"layers": ("landsat_2018", "luisa_2012"), "years": (2018,)}, "Nothing of layers luisa_2012 meets all"),
        ({"layers": ("sentinel2",), "years": (2012, 2018)}, "Nothing of year 2012 meets all conditions"),
        ({"probabilities": True}, "There are no predictions"),
    ],
)
def test_what_cannot_be_exported_is_an_error(
    release_root: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(LulcbenchError, match=message) as caught:
        export_release(release_root, tmp_path / "out", ExportOptions(**options))  # type: ignore[arg-type]
    assert caught.value.remedy
    assert not (tmp_path / "out").exists()


def test_files_that_exist_are_kept_unless_they_are_to_be_replaced(release_root: Path, tmp_path: Path) -> None:
    options = ExportOptions(layers=("luisa_2018",), levels=(1, 2))
    first, second = export_release(release_root, tmp_path, options).files
    second.unlink()
    first.write_bytes(b"mine")
    outlines = tmp_path / "tiles_tiny-0.1.0.gpkg"
    outlines.write_bytes(b"edited")
    (other,) = export_release(release_root, tmp_path, ExportOptions(layers=("luisa_2018",), levels=(3,))).files
    other.unlink()
    other.with_suffix(".qml").unlink()
    assert outlines.read_bytes() == b"edited"
    with pytest.raises(LulcbenchError, match=r"level1_east\.tif exists already\."):
        export_release(release_root, tmp_path, options)
    assert first.read_bytes() == b"mine"
    assert not second.exists()
    export_release(release_root, tmp_path, options, replace=True)
    with rasterio.open(first) as file:
        assert file.count == 1
    assert len(geopandas.read_file(outlines)) == 8
    assert sorted(path.suffix for path in first.parent.iterdir()) == [".qml", ".qml", ".tif", ".tif"]


def test_nothing_half_written_remains(release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ExportOptions(layers=("luisa_2018",), levels=(1,))
    with monkeypatch.context() as patch:
        patch.setattr("rasterio.shutil.copy", lambda *_, **__: 1 / 0)
        with pytest.raises(LulcbenchError, match=r"GDAL cannot write .*level1_east\.tif"):
            export_release(release_root, tmp_path / "out", options)
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(LulcbenchError, match=r"The disk of .* is full"):
            export_release(release_root, tmp_path / "out", options)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EDQUOT, "quota")

    with monkeypatch.context() as patch:
        patch.setattr("lulcbench.geotiff.write_atomic", full)
        with pytest.raises(LulcbenchError, match=r"The disk of .* is full"):
            export_release(release_root, tmp_path / "out", options)
    assert not list((tmp_path / "out" / "east").iterdir())


def test_a_damaged_shard_is_named(release_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(release_root, tmp_path / "release"))
    shard = next(path for path in (root / "luisa_2018" / "c").rglob("*") if path.is_file())
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CorruptFileError, match="luisa_2018"):
        export_release(root, tmp_path / "out", ExportOptions(layers=("luisa_2018",)))


def test_the_command_lists_what_it_wrote(release_root: Path, tmp_path: Path) -> None:
    command = ["export", str(release_root), "--out", str(tmp_path), "--layers", "luisa", "--year", "2018"]
    command += ["--level", "3", "--region", "east", "--bounds", "4344000", "3129600", "4344001", "3129601"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'east' / 'luisa_2018_level3_east.tif'}\n"
