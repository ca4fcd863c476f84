"""Images of windows, read from the array of a sensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from lulcbench.datasets._buffers import Buffers
from lulcbench.datasets.batch import WindowBatch
from lulcbench.datasets.normalize import Normalizer
from lulcbench.release import ArrayKey, Manifest

if TYPE_CHECKING:
    from lulcbench.release.shards import ShardReader

_TORCH = {"uint8": torch.uint8, "int16": torch.int16, "uint16": torch.uint16, "float32": torch.float32}


class Images:
    """Reads the images of one sensor.

    Args:
        reader: reader of the split.
        manifest: manifest of the release.
        sensor: name of the sensor.
        history: years before that of a window whose seasons precede those of its own year.
        seasons: positions of the seasons to read; None reads all.
        bands: positions of the bands to read.
        normalizer: normalizer of these bands.
        buffers: memory for the images.
    """

    def __init__(
        self,
        reader: ShardReader,
        manifest: Manifest,
        sensor: str,
        history: tuple[int, ...],
        seasons: list[int] | None,
        bands: Sequence[int],
        normalizer: Normalizer,
        buffers: Buffers,
    ) -> None:
        info = manifest.sensor(sensor)
        self._reader = reader
        self._sensor = sensor
        self._before = (*history, 0)
        self._resolution = info.resolution
        self._dtype = _TORCH[info.coding.dtype]
        self._seasons = seasons
        self._n_seasons = len(manifest.seasons if seasons is None else seasons)
        self._bands = list(bands)
        self._normalizer = normalizer
        self._buffers = buffers

    def read(self, batch: WindowBatch, size: int, as_stored: bool) -> torch.Tensor:
        """Images of windows, each of its year (and earlier ones): ``(n, season, band, y, x)``.

        Args:
            batch: the windows.
            size: edge of the windows in metres.
            as_stored: return stored integers; otherwise, and always for stored floats, float32 of the normalizer.
        """
        n = size // self._resolution
        shape = (len(batch), len(self._before) * self._n_seasons, len(self._bands), n, n)
        stored = self._buffers.empty(shape, self._dtype)
        target = stored.numpy()
        self._fill(target, batch, n, self._bands, lambda year: ArrayKey(self._sensor, year))
        if as_stored and not stored.is_floating_point():
            return stored
        image = self._buffers.empty(shape, torch.float32)
        self._normalizer.into(target, image.numpy())
        return image

    def read_dated(
        self,
        batch: WindowBatch,
        size: int,
        array: ArrayKey,
        steps: npt.NDArray[np.integer],
        known: npt.NDArray[np.bool_],
        as_stored: bool,
    ) -> torch.Tensor:
        """Windows of dated imagery: ``(n, time, band, y, x)``.

        Args:
            batch: the windows.
            size: edge of the windows in metres.
            array: the dated array.
            steps: positions on its time axis, ``(n, time)``.
            known: whether there is such a date; if not, the image is nodata, ``(n, time)``.
            as_stored: see ``read``.
        """
        n = size // self._resolution
        corners = batch.offsets // self._resolution
        if n == 1:
            whole = self._reader.read_pixels(array, batch.rows, corners, self._bands)[..., None, None]
        else:
            whole = self._reader.read(array, batch.rows, corners, (n, n), None, self._bands)
        shape = (*steps.shape, len(self._bands), n, n)
        stored = self._buffers.empty(shape, self._dtype)
        target = stored.numpy()
        for i, (source, positions, there) in enumerate(zip(whole, steps, known, strict=True)):
            np.take(source, positions, axis=0, out=target[i])
            target[i][~there] = self._normalizer.coding.fill_value
        if as_stored and not stored.is_floating_point():
            return stored
        image = self._buffers.empty(shape, torch.float32)
        self._normalizer.into(target, image.numpy())
        return image

    def read_clear_counts(self, batch: WindowBatch, size: int) -> torch.Tensor:
        """Numbers of clear observations in windows, as the images are: uint8 ``(n, season, y, x)``.

        Args:
            batch: the windows.
            size: edge of the windows in metres.
        """
        n = size // self._resolution
        counts = self._buffers.empty((len(batch), len(self._before) * self._n_seasons, n, n), torch.uint8)
        self._fill(counts.numpy(), batch, n, None, lambda year: ArrayKey(self._sensor, year).clear)
        return counts

    def _fill(
        self,
        target: npt.NDArray[Any],
        batch: WindowBatch,
        n: int,
        bands: Sequence[int] | None,
        array: Callable[[int], ArrayKey],
    ) -> None:
        """Read windows of ``n × n`` pixels into ``target``, each from the arrays of its year and of earlier ones."""
        for k, before in enumerate(self._before):
            seasons = slice(k * self._n_seasons, (k + 1) * self._n_seasons)
            for year, at in batch.by_year():
                whole = len(at) == len(batch) and len(self._before) == 1
                values = self._reader.read(
                    array(year - before),
                    batch.rows[at],
                    batch.offsets[at] // self._resolution,
                    (n, n),
                    self._seasons,
                    bands,
                    target if whole else None,
                )
                if not whole:
                    target[at, seasons] = values
