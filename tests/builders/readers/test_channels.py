"""Which channel is meant: item and file must agree, and a picture is never taken for a band."""

import json
import warnings
from pathlib import Path

import numpy as np
import pystac
import pytest

from builders.archives import label_source, sentinel2
from builders.readers.area import Area
from builders.readers.items import channels, choose, quality_channel
from builders.readers.scene import UnusableSceneError
from builders.readers.statements import extent
from builders.recipe import LabelRule
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile
from lulcbench.sensors import LANDSAT, SENTINEL2
from tests.builders.readers.scenes import BANDS, TILE, dn, grid, inside, read, scene_item, two_bands, write_band
from tests.builders.world import write_raster

RED, NIR = BANDS


def asset(path: Path, *names: str, **extra: object) -> pystac.Asset:
    bands = [{"name": name} for name in names]
    return pystac.Asset(str(path), extra_fields={"eo:bands": bands, **extra})


def test_a_picture_with_the_same_names_is_not_a_band(tmp_path: Path) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    names = [{"name": "B04", "common_name": "red"}, {"name": "B03", "common_name": "green"}, {"name": "B02"}]
    picture = write_band(tmp_path / "TCI.tif", np.full((3, *grid(10)[1]), 9, np.uint8), None)
    for key, roles in (("visual", ["data"]), ("rgb", ["visual"]), ("a", ["overview"])):
        item.assets = {key: pystac.Asset(str(picture), roles=roles, extra_fields={"eo:bands": names})} | item.assets
    np.testing.assert_allclose(read(item)[0], inside(dn(1500, 3500)) * 1e-4, atol=6e-5)
    del item.assets["red"]
    with pytest.raises(UnusableSceneError, match="has no asset for B04"):
        read(item)


def test_of_several_resolutions_the_finest_is_taken_by_its_key(tmp_path: Path) -> None:
    """As in CDSE, whose B07_60m repeats the gsd of B07_20m."""
    paths = {key: write_band(tmp_path / f"{key}.tif", dn(1500, 3500)) for key in ("B04_60m", "B04_10m", "B04_20m")}
    item = scene_item({key: asset(path, "B04", gsd=10) for key, path in paths.items()})
    assert choose("s", channels(item), RED, SENTINEL2.bands).key == "B04_10m"
    item = scene_item({"SCL_60m": paths["B04_60m"], "SCL_20m": paths["B04_20m"]})
    assert quality_channel(channels(item), "scl").key == "SCL_20m"


def test_bands_of_an_item_may_be_described_in_the_old_and_the_new_form_of_stac_together(tmp_path: Path) -> None:
    extra = {"bands": [{"name": "B04"}], "raster:bands": [{"scale": 2e-4, "offset": -0.1, "nodata": 7}]}
    [channel] = channels(scene_item({"a": pystac.Asset(str(tmp_path / "a.tif"), extra_fields=extra)}))
    assert (channel.names, channel.scale, channel.offset, channel.nodata) == (("B04",), 2e-4, -0.1, 7)


@pytest.mark.parametrize(
    ("forms", "told"),
    [
        ({"raster:bands": [{"scale": 1e-4}], "bands": [{"raster:scale": 2e-4}]}, r"scale 0\.0001 and 0\.0002"),
        ({"bands": [{"scale": 1e-4, "raster:scale": 2e-4}]}, r"scale 0\.0001 and 0\.0002"),
        ({"raster:bands": [{"nodata": 0}], "bands": [{"nodata": -9999}]}, "nodata 0 and -9999"),
        (
            {"eo:bands": [{"name": "B04"}, {"name": "B03"}], "raster:bands": [{"scale": 2e-4}]},
            "2 in eo:bands and 1 in raster:bands",
        ),
    ],
)
def test_the_forms_of_stac_must_not_contradict_each_other(tmp_path: Path, forms: dict, told: str) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    item.assets["red"].extra_fields |= forms
    with pytest.raises(LulcbenchError, match=f"asset 'red' states two things for B04: {told}"):
        sentinel2.SOURCE.scene(item, BANDS)


def test_the_forms_of_stac_may_say_the_same_in_other_spellings(tmp_path: Path) -> None:
    red = dn(1500, 3500)
    item = two_bands(tmp_path, red, dn(2500, 4500))
    item.assets["red"].extra_fields |= {
        "eo:bands": [{"name": "B4"}],
        "raster:bands": [{"scale": 1e-4, "nodata": 0}],
        "bands": [{"name": "red", "raster:scale": "0.0001", "nodata": 0.0}],
    }
    np.testing.assert_allclose(read(item)[0], inside(red) * 1e-4, atol=6e-5)
    item.assets["red"].extra_fields["eo:bands"] = [{"name": "B08"}]
    with pytest.raises(LulcbenchError, match=r"has B04 as asset 'red', but describes it as 'B08'"):
        read(item)


