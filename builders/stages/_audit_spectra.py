"""The part of the audit that looks at one image at a time: spectra of leaves and soil, sharpness, holes, clouds.

These need no second sensor. Limits rest on the physics that is named with each, and on real images: patches of EuroSAT
(Level-1C), BigEarthNet and WorldCereal (Level-2A), Landsat over Lanjarón, on which ``tests/real`` runs the audit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from builders.stages._registration import Image
from lulcbench.release import ArrayKey
from lulcbench.seasons import Season

Floats = npt.NDArray[np.floating[Any]]
Verdict = tuple[str, bool, str]

MIN_PIXELS = 500  # that a median or a share is of
LEAVES = 0.5  # NDVI above which leaves cover a pixel
SOIL_NDVI, SOIL_RED = (0.1, 0.3), (0.08, 0.5)  # bare or built ground
# Chlorophyll absorbs blue and red more than green, water in leaves absorbs more the longer the wavelength (Tucker 1979,
# Gao 1996): over leaves the first band is brighter than the second. Soil is brighter in red than in blue.
LEAF_ORDER = (("green", "blue"), ("green", "red"), ("nir", "swir16"), ("swir16", "swir22"))
# Differences that noise and haze may turn round; of Lanjarón, blue exceeds green by 0.009 on median.
ORDER_MARGIN = 0.015
# Blue over leaves. The air adds 0.05 and more, which Level-1C has: of 297 EuroSAT patches the median is 0.095 and 95 %
# are above 0.077; the four BigEarthNet patches (Level-2A) have 0.012 to 0.031, WorldCereal 0.046, Lanjarón 0.074.
LEAF_BLUE = 0.075
# Mean squared difference of neighbours, of that of pixels 8 apart. Where pixels are 6 times too large, bilinear
# interpolation leaves 0.02; Landsat resampled to 60 m on the 30 m grid (Lanjarón) has 0.044 and more, others 0.05.
LAG, SHARP = 8, 0.03
UNIFORM_SHARE = 0.01  # of one value in all bands: a nodata or saturation value taken for reflectance
BRIGHTEST = 0.03  # the brightest percent of a release in any band; of 8-bit pictures read as 1e-4, 0.0255
# Pixels beside a hole against those 4 to 6 pixels away: interpolated with nodata they are darker (or, with a high
# nodata value, brighter) in all bands; beside masked clouds and shadows they differ in some.
HOLE_RATIO = (0.8, 1.5)
# Blue above that of the pixel's darkest season, without snow (NDSI 0.4, Dozier 1989), is cloud. Bare fields and roofs
# vary by less than 0.1 (at most 0.07 % of a tile in Flanders).
CLOUD_BLUE, CLOUD_SHARE, SNOW = 0.15, 0.05, 0.4
GROWING = ((5, 15), (9, 15))  # month and day; without snow where people live


class Checks(Protocol):
    """What counts checks and keeps problems and measurements."""

    measured: dict[str, Any]

    def check(self, name: str, good: bool, problem: str) -> None:
        """Count one check; keep the problem if it failed."""


class Spectra:
    """Medians and shares of all images, for what only many tiles can show.

    Args:
        seasons: of the release.
    """

    def __init__(self, seasons: Sequence[Season]) -> None:
        middles = [(day.month, day.day) for day in (season.midpoint(2018) for season in seasons)]
        self.growing = [GROWING[0] <= middle <= GROWING[1] for middle in middles]
        self.order: dict[tuple[ArrayKey, str, str], list[float]] = defaultdict(list)
        self.soil: dict[ArrayKey, list[float]] = defaultdict(list)
        self.leaf_blue: dict[ArrayKey, list[float]] = defaultdict(list)
        self.sharpness: dict[tuple[ArrayKey, str], list[float]] = defaultdict(list)
        self.brightest: dict[tuple[ArrayKey, str], list[float]] = defaultdict(list)
        self.holes: dict[ArrayKey, list[tuple[float, float]]] = defaultdict(list)

    def add(self, image: Image, tile: str, found: Checks) -> None:
        """Take the samples of a tile, and check what one tile shows."""
        bands = {band.asset: i for i, band in reversed(list(enumerate(image.bands)))}
        bands.setdefault("nir", bands.get("nir08", -1))
        if bands["nir"] < 0:
            del bands["nir"]
        for season in image.values:
            known = np.isfinite(season[0])
            if known.sum() < MIN_PIXELS or not any(np.ptp(band[known]) for band in season):
                continue
            self._leaves_and_soil(image.key, season, bands, known)
            self._texture(image, season)
            self._edges(image.key, season, known)
            if len(season) >= 3:
                equal = season[0][known & (season == season[:1]).all(axis=0)]
                share = np.unique(equal, return_counts=True)[1].max(initial=0) / known.sum()
                found.check(
                    "missing pixels are not values",
                    bool(share <= UNIFORM_SHARE),
                    f"{tile} {image.key}: {share:.1%} of pixels have the same value in all bands: is it nodata?",
                )

    def clouds(self, images: Sequence[Image], tile: str, found: Checks) -> None:
        """Check one tile of a sensor for clouds, by the darkest of all its seasons and years."""
        bands = {band.asset: i for i, band in enumerate(images[0].bands)}
        visible = bands.get("blue", bands.get("green"))
        if visible is None or sum(len(image.values) for image in images) < 2:
            return
        lowest = np.fmin.reduce(np.concatenate([image.values[:, visible] for image in images]), axis=0)
        for image in images:
            for season, values in enumerate(image.values):
                known = np.isfinite(values[visible])
                if "green" in bands and "swir16" in bands:
                    green, swir = values[bands["green"]], values[bands["swir16"]]
                    with np.errstate(divide="ignore", invalid="ignore"):
                        bare = (green - swir) / (green + swir) <= SNOW
                elif self.growing[season]:
                    bare = known
                else:
                    continue
                if known.sum() < MIN_PIXELS:
                    continue
                share = float(((values[visible] - lowest > CLOUD_BLUE) & bare)[known].mean())
                found.check(
                    "no clouds are left",
                    share <= CLOUD_SHARE,
                    f"{tile} {image.key}, season {season + 1}: {share:.0%} of pixels are brighter by {CLOUD_BLUE} than "
                    "in another season, and not snow: were clouds not masked?",
                )

    def _leaves_and_soil(self, key: ArrayKey, season: Floats, bands: dict[str, int], known: Any) -> None:
        if not {"red", "nir"} <= bands.keys():
            return
        red, infrared = season[bands["red"]], season[bands["nir"]]
        with np.errstate(divide="ignore", invalid="ignore"):
            ndvi = (infrared - red) / (infrared + red)
        leaves = known & (ndvi > LEAVES)
        if leaves.sum() >= MIN_PIXELS:
            for brighter, darker in LEAF_ORDER:
                if {brighter, darker} <= bands.keys():
                    difference = season[bands[brighter]][leaves] - season[bands[darker]][leaves]
                    self.order[key, brighter, darker].append(float(np.median(difference)))
            if "blue" in bands:
                self.leaf_blue[key].append(float(np.median(season[bands["blue"]][leaves])))
        soil = known & (ndvi > SOIL_NDVI[0]) & (ndvi < SOIL_NDVI[1]) & (red > SOIL_RED[0]) & (red < SOIL_RED[1])
        if "blue" in bands and soil.sum() >= MIN_PIXELS:
            self.soil[key].append(float(np.median(red[soil] - season[bands["blue"]][soil])))

    def _texture(self, image: Image, season: Floats) -> None:
        for band, values in zip(image.bands, season, strict=True):
            known = values[np.isfinite(values)]
            self.brightest[image.key, band.name].append(float(np.percentile(known, 99)))
            if band.resolution > image.resolution:  # coarser by nature
                continue
            near, far = (
                (values[:, lag:] - values[:, :-lag])[np.isfinite(values[:, lag:] - values[:, :-lag])]
                for lag in (1, LAG)
            )
            if len(far) >= MIN_PIXELS and float((far**2).mean()) > 0:
                self.sharpness[image.key, band.name].append(float((near**2).mean() / (far**2).mean()))

    def _edges(self, key: ArrayKey, season: Floats, known: npt.NDArray[np.bool_]) -> None:
        """Of each band, the ratio of pixels beside holes to those further away; the highest and the lowest of all."""
        if known.all():
            return
        away = ndimage.distance_transform_cdt(known, "chessboard")
        beside, further = away == 1, (away >= 4) & (away <= 6)
        weight = ndimage.uniform_filter(further.astype(float), 15)
        compared = beside & (weight > 0.02)
        if compared.sum() < MIN_PIXELS:
            return
        ratios = []
        for values in season:
            mean = ndimage.uniform_filter(np.where(further, values, 0.0), 15)[compared] / weight[compared]
            ratios.append(float(np.median(values[compared] / np.maximum(mean, 1e-3))))
        self.holes[key].append((max(ratios), min(ratios)))

    def verdicts(self, found: Checks) -> Iterator[Verdict]:
        """Checks of the whole release: name, whether it is good, what is wrong."""
        for (key, brighter, darker), values in self.order.items():
            difference = float(np.median(values))
            found.measured[f"{brighter} − {darker} of leaves, {key}"] = round(difference, 4)
            yield (
                "leaves have the spectrum of leaves",
                difference >= -ORDER_MARGIN,
                f"{key}: {brighter} is {difference:+.3f} against {darker} over leaves: are bands exchanged?",
            )
        for key, values in self.soil.items():
            difference = float(np.median(values))
            found.measured[f"red − blue of bare ground, {key}"] = round(difference, 4)
            yield (
                "bare ground is brighter in red than in blue",
                difference >= 0,
                f"{key}: red is {difference:+.3f} against blue over bare ground: are bands exchanged?",
            )
        for key, values in self.leaf_blue.items():
            blue = float(np.median(values))
            found.measured[f"blue of leaves, {key}"] = round(blue, 4)
            yield (
                "leaves are dark in blue",
                blue <= LEAF_BLUE,
                f"{key}: blue is {blue:.3f} over leaves, expected at most {LEAF_BLUE}: is it Level-1C, or was an "
                "offset not subtracted?",
            )
        for (key, band), values in self.sharpness.items():
            ratio = float(np.median(values))
            found.measured[f"sharpness of {band}, {key}"] = round(ratio, 4)
            yield (
                "images are as sharp as their pixels",
                ratio >= SHARP,
                f"{key} {band}: neighbouring pixels differ by {ratio:.3f} of what pixels {LAG} apart do (mean "
                f"squares), expected {SHARP}: is the pixel size of the files right?",
            )
        for (key, band), values in self.brightest.items():
            yield (
                "some ground is bright",
                max(values) >= BRIGHTEST,
                f"{key} {band}: the brightest percent is {max(values):.4f}: is it a picture, or is the scale wrong?",
            )
        for key, pairs in self.holes.items():
            highest, lowest = (float(v) for v in np.median(np.array(pairs), axis=0))
            found.measured[f"pixels beside holes, {key}"] = [round(lowest, 3), round(highest, 3)]
            yield (
                "holes do not bleed",
                highest >= HOLE_RATIO[0] and lowest <= HOLE_RATIO[1],
                f"{key}: pixels beside holes have {lowest:.2f} to {highest:.2f} times the values of those further "
                "away, in all bands: was nodata interpolated?",
            )
