"""A folder of this machine."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lulcbench._files import hash_file
from lulcbench.errors import CorruptFileError, LulcbenchError
from lulcbench.remote.backends.filesystem import FilesystemStore
from lulcbench.remote.stores import Kvstore, ListedFile, Progress, Publication, Store


class FolderStore(FilesystemStore):
    """A folder. Its address is its absolute path."""

    schemes = ("",)
    remedy = "Check the path and its permissions."

    def __init__(self, url: str) -> None:
        Store.__init__(self, str(Path(url).resolve()))

    def kvstore(self, folder: str, files: Sequence[ListedFile]) -> Kvstore:
        """See ``Store``. Files are not looked for: a reader checks their sizes itself."""
        return Kvstore({"driver": "file", "path": str(Path(self.url, folder)) + "/"})

    def publish(self, publication: Publication, progress: Progress = lambda done, total: None) -> str:
        """Publish to ``<folder>/<name>-<version>``, which appears when it is complete."""
        final = Path(self.url, publication.id)
        manifest = publication.manifest
        if final.exists():
            present = final / manifest
            publication.check_same(present.read_bytes() if present.is_file() else b"", str(final))
            return str(final)
        partial = final.with_name(f".{final.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for done, file in enumerate(publication.files, start=1):
                target = partial / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(publication.folder / file.path, target)
                if hash_file(target) != file.sha256:
                    raise CorruptFileError(
                        f"{publication.folder / file.path} does not have the SHA-256 of the manifest.",
                        "Build the release again.",
                    )
                progress(done, len(publication.files))
            shutil.copyfile(publication.folder / manifest, partial / manifest)
            partial.rename(final)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise LulcbenchError(
                f"Cannot publish to {final}: {error}.", "Choose a folder that can be written."
            ) from error
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return str(final)
