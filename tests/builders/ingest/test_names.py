"""What names of files tell of scenes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from builders.ingest.names import band_of, read_name
from lulcbench.sensors import LANDSAT, SENTINEL2

SAFE = "S2B_MSIL2A_20220702T102559_N0400_R108_T32UNE_20220702T133912.SAFE/GRANULE/L2A_T32UNE_A027787/IMG_DATA"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            f"{SAFE}/R10m/T32UNE_20220702T102559_B02_10m.jp2",
            (SAFE.split(".")[0], "sentinel2", "sentinel-2b", "2022-07-02T10:25:59", "L2A", "04.00", "b02"),
        ),
        (
            "T33UUU_20170216T102101_B8A.jp2",
            ("T33UUU_20170216T102101", "sentinel2", None, "2017-02-16T10:21:01", "L1C", None, "b8a"),
        ),
        (
            "R20m/T33UUU_20170216T102101_SCL_20m.jp2",
            ("T33UUU_20170216T102101", "sentinel2", None, "2017-02-16T10:21:01", "L2A", None, "scl"),
        ),
        (
            "S2B_MSIL2A_20170924T93020_69_24/S2B_MSIL2A_20170924T93020_69_24_B05.tif",
            ("S2B_MSIL2A_20170924T93020_69_24", "sentinel2", "sentinel-2b", "2017-09-24T09:30:20", "L2A", None, "b05"),
        ),
        (
            "LC08_L2SP_008059_20191201_20200825_02_T1_SR_B7.TIF",
            ("LC08_L2SP_008059_20191201_20200825_02_T1", "landsat", "landsat-8", "2019-12-01", "L2SP", None, "b7"),
        ),
        (
            "LT05_L2SP_193024_20060722_20200831_02_T1_QA_PIXEL.TIF",
            (
                "LT05_L2SP_193024_20060722_20200831_02_T1",
                "landsat",
                "landsat-5",
                "2006-07-22",
                "L2SP",
                None,
                "qa_pixel",
            ),
        ),
        ("landsat_20180702_sr.tif", ("landsat_20180702", "landsat", None, "2018-07-02", None, None, "")),
        ("landsat_20180702_qa_pixel.tif", ("landsat_20180702", "landsat", None, "2018-07-02", None, None, "qa_pixel")),
        ("mysite_s2_2018-07-02_B04.tif", ("mysite_s2_2018-07-02", "sentinel2", None, "2018-07-02", None, None, "b04")),
        ("ndvi_20141202_20150320.tif", ("ndvi_20141202_20150320", None, None, "2014-12-02 2015-03-20", None, None, "")),
        ("labels.tif", ("labels", None, None, "", None, None, "")),
        ("20181332.tif", ("20181332", None, None, "", None, None, "")),
    ],
)
def test_a_name_tells_scene_sensor_time_level_and_band(path: str, expected: tuple[str | None, ...]) -> None:
    name = read_name(Path(path))
    scene, sensor, platform, times, level, baseline, band = expected
    assert name.scene == scene
    assert (name.sensor.name if name.sensor else None) == sensor
    assert (name.platform, name.level, name.baseline, name.band) == (platform, level, baseline, band)
    assert name.times == tuple(datetime.fromisoformat(time).replace(tzinfo=UTC) for time in str(times).split())
    assert not name.unused


@pytest.mark.parametrize(
    "path",
    [
        f"{SAFE}/R10m/T32UNE_20220702T102559_TCI_10m.jp2",
        f"{SAFE}/R10m/T32UNE_20220702T102559_WVP_10m.jp2",
        "X.SAFE/GRANULE/L2A_T32UNE/QI_DATA/MSK_CLDPRB_20m.jp2",
        "LC08_L2SP_008059_20191201_20200825_02_T1_QA_RADSAT.TIF",
        "LC08_L2SP_008059_20191201_20200825_02_T1_ST_B10.TIF",
    ],
)
def test_layers_of_products_that_are_not_used(path: str) -> None:
    assert read_name(Path(path)).unused


def test_numbers_of_landsat_bands_depend_on_the_platform() -> None:
    assert band_of(LANDSAT, "landsat-8", "B4") is LANDSAT.band("red")
    assert band_of(LANDSAT, "landsat-5", "SR_B4") is LANDSAT.band("nir08")
    assert band_of(LANDSAT, None, "B4") is None
    assert band_of(LANDSAT, None, "Red") is LANDSAT.band("red")
    assert band_of(SENTINEL2, None, "b2") is band_of(SENTINEL2, None, "BLUE") is SENTINEL2.band("B02")
    assert band_of(SENTINEL2, None, "ndvi") is None


@pytest.mark.parametrize(
    "path",
    [
        "scene_20180231_B04.tif",
        "T32UNE_20180231T102559_B04.jp2",
        "LC08_L2SP_008059_20191301_20200825_02_T1_SR_B4.TIF",
        "S2A_MSIL2A_20180710T256199_N0208_R108_T32UME_20180710T160000/B04.tif",
    ],
)
def test_digits_that_are_not_a_day_are_not_the_time(path: str) -> None:
    assert read_name(Path(path)).times == ()
