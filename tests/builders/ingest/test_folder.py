"""Own scenes and labels: what is recognised, and what is requested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders.archives import scene_source
from builders.ingest.folder import understand
from builders.readers.area import Area
from builders.recipe import IngestRule, load
from builders.stages._catalogs import stored_items
from tests.builders.own import LUISA, TILE, UTM, ingest, luisa, raster


def red(site: Path) -> float:
    """Reflectance in the red band of the ingested scene, read as the builders do."""
    recipe = load(site / "recipe.toml", site)
    rule = recipe.sensors[0]
    source = scene_source(rule.name)
    (item,) = stored_items(recipe.catalog)
    band = next(band for band in source.sensor.bands if band.asset == "red")
    pixels = source.read(source.scene(item), Area.of([TILE], source.sensor.resolution), (band,))
    values = source.sensor.coding.decode(pixels.stored)
    assert pixels.clear.all()
    return float(np.unique(values[0]).item())


def safe(folder: Path, level: str = "L2A", baseline: str = "0400") -> Path:
    """A product of 02.07.2022 as ESA packs it; red is reflectance 0.15."""
    name = f"S2B_MSI{level}_20220702T102559_N{baseline}_R108_T32UNE_20220702T133912"
    root = folder / f"{name}.SAFE"
    images = root / "GRANULE" / f"{level}_T32UNE_A027787_20220702T102601" / "IMG_DATA"
    tile = "T32UNE_20220702T102559"
    for band, dn, pixel in (("B04", 2500, 10), ("B08", 4000, 10), ("B11", 3000, 20)):
        where = (
            (images / f"R{pixel}m" / f"{tile}_{band}_{pixel}m.jp2") if level == "L2A" else images / f"{tile}_{band}.jp2"
        )
        raster(where, dn, pixel=pixel)
    if level == "L2A":
        raster(images / "R60m" / f"{tile}_B04_60m.jp2", 1, pixel=60)
        raster(images / "R20m" / f"{tile}_SCL_20m.jp2", 4, dtype="uint8", pixel=20)
        raster(images / "R10m" / f"{tile}_TCI_10m.jp2", [9, 9, 9], dtype="uint8", pixel=60)
    (root / f"MTD_MSI{level}.xml").write_text(
        f"<x><PROCESSING_BASELINE>{baseline[:2]}.{baseline[2:]}</PROCESSING_BASELINE>"
        "<Cloud_Coverage_Assessment>12.5</Cloud_Coverage_Assessment></x>"
    )
    return root


def test_files_that_are_not_read_are_listed_and_hidden_ones_are_none(tmp_path: Path) -> None:
    root = safe(tmp_path / "scenes")
    for name in ("scene.img", "S2B.zip", "._T32UNE_20220702T102559_B04_10m.jp2", "notes.txt"):
        (root.parent / name).write_bytes(b"junk")
    said = ingest(tmp_path / "scenes", "--out", tmp_path / "site")
    for name in ("scene.img", "S2B.zip"):
        assert f"not used: {name}: neither GeoTIFF nor JPEG 2000" in said
    assert "._T32UNE" not in said
    assert "notes.txt" not in said


def test_a_safe_folder_tells_everything(tmp_path: Path) -> None:
    safe(tmp_path / "scenes")
    said = ingest(tmp_path / "scenes", "--out", tmp_path / "site")
    for line in (
        "1 scene of sentinel2 sentinel-2b L2A",
        "B04 B08 B11",
        "0.0001 · DN -0.1 (baseline 04.00)",
        UTM,
        "quality layer scl",
        "2022-07-02  S2B_MSIL2A_20220702T102559",
        "B04_60m.jp2: the same band at another resolution",
        "TCI_10m.jp2: layer that is not used",
    ):
        assert line in said
    (scene,) = understand(IngestRule(path=tmp_path / "scenes")).scenes
    assert (scene.cloud, scene.baseline) == (12.5, "04.00")


def test_level_1c_is_refused_unless_it_is_allowed_and_stated(tmp_path: Path) -> None:
    safe(tmp_path / "scenes", "L1C", "0204")
    assert "Level-1C: reflectance at the top of the atmosphere" in ingest(
        tmp_path / "scenes", "--out", tmp_path / "site", ok=False
    )
    assert not (tmp_path / "site").exists()
    said = ingest(tmp_path / "scenes", "--out", tmp_path / "site", "--allow-l1c", "--labels", luisa(tmp_path), *LUISA)
    assert "none: all pixels count as clear" in said
    recipe = load(tmp_path / "site" / "recipe.toml", tmp_path)
    assert recipe.sensors[0].collection == "sentinel-2-l1c"
    assert "top of the atmosphere" in recipe.description
    assert red(tmp_path / "site") == pytest.approx(0.25, abs=1e-4)  # no offset before baseline 04.00


@pytest.mark.parametrize(
    ("make", "options", "expected"),
    [
        (  # by names of files
            lambda f: [raster(f / f"site_s2_2018-07-02_{b}.tif", dn) for b, dn in (("B04", 1500), ("B08", 3000))],
            ["--scale", "0.0001"],
            0.15,
        ),
        (  # by descriptions
            lambda f: raster(f / "site.tif", [3000, 1500], ("nir", "red")),
            ["--sensor", "sentinel2", "--date", "2018-07-02", "--scale", "1e-4"],
            0.15,
        ),
        (  # by order, of floats that are reflectance
            lambda f: raster(f / "s2_20180702.tif", [0.3, 0.15, 0.1], dtype="float32"),
            ["--bands", "B08,B04,B03", "--scale", "1"],
            0.15,
        ),
        (  # by names of the USGS
            lambda f: [
                raster(f / f"LC08_L2SP_193024_20180702_20200831_02_T1_{b}.TIF", dn)
                for b, dn in (("SR_B4", 12727), ("SR_B5", 20000), ("QA_PIXEL", 1 << 6))
            ],
            [],
            12727 * 2.75e-5 - 0.2,
        ),
        (  # numbers of Landsat 5
            lambda f: raster(f / "lt05_20060702.tif", [12727, 20000], ("B3", "B4")),
            ["--scale", "2.75e-5", "--offset", "-0.2"],
            12727 * 2.75e-5 - 0.2,
        ),
    ],
)
def test_values_are_read_as_understood(tmp_path: Path, make, options: list[str], expected: float) -> None:
    make(tmp_path / "scenes")
    labels = luisa(tmp_path)
    ingest(tmp_path / "scenes", "--out", tmp_path / "site", *options, "--labels", labels, *LUISA)
    assert red(tmp_path / "site") == pytest.approx(expected, abs=1e-4)


S2 = ["--sensor", "sentinel2", "--date", "2018-07-02"]


@pytest.mark.parametrize(
    ("make", "options", "what", "remedy"),
    [
        (lambda f: raster(f / "a.tif", 1), [], "does not tell its sensor", "--sensor"),
        (lambda f: raster(f / "s2_x_B04.tif", 1500), ["--scale", "1e-4"], "tells no date", "--date"),
        (
            lambda f: raster(f / "s2_20180601_20180702_B04.tif", 1500),
            ["--scale", "1e-4"],
            "2018-06-01 and 2018-07-02",
            "--date",
        ),
        (lambda f: raster(f / "s2_20180702.tif", [1500, 3000]), ["--scale", "1e-4"], "has 2 bands", "--bands B02,B03"),
        (lambda f: raster(f / "s2_20180702.tif", 1500), ["--scale", "1e-4"], "has 1 band,", "--bands"),
        (
            lambda f: raster(f / "s2_20180702.tif", [1500] * 13),
            ["--scale", "1e-4", "--bands", "B04,B03,B02"],
            "has 13 bands, but --bands names 3",
            "every band",
        ),
        (
            lambda f: raster(f / "s2_20180702.tif", [1500, 3000], ("B08", "B04")),
            ["--scale", "1e-4", "--bands", "B04,B08"],
            "Band 1 of s2_20180702.tif is described as 'B08', but --bands names it B04",
            "Correct --bands",
        ),
        (
            lambda f: raster(f / "s2_20180702_B04.tif", 1500, ("B08",)),
            ["--scale", "1e-4"],
            "is B04 by its name, but its band is described as 'B08'",
            "Rename",
        ),
        (
            lambda f: raster(f / "landsat_20180702.tif", [9000, 9000], ("B4", "B5")),
            ["--scale", "2.75e-5"],
            "numbers mean other bands",
            "--platform",
        ),
        (lambda f: raster(f / "s2_20180702_B04.tif", 1500), [], "how its numbers become reflectance", "--baseline"),
        (lambda f: raster(f / "s2_20180702_B04.tif", 1500), ["--scale", "1"], "is not reflectance", "--scale"),
        (lambda f: raster(f / "s2_20180702_B04.tif", 1500), ["--scale", "1e-7"], "is not reflectance", "--scale"),
        (
            lambda f: [raster(f / "s2_20180702_B04.tif", 1500), raster(f / "s2_20180702_b4.tif", 1500)],
            ["--scale", "1e-4"],
            "same band B04",
            "Keep one",
        ),
        (
            lambda f: [
                raster(f / "s2_20180702_B04.tif", 1500),
                raster(f / "s2_20180702_B08.tif", 1500, crs="EPSG:32633"),
            ],
            ["--scale", "1e-4"],
            "several CRS",
            "scenes of their own",
        ),
        (lambda f: raster(f / "s2_20180702_B04.tif", 1500), ["--sensor", "landsat"], "by its name", "--sensor"),
        (
            lambda f: raster(f / "LC08_L1TP_193024_20180702_20200831_02_T1_B4.TIF", 9000),
            [],
            "not Landsat Collection 2 Level-2",
            "L2SP",
        ),
        (lambda f: safe(f), ["--baseline", "02.04"], "is of baseline 04.00, not 02.04", "Leave"),
        (lambda f: (f / "x.txt").write_text(""), [], "contains no scene", "GeoTIFF"),
        (
            lambda f: (f / "s2_20180702_B04.tif").write_bytes(b"II*\0broken"),
            ["--scale", "1"],
            "Cannot read",
            "truncated",
        ),
        (
            lambda f: raster(f / "s1_20180702_VV.tif", -11, dtype="float32"),
            [],
            "the unit of its backscatter",
            "--unit dB",
        ),
        (
            lambda f: raster(f / "s1_20180702_VV.tif", -11, dtype="float32"),
            ["--unit", "1"],
            "is not linear backscatter",
            "--unit",
        ),
        (
            lambda f: raster(f / "s1_20180702_VV.tif", 0.08, dtype="float32"),
            ["--unit", "dB"],
            "is not backscatter in dB",
            "--unit",
        ),
        (lambda f: raster(f / "s2_20180702_B04.tif", 1500), ["--date", "July"], "date", "2018-07-02"),
        (lambda f: raster(f / "s2_20180702_B04.tif", 1500), ["--offset", "0"], "without scale", "--help"),
    ],
)
def test_what_files_do_not_tell_is_asked_for(tmp_path: Path, make, options: list[str], what: str, remedy: str) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    make(folder)
    said = ingest(folder, "--out", tmp_path / "site", *options, ok=False)
    assert what in said
    assert remedy in said
    assert not (tmp_path / "site" / "recipe.toml").exists()


def test_sites_with_the_same_names_of_files_are_scenes_of_their_own(tmp_path: Path) -> None:
    for site in ("east", "west"):
        for band in ("B04", "B08"):
            raster(tmp_path / "scenes" / site / f"s2_20180702_{band}.tif", 1500)
    scenes, _ = understand(IngestRule(path=tmp_path / "scenes", scale=1e-4))
    assert [scene.id for scene in scenes] == ["east_s2_20180702", "west_s2_20180702"]
    assert [len(scene.bands) for scene in scenes] == [2, 2]


@pytest.mark.parametrize(("value", "unit"), [(-11, "dB"), (10**-1.1, "1")])
def test_backscatter_is_read_in_its_unit(tmp_path: Path, value: float, unit: str) -> None:
    for name in ("VV", "VH"):
        raster(tmp_path / "scenes" / f"s1_20180702_{name}.tif", value, dtype="float32")
    options = ["--unit", unit, "--labels", luisa(tmp_path), *LUISA]
    ingest(tmp_path / "scenes", "--out", tmp_path / "site", *options)
    recipe = load(tmp_path / "site" / "recipe.toml", tmp_path)
    source = scene_source("sentinel1")
    (item,) = stored_items(recipe.catalog)
    pixels = source.read(source.scene(item), Area.of([TILE], 10), source.sensor.bands)
    assert np.unique(source.sensor.coding.decode(pixels.stored)) == pytest.approx([-11], abs=0.01)


def test_a_stack_of_dates_becomes_a_scene_for_each(tmp_path: Path) -> None:
    raster(tmp_path / "stack.tif", [1000, 3000, 1500, 3000, 2000, 3000])
    dates = [f"--date=2018-0{month}-15" for month in (5, 6, 7)]
    options = ["--sensor", "sentinel2", "--bands", "B04,B08", "--scale", "1e-4"]
    ingest(tmp_path / "stack.tif", "--out", tmp_path / "site", *options, *dates, "--labels", luisa(tmp_path), *LUISA)
    recipe = load(tmp_path / "site" / "recipe.toml", tmp_path)
    source = scene_source("sentinel2")
    values = []
    for item in stored_items(recipe.catalog):
        scene = source.scene(item)
        pixels = source.read(scene, Area.of([TILE], 10), (source.sensor.band("B04"), source.sensor.band("B08")))
        both = source.sensor.coding.decode(pixels.stored)
        values.append((scene.start[:10], round(float(both[0].mean()), 4), round(float(both[1].mean()), 4)))
    assert values == [("2018-05-15", 0.1, 0.3), ("2018-06-15", 0.15, 0.3), ("2018-07-15", 0.2, 0.3)]
    said = ingest(tmp_path / "stack.tif", "--out", tmp_path / "b", *options, *dates[:2], ok=False)
    assert "has 6 bands, but --bands names 2 and --date 2 dates" in said
