"""Servers with faults: what passes is tried again, what stays is named, and the rest of the build goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pystac
import pytest

from builders.readers import access, raster, servers
from builders.readers.scene import Scene
from builders.recipe import Recipe, load
from builders.stages import materialize, pack, plan, search
from builders.workspace import Workspace, read_json, workspace
from lulcbench.errors import CorruptFileError, LulcbenchError, NetworkError
from tests import loopback
from tests.builders import world

HEADER = 32_768  # bytes that are read when a file is opened
SECRET = "kX9verySecretKey"  # noqa: S105
RECIPE = world.RECIPE.replace("fractions = { train = 0.5, val = 0.25, test = 0.25 }", "fractions = { train = 1 }")


class Faulty(loopback.Ranges):
    """A file server whose next answers to reads of pixels have faults."""

    protocol_version = "HTTP/1.1"
    faults: list[Any]
    reads: int
    only = ""  # part of the names of the files that have them
    etags: dict[str, str]

    def do_GET(self) -> None:
        part = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(part[1]) if part else 0
        if start < HEADER or self.only not in self.path:
            super().do_GET()
            return
        type(self).reads += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault is None:
            super().do_GET()
        elif isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Content-Length", "0")
            if fault == 429:
                self.send_header("Retry-After", "0")
            self.end_headers()
        else:
            getattr(self, fault)(start, int(part[2]) if part and part[2] else start + 1000)

    def begin(self, start: int, end: int) -> None:
        self.send_response(206)
        self.send_header("Content-Length", str(end - start + 1))
        self.send_header("Content-Range", f"bytes {start}-{end}/{10**9}")
        self.end_headers()

    def cut(self, start: int, end: int) -> None:
        self.begin(start, end)
        self.wfile.write(b"x" * min(1000, end - start))
        self.drop(start, end)

    def drop(self, start: int, end: int) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(2)

    def slow(self, start: int, end: int) -> None:
        self.begin(start, end)
        try:
            for _ in range(40):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
        except OSError:
            pass
        self.close_connection = True

    def wrong(self, start: int, end: int) -> None:
        self.begin(start, end)
        self.wfile.write(b"x" * (end - start + 1))

    def end_headers(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        self.send_header("ETag", self.etags.get(name, '"1"'))
        super().end_headers()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, patient: None) -> Iterator[None]:
    """Short waits, and no open file of an earlier test."""
    monkeypatch.setitem(access.HTTP, "GDAL_HTTP_RETRY_DELAY", "0.01")
    monkeypatch.setitem(access.HTTP, "GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setattr(servers, "SLOW", 1.5)
    raster._kept.cache_clear()
    yield
    raster._kept.cache_clear()


@pytest.fixture
def server() -> type[Faulty]:
    return type("Server", (Faulty,), {"faults": [], "reads": 0, "etags": {}})


def make(folder: Path, recipe: str = RECIPE) -> Path:
    """The world with scenes of noise, whose files are larger than their headers; returns their folder."""
    world.make(folder, recipe)
    rng = np.random.default_rng(0)
    for path in sorted((folder / "scenes").glob("s?.tif")):
        with raster.open_raster(str(path)) as file:
            values, at = file.read(), file.transform
        noisy = values + rng.integers(0, 200, values.shape).astype(np.uint16)
        world.write_raster(path, noisy, at, world.UTM, 0)
    return folder / "scenes"


def on_server(folder: Path, url: str) -> tuple[Recipe, Workspace]:
    """The world's recipe with scenes at a URL."""
    catalog = pystac.Catalog.from_file(str(folder / "catalog.json"))
    items = list(catalog.get_items(recursive=True))
    for item in items:
        for asset in item.assets.values():
            asset.href = f"{url}/{Path(asset.href).name}"
        item.clear_links()
    world.write(folder / "remote", "world", "World", items)
    text = (folder / "recipe.toml").read_text().replace('"catalog.json"', '"remote/catalog.json"')
    (folder / "remote.toml").write_text(text)
    space = workspace(folder / "served")
    return load(folder / "remote.toml", space.scenes), space


def forget(scenes: list[Scene]) -> None:
    """Drop what GDAL has of the files since the search."""
    raster._kept.cache_clear()
    for scene in scenes:
        for asset in scene.assets.values():
            raster._forget(asset.href)


def build(recipe: Recipe, space: Workspace) -> dict[str, tuple[str, materialize.Note]]:
    """SHA-256 of the composite, and the note, of every tile."""
    rows = plan.plan(recipe, space)
    notes = materialize.materialize(recipe, space, rows, search.search(recipe, space, rows), None)
    found = {tile: next(note for array, note in of.items() if array.name == "landsat") for tile, of in notes.items()}
    return {t: (hashlib.sha256((space.cache / n.file).read_bytes()).hexdigest(), n) for t, n in found.items()}


