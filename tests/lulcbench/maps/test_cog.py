"""GeoTIFFs and metadata of a map: what other tools read of it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pystac
import pytest
import rasterio
import rioxarray  # noqa: F401  # registers the accessor
import xarray as xr
from PIL import Image
from pyproj import Transformer

from lulcbench.evaluation.class_maps import open_map
from lulcbench.legend import legend
from lulcbench.maps import MapOptions, map_release
from tests.builders.stages.kill import tree
from tests.stac import check_stac


@pytest.fixture(scope="session")
def with_cogs(exported, release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cog") / "map"
    return map_release(exported("forest"), release_root, folder, MapOptions(years=(2018,), cog=True)).folder


def test_geotiffs_hold_the_arrays_and_their_overviews(with_cogs: Path) -> None:
    files = sorted((with_cogs / "cog" / "2018").glob("*.tif"))
    assert {path.stem for path in files} == {
        "class_1", "class_2", "class_3", "probability", "entropy", "margin", "least_confidence", "composites", "clear",
    }  # fmt: skip
    for path in files:
        with rasterio.open(path) as file:
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert file.tags()["SIMULATED"] == "true"
            factors = file.overviews(1)
            assert factors == [2]
            for halving in range(len(factors) + 1):
                with xr.open_zarr(
                    with_cogs, group=f"2018/{halving}", consolidated=False, mask_and_scale=False
                ) as group:
                    expected = group[path.stem].to_numpy()
                options = {"overview_level": halving - 1} if halving else {}
                with rasterio.open(path, **options) as level:
                    np.testing.assert_array_equal(level.read().reshape(expected.shape), expected)
            if path.stem.startswith("class"):
                colors = file.colormap(1)
                for code in legend().codes(int(path.stem[-1])):
                    assert "#{:02x}{:02x}{:02x}".format(*colors[code][:3]) == legend().classes[code].color
                assert file.nodata == 0
                # In a tag of the file itself, so that a copy of the file keeps the names.
                for name in legend().names(int(path.stem[-1])):
                    assert f"<F>{name}</F>" in path.read_bytes().decode("latin-1")
                codes = legend().codes(int(path.stem[-1]))
                style = ElementTree.parse(path.with_suffix(".qml"))  # noqa: S314
                assert [dict(entry.items()) for entry in style.iter("paletteEntry")] == [
                    {"value": str(code), "label": f"{code} {known.name}", "color": known.color, "alpha": "255"}
                    for code in codes
                    for known in [legend().classes[code]]
                ]
            if path.stem == "probability":
                assert file.count == 41
                assert file.descriptions[0].startswith(str(legend().codes(3)[0]))
                assert file.scales[0] == 1 / 255


def test_a_map_is_at_its_place_for_every_reader(with_cogs: Path) -> None:
    item = json.loads((with_cogs / "2018" / "item.json").read_text())
    left, bottom, right, top = item["properties"]["proj:bbox"]
    corners = [(left + 15, top - 15), (right - 15, top - 15), (left + 15, bottom + 15), (right - 15, bottom + 15)]
    with (
        rasterio.open(with_cogs / "cog" / "2018" / "class_1.tif") as cog,
        rasterio.open(f'ZARR:"{with_cogs / "2018" / "0"}":/class_1') as zarr_by_gdal,
        xr.open_zarr(with_cogs, group="2018/0", consolidated=False) as group,
        xr.open_zarr(with_cogs / "2018" / "0", consolidated=False) as alone,
    ):
        assert cog.crs.to_epsg() == 3035
        assert tuple(cog.bounds) == (left, bottom, right, top)
        assert alone.class_1.rio.crs.to_epsg() == 3035
        assert alone.class_1.rio.bounds() == (left, bottom, right, top)
        np.testing.assert_array_equal(zarr_by_gdal.read(1), cog.read(1))
        for (x, y), (row, column) in zip(corners, [(0, 0), (0, -1), (-1, 0), (-1, -1)], strict=True):
            assert (float(group.x[column]), float(group.y[row])) == (x, y)
            for reader in (cog, zarr_by_gdal):
                found = reader.index(x, y)
                assert found == (row % reader.height, column % reader.width)
    to_lonlat = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True)
    west, south, east, north = item["bbox"]
    for x in (4344000, 4363200):
        for y in (3129600, 3139200):
            lon, lat = to_lonlat.transform(x, y)
            assert west - 1e-6 <= lon <= east + 1e-6
            assert south - 1e-6 <= lat <= north + 1e-6


def test_items_and_collections_of_maps_are_stac(with_cogs: Path) -> None:
    collection = pystac.Collection.from_file(str(with_cogs / "collection.json"))
    (item,) = collection.get_items()
    assert item.properties["lulcbench:simulated"] is True
    assert item.properties["start_datetime"] == "2018-01-01T00:00:00Z"
    assert item.assets["class_3"].get_absolute_href().endswith("cog/2018/class_3.tif")
    for asset in item.assets.values():
        assert Path(asset.get_absolute_href()).is_file()
    assert "SIMULATED" in collection.description
    for path, year in ((with_cogs, 2018), (with_cogs / "cog" / "2018" / "class_3.tif", None)):
        with open_map(path, "luisa", year) as map_:
            assert map_.simulated
    for path in ("collection.json", "2018/item.json"):
        check_stac(json.loads((with_cogs / path).read_bytes()))


def test_items_have_the_colours_of_the_classes_of_each_geotiff(with_cogs: Path) -> None:
    """STAC Browser colours by them; without, it shows codes as brightness: black."""
    assets = json.loads((with_cogs / "2018" / "item.json").read_bytes())["assets"]
    for level in (1, 2, 3):
        stated = {own["value"]: own["color_hint"] for own in assets[f"class_{level}"]["classification:classes"]}
        assert stated == {code: legend().classes[code].color[1:].upper() for code in legend().codes(level)}
    assert "classification:classes" not in assets["entropy"]


def test_items_of_maps_have_a_picture_of_their_classes(with_cogs: Path) -> None:
    (item,) = pystac.Collection.from_file(str(with_cogs / "collection.json")).get_items()
    (thumbnail,) = item.get_assets(role="thumbnail").values()
    assert (thumbnail.title, thumbnail.media_type) == ("Class code of level 3, 2018", "image/png")
    with Image.open(thumbnail.get_absolute_href()) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    with rasterio.open(with_cogs / "cog" / "2018" / "class_3.tif", overview_level=0) as overview:
        codes = overview.read(1)
    step = -(-max(codes.shape) // 600)  # the overview is too large for a thumbnail
    colors = {code: bytes.fromhex(legend().classes[code].color[1:]) + b"\xff" for code in legend().codes(3)}
    rows, columns = (np.flatnonzero(codes[::step, ::step].any(axis=axis)) for axis in (1, 0))
    shown = codes[::step, ::step][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].tolist()
    expected = [[colors.get(code, b"\0\0\0\0") for code in row] for row in shown]
    assert pixels.tobytes() == b"".join(map(b"".join, expected))
    assert len(np.unique(codes)) > 3


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince214")
def test_geozarr_toolkit_finds_the_conventions(with_cogs: Path) -> None:
    from geozarr_toolkit.helpers.validation import detect_conventions, validate_attrs

    for path, conventions in (("2018", {"multiscales", "proj", "spatial"}), ("2018/0", {"proj", "spatial"})):
        attributes = json.loads((with_cogs / path / "zarr.json").read_text())["attributes"]
        assert conventions <= {name.rstrip(":") for name in detect_conventions(attributes)}
        failed = {name: problems for name, problems in validate_attrs(attributes).items() if problems}
        assert not failed


@pytest.mark.slow
def test_geotiffs_have_the_same_bytes_again(with_cogs: Path, exported, release_root: Path, tmp_path: Path) -> None:
    again = map_release(
        exported("forest"), release_root, tmp_path / "map", MapOptions(years=(2018,), cog=True), workers=2
    )
    assert tree(again.folder) == tree(with_cogs)
