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
        shape = (-1, 1, 1)
        gain, bias = self.gain.to(stored.device).view(shape), self.bias.to(stored.device).view(shape)
        values = stored.to(torch.float32)
        return values.mul(gain).add_(bias).masked_fill_(values == sensors.NODATA, 0)

    def reflectance(self, image: torch.Tensor) -> npt.NDArray[np.float32]:
        """Image ``(…, band, y, x)`` in any of the dataset's forms → reflectance; nodata (0) → NaN."""
        image = image.detach().cpu()
        stored = image.to(torch.float32)
        if image.is_floating_point():
            stored = ((stored - self.bias.view(-1, 1, 1)) / self.gain.view(-1, 1, 1)).masked_fill(image == 0, 0)
        result: npt.NDArray[np.float32] = (stored * sensors.SCALE + sensors.OFFSET).numpy()
        result[stored.numpy() == sensors.NODATA] = np.nan
        return result
