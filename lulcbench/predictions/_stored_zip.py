"""Reading of untrusted zip files: only uncompressed members with known names; nothing is extracted.

``zipfile`` parses the directory; all entries are then checked against the expected ones, and members are read by
position, so that paths of the archive never reach the file system, nor sizes an allocation.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from lulcbench.errors import LulcbenchError

# Sizes by APPNOTE.TXT 6.3.10: end record 22 bytes, ZIP64 locator 20, directory entry 46 + name, local header 30.
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY_OVERHEAD = 46 + 32  # fixed part and a ZIP64 extra field
_REMEDY = "Write predictions with lulcbench.PredictionWriter, and upload its file unchanged."


class StoredZip:
    """A zip file of uncompressed members, opened for reading within limits. A context manager.

    Args:
        path: the file.
        max_bytes: maximum size of the file.
        max_members: maximum number of members.
        allowed: returns whether a member name is expected.

    Raises:
        LulcbenchError: the file is not a zip file, is too large, or has members that are not plain, uncompressed and
            expected.
    """

    MAX_NAME = 64

    def __init__(
        self, path: str | os.PathLike[str], max_bytes: int, max_members: int, allowed: Callable[[str], bool]
    ) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise LulcbenchError(f"No file {self.path}.", "Give the path of a predictions file (.zip).")
        self._file = self.path.open("rb")
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            if self._size > max_bytes:
                raise self.error(f"it has {self._size:,} bytes, at most {max_bytes:,} are possible for this split")
            self._check_directory_size(max_members)
            self.members = self._members(allowed)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def error(self, problem: str) -> LulcbenchError:
        """An error about this file."""
        # Messages quote the file, and must not control a terminal.
        shown = "".join(c if c.isprintable() else "?" for c in problem)
        return LulcbenchError(f"{self.path.name} is refused: {shown}.", _REMEDY)

    def read(self, name: str, max_bytes: int) -> bytes:
        """Read a member and check its CRC-32.

        Raises:
            LulcbenchError: the member is missing, larger than ``max_bytes``, or damaged.
        """
        if name not in self.members:
            raise self.error(f"{name} is missing")
        offset, size, crc = self.members[name]
        if size > max_bytes:
            raise self.error(f"{name} has {size:,} bytes, at most {max_bytes:,} are possible")
        encoded = name.encode()
        descriptor = self._file.fileno()
        start = _LOCAL.size + len(encoded)
        whole = os.pread(descriptor, start + size, offset)  # header and data at once, if there is no extra field
        if len(whole) < start or whole[_LOCAL.size : start] != encoded:
            raise self.error(f"the local header of {name} does not match the directory")
        fields = _LOCAL.unpack_from(whole)
        if fields[0] != b"PK\3\4" or fields[3] != zipfile.ZIP_STORED or fields[9] != len(encoded):
            raise self.error(f"the local header of {name} does not match the directory")
        data = os.pread(descriptor, size, offset + start + fields[10]) if fields[10] else whole[start:]
        if len(data) != size or zlib.crc32(data) != crc:
            raise self.error(f"{name} is damaged (checksum or length)")
        return data

    def _check_directory_size(self, max_members: int) -> None:
        """Refuse a huge directory before ``zipfile`` creates an object for each entry."""
        tail = os.pread(self._file.fileno(), _END.size, max(0, self._size - _END.size))
        if len(tail) < _END.size or not tail.startswith(b"PK\5\6") or not tail.endswith(b"\0\0"):
            raise self.error("it is not a zip file, is truncated, or ends in a comment")
        _, _, _, _, members, size, offset, _ = _END.unpack(tail)
        # zipfile uses a ZIP64 record if there is a locator, regardless of the fields of the end record. So its values
        # are used here too, and fields of the end record must be equal or refer to the record.
        start = self._size - _END.size - _LOCATOR.size - _END64.size
        before = os.pread(self._file.fileno(), _END64.size + _LOCATOR.size, max(0, start))
        if start >= 0 and before[_END64.size :].startswith(b"PK\6\7"):
            if not before.startswith(b"PK\6\6"):
                raise self.error("its ZIP64 record is damaged")
            real = _END64.unpack_from(before)[7:10]
            said = zip((members, size, offset), real, (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True)
            if any(field not in (value, most) for field, value, most in said):
                raise self.error("its end record and its ZIP64 record differ")
            members, size, offset = real
        elif members == 0xFFFF or size == 0xFFFFFFFF or offset == 0xFFFFFFFF:
            raise self.error("its ZIP64 record is damaged")
        if members > max_members or size > max_members * (_ENTRY_OVERHEAD + self.MAX_NAME):
            raise self.error(f"it has {members:,} members, at most {max_members:,} are possible for this split")

    def _members(self, allowed: Callable[[str], bool]) -> dict[str, tuple[int, int, int]]:
        try:
            with zipfile.ZipFile(self._file) as directory:
                entries = directory.infolist()
        except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OSError, EOFError) as error:
            raise self.error(f"it is not a readable zip ({error})") from error
        members: dict[str, tuple[int, int, int]] = {}
        for entry in entries:
            name = entry.orig_filename
            if not allowed(name):
                raise self.error(f"it holds an unexpected member {name[:80]!r}")
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise self.error(f"{name} is not a plain file (a link, folder or device)")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise self.error(f"{name} is compressed in the zip; Zarr zips store their members")
            if entry.flag_bits & 0x1:
                raise self.error(f"{name} is encrypted")
            if name in members:
                raise self.error(f"{name} is there twice")
            if entry.header_offset < 0 or entry.header_offset + entry.file_size > self._size:
                raise self.error(f"{name} lies outside the file")
            members[name] = (entry.header_offset, entry.file_size, entry.CRC)
        return members
