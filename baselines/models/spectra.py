"""Seasonal spectra of pixels, the input of per-pixel models, and labels on the same grid.

After Witjes et al. 2022 (https://doi.org/10.7717/peerj.13573), who classify seasonal Landsat spectra pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from baselines.data import Input
from baselines.devices import Images, map_images
from lulcbench.grid import area_weights
from lulcbench.legend import IGNORE_INDEX
from lulcbench.sensors import sensor as sensor_of

Spectra = npt.NDArray[np.float32]


def spectra(images: Images, size: int | None = None) -> Spectra:
    """Spectra of the pixels of normalised images.

    Args:
        images: ``(b, channel, y, x)``, or a dict by sensor; nodata is 0. All sensors must have the same grid.
        size: side in pixels of another grid of the same extent, such as 96 for the labels of a tile: valid values are
            averaged by area over its pixels; pixels without data get 0. None keeps the grid of the images.

    Returns:
        float32 ``(b, y, x, channel)``.
    """
    if size is not None:
        images = map_images(images, lambda image: _averaged(image, size))
    arrays = [image.cpu().numpy() for image in (images.values() if isinstance(images, dict) else (images,))]
    return np.concatenate(arrays, 1).transpose(0, 2, 3, 1)


class IndexFeatures(nn.Module):
    """Features of single pixels: spectra, their indices by season, and the range of each index over the seasons.

    Args:
        inputs: sensor → input, in the order of the channels of spectra. Bands are recognised by their wavelengths.

    Attributes:
        names: names of the features, the channels first.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: Mapping[str, Input]) -> None:
        super().__init__()
        channels = [(name, channel) for name, i in inputs.items() for channel in i.channels]
        self.register_buffer("mean", torch.tensor([m for i in inputs.values() for m in i.mean]))
        self.register_buffer("std", torch.tensor([s for i in inputs.values() for s in i.std]))
        at = {pair: k for k, pair in enumerate(channels)}
        self._pairs: list[list[tuple[int, int]]] = []  # of each index: channels of each season
        self.names = [f"{name}:{channel}" for name, channel in channels]
        ranges = []
        for name, imagery in inputs.items():
            seasons = list(dict.fromkeys(channel.rpartition(":")[0] for channel in imagery.channels))
            bands = list(dict.fromkeys(channel.rpartition(":")[2] for channel in imagery.channels))
            for index, wavelengths in INDICES.items():
                pair = [_band_near(name, bands, wavelength) for wavelength in wavelengths]
                if None in pair:
                    continue
                keys = [[f"{season}:{band}".lstrip(":") for band in pair] for season in seasons]
                self._pairs.append([(at[name, first], at[name, second]) for first, second in keys])
                self.names += [f"{name}:{season}:{index}" for season in seasons]
                ranges.append(f"{name}:{index} range")
        self.names += ranges

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features ``(n, feature)`` of normalised spectra ``(n, channel)``; those of missing bands are 0."""
        values = pixels * self.std + self.mean
        known = pixels != 0
        indices, ranges = [], []
        for seasons in self._pairs:
            at, other = (list(side) for side in zip(*seasons, strict=True))
            first, second = values[:, at], values[:, other]
            total = first + second
            valid = known[:, at] & known[:, other] & (total > 0.01)
            index = torch.where(valid, (first - second) / torch.where(valid, total, 1.0), 0.0)
            indices.append(index.clamp(-1, 1))
            highest = torch.where(valid, index, -torch.inf).amax(1, keepdim=True)
            lowest = torch.where(valid, index, torch.inf).amin(1, keepdim=True)
            ranges.append(torch.where(valid.any(1, keepdim=True), highest - lowest, 0.0))
        return torch.cat([pixels, *indices, *ranges], 1)

    def of(self, pixels: Spectra) -> Spectra:
        """The same of arrays."""
        with torch.inference_mode():
            computed: Spectra = self(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()
        return computed


# Normalised differences of reflectance at two wavelengths in µm: vegetation (Tucker 1979), water (McFeeters 1996),
# moisture (Gao 1996) and burn ratio (Key & Benson 2006).
INDICES = {"ndvi": (0.85, 0.66), "ndwi": (0.56, 0.85), "ndmi": (0.85, 1.61), "nbr": (0.85, 2.2)}


def _band_near(sensor: str, bands: Sequence[str], wavelength: float) -> str | None:
    """Name of the band of a sensor within 5 % of a wavelength, the nearest; None if there is none."""
    known = {band.name: band.wavelength for band in sensor_of(sensor).bands if band.name in bands and band.wavelength}
    near = min(known, key=lambda name: abs(known[name] - wavelength), default=None)
    return near if near is not None and abs(known[near] - wavelength) < 0.05 * wavelength else None


def nearest(labels: npt.NDArray[np.integer], size: int) -> npt.NDArray[np.integer]:
    """Sample labels ``(b, y, x)`` at the pixel centres of another grid of the same extent: ``(b, size, size)``."""
    at = ((np.arange(size) + 0.5) * (labels.shape[-1] / size)).astype(np.int64)
    return labels[:, at][:, :, at]


class PixelSample:
    """Random sample of labelled pixels, with the same number from every image.

    Args:
        count: number of pixels.
        images: number of images that will be added.
        seed: seed of the sample.
    """

    def __init__(self, count: int, images: int, seed: int) -> None:
        self._per_image, self._rng = -(-count // images), np.random.default_rng(seed)
        self._spectra: list[Spectra] = []
        self._labels: list[npt.NDArray[np.integer]] = []
        self._images: list[npt.NDArray[np.intp]] = []

    def add(self, pixels: Spectra, labels: npt.NDArray[np.integer]) -> None:
        """Draw labelled pixels from spectra ``(b, y, x, channel)`` and class indices ``(b, y, x)``."""
        for image, label in zip(pixels, labels, strict=True):
            labelled = np.flatnonzero(label.ravel() != IGNORE_INDEX)
            chosen = self._rng.choice(labelled, min(self._per_image, len(labelled)), replace=False)
            self._spectra.append(image.reshape(-1, image.shape[-1])[chosen])
            self._labels.append(label.ravel()[chosen])
            self._images.append(np.full(len(chosen), len(self._images)))

    @property
    def drawn(self) -> tuple[Spectra, npt.NDArray[Any]]:
        """The sample: spectra ``(n, channel)`` and class indices ``(n,)``."""
        return np.concatenate(self._spectra), np.concatenate(self._labels)

    @property
    def images(self) -> npt.NDArray[np.intp]:
        """Number of the image of each pixel of the sample, in the order in which images were added: ``(n,)``."""
        return np.concatenate(self._images)


def _averaged(image: Any, size: int) -> Any:
    weights = torch.from_numpy(area_weights(image.shape[-1], size).astype(np.float32)).to(image.device)
    valid = (image != 0).float()
    total, cover = (weights @ values @ weights.T for values in (image * valid, valid))
    return torch.where(cover > 1e-6, total / cover.clamp_min(1e-6), 0.0)
