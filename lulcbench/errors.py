"""Exceptions for bad input and for data that cannot be read.

Every error is a ``LulcbenchError``. A caller that can act on the kind of error catches one of its subclasses:

- ``ReleaseNotFoundError``: build or download the release, or correct its name.
- ``CorruptFileError``: repair the release. Nothing that is read together with it, such as a predictions file, is at
  fault.
- ``UnsupportedFormatError``: install another version, or rebuild.
- ``NotAvailableError``: choose from what the release holds, or download more of it.
- ``NetworkError``: try again later.

Any other fault of the input is a plain ``LulcbenchError``.
"""

from __future__ import annotations


class LulcbenchError(ValueError):
    """Bad input: says what is wrong, where, and what to do next.

    The command lines turn it into a message and exit code 2; everything else is a bug and keeps its traceback.

    Args:
        what: what is wrong and where (a file, a field, a code), one sentence.
        remedy: what to do next, one sentence.

    Examples:
        >>> from lulcbench.errors import LulcbenchError
        >>> error = LulcbenchError("tile.tif has no CRS.", "Assign one with gdal_edit.py.")
        >>> error.what, error.remedy
        ('tile.tif has no CRS.', 'Assign one with gdal_edit.py.')
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}\n  → {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class ReleaseNotFoundError(LulcbenchError):
    """There is no release at a folder or address."""


class CorruptFileError(LulcbenchError):
    """A file of a release is missing, truncated or altered."""


class UnsupportedFormatError(LulcbenchError):
    """A file has a format version, or was made with a legend, that this lulcbench does not read."""


class NotAvailableError(LulcbenchError):
    """An intact release does not hold the split, sensor, year, band, region or class that was asked for."""


class NetworkError(LulcbenchError):
    """A server could not be reached, refused, or failed after all retries."""
