"""Dated images of a place: GeoTIFFs of a folder whose names have dates, or the items of a STAC catalog.

A scene is one date of one or several files. Which band of which file holds a band of a model follows from the
descriptions of bands, from the keys of STAC assets or from the name of a file; names of sensors (``B04``) and common
names (``red``) both count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.maps._stac import Item, read_items
from lulcbench.sensors import SENSORS

# In names of files and, as the TIFF standard writes it (2018:05:03 10:20:30), in their tags.
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_:]?(0[1-9]|1[0-2])[-_:]?(0[1-9]|[12]\d|3[01])(?!\d)")
_BASELINE = re.compile(r"_N(\d{4})(?=[_./\\\s]|$)")
_RASTERS: Final = (".tif", ".tiff", ".jp2")
_CATALOGS: Final = ("catalog.json", "collection.json")
_JPEG_2000: Final = ".jp2"
# Classes of Sentinel-2's scene classification that are not the surface: nodata, defective, shadow, clouds, cirrus.
_UNCLEAR_SCL = (0, 1, 3, 8, 9, 10)
_UNCLEAR_QA = 0b11111  # Landsat, Collection 2: fill, dilated cloud, cirrus, cloud, shadow


@dataclass(frozen=True, slots=True)
class Layer:
    """A band of a file.

    Attributes:
        href: path or URL.
        band: number, from 1.
        scale: stated by the item or the file; None where nothing is stated.
        offset: stated with it.
        baseline: processing baseline of Sentinel-2 with which the digits were made; 0 where an archive has taken its
            offset out of them, None where nothing is stated.
    """

    href: str
    band: int = 1
    scale: float | None = None
    offset: float = 0.0
    baseline: float | None = None


@dataclass(slots=True)
class Scene:
    """Files of one date of one place.

    Attributes:
        date: of the images.
        bands: band of the model → where it is.
        quality: layer of quality of the sensor, if there is one.
    """

    date: np.datetime64
    bands: dict[str, Layer] = field(default_factory=dict)
    quality: Layer | None = None


def find_scenes(
    root: str | Path, sensor: str, wanted: Sequence[str], names: Sequence[str] | None = None
) -> list[Scene]:
    """Find the scenes of a folder of rasters, or of a STAC catalog, collection or file of items.

    Args:
        root: folder, or JSON file.
        sensor: name of the sensor, whose common names are known.
        wanted: bands of the model.
        names: of the bands of files with several bands that do not name them, in order.

    Returns:
        Scenes by date, the earliest first; several of one date are parts of a mosaic.

    Raises:
        LulcbenchError: there is no scene; a file has no date, cannot be read or does not tell its bands; a scene lacks
            a band.
    """
    root = Path(root)
    catalog = next((root / name for name in _CATALOGS if (root / name).is_file()), None)
    if root.is_file() or catalog:
        scenes = [_of_item(item, sensor, wanted) for item in read_items(catalog or root)]
    elif root.is_dir():
        scenes = _of_files(sorted(p for p in root.rglob("*") if p.suffix.lower() in _RASTERS), sensor, wanted, names)
    else:
        raise LulcbenchError(f"{root} does not exist.", "Give a folder of images, a STAC catalog, or a release.")
    if not scenes:
        raise LulcbenchError(f"{root} has no images.", f"Images are {', '.join(_RASTERS)}, or items of STAC.")
    for scene in scenes:
        if lacking := [name for name in wanted if name not in scene.bands]:
            raise LulcbenchError(
                f"The image of {scene.date} in {root} lacks the bands {', '.join(lacking)}.",
                "Describe the bands in the files, or name them with --bands B02,B03,… in the order of the files.",
            )
    return sorted(scenes, key=lambda scene: scene.date)


def is_clear(sensor: str, quality: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where the surface was seen, by the layer of quality of a sensor (``scl`` or ``qa_pixel``)."""
    values = quality.astype(np.int64)
    if SENSORS[sensor].quality_asset == "qa_pixel":
        seen: npt.NDArray[np.bool_] = (values != 0) & ((values & _UNCLEAR_QA) == 0)
        return seen
    return ~np.isin(values, _UNCLEAR_SCL)


def date_of(text: str) -> np.datetime64 | None:
    """The first date in a text, such as the name of a file.

    Examples:
        >>> date_of("S2A_MSIL2A_20180503T103021_N0207.tif"), date_of("scene_12.tif")
        (np.datetime64('2018-05-03'), None)
    """
    for match in _DATE.finditer(text):
        try:
            return np.datetime64("-".join(match.groups()), "D")
        except ValueError:  # such as 31 February
            continue
    return None


def baseline_of(text: str) -> float | None:
    """The processing baseline in the name of a product of Sentinel-2, or in a path with it.

    Scenes of any date are processed again: the Collection 1 of 2018 has baseline 05.00.

    Examples:
        >>> baseline_of("S2A_MSIL2A_20180503T103021_N0500_R108_T32UMD.SAFE/B04.jp2"), baseline_of("scene_12.tif")
        (5.0, None)
    """
    found = _BASELINE.search(text)
    return int(found[1]) / 100 if found else None


