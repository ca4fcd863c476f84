"""What the numbers of a scene mean is settled once, from all its bands; pixels settle contradictions."""

from datetime import date
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio

from builders.archives import landsat, planet, sentinel2
from builders.readers.scene import UnusableSceneError
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import LANDSAT, PLANET
from tests.builders.readers.scenes import AREA, BANDS, dn, grid, inside, read, scene_item, two_bands
from tests.builders.world import write_raster

OFFSET = {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}
NONE = {"raster:bands": [{"scale": 0.0001, "offset": 0}]}
FLAG = "earthsearch__boa_offset_applied"
DARK, GREEN = (150, 700), (2000, 4500)  # red and near-infrared of vegetation, without the offset


def scene(folder: Path, removed: bool, stated: dict | None = None, **properties: object):
    """Vegetation of baseline 05.09 whose pixels have the offset, or from which it was removed; and its reflectance."""
    red, nir = dn(*DARK), dn(*GREEN, 1)
    shift = 0 if removed else 1000
    item = two_bands(folder, red + shift, nir + shift, **({"s2__processing_baseline": "05.09"} | properties))
    for key in ("red", "nir"):
        item.assets[key].extra_fields |= stated or {}
    return item, inside(np.stack([red, nir])) * 1e-4


@pytest.mark.parametrize("removed", [True, False], ids=["removed", "present"])
@pytest.mark.parametrize("stated", [None, OFFSET, NONE], ids=["nothing stated", "offset stated", "no offset stated"])
@pytest.mark.parametrize("flag", [None, True, False])
def test_pixels_settle_what_the_metadata_say_wrongly(
    tmp_path: Path, removed: bool, stated: dict | None, flag: bool | None
) -> None:
    item, truth = scene(tmp_path, removed, stated, **({} if flag is None else {FLAG: flag}))
    np.testing.assert_allclose(read(item), truth, atol=6e-5)
    (note,) = sentinel2.SOURCE.scene(item, BANDS).notes
    assert ("no offset is applied" if removed else "offset -0.1 is applied") in note
    assert "baseline 05.09" in note
    assert "below DN 1000" in note


def test_one_decision_holds_for_all_bands(tmp_path: Path) -> None:
    """Near-infrared alone has no dark pixel, and would be taken as still having the offset."""
    item, _ = scene(tmp_path, True, **{FLAG: True})
    assets = sentinel2.SOURCE.scene(item, BANDS).assets
    assert assets["red"].offset == assets["nir"].offset == 0


@pytest.mark.parametrize("flag", [True, False])
def test_where_pixels_do_not_decide_the_catalog_is_believed(tmp_path: Path, flag: bool) -> None:
    snow = dn(7000, 9000)
    item = two_bands(tmp_path, snow, snow, s2__processing_baseline="05.09", **{FLAG: flag})
    np.testing.assert_allclose(read(item)[0], inside(snow) * 1e-4 - (0 if flag else 0.1), atol=6e-5)
    if flag:
        assert "do not decide" in sentinel2.SOURCE.scene(item, BANDS).notes[0]


def test_negative_reflectance_is_not_mistaken_for_a_removed_offset(tmp_path: Path) -> None:
    shadow = dn(1, 3000)
    item = two_bands(tmp_path, shadow, shadow, s2__processing_baseline="05.09")
    np.testing.assert_allclose(read(item)[0], inside(shadow) * 1e-4 - 0.1, atol=6e-5)


def test_older_baselines_have_no_offset_unless_the_pixels_have_it(tmp_path: Path) -> None:
    for removed in (True, False):
        item, truth = scene(tmp_path / str(removed), removed, OFFSET, s2__processing_baseline="02.14")
        np.testing.assert_allclose(read(item), truth, atol=6e-5)


@pytest.mark.parametrize(
    "told", [{"processing__version": "05.09"}, {"s2__product_uri": "S2B_MSIL2A_20180710T103029_N0509_R108_T32UME.SAFE"}]
)
def test_the_baseline_is_also_read_from_other_places(tmp_path: Path, told: dict) -> None:
    item, truth = scene(tmp_path, False, s2__processing_baseline=None, **told)
    np.testing.assert_allclose(read(item), truth, atol=6e-5)


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [("0300", 0), ("N0214", 0), ("02.14", 0), (2.14, 0), ("0509", -0.1), ("N0500", -0.1), (5.09, -0.1)],
)
def test_baselines_are_read_in_all_their_spellings(tmp_path: Path, baseline: object, offset: float) -> None:
    """Bright ground without a dark pixel, which fits both."""
    red = dn(1500, 3500)
    item = two_bands(tmp_path, red, red, s2__processing_baseline=baseline)
    assert sentinel2.SOURCE.scene(item, BANDS).assets["red"].offset == offset


