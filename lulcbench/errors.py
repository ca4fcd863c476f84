"""Exceptions for bad input and for data that cannot be read.

Every error is a ``LulcbenchError``. Callers that can handle a type of error catch one of its subclasses:

- ``ReleaseNotFoundError``: build or download the release, or correct its name.
- ``CorruptFileError``: repair the release. Other files, such as predictions, are not the cause.
- ``UnsupportedFormatError``: install another version, or rebuild.
- ``NotAvailableError``: choose something that the release has, or download more of it.
- ``NetworkError``: try again later.

Any other invalid input is a plain ``LulcbenchError``.
"""

from __future__ import annotations


class LulcbenchError(ValueError):
    """Invalid input: states what is wrong and where, and what to do next.

    The command lines print it as a message, with exit code 2; any other exception is a bug and keeps its traceback.

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
    """A folder or address has no release."""


class CorruptFileError(LulcbenchError):
    """A file of a release is missing, truncated or altered."""


class UnsupportedFormatError(LulcbenchError):
    """A file has a format version or a legend that this version of lulcbench does not support."""


class NotAvailableError(LulcbenchError):
    """An intact release does not have the requested split, sensor, year, band, region or class."""


class NetworkError(LulcbenchError):
    """A server could not be reached, refused, or failed after all retries."""
