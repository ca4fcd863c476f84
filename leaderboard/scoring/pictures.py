"""What the scoring process makes for the page beside the scores: the map of accuracy, and sample tiles as PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from lulcbench.errors import LulcbenchError
from lulcbench.grid import TILE_SIZE, Tile
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.predictions import Predictions
from lulcbench.release import Manifest, array_name, label_shape
from lulcbench.release.shards import ShardReader
from lulcbench.seasons import nearest_to_midsummer
from lulcbench.sensors import true_color

SAMPLES = ("best", "median", "worst")
MAX_CELLS = 400
BLOCK_TILES = 10
IMAGE_PIXELS = 240
BRIGHTEST = 0.3  # reflectance shown as white, the usual stretch for true colour

Image = npt.NDArray[np.uint8]


def accuracy_map(predictions: Predictions) -> tuple[list[dict[str, Any]], list[float]]:
    """Accuracy by place, at the predictions' level.

    Returns:
        Cells, each a tile, or a block of 10 × 10 tiles where tiles are more than 400: ``x`` and ``y`` of its
        south-west corner and its ``size`` (EPSG:3035, m), ``pixels`` judged and ``accuracy``; and the accuracy of each
        tile in row order, NaN where nothing could be judged.
    """
    info = predictions.info
    reader = predictions.release.reader(info.split)
    size = 1 if len(info.tiles) <= MAX_CELLS else BLOCK_TILES
    counts: dict[tuple[int, int], list[int]] = {}
    per_tile = []
    for row, tile_id in enumerate(info.tiles):
        predicted = legend().encode(predictions.codes(row), info.level)
        labels = np.stack([_labels(reader, year, row, info.level) for year in info.years])
        judged = labels != IGNORE_INDEX
        correct, pixels = int(((predicted == labels) & judged).sum()), int(judged.sum())
        per_tile.append(correct / pixels if pixels else float("nan"))
        tile = Tile.from_id(tile_id)
        cell = counts.setdefault((tile.ix // size, tile.iy // size), [0, 0])
        cell[0] += correct
        cell[1] += pixels
    length = size * TILE_SIZE
    cells = [
        {"x": x * length, "y": y * length, "size": length, "pixels": pixels, "accuracy": round(correct / pixels, 4)}
        for (x, y), (correct, pixels) in sorted(counts.items())
        if pixels
    ]
    return cells, per_tile


def draw_samples(predictions: Predictions, accuracy: list[float], folder: Path) -> list[dict[str, Any]]:
    """Draw the tiles of best, median and worst accuracy: image (where the release has imagery here), label, prediction.

    Returns:
        One record a sample: ``name``, ``tile``, ``accuracy``, ``pictures`` (file names in ``folder``).
    """
    release, info = predictions.release, predictions.info
    reader = release.reader(info.split)
    order = [row for row in np.argsort(accuracy) if not np.isnan(accuracy[row])]
    if not order:
        return []
    rows = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    samples = []
    for name in SAMPLES:
        row, year = int(rows[name]), info.years[-1]
        colors = legend().colors(info.level)
        pictures = {
            "label": colors[_labels(reader, year, row, info.level)],
            "prediction": colors[legend().encode(predictions.codes(row)[-1], info.level)],
        }
        image = _true_color(reader, release.manifest, year, row)
        if image is not None:
            pictures = {"image": image} | pictures
        for kind, pixels in pictures.items():
            (folder / f"{name}-{kind}.png").write_bytes(png(pixels))
        record = {
            "name": name,
            "tile": info.tiles[row],
            "accuracy": round(accuracy[row], 4),
            "pictures": list(pictures),
        }
        samples.append(record)
    return samples


def png(pixels: Image) -> bytes:
    """An RGB image ``(height, width, 3)`` as PNG."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels, "RGB").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _labels(reader: ShardReader, year: int, row: int, level: int) -> npt.NDArray[np.uint8]:
    codes = reader.read(array_name("luisa", year), [row], [(0, 0)], label_shape())[0]
    return legend().encode(codes, level)


def _true_color(reader: ShardReader, manifest: Manifest, year: int, row: int) -> Image | None:
    """True colour nearest to midsummer, from the first sensor whose bands are here; None if there is none."""
    for name, info in manifest.sensors.items():
        bands = true_color(info.bands)
        if bands is None or year not in info.years:
            continue
        pixels = TILE_SIZE // info.resolution
        season = nearest_to_midsummer(manifest.seasons)
        try:
            stored = reader.read(array_name(name, year), [row], [(0, 0)], (pixels, pixels), [season], bands)[0, 0]
        except LulcbenchError:  # a board needs the labels only; the imagery may not be here
            continue
        step = max(1, pixels // IMAGE_PIXELS)
        reflectance = np.nan_to_num(info.coding.decode(stored[:, ::step, ::step]))
        picture: Image = np.moveaxis((np.clip(reflectance / BRIGHTEST, 0, 1) * 255).astype(np.uint8), 0, -1)
        return picture
    return None
