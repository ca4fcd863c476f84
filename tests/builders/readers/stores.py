"""Servers of files that need a signature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.windows import Window

from builders.readers.opening import opened
from builders.readers.windows import read_window
from tests import loopback
from tests.builders import world

SECRET = "kX9verySecretKey0001"  # noqa: S105
VALUES = np.random.default_rng(0).integers(1, 60_000, (1200, 1200)).astype(np.uint16)


class Store(loopback.Ranges):
    """A folder whose files need a signature. ``check`` gives the path of an accepted request."""

    etag = '"1"'
    refused = 0

    def check(self) -> str | None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.check()
        if path is None:
            type(self).refused += 1
            self.send_error(403)
            return
        self.path = path
        super().do_GET() if self.command == "GET" else super().do_HEAD()

    def json(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def store(folder: Path, container: str = "signed") -> Path:
    """A raster in a container, and another beside it."""
    transform, _ = world.frame(30)
    for name in ("a.tif", "b.tif"):
        world.write_raster(folder / "acc" / container / name, VALUES, transform, world.UTM)
    return folder / "acc"


def part(href: str, row: int) -> np.ndarray:
    """One row of a file as the builder reads it."""
    values, missing = read_window(opened(href), 1, Window(0, row, 1200, 1))
    assert missing is None
    return values[0]
