"""Input that changed is noticed, and what a catalog states of it is verified."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely

from builders.recipe import Recipe, load
from builders.stages import materialize, own_scenes, plan, search
from builders.stages._inputs import MULTIHASH, _local_stamp, parse_checksum, stamps
from builders.workspace import Workspace, workspace
from lulcbench.errors import CorruptFileError, LulcbenchError, NetworkError
from lulcbench.sensors import REFLECTANCE
from tests import loopback
from tests.builders import world


def red(folder: Path) -> float:
    """Red of the composites, materialized by what the recipe and its inputs are now."""
    space = workspace(folder / "out")
    recipe = load(folder / "recipe.toml", space.scenes)
    rows = plan.plan(recipe, space)
    notes = materialize.materialize(recipe, space, rows, search.search(recipe, space, rows), None)
    files = [note.file for found in notes.values() for array, note in found.items() if array.name == "landsat"]
    values = {float(v) for name in files for v in np.unique(REFLECTANCE.decode(np.load(space.cache / name)[0, 0]))}
    (value,) = values
    return round(value, 3)


def item_file(folder: Path, name: str = "s0") -> Path:
    return folder / "landsat-c2-l2" / name / f"{name}.json"


def change(path: Path, **fields: Any) -> None:
    """Sets fields of the first asset of an item."""
    content = json.loads(path.read_text())
    content["assets"]["data"] |= {key.replace("__", ":"): value for key, value in fields.items()}
    path.write_text(json.dumps(content))


def test_a_corrected_item_is_noticed(tmp_path: Path) -> None:
    world.make(tmp_path, scenes=1)
    assert red(tmp_path) == 0.1
    content = json.loads(item_file(tmp_path).read_text())
    for band in content["assets"]["data"]["bands"]:
        band["raster:offset"] = 0
    item_file(tmp_path).write_text(json.dumps(content))
    assert red(tmp_path) == 0.3


def test_a_replaced_file_is_noticed_also_if_it_has_the_same_size(tmp_path: Path) -> None:
    world.make(tmp_path, scenes=1)
    assert red(tmp_path) == 0.1
    path = tmp_path / "scenes" / "s0.tif"
    size = path.stat().st_size
    world.write_landsat(path, tmp_path / "scenes" / "s0_qa.tif", (0.2, 0.3))
    with path.open("ab") as file:
        file.write(bytes(size - path.stat().st_size))
    assert path.stat().st_size == size
    assert red(tmp_path) == 0.2


def test_a_replaced_file_of_another_size_is_searched_again(tmp_path: Path) -> None:
    world.make(tmp_path, scenes=1)
    assert red(tmp_path) == 0.1
    path = tmp_path / "scenes" / "s0.tif"
    world.write_landsat(path, tmp_path / "scenes" / "s0_qa.tif", (0.2, 0.3))
    with path.open("ab") as file:
        file.write(bytes(100))
    assert red(tmp_path) == 0.2


def test_a_mask_that_is_put_beside_a_file_is_noticed(tmp_path: Path) -> None:
    world.make(tmp_path, scenes=2)
    assert red(tmp_path) == 0.15
    path = tmp_path / "scenes" / "s0.tif"
    before = path.stat()
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(np.zeros(file.shape, bool))
    assert path.with_suffix(".tif.msk").exists()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert red(tmp_path) == 0.2


def test_a_replaced_source_of_a_virtual_raster_is_noticed(tmp_path: Path) -> None:
    world.make(tmp_path, scenes=1)
    path = tmp_path / "scenes" / "s0.tif"
    rasterio.shutil.copy(path, path.with_suffix(".vrt"), driver="VRT")
    change(item_file(tmp_path), href=str(path.with_suffix(".vrt")))
    assert red(tmp_path) == 0.1
    world.write_landsat(path, tmp_path / "scenes" / "s0_qa.tif", (0.2, 0.3))
    assert red(tmp_path) == 0.2


def codes_of(folder: Path) -> set[int]:
    """Codes of all tiles, materialized by what the recipe and its inputs are now."""
    space = workspace(folder / "out")
    recipe = load(folder / "recipe.toml", space.scenes)
    rows = plan.plan(recipe, space)
    notes = materialize.materialize(recipe, space, rows, search.search(recipe, space, rows), None)
    files = [note.file for found in notes.values() for array, note in found.items() if array.name != "landsat"]
    return {int(code) for name in files for code in np.unique(np.load(space.cache / name))}


def test_corrected_codes_of_a_shapefile_are_noticed(tmp_path: Path) -> None:
    """They are in another file than the polygons."""
    world.make(tmp_path, scenes=1)
    table = gpd.GeoDataFrame({"code": [211]}, geometry=[shapely.box(*world.BOUNDS)], crs="EPSG:3035")
    table.to_file(tmp_path / "labels.shp")
    recipe = world.RECIPE.replace(
        'source = "luisa"\npath = "labels.tif"', 'source = "corine"\nfield = "code"\npath = "labels.shp"'
    )
    (tmp_path / "recipe.toml").write_text(
        recipe.replace('name = "all"', f'name = "all"\nbounds = {list(world.BOUNDS)}')
    )
    assert codes_of(tmp_path) == {2110}
    polygons = (tmp_path / "labels.shp").read_bytes()
    table.assign(code=311).to_file(tmp_path / "labels.shp")
    assert (tmp_path / "labels.shp").read_bytes() == polygons
    assert codes_of(tmp_path) == {3110}


def test_a_nodata_value_that_is_put_beside_a_label_map_is_noticed(tmp_path: Path) -> None:
    world.make(tmp_path, scenes=1)
    assert codes_of(tmp_path) == {1111, 2110, 3110, 5120}
    band = '<PAMRasterBand band="1"><NoDataValue>5120</NoDataValue></PAMRasterBand>'
    (tmp_path / "labels.tif.aux.xml").write_text(f"<PAMDataset>{band}</PAMDataset>")
    with pytest.raises(LulcbenchError, match="has the nodata value 5120, but the LUISA legend maps 5120"):
        codes_of(tmp_path)


def test_later_stages_do_not_search(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path, scenes=1)
    rows = plan.plan(recipe, space)
    with pytest.raises(LulcbenchError, match=r"scenes\.lock\.json is missing"):
        search.found(recipe, space, rows)
    scenes = search.search(recipe, space, rows)
    assert search.found(recipe, space, rows) == scenes
    change(item_file(tmp_path), title="another")
    with pytest.raises(LulcbenchError, match="the catalog has changed since"):
        search.found(recipe, space, rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sha1", "sha256", "sha512", "sha3_256", "md5"])
def test_a_stated_checksum_is_verified(tmp_path: Path, name: str) -> None:
    world.make(tmp_path, scenes=1)
    path = tmp_path / "scenes" / "s0.tif"
    digest = hashlib.new(name, path.read_bytes(), usedforsecurity=False)
    code = next(code for code, function in MULTIHASH.items() if function == name)
    change(item_file(tmp_path), file__checksum=f"{code}{digest.digest_size:02x}{digest.hexdigest()}")
    assert red(tmp_path) == 0.1
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=rf"1 files differ from the checksum .*s0\.tif \({name} "):
        red(tmp_path)


def test_a_verified_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make(tmp_path, scenes=1)
    path = tmp_path / "scenes" / "s0.tif"
    change(item_file(tmp_path), file__checksum="1220" + hashlib.sha256(path.read_bytes()).hexdigest())
    red(tmp_path)
    monkeypatch.setattr("builders.stages._inputs._problem", lambda asset: pytest.fail(f"{asset.href} is read again"))
    red(tmp_path)


def test_a_checksum_of_an_unknown_function_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world.make(tmp_path, scenes=1)
    change(item_file(tmp_path), file__checksum="1e20" + 32 * "ab")
    red(tmp_path)
    assert "1e20abababab… cannot be verified" in caplog.text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("1340" + 64 * "ab", "sha512"),
        ("d50110" + 16 * "ab", "md5"),
        ("D50110" + 16 * "AB", "md5"),
        ("d50120" + 32 * "ab", None),  # as CDSE writes it: code of MD5, length of another function
        ("1220" + 31 * "ab", None),
        ("sha256:" + 32 * "ab", None),
    ],
)
def test_checksums_are_multihashes(text: str, name: str | None) -> None:
    parsed = parse_checksum(text)
    assert (parsed[0] if parsed else None) == name


class Files(BaseHTTPRequestHandler):
    """Answers with the headers that are set."""

    protocol_version = "HTTP/1.1"
    answers: list[tuple[int, dict[str, str]]]

    def do_GET(self) -> None:
        status, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        for name, value in {"Content-Length": "1", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"x")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[tuple[type[Files], str]]:
    handler = type("Handler", (Files,), {"answers": []})
    with loopback.serving(handler) as address:
        yield handler, f"{address}/red.tif"


@pytest.mark.usefixtures("patient")
def test_a_file_replaced_under_its_url_is_noticed(server: tuple[type[Files], str], tmp_path: Path) -> None:
    handler, url = server
    recipe, space = world.make(tmp_path, scenes=1)
    (scene,) = search.search(recipe, space, plan.plan(recipe, space))
    remote = scene.model_copy(update={"assets": {"red": scene.assets["red"].model_copy(update={"href": url})}})

    def stamp(*answers: tuple[int, dict[str, str]]) -> str:
        handler.answers = list(answers)
        return stamps([remote])[url]

    first = stamp((206, {"ETag": '"a"'}))
    assert stamp((206, {"ETag": '"b"'})) != first
    assert stamp((206, {"ETag": '"a"'})) == first
    dated = {"Last-Modified": "Mon, 02 Jul 2018 10:00:00 GMT", "Content-Range": "bytes 0-0/1000"}
    assert stamp((206, dated)) != stamp((206, dated | {"Content-Range": "bytes 0-0/1001"}))
    assert stamp((503, {}), (206, {"ETag": '"a"'})) == first
    assert stamp((405, {})) == ""
    with pytest.raises(NetworkError, match=r"(?s)red\.tif is refused by its server: HTTP 403.*credentials"):
        stamp((403, {}))
    with pytest.raises(LulcbenchError, match=r"red\.tif does not exist on its server"):
        stamp((404, {}))


def scenes_of(folder: Path, table: str) -> tuple[Recipe, Workspace]:
    """A recipe with a table of its own scenes."""
    (folder / "recipe.toml").write_text(world.RECIPE.replace('"catalog.json"', '"${SCENES}/catalog.json"') + table)
    space = workspace(folder / "out")
    return load(folder / "recipe.toml", space.scenes), space


def test_scenes_are_rendered_again_from_a_changed_label_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes, *rest = world.labels()
    world.write_raster(tmp_path / "labels.tif", codes, *rest)
    rendered: list[int] = []

    def render(config: Any, out: Path, report: object) -> None:
        rendered.append(config.label_map.stat().st_size)
        (out / "catalog.json").write_text("{}")

    monkeypatch.setattr("builders.simulate.simulate", render)
    recipe, space = scenes_of(tmp_path, '\n[simulate]\nlabel_map = "labels.tif"\n')
    for _ in range(2):
        own_scenes.make(recipe, space)
    assert len(rendered) == 1
    stat = (tmp_path / "labels.tif").stat()
    world.write_raster(tmp_path / "labels.tif", np.where(codes == 1111, 2110, codes), *rest)
    os.utime(tmp_path / "labels.tif", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    own_scenes.make(recipe, space)
    assert len(rendered) == 2


def test_scenes_that_were_deleted_in_part_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a kill while the scenes of another recipe made room."""
    codes, *rest = world.labels()
    world.write_raster(tmp_path / "labels.tif", codes, *rest)
    fail = False

    def render(config: Any, out: Path, report: object) -> None:
        if fail:
            raise KeyboardInterrupt
        (out / "catalog.json").write_text(str(config.seed))

    monkeypatch.setattr("builders.simulate.simulate", render)
    first, space = scenes_of(tmp_path, "\n[simulate]\nseed = 1\n")
    own_scenes.make(first, space)
    second, _ = scenes_of(tmp_path, "\n[simulate]\nseed = 2\n")
    fail = True
    with pytest.raises(KeyboardInterrupt):
        own_scenes.make(second, space)
    fail = False
    assert (space.scenes / "catalog.json").read_text() == "1"
    own_scenes.make(second, space)
    assert (space.scenes / "catalog.json").read_text() == "2"


@pytest.mark.parametrize("form", ["/vsizip/{}/a.tif", "/vsizip/{{{}}}/a.tif"], ids=["plain", "braces"])
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_the_stamp_of_a_file_in_an_archive_is_that_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / "z.zip"
    archive.write_bytes(b"PK")
    assert _local_stamp(form.format("z.zip" if relative else archive)) == _local_stamp(str(archive)) != ""
    with pytest.raises(LulcbenchError, match="is missing"):
        _local_stamp(form.format("other.zip"))