def pixels(built: dict[str, tuple[str, materialize.Note]]) -> dict[str, str]:
    return {tile: digest for tile, (digest, _) in built.items()}


@pytest.fixture
def local(tmp_path: Path) -> dict[str, str]:
    """Composites of the scenes on disk."""
    make(tmp_path)
    space = workspace(tmp_path / "out")
    return pixels(build(load(tmp_path / "recipe.toml", space.scenes), space))


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([500, 502, 503], id="errors of the server"),
        pytest.param([429, 429], id="too many requests"),
        pytest.param(["cut", "cut"], id="answers cut off"),
        pytest.param(["drop", "drop"], id="connections closed"),
        pytest.param(["slow"], id="a slow answer"),
        pytest.param(["wrong", "wrong"], id="wrong bytes"),
        pytest.param([503, "cut", 429, "drop", 502, "wrong"], id="all of them"),
    ],
)
def test_faults_that_pass_leave_no_trace(
    server: type[Faulty], local: dict[str, str], tmp_path: Path, faults: list[Any]
) -> None:
    """The build is that of the same scenes on disk."""
    with loopback.serve(tmp_path / "scenes", server) as url:
        recipe, space = on_server(tmp_path, url)
        rows = plan.plan(recipe, space)
        scenes = search.search(recipe, space, rows)
        forget(scenes)
        server.faults, server.only = list(faults), "s1.tif"
        built = build(recipe, space)
    assert len(scenes) == 3
    assert server.faults == []
    assert pixels(built) == local
    assert all(note.damaged == () for _, note in built.values())


@pytest.mark.parametrize("fault", [503, "cut", "slow"])
def test_a_server_that_stays_broken_ends_the_build_which_goes_on_later(
    server: type[Faulty], local: dict[str, str], tmp_path: Path, fault: Any
) -> None:
    """Nothing is left out because of the network. Attempts are bounded."""
    with loopback.serve(tmp_path / "scenes", server) as url:
        recipe, space = on_server(tmp_path, url)
        rows = plan.plan(recipe, space)
        scenes = search.search(recipe, space, rows)
        forget(scenes)
        server.faults, server.only = [fault] * 1000, "s1.tif"
        server.reads = 0
        with pytest.raises(NetworkError, match=r"(?s)s1\.tif cannot be reached.*What is finished is kept; run again"):
            materialize.materialize(recipe, space, rows, scenes, None)
        assert server.reads < 70
        server.faults = []
        assert pixels(build(recipe, space)) == local


def damage(path: Path) -> None:
    """Overwrite a block in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = b"\xff" * 3000
    path.write_bytes(content)


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
    with raster.open_raster(str(path)) as file:
        values, at = file.read(), file.transform
    world.write_raster(path, values[:, ::-1, ::-1].copy(), at, world.UTM, 0)


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


class Signed(Faulty):
    """The Planetary Computer: a token of a container is good for some requests."""

    issued: list[str]
    valid: dict[str, int]
    uses = 8
    refused = 0

    def do_HEAD(self) -> None:
        self.checked(lambda: super(Signed, self).do_HEAD())

    def do_GET(self) -> None:
        if self.path.startswith("/token/"):
            token = f"{SECRET}{len(self.issued)}"
            self.issued.append(token)
            self.valid[token] = self.uses
            end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
            body = json.dumps({"token": f"sig={token}", "msft:expiry": end}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self.checked(lambda: super(Signed, self).do_GET())

    def checked(self, answer: Callable[[], None]) -> None:
        path, _, query = self.path.partition("?")
        token = parse_qs(query).get("sig", [""])[0]
        if self.valid.get(token, 0) < 1:
            type(self).refused += 1
            self.send_error(403)
            return
        self.valid[token] -= 1
        self.path = path
        answer()


def test_tokens_that_end_in_the_middle_of_a_build_are_replaced_and_written_nowhere(
    server: type[Faulty], local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    signed = type("SignedServer", (Signed,), {"faults": [], "reads": 0, "etags": {}, "issued": [], "valid": {}})
    with loopback.serve(tmp_path / "scenes", signed) as url:
        base = url.removesuffix("/scenes")
        monkeypatch.setattr(access, "_tokens", {})
        monkeypatch.setenv("PC_SDK_SAS_URL", f"{base}/token")
        pattern = re.escape(base.rpartition(":")[0]) + r"(?P<account>:\d+)/(?P<container>[^/?]+)/"
        monkeypatch.setattr(access, "BLOBS", re.compile(pattern))
        recipe, space = on_server(tmp_path, url)
        built = build(recipe, space)
        pack.pack(recipe, space, plan.read(space.splits), None, False)
    assert pixels(built) == local
    assert len(signed.issued) >= 3
    assert signed.refused >= 2
    assert SECRET not in caplog.text
    for folder in (space.root, space.work):
        texts = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
        assert texts
        assert not [text for text in texts if SECRET.encode() in text]
