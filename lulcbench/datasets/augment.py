"""Augmentation of batches on the device; images of all sensors and labels stay aligned.

Each maps a batch to a batch, so that ``torch.nn.Sequential`` chains them and ``LuisaDataModule(augment=…)`` accepts
them. All draw from torch's global CPU generator on any device, so the same seed gives the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's global generators; their states are restored afterwards.

    Args:
        seed: seed of the generators.
        device: device whose generator is seeded and restored too.

    Example:
        >>> with seeded(1):
        ...     first = torch.rand(2)
        >>> with seeded(1):
        ...     assert torch.equal(torch.rand(2), first)
    """
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def dihedral(x: Tensor, k: int) -> Tensor:
    """One of the eight symmetries of the square, ``k`` in 0 … 7, of ``(…, y, x)`` (square if ``k`` is odd).

    ``k`` % 4 quarter turns counter-clockwise, then, from 4 on, a flip of the columns.

    Example:
        >>> dihedral(torch.tensor([[1, 2], [3, 4]]), 1)
        tensor([[2, 4],
                [1, 3]])
    """
    x = torch.rot90(x, k % 4, (-2, -1)) if k % 4 else x
    return x.flip(-1) if k >= 4 else x


def undo_dihedral(x: Tensor, k: int) -> Tensor:
    """The inverse of ``dihedral``.

    Example:
        >>> x = torch.arange(9).view(3, 3)
        >>> torch.equal(undo_dihedral(dihedral(x, 5), 5), x)
        True
    """
    x = x.flip(-1) if k >= 4 else x
    return torch.rot90(x, -(k % 4), (-2, -1)) if k % 4 else x


class Dihedral(nn.Module):
    """Apply one of the eight symmetries of the square to each sample, the same to all its images and masks.

    Exact at any resolution, since windows are square. Works on all entries of a batch whose key begins with ``image``,
    ``mask`` or ``clear``. A batch is divided at random into eight parts with one symmetry each, so that each part is a
    single strided copy.

    Example:
        >>> batch = {"image": torch.rand(16, 3, 40, 40), "mask": torch.zeros(16, 24, 24)}
        >>> Dihedral()(batch)["image"].shape
        torch.Size([16, 3, 40, 40])
    """

    def forward(self, batch: Sample) -> Sample:
        """The turned batch.

        Raises:
            LulcbenchError: an image is not square, or samples are series of single pixels.
        """
        n, device = _size(batch)
        order = torch.randperm(n).to(device, non_blocking=True)
        start = int(torch.randint(8, (1,)))

        def turn(key: str, value: Tensor) -> Tensor:
            # Series of single pixels, (n, time, band), have no spatial axes.
            if value.ndim < (4 if key.startswith("image") else 3) or value.shape[-1] != value.shape[-2]:
                raise LulcbenchError(f"Cannot turn {tuple(value.shape)}: it is not square.", "Leave Dihedral out.")
            out = torch.empty_like(value)
            for k, part in enumerate(order.chunk(8)):
                out[part] = dihedral(value[part], (k + start) % 8)
            return out

        return _apply(batch, turn, ("image", "mask", "clear"))


class Affine(nn.Module):
    """Random rotation, shift and zoom of images, bilinear, with reflected borders.

    For batches with one label per sample: labels of pixels would be blurred.

    Args:
        degrees: largest rotation.
        shift: largest shift, as a fraction of the side.
        zoom: largest zoom in or out, as a fraction.

    Example:
        >>> Affine(15, 0.1, 0.15)({"image": torch.rand(2, 3, 8, 8)})["image"].shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, degrees: float, shift: float, zoom: float) -> None:
        super().__init__()
        self.degrees, self.shift, self.zoom = degrees, shift, zoom

    def forward(self, batch: Sample) -> Sample:
        """The moved batch.

        Raises:
            LulcbenchError: the batch holds masks, or numbers of clear observations.
        """
        if any(key.startswith("mask") for key in batch):
            raise LulcbenchError("Affine would blur the labels of pixels.", "Use it where samples have one label.")
        _refuse_counts(batch, "Affine")
        n, _ = _size(batch)
        uniform = torch.rand((4, n)) * 2 - 1
        angle, scale = uniform[0] * math.radians(self.degrees), (uniform[1] * math.log1p(self.zoom)).exp()
        cos, sin = angle.cos() * scale, angle.sin() * scale
        x, y = uniform[2] * 2 * self.shift, uniform[3] * 2 * self.shift  # of the side: coordinates run from -1 to 1
        theta = torch.stack([cos, -sin, x, sin, cos, y], 1).view(n, 2, 3)

        def move(key: str, image: Tensor) -> Tensor:
            flat = image.flatten(1, -3)
            with torch.autocast(image.device.type, enabled=False):  # bf16 coordinates are off by a quarter of a pixel
                grid = nn.functional.affine_grid(_to(theta, image), list(flat.shape), align_corners=False)
                moved = nn.functional.grid_sample(flat, grid, padding_mode="reflection", align_corners=False)
            return moved.view(image.shape)

        return _apply(batch, move)


class Gain(nn.Module):
    """A random gain and offset for each channel of each sample; nodata (0) stays nodata.

    Args:
        sd: standard deviation of both, in the units of the images; the mean gain is 1, the mean offset 0.

    Example:
        >>> Gain(0.1)({"image": torch.rand(2, 3, 8, 8)})["image"].shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, sd: float) -> None:
        super().__init__()
        self.sd = sd

    def forward(self, batch: Sample) -> Sample:
        """The changed batch."""

        def change(key: str, image: Tensor) -> Tensor:
            shape = (*image.shape[:-2], 1, 1)
            gain = 1 + self.sd * torch.randn(shape)
            offset = self.sd * torch.randn(shape)
            return torch.where(image == 0, image, image * _to(gain, image) + _to(offset, image))

        return _apply(batch, change)


