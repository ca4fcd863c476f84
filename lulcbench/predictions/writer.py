"""Writing of the predictions of a split."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import zipfile
from collections.abc import Sequence
from operator import index
from pathlib import Path
from types import TracebackType
from typing import Self, SupportsIndex

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend
from lulcbench.predictions.format import (
    COMPRESSION,
    check_codes,
    check_years,
    chunk_name,
    metadata,
    prediction_info,
    quantise,
)
from lulcbench.release import Release, TilePosition, label_shape


class PredictionWriter:
    """Writes the predictions of one split; the file appears when all tiles have been written.

    Use it as a context manager, and call ``write`` once for every tile of the split, in any order.

    Args:
        path: file to write, ``….zip``.
        release: the release that was predicted, opened, or its folder.
        split: name of the split.
        year: year of the predictions, a pair (from, to) for change, or more years for a series, in ascending order. The
            release must have imagery or labels of each year; only years with labels can be scored.
        level: level of the codes: 4, or a coarser one for a model that predicts only that.
        probabilities: whether class probabilities are written too.

    Raises:
        NotAvailableError: the release has no such split, or neither imagery nor labels of a year.
        LulcbenchError: years are not in ascending order, or, at the end of the context, tiles are missing.

    Examples:
        >>> with PredictionWriter("forest.zip", root, "test", year=2018) as writer:
        ...     for tile in writer.info.tiles:
        ...         writer.write(tile, np.full((96, 96), 3110))
        >>> writer.path.is_file()
        True
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        release: str | os.PathLike[str] | Release,
        split: str,
        year: int | Sequence[int],
        level: int = 4,
        probabilities: bool = False,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix != ".zip":
            raise LulcbenchError(f"{self.path} does not end in .zip.", "Predictions are one Zarr zip.")
        if self.path.is_dir():
            raise LulcbenchError(f"Cannot write {self.path}: it is a folder.", "Give the name of a file.")
        opened = Release.open(release)
        tiles = opened.tiles(split)
        years = _years(year)
        check_years(opened.manifest, years)
        self.info = prediction_info(opened.manifest, split, years, level, list(tiles.ids), probabilities)
        self._positions = {tile: TilePosition(i) for i, tile in enumerate(tiles.ids)}
        self._done: set[str] = set()
        self._zip: zipfile.ZipFile | None = None
        self._codes_shape = (len(years), *label_shape())
        self._probability_shape = (len(years), len(legend().codes(level)), *label_shape())

    def __enter__(self) -> Self:
        self._done = set()  # of an earlier context, which would be taken for those of this file
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=f".{self.path.name}.", delete=False) as file:
            self._temporary = Path(file.name)
        self._zip = zipfile.ZipFile(self._temporary, "w", zipfile.ZIP_STORED, allowZip64=True)
        for name, content in metadata(self.info).items():
            self._add(self._zip, name, json.dumps(content, indent=1).encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._zip is not None:
                self._zip.close()
                self._zip = None
            if kind is not None:
                return
            missing = [tile for tile in self._positions if tile not in self._done]
            if missing:
                raise LulcbenchError(
                    f"{len(missing)} of {len(self._positions)} tiles of {self.info.split} were not predicted: "
                    f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}.",
                    f"{self.path} was not written; predict every tile of the split.",
                )
            with self._temporary.open("rb") as file:
                os.fsync(file.fileno())
            self._temporary.chmod(0o644)
            self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def write(self, tile: str, codes: npt.ArrayLike, probabilities: npt.NDArray[np.floating] | None = None) -> None:
        """Add a tile.

        Args:
            tile: id of the tile.
            codes: LUISA codes of ``level``, integer, ``(96, 96)``, or ``(year, 96, 96)`` for several years. Every pixel
                needs a class; nodata is not allowed.
            probabilities: of each class in the order of ``legend().codes(level)``, summing to 1 within 1 %: float
                ``(class, 96, 96)``, or ``(year, class, 96, 96)``; see ``to_label_grid``.

        Raises:
            LulcbenchError: unknown or repeated tile, wrong shape, a code that is not of ``level``, no probabilities.
        """
        if self._zip is None:
            raise LulcbenchError(f"{self.path} is not open.", "Write within 'with PredictionWriter(…) as writer:'.")
        if tile not in self._positions:
            raise LulcbenchError(f"{tile} is not a tile of {self.info.split}.", f"{self.info.release} lists them.")
        if tile in self._done:
            raise LulcbenchError(f"{tile} was written already.", "Write each tile once.")
        values = np.asarray(codes)
        values = values[None] if values.ndim == 2 else values
        if values.shape != self._codes_shape or not np.issubdtype(values.dtype, np.integer):
            raise LulcbenchError(
                f"Codes of {tile} are {values.dtype} {values.shape}, not integers {self._codes_shape}.",
                "Bring predictions to the 50 m label grid first (lulcbench.predictions.to_label_grid).",
            )
        checked = check_codes(values, self.info.level, tile)
        position = self._positions[tile]
        members = {chunk_name("codes", position): checked.astype("<u2").tobytes()}
        if (probabilities is None) != (self.info.probabilities is None):
            raise LulcbenchError(
                f"{tile} came {'without' if probabilities is None else 'with'} probabilities.",
                "Give them for every tile (probabilities=True) or for none.",
            )
        if probabilities is not None:
            shares = np.asarray(probabilities)
            shares = shares[None] if shares.ndim == 3 else shares
            if shares.shape != self._probability_shape:
                raise LulcbenchError(
                    f"Probabilities of {tile} are {shares.shape}, not {self._probability_shape}.",
                    "Give (class, y, x), or (year, class, y, x) for several years.",
                )
            quantised = quantise(shares, tile)
            members |= {chunk_name("probabilities", position, i): part.tobytes() for i, part in enumerate(quantised)}
        for name, data in members.items():
            self._add(self._zip, name, gzip.compress(data, COMPRESSION[name.partition("/")[0]], mtime=0))
        self._done.add(tile)

    @staticmethod
    def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
        entry = zipfile.ZipInfo(name)  # its default date, 1980, so that equal predictions give equal files
        entry.external_attr = 0o100644 << 16
        archive.writestr(entry, data)


def _years(year: int | Sequence[int]) -> list[int]:
    """Years as integers of Python, also of one of NumPy."""
    try:
        return [index(year)] if isinstance(year, SupportsIndex) else [index(each) for each in year]
    except TypeError as error:
        raise LulcbenchError(
            f"{year!r} is not a year or a sequence of years.", "Give integers, such as 2018."
        ) from error
