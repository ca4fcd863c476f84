"""Seasonal spectra of pixels, the input of per-pixel models, and labels on the same grid.

After Witjes et al. 2022 (https://doi.org/10.7717/peerj.13573), who classify seasonal Landsat spectra pixel by pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from baselines.devices import Images, map_images
from lulcbench.grid import area_weights
from lulcbench.legend import IGNORE_INDEX

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

    def add(self, pixels: Spectra, labels: npt.NDArray[np.integer]) -> None:
        """Draw labelled pixels from spectra ``(b, y, x, channel)`` and class indices ``(b, y, x)``."""
        for image, label in zip(pixels, labels, strict=True):
            labelled = np.flatnonzero(label.ravel() != IGNORE_INDEX)
            chosen = self._rng.choice(labelled, min(self._per_image, len(labelled)), replace=False)
            self._spectra.append(image.reshape(-1, image.shape[-1])[chosen])
            self._labels.append(label.ravel()[chosen])

    @property
    def drawn(self) -> tuple[Spectra, npt.NDArray[Any]]:
        """The sample: spectra ``(n, channel)`` and class indices ``(n,)``."""
        return np.concatenate(self._spectra), np.concatenate(self._labels)


def _averaged(image: Any, size: int) -> Any:
    import torch

    weights = torch.from_numpy(area_weights(image.shape[-1], size).astype(np.float32)).to(image.device)
    valid = (image != 0).float()
    total, cover = (weights @ values @ weights.T for values in (image * valid, valid))
    return torch.where(cover > 1e-6, total / cover.clamp_min(1e-6), 0.0)