class Noise(nn.Module):
    """Gaussian noise on each pixel, drawn on the device of the images (whose generator differs from that of the CPU).

    Nodata (0) stays nodata.

    Args:
        sd: standard deviation, in the units of the images.

    Example:
        >>> Noise(0.1)({"image": torch.rand(2, 3, 8, 8)})["image"].shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, sd: float) -> None:
        super().__init__()
        self.sd = sd

    def forward(self, batch: Sample) -> Sample:
        """The noisy batch."""

        def change(key: str, image: Tensor) -> Tensor:
            generator = torch.Generator(image.device).manual_seed(int(torch.randint(2**31, (1,))))
            noise = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
            return torch.where(image == 0, image, image + self.sd * noise)

        return _apply(batch, change)


class Mix(nn.Module):
    """Mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019) of each sample with a partner from the same batch.

    For batches with one label per sample. A mixed batch holds ``label_partner``, the label of each partner, and
    ``label_weight``, the weight (0 … 1) of the sample's own label: the loss is ``label_weight · loss(label) +
    (1 - label_weight) · loss(label_partner)``.

    Args:
        mixup: parameter of the beta distribution that mixup's weight is drawn from; 0 leaves mixup out.
        cutmix: the same for CutMix, whose weight is the share of the image that is kept. If both are above 0, one of
            them is drawn for each batch.
        p: probability that a batch is mixed at all.

    Example:
        >>> batch = Mix(mixup=0.2)({"image": torch.rand(4, 3, 8, 8), "label": torch.tensor([0, 1, 2, 3])})
        >>> sorted(batch)
        ['image', 'label', 'label_partner', 'label_weight']
    """

    def __init__(self, mixup: float = 0.0, cutmix: float = 0.0, p: float = 1.0) -> None:
        super().__init__()
        ways = (("mixup", mixup), ("cutmix", cutmix))
        self.ways = [(name, alpha) for name, alpha in ways if alpha]
        self.p = p

    def forward(self, batch: Sample) -> Sample:
        """The mixed batch.

        Raises:
            LulcbenchError: the batch has no ``label``, or it holds numbers of clear observations.
        """
        _refuse_counts(batch, "Mix")
        if "label" not in batch:
            raise LulcbenchError("Mix needs one label per sample.", "Leave it out for masks.")
        n, device = _size(batch)
        partner = torch.randperm(n)
        if not self.ways or float(torch.rand(1)) >= self.p:
            return batch
        name, alpha = self.ways[int(torch.randint(len(self.ways), (1,)))]
        weight = _beta(alpha)
        partner = partner.to(device, non_blocking=True)
        mixed: Sample
        if name == "mixup":
            mixed = _apply(batch, lambda key, image: image * weight + image[partner] * (1 - weight))
        else:
            mixed, weight = self._cut(batch, partner, weight)
        return mixed | {"label_partner": batch["label"][partner], "label_weight": weight}

    def _cut(self, batch: Sample, partner: Tensor, weight: float) -> tuple[Sample, float]:
        rows, columns = _first_image(batch).shape[-2:]
        height, width = round(rows * math.sqrt(1 - weight)), round(columns * math.sqrt(1 - weight))
        top = int(torch.randint(rows - height + 1, (1,)))
        left = int(torch.randint(columns - width + 1, (1,)))

        def cut(key: str, image: Tensor) -> Tensor:
            # For sensors of other resolutions, the same box in metres.
            y, x = image.shape[-2] / rows, image.shape[-1] / columns
            box = (
                ...,
                slice(round(top * y), round((top + height) * y)),
                slice(round(left * x), round((left + width) * x)),
            )
            out = image.clone()
            out[box] = image[partner][box]
            return out

        return _apply(batch, cut), 1 - height * width / (rows * columns)


def _apply(batch: Sample, change: Callable[[str, Tensor], Tensor], keys: tuple[str, ...] = ("image",)) -> Sample:
    """Change every tensor whose key begins with one of ``keys``; images may be dicts by sensor."""

    def of(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: of(key, part) for name, part in value.items()}
        return change(key, value)

    return {key: of(key, value) if key.startswith(keys) else value for key, value in batch.items()}


def _refuse_counts(batch: Sample, name: str) -> None:
    if any(key.startswith("clear") for key in batch):
        raise LulcbenchError(
            f"{name} would leave the numbers of clear observations as they are.", "Use clear_counts=False."
        )


def _size(batch: Sample) -> tuple[int, torch.device]:
    """Number of samples, and the device of the images."""
    image = _first_image(batch)
    return len(image), image.device


def _first_image(batch: Sample) -> Tensor:
    """The image of a batch; the first of several sensors or dates."""
    image: Tensor | Sample = next(value for key, value in batch.items() if key.startswith("image"))
    while isinstance(image, dict):
        image = next(iter(image.values()))
    return image


def _to(values: Tensor, image: Tensor) -> Tensor:
    return values.to(image, non_blocking=True)


def _beta(alpha: float) -> float:
    gamma = torch._standard_gamma(torch.full((2,), alpha))
    return float(gamma[0] / gamma.sum())
