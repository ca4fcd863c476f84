"""Networks for series of single pixels: any number of steps, which know their day of the year; missing ones are masked.

All map ``(n, step, feature)`` with the day of each step and whether it was seen to ``(n, output)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PixelSeries(nn.Module):
    """A network of series as a network of images: channels are steps × features, pixels are independent.

    A step whose features are all 0 (nodata) is missing.

    Args:
        net: maps series, days and seen steps to outputs.
        days: day of the year of each step, from 0.
        features: number of features of a step.
    """

    days: Tensor

    def __init__(self, net: nn.Module, days: Sequence[int], features: int) -> None:
        super().__init__()
        self.net, self.features = net, features
        self.register_buffer("days", torch.tensor(days, dtype=torch.float32), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(b, step·feature, y, x)`` to ``(b, output, y, x)``."""
        b, _, height, width = image.shape
        series = image.permute(0, 2, 3, 1).reshape(b * height * width, len(self.days), self.features)
        outputs = self.net(series, self.days.expand(series.shape[0], -1), (series != 0).any(dim=2))
        maps: Tensor = outputs.reshape(b, height, width, -1).permute(0, 3, 1, 2)
        return maps


class LstmNet(nn.Module):
    """LSTM whose states are averaged over the steps that were seen.

    Args:
        features: number of features of a step.
        outputs: number of outputs.
        hidden: width of the states.
        layers: number of layers.
        dropout: dropout before the outputs.
    """

    def __init__(self, features: int, outputs: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features + 2, hidden, layers, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, outputs))

    def forward(self, series: Tensor, days: Tensor, seen: Tensor) -> Tensor:
        """Compute outputs."""
        angle = days * (2 * math.pi / 365)
        when = torch.stack([angle.sin(), angle.cos()], 2)
        states = self.lstm(torch.cat([series, when], 2))[0]
        outputs: Tensor = self.head(masked_mean(states, seen))
        return outputs


class TempCnnNet(nn.Module):
    """Temporal convolutions (Pelletier et al. 2019, https://doi.org/10.3390/rs11050523), averaged over seen steps.

    The mean takes the place of the dense layer on all steps of the paper, which fixes their number.

    Args:
        features: number of features of a step.
        outputs: number of outputs.
        width: channels of the three convolutions.
        kernel: steps that a convolution covers, an odd number.
        dense: width of the dense layer.
        dropout: dropout of the convolutions, and of the dense layer.
    """

    def __init__(
        self, features: int, outputs: int, width: int, kernel: int, dense: int, dropout: tuple[float, float]
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (features + 3, width, width):
            layers += [
                nn.Conv1d(inputs, width, kernel, padding=kernel // 2),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Dropout(dropout[0]),
            ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(width, dense), nn.BatchNorm1d(dense), nn.ReLU(), nn.Dropout(dropout[1]), nn.Linear(dense, outputs)
        )

    def forward(self, series: Tensor, days: Tensor, seen: Tensor) -> Tensor:
        """Compute outputs."""
        angle = days * (2 * math.pi / 365)
        known = torch.stack([seen.to(series.dtype), angle.sin(), angle.cos()], 2)
        states = self.body(torch.cat([series, known], 2).transpose(1, 2)).transpose(1, 2)
        outputs: Tensor = self.head(masked_mean(states, seen))
        return outputs


class LtaeNet(nn.Module):
    """Lightweight temporal attention (Garnot & Landrieu 2020, https://doi.org/10.1007/978-3-030-65742-0_12).

    Args:
        features: number of features of a step.
        outputs: number of outputs.
        width: width of the embedding, a multiple of ``heads``.
        heads: number of heads; each has one learned query, and its own part of the embedding as values.
        key: width of keys.
        dropout: dropout before the outputs.
    """

    def __init__(self, features: int, outputs: int, width: int, heads: int, key: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.key = heads, key
        self.embed = nn.Sequential(nn.Linear(features, width), nn.LayerNorm(width))
        self.keys = nn.Linear(width, heads * key)
        self.query = nn.Parameter(torch.randn(heads, key) / math.sqrt(key))
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs)
        )
        self.width = width

    def forward(self, series: Tensor, days: Tensor, seen: Tensor) -> Tensor:
        """Compute outputs."""
        n, steps = days.shape
        x = self.embed(series) + encode_days(days, self.width)
        keys = self.keys(x).reshape(n, steps, self.heads, self.key)
        scores = (keys * self.query).sum(3) / math.sqrt(self.key)  # n, step, head
        weights = scores.masked_fill(~at_least_one(seen)[:, :, None], -1e9).softmax(1)
        values = x.reshape(n, steps, self.heads, self.width // self.heads)
        outputs: Tensor = self.head((weights[..., None] * values).sum(1).reshape(n, self.width))
        return outputs


class TransformerNet(nn.Module):
    """Small transformer with absolute encoding of the days, averaged over seen steps.

    Args:
        features: number of features of a step.
        outputs: number of outputs.
        width: width of the embedding, a multiple of ``heads``.
        heads: number of heads.
        layers: number of layers.
        dropout: dropout in the layers.
    """

    def __init__(self, features: int, outputs: int, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Linear(features, width)
        self.layers = nn.ModuleList(_Layer(width, heads, dropout) for _ in range(layers))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def forward(self, series: Tensor, days: Tensor, seen: Tensor) -> Tensor:
        """Compute outputs."""
        x = self.embed(series) + encode_days(days, self.width)
        seen = at_least_one(seen)
        for layer in self.layers:
            x = layer(x, seen)
        outputs: Tensor = self.head(masked_mean(x, seen))
        return outputs


class _Layer(nn.Module):
    """Attention and a feed-forward network, each on normalised inputs."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Map ``(n, step, width)`` to the same shape."""
        n, steps, width = x.shape
        parts = self.project(self.before(x)).reshape(n, steps, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(2, 3) / math.sqrt(width // self.heads)
        weights = scores.masked_fill(~seen[:, None, None, :], -1e9).softmax(3)
        x = x + self.dropout(self.merge((weights @ value).transpose(1, 2).reshape(n, steps, width)))
        out: Tensor = x + self.dropout(self.feed(self.after(x)))
        return out


class ByYear(nn.Module):
    """One network per year, for maps whose years are trained apart.

    Args:
        nets: year → network.

    Attributes:
        temperatures: temperature of the outputs of each network, float32 ``(year,)``.
    """

    temperatures: Tensor

    def __init__(self, nets: dict[int, nn.Module]) -> None:
        super().__init__()
        self.register_buffer("temperatures", torch.ones(len(nets)))
        self.nets = nn.ModuleDict({str(year): net for year, net in nets.items()})


def encode_days(days: Tensor, width: int) -> Tensor:
    """Sines and cosines of the days at wavelengths from 2π to 2π · 1000 days, ``(n, step, width)``."""
    half = width // 2
    rates = torch.exp(torch.arange(half, device=days.device) * (-math.log(1000.0) / max(1, half - 1)))
    angles = days[..., None] * rates
    return torch.cat([angles.sin(), angles.cos(), angles.new_zeros(*days.shape, width - 2 * half)], 2)


def at_least_one(seen: Tensor) -> Tensor:
    """Seen steps; all of a series without any, so that a softmax over them is defined."""
    return seen | ~seen.any(dim=1, keepdim=True)


def masked_mean(states: Tensor, seen: Tensor) -> Tensor:
    """Mean of states ``(n, step, width)`` over seen steps, over all of a series without any."""
    weights = at_least_one(seen).to(states.dtype)[:, :, None]
    return (states * weights).sum(1) / weights.sum(1)
