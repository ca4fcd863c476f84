"""Exceptions for bad input and for data that cannot be read.

Every error is a ``LulcbenchError``. Callers that can handle a type of error catch one of its subclasses:

- ``ReleaseNotFoundError``: build or download the release, or correct its name.
- ``CorruptFileError``: repair the release. Other files, such as predictions, are not the cause.
- ``UnsupportedFormatError``: install another version, or rebuild.
- ``NotAvailableError``: choose something that the release has, or download more of it.
- ``NetworkError``: try again later.
- ``MissingPackageError``: install an extra; an ``ImportError`` too.

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


# Package that is imported → extra that installs it; tests/lulcbench/cli/test_cli.py compares them with pyproject.toml.
EXTRAS = {
    "torch": ("lightning", "matplotlib", "torch", "torchvision"),
    "torchgeo": ("torchgeo",),
    "geo": ("geopandas", "pyogrio", "pyproj", "rasterio", "shapely"),
    "maps": ("distributed", "onnx", "onnxruntime", "PIL", "skimage", "spyndex"),
    "s3": ("botocore", "s3fs"),
}


class MissingPackageError(LulcbenchError, ImportError):
    """A package that an extra installs is missing."""

    @classmethod
    def of(cls, error: ImportError) -> MissingPackageError | None:
        """The error of an import as an error that names the extra; None if no extra has the package.

        Examples:
            >>> from lulcbench.errors import MissingPackageError
            >>> MissingPackageError.of(ModuleNotFoundError("…", name="torch.utils")).remedy
            "Run: pip install 'lulcbench[torch]'."
        """
        package = (error.name or "").partition(".")[0]
        for extra, packages in EXTRAS.items():
            if package in packages:
                return cls(
                    f"This requires {package}, which is not installed.", f"Run: pip install 'lulcbench[{extra}]'."
                )
        return None


class NetworkError(LulcbenchError):
    """A server could not be reached, refused, or failed after all retries."""
