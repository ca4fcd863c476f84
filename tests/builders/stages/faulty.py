"""A file server with faults, and builds of the world from it."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pystac

from builders.readers import opening
from builders.readers.scene import Scene
from builders.recipe import Recipe, load
from builders.stages import materialize, plan, search
from builders.workspace import Workspace, workspace
from tests import loopback
from tests.builders import world

HEADER = 32_768  # bytes that are read when a file is opened
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


def make(folder: Path, recipe: str = RECIPE) -> Path:
    """The world with scenes of noise, whose files are larger than their headers; returns their folder."""
    world.make(folder, recipe)
    rng = np.random.default_rng(0)
    for path in sorted((folder / "scenes").glob("s?.tif")):
        with opening.open_raster(str(path)) as file:
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
    opening._kept.cache_clear()
    for scene in scenes:
        for asset in scene.assets.values():
            opening.forget(asset.href)


def build(recipe: Recipe, space: Workspace) -> dict[str, tuple[str, materialize.Note]]:
    """SHA-256 of the composite, and the note, of every tile."""
    rows = plan.plan(recipe, space)
    notes = materialize.materialize(recipe, space, rows, search.search(recipe, space, rows), None)
    found = {tile: next(note for array, note in of.items() if array.name == "landsat") for tile, of in notes.items()}
    return {t: (hashlib.sha256((space.cache / n.file).read_bytes()).hexdigest(), n) for t, n in found.items()}


def pixels(built: dict[str, tuple[str, materialize.Note]]) -> dict[str, str]:
    return {tile: digest for tile, (digest, _) in built.items()}
