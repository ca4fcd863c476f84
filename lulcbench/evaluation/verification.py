"""Verification of a map against imagery: the probability that a polygon of the map has the wrong class.

A model predicts class probabilities of the pixels of each polygon. Three numbers of a polygon then speak for its class
or against it: the mean probability of its class compared with that of the best other class, the same compared with the
mean over all polygons (a class that the model hardly ever predicts is not wrong everywhere), and the number of pixels.

No labels are needed for the calibration. Errors are injected: each polygon also gets classes that it does not have in
the map, drawn from the classes of the map. A logistic regression gives a score that separates the map from these. The
map is a mixture of right and wrong polygons; if wrong ones look like the injected ones, the share of wrong ones at a
score is the share of errors times the ratio of the densities of injected errors and of the map at that score (learning
from positive and unlabelled examples: Elkan & Noto 2008, KDD, 213–220), which isotonic regression estimates. The share
of errors is the largest that leaves no score with more errors than polygons (Blanchard, Lee & Scott 2010, Journal of
Machine Learning Research 11, 2973–3009). Hence it is an upper bound: right polygons that the model cannot tell from
errors count as errors, too. ``benchmarks/verification.py`` measures the probabilities on a map with known errors.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.class_maps import NONE, at_level
from lulcbench.evaluation.polygons import read_polygons
from lulcbench.grid import CRS
from lulcbench.legend import legend
from lulcbench.maps.dated import years_of
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.maps.lattice import BLOCK, Lattice
from lulcbench.maps.model import MapModel, step_of
from lulcbench.maps.windows import predict_window
from lulcbench.release import Release

if TYPE_CHECKING:
    import geopandas

MINIMUM: Final = 50  # polygons that the calibration needs
COPIES: Final = 3  # injected errors of each polygon
_SEED = 1
_STEPS = 100
_FLOOR = 1e-4  # of mean probabilities
_TOP = 0.5  # of the injected errors, from which the share of errors is found, at least

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Evidence:
    """What a model predicts in polygons.

    Attributes:
        classes: index of the class of each polygon in the map, intp ``(n,)``.
        mean: mean probabilities of the classes, float64 ``(n, k)``.
        pixels: number of pixels with imagery, int64 ``(n,)``.
    """

    classes: Indices
    mean: Floats
    pixels: npt.NDArray[np.int64]

    def features(self, classes: Indices) -> Floats:
        """What speaks for the given classes ``(n,)`` of the polygons: float64 ``(n, 5)``, the first is 1."""
        rows = np.arange(len(classes))
        mean = np.maximum(self.mean, _FLOOR)
        own = mean[rows, classes]
        others = mean.copy()
        others[rows, classes] = 0
        usual = np.maximum(np.average(self.mean, axis=0, weights=self.pixels), _FLOOR)
        against = np.log(own / others.max(axis=1))
        unusual = np.log(own / usual[classes])
        size = np.log(self.pixels)
        return np.stack([np.ones(len(classes)), against, unusual, size, against * size], axis=1)


def probability_wrong(evidence: Evidence) -> tuple[Floats, Floats]:
    """Probability that the class of each polygon is wrong, and the score that it depends on: float64 ``(n,)`` each.

    Probabilities never decrease with the score, which also ranks polygons of the same probability.

    Raises:
        LulcbenchError: there are fewer than ``MINIMUM`` polygons, or all have the same class.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> truth, wrong = rng.integers(0, 3, 500), rng.random(500) < 0.1
        >>> mean = np.full((500, 3), 0.1) + 0.7 * np.eye(3)[truth]
        >>> classes = np.where(wrong, (truth + 1) % 3, truth)
        >>> p, _ = probability_wrong(Evidence(classes, mean, np.full(500, 20)))
        >>> bool(p[wrong].min() > 0.9), bool(p[~wrong].max() < 0.1)
        (True, True)
    """
    classes = evidence.classes
    known, shares = np.unique(classes, return_counts=True)
    if len(classes) < MINIMUM or len(known) < 2:
        raise LulcbenchError(
            f"{len(classes)} polygons of {len(known)} classes with imagery are too few to calibrate probabilities.",
            f"Give a map with at least {MINIMUM} polygons of two classes where there is imagery.",
        )
    rng = np.random.default_rng(_SEED)
    copied = np.repeat(np.arange(len(classes)), COPIES)
    chances = np.tile(shares.astype(np.float64), (len(copied), 1))
    chances[known[None, :] == classes[copied][:, None]] = 0
    chances = chances.cumsum(axis=1)
    drawn = known[(rng.random(len(copied))[:, None] * chances[:, -1:] >= chances).sum(axis=1)]
    repeated = Evidence(classes[copied], evidence.mean[copied], evidence.pixels[copied])
    x = np.concatenate([evidence.features(classes), repeated.features(drawn)])
    centre, scale = x[:, 1:].mean(axis=0), np.maximum(x[:, 1:].std(axis=0), 1e-6)
    x[:, 1:] = (x[:, 1:] - centre) / scale
    scores = x @ _regression(x, np.arange(len(x)) >= len(classes))
    return _calibrated(scores[: len(classes)], scores[len(classes) :]), scores[: len(classes)]


def _regression(x: Floats, injected: npt.NDArray[np.bool_]) -> Floats:
    """Coefficients of a logistic regression of injected errors against the map, which has the same weight."""
    weight = np.where(injected, 1 / COPIES, 1.0)
    beta = np.zeros(x.shape[1])
    ridge = np.eye(len(beta))
    for _ in range(_STEPS):  # of Newton's method
        fitted = _logistic(x @ beta)
        slope = x.T @ (weight * (injected - fitted)) - beta
        curvature = (x * (weight * fitted * (1 - fitted))[:, None]).T @ x + ridge
        step = np.linalg.solve(curvature, slope)
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return beta


def _calibrated(mapped: Floats, injected: Floats) -> Floats:
    """Share of errors among polygons of the map with given scores ``(n,)``, from the scores of errors ``(m,)``."""
    n, m = len(mapped), len(injected)
    everything = np.concatenate([mapped, injected])
    values, which = np.unique(everything, return_inverse=True)
    own = np.bincount(which[:n], minlength=len(values)) / n
    errors = np.bincount(which[n:], minlength=len(values)) / m
    above = np.cumsum(own[::-1])[::-1], np.cumsum(errors[::-1])[::-1]
    enough = above[1] >= _TOP  # a ratio of few polygons is uncertain
    share = float(np.min(above[0][enough] / above[1][enough]))
    q = _isotonic(errors / (own + errors), own + errors)
    ratio = q / np.maximum(1 - q, 1e-12)
    result: Floats = np.minimum(share * ratio, 1.0)[which[:n]]
    return result


def _isotonic(values: Floats, weights: Floats) -> Floats:
    """The closest sequence that never decreases (pool adjacent violators; Barlow et al. 1972)."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] >= pool[0]:
            mean, total, number = pools.pop()
            both = total + pool[1]
            pool = ((mean * total + pool[0] * pool[1]) / both, both, number + pool[2])
        pools.append(pool)
    return np.repeat([mean for mean, _, _ in pools], [number for _, _, number in pools])


