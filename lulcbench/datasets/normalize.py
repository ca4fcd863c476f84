"""Stored uint16 → float32, on the processor or on the device."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from lulcbench import sensors
from lulcbench.datasets.threads import in_parallel
from lulcbench.native import compiled
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
        """Uint16 ``(…, band, y, x)`` → float32 of the same shape, on the same device."""
        out = torch.empty(stored.shape, dtype=torch.float32, device=stored.device)
        out.copy_(stored)
        nodata = out == sensors.NODATA
        gain, bias = (part.to(out.device).view(-1, 1, 1) for part in (self.gain, self.bias))
        return out.mul_(gain).add_(bias).masked_fill_(nodata, 0)

    def into(self, stored: npt.NDArray[np.uint16], out: npt.NDArray[np.float32]) -> None:
        """The same for a batch ``(n, …, band, y, x)`` in main memory, into ``out``; both C-contiguous.

        Image by image, on as many threads as torch would use.
        """
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
        """Image ``(…, band, y, x)`` in any of the dataset's forms → reflectance; nodata (0) → NaN."""
        image = image.detach().cpu()
        stored = image.to(torch.float32)
        if image.is_floating_point():
            stored = ((stored - self.bias.view(-1, 1, 1)) / self.gain.view(-1, 1, 1)).masked_fill(image == 0, 0)
        result: npt.NDArray[np.float32] = (stored * sensors.SCALE + sensors.OFFSET).numpy()
        result[stored.numpy() == sensors.NODATA] = np.nan
        return result
