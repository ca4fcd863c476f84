"""Zip files of scenes."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path, PurePosixPath

from builders._progress import Report
from lulcbench.errors import CorruptFileError, LulcbenchError


def unpack(path: Path, out: Path, report: Report) -> Path:
    """Unpack a zip file to a folder; returns the folder.

    Raises:
        LulcbenchError: a name in it leads out of the folder or is there twice, it is encrypted, or the disk has too
            little space.
        CorruptFileError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            _check(path, members, out)
            for done, one in enumerate(members, start=1):
                archive.extract(one, out)
                report(done, len(members))
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise CorruptFileError(f"{path} is not a zip file, or damaged: {error}.", "Fetch it again.") from error
    return out


def _check(path: Path, members: list[zipfile.ZipInfo], out: Path) -> None:
    names = [PurePosixPath(one.filename) for one in members]
    bad = next((name for name in names if name.is_absolute() or ".." in name.parts or "\\" in str(name)), None)
    if bad is not None:
        raise LulcbenchError(f"{path} has a file named {str(bad)!r}, outside of its folder.", "Unpack it yourself.")
    if len({str(name).lower() for name in names}) < len(names):
        raise LulcbenchError(f"{path} has two files of one name.", "Unpack it yourself.")
    if any(one.flag_bits & 1 for one in members):
        raise LulcbenchError(f"{path} is encrypted.", "Unpack it yourself.")
    out.mkdir(parents=True, exist_ok=True)
    size, free = sum(one.file_size for one in members), shutil.disk_usage(out).free
    if size > free:
        raise LulcbenchError(
            f"{path} unpacks to {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {out}.", "Free space."
        )
