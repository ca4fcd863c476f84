"""Stored uint16 → float32, on the processor or on the device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from lulcbench import sensors
from lulcbench.datasets.threads import in_parallel
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
        out.copy_(stored)
        nodata = out == sensors.NODATA
        gain, bias = (part.to(out.device).view(-1, 1, 1) for part in (self.gain, self.bias))
        return out.mul_(gain).add_(bias).masked_fill_(nodata, 0)

    def into(self, stored: npt.NDArray[np.uint16], out: npt.NDArray[np.float32]) -> None:
        """The same for a batch ``(n, …, band, y, x)`` in main memory, into ``out``.

        Image by image, so that an image passes through the cache once, on as many threads as torch would use. (Torch's
        own operators make several passes over the whole batch, and wait for each other on a busy machine.)
        """
        gain, bias = self.gain.view(-1, 1, 1).numpy(), self.bias.view(-1, 1, 1).numpy()

        def convert(images: range) -> None:
            for i in images:
                # Conversion from int16 is the faster one. Values from 32,768 (reflectance 3.2) would be negative there,
                # so the least value says whether there are any, and whether there is nodata.
                signed = stored[i].view(np.int16)
                least = signed.min()
                np.copyto(out[i], signed if least >= 0 else stored[i])
                out[i] *= gain
                out[i] += bias
                if least <= 0:
                    out[i][signed == sensors.NODATA] = 0

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
