"""Stored uint16 → float32, on the processor or on the device."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from lulcbench import sensors
from lulcbench._native import compiled
from lulcbench.datasets._threads import in_parallel
from lulcbench.errors import LulcbenchError
from lulcbench.release import SensorInfo

# Batches above this size would only drive other things out of the caches, and are themselves gone when they are used.
_CACHE = 4 * 2**20


class Normalizer:
    """Turns stored values into normalised ones (or reflectance): ``stored · gain + bias`` per band, nodata → 0.

    Args:
        info: the sensor in the release; its statistics are of the train split alone.
        bands: positions of the bands that images hold.
        normalize: subtract the train mean and divide by the train standard deviation; otherwise reflectance.
    """

    def __init__(self, info: SensorInfo, bands: list[int], normalize: bool = True) -> None:
        mean = np.array(info.statistics.mean)[bands] if normalize else np.zeros(len(bands))
        std = np.array(info.statistics.std)[bands] if normalize else np.ones(len(bands))
        self.gain = torch.tensor(sensors.SCALE / std, dtype=torch.float32)
        self.bias = torch.tensor((sensors.OFFSET - mean) / std, dtype=torch.float32)

    def __call__(self, stored: torch.Tensor) -> torch.Tensor:
        """Uint16 ``(…, band, y, x)`` or ``(…, season·band, y, x)`` → float32 of the same shape, on the same device.

        Raises:
            LulcbenchError: the channels are not these bands, once or once a season.
        """
        gain, bias = self._by_channel(stored)
        out = torch.empty(stored.shape, dtype=torch.float32, device=stored.device)
        out.copy_(stored)
        nodata = out == sensors.NODATA
        return out.mul_(gain).add_(bias).masked_fill_(nodata, 0)

    def into(self, stored: npt.NDArray[np.uint16], out: npt.NDArray[np.float32]) -> None:
        """The same for a batch ``(n, …, band, y, x)`` in main memory, into ``out``; both C-contiguous.

        Image by image, on as many threads as torch would use.

        Raises:
            ValueError: types, shapes or memory layouts are others.
        """
        bands = len(self.gain)
        for what, array, dtype in (("stored", stored, np.uint16), ("out", out, np.float32)):
            # Byte order is part of a dtype; the compiled pass sees nothing but bytes.
            if array.dtype != dtype or not array.flags.c_contiguous:
                layout = "" if array.flags.c_contiguous else ", not C-contiguous"
                raise ValueError(f"{what} is {array.dtype}{layout}; it must be C-contiguous {np.dtype(dtype)}")
        if stored.shape != out.shape or stored.ndim < 4 or stored.shape[-3] % bands or not out.flags.writeable:
            raise ValueError(f"stored {stored.shape} does not go into out {out.shape} with {bands} bands")
        if not stored.size:
            return
        shape = (len(stored), -1, bands, *stored.shape[-2:])
        stored, out = stored.reshape(shape), out.reshape(shape)
        gain, bias = self.gain.numpy(), self.bias.numpy()
        plane = math.prod(stored.shape[-2:])
        stream = out.nbytes > _CACHE

        def convert(images: range) -> None:
            for i in images:
                if compiled is not None:
                    compiled.normalize(stored[i], out[i], gain, bias, plane, stream)
                else:
                    out[i] = stored[i]
                    out[i] *= gain[:, None, None]
                    out[i] += bias[:, None, None]
                    out[i][stored[i] == sensors.NODATA] = 0

        in_parallel(convert, len(stored))

    def reflectance(self, image: torch.Tensor) -> npt.NDArray[np.float32]:
        """Image in any of the forms of ``__call__``, stored, normalised or not → reflectance; nodata (0) → NaN."""
        image = image.detach().cpu()
        stored = image.to(torch.float32)
        if image.is_floating_point():
            gain, bias = self._by_channel(image)
            stored = ((stored - bias) / gain).masked_fill(image == 0, 0)
        result: npt.NDArray[np.float32] = (stored * sensors.SCALE + sensors.OFFSET).numpy()
        result[stored.numpy() == sensors.NODATA] = np.nan
        return result

    def _by_channel(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gain and bias of each channel of an image, as broadcast over it; of seasons and bands, bands vary fastest."""
        bands = len(self.gain)
        seasons, rest = divmod(image.shape[-3], bands) if image.ndim >= 3 else (0, 0)
        if rest or not seasons:
            raise LulcbenchError(
                f"An image of shape {tuple(image.shape)} cannot be normalised as one of {bands} bands.",
                "Give (…, band, y, x) or (…, season·band, y, x); finish of the dataset takes its samples and batches.",
            )
        parts = (
            part.to(image.device, non_blocking=True) for part in (self.gain, self.bias)
        )  # the GPU is not waited for
        gain, bias = (part.repeat(seasons).view(-1, 1, 1) for part in parts)
        return gain, bias
