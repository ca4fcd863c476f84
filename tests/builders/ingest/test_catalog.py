"""Items that describe files of a folder are STAC, for other readers too."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pystac.extensions.eo import EOExtension

from builders.ingest.catalog import File, item, write
from lulcbench.sensors import SENSORS
from tests.stac import check_stac

DAY = datetime(2018, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize("together", [False, True], ids=["file per band", "one file"])
@pytest.mark.parametrize("name", sorted(SENSORS))
def test_items_of_every_sensor_are_valid(tmp_path: Path, name: str, together: bool) -> None:
    sensor = SENSORS[name]
    path = tmp_path / "scene.tif"
    options = {"driver": "GTiff", "width": 4, "height": 4, "dtype": "uint16", "crs": "EPSG:32632"}
    with rasterio.open(path, "w", count=1, transform=Affine(10, 0, 5e5, 0, -10, 5.6e6), **options) as file:
        file.write(np.ones((1, 4, 4), np.uint16))
    files = [File("all", path, (*sensor.bands, None))]
    if not together:
        files = [File(band.asset, path, (band,), scale=1e-4, nodata=float("nan")) for band in sensor.bands]
        files.append(File("quality", path))
    found = item("scene", sensor, files, (DAY, DAY))
    write(tmp_path / "site", "site", "A scene.", [found])
    written = [json.loads(file.read_bytes()) for file in (tmp_path / "site").rglob("*.json")]
    assert sorted(content["type"] for content in written) == ["Catalog", "Collection", "Feature"]
    for content in written:
        check_stac(content)
    named = [part.get("eo:common_name") for part in found.to_dict()["assets"].values()]
    if together:
        named = [band.get("eo:common_name") for band in found.assets["all"].extra_fields["bands"]]
    common = {"coastal", "blue", "green", "red", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22"}
    assert named == [*(band.asset if band.asset in common else None for band in sensor.bands), None]
    assert EOExtension.has_extension(found) == (name != "sentinel1")
