"""Zip archives of EuroSAT patches, read as untrusted input without extraction.

RGB archives hold 64 × 64 JPEGs ``Class/Class_1.jpg``; 13-band archives hold GeoTIFFs of Sentinel-2 L1C in the same
layout. (torchgeo reads only 13-band patches, from an extracted archive with one known MD5.)
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

MAX_BYTES = 1 << 20  # per patch: the largest real ones, 13 bands uncompressed, have a tenth of that

Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]


class Archives:
    """All zip archives of a folder as one set of patches. Picklable; several threads may read at the same time.

    Args:
        root: folder with ``eurosat_*.zip``, in upper or lower case.

    Attributes:
        paths: paths of the archives.

    Raises:
        LulcbenchError: there are no archives, an archive is damaged or has a file too large for a patch, or two files
            have the same patch name.
    """

    def __init__(self, root: Path) -> None:
        self.paths = sorted(root.glob("eurosat_*.zip", case_sensitive=False))
        if not self.paths:
            raise LulcbenchError(
                f"{root} has no eurosat_*.zip.",
                "Put EuroSAT_RGB.zip (or EuroSAT_MS.zip) of https://zenodo.org/records/7711810 there, or name another "
                "folder in data.root.",
            )
        self._open: dict[Path, zipfile.ZipFile] = {}
        self._where: dict[str, tuple[Path, str]] = {}
        for path in self.paths:
            try:
                self._open[path] = zipfile.ZipFile(path)
            except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
                raise LulcbenchError(f"{path} is not a complete zip archive: {error}.", "Download it again.") from error
            for member in self._open[path].infolist():
                if member.filename.endswith((".jpg", ".tif")):
                    self._add(path, member)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def _add(self, path: Path, member: zipfile.ZipInfo) -> None:
        name = Path(member.filename).stem
        if member.file_size > MAX_BYTES:
            raise LulcbenchError(
                f"{path}: {member.filename} has {member.file_size:,} bytes, too many for a patch.", "Download it again."
            )
        if name in self._where:
            other, other_member = self._where[name]
            raise LulcbenchError(
                f"Two files have the patch {name}: {other.name}/{other_member} and {path.name}/{member.filename}.",
                "Keep RGB and 13-band archives in separate folders.",
            )
        self._where[name] = (path, member.filename)

    def __contains__(self, name: str) -> bool:
        return name in self._where

    @property
    def names(self) -> list[str]:
        """Names of all patches in alphabetical order."""
        return sorted(self._where)

    def present(self, names: Iterable[str]) -> list[str]:
        """Those of some patches that are in the archives, in their order."""
        return [name for name in names if name in self]

    def check(self, names: Sequence[str], what: str) -> None:
        """Check that all patches of a list exist.

        Args:
            names: names of patches.
            what: name of the list, for error messages.

        Raises:
            LulcbenchError: the list is empty or has patches that are not in the archives.
        """
        if not names:
            raise LulcbenchError(f"The {what} list is empty.", "Download it again.")
        unknown = [name for name in names if name not in self]
        if unknown:
            raise LulcbenchError(
                f"The {what} list has {len(unknown)} patches that are not in the archives, such as {unknown[0]}.",
                f"The archives are {', '.join(p.name for p in self.paths)}.",
            )

    def read(self, names: Sequence[str], bands: Sequence[str]) -> Images:
        """Read patches as one array ``(n, band, 64, 64)``: uint8, or float32 reflectance of 13-band archives.

        Raises:
            LulcbenchError: a patch is damaged.
        """
        images = [decode(content, member, bands) for member, content in self.contents(names)]
        return np.stack(images)

    def contents(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield file name and undecoded content of patches.

        Raises:
            LulcbenchError: an archive is damaged.
        """
        for name in names:
            path, member = self._where[name]
            if path not in self._open:
                self._open[path] = zipfile.ZipFile(path)
            try:
                with self._open[path].open(member) as file:
                    content = file.read(MAX_BYTES)  # bounded: an entry may unpack to more bytes than it states
            # RuntimeError: encrypted; NotImplementedError: unknown compression method.
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
                raise LulcbenchError(f"{path}: {member} is damaged: {error}.", "Download it again.") from error
            yield member, content
