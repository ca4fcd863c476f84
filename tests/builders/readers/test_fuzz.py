"""Items and rasters of any form are read, or refused by an error of the project; never by an error of a library."""

from __future__ import annotations

import copy
import json
import math
import tempfile
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.archives import ecodatacube, glad, label_source, scene_source
from builders.ingest.catalog import File
from builders.ingest.catalog import item as describe
from builders.readers import opening
from builders.readers.area import Area
from builders.recipe import LabelRule, SensorRule
from builders.stages import search
from builders.stages._catalogs import stored_items
from builders.stages._observations import separate
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile
from lulcbench.legend import legend
from lulcbench.sensors import LANDSAT, SENTINEL1, SENTINEL2, Sensor
from tests.builders import world

TILE = Tile(900, 650)
AREA = Area.of([TILE], 30)
SPANS = [(datetime(2018, 6, 1, tzinfo=UTC).date(), datetime(2018, 9, 1, tzinfo=UTC).date())]


@cache
def scratch() -> tempfile.TemporaryDirectory[str]:
    """Files that the items name; they stay for all examples, and are deleted at the end of the process."""
    directory = tempfile.TemporaryDirectory(prefix="lulcbench-fuzz-", ignore_cleanup_errors=True)
    world.make(Path(directory.name), scenes=1)
    return directory


def folder() -> Path:
    return Path(scratch().name)


def sentinel() -> dict[str, Any]:
    """An item in the form of Earth Search."""
    path = str(folder() / "scenes" / "s0.tif")
    quality = str(folder() / "scenes" / "s0_qa.tif")
    bands = [{"nodata": 0, "data_type": "uint16", "scale": 2.75e-5, "offset": -0.2, "spatial_resolution": 10}]
    names = [{"name": "red", "common_name": "red"}, {"name": "nir", "common_name": "nir"}]
    box = [9.9, 51.1, 10.3, 51.4]
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": "S2B_32UNC_20180710_0_L2A", "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [[[9.9, 51.1], [10.3, 51.1], [10.3, 51.4], [9.9, 51.1]]]},
        "bbox": box, "links": [], "stac_extensions": ["https://stac-extensions.github.io/eo/v1.1.0/schema.json"],
        "properties": {
            "datetime": "2018-07-10T10:30:21Z", "platform": "sentinel-2b", "eo:cloud_cover": 12.5, "proj:epsg": 32632,
            "s2:processing_baseline": "02.06", "earthsearch:boa_offset_applied": False, "grid:code": "MGRS-32UNC",
            "s2:product_uri": "S2B_MSIL2A_20180710T103019_N0206_R108_T32UNC_20180710T143200.SAFE",
        },
        "assets": {
            "data": {
                "href": path, "type": "image/tiff", "roles": ["data"], "eo:bands": names, "raster:bands": bands * 2,
                "file:checksum": "1114" + 20 * "ab",
            },
            "scl": {"href": quality, "type": "image/tiff", "roles": ["data"], "raster:bands": [{"nodata": 0}]},
            "thumbnail": {"href": "preview.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
        },
    }  # fmt: skip


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [0, -1, 1e400, -1e400, math.nan, 2**70, 1e-320, 181, "", " ", "x", "nan", "1e999", "2018-99-99", "é\0"]
    ),
    st.sampled_from(
        [[], {}, [None], {"": None}, [[]], [{}], ["red"], [9.9, 51.1], [1, 2, 3, 4, 5, 6], {"name": "red"}]
    ),
    st.sampled_from(
        ["2018-07-10", "2018-07-10T10:30:21", "0000-01-01T00:00:00Z", "EPSG:0", "/nowhere/x.tif", "http://[x"]
    ),
    st.text(max_size=5),
    st.integers(-5, 5),
)
KEYS = (
    "datetime", "start_datetime", "end_datetime", "proj:code", "scale", "raster:scale", "offset", "nodata", "unit",
    "bands", "name", "common_name", "eo:cloud_cover", "s2:processing_baseline", "processing:version", "bbox",
    "geometry", "gsd", "platform", "s2:datatake_id", "license", "roles", "href", "file:size", "file:checksum",
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values of a JSON document."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


@st.composite
def items(draw: st.DrawFn) -> dict[str, Any]:
    """An item with up to four changes: values replaced, removed or added."""
    item = copy.deepcopy(sentinel())
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from([p for p in places(item) if p]))
        parent: Any = item
        for key in path[:-1]:
            parent = parent[key]
        action = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if action == "replace":
            parent[path[-1]] = draw(ODD)
        elif action == "remove":
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(KEYS))] = draw(ODD)
    return item


