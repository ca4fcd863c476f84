"""Rasters of any kind under any name are understood, or refused by an error of the project."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning

from builders.ingest.command import ingest_rule
from builders.ingest.folder import understand, write_catalog
from lulcbench.errors import LulcbenchError

# Parts of names: sensors, dates, layers; what is twice is likelier.
SENSORS = ("s2", "s2", "s2", "s2", "S2A_MSIL2A", "LC08", "LC08", "landsat", "s1", "x")
DATES = ("20180702", "20180702", "20180702", "20180702T102559", "20180703", "2018-13-02", "20180702_20180801")
LAYERS = ("B04", "B04", "B08", "B08", "b8", "red", "red", "VV", "SCL", "qa_pixel", "x")
TEXTS = (None, None, None, None, None, None, "B04", "nir", "B8A", "ndvi", "red", "é")
SYSTEMS = ("EPSG:32632", "EPSG:32632", "EPSG:32632", "EPSG:3035", "EPSG:4326", None, 'LOCAL_CS["site",UNIT["metre",1]]')


@st.composite
def rasters(draw: st.DrawFn) -> dict[str, object]:
    count = draw(st.sampled_from([1, 1, 1, 2, 4]))
    return {
        "name": "_".join(draw(st.sampled_from(parts)) for parts in (SENSORS, DATES, LAYERS)),
        "count": count,
        "dtype": draw(
            st.sampled_from(["uint8", "uint16", "int16", "float32", "float32", "uint16", "uint16", "complex64"])
        ),
        "value": draw(st.sampled_from([40, 40, 20, 0, 100])),
        "descriptions": [draw(st.sampled_from(TEXTS)) for _ in range(count)],
        "crs": draw(st.sampled_from(SYSTEMS)),
        "nodata": draw(st.sampled_from([None, 0, 40])),
        "scale": draw(st.sampled_from([None, 1e-4, 0.01])),
    }


@st.composite
def options(draw: st.DrawFn) -> tuple[str | None, list[str], dict[str, object]]:
    def some(*values: object) -> object:
        """Mostly nothing, else one of the values."""
        return draw(st.sampled_from([None] * 30 + list(values)))

    told = {
        "sensor": some("sentinel2", "landsat", "sentinel1", "planet", "modis"),
        "scale": draw(st.sampled_from([1e-2] * 20 + [None, None, float("nan")])),
        "baseline": some("04.00", "4"),
        "unit": some("dB", "1", "K"),
        "platform": some("landsat-8"),
    }
    bands = some("B04", "B04,B08", "red,nir08", ",")
    dates = some(["2018-07-02"], ["2018-06-01/2018-07-31"], ["2018-07-02"] * 2, ["July"])
    return bands, dates or [], told


def write(path: Path, raster: dict[str, object]) -> None:
    shape = (raster["count"], 6, 5)
    profile = {"driver": "GTiff", "dtype": raster["dtype"], "count": shape[0], "height": shape[1], "width": shape[2]}
    place = (
        Affine(10, 0, 600_000, 0, -10, 5_800_000) if raster["crs"] != "EPSG:4326" else Affine(0.1, 0, 9, 0, -0.1, 52)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, crs=raster["crs"], transform=place, nodata=raster["nodata"]) as file:
            file.write(np.full(shape, raster["value"], str(raster["dtype"])))
            file.descriptions = raster["descriptions"]
            if raster["scale"]:
                file.scales = [raster["scale"]] * shape[0]


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(rasters(), min_size=1, max_size=2, unique_by=lambda raster: raster["name"]), options())
def test_any_raster_is_understood_or_refused(
    files: list[dict[str, object]], told: tuple[str | None, list[str], dict[str, object]]
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "scenes"
        folder.mkdir()
        for raster in files:
            write(folder / f"{raster['name']}.tif", raster)
        try:
            understood = understand(ingest_rule(folder, *told))
        except LulcbenchError:
            return
        write_catalog(understood.scenes, Path(temporary) / "catalog", "fuzz")
        items = list(
            pystac.Catalog.from_file(str(Path(temporary) / "catalog" / "catalog.json")).get_items(recursive=True)
        )
        assert {item.id for item in items} == {scene.id for scene in understood.scenes}
        for scene in understood.scenes:
            assert scene.bands
            assert all(np.isfinite(scene.bounds))
            assert all(np.isfinite([file.scale, file.offset]).all() for file in scene.files)
