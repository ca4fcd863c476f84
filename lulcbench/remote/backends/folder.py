"""Folders on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lulcbench.remote.backends.filesystem import FilesystemStore
from lulcbench.remote.stores import Kvstore, ListedFile, Store


class FolderStore(FilesystemStore):
    """A folder. Its address is its absolute path."""

    schemes = ("",)
    remedy = "Check the path and its permissions."

    def __init__(self, url: str) -> None:
        Store.__init__(self, str(Path(url).resolve()))

    def kvstore(self, folder: str, files: Sequence[ListedFile]) -> Kvstore:
        """See ``Store``. Files are not checked here, since readers check their sizes."""
        return Kvstore({"driver": "file", "path": str(Path(self.url, folder)) + "/"})
