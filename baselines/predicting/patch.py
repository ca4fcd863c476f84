"""Classification of a georeferenced patch, or of patches of one location at several dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from baselines.data import only_input
from baselines.data.patches import DISK_ORDER, RGB, pick_bands
from baselines.devices import best_device
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from baselines.run import Trained

# In file names, and as the TIFF standard writes it (2018:05:03 10:20:30).
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-:]?(0[1-9]|1[0-2])[-:]?(0[1-9]|[12]\d|3[01])(?!\d)")


def predict_files(trained: Trained, paths: Sequence[Path], bands: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Class probabilities of GeoTIFF patches, in the order of their dates.

    Args:
        trained: a classifier of EuroSAT bands.
        paths: GeoTIFFs of one location.
        bands: names of the bands of the files, in order; None reads them from the files.

    Returns:
        For each patch: file, date (ISO, or None), crs, bounds, longitude and latitude of the centre, class,
        probabilities. For several patches, a last entry with the mean over dates.

    Raises:
        LulcbenchError: a file is unreadable or not georeferenced, has other units than the training data, lacks a
            band, contains nodata, or is at another location.
    """
    imagery = only_input(trained.about.info.inputs, trained.config.name)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (imagery.mean, imagery.std))
    eight_bit = max(imagery.mean) > 2  # a mean reflectance is smaller
    patches = [_read(path, imagery.channels, bands, eight_bit) for path in paths]
    patches.sort(key=lambda patch: patch[0]["date"] or "")
    first = patches[0][0]
    for about, _ in patches[1:]:
        apart = max(abs(a - b) for a, b in zip(about["lonlat"], first["lonlat"], strict=True))
        if apart > 0.005:  # about 500 m: less than a patch
            raise LulcbenchError(
                f"{about['file']} is at {about['lonlat']}, {first['file']} at {first['lonlat']}.",
                "Give files of one location; predict other locations in another call.",
            )
    classes = trained.about.info.classes
    results = []
    for about, image in patches:
        p = trained.probabilities(((image.float() - mean) / std)[None].to(best_device()))[0].numpy()
        results.append(about | _named(p, classes))
    if len(results) > 1:
        over_dates = np.mean([[r["probabilities"][c] for c in classes] for r in results], axis=0)
        results.append({"file": None, "date": None, "dates": len(results)} | _named(over_dates, classes))
    return results


def _named(p: np.ndarray[Any, Any], classes: Sequence[str]) -> dict[str, Any]:
    return {
        "class": classes[int(p.argmax())],
        "probabilities": {name: round(float(v), 5) for name, v in zip(classes, p, strict=True)},
    }


def _read(
    path: Path, channels: Sequence[str], bands: Sequence[str] | None, eight_bit: bool
) -> tuple[dict[str, Any], torch.Tensor]:
    import rasterio
    from rasterio.warp import transform, transform_bounds

    try:
        with rasterio.open(path) as file:
            if file.crs is None or file.transform.is_identity:
                raise LulcbenchError(f"{path} has no georeference.", "Give a GeoTIFF with CRS and transform.")
            image, dtype = file.read(), file.dtypes[0]
            if bands is None:
                named = all(file.descriptions)
                bands = file.descriptions if named else RGB if file.count == 3 else DISK_ORDER
            bounds, crs = tuple(file.bounds), file.crs
            when = _DATE.search(path.stem) or _DATE.search(str(file.tags().get("TIFFTAG_DATETIME", "")))
            empty = (file.dataset_mask() == 0).any() or (dtype != "uint8" and (image == 0).all(0).any())
    except rasterio.errors.RasterioIOError as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "Give an intact GeoTIFF.") from error
    if empty or not np.isfinite(image).all():
        raise LulcbenchError(f"{path} has nodata or NaN pixels.", "Give a patch inside its scene.")
    if dtype not in (("uint8",) if eight_bit else ("uint16", "int16")):
        raise LulcbenchError(
            f"{path} has {dtype}; the model was trained on {'8-bit images' if eight_bit else 'reflectance × 10,000'}.",
            "Give uint8 values, stretched like the images of EuroSAT."
            if eight_bit
            else "Give the integers of Sentinel-2 products.",
        )
    picked = pick_bands(image, bands, channels)
    tensor = torch.from_numpy(picked if dtype == "uint8" else picked.astype(np.float32) * np.float32(1e-4))
    west, south, east, north = bounds
    (lon,), (lat,) = transform(crs, "EPSG:4326", [(west + east) / 2], [(south + north) / 2])
    about = {
        "file": path.name,
        "date": "-".join(when.groups()) if when else None,
        "crs": crs.to_string(),
        "bounds": bounds,
        "bounds_lonlat": [round(v, 6) for v in transform_bounds(crs, "EPSG:4326", *bounds)],
        "lonlat": [round(lon, 6), round(lat, 6)],
    }
    return about, tensor
