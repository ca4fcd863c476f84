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
    """Features of single pixels: spectra, indices by season, the range of each index over the seasons, and trends.

    A trend is the change of a band (normalised) or an index in a season over all years of the input, by the
    least-squares line through the years with data; 0 if there are fewer than two. Ranges are of the year of the labels.

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
        # Of each index: two channels of each composite, and the years. Of each sensor with a history: channels by year.
        self._pairs: list[tuple[list[tuple[int, int]], tuple[int, ...]]] = []
        self._bands: list[tuple[list[list[int]], tuple[int, ...]]] = []
        self.names = [f"{name}:{channel}" for name, channel in channels]
        ranges, band_trends, index_trends = [], [], []
        for name, imagery in inputs.items():
            composites = list(dict.fromkeys(channel.rpartition(":")[0] for channel in imagery.channels))
            bands = list(dict.fromkeys(channel.rpartition(":")[2] for channel in imagery.channels))
            years = (*(-before for before in imagery.history), 0)
            seasons = composites[-(len(composites) // len(years)) :]
            if imagery.history:
                own = [at[name, channel] for channel in imagery.channels]
                self._bands.append((np.array(own).reshape(len(years), -1).tolist(), years))
                band_trends += [f"{name}:{season}:{band} trend" for season in seasons for band in bands]
            for index, wavelengths in INDICES.items():
                pair = [_band_near(name, bands, wavelength) for wavelength in wavelengths]
                if None in pair:
                    continue
                keys = [[f"{composite}:{band}".lstrip(":") for band in pair] for composite in composites]
                self._pairs.append(([(at[name, first], at[name, second]) for first, second in keys], years))
                self.names += [f"{name}:{composite}:{index}" for composite in composites]
                ranges.append(f"{name}:{index} range")
                if imagery.history:
                    index_trends += [f"{name}:{season}:{index} trend" for season in seasons]
        self.names += ranges + band_trends + index_trends

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features ``(n, feature)`` of normalised spectra ``(n, channel)``; those of missing bands are 0."""
        values = pixels * self.std + self.mean
        known = pixels != 0
        trends = [_trend(pixels[:, at], known[:, at], years) for at, years in self._bands]
        indices, ranges = [], []
        for composites, years in self._pairs:
            seasons = len(composites) // len(years)
            at, other = (list(side) for side in zip(*composites, strict=True))
            first, second = values[:, at], values[:, other]
            total = first + second
            valid = known[:, at] & known[:, other] & (total > 0.01)
            index = torch.where(valid, (first - second) / torch.where(valid, total, 1.0), 0.0)
            indices.append(index.clamp(-1, 1))
            own, seen = index[:, -seasons:], valid[:, -seasons:]
            highest = torch.where(seen, own, -torch.inf).amax(1, keepdim=True)
            lowest = torch.where(seen, own, torch.inf).amin(1, keepdim=True)
            ranges.append(torch.where(seen.any(1, keepdim=True), highest - lowest, 0.0))
            if len(years) > 1:
                by_year = (-1, len(years), seasons)
                trends.append(_trend(indices[-1].reshape(by_year), valid.reshape(by_year), years))
        return torch.cat([pixels, *indices, *ranges, *trends], 1)

    def of(self, pixels: Spectra) -> Spectra:
        """The same of arrays."""
        with torch.inference_mode():
            computed: Spectra = self(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()
        return computed


def _trend(values: Tensor, known: Tensor, years: Sequence[int]) -> Tensor:
    """Change over all years by least squares: ``(n, feature)`` of ``(n, year, feature)``; 0 with data of one year."""
    weight = known.to(values.dtype)
    count = weight.sum(1).clamp(min=1)
    x = torch.tensor(years, dtype=values.dtype, device=values.device)[:, None] / (years[-1] - years[0])
    deviation = (x - ((weight * x).sum(1) / count)[:, None]) * weight
    spread = (deviation * deviation).sum(1)
    # The deviations sum to 0, so that the mean of the values cancels.
    return torch.where(spread > 0, (deviation * values).sum(1) / torch.where(spread > 0, spread, 1.0), 0.0)


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