def _stated_baseline(item: Item) -> float | None:
    """The processing baseline that an item states, such as 05.00, or that its product's name has."""
    properties = item.properties or {}
    for key in ("s2:processing_baseline", "processing:version"):
        if found := re.fullmatch(r"N?(\d\d)\.?(\d\d)", str(properties.get(key) or "").strip()):
            return int(found[1] + found[2]) / 100
    return baseline_of(f"{properties.get('s2:product_uri') or ''} {item.id}")


def _canonical(sensor: str, text: str, wanted: Sequence[str]) -> str | None:
    """The band of a model that a text names: ``B04``, ``b4`` or ``red``."""
    word = text.strip().lower()
    short = re.sub(r"^b0+(?=\d)", "b", word)
    known = {band.name: band.asset for band in SENSORS[sensor].bands} if sensor in SENSORS else {}
    for name in wanted:
        if word in (name.lower(), known.get(name)) or short == re.sub(r"^b0+(?=\d)", "b", name.lower()):
            return name
    return None


def _is_quality(sensor: str, text: str) -> bool:
    return sensor in SENSORS and text.strip().lower() == SENSORS[sensor].quality_asset


def _of_files(paths: Sequence[Path], sensor: str, wanted: Sequence[str], names: Sequence[str] | None) -> list[Scene]:
    """Scenes of files. Files of one date and different bands are one scene."""
    scenes: list[Scene] = []
    for path in paths:
        own, date = _layers(path, sensor, wanted, names)
        if date is None:
            raise LulcbenchError(
                f"{path} has no date.", "Put it into the name, as in place_2018-05-03.tif, or into TIFFTAG_DATETIME."
            )
        for name, layer in own.items():
            same = [scene for scene in scenes if scene.date == date]
            if name is None:
                scene = next((s for s in same if s.quality is None), None)
            else:
                scene = next((s for s in same if name not in s.bands), None)
            if scene is None:
                scenes.append(scene := Scene(date))
            if name is None:
                scene.quality = layer
            else:
                scene.bands[name] = layer
    return scenes


def _layers(
    path: Path, sensor: str, wanted: Sequence[str], names: Sequence[str] | None
) -> tuple[dict[str | None, Layer], np.datetime64 | None]:
    """Band of the model → layer of a file, None → its quality; and the date of the file."""
    with open_raster(str(path)) as file:
        count, described, colors = file.count, file.descriptions, [color.name for color in file.colorinterp]
        stated = list(zip(file.scales, file.offsets, strict=True))
        date = date_of(path.stem) or date_of(str(file.tags().get("TIFFTAG_DATETIME", "")))
    texts: list[str]
    if names is not None and count == len(names):
        texts = list(names)
    elif any(described):
        texts = [text or "" for text in described]
    elif count == 1:
        words = re.split(r"[^A-Za-z0-9]+", path.stem)
        whole = [path.stem.lower()[-len(q) :] for q in ("qa_pixel",)]
        texts = [next((w for w in [*whole, *words] if _canonical(sensor, w, wanted) or _is_quality(sensor, w)), "")]
    elif {"red", "green", "blue"} <= set(colors):
        texts = colors
    else:
        raise LulcbenchError(
            f"{path} does not name its {count} bands.", "Name them with --bands B02,B03,… in the order of the file."
        )
    found: dict[str | None, Layer] = {}
    for number, (text, (scale, offset)) in enumerate(zip(texts, stated, strict=True), start=1):
        known = None if (scale, offset) == (1.0, 0.0) else scale
        layer = Layer(str(path), number, known, offset, baseline_of(str(path)))
        if (name := _canonical(sensor, text, wanted)) is not None:
            found[name] = layer
        elif _is_quality(sensor, text):
            found[None] = layer
    return found, date


def open_raster(href: str) -> Any:
    """A raster as a context manager.

    Raises:
        LulcbenchError: it cannot be read, or rasterio is not installed.
    """
    try:
        import rasterio
        import rasterio.errors
    except ImportError as error:
        raise LulcbenchError("Reading images requires rasterio.", "Run: pip install 'lulcbench[geo]'.") from error
    # Only these: with a VRT named .tif, GDAL could be made to read any file or address.
    driver = "JP2OpenJPEG" if href.lower().endswith(_JPEG_2000) else "GTiff"
    try:
        return rasterio.open(href, driver=driver)
    except rasterio.errors.RasterioError as error:
        raise LulcbenchError(f"Cannot read {href}: {error}.", "Give an intact GeoTIFF or JPEG 2000 file.") from error


def _of_item(item: Item, sensor: str, wanted: Sequence[str]) -> Scene:
    properties = item.properties or {}
    scene = Scene(np.datetime64(item.date().date(), "D"))
    removed = properties.get("earthsearch:boa_offset_applied") is True  # then the stated offset is not in the pixels
    baseline = 0.0 if removed else _stated_baseline(item)
    for key, asset in (item.assets or {}).items():
        if not asset.href:
            continue
        bands = list(asset.bands())
        for number, (band, stated) in enumerate(bands, start=1):
            scale = 1.0 if stated.scale is None and stated.offset is not None else stated.scale
            offset = 0.0 if removed else stated.offset or 0.0
            layer = Layer(item.address(asset), number, scale, offset, baseline)
            for text in filter(None, [key if len(bands) == 1 else None, band.name, band.common_name]):
                if (name := _canonical(sensor, text, wanted)) is not None:
                    scene.bands.setdefault(name, layer)
                elif _is_quality(sensor, text):
                    scene.quality = layer
    return scene