@pytest.mark.parametrize(("flag", "offset"), [("true", 0), ("True", 0), (1, 0), ("false", -0.1), (0, -0.1)])
def test_a_flag_in_words_or_numbers_counts(tmp_path: Path, flag: object, offset: float) -> None:
    snow = dn(7000, 9000)
    item = two_bands(tmp_path, snow, snow, s2__processing_baseline="05.09", **{FLAG: flag})
    assert sentinel2.SOURCE.scene(item, BANDS).assets["red"].offset == offset


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"s2__processing_baseline": "999"}, "has the processing baseline '999'"),
        ({"s2__processing_baseline": "five"}, "has the processing baseline 'five'"),
        ({"s2__processing_baseline": "05.09", FLAG: "yes"}, "boa_offset_applied 'yes'"),
        ({"eo__cloud_cover": "n/a"}, "eo:cloud_cover 'n/a'"),
        ({"eo__cloud_cover": 101}, "eo:cloud_cover 101"),
        ({"start_datetime": "2018-07-12T00:00:00Z"}, "begins at 2018-07-12T00:00:00Z, after its end"),
        ({"start_datetime": "10/07/2018"}, "the time '10/07/2018' to"),
    ],
)
def test_statements_that_mean_nothing_are_refused(tmp_path: Path, told: dict, message: str) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(1500, 3500), **told)
    with pytest.raises(LulcbenchError, match=message):
        sentinel2.SOURCE.scene(item, BANDS)


@pytest.mark.parametrize(
    ("stated", "cloud"), [(None, None), (-9999, None), (0, 0.0), ("12.5", 12.5), (100.0000001, 100)]
)
def test_unknown_cloud_cover_is_unknown(tmp_path: Path, stated: object, cloud: float | None) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(1500, 3500), eo__cloud_cover=stated)
    assert sentinel2.SOURCE.scene(item, BANDS).cloud == cloud


def test_a_version_of_software_is_not_a_baseline(tmp_path: Path) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(1500, 3500), s2__processing_baseline=None)
    item.properties["processing:version"] = "1.2.3"
    with pytest.raises(LulcbenchError, match="neither s2:processing_baseline nor a scale"):
        sentinel2.SOURCE.scene(item, BANDS)


def test_times_of_other_zones_are_converted(tmp_path: Path) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(1500, 3500), start_datetime="2018-06-30t23:30:00z")
    item.properties |= {"end_datetime": "2018-07-01T01:30:00+02:00"}
    scene = sentinel2.SOURCE.scene(item, BANDS)
    assert (scene.start, scene.end) == ("2018-06-30T23:30:00+00:00", "2018-06-30T23:30:00+00:00")


def test_scale_and_offset_of_the_file_itself_count(tmp_path: Path) -> None:
    red, nir = dn(*DARK), dn(*GREEN, 1)
    item = two_bands(tmp_path, red, nir, s2__processing_baseline=None)
    for name in ("red", "nir"):
        with rasterio.open(tmp_path / f"{name}.tif", "r+") as file:
            file.scales, file.offsets = (0.0002,), (0.01,)
    np.testing.assert_allclose(read(item)[1], inside(nir) * 2e-4 + 0.01, atol=6e-5)
    item.assets["red"].extra_fields["raster:bands"] = [{"scale": 0.0001}]
    with pytest.raises(LulcbenchError, match=r"states scale 0\.0001 .* own tags state 0\.0002 and 0\.01"):
        read(item)


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"raster:scale": 0.01}, "which is not reflectance"),  # per cent
        ({"raster:scale": 1}, "which is not reflectance"),
        ({"raster:scale": 1e-7}, "no band has reflectance above"),
    ],
)
def test_numbers_that_are_not_fractions_are_refused(tmp_path: Path, stated: dict, told: str) -> None:
    item, _ = scene(tmp_path, True, s2__processing_baseline=None)
    for key in ("red", "nir"):
        item.assets[key].extra_fields = dict(stated)
    with pytest.raises(LulcbenchError, match=told):
        read(item)