def test_two_files_for_one_band_are_an_error_that_names_both(tmp_path: Path) -> None:
    paths = [write_band(tmp_path / f"{i}.tif", dn(1500, 3500)) for i in "ab"]
    item = scene_item({"first": asset(paths[0], "B04"), "second": asset(paths[1], "B04")})
    with pytest.raises(LulcbenchError, match="B04 in the assets 'first' and 'second'"):
        sentinel2.SOURCE.scene(item)


def test_one_file_for_two_bands_is_an_error(tmp_path: Path) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    item.assets["nir"].href = item.assets["red"].href
    with pytest.raises(LulcbenchError, match=r"has B04 and B08 both in band \d of .*red\.tif"):
        sentinel2.SOURCE.scene(item, BANDS)


def test_key_and_name_of_one_asset_must_agree(tmp_path: Path) -> None:
    item = scene_item({"red": asset(write_band(tmp_path / "a.tif", dn(1500, 3500)), "B03")})
    with pytest.raises(LulcbenchError, match=r"has B04 as asset 'red', but describes it as 'B03' \(B03\)"):
        sentinel2.SOURCE.scene(item)


def test_item_and_file_must_agree_on_the_order_of_bands(tmp_path: Path) -> None:
    red, nir = dn(1500, 3500), dn(2500, 4500, 1)
    path = write_band(tmp_path / "both.tif", np.stack([nir, red]), names=("nir", "B4"))
    item = scene_item({"data": asset(path, "B04", "B08")})
    with pytest.raises(LulcbenchError, match=r"(?s)has B04 \(red\) in band 1 of .*1 \(nir\), 2 \(B4\)"):
        read(item)
    np.testing.assert_allclose(read(scene_item({"data": asset(path, "B08", "B04")}))[0], inside(red) * 1e-4, atol=6e-5)
    with pytest.raises(LulcbenchError, match=r"lists 3 bands of .*, but the file has 2"):
        read(scene_item({"data": asset(write_band(tmp_path / "plain.tif", np.stack([red, nir])), "B03", "B04", "B08")}))


def test_an_item_that_lists_some_bands_of_a_file_does_not_say_which(tmp_path: Path) -> None:
    stack = np.stack([dn(400, 500), dn(1500, 3500), dn(2500, 4500)])
    path = write_band(tmp_path / "stack.tif", stack)
    with pytest.raises(LulcbenchError, match=r"lists 2 bands of .*stack\.tif, but the file has 3"):
        sentinel2.SOURCE.scene(scene_item({"data": asset(path, "B04", "B08")}), BANDS)


def test_a_single_band_that_the_file_describes_otherwise_is_an_error(tmp_path: Path) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    write_band(tmp_path / "red.tif", dn(1500, 3500), names=("B03",))
    with pytest.raises(LulcbenchError, match=r"1 \(B03\)"):
        read(item)


def test_files_describe_bands_that_the_item_does_not_name(tmp_path: Path) -> None:
    red, nir = dn(1500, 3500), dn(2500, 4500, 1)
    path = write_band(tmp_path / "s.tif", np.stack([nir, red]), names=("B8", "b04"))
    np.testing.assert_allclose(read(scene_item({"data": path})), inside(np.stack([red, nir])) * 1e-4, atol=6e-5)


def test_labels_of_several_bands_need_one_that_is_meant(tmp_path: Path) -> None:
    transform, shape = grid(50, 0)
    stack = np.stack([np.full(shape, code, np.uint16) for code in (2110, 3110, 1111)])
    area = Area.of([TILE], 50)

    def codes(path: Path, **more: object) -> list[int]:
        rule = LabelRule(year=2018, source="luisa", path=path, **more)
        return np.unique(label_source(rule).read(area).codes).tolist()

    years = write_raster(tmp_path / "years.tif", stack, transform, "EPSG:3035", 0, ("2006", "CLC 2012", "CLC_2018_v2"))
    assert codes(years) == [1111]
    assert codes(years, band=1) == [2110]
    assert codes(years, band="CLC 2012") == [3110]
    plain = write_raster(tmp_path / "plain.tif", stack, transform, "EPSG:3035", 0)
    for more in ({}, {"band": 4}, {"band": "2018"}):
        with pytest.raises(LulcbenchError, match=r"(?s)3 bands, and it is not clear.*Set 'band'"):
            codes(plain, **more)


def item_of(**properties: object) -> pystac.Item:
    return scene_item({}, **properties)


@pytest.mark.parametrize(
    "told",
    [
        {"s2__product_type": "S2MSI1C"},
        {"product__type": "S2MSI1C"},
        {"processing__level": "L1C"},
        {"name": "S2B_33UUU_20170216_0_L1C"},
        {"name": "S2A_MSIL1C_20170216T102101_N0204_R065_T33UUU"},
    ],
)
def test_level_1c_is_not_taken_for_level_2a(tmp_path: Path, told: dict) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500), **told)
    with pytest.raises(UnusableSceneError, match="Level-1C, top-of-atmosphere"):
        read(item)
    item.collection_id = "sentinel-2-l1c"  # which a recipe must name on purpose
    assert np.isfinite(read(item)).all()


