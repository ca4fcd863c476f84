"""Areas of maps: which pixels are inside, by rasterio and shapely; where the polygons come from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
import xarray as xr
from affine import Affine
from rasterio.features import rasterize
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import NotAvailableError
from lulcbench.maps import Area, MapModel, MapOptions, engine, map_release
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.maps.lattice import Lattice
from lulcbench.release import Release

LAKE = shapely.Point(4_351_003, 3_134_007).buffer(700.5)
ISLAND = shapely.Point(4_351_003, 3_134_007).buffer(201.5)
# Across blocks and tiles, partly outside the release, with a hole and two islands.
PLACE = shapely.union_all(
    [
        shapely.Polygon([(4346011, 3127003), (4353017, 3130501), (4352003, 3137999), (4345507, 3133013)]) - LAKE,
        ISLAND,
        shapely.Point(4_361_001, 3_137_003).buffer(502.3),
    ]
)


def written(path: Path, geometry: shapely.Geometry, crs: str = "EPSG:4326", **columns: list[str]) -> Path:
    parts = shapely.get_parts(geometry)
    geopandas.GeoDataFrame(columns, geometry=list(parts), crs="EPSG:3035").to_crs(crs).to_file(path)
    return path


def stored(folder: Path) -> xr.Dataset:
    with xr.open_zarr(folder, group="2018/0", consolidated=False, mask_and_scale=False) as opened:
        return opened.load()


@pytest.fixture(scope="module")
def whole(exported, release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    out = tmp_path_factory.mktemp("area") / "whole"
    return stored(map_release(exported("majority"), release_root, out, MapOptions((2018,))).folder)


@pytest.mark.parametrize("resolution", [10, 30])
def test_a_pixel_is_inside_if_its_centre_is(resolution: int) -> None:
    lattice, area = Lattice(resolution, halo=0, overlap=0), Area("place", PLACE)
    centres = 0
    for index in lattice.blocks(area.bounds):
        left, bottom, right, top = lattice.block(index)
        inside = area.mask(lattice.block(index), resolution)
        transform = Affine(resolution, 0, left, 0, -resolution, top)
        np.testing.assert_array_equal(inside, rasterize([PLACE], (480, 480), transform=transform))
        x = left + (np.arange(480) + 0.5) * resolution
        y = top - (np.arange(480) + 0.5) * resolution
        np.testing.assert_array_equal(inside, shapely.contains_xy(PLACE, *np.meshgrid(x, y)))
        assert inside.any() <= area.touches((left, bottom, right, top))
        centres += int(inside.sum())
    assert abs(centres * resolution**2 / PLACE.area - 1) < 0.005
    far = lattice.block((0, 0))
    assert not area.touches(far)
    assert not area.mask(far, resolution).any()


@pytest.mark.slow
def test_an_area_of_a_file_is_that_part_of_the_whole(
    whole: xr.Dataset, exported, release_root: Path, tmp_path: Path
) -> None:
    area = Area.read(written(tmp_path / "place.geojson", PLACE))
    assert area.name == "place"
    assert area.geometry.symmetric_difference(PLACE).area < 0.001 * PLACE.area
    folder = map_release(exported("majority"), release_root, tmp_path / "map", MapOptions((2018,), area=area)).folder
    mapped = stored(folder)
    part = whole.reindex_like(mapped[["x", "y"]], fill_value={"class_1": 0})
    transform = Affine(30, 0, float(mapped.x[0]) - 15, 0, -30, float(mapped.y[0]) + 15)
    inside = rasterize([area.geometry], mapped.class_1.shape, transform=transform) == 1
    assert 10_000 < (inside & (part.class_1 > 0)).sum() < inside.sum()  # some of it is outside the release
    for layer in ("class_1", "class_3", "probability"):
        expected = np.where(inside, part[layer].to_numpy(), 0)
        np.testing.assert_array_equal(mapped[layer], expected)
    np.testing.assert_array_equal(mapped.margin == 255, ~(inside & (part.class_1 > 0)))

    attributes = json.loads((folder / "zarr.json").read_bytes())["attributes"]
    file = {"name": "place.geojson", "sha256": hashlib.sha256((tmp_path / "place.geojson").read_bytes()).hexdigest()}
    assert attributes["lulcbench:area"] == {"name": "place", "sha256": area.digest, "file": file}
    footprint = shapely.geometry.shape(json.loads((folder / "2018" / "item.json").read_bytes())["geometry"])
    project = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform
    ground = shapely.transform(footprint, project, interleaved=False)
    tiles = shapely.box(4344000, 3129600, 4363200, 3139200)
    assert ground.symmetric_difference(PLACE & tiles).area < 0.001 * PLACE.area


def test_what_is_around_an_area_is_predicted_for_a_mapping_unit(exported, release_root: Path) -> None:
    info = MapModel.open(exported("majority")).info
    imagery, lattice = ReleaseImagery(Release.open(release_root), info, 2018), Lattice(30, halo=0, overlap=0)
    area = Area("near the edge of a block", shapely.box(4348900, 3130000, 4350000, 3132000))
    for margin, columns in ((0, {302}), (90, {302}), (120, {301, 302}), (30_000, {301, 302})):
        bounds = engine._grown(area.bounds, margin)
        blocks = engine._blocks(imagery, lattice, bounds, area, margin)
        assert {j for _, j in blocks} == columns


@pytest.mark.slow
def test_the_command_maps_files_codes_and_regions(
    whole: xr.Dataset, exported, release_root: Path, tmp_path: Path
) -> None:
    def run(name: str, *options: str) -> str:
        command = ["map", str(exported("majority")), "--root", str(release_root), "--out", str(tmp_path / name)]
        return str(CliRunner().invoke(app, [*command, "--year", "2018", *options]).exception)

    places = written(tmp_path / "nuts.geojson", PLACE, NUTS_ID=["DE1", "DE2", "FR1"])
    box = ["--bounds", "4360000", "3136000", "4363200", "3139200"]  # around the last of these
    assert run("file", "--area", str(places), *box) == "None"
    assert run("codes", "--area", "DE1", "--area", "FR1", "--boundaries", str(places), *box) == "None"
    assert run("region", "--area", "east", *box) == "None"
    file, codes, region = (stored(tmp_path / name).class_3 for name in ("file", "codes", "region"))
    xr.testing.assert_identical(codes.drop_attrs(), file.drop_attrs())
    assert abs(int((file > 0).sum()) * 900 / shapely.get_parts(PLACE)[2].area - 1) < 0.01
    inside = {"x": slice(4360000, 4363200), "y": slice(3139200, 3136000)}
    xr.testing.assert_equal(region.sel(**inside), whole.class_3.sel(**inside))
    assert (region > 0).sum() == (region.sel(**inside) > 0).sum() > 5000
    assert "'west' is neither a file nor a region of tiny" in run("other", "--area", "west")
    assert "No code of" in run("other", "--boundaries", str(places))
    assert "is one of 2 areas" in run("other", "--area", str(places), "--area", "east")
    far = written(tmp_path / "far.geojson", shapely.transform(PLACE, lambda xy: xy + 500_000))
    assert "The area far does not overlap tiny" in run("other", "--area", str(far))
    assert not (tmp_path / "other").exists()
    with pytest.raises(NotAvailableError, match="Its regions are east"):
        Area.of_regions(Release.open(release_root), ["east", "west"])