def test_reflectance_in_floating_point_needs_its_scale(tmp_path: Path) -> None:
    """With a baseline, but values that are reflectance already: times 1e-4 they would be black."""
    item, truth = scene(tmp_path, True, s2__processing_baseline="02.12")
    for key, values in (("red", dn(*DARK)), ("nir", dn(*GREEN, 1))):
        write_raster(tmp_path / f"{key}.tif", (values * 1e-4).astype(np.float32), grid(10)[0], "EPSG:3035")
    with pytest.raises(LulcbenchError, match="no band has reflectance above"):
        read(item)
    for key in ("red", "nir"):
        item.assets[key].extra_fields["raster:scale"] = 1
    np.testing.assert_allclose(read(item), truth, atol=6e-5)


@pytest.mark.parametrize(("divisor", "dtype"), [(20, np.uint8), (100, np.float32), (100, np.int16)])
def test_bytes_and_percent_need_their_scale(tmp_path: Path, divisor: int, dtype: type) -> None:
    """With a baseline they would be dark reflectance: 45 % would be 0.0045."""
    item, _ = scene(tmp_path, True, s2__processing_baseline="02.12")
    values = [(numbers / divisor).astype(dtype) for numbers in (dn(*DARK), dn(*GREEN, 1))]
    for key, band in zip(("red", "nir"), values, strict=True):
        write_raster(tmp_path / f"{key}.tif", band, grid(10)[0], "EPSG:3035")
    with pytest.raises(LulcbenchError, match=r"no number in its files is above \d"):
        read(item)
    for key in ("red", "nir"):
        item.assets[key].extra_fields["raster:scale"] = divisor * 1e-4
    np.testing.assert_allclose(read(item), inside(np.stack(values)).astype(float) * divisor * 1e-4, atol=6e-5)


@pytest.mark.parametrize(("scale", "offset"), [(0.0008, 0.1), (1 / 2550, 0.0)])
def test_bytes_have_any_scale_that_is_stated(tmp_path: Path, scale: float, offset: float) -> None:
    item, _ = scene(tmp_path, True, s2__processing_baseline="02.12")
    values = [dn(5, 60).astype(np.uint8), dn(20, 250, 1).astype(np.uint8)]
    for key, band in zip(("red", "nir"), values, strict=True):
        write_raster(tmp_path / f"{key}.tif", band, grid(10)[0], "EPSG:3035")
        item.assets[key].extra_fields["raster:bands"] = [{"scale": scale, "offset": offset}]
    np.testing.assert_allclose(read(item), inside(np.stack(values)) * scale + offset, atol=6e-5)


def test_the_sea_has_small_numbers(tmp_path: Path) -> None:
    sea = dn(90, 210), dn(90, 140, 1)
    item = two_bands(tmp_path, *sea, s2__processing_baseline="02.12")
    np.testing.assert_allclose(read(item), inside(np.stack(sea)) * 1e-4, atol=6e-5)


@pytest.mark.parametrize("stated", [{"scale": 0}, {"scale": -1e-4}, {"scale": "nan"}, {"offset": "inf"}])
def test_what_is_not_a_scale_is_refused(tmp_path: Path, stated: dict) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(1500, 3500), s2__processing_baseline=None)
    item.assets["red"].extra_fields["raster:bands"] = [{"scale": 1e-4} | stated]
    with pytest.raises(LulcbenchError, match=r"offset .* are stated for .*red\.tif"):
        sentinel2.SOURCE.scene(item, BANDS)


def test_fill_of_an_archive_is_missing_also_where_the_coding_is_stated(tmp_path: Path) -> None:
    """Neither the item nor the file states a nodata value: DN 0 would be a reflectance of -0.1."""
    red = dn(1500, 3500)
    red[:40] = 0
    item = two_bands(tmp_path, red, dn(1500, 3500, 1), s2__processing_baseline=None)
    for name in ("red", "nir"):
        with rasterio.open(tmp_path / f"{name}.tif", "r+") as file:
            file.nodata = None
        item.assets[name].extra_fields |= OFFSET
    assert np.isnan(read(item)[0][:20]).all()
    coded = scene_item(
        {"red": write_raster(tmp_path / "l.tif", np.full((600, 600), 9000, np.uint16), grid(10)[0], "EPSG:3035")}
    )
    coded.assets["red"].extra_fields["raster:bands"] = [{"scale": 2.75e-5, "offset": -0.2}]
    assert landsat.SOURCE.scene(coded, (LANDSAT.band("red"),)).assets["red"].nodata == (0,)


