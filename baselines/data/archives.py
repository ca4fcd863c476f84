"""Zip archives of EuroSAT patches, read without extraction and without trust.

RGB archives hold 64 × 64 JPEGs ``Class/Class_1.jpg``; 13-band archives hold GeoTIFFs of Sentinel-2 L1C in the same
layout. (torchgeo reads 13-band patches alone, from an extracted archive of one known MD5.)
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from baselines.data.patches import decode
from lulcbench.errors import LulcbenchError

MAX_BYTES = 1 << 20  # of a patch: the largest real ones, 13 bands uncompressed, have a tenth of that

Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]


class Archives:
    """The zips of a folder, as one set of patches. Picklable; several threads may read at a time.

    Args:
        root: the folder, with ``eurosat_*.zip``, in whatever case.

    Attributes:
        paths: of the zips.

    Raises:
        LulcbenchError: there are none, one is damaged or holds a file too large for a patch, or a patch is in two.
    """

    def __init__(self, root: Path) -> None:
        self.paths = sorted(root.glob("eurosat_*.zip", case_sensitive=False))
        if not self.paths:
            raise LulcbenchError(
                f"No eurosat_*.zip in {root}.",
                "Put EuroSAT_RGB.zip (or EuroSAT_MS.zip) of https://zenodo.org/records/7711810 there, or name another "
                "folder in data.root.",
            )
        self._open: dict[Path, zipfile.ZipFile] = {}
        self._where: dict[str, tuple[Path, str]] = {}
        for path in self.paths:
            try:
                self._open[path] = zipfile.ZipFile(path)
            except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
                raise LulcbenchError(f"{path} is not a whole zip: {error}.", "Fetch it again.") from error
            for member in self._open[path].infolist():
                if member.filename.endswith((".jpg", ".tif")):
                    self._add(path, member)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def _add(self, path: Path, member: zipfile.ZipInfo) -> None:
        name = Path(member.filename).stem
        if member.file_size > MAX_BYTES:
            raise LulcbenchError(
                f"{path}: {member.filename} has {member.file_size:,} bytes; no patch is that large.", "Fetch it again."
            )
        if name in self._where:
            before, twin = self._where[name]
            raise LulcbenchError(
                f"{name} is there twice: {before.name}/{twin} and {path.name}/{member.filename}.",
                "Keep RGB and 13-band archives in folders of their own.",
            )
        self._where[name] = (path, member.filename)

    def __contains__(self, name: str) -> bool:
        return name in self._where

    @property
    def names(self) -> list[str]:
        """All patches, in order."""
        return sorted(self._where)

    def check(self, names: Sequence[str], what: str) -> None:
        """Nothing, if all patches are there.

        Raises:
            LulcbenchError: ``what`` is empty, or names patches that no archive holds.
        """
        if not names:
            raise LulcbenchError(f"The {what} list is empty.", "Fetch it again.")
        unknown = [name for name in names if name not in self]
        if unknown:
            raise LulcbenchError(
                f"The {what} list names {len(unknown)} patches that no archive holds, such as {unknown[0]}.",
                f"The archives are {', '.join(p.name for p in self.paths)}.",
            )

    def read(self, names: Sequence[str], bands: Sequence[str]) -> Images:
        """Patches as one array ``(n, band, 64, 64)``: uint8, or float32 reflectance of 13-band archives.

        Raises:
            LulcbenchError: a patch is damaged.
        """
        images = [decode(content, member, bands) for member, content in self.contents(names)]
        return np.stack(images)

    def contents(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """File name and bytes of patches, as they were packed.

        Raises:
            LulcbenchError: an archive is damaged.
        """
        for name in names:
            path, member = self._where[name]
            if path not in self._open:
                self._open[path] = zipfile.ZipFile(path)
            try:
                with self._open[path].open(member) as file:
                    content = file.read(MAX_BYTES)  # bounded: an entry may claim less than it unpacks to
            # RuntimeError: encrypted; NotImplementedError: packed by a method that zipfile does not know.
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
                raise LulcbenchError(f"{path}: {member} is damaged: {error}.", "Fetch it again.") from error
            yield member, content
