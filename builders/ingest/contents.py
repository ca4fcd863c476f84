"""What the content of a file tells: its bands, and how its numbers become values. It must agree with what is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rasterio.errors import RasterioError

from builders.archives import landsat, sentinel2
from builders.ingest.names import Name, band_of
from builders.readers.items import plain_names
from builders.readers.opening import broken
from builders.readers.windows import data_bands
from builders.recipe import IngestRule
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import LANDSAT, SENTINEL2, Band, Sensor

Levels = tuple[float, float]  # median and 99th percentile


class Coding(NamedTuple):
    """How digital numbers become values, and where that is known from."""

    scale: float
    offset: float
    nodata: float | None
    source: str


def band_order(
    rule: IngestRule, path: Path, name: Name, kind: Sensor, platform: str | None, dataset: Any
) -> tuple[Band | None, ...]:
    """The band of each channel of a file: told, described or named, which must agree; None for what is not a band.

    Raises:
        LulcbenchError: the bands are not known, or what is told, described and named contradicts.
    """
    own = data_bands(dataset)
    n = max(own, default=dataset.count)  # alpha bands after the others are left out
    texts = plain_names([dataset.descriptions[i] or "" for i in range(n)])
    described = [band_of(kind, platform, text) if i in own else None for i, text in enumerate(texts, start=1)]
    has_text = [bool(text) or i not in own for i, text in enumerate(texts, start=1)]
    if rule.bands and not (n == 1 and name.band):
        told = [_told(kind, platform, text) for text in rule.bands]
        dates = max(1, len(rule.dates))
        if n != len(told) * dates:
            raise LulcbenchError(
                f"{path.name} has {n} bands, but --bands names {len(told)}"
                f"{f' and --date {dates} dates' if dates > 1 else ''}.",
                "Name every band of the file in its order; or choose other files with --pattern.",
            )
        order = told * dates
        for i, (band, meant) in enumerate(zip(described, order, strict=True), start=1):
            if band is not None and band is not meant:
                raise LulcbenchError(
                    f"Band {i} of {path.name} is described as {dataset.descriptions[i - 1]!r}, but --bands names it "
                    f"{rule.bands[(i - 1) % len(told)]}.",
                    "Correct --bands, or leave it out: the file describes its bands.",
                )
        return tuple(order)
    if n == 1 and (named := band_of(kind, platform, name.band)):
        if described[0] is not None and described[0] is not named:
            raise LulcbenchError(
                f"{path.name} is {named.name} by its name, but its band is described as {dataset.descriptions[0]!r}.",
                "Rename the file or correct the description.",
            )
        return (named,)
    if any(described) and all(has_text):
        return tuple(described)
    example = ",".join(band.name for band in kind.bands[1:4])
    if (
        kind is LANDSAT
        and platform is None
        and any(re.fullmatch(r"(?i)b\d", text or "") for text in dataset.descriptions)
    ):
        raise LulcbenchError(
            f"The bands of {path.name} are numbered, and numbers mean other bands for other Landsats.",
            "Tell which, for instance --platform landsat-8; or name the bands: --bands blue,green,red.",
        )
    raise LulcbenchError(
        f"{path.name} has {n} band{'s' * (n > 1)}, which neither name nor descriptions "
        f"({', '.join(text or '–' for text in texts[:12])}) identify.",
        f"Name them in their order: --bands {example},…; or leave the file out with --pattern.",
    )


def _told(kind: Sensor, platform: str | None, text: str) -> Band:
    return band_of(kind, platform, text) or kind.band(text)


def coding_of(
    rule: IngestRule, path: Path, name: Name, kind: Sensor, baseline: str | None, level: str, dataset: Any
) -> Coding:
    """How the numbers of a file become values: as told, as the file states, or as its product is known to be coded.

    Raises:
        LulcbenchError: none of these is known.
    """
    if any("complex" in dtype for dtype in dataset.dtypes):
        raise LulcbenchError(f"{path.name} has complex numbers.", "Give reflectance, or backscatter as power or in dB.")
    nodata = rule.nodata if rule.nodata is not None else dataset.nodata
    radar = kind.bands[0].unit != "1"
    if radar and rule.unit is None:
        raise LulcbenchError(
            f"{path.name} does not tell the unit of its backscatter.",
            "Tell --unit dB, or --unit 1 for linear power; digital numbers must be calibrated first.",
        )
    stated = set(zip(dataset.scales, dataset.offsets, strict=True))
    if rule.scale is not None:
        other = "" if stated in ({(1.0, 0.0)}, {(rule.scale, rule.offset or 0.0)}) else ", not what the file states"
        return Coding(rule.scale, rule.offset or 0, nodata, f"told{other}")
    if stated != {(1.0, 0.0)}:
        if len(stated) > 1:
            raise LulcbenchError(
                f"The bands of {path.name} have several scales and offsets.", "Tell --scale and --offset."
            )
        ((scale, offset),) = stated
        return Coding(scale, offset, nodata, "of the file")
    if radar:
        return Coding(1, 0, nodata, f"{rule.unit} told" if rule.unit == "dB" else "linear power told")
    zero = 0 if nodata is None else nodata
    if kind is LANDSAT and name.collection == "02":
        return Coding(landsat.SCALE, landsat.OFFSET, zero, "Collection 2 Level-2")
    if kind is SENTINEL2 and baseline is not None and level:
        shifted = float(baseline) >= sentinel2.OFFSET_BASELINE
        return Coding(sentinel2.SCALE, sentinel2.OFFSET if shifted else 0, zero, f"baseline {baseline}")
    remedy = "Tell --scale and --offset (value = scale · DN + offset; 1 and 0 if they are reflectance already)"
    more = "; or the processing baseline, on which the offset of Sentinel-2 depends: --baseline 02.07"
    raise LulcbenchError(
        f"{path.name} does not tell how its numbers become {'reflectance' if kind.coding.scale < 1e-3 else 'values'}.",
        f"{remedy}{more if kind is SENTINEL2 else ''}.",
    )


def levels_of(path: Path, dataset: Any, order: tuple[Band | None, ...], coding: Coding) -> Levels | None:
    """Median and 99th percentile of the values of a file; None if there are none."""
    used = [i for i, band in enumerate(order, start=1) if band is not None]
    try:
        values = dataset.read(used, out_shape=(len(used), min(dataset.height, 256), min(dataset.width, 256)))
    except RasterioError as error:
        raise broken(str(path), error) from error
    values = values.astype(np.float64)
    values = values[np.isfinite(values) & (values != coding.nodata)] * coding.scale + coding.offset
    if not values.size:
        return None
    middle, high = np.percentile(values, [50, 99])
    return (float(middle), float(high))


def check_values(name: str, kind: Sensor, unit: str | None, levels: list[Levels | None], coding: Coding) -> None:
    """Numbers that a coding takes where values of the sensor cannot be have another coding.

    Reflectance is mostly between 0 and 1; a single band may be dark all over (the cirrus band is), but not all of them.
    Backscatter of land is mostly below 0 dB, which is a power of 1.

    Raises:
        LulcbenchError: they are elsewhere.
    """
    known = [level for level in levels if level is not None]
    if not known:
        return
    middle, high = (max(values) for values in zip(*known, strict=True))
    if kind.bands[0].unit == "1":
        what, good = "reflectance", middle <= 1.2 and 0.01 < high <= 2.5
    elif unit == "dB":
        what, good = "backscatter in dB", -60 < middle < 0
    else:
        what, good = "linear backscatter", 0 < middle < 1
    if not good:
        raise LulcbenchError(
            f"{name} is not {what} by this coding ({coding.scale:g} · DN {coding.offset:+g}, {coding.source}): "
            f"in its brightest band half of the values are above {middle:.3g}, and 1 % above {high:.3g}.",
            "Tell the right --scale and --offset (--unit for radar), or choose files with --pattern.",
        )