def test_landsat_with_a_scale_but_no_offset_has_the_offset_of_its_archive(tmp_path: Path) -> None:
    transform, shape = grid(30, 10)
    red = write_raster(tmp_path / "red.tif", np.full(shape, 9000, np.uint16), transform, "EPSG:3035", 0)
    item = scene_item({"red": red})
    item.assets["red"].extra_fields["raster:bands"] = [{"scale": 2.75e-5}]
    made = landsat.SOURCE.scene(item, (LANDSAT.band("red"),))
    assert made.assets["red"].offset == -0.2
    assert "without an offset" in made.notes[0]
    item.assets["red"].extra_fields["raster:bands"] = [{"scale": 1e-4, "offset": -0.2}]
    assert landsat.SOURCE.scene(item, (LANDSAT.band("red"),)).assets["red"].scale == 1e-4


def test_landsat_of_collection_1_is_not_read_as_collection_2(tmp_path: Path) -> None:
    transform, shape = grid(30, 10)
    red = write_raster(tmp_path / "red.tif", np.full(shape, 1200, np.uint16), transform, "EPSG:3035", 0)
    with pytest.raises(LulcbenchError, match="which is not reflectance"):
        landsat.SOURCE.scene(scene_item({"red": red}))


@pytest.mark.parametrize(
    ("name", "told", "what"),
    [
        ("LC08_L1TP_195024_20180710_20200831_02_T1", {}, "Level-1"),
        ("LC08_L1TP_195024_20180710_20180717_01_T1", {}, "Collection 1"),
        ("LC81950242018191_01", {"landsat:collection_number": "01"}, "Collection 1"),
        ("scene", {"landsat:correction": "L1TP"}, "Level-1"),
    ],
)
def test_other_products_of_landsat_are_not_surface_reflectance(
    tmp_path: Path, name: str, told: dict, what: str
) -> None:
    """Their numbers have another scale, under which they would be plausible."""
    transform, shape = grid(30, 10)
    red = write_raster(tmp_path / "red.tif", np.full(shape, 9000, np.uint16), transform, "EPSG:3035", 0)
    with pytest.raises(UnusableSceneError, match=f"is a Landsat product of {what}"):
        landsat.SOURCE.scene(scene_item({"red": red}, name, s2__processing_baseline=None, **told))
    for good in ("LC08_L2SP_195024_20180710_20200831_02_T1", "LC08_L2SR_195024_20180710_02_T1", "scene"):
        assert landsat.SOURCE.scene(scene_item({"red": red}, good), (LANDSAT.band("red"),)).assets["red"].offset == -0.2


