"""Figures for the page of a submission, made by the scoring process: accuracy map and sample tiles (PNG)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.counts import Counts
from lulcbench.grid import TILE_SIZE, Tile
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.predictions import Predictions
from lulcbench.release import ArrayKey, Manifest, Row, TilePosition, label_shape
from lulcbench.release.shards import ShardReader
from lulcbench.seasons import nearest_to_midsummer
from lulcbench.sensors import true_color

SAMPLES = ("best", "median", "worst")
MAX_CELLS = 400
BLOCK_TILES = 10
IMAGE_PIXELS = 240
BRIGHTEST = 0.3  # reflectance shown as white, the usual stretch for true colour

# Colours of correct and wrong pixels; pixels without a label stay white.
CORRECT, WRONG = (214, 226, 219), (163, 33, 26)

Image = npt.NDArray[np.uint8]


def accuracy_map(counts: Counts) -> list[dict[str, Any]]:
    """Accuracy by location, at the level of the predictions.

    Returns:
        Cells, each a tile, or a block of 10 × 10 tiles if there are more than 400 tiles: ``x`` and ``y`` of its
        south-west corner and its ``size`` (EPSG:3035, m), number of evaluated ``pixels`` and ``accuracy``. Cells
        without evaluated pixels are left out.
    """
    size = 1 if len(counts.tiles) <= MAX_CELLS else BLOCK_TILES
    tiles = [Tile.from_id(tile) for tile in counts.tiles.ids]
    corners, cell = np.unique([(tile.ix // size, tile.iy // size) for tile in tiles], axis=0, return_inverse=True)
    pixels, correct = np.zeros(len(corners), np.int64), np.zeros(len(corners), np.int64)
    np.add.at(pixels, cell, counts.evaluated[:, -1])
    np.add.at(correct, cell, counts.correct[:, -1])
    length = size * TILE_SIZE
    return [
        {"x": x * length, "y": y * length, "size": length, "pixels": n, "accuracy": round(right / n, 4)}
        for (x, y), n, right in zip(corners.tolist(), pixels.tolist(), correct.tolist(), strict=True)
        if n
    ]


def choose_samples(counts: Counts) -> dict[str, int]:
    """Positions of the tiles of best, median and worst accuracy at the level of the predictions; {} if unlabelled."""
    evaluated = np.flatnonzero(counts.evaluated[:, -1])
    if not len(evaluated):
        return {}
    accuracy = counts.correct[evaluated, -1] / counts.evaluated[evaluated, -1]
    order = evaluated[np.argsort(accuracy, kind="stable")].tolist()
    return dict(zip(SAMPLES, (order[-1], order[len(order) // 2], order[0]), strict=True))


def draw_samples(predictions: Predictions, counts: Counts, folder: Path) -> list[dict[str, Any]]:
    """Draw the tiles of ``choose_samples``: image (if the board holds the imagery), label, prediction.

    Returns:
        One record per sample: ``name``, ``tile``, ``accuracy``, ``pictures`` (file names in ``folder``).
    """
    release, info = predictions.release, predictions.info
    labels = ArrayKey(counts.source, counts.years[-1])
    reader = release.reader(info.split)
    samples = []
    for name, chosen in choose_samples(counts).items():
        position, year = TilePosition(chosen), counts.years[-1]
        row = predictions.tiles.row(position)
        colors = legend().colors(info.level)
        label = _labels(reader, labels, row, info.level)
        predicted = legend().encode(predictions.codes(position)[info.years.index(year)], info.level)
        pictures = {"label": colors[label], "prediction": colors[predicted], "errors": _errors(label, predicted)}
        image = _true_color(reader, release.manifest, year, row)
        if image is not None:
            pictures = {"image": image} | pictures
        for kind, pixels in pictures.items():
            (folder / f"{name}-{kind}.png").write_bytes(png(pixels))
        record = {
            "name": name,
            "tile": info.tiles[position],
            "accuracy": round(int(counts.correct[position, -1]) / int(counts.evaluated[position, -1]), 4),
            "pictures": list(pictures),
        }
        samples.append(record)
    return samples


def png(pixels: Image) -> bytes:
    """Encode an RGB image ``(height, width, 3)`` as PNG."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels, "RGB").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _errors(label: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> Image:
    """Which labelled pixels are wrong."""
    wrong = np.where((label == predicted)[..., None], CORRECT, WRONG)
    image: Image = np.where((label == IGNORE_INDEX)[..., None], 255, wrong).astype(np.uint8)
    return image


def _labels(reader: ShardReader, array: ArrayKey, row: Row, level: int) -> npt.NDArray[np.uint8]:
    codes = reader.read(array, [row], [(0, 0)], label_shape())[0]
    return legend().encode(codes, level)


def _true_color(reader: ShardReader, manifest: Manifest, year: int, row: Row) -> Image | None:
    """True-colour image of the season nearest to midsummer, from the first sensor with such bands; None without any."""
    for name, info in manifest.sensors.items():
        bands = true_color(info.bands)
        if bands is None or year not in info.years:
            continue
        pixels = TILE_SIZE // info.resolution
        season = nearest_to_midsummer(manifest.seasons)
        try:
            stored = reader.read(ArrayKey(name, year), [row], [(0, 0)], (pixels, pixels), [season], bands)[0, 0]
        except LulcbenchError:  # a board needs only the labels; it may not hold the imagery
            continue
        step = max(1, pixels // IMAGE_PIXELS)
        reflectance = np.nan_to_num(info.coding.decode(stored[:, ::step, ::step]))
        image: Image = np.moveaxis((np.clip(reflectance / BRIGHTEST, 0, 1) * 255).astype(np.uint8), 0, -1)
        return image
    return None