@pytest.mark.slow
@settings(max_examples=250)
@given(items())
def test_any_item_is_read_or_refused(item: dict[str, Any]) -> None:
    rule = SensorRule(name="sentinel2", bands=("B04", "B08"), years=(2018,))
    bands = tuple(SENTINEL2.band(name) for name in rule.bands)
    source, refused = scene_source("sentinel2"), None
    with tempfile.TemporaryDirectory() as temporary:
        links = [{"rel": "item", "href": "item.json"}]
        catalog = {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "description": "c", "links": links}
        (Path(temporary) / "item.json").write_text(json.dumps(item))
        (Path(temporary) / "catalog.json").write_text(json.dumps(catalog))
        try:
            for known in stored_items(str(Path(temporary) / "catalog.json")):
                search._formed(known, lambda one: search._unwanted(one, rule, SPANS, [TILE.bounds]))
                scene = search._formed(known, lambda one: source.scene(one, bands))
                (kept,), _ = separate([known], [scene])
                assert kept.model_validate_json(kept.model_dump_json()) == kept
                pixels = source.read(kept, AREA, bands)
                assert pixels.stored.shape == (2, 160, 160)
        except LulcbenchError as error:
            refused = error
    assert refused is None or (refused.what and refused.remedy)


@st.composite
def rasters(draw: st.DrawFn) -> dict[str, Any]:
    def some(usual: Any, *odd: Any) -> Any:
        return draw(st.sampled_from([usual] * 4 + list(odd)))

    left, _, _, top = TILE.bounds
    step = some(30.0, 10.0, 100.0, 4800.0, 1e-6, 1e9)
    turned = Affine.translation(left, top) @ Affine.rotation(draw(st.integers(0, 359))) @ Affine.scale(step, -step)
    plain = Affine(step, 0, left, 0, -step, top)
    return {
        "shape": (draw(st.sampled_from([1, 2, 2, 3])), *some((20, 20), (1, 1), (1, 30), (160, 160), (300, 2))),
        "dtype": some("uint16", "uint8", "int16", "int32", "float32", "float64", "uint32", "complex64", "int8"),
        "value": some(9000, 0, -1, 127, math.nan, math.inf, 1111, 3110, 250),
        "noise": draw(st.booleans()),
        "nodata": some(None, 0, 9000, -9999, 127),
        "crs": some(
            "EPSG:3035", "EPSG:32632", "EPSG:4326", "EPSG:3857", "EPSG:4978", 'LOCAL_CS["x",UNIT["m",1]]', None
        ),
        "transform": some(
            plain, turned, Affine(step, 0, left, 0, step, top - 4800), Affine(0, step, left, step, 0, top),
            Affine(0.001, 0, 9.9, 0, -0.001, 51.4), Affine(1, 0, 0, 0, 1, 0), Affine(0, 0, 0, 0, 0, 0),
            Affine(math.nan, 0, left, 0, -step, top), Affine(step, 0, 1e300, 0, -step, top),
        ),
        "scales": some(None, 2.75e-5, 0, math.nan, -1.0),
        "descriptions": some(None, ("red", "nir08", "qa_pixel"), ("red", "red", "red"), ("nir08", "red", "x")),
        "mask": draw(st.booleans()),
        "cut": some(None, 0, 10, 200, 0.5, 0.9),
        "flip": some(None, 0.1, 0.5, 0.7, 0.95),
    }  # fmt: skip


