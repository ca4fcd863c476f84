"""Downloads of a recipe: pinned, continued where they broke off, and refused if they are another edition."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from builders.__main__ import app
from builders.recipe import load
from builders.stages import downloads
from lulcbench.errors import CorruptFileError, LulcbenchError, NetworkError
from tests import loopback
from tests.builders import world

CONTENT = np.random.default_rng(0).bytes(3 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Editions(loopback.Ranges):
    """A file server that breaks off answers, and whose file may be replaced."""

    cuts: list[int]  # bytes after which the next answers break off
    asked: list[str | None]
    etag = '"first"'
    status = 0

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Range"))
        if self.status:
            self.send_error(self.status)
            return
        if self.headers.get("If-Range", self.etag) != self.etag:
            del self.headers["Range"]
        super().do_GET()

    def end_headers(self) -> None:
        self.send_header("ETag", self.etag)
        super().end_headers()
        if self.cuts:
            cut, whole = self.cuts.pop(0), self.wfile

            class Broken:
                def write(self, data: bytes) -> int:
                    whole.write(data[:cut])
                    raise BrokenPipeError

                def __getattr__(self, name: str) -> Any:
                    return getattr(whole, name)

            self.wfile = Broken()  # type: ignore[assignment]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[type[Editions], str]]:
    (tmp_path / "jrc").mkdir()
    (tmp_path / "jrc" / "map.tif").write_bytes(CONTENT)
    handler = type("Handler", (Editions,), {"cuts": [], "asked": []})
    with loopback.serve(tmp_path / "jrc", handler) as url:
        yield handler, f"{url}/map.tif"


def recipe(folder: Path, url: str, sha256: str | None = SHA256) -> Any:
    pin = f'sha256 = "{sha256}"\n' if sha256 else ""
    text = f'{world.RECIPE}\n[[downloads]]\nurl = "{url}"\npath = "${{DOWNLOADS}}/map.tif"\n{pin}'
    (folder / "recipe.toml").write_text(text)
    return load(folder / "recipe.toml", folder / "out.work" / "scenes")


def test_a_pinned_file_is_downloaded_once(server: tuple[type[Editions], str], tmp_path: Path) -> None:
    handler, url = server
    made = recipe(tmp_path, url)
    seen: list[tuple[int, int]] = []
    downloads.fetch(made, lambda done, total: seen.append((done, total)))
    downloads.fetch(made)
    path = tmp_path / "out.work" / "downloads" / "map.tif"
    assert path.read_bytes() == CONTENT
    assert handler.asked == [None]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert {file.name for file in path.parent.iterdir()} == {"map.tif", "map.tif.lock"}


@pytest.mark.usefixtures("patient")
def test_a_broken_download_goes_on_where_it_ended(server: tuple[type[Editions], str], tmp_path: Path) -> None:
    handler, url = server
    handler.cuts = [1 << 20, 1 << 20]
    downloads.fetch(recipe(tmp_path, url))
    assert (tmp_path / "out.work" / "downloads" / "map.tif").read_bytes() == CONTENT
    begun = [int(text.removeprefix("bytes=").rstrip("-")) for text in handler.asked if text]
    assert len(begun) == 2
    assert 0 < begun[0] < begun[1]


@pytest.mark.usefixtures("patient")
def test_a_download_that_ended_in_one_run_goes_on_in_the_next(
    server: tuple[type[Editions], str], tmp_path: Path
) -> None:
    handler, url = server
    handler.cuts = [1 << 18] * 6
    made = recipe(tmp_path, url)
    with pytest.raises(NetworkError, match=r"(?s)map\.tif cannot be downloaded.*run again"):
        downloads.fetch(made)
    kept = (tmp_path / "out.work" / "downloads" / "map.tif.partial").stat().st_size
    assert kept > 1 << 19
    handler.asked.clear()
    downloads.fetch(made)
    assert handler.asked == [f"bytes={kept}-"]
    assert (tmp_path / "out.work" / "downloads" / "map.tif").read_bytes() == CONTENT


@pytest.mark.usefixtures("patient")
def test_a_file_replaced_in_the_middle_is_not_mixed(server: tuple[type[Editions], str], tmp_path: Path) -> None:
    handler, url = server
    handler.cuts = [1 << 18] * 6
    made = recipe(tmp_path, url)
    with pytest.raises(NetworkError):
        downloads.fetch(made)
    other = bytes(len(CONTENT))
    (tmp_path / "jrc" / "map.tif").write_bytes(other)
    found = hashlib.sha256(other).hexdigest()
    handler.etag, handler.cuts = '"second"', []
    with pytest.raises(CorruptFileError, match=f"SHA-256 {found}, the recipe pins {SHA256}"):
        downloads.fetch(made)
    (tmp_path / "jrc" / "map.tif").write_bytes(CONTENT)
    downloads.fetch(made)
    assert (tmp_path / "out.work" / "downloads" / "map.tif").read_bytes() == CONTENT


def test_a_download_without_a_pin_ends_with_the_hash_to_pin(server: tuple[type[Editions], str], tmp_path: Path) -> None:
    handler, url = server
    made = recipe(tmp_path, url, None)
    for _ in range(2):
        with pytest.raises(LulcbenchError, match=rf'(?s)is not pinned; it has SHA-256 {SHA256}.*sha256 = "{SHA256}"'):
            downloads.fetch(made)
    assert len(handler.asked) == 1
    downloads.fetch(recipe(tmp_path, url))
    assert len(handler.asked) == 1


def test_a_missing_file_is_named_at_once(server: tuple[type[Editions], str], tmp_path: Path) -> None:
    handler, url = server
    handler.status = 404
    with pytest.raises(NetworkError, match=r"(?s)map\.tif cannot be downloaded: .*404.*Check the address"):
        downloads.fetch(recipe(tmp_path, url))
    assert len(handler.asked) == 1


def test_a_full_disk_keeps_what_was_received(
    server: tuple[type[Editions], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, url = server
    made = recipe(tmp_path, url)

    def full(done: int, total: int) -> None:
        if done > 1 << 21:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(LulcbenchError, match=r"(?s)The disk of .*downloads is full.*Free space"):
        downloads.fetch(made, full)
    assert len(handler.asked) == 1
    downloads.fetch(made)
    assert (tmp_path / "out.work" / "downloads" / "map.tif").read_bytes() == CONTENT


def test_a_build_downloads_its_label_map(server: tuple[type[Editions], str], tmp_path: Path) -> None:
    """From the address to a release with labels; a second build asks for nothing."""
    handler, url = server
    world.make(tmp_path)
    served = tmp_path / "jrc" / "map.tif"
    (tmp_path / "labels.tif").rename(served)
    sha256 = hashlib.sha256(served.read_bytes()).hexdigest()
    text = (tmp_path / "recipe.toml").read_text().replace('path = "labels.tif"', 'path = "${DOWNLOADS}/map.tif"')
    (tmp_path / "recipe.toml").write_text(
        f'{text}\n[[downloads]]\nurl = "{url}"\npath = "${{DOWNLOADS}}/map.tif"\nsha256 = "{sha256}"\n'
    )
    for _ in range(2):
        made = CliRunner().invoke(app, ["plan", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "release")])
        assert made.exit_code == 0, made.output
    assert len(handler.asked) == 1
