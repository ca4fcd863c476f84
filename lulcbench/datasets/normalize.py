"""Normalisation of stored values to float32, on the CPU or on a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lulcbench._native import compiled
from lulcbench.datasets._threads import in_parallel
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import Coding

# Batches above this size are not written to the caches: they would displace other data and not be there when they are
# used.
_CACHE = 4 * 2**20


class Normalizer:
    """Turns stored values into normalised ones (or values in the bands' unit): ``stored · gain + bias``, nodata → 0.

    Args:
        coding: coding of the bands.
        mean: mean of each band, in its unit, which is subtracted; 0 for values in the unit, such as reflectance.
        std: standard deviation of each band, by which the difference is divided; then 1.
    """

    def __init__(self, coding: Coding, mean: Sequence[float], std: Sequence[float]) -> None:
        self.coding = coding
        means, stds = np.array(mean, np.float64), np.array(std, np.float64)
        self.gain = torch.tensor(coding.scale / stds, dtype=torch.float32)
        self.bias = torch.tensor((coding.offset - means) / stds, dtype=torch.float32)

    def __call__(self, stored: torch.Tensor) -> torch.Tensor:
        """Stored ``(…, band, y, x)`` or ``(…, season·band, y, x)`` → float32 of the same shape, on the same device.

        Raises:
            LulcbenchError: the channels are not these bands, or these bands once per season.
        """
        gain, bias = self._by_channel(stored)
        out = torch.empty(stored.shape, dtype=torch.float32, device=stored.device)
        out.copy_(stored)
        missing = self._missing(out)
        return out.mul_(gain).add_(bias).masked_fill_(missing, 0)

    def into(self, stored: npt.NDArray[Any], out: npt.NDArray[np.float32]) -> None:
        """The same for a batch ``(n, …, band, y, x)`` in main memory, into ``out``; both C-contiguous.

        Image by image, on as many threads as torch uses; by compiled code if nodata is 0 of uint16.

        Raises:
            ValueError: types, shapes or memory layouts differ.
        """
        bands = len(self.gain)
        for what, array, dtype in (("stored", stored, np.dtype(self.coding.dtype)), ("out", out, np.dtype(np.float32))):
            # Byte order is part of a dtype, but the compiled code only sees bytes.
            if array.dtype != dtype or not array.flags.c_contiguous:
                layout = "" if array.flags.c_contiguous else ", not C-contiguous"
                raise ValueError(f"{what} is {array.dtype}{layout}; it must be C-contiguous {dtype}")
        if stored.shape != out.shape or stored.ndim < 4 or stored.shape[-3] % bands or not out.flags.writeable:
            raise ValueError(f"stored {stored.shape} does not go into out {out.shape} with {bands} bands")
        if not stored.size:
            return
        shape = (len(stored), -1, bands, *stored.shape[-2:])
        stored, out = stored.reshape(shape), out.reshape(shape)
        gain, bias = self.gain.numpy(), self.bias.numpy()
        plane = math.prod(stored.shape[-2:])
        stream = out.nbytes > _CACHE
        fast = compiled if (self.coding.dtype, self.coding.nodata) == ("uint16", 0) else None

        def convert(images: range) -> None:
            for i in images:
                if fast is not None:
                    fast.normalize(stored[i], out[i], gain, bias, plane, stream)
                else:
                    out[i] = stored[i]
                    out[i] *= gain[:, None, None]
                    out[i] += bias[:, None, None]
                    out[i][self.coding.missing(stored[i])] = 0

        in_parallel(convert, len(stored))

    def denormalize(self, image: torch.Tensor) -> npt.NDArray[np.float32]:
        """Convert an image to values in the unit of the bands; nodata becomes NaN.

        Args:
            image: image in one of the layouts of ``__call__``: stored integers, or floats, normalised or not, in which
                0 is nodata.
        """
        image = image.detach().cpu()
        values = image.to(torch.float32)
        if image.is_floating_point():
            gain, bias = self._by_channel(image)
            missing, values = image == 0, (values - bias) / gain
        else:
            missing = self._missing(values)
        values = (values * self.coding.scale + self.coding.offset).masked_fill(missing, torch.nan)
        result: npt.NDArray[np.float32] = values.numpy()
        return result

    def _missing(self, stored: torch.Tensor) -> torch.Tensor:
        """Mask of nodata among stored values in float32."""
        return stored.isnan() if self.coding.nodata == "NaN" else stored == self.coding.nodata

    def _by_channel(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gain and bias of each channel of an image, for broadcasting; bands vary faster than seasons."""
        bands = len(self.gain)
        seasons, rest = divmod(image.shape[-3], bands) if image.ndim >= 3 else (0, 0)
        if rest or not seasons:
            raise LulcbenchError(
                f"An image of shape {tuple(image.shape)} cannot be normalised as one of {bands} bands.",
                "Give (…, band, y, x) or (…, season·band, y, x); finish of the dataset takes its samples and batches.",
            )
        parts = (
            part.to(image.device, non_blocking=True) for part in (self.gain, self.bias)
        )  # without synchronisation with the GPU
        gain, bias = (part.repeat(seasons).view(-1, 1, 1) for part in parts)
        return gain, bias
