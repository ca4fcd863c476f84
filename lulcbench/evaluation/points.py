"""Validation of maps at reference points: LUCAS, the European in-situ survey, or any others (see ``reference_points``).

The LUCAS–CORINE crosswalk translates land cover (and, if recorded, land use) of a point to a LUISA class, mostly of
level 3, sometimes coarser or none. A point is evaluated at the levels that both its class and that of the map have;
points that are not evaluated are counted by reason. LUCAS covers 27 of 41 classes at level 3, and makes no distinction
at level 4.

LUCAS is repeated about every three years. For a point with several surveys, the one nearest to the year of the map is
evaluated (the latest if that year is unknown). Points surveyed more than ``MAX_YEARS`` from the year of the map may
have changed on the ground; they are evaluated and counted.

A point is a circle of a few metres, and its position has an error of some metres, while a label pixel has 50 m: part of
the disagreement is due to scale and location. The pixel that contains the point is evaluated; the share of the 3 × 3
pixels around it that agree states how much depends on this.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lulcbench._files import Frozen
from lulcbench.evaluation.class_maps import NONE, ClassMap, at_level, open_map
from lulcbench.evaluation.confusion import divide, margins
from lulcbench.evaluation.drawn_points import CENTRE, DrawnPoints
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import shown_in
from lulcbench.evaluation.reference_points import ReferencePoints
from lulcbench.evaluation.sampling import Sample, Sampling
from lulcbench.evaluation.scores import SCORER_VERSION, Estimate, Stored, WithMetrics
from lulcbench.evaluation.scoring import estimates
from lulcbench.grid import BLOCK_TILES, TILE_SIZE
from lulcbench.legend import legend
from lulcbench.release import Release

MAX_YEARS = 2


class Figure(Frozen):
    """A share with its standard error and 95 % interval.

    Both are None where the design of the sample gives none, the interval also where fewer than two points are of the
    class (``lulcbench.evaluation.areas.MINIMUM``).
    """

    value: float
    se: float | None = None
    low: float | None = None
    high: float | None = None


class ClassAgreement(Stored):
    """Agreement of one class.

    Attributes:
        code: of the class.
        reference: points with the class in the reference.
        mapped: points with the class in the map.
        user: user's accuracy; None without points in the map.
        producer: producer's accuracy; None without points in the reference.
        f1: harmonic mean of the two.
    """

    code: int
    reference: int
    mapped: int
    user: Figure | None
    producer: Figure | None
    f1: Figure | None


class PointLevel(WithMetrics):
    """Agreement at one level: the metrics of table ``points``; means over classes cover the classes of the points.

    Intervals of the metrics are computed over spatial blocks of 48 km, if two or more contain points and these do not
    all agree: they describe agreement at such points. Figures of ``overall`` and ``classes`` are those of the map if
    the design of the sample is known, and then have standard errors and intervals under this design.

    Attributes:
        level: legend level; None if the values of the map are the classes.
        points: points evaluated at this level.
        overall: overall accuracy; None without points.
        nearby: mean share of the 3 × 3 pixels around a point that agree, among those with a class.
        classes: classes that occur in map or reference.
        codes: codes of rows and columns of the matrix.
        confusion: points by class of the reference (rows) and of the map (columns).
    """

    level: int | None
    points: int
    overall: Figure | None = None
    nearby: float | None = None
    classes: tuple[ClassAgreement, ...] = ()
    codes: tuple[int, ...] = ()
    confusion: tuple[tuple[int, ...], ...]


class PointScores(Frozen):
    """Agreement of a map with reference points.

    Attributes:
        map: its name.
        simulated: whether the map is known to be of simulated data.
        points: number of points in the file.
        evaluated: number of points evaluated at the coarsest level or finer.
        design: how the points were selected.
        blocks: spatial blocks of 48 km that contain evaluated points.
        not_evaluated: reason → points.
        places: rule that determined the position → evaluated points.
        decisions: decision in reading points and map → points.
        year: year of the map; None if unknown.
        far_in_time: evaluated points surveyed more than ``MAX_YEARS`` from that year; None if either is unknown.
        levels: one entry per level, from fine to coarse.
    """

    scorer_version: str = SCORER_VERSION
    map: str
    simulated: bool = False
    points: int
    evaluated: int
    design: str
    blocks: int
    not_evaluated: dict[str, int]
    places: dict[str, int]
    decisions: dict[str, int]
    year: int | None = None
    far_in_time: int | None = None
    levels: tuple[PointLevel, ...]


def validate(
    path: str | os.PathLike[str],
    points: ReferencePoints,
    sampling: Sampling | None = None,
    legend_name: str = "luisa",
    year: int | None = None,
    band: str | None = None,
    release: str | os.PathLike[str] | Release | None = None,
) -> PointScores:
    """Validate a map at reference points.

    Args:
        path: a raster in any CRS, the folder of a map of ``lulcbench map``, or a predictions file.
        points: points from ``reference_points.read_points``.
        sampling: how the points were selected; unknown by default.
        legend_name: legend of a raster (see ``class_maps.open_map``).
        year: year of the map.
        band: of a raster.
        release: of predictions.

    Raises:
        LulcbenchError: the map cannot be read, or the sample does not fit its design.
    """
    with open_map(path, legend_name, year, band, release) as map_:
        return validate_map(map_, points, sampling, None if legend_name == "values" else _levels(points))


def validate_map(
    map_: ClassMap,
    points: ReferencePoints,
    sampling: Sampling | None = None,
    levels: Sequence[int] | None = (3, 2, 1),
) -> PointScores:
    """Validate an opened map at reference points.

    Args:
        map_: the map.
        points: points from ``reference_points.read_points``.
        sampling: how the points were selected; unknown by default.
        levels: legend levels, from fine to coarse; None compares the codes themselves.
    """
    sampling = sampling or Sampling()
    drawn = DrawnPoints.of(map_, points, None)
    table, evaluated = points.table, drawn.used
    located = np.isfinite(table["x"].to_numpy(float)) & np.isfinite(table["y"].to_numpy(float))
    reasons = drawn.not_located()
    reasons["outside the map, or no class there"] = int((located & ~drawn.inside).sum())
    reasons.update(table["reason"][located & drawn.inside & ~drawn.known].astype(str))
    reasons["another survey of the same point is evaluated"] = int(drawn.other_survey.sum())
    cells = table.loc[evaluated, ["x", "y"]].to_numpy(float) // (BLOCK_TILES * TILE_SIZE)
    blocks, block = np.unique(cells, axis=0, return_inverse=True)
    surveyed = table["year"].to_numpy(float)[evaluated]
    year = map_.year
    far = None if year is None or np.isnan(surveyed).all() else int((np.abs(surveyed - year) > MAX_YEARS).sum())
    decisions = {what: number or int(evaluated.sum()) for what, number in map_.decisions.items()}
    sample = sampling.of_points(map_, drawn)
    block_of = np.zeros(len(table), np.intp)
    block_of[evaluated] = block.ravel()
    return PointScores(
        map=map_.name,
        simulated=map_.simulated,
        points=len(table),
        evaluated=int(evaluated.sum()),
        design=sampling.kind.value,
        blocks=len(blocks),
        not_evaluated={reason: n for reason, n in reasons.items() if n},
        places=dict(Counter(table["place"][evaluated].astype(str))),
        decisions=points.decisions | decisions,
        year=year,
        far_in_time=far,
        levels=tuple(_level(level, drawn, block_of, len(blocks), sample) for level in levels or (None,)),
    )


def _levels(points: ReferencePoints) -> tuple[int, ...]:
    """Levels at which points can be evaluated: LUCAS makes no distinction at level 4."""
    finest = 3 if points.lucas else max(1, max((len(str(code)) for code in set(points.table["code"])), default=1))
    return tuple(range(min(finest, 4), 0, -1))


def _level(
    level: int | None, points: DrawnPoints, block: npt.NDArray[np.intp], blocks: int, sample: Sample | None
) -> PointLevel:
    own, around = at_level(points.truth, level), at_level(points.codes, level)
    mapped = around[:, CENTRE]
    both = points.used & (own != NONE) & (mapped != NONE)
    present = np.unique(np.concatenate([own[both], mapped[both]]))
    known = present if level is None else np.array(legend().codes(level))
    n = len(known)
    rows, columns = np.searchsorted(known, own[both]), np.searchsorted(known, mapped[both])
    flat = (block[both] * n + rows) * n + columns
    confusions = np.bincount(flat, minlength=blocks * n * n).reshape(blocks, n, n)
    by_block, shown = margins(confusions), shown_in("points")
    agreement = estimates(Family.CLASSES, by_block.sum(axis=0), by_block)
    there = around[both] != NONE
    share = divide(((around[both] == own[both][:, None]) & there).sum(axis=1), there.sum(axis=1))
    overall, classes = _figures(own, mapped, both, present, sample)
    return PointLevel(
        level=level,
        points=int(both.sum()),
        overall=overall,
        nearby=float(share.mean()) if len(share) else None,
        metrics={name: _informative(estimate) for name, estimate in agreement.items() if name in shown},
        classes=classes,
        codes=tuple(known.tolist()),
        confusion=tuple(tuple(map(int, row)) for row in confusions.sum(axis=0)),
    )


def _informative(estimate: Estimate) -> Estimate:
    """The estimate, without an interval of no width: blocks that all agree do not show how far they could differ."""
    return Estimate(estimate.value) if estimate.low == estimate.high else estimate


def _figures(
    own: npt.NDArray[np.int64],
    mapped: npt.NDArray[np.int64],
    domain: npt.NDArray[np.bool_],
    present: npt.NDArray[np.int64],
    sample: Sample | None,
) -> tuple[Figure | None, tuple[ClassAgreement, ...]]:
    """Overall accuracy and the classes, under the design of the sample if it is known."""
    if not domain.any():
        return None, ()
    k = len(present)
    rows, columns = (np.searchsorted(present, codes) for codes in (own, mapped))
    counts = [np.bincount(index[domain], minlength=k) for index in (rows, columns)]
    if sample is None:
        right = np.bincount(rows[domain & (own == mapped)], minlength=k)
        values = {
            "user": divide(right, counts[1]),
            "producer": divide(right, counts[0]),
            "f1": divide(2 * right, counts[0] + counts[1]),
        }
        figures = {name: [_figure(value) for value in value_of] for name, value_of in values.items()}
        overall = _figure(right.sum() / domain.sum())
    else:
        accuracy = sample.survey(domain, rows, columns, k).accuracy()
        figures = {
            name: [
                _figure(*numbers)
                for numbers in zip(estimate.value, estimate.se, estimate.low, estimate.high, strict=True)
            ]
            for name, estimate in (("user", accuracy.user), ("producer", accuracy.producer), ("f1", accuracy.f1))
        }
        estimate = accuracy.overall
        overall = _figure(*(float(part) for part in (estimate.value, estimate.se, estimate.low, estimate.high)))
    classes = tuple(
        ClassAgreement(
            code=int(code),
            reference=int(counts[0][i]),
            mapped=int(counts[1][i]),
            **{name: values_of[i] for name, values_of in figures.items()},
        )
        for i, code in enumerate(present)
    )
    return overall, classes


def _figure(value: float, *rest: float) -> Figure | None:
    if np.isnan(value):
        return None
    known = [None if np.isnan(number) else float(number) for number in rest]
    se, low, high = known if known else (None, None, None)
    return Figure(value=float(value), se=se, low=low, high=high)
