"""Files that are damaged, replaced or gone: they are named, and the rest of the build goes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest

from builders.readers import opening
from builders.recipe import load
from builders.stages import materialize, pack, plan, search
from builders.workspace import read_json, workspace
from lulcbench.errors import CorruptFileError, LulcbenchError
from tests import loopback
from tests.builders import world
from tests.builders.stages.faulty import Faulty, build, make, on_server, pixels

pytestmark = pytest.mark.usefixtures("impatient")


def damage(path: Path) -> None:
    """Overwrite a block in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = b"\xff" * 3000
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["disk", "server"])
def test_a_damaged_block_is_named_and_the_rest_goes_on(
    server: type[Faulty], local: dict[str, str], tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The world is one group of tiles: its composite is that without the damaged scene."""
    damage(tmp_path / "scenes" / "s1.tif")
    with loopback.serve(tmp_path / "scenes", server) as url:
        if where == "server":
            recipe, space = on_server(tmp_path, url)
        else:
            space = workspace(tmp_path / "damaged")
            recipe = load(tmp_path / "recipe.toml", space.scenes)
        built = build(recipe, space)
        again = build(recipe, space)
        pack.pack(recipe, space, plan.read(space.splits), None, False)
    assert built == again
    for _, note in built.values():
        assert note.scenes == ("s0", "s2")
        ((scene, what),) = note.damaged
        assert scene == "s1"
        assert re.match(r"s1\.tif, column \d+, row \d+: .*[Dd]ecod", what)
    assert re.search(r"s1 is not used in a part of landsat_2018: s1\.tif, column", caplog.text)
    told = read_json(space.root / "build.json", "pack")["scenes"]
    (entry,) = told["damaged"]
    assert (entry["id"], len(entry["tiles"])) == ("s1", len(built))
    assert told["on_servers"] == {"files": 6 if where == "server" else 0, "sidecars": "not read"}
    expected = tmp_path / "without"
    make(expected)
    items = [
        i for i in pystac.Catalog.from_file(str(expected / "catalog.json")).get_items(recursive=True) if i.id != "s1"
    ]
    world.write(expected / "two", "world", "World", items)
    text = (expected / "recipe.toml").read_text().replace('"catalog.json"', '"two/catalog.json"')
    (expected / "two.toml").write_text(text)
    other = workspace(expected / "out")
    assert pixels(built) == pixels(build(load(expected / "two.toml", other.scenes), other))


def test_a_damaged_quality_layer_leaves_its_scene_out(local: dict[str, str], tmp_path: Path) -> None:
    transform, shape = world.frame(30)
    noise = np.random.default_rng(0).choice([64, 64 + 4096, 64 + 8192, 64 + 16384], shape).astype(np.uint16)
    world.write_raster(tmp_path / "scenes" / "s1_qa.tif", noise, transform, world.UTM)
    damage(tmp_path / "scenes" / "s1_qa.tif")
    space = workspace(tmp_path / "damaged")
    built = build(load(tmp_path / "recipe.toml", space.scenes), space)
    assert {note.damaged[0][1].split(",")[0] for _, note in built.values()} == {"s1_qa.tif"}
    assert {note.scenes for _, note in built.values()} == {("s0", "s2")}


def test_tiles_that_damage_leaves_empty_name_the_file(local: dict[str, str], tmp_path: Path) -> None:
    for path in (tmp_path / "scenes").glob("s?.tif"):
        damage(path)
    space = workspace(tmp_path / "damaged")
    recipe = load(tmp_path / "recipe.toml", space.scenes)
    with pytest.raises(LulcbenchError, match=r"tiles have no valid pixel: .*damaged there: s0 \(s0\.tif, column"):
        build(recipe, space)


def test_a_damaged_label_map_is_an_error(tmp_path: Path) -> None:
    """Tiles need labels; a part of the map cannot be left out."""
    make(tmp_path)
    codes = np.random.default_rng(0).choice([1111, 2110, 3110, 5120], (1920, 2880)).astype(np.int32)
    left, _, _, top = world.BOUNDS
    path = world.write_raster(tmp_path / "labels.tif", codes, world.Affine(5, 0, left, 0, -5, top), "EPSG:3035", 0)
    damage(path)
    space = workspace(tmp_path / "out")
    with pytest.raises(LulcbenchError, match=r"(?s)Cannot read .*labels\.tif at column .*It is damaged"):
        build(load(tmp_path / "recipe.toml", space.scenes), space)


def replaced(path: Path) -> None:
    with opening.open_raster(str(path)) as file:
        values, at = file.read(), file.transform
    world.write_raster(path, values[:, ::-1, ::-1].copy(), at, world.UTM, 0)


@pytest.mark.slow
def test_a_file_replaced_between_search_and_materialize_is_an_error(
    server: type[Faulty], local: dict[str, str], tmp_path: Path
) -> None:
    with loopback.serve(tmp_path / "scenes", server) as url:
        recipe, space = on_server(tmp_path, url)
        rows = plan.plan(recipe, space)
        scenes = search.search(recipe, space, rows)
        assert {asset.stamp for scene in scenes for asset in scene.assets.values()} == {'"1"'}
        replaced(tmp_path / "scenes" / "s1.tif")
        server.etags["s1.tif"] = '"2"'
        with pytest.raises(CorruptFileError, match=r"(?s)1 files were replaced .*since the search, such as .*s1\.tif"):
            materialize.materialize(recipe, space, rows, scenes, None)
        space.lock.unlink()
        built = build(recipe, space)
    assert pixels(built) != local


@pytest.mark.slow
def test_a_file_replaced_while_it_is_read_leaves_no_result(
    server: type[Faulty], local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = materialize.run_job

    def and_replace(job: Any) -> Any:
        made = run(job)
        server.etags["s1.tif"] = '"2"'
        return made

    with loopback.serve(tmp_path / "scenes", server) as url:
        recipe, space = on_server(tmp_path, url)
        rows = plan.plan(recipe, space)
        scenes = search.search(recipe, space, rows)
        monkeypatch.setattr(materialize, "run_job", and_replace)
        with pytest.raises(CorruptFileError, match=r"replaced .*while they were read, such as .*s1\.tif"):
            materialize.materialize(recipe, space, rows, scenes, None)
        assert list(space.cache.glob("landsat_2018/*.json")) == []
        assert not space.tiles.exists()
        server.etags.clear()
        monkeypatch.setattr(materialize, "run_job", run)
        assert pixels(build(recipe, space)) == local


def test_a_file_that_vanished_is_named(server: type[Faulty], local: dict[str, str], tmp_path: Path) -> None:
    with loopback.serve(tmp_path / "scenes", server) as url:
        recipe, space = on_server(tmp_path, url)
        rows = plan.plan(recipe, space)
        scenes = search.search(recipe, space, rows)
        (tmp_path / "scenes" / "s1.tif").unlink()
        with pytest.raises(LulcbenchError, match=r"(?s)s1\.tif does not exist on its server.*remove the scene"):
            materialize.materialize(recipe, space, rows, scenes, None)


def test_sidecars_on_servers_are_not_read_and_the_report_counts_these_files(
    server: type[Faulty], tmp_path: Path
) -> None:
    """A mask beside a local file is honoured; beside a file on a server it is not requested."""
    asked: list[str] = []

    class Listing(server):  # type: ignore[misc, valid-type]
        def do_GET(self) -> None:
            asked.append(self.path.rpartition("/")[2])
            super().do_GET()

        def do_HEAD(self) -> None:
            asked.append(self.path.rpartition("/")[2])
            super().do_HEAD()

    make(tmp_path)
    with loopback.serve(tmp_path / "scenes", Listing) as url:
        recipe, space = on_server(tmp_path, url)
        build(recipe, space)
    assert set(asked) == {f"s{i}{part}.tif" for i in range(3) for part in ("", "_qa")}
