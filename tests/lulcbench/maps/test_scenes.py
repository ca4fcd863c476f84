"""Items of STAC files of dated images: dates, bands, and files that are not what they should be."""

from __future__ import annotations

import contextlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lulcbench.errors import LulcbenchError
from lulcbench.maps.scenes import Layer, Scene, find_scenes

BANDS = ("B04", "B08")


def item(**properties: Any) -> dict[str, Any]:
    assets = {"B04": {"href": "red.tif"}, "nir": {"href": "nir.tif"}}
    return {"type": "Feature", "id": "scene", "properties": properties, "assets": assets}


def scenes(folder: Path, content: Any) -> list[Scene]:
    path = folder / "items.json"
    path.write_text(json.dumps(content))
    return find_scenes(path, "sentinel2", BANDS)


@pytest.mark.parametrize(
    ("stated", "day"),
    [
        ("2018-05-03T23:30:00Z", "2018-05-03"),
        ("2018-05-04T00:30:00+02:00", "2018-05-03"),
        ("2018-05-03T23:30:00-05:00", "2018-05-04"),
        ("2018-05-03T23:30:00.123456789Z", "2018-05-03"),
        ("2018-05-03", "2018-05-03"),
    ],
)
def test_dates_are_in_utc(tmp_path: Path, stated: str, day: str) -> None:
    (found,) = scenes(tmp_path, item(datetime=stated))
    assert found.date == np.datetime64(day)
    (found,) = scenes(tmp_path, item(datetime=None, start_datetime=stated))
    assert found.date == np.datetime64(day)


@pytest.mark.parametrize(
    ("start", "end", "day"),
    [
        ("2018-06-01T00:00:00Z", "2018-06-30T23:59:59Z", "2018-06-15"),
        ("2016-01-01T00:00:00Z", "2016-12-31T23:59:59Z", "2016-07-01"),  # a leap year
        ("2018-05-03T22:00:00-05:00", "2018-05-03T23:00:00-05:00", "2018-05-04"),
    ],
)
def test_composites_are_of_the_middle_of_their_interval(tmp_path: Path, start: str, end: str, day: str) -> None:
    interval = {"start_datetime": start, "end_datetime": end}
    (found,) = scenes(tmp_path, item(datetime=None, **interval))
    assert found.date == np.datetime64(day)
    (found,) = scenes(tmp_path, item(datetime=start, **interval))
    assert found.date == np.datetime64(pd.Timestamp(start).tz_convert("UTC").date())
    (found,) = scenes(tmp_path, item(datetime=None, start_datetime=start))
    assert found.date == np.datetime64(pd.Timestamp(start).tz_convert("UTC").date())


@pytest.mark.parametrize("stated", [None, "", "May", "2018-02-30T00:00:00Z", 20180503, "0001-01-01T00:00:00+14:00"])
def test_an_item_without_a_date_is_refused(tmp_path: Path, stated: Any) -> None:
    with pytest.raises(LulcbenchError, match=r"scene.* has no date"):
        scenes(tmp_path, item(datetime=stated))


def test_bands_are_those_of_stac_1_0_and_1_1(tmp_path: Path) -> None:
    new = item(datetime="2023-05-03T10:00:00Z")
    two = [{"name": "x", "eo:common_name": "nir", "raster:scale": 1e-4}, {"name": "B04", "raster:offset": -0.1}]
    new["assets"] = {"both": {"href": "both.tif", "bands": two, "raster:scale": 2e-4}}
    old = item(datetime="2023-05-03T10:00:00Z")
    two = [{"common_name": "nir"}, {"name": "B04"}]
    rasters = [{"scale": 1e-4}, {"scale": 2e-4, "offset": -0.1}]
    old["assets"] = {"both": {"href": "both.tif", "bands": None, "eo:bands": two, "raster:bands": rasters}}
    for content in (new, old):
        (found,) = scenes(tmp_path, content)
        path = str(tmp_path / "both.tif")
        assert found.bands == {"B08": Layer(path, 1, 1e-4), "B04": Layer(path, 2, 2e-4, -0.1)}


@pytest.mark.parametrize(
    "content",
    [
        {"type": "FeatureCollection", "features": 5},
        {"type": "FeatureCollection", "features": [None]},
        {"type": "FeatureCollection", "features": [{"id": 3}]},
        {"type": "Catalog", "links": 5},
        {"type": "Collection", "links": [{"rel": "item", "href": {}}]},
        {"type": "Catalog", "links": [{"rel": "item"}]},
        {"type": "Catalog", "links": [{"rel": "item", "href": "none.json"}]},
        {"type": "Catalog", "links": [{"rel": "child", "href": "items.json"}]},
        item(datetime="2018-05-03T10:00:00Z") | {"assets": [1]},
        item(datetime="2018-05-03T10:00:00Z") | {"assets": {"B04": "red.tif"}},
        item(datetime="2018-05-03T10:00:00Z") | {"assets": {"B04": {"href": "a", "bands": "B04"}}},
        item(datetime="2018-05-03T10:00:00Z") | {"assets": {"B04": {"href": "a", "bands": [{"scale": "one"}]}}},
        item(datetime="2018-05-03T10:00:00Z") | {"assets": {"B04": {"href": "a", "raster:bands": [7]}}},
        item(datetime="2018-05-03T10:00:00Z") | {"assets": {"B04": {"href": "a", "raster:offset": 1e999}}},
        {"type": ["Feature"]},
        [],
        5,
    ],
    ids=map(str, range(16)),
)
def test_what_is_not_stac_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(LulcbenchError):
        scenes(tmp_path, content)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    ("id",), ("properties",), ("properties", "datetime"), ("properties", "s2:processing_baseline"), ("assets",),
    ("assets", "B04"), ("assets", "B04", "href"), ("assets", "B04", "bands"), ("assets", "B04", "eo:bands"),
    ("assets", "B04", "raster:bands"), ("assets", "B04", "raster:scale"), ("links",),
]  # fmt: skip


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(PLACES), values, st.sampled_from(["Feature", "Catalog", "FeatureCollection"]))
def test_no_item_ends_in_an_error_of_a_library(tmp_path: Path, place: tuple[str, ...], value: Any, kind: str) -> None:
    content = item(datetime="2018-05-03T10:00:00Z") | {"links": [{"rel": "item", "href": "other.json"}]}
    inner: Any = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    content = {"type": kind, "features": [content]} if kind == "FeatureCollection" else content | {"type": kind}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(LulcbenchError):
            scenes(tmp_path, content)
