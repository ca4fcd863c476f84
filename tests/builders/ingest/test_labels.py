"""Own labels: how their words and numbers are mapped, and what is requested."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from typer.testing import CliRunner

from builders.__main__ import app
from builders.archives import label_source
from builders.readers.area import Area
from builders.recipe import load
from lulcbench.datasets import LuisaSeg
from lulcbench.legend import IGNORE_INDEX
from tests.builders import world
from tests.builders.own import LUISA, TILE, ingest, luisa, raster


def polygons(path: Path, values: list[object]) -> Path:
    """Strips of the tile from west to east."""
    left, bottom, right, top = TILE.bounds
    width = (right - left) / len(values)
    boxes = [shapely.box(left + i * width, bottom, left + (i + 1) * width, top) for i in range(len(values))]
    geopandas.GeoDataFrame({"use": values}, geometry=boxes, crs=3035).to_file(path)
    return path


@pytest.mark.slow
def test_own_polygons_are_mapped_by_words_and_become_a_release(tmp_path: Path) -> None:
    raster(tmp_path / "scenes" / "s2_20180702_B04.tif", 1500)
    labels = polygons(tmp_path / "osm.gpkg", ["forest", "farm land", None, "unclear"])
    site, mapping = tmp_path / "site", tmp_path / "map.toml"
    command = [tmp_path / "scenes", "--out", site, "--scale", "1e-4", "--labels", labels]
    assert "Name the column of their codes" in ingest(*command, ok=False)
    said = ingest(*command, "--field", "use", ok=False)
    assert "values without a LUISA code: forest (1), farm land (1), unclear (1)" in said
    template = (site / "mapping.toml").read_text()
    assert '# "farm land" = ?  # 1' in template
    filled = template.replace('# "farm land" = ?', '"farm land" = 21').replace('# "forest" = ?', "forest = 3")
    mapping.write_text(filled)
    assert "unclear (1)" in ingest(*command, "--mapping", mapping, ok=False)
    assert "forest = 3" in (site / "mapping.toml").read_text().replace('"forest"', "forest")  # what was filled in stays
    mapping.write_text(filled.replace('# "unclear" = ?', '"unclear" = 99'))
    assert "'unclear' is mapped to 99, which is not a LUISA code" in ingest(*command, "--mapping", mapping, ok=False)
    mapping.write_text(filled.replace('# "unclear" = ?', '"unclear" = 0'))
    ingest(*command, "--mapping", mapping)
    recipe = load(site / "recipe.toml", site)
    assert recipe.labels[0].codes == {"forest": 3, "farm land": 21, "unclear": 0}
    assert recipe.split.stratify_level == 1
    assert "exists" in ingest(*command, "--mapping", mapping, ok=False)
    built = CliRunner().invoke(
        app, ["build", str(site / "recipe.toml"), "--out", str(tmp_path / "r"), "--workers", "1"]
    )
    assert built.exit_code == 0, (built.output, built.exception)
    labels_of_tile = LuisaSeg(tmp_path / "r", sensors="sentinel2", level=1, window=4800)[0]["mask"].numpy()
    # 0 is the first class of level 1, agriculture the second and forest the third.
    assert np.unique(labels_of_tile[:, :118]).tolist() == [2]
    assert np.unique(labels_of_tile[:, 122:238]).tolist() == [1]
    assert np.unique(labels_of_tile[:, 242:]).tolist() == [IGNORE_INDEX]


def own_raster(folder: Path, codes: np.ndarray) -> tuple[list[object], Path]:
    """Arguments to ingest a scene with a label raster, and the mapping that they name."""
    raster(folder / "scenes" / "s2_20180702_B04.tif", 1500)
    left, _, _, top = TILE.bounds
    labels = world.write_raster(folder / "own.tif", codes, Affine(50, 0, left, 0, -50, top), "EPSG:3035")
    mapping = folder / "map.toml"
    scenes = [folder / "scenes", "--out", folder / "site", "--scale", "1e-4"]
    return [*scenes, "--labels", labels, "--mapping", mapping], mapping


def test_own_rasters_are_mapped_by_numbers(tmp_path: Path) -> None:
    codes = np.full((96, 96), 7, np.uint8)
    codes[:, 48:] = 12
    codes[:10] = 0
    command, mapping = own_raster(tmp_path, codes)
    mapping.write_text("[codes]\n7 = 31\n")
    assert "values without a LUISA code: 12 (4,128)" in ingest(*command, ok=False)
    mapping.write_text("[codes]\n7 = 31\n12 = 2110\n")
    ingest(*command)
    rule = load(tmp_path / "site" / "recipe.toml", tmp_path).labels[0]
    read = label_source(rule).read(Area.of([TILE], 50)).codes
    assert np.unique(read[10:, :48]).tolist() == [31]
    assert np.unique(read[10:, 48:]).tolist() == [2110]
    assert np.unique(read[:10]).tolist() == [0]
    # An edition that changed is not built under the same recipe.
    assert rule.sha256 is not None


def test_of_label_rasters_with_several_bands_one_is_named(tmp_path: Path) -> None:
    raster(tmp_path / "scenes" / "s2_20180702_B04.tif", 1500)
    left, _, _, top = TILE.bounds
    codes = np.stack([np.full((96, 96), 9, np.uint8), np.full((96, 96), 7, np.uint8)])
    labels = world.write_raster(
        tmp_path / "own.tif", codes, Affine(50, 0, left, 0, -50, top), "EPSG:3035", names=("first", "second")
    )
    mapping = tmp_path / "map.toml"
    mapping.write_text("[codes]\n7 = 31\n")
    scenes = [tmp_path / "scenes", "--out", tmp_path / "site", "--scale", "1e-4"]
    command = [*scenes, "--labels", labels, "--mapping", mapping]
    assert "1 (first), 2 (second)" in ingest(*command, ok=False)
    for band, told in (("second", "second"), ("2", 2)):
        ingest(*command, "--label-band", band, "--replace")
        rule = load(tmp_path / "site" / "recipe.toml", tmp_path).labels[0]
        assert rule.band == told
        assert np.unique(label_source(rule).read(Area.of([TILE], 50)).codes).tolist() == [31]


def test_labels_elsewhere_are_refused(tmp_path: Path) -> None:
    raster(tmp_path / "scenes" / "s2_20180702_B04.tif", 1500)
    codes = np.full((96, 96), 3110, np.int32)
    far = world.write_raster(tmp_path / "far.tif", codes, Affine(50, 0, 3_000_000, 0, -50, 2_000_000), "EPSG:3035", 0)
    command = [tmp_path / "scenes", "--out", tmp_path / "site", "--scale", "1e-4", "--labels", far, *LUISA]
    assert "do not overlap" in ingest(*command, ok=False)


def test_scenes_of_several_years_need_the_year_of_the_labels(tmp_path: Path) -> None:
    for day in ("20170702", "20180702"):
        raster(tmp_path / "scenes" / f"s2_{day}_B04.tif", 1500)
    command = [tmp_path / "scenes", "--out", tmp_path / "site", "--scale", "1e-4", "--labels", luisa(tmp_path), *LUISA]
    assert "--label-year" in ingest(*command, ok=False)
    ingest(*command, "--label-year", "2018")
    rule = load(tmp_path / "site" / "recipe.toml", tmp_path).sensors[0]
    assert (rule.years, rule.acquired) == ((2018,), None)


def test_scenes_of_other_years_than_the_labels_are_not_mixed_in(tmp_path: Path) -> None:
    for day in ("20120702", "20180702"):
        raster(tmp_path / "scenes" / f"s2_{day}_B04.tif", 1500)
    command = [tmp_path / "scenes", "--out", tmp_path / "site", "--scale", "1e-4"]
    labels = ["--labels", luisa(tmp_path), *LUISA, "--replace"]
    ingest(*command)
    assert "years = [2012, 2018]\n" in (text := (tmp_path / "site" / "recipe.toml").read_text())
    assert "acquired" not in text
    said = ingest(*command, *labels, "--label-year", 2018)
    assert "s2_20120702_B04.tif: of 2012: the recipe is of 2018, the year of the labels" in " ".join(said.split())
    (sensor,) = load(tmp_path / "site" / "recipe.toml", tmp_path).sensors
    assert (sensor.years, sensor.acquired) == ((2018,), None)
    ingest(*command, *labels, "--label-year", 2015)
    (sensor,) = load(tmp_path / "site" / "recipe.toml", tmp_path).sensors
    assert sensor.years == (2015,)
    assert sensor.acquired is not None


def test_zeros_of_an_own_raster_may_be_a_class(tmp_path: Path) -> None:
    codes = np.zeros((96, 96), np.uint8)
    codes[:, 48:] = 7
    command, mapping = own_raster(tmp_path, codes)
    mapping.write_text("[codes]\n12 = 31\n")
    ingest(*command, ok=False)
    assert '"0" = 0  # 4,608' in (tmp_path / "site" / "mapping.toml").read_text()
    for text, code, said in (("7 = 31", 0, True), ("7 = 31\n0 = 5", 5, False)):
        mapping.write_text(f"[codes]\n{text}\n")
        assert ("map 0 if it is a class" in " ".join(ingest(*command, "--replace").split())) is said
        rule = load(tmp_path / "site" / "recipe.toml", tmp_path).labels[0]
        assert rule.codes == {"0": code, "7": 31}
        assert (label_source(rule).read(Area.of([TILE], 50)).codes[:, :48] == code).all()