def write(path: Path, made: dict[str, Any]) -> None:
    count, height, width = made["shape"]
    profile = {"driver": "GTiff", "dtype": made["dtype"], "count": count, "height": height, "width": width}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = np.full(made["shape"], np.float64(made["value"]))
        if made["noise"]:
            values += np.random.default_rng(0).integers(0, 50, made["shape"])
        values = values.astype(made["dtype"])
        with rasterio.open(
            path,
            "w",
            **profile,
            crs=made["crs"],
            transform=made["transform"],
            nodata=made["nodata"],
            compress="deflate",
        ) as file:
            file.write(values)
            if made["scales"] is not None:
                file.scales = [made["scales"]] * count
            if made["descriptions"]:
                file.descriptions = made["descriptions"][:count]
            if made["mask"]:
                file.write_mask(np.arange(height * width).reshape(height, width) % 3 > 0)
    content = bytearray(path.read_bytes())
    if made["flip"] is not None:
        at = int(made["flip"] * len(content))
        content[at : at + 8] = bytes(255 - byte for byte in content[at : at + 8])
    cut = made["cut"]
    path.write_bytes(content if cut is None else content[: cut if isinstance(cut, int) else int(cut * len(content))])


def read_scene(archive: str, sensor: Sensor, path: Path, count: int) -> None:
    bands = sensor.bands[2:4] if sensor is LANDSAT else sensor.bands[:2]
    day = datetime(2018, 7, 10, tzinfo=UTC)
    unit = "dB" if sensor is SENTINEL1 else None
    files = [File("data", path, bands[: max(1, min(count, 2))], 2.75e-5, -0.2, None, unit), File("qa_pixel", path)]
    source = scene_source(archive)
    scene = source.scene(describe("x", sensor, files, (day, day)), bands[: max(1, min(count, 2))])
    pixels = source.read(scene, AREA, bands[: max(1, min(count, 2))])
    assert pixels.stored.dtype == sensor.coding.dtype
    assert pixels.seen.shape == pixels.clear.shape == (160, 160)


@pytest.mark.slow
@settings(max_examples=250)
@given(rasters(), st.sampled_from(["landsat", "sentinel1", "glad", "ecodatacube", "labels"]))
@pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning",
    "ignore::RuntimeWarning",
    # rasterio logs messages of GDAL about damaged tags, with bytes that are not UTF-8
    "ignore:Exception ignored in. 'rasterio._env.log_error':pytest.PytestUnraisableExceptionWarning",
)
def test_any_raster_is_read_or_refused(made: dict[str, Any], how: str) -> None:
    refused = None
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "red_20180625_20180912.tif"
        try:
            write(path, made)
        except (rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError, ValueError, OverflowError):
            opening.clear_errors()
            return  # such a file cannot be written
        try:
            if how == "labels":
                codes = label_source(LabelRule(year=2018, source="luisa", path=path)).read(Area.of([TILE], 50)).codes
                assert {*np.unique(codes).tolist()} <= {0, *legend().classes}
            elif how == "glad":
                assert len(glad.items(f"{temporary}/red_{{interval}}_{{tile}}.tif", "c", (), SPANS, [TILE.bounds])) == 0
            elif how == "ecodatacube":
                template = f"{temporary}/{{band}}_{{start:%Y%m%d}}_20180912.tif"
                bands = (LANDSAT.band("red"),)
                days = [(datetime(2018, 6, 25, tzinfo=UTC).date(), datetime(2018, 9, 12, tzinfo=UTC).date())]
                for item in ecodatacube.items(template, "c", bands, days, []):
                    scene = scene_source(how).scene(item, bands)
                    assert scene_source(how).read(scene, AREA, bands).seen.shape == (160, 160)
            else:
                read_scene(how, LANDSAT if how == "landsat" else SENTINEL1, path, made["shape"][0])
        except LulcbenchError as error:
            refused = error
        finally:
            opening._kept.cache_clear()
    assert refused is None or (refused.what and refused.remedy)
