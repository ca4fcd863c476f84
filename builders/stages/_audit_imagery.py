"""The part of the audit that looks at pixels: whether reflectance, bands, sensors and labels agree with one another.

A wrong offset, exchanged bands, a displaced raster or one scene in two splits leave every file consistent with its
manifest. Only the pixels show them: water is dark in the near infrared, leaves are not, two sensors see the same
ground. Limits are wide, so that they find faults of processing and not unusual ground. An image without contrast is
not checked.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from builders.stages._audit_labels import LabelFit
from builders.stages._audit_spectra import Spectra
from builders.stages._registration import (
    SAME_WAVELENGTH,
    Image,
    Shift,
    column,
    pairs,
    tile_shift,
)
from lulcbench.grid import LABEL_RESOLUTION
from lulcbench.legend import legend
from lulcbench.release import ArrayKey, Manifest
from lulcbench.sensors import Band

Floats = npt.NDArray[np.floating[Any]]
Report = Callable[[int, int], None]
Read = Callable[[ArrayKey, int], npt.NDArray[Any]]

STEP = 4  # quantiles are of every 4th row and column
MIN_PIXELS = 1000  # sampled pixels that a quantile needs
CONTRAST = 0.02  # between the 1 % and 99 % quantile of a band; less is evidence of nothing
# The darkest percent of a tile (shadow, water, vegetation in red and blue) is darker than this in some band, in every
# season; where nothing is, the archive's offset of 0.1 (Sentinel-2 since baseline 04.00, ESA) was not subtracted. Of
# visible bands alone that holds for a release, not for every tile: a town under haze has no dark pixel.
DARK = 0.085
SHORTWAVE = 1.5  # µm
# Surface reflectance is barely negative over dark ground; where much of it is, the offset was subtracted twice.
NEGATIVE, NEGATIVE_SHARE = -0.03, 0.05
BRIGHT, BRIGHT_SHARE = 1.5, 0.02  # snow and cloud edges reach 1; percent or digital numbers exceed it everywhere
MIN_CELLS = 200  # label cells of a class, all of whose neighbours are of the class too
WATER_NIR = 0.15  # median over inland and sea water; clear water reflects below 0.05, silt and bloom more
FOREST_NDVI = 0.4  # in the greenest season; closed canopies exceed 0.6
SAME_BAND_RATIO = (0.75, 1.33)  # of two bands of one sensor less than SAME_BAND apart, over bright ground
SAME_BAND = 0.03  # µm
SENSOR_DIFFERENCE = 0.05  # median difference of two sensors' reflectance in one band and season
SENSOR_CORRELATION = 0.5
# Landsat Collection 2 and Sentinel-2 share ground control; half a pixel of the coarser sensor is a fault of a release,
# a whole one of a tile.
RELEASE_SHIFT, TILE_SHIFT = 0.5, 1.0  # pixels of the coarser sensor


class Checks(Protocol):
    """What counts checks and keeps problems and measurements."""

    measured: dict[str, Any]

    def check(self, name: str, good: bool, problem: str) -> None:
        """Count one check; keep the problem if it failed."""


def imagery(manifest: Manifest, index: pd.DataFrame, read: Read, found: Checks, report: Report | None = None) -> None:
    """Check the pixels of all tiles against physics, labels and other sensors.

    Args:
        manifest: of the release.
        index: of the release, one row per tile.
        read: gives the stored values of a tile by array and row.
        found: gets checks, problems and measurements.
        report: called with tiles done and tiles in all.
    """
    optical = [
        key
        for name, info in manifest.sensors.items()
        for key in info.arrays(name)
        if all(band.wavelength is not None and band.unit == "1" for band in info.bands)
    ]
    sums, spectra, fit = _Sums(), Spectra(manifest.seasons), LabelFit()
    for done, (_, row) in enumerate(index.iterrows(), start=1):
        images = {}
        for key in optical:
            info = manifest.sensor(key.name)
            stored = read(key, row["row"])
            _identical(stored, info.coding.missing(stored), key, row, sums, found)
            image = Image(key, info.bands, info.resolution, info.coding.decode(stored))
            if key.first != key.last:  # dated imagery has no seasons to compare
                _reflectance(image, row["id"], sums, found)
                continue
            images[key] = image
        for image in images.values():
            _reflectance(image, row["id"], sums, found)
            spectra.add(image, row["id"], found)
        for name in {key.name: None for key in images}:
            spectra.clouds([image for key, image in images.items() if key.name == name], row["id"], found)
        labels = {
            key: read(key, row["row"]) for key in manifest.split_arrays(row["split"]) if key.name in manifest.labels
        }
        fit.add(images, labels)
        for key, codes in labels.items():
            for image in images.values():
                if image.key.first == key.first:
                    _classes(image, codes, sums)
        for a, b in pairs([(key, image.bands) for key, image in images.items()]):
            _registration(images[a], images[b], row, sums, found)
            _agreement(images[a], images[b], sums)
        if report:
            report(done, len(index))
    growing = any(spectra.growing)
    for verdicts in (sums.verdicts(found, growing), spectra.verdicts(found), fit.verdicts(found)):
        for verdict in verdicts:
            found.check(*verdict)


class _Sums:
    """Samples of all tiles, for what only many tiles can show."""

    def __init__(self) -> None:
        self.hashes: dict[str, str] = {}
        self.water_nir: dict[tuple[ArrayKey, int], list[Floats]] = defaultdict(list)
        self.forest_ndvi: dict[tuple[ArrayKey, int], list[Floats]] = defaultdict(list)
        self.darkest: dict[ArrayKey, list[float]] = defaultdict(list)
        self.ratios: dict[tuple[ArrayKey, str, str], list[Floats]] = defaultdict(list)
        self.pairs: dict[tuple[ArrayKey, ArrayKey, str], list[Floats]] = defaultdict(list)
        self.shifts: dict[tuple[ArrayKey, ArrayKey], list[Shift]] = defaultdict(list)
        self.resolutions: dict[tuple[ArrayKey, ArrayKey], int] = {}

    def verdicts(self, found: Checks, growing: bool) -> Iterator[tuple[str, bool, str]]:
        """Checks of the whole release: name, whether it is good, what is wrong."""
        for key, seasons in _grouped(self.water_nir).items():
            medians = [float(np.median(cells)) for cells in seasons if len(cells) >= MIN_CELLS]
            if medians:
                found.measured[f"near infrared of water, {key}"] = [round(v, 4) for v in medians]
                yield (
                    "water is dark in the near infrared",
                    max(medians) <= WATER_NIR,
                    f"{key}: median reflectance {max(medians):.3f} over water, expected at most {WATER_NIR}",
                )
        for key, seasons in _grouped(self.forest_ndvi).items():
            medians = [float(np.median(cells)) for cells in seasons if len(cells) >= MIN_CELLS]
            if medians:
                found.measured[f"NDVI of forest, {key}"] = [round(v, 4) for v in medians]
            if medians and growing:
                yield (
                    "forest is green",
                    max(medians) >= FOREST_NDVI,
                    f"{key}: NDVI of forest is at most {max(medians):.2f} in any season, expected {FOREST_NDVI}: bands "
                    "may be exchanged, or labels displaced",
                )
        for key, values in self.darkest.items():
            found.measured[f"darkest percent, {key}"] = round(min(values), 4)
            yield (
                "some ground is dark",
                min(values) <= DARK,
                f"{key}: no tile, band and season has its darkest percent below {DARK}, the lowest is "
                f"{min(values):.3f}: was an offset of 0.1 not subtracted?",
            )
        for (key, first, second), samples in self.ratios.items():
            ratio = float(np.median(np.concatenate(samples)))
            found.measured[f"{second} / {first}, {key}"] = round(ratio, 4)
            yield (
                "neighbouring bands agree",
                SAME_BAND_RATIO[0] <= ratio <= SAME_BAND_RATIO[1],
                f"{key}: {second} is {ratio:.2f} times {first}",
            )
        for (a, b, band), samples in self.pairs.items():
            one, other, season = np.concatenate(samples, axis=1)
            difference, r = float(np.median(other - one)), float(np.corrcoef(one, other)[0, 1])
            found.measured[f"{b} − {a}, {band}"] = {"median": round(difference, 4), "correlation": round(r, 4)}
            medians = [float(np.median((other - one)[season == s])) for s in np.unique(season)]
            worst = max(medians, key=abs)
            yield (
                "sensors agree in reflectance",
                abs(worst) <= SENSOR_DIFFERENCE and r >= SENSOR_CORRELATION,
                f"{band}: {b} differs from {a} by {difference:+.3f} (median; {worst:+.3f} in one season), correlation "
                f"{r:.2f}",
            )
        for (a, b), shifts in self.shifts.items():
            east, north = np.median(np.array(shifts), axis=0)
            distances = np.hypot(*np.array(shifts).T)
            found.measured[f"displacement of {b} against {a}, m"] = {
                "tiles": len(shifts),
                "median_east": round(float(east), 2),
                "median_north": round(float(north), 2),
                "95_percent_distance": round(float(np.percentile(distances, 95)), 2),
            }
            limit = RELEASE_SHIFT * self.resolutions[a, b]
            yield (
                "sensors are co-registered",
                float(np.hypot(east, north)) <= limit,
                f"{b} lies {east:+.1f} m east and {north:+.1f} m north of {a} (median), more than {limit:g} m",
            )


def shift_columns(index: pd.DataFrame) -> dict[tuple[str, str], tuple[str, str]]:
    """Columns (east, north) of displacements in an index, by the pair (reference sensor, displaced array)."""
    pattern = re.compile(r"shift_([a-z0-9]+)_(.+)_east")
    return {
        (match[1], match[2]): (name, name.removesuffix("east") + "north")
        for name in index.columns
        if (match := pattern.fullmatch(name))
    }


def _grouped(samples: dict[tuple[ArrayKey, int], list[Floats]]) -> dict[ArrayKey, list[Floats]]:
    """Samples by array, a list of one array per season."""
    out: dict[ArrayKey, list[Floats]] = defaultdict(list)
    for (key, _), parts in sorted(samples.items()):
        out[key].append(np.concatenate(parts))
    return out


def _identical(stored: Any, missing: Any, key: ArrayKey, row: pd.Series, sums: _Sums, found: Checks) -> None:
    """One image in two tiles: the pixels of one would be in two splits, or the tile in a wrong place."""
    for season, (image, holes) in enumerate(zip(stored, missing, strict=True)):
        known = [band[~hole] for band, hole in zip(image, holes, strict=True)]
        if sum(map(len, known)) < MIN_PIXELS or not any(np.ptp(values) for values in known if len(values)):
            continue
        digest = hashlib.sha256(np.ascontiguousarray(image)).hexdigest()
        other = sums.hashes.setdefault(digest, f"{row['id']} ({row['split']})")
        here = f"{row['id']} ({row['split']})"
        same_place = other == here  # seasons or years of one tile may be alike
        found.check(
            "no image twice", same_place, f"{here} and {other} have the same pixels in {key}, season {season + 1}"
        )


def _reflectance(image: Image, tile: str, sums: _Sums, found: Checks) -> None:
    """Whether values are reflectance, not shifted by an offset nor in another unit."""
    sample = image.values[..., ::STEP, ::STEP]
    flat = sample.reshape(*sample.shape[:2], -1)
    darkest = []  # of each season
    for season in flat:
        low = []
        for band, values in zip(image.bands, season, strict=True):
            known = values[np.isfinite(values)]
            if len(known) < MIN_PIXELS:
                continue
            where = f"{tile} {image.key} {band.name}"
            negative, bright = float((known < NEGATIVE).mean()), float((known > BRIGHT).mean())
            found.check(
                "reflectance is not negative",
                negative <= NEGATIVE_SHARE,
                f"{where}: {negative:.0%} of pixels below {NEGATIVE}: was the offset subtracted twice?",
            )
            found.check(
                "reflectance is at most 1",
                bright <= BRIGHT_SHARE,
                f"{where}: {bright:.0%} of pixels above {BRIGHT}: is the scale wrong?",
            )
            if _has_contrast(known):
                low.append(float(np.percentile(known, 1)))
        darkest.append(min(low, default=math.inf))
    if min(darkest, default=math.inf) < math.inf:
        sums.darkest[image.key].append(min(darkest))
    # Of a single date, snow or haze may cover a tile.
    if image.key.first == image.key.last and any((band.wavelength or 0) > SHORTWAVE for band in image.bands):
        for season_number, lowest in enumerate(darkest, start=1):
            if lowest < math.inf:
                found.check(
                    "some ground is dark",
                    lowest <= DARK,
                    f"{tile} {image.key}, season {season_number}: no band has its darkest percent below {DARK}, the "
                    f"lowest is {lowest:.3f}: was an offset of 0.1 not subtracted?",
                )
    for i, first in enumerate(image.bands):
        for j, second in enumerate(image.bands[i + 1 :], start=i + 1):
            if abs((first.wavelength or 0) - (second.wavelength or 0)) <= SAME_BAND:
                one, other = flat[:, i], flat[:, j]
                known = np.isfinite(one) & np.isfinite(other) & (one > 0.1)
                if known.sum() >= MIN_PIXELS:
                    ratio = np.median(other[known] / one[known], keepdims=True)
                    sums.ratios[image.key, first.name, second.name].append(ratio)


def _classes(image: Image, codes: npt.NDArray[np.uint16], sums: _Sums) -> None:
    """Collect what water and forest look like in the middle of label cells that lie among their like."""
    bands = {band.asset: i for i, band in reversed(list(enumerate(image.bands)))}
    infrared = bands.get("nir", bands.get("nir08"))
    if infrared is None:
        return
    # The pixel over the centre of each label cell.
    centres = ((np.arange(codes.shape[0]) + 0.5) * LABEL_RESOLUTION / image.resolution).astype(int)
    values = image.values[:, :, centres[:, None], centres[None, :]]
    near_infrared = values[:, infrared]
    inner = _among_its_like(codes)
    water, forest = (inner & np.isin(codes, _codes(level, code)) for level, code in ((1, 5), (2, 31)))
    for season, cells in enumerate(near_infrared):
        if _has_contrast(cells):
            sums.water_nir[image.key, season].append(cells[water & np.isfinite(cells)])
    if "red" in bands:
        red = values[:, bands["red"]]
        with np.errstate(divide="ignore", invalid="ignore"):
            ndvi = (near_infrared - red) / (near_infrared + red)
        for season, cells in enumerate(ndvi):
            if _has_contrast(cells):
                sums.forest_ndvi[image.key, season].append(cells[forest & np.isfinite(cells)])


def _has_contrast(values: Floats) -> bool:
    known = values[np.isfinite(values)]
    return len(known) > 0 and float(np.ptp(np.percentile(known, (1, 99)))) >= CONTRAST


def _among_its_like(codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
    """Cells whose eight neighbours have the same code; none at the border."""
    inner = np.zeros(codes.shape, bool)
    centre = codes[1:-1, 1:-1]
    inner[1:-1, 1:-1] = np.logical_and.reduce(
        [
            codes[1 + dy : codes.shape[0] - 1 + dy, 1 + dx : codes.shape[1] - 1 + dx] == centre
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
    )
    return inner


def _codes(level: int, code: int) -> list[int]:
    """Codes of all levels that lie in a class."""
    return [int(c) for deeper in range(level, 5) for c in legend().codes(deeper) if str(c).startswith(str(code))]


def _registration(a: Image, b: Image, row: pd.Series, sums: _Sums, found: Checks) -> None:
    """The displacement of two sensors, against the index and against the limit of a tile."""
    shift = tile_shift(a, b)
    stated = [row.get(column(a.key, b.key, axis)) for axis in Shift._fields]
    known = [value for value in stated if value is not None and not np.isnan(value)]
    same = len(known) == (0 if shift is None else 2) and all(
        abs(value - measured) < 0.01 for value, measured in zip(known, shift or (), strict=True)
    )
    found.check("displacements are those of the index", same, f"{row['id']}: {stated} in the index, {shift} measured")
    if shift is None:
        return
    coarser = max(a.resolution, b.resolution)
    sums.resolutions[a.key, b.key] = coarser
    sums.shifts[a.key, b.key].append(shift)
    found.check(
        "tiles are co-registered",
        float(np.hypot(*shift)) <= TILE_SHIFT * coarser,
        f"{row['id']}: {b.key} lies {shift.east:+.1f} m east and {shift.north:+.1f} m north of {a.key}",
    )


def _agreement(a: Image, b: Image, sums: _Sums) -> None:
    """Collect pixels of one ground in the bands that two sensors share."""
    side = min(a.values.shape[-1], b.values.shape[-1]) // STEP
    for i, one in enumerate(a.bands):
        j = _closest(one, b.bands)
        if j is None:
            continue
        samples = [_means(image, band, side) for image, band in ((a, i), (b, j))]
        known = np.isfinite(samples[0]) & np.isfinite(samples[1])
        first, second = (values[known] for values in samples)
        if len(first) >= MIN_PIXELS and _has_contrast(first):
            sums.pairs[a.key, b.key, one.name].append(np.stack([first, second, np.nonzero(known)[0]]))


def _closest(band: Band, others: Any) -> int | None:
    distances = [abs((band.wavelength or 0) - (other.wavelength or 9)) for other in others]
    nearest = int(np.argmin(distances))
    return nearest if distances[nearest] <= SAME_WAVELENGTH else None


def _means(image: Image, band: int, side: int) -> Floats:
    """Means of a band over a grid of ``side × side`` squares per season: ``(season, side, side)``; NaN with a hole."""
    values = image.values[:, band]
    factor = values.shape[-1] // side
    cut = values[:, : side * factor, : side * factor]
    means: Floats = cut.reshape(len(values), side, factor, side, factor).mean(axis=(2, 4))
    return means
