"""A release is one Zarr hierarchy that other software opens unchanged, with every tile in its place."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import rasterio
import xarray as xr
import zarr

from builders.stages import materialize, pack, plan, search
from builders.stages._audit_coordinates import coordinates
from builders.stages._hierarchy import TileAxis, image_array, list_files, write_arrays, write_coordinates
from builders.stages._shards import ShardJob, write_shard
from builders.stages.audit import Findings, audit
from builders.stages.plan import Planned
from lulcbench.grid import CRS_WKT, LABEL_RESOLUTION, Tile
from lulcbench.legend import legend
from lulcbench.release import INDEX, ArrayKey, Manifest, Release, SensorInfo
from lulcbench.release.entries import NO_DATE
from lulcbench.sensors import LANDSAT
from tests.builders import world
from tests.loopback import serve

GRIDS = {"sentinel2_2018": 10, "landsat_2012": 30, "luisa_2018": LABEL_RESOLUTION}


@pytest.fixture(scope="module")
def hierarchy(release_root: Path) -> Iterator[xr.Dataset]:
    with xr.open_zarr(release_root) as dataset:
        yield dataset


def as_raster(array: xr.DataArray, resolution: int) -> xr.DataArray:
    """What a user does to hand a tile to rioxarray."""
    return array.swap_dims(
        {f"x_{resolution}m": f"easting_{resolution}m", f"y_{resolution}m": f"northing_{resolution}m"}
    )


@pytest.mark.slow
def test_xarray_decodes_what_our_reader_and_the_formula_do(release_root: Path, hierarchy: xr.Dataset) -> None:
    release = Release.open(release_root)
    for key, resolution in GRIDS.items():
        for split in release.manifest.splits:
            rows = release.manifest.rows(split)
            n = 4800 // resolution
            stored = release.reader(split).read(ArrayKey.parse(key), rows, [(0, 0)] * len(rows), (n, n))
            seen = hierarchy[key].isel(tile=slice(rows.start, rows.stop)).to_numpy()
            if key.startswith("luisa"):
                assert seen.dtype == np.uint16
                np.testing.assert_array_equal(seen, stored)
                continue
            values = np.where(stored == 0, np.nan, stored * 1e-4 - 0.1)
            np.testing.assert_allclose(seen, values, atol=1e-9)
            decoded = release.manifest.sensor(key.partition("_")[0]).coding.decode(stored)
            np.testing.assert_allclose(seen, decoded, atol=1e-6)


def test_dimensions_and_coordinates_are_named(release_root: Path, hierarchy: xr.Dataset) -> None:
    manifest, index = Manifest.load(release_root), pd.read_parquet(release_root / INDEX)
    assert hierarchy.sentinel2_2018.dims == ("tile", "season", "band_sentinel2", "y_10m", "x_10m")
    assert hierarchy.luisa_2018.dims == ("tile", "y_50m", "x_50m")
    assert hierarchy.season.values.tolist() == [season.name for season in manifest.seasons]
    assert hierarchy.band_landsat.values.tolist() == list(manifest.sensors["landsat"].band_names)
    for column in ("id", "split", "region"):
        found = hierarchy["tile" if column == "id" else column].to_numpy()[index["row"]]
        assert found.tolist() == index[column].tolist()
    assert set(hierarchy.data_vars) == {str(key) for key in manifest.arrays}
    assert "SIMULATED" in hierarchy.attrs["title"]


def test_tiles_seasons_bands_and_splits_are_selected_by_name(release_root: Path, hierarchy: xr.Dataset) -> None:
    index = pd.read_parquet(release_root / INDEX).set_index("id")
    some = index.index[[5, 1]].tolist()
    red = hierarchy.landsat_2018.sel(tile=some, season="summer", band_landsat="red")
    stored = zarr.open_array(release_root / "landsat_2018", mode="r")
    bands = list(Manifest.load(release_root).sensors["landsat"].band_names)
    for tile, values in zip(some, red.to_numpy(), strict=True):
        expected = stored[index.loc[tile, "row"], 2, bands.index("red")]
        np.testing.assert_allclose(values, np.where(expected == 0, np.nan, expected * 1e-4 - 0.1), atol=1e-9)
    val = hierarchy.isel(tile=(hierarchy.split == "val").compute())
    assert sorted(val.tile.values.tolist()) == sorted(index.index[index["split"] == "val"])


@pytest.mark.parametrize("key", GRIDS)
def test_the_corners_of_every_tile_are_where_its_geometry_says(
    release_root: Path, hierarchy: xr.Dataset, key: str
) -> None:
    """Against the outline in degrees of the STAC item, by pyproj, and against the id, by arithmetic."""
    resolution = GRIDS[key]
    to_degrees = pyproj.Transformer.from_crs(3035, 4326, always_xy=True)
    for row in pd.read_parquet(release_root / INDEX).itertuples():
        tile = hierarchy[key].sel(tile=row.id)
        x, y = tile[f"easting_{resolution}m"].to_numpy(), tile[f"northing_{resolution}m"].to_numpy()
        half = resolution / 2
        left, right, top, bottom = x[0] - half, x[-1] + half, y[0] + half, y[-1] - half
        ix, iy = int(row.id[1:5]), int(row.id[6:10])
        assert (left, bottom, right, top) == (ix * 4800, iy * 4800, (ix + 1) * 4800, (iy + 1) * 4800)
        outline = pd.Series([to_degrees.transform(a, b) for a in (left, right) for b in (bottom, top)])
        west, south, east, north = row.bbox["xmin"], row.bbox["ymin"], row.bbox["xmax"], row.bbox["ymax"]
        lon, lat = zip(*outline, strict=True)
        assert (min(lon), min(lat), max(lon), max(lat)) == pytest.approx((west, south, east, north), abs=1e-6)


@pytest.mark.slow
def test_pixels_are_those_of_the_scene_at_their_coordinates(tmp_path: Path) -> None:
    """Labels and a scene whose values tell where they are, sampled by rasterio at the pixel centres of the corners."""
    recipe, space = world.make(tmp_path)
    rows = plan.plan(recipe, space)
    materialize.materialize(recipe, space, rows, search.search(recipe, space, rows), None)
    release = pack.pack(recipe, space, rows, None)
    assert release.array_rows > sum(release.splits.values())  # there is padding between splits
    with xr.open_zarr(space.root) as found, rasterio.open(tmp_path / "labels.tif") as labels:
        tiles = found.tile.to_numpy()[(found.split != "").compute().to_numpy()]
        assert len(tiles) == 6
        for tile in tiles:
            codes = found.luisa_2018.sel(tile=tile).load()
            for y in (0, 17, -1):
                for x in (0, 50, -1):
                    pixel = codes.isel(y_50m=y, x_50m=x)
                    (expected,) = next(labels.sample([(float(pixel.easting_50m), float(pixel.northing_50m))]))
                    assert int(pixel) == expected
        padding = found.isel(tile=(found.split == "").compute())
        assert np.isnan(padding.landsat_2018.to_numpy()).all()
        assert np.isnan(padding.easting_30m.to_numpy()).all()
        assert not (padding.luisa_2018.to_numpy()).any()
        assert len(set(found.tile.to_numpy())) == release.array_rows
    assert not audit(space.root).problems


@pytest.mark.parametrize("key", ["landsat_2012", "luisa_2018"])
def test_rioxarray_places_a_tile(release_root: Path, hierarchy: xr.Dataset, key: str) -> None:
    import rioxarray  # noqa: F401

    tile = str(hierarchy.tile[3].item())
    raster = as_raster(hierarchy[key].sel(tile=tile), GRIDS[key])
    assert raster.rio.crs == rasterio.CRS.from_epsg(3035)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # rioxarray multiplies affine transforms by *
        assert raster.rio.bounds() == Tile.from_id(tile).bounds
        assert tuple(raster.rio.transform())[:6] == tuple(Tile.from_id(tile).transform(GRIDS[key]))[:6]


def test_gdal_reads_what_xarray_writes(hierarchy: xr.Dataset, release_root: Path, tmp_path: Path) -> None:
    """GDAL does not read shards; the documented way gives the right values in the right place."""
    import rioxarray  # noqa: F401

    with pytest.raises(rasterio.RasterioIOError, match="sharding_indexed"):  # fails once GDAL reads them
        rasterio.open(f'ZARR:"{release_root}":/landsat_2018')
    tile = str(hierarchy.tile[3].item())
    chosen = hierarchy.landsat_2018.sel(tile=tile, season="autumn", band_landsat="red")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # rioxarray multiplies affine transforms by *
        as_raster(chosen, 30).rio.to_raster(tmp_path / "red.tif")
    values = chosen.to_numpy()
    with rasterio.open(tmp_path / "red.tif") as file:
        assert file.crs.to_epsg() == 3035
        for y, x in ((0, 0), (17, 150), (159, 3)):
            place = (float(chosen.easting_30m[x]), float(chosen.northing_30m[y]))
            (stored,) = next(file.sample([place]))
            seen = np.nan if stored == file.nodata else stored * file.scales[0] + file.offsets[0]
            assert seen == pytest.approx(values[y, x], abs=1e-6, nan_ok=True)
    assert np.isfinite(values).mean() > 0.5


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince214")
def test_geozarr_toolkit_finds_the_conventions(release_root: Path) -> None:
    from geozarr_toolkit.helpers.validation import detect_conventions, validate_attrs, validate_group

    group = zarr.open_group(release_root, mode="r")
    assert validate_group(group) == {"proj": [], "zarr_conventions": []}
    for key in Manifest.load(release_root).arrays:
        attributes = dict(group[str(key)].attrs)
        assert detect_conventions(attributes) == ["spatial", "proj"]
        assert validate_attrs(attributes) == {"spatial": [], "proj": [], "zarr_conventions": []}


def test_the_grid_mapping_is_epsg_3035(hierarchy: xr.Dataset) -> None:
    attributes = dict(hierarchy.spatial_ref.attrs)
    assert pyproj.CRS.from_wkt(CRS_WKT) == pyproj.CRS.from_epsg(3035)
    assert attributes.pop("crs_wkt") == CRS_WKT
    cf = pyproj.CRS.from_epsg(3035).to_cf()
    assert attributes == {name: cf[name] for name in attributes}
    assert rasterio.CRS.from_wkt(CRS_WKT).to_epsg() == 3035


def test_labels_name_their_classes(hierarchy: xr.Dataset) -> None:
    attributes = hierarchy.luisa_2018.attrs
    values, meanings = attributes["flag_values"], attributes["flag_meanings"].split(" ")
    colors = attributes["flag_colors"].split(" ")
    assert len(values) == len(meanings) == len(colors) == len(legend().classes) + 1
    assert dict(zip(values, colors, strict=True))[3110] == legend().classes[3110].color
    assert dict(zip(values, meanings, strict=True))[3110] == "broad_leaved_forest"
    assert meanings[0] == "unlabelled"


def test_xarray_opens_a_release_over_http(release_root: Path, hierarchy: xr.Dataset) -> None:
    tile = str(hierarchy.tile[1].item())
    with serve(release_root) as url, xr.open_zarr(url, chunks=None) as remote:
        assert set(remote.data_vars) == set(hierarchy.data_vars)
        got = remote.landsat_2018.sel(tile=tile, season="summer").to_numpy()
        np.testing.assert_array_equal(got, hierarchy.landsat_2018.sel(tile=tile, season="summer").to_numpy())


def test_consolidated_metadata_are_the_same_bytes_in_any_order_of_the_folder(
    release_root: Path, tmp_path: Path
) -> None:
    from lulcbench.geozarr import consolidate

    copy = tmp_path / "copy"
    copy.mkdir()
    for path in sorted(release_root.glob("*/zarr.json"), reverse=True):
        (copy / path.parent.name).mkdir()
        shutil.copyfile(path, copy / path.parent.name / path.name)
    before = json.loads((release_root / "zarr.json").read_bytes())
    consolidate(copy, before["attributes"])
    assert (copy / "zarr.json").read_bytes() == (release_root / "zarr.json").read_bytes()


def altered(root: Path, name: str, change: Any) -> None:
    """Rewrite a coordinate, and the manifest with it, as if it had been built so."""
    array = zarr.open_array(root / name, mode="r+")
    array[...] = change(np.asarray(array[...]))
    release = Manifest.load(root)
    files = tuple(
        file.model_copy(update={"bytes": path.stat().st_size, "sha256": pack.hash_file(path)})
        for file in release.files
        for path in [root / file.path]
    )
    release.model_copy(update={"files": files}).write(root)


@pytest.mark.parametrize(
    ("name", "change", "check"),
    [
        ("easting_10m", lambda values: values + 10, "tiles are in their places"),
        ("northing_50m", lambda values: values[:, ::-1], "tiles are in their places"),
        ("tile", lambda values: values[::-1], "tiles are named"),
        ("band_landsat", lambda values: values[::-1], "bands are named"),
        ("season", lambda values: values[::-1], "seasons are named"),
    ],
)
def test_the_audit_finds_coordinates_that_lie_elsewhere(
    release_root: Path, tmp_path: Path, name: str, change: Any, check: str
) -> None:
    root = Path(shutil.copytree(release_root, tmp_path / "release"))
    altered(root, name, change)
    manifest = Manifest.load(root)
    found = Findings(manifest.id, manifest.digest)
    coordinates(root, manifest, pd.read_parquet(root / INDEX), found)
    assert set(found.problems) == {check}


@pytest.mark.slow
def test_the_audit_finds_metadata_that_differ(release_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(release_root, tmp_path / "release"))
    text = (root / "zarr.json").read_text()
    (root / "zarr.json").write_text(text.replace('"scale_factor": 0.0001', '"scale_factor": 0.001'))
    altered(root, "split", lambda values: values)
    assert set(audit(root).problems) == {"metadata are consolidated"}


def dated_release(folder: Path) -> tuple[Path, ArrayKey, np.ndarray, np.ndarray]:
    """A release of dated imagery, written by the shard writer: its root, array, dates and values of all rows."""
    key = ArrayKey("landsat", 2017, 2018)
    bands = LANDSAT.bands[3:5]
    tiles = {split: [Planned(Tile(900 + i, y), "here", "b", split) for i in range(n)] for split, n, y in
             (("train", 3, 650), ("test", 2, 660))}  # fmt: skip
    axis = TileAxis(tiles, shard_tiles=2)
    assert axis.first_rows == {"train": 0, "test": 4}
    assert (axis.size, [axis.split_of(shard) for shard in range(3)]) == (6, ["train", "train", "test"])
    steps = 5
    array = image_array(key, 30, bands, steps, "time")
    rng = np.random.default_rng(0)
    dates = np.full((axis.size, steps), np.datetime64("NaT", "D"))
    values = np.zeros((axis.size, steps, 2, 160, 160), np.uint16)
    root, cache = folder / "release", folder / "cache"
    cache.mkdir()
    write_arrays(root, [array], axis, "lz4")
    for split, first in axis.first_rows.items():
        for i in range(len(tiles[split])):
            n = 3 + (first + i) % 3  # not all tiles have as many dates
            row = first + i
            dates[row, :n] = np.datetime64("2017-01-05") + np.sort(rng.choice(700, n, replace=False))
            values[row, :n] = rng.integers(1, 9999, (n, 2, 160, 160))
            np.save(cache / f"{row}.npy", values[row])
        for start in range(0, len(tiles[split]), 2):
            rows = range(first + start, first + min(start + 2, len(tiles[split])))
            files = tuple(cache / f"{row}.npy" for row in rows)
            write_shard(ShardJob(array, split, axis.size, 2, "lz4", rows[0], files, root, cache / f"{rows[0]}.json"))
    write_coordinates(root, [array], axis, {"landsat": bands}, (), {"title": "Series"}, {key: dates})
    rows = [(tile, split, first + i) for split, first in axis.first_rows.items() for i, tile in enumerate(tiles[split])]
    table = {
        "id": [planned.tile.id for planned, _, _ in rows],
        "ix": [planned.tile.ix for planned, _, _ in rows],
        "iy": [planned.tile.iy for planned, _, _ in rows],
        "split": [split for _, split, _ in rows],
        "row": [row for _, _, row in rows],
        "region": [planned.region for planned, _, _ in rows],
    }
    pq.write_table(pa.table(table), root / INDEX)
    info = SensorInfo(resolution=30, bands=bands, spans=((2017, 2018),), licence="x", statistics=None)
    manifest = Manifest(
        name="series",
        version="0.1.0",
        title="Series",
        description="",
        simulated=False,
        seasons=(),
        sensors={"landsat": info},
        labels={},
        regions=("here",),
        splits={"train": 3, "test": 2},
        first_rows=axis.first_rows,
        sources=(),
        files=list_files(root, [array], axis, str),
        builder="tests",
    )
    manifest.write(root)
    return root, key, dates, values


@pytest.mark.slow
def test_dated_series_have_a_time_axis_with_dates_of_each_tile(tmp_path: Path) -> None:
    root, key, dates, values = dated_release(tmp_path)
    assert Manifest.load(root).arrays == (key,)
    steps = dates.shape[1]
    with xr.open_zarr(root) as found:
        series = found[str(key)]
        assert series.dims == ("tile", f"time_{key}", "band_landsat", "y_30m", "x_30m")
        when = found[f"date_{key}"]
        assert when.dims == ("tile", f"time_{key}")
        np.testing.assert_array_equal(when.to_numpy().astype("datetime64[D]"), dates)
        expected = np.where(values == 0, np.nan, values * 1e-4 - 0.1)
        np.testing.assert_allclose(series.to_numpy(), expected, atol=1e-9)
        one = series.sel(tile="E0901N0660", band_landsat="nir08")
        assert one[f"date_{key}"].isnull().sum() == steps - (3 + 5 % 3)
        assert math.isclose(float(one.easting_30m[0]), 901 * 4800 + 15)
    assert zarr.open_array(root / f"date_{key}", mode="r")[3].tolist() == [NO_DATE] * steps
    reader = Release.open(root).reader("test")
    got = reader.read(key, [4, 5], [(10, 20), (0, 0)], (40, 40), seasons=[1, 4], bands=[1])
    np.testing.assert_array_equal(got[0], values[4][np.ix_([1, 4], [1], range(10, 50), range(20, 60))])
    np.testing.assert_array_equal(got[1], values[5][np.ix_([1, 4], [1], range(40), range(40))])