def _logistic(x: Floats) -> Floats:
    result: Floats = (1 + np.tanh(x / 2)) / 2
    return result


@dataclass(frozen=True)
class Verified:
    """Polygons of a map with the probability that they are wrong, the most suspicious ones first.

    Attributes:
        polygons: EPSG:3035; columns ``feature`` (number of the polygon in the file, from 0), ``code`` (class in the
            map), ``wrong`` (probability), ``suggested`` (most probable class), ``agreement`` (mean probability of the
            class in the map), ``pixels`` (with imagery).
        level: legend level.
        left_out: reason → number of polygons.
        imagery: that was used.
        model: that predicted.
        repaired: number of features of the file that crossed themselves, and were repaired.
    """

    polygons: geopandas.GeoDataFrame
    level: int
    left_out: dict[str, int]
    imagery: ReleaseImagery
    model: MapModel
    repaired: int = 0

    @property
    def simulated(self) -> bool:
        """Whether the imagery or the model is of simulated data."""
        return self.imagery.release.simulated or self.model.info.simulated

    @property
    def expected(self) -> float:
        """Expected number of wrong polygons."""
        return float(self.polygons["wrong"].sum())


def verify_map(
    path: str | os.PathLike[str],
    imagery: str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    level: int = 1,
    year: int | None = None,
    legend_name: str = "luisa",
    class_column: str | None = None,
    map_year: int | None = None,
    band: str | None = None,
    layer: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verified:
    """Find the polygons of a map whose class the imagery contradicts.

    Args:
        path: a vector file of polygons, or a map of ``open_map``, whose connected areas are the polygons.
        imagery: folder or URL of a release, labelled or not.
        model: folder of an exported model of the pixels of the LUISA legend.
        level: legend level at which classes are compared, at most that of the model.
        year: of the imagery; None takes the last one.
        legend_name: ``luisa``, ``corine``, or a CSV file (value, code) that translates the classes of the map.
        class_column: of a vector file.
        map_year: of a map of several years.
        band: of a raster with several bands.
        layer: of a vector file with several layers of polygons.
        progress: is told the numbers of finished blocks and of all blocks.

    Raises:
        LulcbenchError: a file cannot be read; the map and the imagery do not overlap; too few polygons have imagery.
    """
    opened, release = MapModel.open(model), Release.open(imagery)
    info = opened.info
    if not info.dense or info.level is None or level > info.level:
        raise LulcbenchError(
            f"{info.name} does not predict LUISA classes of pixels at level {level}.",
            "Use a segmentation model of that level or a finer one, or a coarser --level.",
        )
    images = ReleaseImagery(release, info, years_of(release, info)[-1] if year is None else year)
    read = read_polygons(path, images.bounds, info.resolution, legend_name, class_column, map_year, band, layer)
    codes = at_level(read.table["code"].to_numpy(), level)
    left_out = read.left_out | {f"class without a class of level {level}": int((codes == NONE).sum())}
    polygons = read.table.assign(code=codes)[codes != NONE].reset_index(drop=True)
    sums, pixels = _sums(polygons, opened, images, level, progress)
    left_out["no pixel with imagery"] = int((pixels == 0).sum())
    polygons, sums, pixels = polygons[pixels > 0].reset_index(drop=True), sums[pixels > 0], pixels[pixels > 0]
    known = np.array(legend().codes(level))
    mean = sums / pixels[:, None]
    evidence = Evidence(np.searchsorted(known, polygons["code"].to_numpy()), mean, pixels)
    wrong, score = probability_wrong(evidence)
    polygons = polygons.assign(
        wrong=wrong,
        suggested=known[mean.argmax(axis=1)],
        agreement=mean[np.arange(len(mean)), evidence.classes],
        pixels=pixels,
    )
    polygons = polygons.iloc[np.argsort(-score, kind="stable")].reset_index(drop=True)
    return Verified(polygons, level, {reason: n for reason, n in left_out.items() if n}, images, opened, read.repaired)


def _sums(
    polygons: pd.DataFrame,
    model: MapModel,
    imagery: ReleaseImagery,
    level: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Sums of probabilities over the pixels of polygons ``(n, k)``, and numbers of pixels with imagery ``(n,)``."""
    from rasterio.features import rasterize
    from rasterio.transform import from_origin
    from shapely.geometry import box

    info = model.info
    lattice = Lattice.of(info.resolution, info.reach, step_of(info))
    parents = legend().parents(info.level or level, level)
    classes = len(legend().codes(level))
    sums, pixels = np.zeros((len(polygons), classes)), np.zeros(len(polygons), np.int64)
    wanted = sorted({index for tile in imagery.tiles(imagery.bounds) for index in lattice.blocks(tile.bounds)})
    predictor, shapes = model.predictor(), polygons.geometry
    for done, index in enumerate(wanted, start=1):
        left, bottom, right, top = lattice.block(index)
        near = np.sort(shapes.sindex.query(box(left, bottom, right, top), predicate="intersects"))
        if len(near):
            ids = rasterize(
                ((shapes.iloc[i], at) for at, i in enumerate(near, start=1)),
                out_shape=(BLOCK, BLOCK),
                transform=from_origin(left, top, info.resolution, info.resolution),
                dtype="int32",
            )
            if ids.any():
                predicted = predict_window(predictor, imagery, lattice, index, info.temperature, blend=False)
                used = ids > 0
                used &= predicted.counts["composites"][:BLOCK, :BLOCK] > 0
                if predicted.p is not None and used.any():
                    places = near[ids[used] - 1]
                    np.add.at(pixels, places, 1)
                    for own, parent in zip(predicted.p[:, :BLOCK, :BLOCK], parents, strict=True):
                        sums[:, parent] += np.bincount(places, weights=own[used], minlength=len(polygons))
        if progress:
            progress(done, len(wanted))
    return sums, pixels


def write_polygons(verified: Verified, path: str | os.PathLike[str]) -> None:
    """Write the ranked polygons as a GeoPackage.

    Raises:
        LulcbenchError: the path does not end in .gpkg.
    """
    path = Path(path)
    if path.suffix != ".gpkg":
        raise LulcbenchError(f"{path} does not end in .gpkg.", "Name a GeoPackage.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part.gpkg")
    ranked = verified.polygons.assign(rank=np.arange(1, len(verified.polygons) + 1)).to_crs(CRS)
    ranked.to_file(part, driver="GPKG", layer="verified", index=False)
    part.replace(path)
