"""Stores: which address is whose, and that a new kind of address is one file."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import lulcbench.remote.backends
import lulcbench.remote.stores
from lulcbench.errors import CorruptFileError, LulcbenchError, NetworkError
from lulcbench.release import MANIFEST, Manifest
from lulcbench.remote import open_store, pinned
from lulcbench.remote.backends.filesystem import FilesystemStore
from lulcbench.remote.backends.folder import FolderStore
from lulcbench.remote.backends.huggingface import HuggingFaceStore
from lulcbench.remote.backends.s3 import S3Store
from lulcbench.remote.backends.web import WebStore

TOY = """
from lulcbench.remote.stores import Kvstore, Store


class ToyStore(Store):
    schemes = ("toy",)

    def read(self, path, start, stop):
        yield f"{self.url}/{path}".encode()[start:stop]

    def kvstore(self, folder, files):
        return Kvstore({"driver": "memory", "path": folder})
"""


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("data/luisa-sim", FolderStore),
        ("https://example.org/x", WebStore),
        ("http://example.org/x", WebStore),
        ("s3://bucket/x", S3Store),
        ("memory://x", FilesystemStore),
        ("file:///x", FilesystemStore),
        ("hf://owner/name", HuggingFaceStore),
        ("hf://owner/name@v1.0.0/folder", HuggingFaceStore),
    ],
)
def test_addresses_find_their_backend(url: str, kind: type) -> None:
    assert type(open_store(url)) is kind


@pytest.mark.parametrize("url", ["gopher://hole", "hf://owner", "hf://", "hf://owner/name@", "hf://@/x"])
def test_addresses_of_nothing(url: str) -> None:
    with pytest.raises(LulcbenchError, match=r"No way to read|names no repository"):
        open_store(url)


def test_a_backend_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(lulcbench.remote.backends, "__path__", [*lulcbench.remote.backends.__path__, str(tmp_path)])
    monkeypatch.setattr(lulcbench.remote.stores, "_REGISTRY", {})
    importlib.invalidate_caches()
    store = open_store("toy://box")
    assert store.read_bytes("a", 100) == b"toy://box/a"
    assert store.kvstore("luisa_2018/x", []).spec == {"driver": "memory", "path": "luisa_2018/x"}
    assert pinned("toy://box") == "toy://box"
    with pytest.raises(CorruptFileError, match="larger than 3 bytes"):
        store.read_bytes("a", 3)


def test_ranges_of_a_folder(release_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lulcbench.remote.backends.filesystem.PIECE", 7)
    content = (release_root / MANIFEST).read_bytes()
    store = open_store(release_root)
    for start, stop in ((0, 20), (3, 10), (5, 5), (len(content) - 4, len(content) + 100)):
        assert b"".join(store.read(MANIFEST, start, stop)) == content[start:stop]
    with pytest.raises(FileNotFoundError):
        store.read_bytes("nothing.json", 10)


def test_a_folder_of_a_repository_is_read_below_it() -> None:
    store = open_store("hf://owner/name@v1.0.0/europe/2018")
    assert isinstance(store, HuggingFaceStore)
    url, _ = store.request("release.json")
    assert url.endswith("/datasets/owner/name/resolve/v1.0.0/europe/2018/release.json")
    assert store.at("main").url == "hf://owner/name@main/europe/2018"


@pytest.mark.usefixtures("patient")
def test_a_server_that_is_away_is_a_network_error() -> None:
    with pytest.raises(NetworkError, match="Cannot read http://127"):
        Manifest.load("http://127.0.0.1:9/release")
