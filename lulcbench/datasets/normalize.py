"""Stored uint16 → float32, on the processor or on the device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from lulcbench import sensors
from lulcbench.release import SensorInfo


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
        values = out.copy_(stored)
        nodata = values == sensors.NODATA
        return self._scale(out).masked_fill_(nodata, 0)

    def into(self, stored: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """The same for a batch ``(n, …, band, y, x)`` in main memory, into ``out``; returns ``out``."""
        # As int16, which torch converts fastest, stored values above 32,767 (reflectance 3.2) would be negative; the
        # least value of each image says whether there are any, and whether there is nodata.
        signed = stored.view(torch.int16)
        least = signed.flatten(1).amin(1)
        out.copy_(signed if int(least.min()) >= 0 else stored)
        self._scale(out)
        for i in (least <= 0).nonzero().flatten().tolist():
            out[i].masked_fill_(signed[i] == sensors.NODATA, 0)
        return out

    def _scale(self, values: torch.Tensor) -> torch.Tensor:
        gain, bias = (part.to(values.device).view(-1, 1, 1) for part in (self.gain, self.bias))
        return values.mul_(gain).add_(bias)

    def reflectance(self, image: torch.Tensor) -> npt.NDArray[np.float32]:
        """Image ``(…, band, y, x)`` in any of the dataset's forms → reflectance; nodata (0) → NaN."""
        image = image.detach().cpu()
        stored = image.to(torch.float32)
        if image.is_floating_point():
            stored = ((stored - self.bias.view(-1, 1, 1)) / self.gain.view(-1, 1, 1)).masked_fill(image == 0, 0)
        result: npt.NDArray[np.float32] = (stored * sensors.SCALE + sensors.OFFSET).numpy()
        result[stored.numpy() == sensors.NODATA] = np.nan
        return result