@pytest.mark.parametrize(
    ("bbox", "touches"),
    [
        ([9.9, 51.1, 10.2, 51.3], True),
        ([9.9, 51.1, 120.0, 10.2, 51.3, 900.0], True),  # with heights
        ([178.2, -17.9, -179.3, -16.8], False),  # across the antimeridian
        ([-180, -90, 180, 90], True),
        ([165.0, -48.0, 172.0, -41.0], False),
    ],
)
def test_boxes_of_items_are_understood(bbox: list[float], touches: bool) -> None:
    item = item_of()
    item.bbox = bbox
    left, bottom, right, top = extent(item)
    box = Tile(900, 650).bounds
    assert (left < box[2] and box[0] < right and bottom < box[3] and box[1] < top) is touches


@pytest.mark.parametrize("bbox", [[1, 2, 3], [9, 52, 10, 51], ["a", 1, 2, 3], [500000, 5600000, 600000, 5700000]])
def test_what_is_not_a_box_is_named(bbox: list) -> None:
    item = item_of()
    item.bbox = bbox
    with pytest.raises(LulcbenchError, match="has the bbox"):
        extent(item)


@pytest.mark.real
def test_channels_of_real_items_are_those_of_their_archives(real_data: Path) -> None:
    """Each of the 28 items, of nine archives: the finest file of each band, and the quality layer."""
    found = {}
    for path in sorted((real_data / "stac_items").glob("*.json")):
        content = json.loads(path.read_text())
        if content.get("type") != "Feature":
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            item = pystac.Item.from_dict(content)
        item.set_self_href(str(path))
        sensor = LANDSAT if "LC0" in path.name or "LE07" in path.name or "LT05" in path.name else SENTINEL2
        if "planet" in path.name or "60W" in path.name:
            continue
        available = channels(item)
        chosen = {band.name: choose(item.id, available, band, sensor.bands) for band in sensor.bands}
        keys = {name: channel.key for name, channel in chosen.items() if channel}
        quality = quality_channel(available, sensor.quality_asset)
        found[path.name.split("__")[0] + (" L1C" if "L1C" in path.name else "")] = (keys, quality and quality.key)
    assert found["cdse"][0] == {
        **{f"B{n:02d}": f"B{n:02d}_10m" for n in (2, 3, 4, 8)},
        **{f"B{n:02d}": f"B{n:02d}_20m" for n in (1, 5, 6, 7, 11, 12)},
        "B8A": "B8A_20m",
        "B09": "B09_60m",
    }
    assert found["cdse"][1] == "SCL_20m"
    assert found["es1-l2a"][0]["B8A"] == "nir08"
    assert found["es1-l2a"][0]["B04"] == "red"
    assert found["es1-l2a"][1] == "scl"
    assert found["pc-s2"][0]["B05"] == "B05"  # its bands 5, 6 and 7 all have the common name rededge
    assert found["pc-s2"][1] == "SCL"
    assert found["stactools-s2"][0]["B04"] == "red"
    assert found["pc-landsat"][0]["nir08"] == "nir08"
    assert found["pc-landsat"][1] == "qa_pixel"


@pytest.mark.parametrize("platform", ["landsat-8", "LANDSAT_9", "LC08", "Sentinel-1A"])
def test_bands_of_another_satellite_are_not_taken_for_those_of_the_same_name(tmp_path: Path, platform: str) -> None:
    """As those of the harmonised Landsat and Sentinel-2 (HLS), in which B05 is near infrared or red edge."""
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500), platform=platform)
    scl = item.assets.pop("scl")
    refused = f"is of {platform}, not of sentinel2"
    with pytest.raises(UnusableSceneError, match=refused):
        sentinel2.SOURCE.scene(item, BANDS)
    item.assets["scl"], item.collection_id = scl, "hls2-l30"
    with pytest.raises(UnusableSceneError, match=refused):
        sentinel2.SOURCE.scene(item, BANDS)
    item.collection_id = "sentinel-2-l2a"
    scene = sentinel2.SOURCE.scene(item, BANDS)
    assert f"the platform {platform} is not one of sentinel2" in scene.notes[0]  # two witnesses against one
    item.properties["platform"] = "S2B"
    assert not any("platform" in note for note in sentinel2.SOURCE.scene(item, BANDS).notes)


@pytest.mark.parametrize("wavelength", [0.865, 865.0])
def test_a_wavelength_of_another_band_contradicts_the_name(tmp_path: Path, wavelength: float) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    for key, right in (("nir", True), ("red", False)):
        item.assets[key].extra_fields["eo:bands"] = [{"name": key, "center_wavelength": wavelength}]
        if right:
            assert sentinel2.SOURCE.scene(item, BANDS).assets
    with pytest.raises(LulcbenchError, match=r"has B04 as asset 'red', but states its wavelength as 0\.865 µm"):
        sentinel2.SOURCE.scene(item, BANDS)