@pytest.mark.parametrize("codes", [(322, 352), (2720, 2800), (64, 66)])
def test_quality_codes_of_other_products_are_refused(tmp_path: Path, codes: tuple[int, int]) -> None:
    """Clear ground and cloud in pixel_qa and BQA of Collection 1, and in Fmask: clouds would be clear ground."""
    transform, shape = grid(30, 10)
    red = write_raster(tmp_path / "red.tif", np.full(shape, 9000, np.uint16), transform, "EPSG:3035", 0)
    bits = np.full(shape, codes[0], np.uint16)
    bits[: shape[0] // 3] = codes[1]
    item = scene_item(
        {"red": red, "qa_pixel": write_raster(tmp_path / "qa.tif", bits, transform, "EPSG:3035")},
        s2__processing_baseline=None,
    )
    with pytest.raises(LulcbenchError, match=r"qa\.tif holds codes that QA_PIXEL of Collection 2 does not have"):
        landsat.SOURCE.scene(item, (LANDSAT.band("red"),))


@pytest.mark.parametrize("known", [{"s2__processing_baseline": "04.00"}, {"sentinel__processing_baseline": "04.00"}])
def test_the_flag_of_older_catalogs_counts(tmp_path: Path, known: dict[str, str]) -> None:
    """Of version 0 of Earth Search, and of archives that continue it."""
    red = dn(1500, 3500)
    told = {"s2__processing_baseline": None} | known
    item = two_bands(tmp_path, red, dn(2500, 4500), **told, sentinel__boa_offset_applied=True)
    assert sentinel2.SOURCE.scene(item, BANDS).baseline == "04.00"
    assert "boa_offset_applied true" in sentinel2.SOURCE.scene(item, BANDS).notes[0]
    item.properties["earthsearch:boa_offset_applied"] = False
    with pytest.raises(LulcbenchError, match="earthsearch:boa_offset_applied False and sentinel:boa_offset_applied"):
        sentinel2.SOURCE.scene(item, BANDS)


@pytest.mark.parametrize(("name", "good"), [("x_3B_AnalyticMS.tif", False), ("x_3B_AnalyticMS_SR.tif", True)])
def test_radiance_of_planetscope_is_not_reflectance(tmp_path: Path, name: str, good: bool) -> None:
    values = np.stack([dn(500, 900)] * 4)
    path = write_raster(tmp_path / name, values, grid(10)[0], "EPSG:3035", 0, ("blue", "green", "red", "nir"))
    item = scene_item({"data": path}, s2__processing_baseline=None)
    if good:
        assert planet.SOURCE.scene(item).assets
    else:
        with pytest.raises(UnusableSceneError, match="is radiance at the sensor"):
            planet.SOURCE.scene(item)


def test_a_coding_that_was_told_is_not_overruled(tmp_path: Path) -> None:
    """Bright soil has no dark pixels, as if the offset were there."""
    item, _ = scene(tmp_path, False, NONE)
    assert "offset -0.1 is applied" in sentinel2.SOURCE.scene(item, BANDS).notes[0]
    item.properties["lulcbench:coding"] = "told"
    settled = sentinel2.SOURCE.scene(item, BANDS)
    assert {asset.offset for asset in settled.assets.values()} == {0}
    assert settled.notes == ("the coding that was told is used: scale 0.0001, offset 0",)


@pytest.mark.parametrize("key", ["qa", "udm2", "ortho_udm2", "20180710_103029_23_2276_3B_udm2_tif", "mask"])
@pytest.mark.parametrize("listed", [True, False], ids=["bands listed", "bands in the file"])
def test_usable_data_masks_of_planetscope_are_found_by_their_names(tmp_path: Path, key: str, listed: bool) -> None:
    values = np.stack([dn(500, 900)] * 4)
    where, shape = grid(10)
    names = ("clear", "snow", "cloud")
    mask = np.zeros((3, *shape), np.uint8)
    mask[0, :, : shape[1] // 2] = 1
    data = write_raster(
        tmp_path / "x_3B_AnalyticMS_SR.tif", values, where, "EPSG:3035", 0, ("blue", "green", "red", "nir")
    )
    file = write_raster(
        tmp_path / ("mask.tif" if key != "mask" else "x_3B_udm2.tif"),
        mask,
        where,
        "EPSG:3035",
        None,
        () if listed and key != "qa" else names,
    )
    bands = [{"name": name} for name in names] if listed and key != "qa" else []
    asset = pystac.Asset(str(file), extra_fields={"bands": bands} if bands else {})
    item = scene_item({"data": data, key: asset}, s2__processing_baseline=None)
    wanted = (PLANET.band("red"),)
    found = planet.SOURCE.scene(item, wanted)
    assert planet.SOURCE.knows_clouds(found)
    assert 0.4 < planet.SOURCE.read(found, AREA, wanted).clear.mean() < 0.6
    del item.assets[key]
    assert not planet.SOURCE.knows_clouds(planet.SOURCE.scene(item, wanted))


def test_clouds_of_planet_fusion_are_filled(tmp_path: Path) -> None:
    values = np.stack([dn(500, 900)] * 4)
    path = write_raster(
        tmp_path / "PF-SR_20180710.tif", values, grid(10)[0], "EPSG:3035", 0, ("blue", "green", "red", "nir")
    )
    item = scene_item({"data": path}, s2__processing_baseline=None)
    assert planet.SOURCE.knows_clouds(planet.SOURCE.scene(item))


@pytest.mark.parametrize(
    ("start", "end", "last"),
    [
        ("2018-01-01T00:00:00Z", "2019-01-01T00:00:00Z", "2018-12-31T23:59:59+00:00"),
        ("2018-01-01T00:00:00Z", "2018-12-31T23:59:59Z", "2018-12-31T23:59:59+00:00"),
        ("2018-07-01T00:00:00Z", "2018-07-01T00:00:00Z", "2018-07-01T00:00:00+00:00"),
    ],
)
def test_a_period_that_ends_at_midnight_has_nothing_of_the_next_day(
    tmp_path: Path, start: str, end: str, last: str
) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(1500, 3500), start_datetime=start, end_datetime=end)
    found = sentinel2.SOURCE.scene(item, BANDS)
    assert found.end == last
    assert not found.falls_in((date(2019, 1, 1), date(2019, 12, 31)))
