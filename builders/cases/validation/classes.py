"""Images and labels side by side, and the vegetation index of each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch as Swatch

from builders.cases.validation import mosaic
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.grid import LABEL_RESOLUTION
from lulcbench.legend import NODATA, legend
from lulcbench.release import Release
from lulcbench.sensors import SENSORS, true_color


def band_names(*assets: str) -> dict[str, str]:
    """Sensor → name of its band with the first of these assets that it has; sensors that have none are left out."""
    named = {
        name: [band.name for asset in assets for band in sensor.bands if band.asset == asset]
        for name, sensor in SENSORS.items()
    }
    return {name: bands[0] for name, bands in named.items() if bands}


RED = band_names("red")
NIR = band_names("nir", "nir08")


def ndvi(image: npt.NDArray[np.float32], bands: Sequence[str], name: str) -> npt.NDArray[np.float32]:
    """Normalised difference of near-infrared and red, NaN where their sum is not positive.

    Args:
        image: reflectance ``(season, band, y, x)``.
        bands: names of the bands of ``image``.
        name: of the sensor.

    Returns:
        float32 ``(season, y, x)``.

    Raises:
        LulcbenchError: a band is missing, or the sensor has no such bands at all.

    Examples:
        >>> ndvi(np.full((1, 2, 1, 1), [[[[0.1]], [[0.3]]]], np.float32), ["red", "nir08"], "landsat")
        array([[[0.5]]], dtype=float32)
    """
    if name not in RED:
        raise LulcbenchError(f"{name} has no red and near-infrared band.", f"Choose {', '.join(RED)}.")
    red, nir = (image[:, position(bands, names[name], name)] for names in (RED, NIR))
    total = nir + red
    return ((nir - red) / np.where(total > 0, total, np.nan)).astype(np.float32)


def position(bands: Sequence[str], band: str, name: str) -> int:
    """Position of a band among those of a release or recipe.

    Raises:
        LulcbenchError: it is not among them.
    """
    if band not in bands:
        raise LulcbenchError(
            f"{band} of {name} is not among the bands {', '.join(bands)}.", "Build the release with that band."
        )
    return list(bands).index(band)


def class_ndvi(root: Path, name: str, year: int, level: int, out: Path) -> pd.DataFrame:
    """Write ``classes.csv`` and ``classes.png``.

    Args:
        root: release.
        name: sensor with a red and a near-infrared band.
        year: of images and labels.
        level: legend level of the table; labels that stop at a coarser one are left out.
        out: folder for the results.

    Returns:
        One row per class: code, name, pixels, and quartiles of the NDVI (all seasons) at the 50 m label pixels.

    Raises:
        LulcbenchError: the release has no such images or labels, or lacks a band.
    """
    release = Release.open(root)
    image = mosaic.reflectance(release, name, year)
    truth = mosaic.labels(release, year)
    index = ndvi(image.values, release.manifest.sensor(name).band_names, name)
    if not np.isfinite(index).any():
        raise LulcbenchError(f"{release.id} has no valid pixel of {name} {year}.", "Choose another sensor or year.")
    # Image pixel of each label pixel's centre.
    height, width = truth.area.shape
    step = LABEL_RESOLUTION / image.area.resolution
    rows, columns = (((np.arange(n) + 0.5) * step).astype(int) for n in (height, width))
    sampled = index[:, rows[:, None], columns]
    codes = legend().remap(truth.values, level)
    quartiles = []
    for code in np.unique(codes[codes != NODATA]):
        values = sampled[:, codes == code]
        values = values[np.isfinite(values)]
        if values.size:
            low, middle, high = np.percentile(values, [25, 50, 75])
            quartiles.append((int(code), legend().classes[int(code)].name, values.size, low, middle, high))
    table = pd.DataFrame(quartiles, columns=["code", "name", "pixels", "ndvi_25", "ndvi_50", "ndvi_75"]).round(4)
    write_atomic(out / "classes.csv", table.to_csv(index=False).encode())
    _figure(release, name, image, index, truth, out / "classes.png")
    return table


def _figure(
    release: Release,
    name: str,
    image: mosaic.Mosaic,
    index: npt.NDArray[np.float32],
    truth: mosaic.Mosaic,
    path: Path,
) -> None:
    rgb_bands = true_color(release.manifest.sensor(name).bands)
    figure = Figure(figsize=(16, 9), layout="constrained")
    axes = figure.subplots(1, 3)
    valid = np.isfinite(index)
    season = int(valid.sum(axis=(1, 2)).argmax())
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(valid[season]))
    step = LABEL_RESOLUTION / image.area.resolution
    codes = truth.values[tuple(slice(int(part.start / step), int(part.stop / step) + 1) for part in box)]
    if rgb_bands is None:
        axes[0].set_title(f"{name}: no red, green and blue")
    else:
        rgb = np.moveaxis(image.values[season, list(rgb_bands)], 0, -1)[box]
        bright = 4 * float(np.nanmedian(rgb))  # snow and cloud may saturate, so that land stays visible
        axes[0].imshow(np.clip(np.nan_to_num(rgb, nan=bright) / bright, 0, 1))
        axes[0].set_title(f"{name}, {release.manifest.seasons[season].name}: true colour")
    shown = axes[1].imshow(index[season][box], vmin=-0.2, vmax=0.9, cmap="RdYlGn")
    axes[1].set_title("NDVI")
    figure.colorbar(shown, ax=axes[1], shrink=0.6)
    tree = legend()
    deepest = next((level for level in (4, 3, 2) if tree.remap(codes, level).any()), 1)
    level = min(deepest, 3)
    indices = tree.encode(codes, level)
    axes[2].imshow(tree.colors(level)[indices], interpolation="nearest")
    axes[2].set_title(f"label, level {level}")
    present = [i for i in np.unique(indices) if i < len(tree.codes(level))]
    swatches = [
        Swatch(color=tree.colors(level)[i] / 255, label=f"{tree.codes(level)[i]} {tree.names(level)[i]}")
        for i in present
    ]
    figure.legend(handles=swatches, loc="outside lower center", ncols=4, fontsize=7)
    figure.suptitle(release.manifest.title)
    for axis in axes:
        axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
