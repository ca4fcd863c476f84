"""Archives of real files that have no catalog."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from builders.archives import ecodatacube, scene_source
from builders.readers.area import Area
from builders.readers.opening import open_raster
from lulcbench.grid import Tile
from lulcbench.seasons import SEASONS
from lulcbench.sensors import LANDSAT, REFLECTANCE

pytestmark = pytest.mark.real

TEMPLATE = "{band}_landsat.ard1_p50_30m_s_{start:%Y%m%d}_{end:%Y%m%d}_nl_epsg.3035_v20230720.tif"
SWIR = LANDSAT.band("swir16")


def test_seasons_of_ecodatacube_are_found_by_their_names(real_data: Path) -> None:
    """24 seasons of the winter of 2015 to the autumn of 2020; the archive's seasons are those of the project."""
    spans = [season.days(year) for year in range(2014, 2022) for season in SEASONS]
    items = ecodatacube.items(str(real_data / "glad_ard_nl" / TEMPLATE), "ecodatacube", (SWIR,), spans, [])
    assert len(items) == len(list((real_data / "glad_ard_nl").glob("swir1_*.tif"))) == 24
    assert items[0].properties["start_datetime"][:10] == "2014-12-02"
    assert items[-1].properties["end_datetime"][:10] == "2020-12-01"


def test_values_of_ecodatacube_are_those_of_the_file_on_the_tile_grid(real_data: Path) -> None:
    """Against an interpolation that does not use GDAL. Summer SWIR of Dutch fields is near 0.25."""
    (item,) = ecodatacube.items(
        str(real_data / "glad_ard_nl" / TEMPLATE), "ecodatacube", (SWIR,), [(date(2018, 6, 25), date(2018, 9, 12))], []
    )
    source = scene_source("ecodatacube")
    scene = source.scene(item, (SWIR,))
    area = Area.of([Tile(838, 669)], 30)
    pixels = source.read(scene, area, (SWIR,))
    assert pixels.clear.all()
    red = REFLECTANCE.decode(pixels.stored[0])
    with open_raster(scene.assets["swir16"].href) as file:
        numbers, at = file.read(1), file.transform
    ys, xs = np.mgrid[0:160, 0:160]
    east, north = area.transform @ (xs + 0.5, ys + 0.5)
    columns, rows = ~at @ (east, north)
    expected = map_coordinates(numbers / 255, (rows - 0.5, columns - 0.5), order=1)
    assert np.abs(red - expected).max() < 2e-4
    assert 0.2 < np.median(red) < 0.3
