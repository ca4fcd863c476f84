"""The recipe of EuroSAT on LUISA, with the patches and label maps that are here in place of its downloads."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import zarr
from rasterio.warp import Resampling, reproject, transform
from typer.testing import CliRunner

from builders.__main__ import app
from builders.archives.luisa import EDITIONS
from builders.recipe import RECIPES
from lulcbench.grid import Tile
from lulcbench.release import Manifest
from lulcbench.sensors import SENTINEL2

pytestmark = pytest.mark.real

CHANNELS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A"]


@pytest.mark.parametrize(
    ("patches", "place", "patch"),
    [
        ("eurosat_ms/eurosat_ms_100.zip", "bremen", "River/River_2160.tif"),
        ("eurosat_ms_277/eurosat_ms_277.zip", "bremen", "River/River_2057.tif"),
        ("eurosat_ms_277/eurosat_ms_277.zip", "larochelle", "River/River_1977.tif"),
    ],
    ids=["River_2160", "River_2057", "River_1977"],
)
def test_patches_are_at_their_places_with_their_labels(
    real_data: Path, tmp_path: Path, patches: str, place: str, patch: str
) -> None:
    (labels,) = real_data.glob(f"luisa*/luisa_2018_{place}_100m.tif")
    edition = f"2018-{place}-decoded"
    settings = [f"ingest.path={real_data / patches}", f"labels.0.path={labels}", "downloads=[]"]
    settings += [f"labels.0.edition={edition}", f"labels.0.sha256={EDITIONS[edition].sha256}"]
    settings += ["split.fractions={ train = 1.0 }", "split.min_labelled=0.0", "split.block=1", "split.buffer=0"]
    arguments = ["build", str(RECIPES / "luisa-eurosat.toml"), "--out", str(tmp_path / "out"), "--workers", "1"]
    ended = CliRunner().invoke(app, [*arguments, *(text for setting in settings for text in ("--set", setting))])
    # The audit sees that the patches are Level-1C: the air makes leaves bright in blue.
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert {*audit["problems"]} == {"leaves are dark in blue"}, f"{ended.output[-3000:]} {ended.exception}"

    with zipfile.ZipFile(real_data / patches) as archive:
        archive.extract(patch, tmp_path)
    release = Manifest.load(tmp_path / "out")
    index = pd.read_parquet(tmp_path / "out" / "index.parquet")
    stored = zarr.open_array(tmp_path / "out" / "sentinel2_2018", mode="r")
    names = release.sensors["sentinel2"].band_names
    covered = 0
    with rasterio.open(tmp_path / patch) as file:
        for row, name in enumerate(index["id"]):
            image = SENTINEL2.coding.decode(np.asarray(stored[row])[0])
            tile = Tile.from_id(name)
            for band in ("B02", "B08", "B8A", "B12"):
                expected = np.zeros(tile.shape(10), np.float32)
                reproject(
                    rasterio.band(file, CHANNELS.index(band) + 1), expected, dst_transform=tile.transform(10),
                    dst_crs="EPSG:3035", resampling=Resampling.bilinear, src_nodata=0, dst_nodata=0,
                )  # fmt: skip
                found = image[names.index(band)]
                both = np.isfinite(found) & (expected > 0)
                if both.any():  # GDAL's two ways place a few pixels of sharp edges up to an eighth of a pixel apart
                    difference = np.abs(found[both] - expected[both] / 1e4)
                    assert difference.mean() < 0.001
                    assert difference.max() < 0.02
                covered += int(both.sum()) if band == "B02" else 0
    assert covered == pytest.approx(64 * 64, rel=0.05)

    # The river is labelled as water, and lies where the table of coordinates has it.
    with (real_data / Path(patches).parent / "georef.csv").open() as table:
        entry = next(row for row in csv.DictReader(table) if row["name"] == Path(patch).name)
    (x,), (y,) = transform("EPSG:4326", "EPSG:3035", [float(entry["lon_c"])], [float(entry["lat_c"])])
    assert Tile(int(x // 4800), int(y // 4800)).id in set(index["id"])
    assert max(index[f"luisa_2018_{code}"].max() for code in (5110, 5120, 5220)) > 0
