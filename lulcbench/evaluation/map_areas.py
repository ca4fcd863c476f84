"""Areas of the classes of a map from a sample: what ``lulcbench area`` reports."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from pydantic import Field

from lulcbench._files import Frozen
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation._stored_maps import ZarrMap
from lulcbench.evaluation.areas import Estimates, Survey
from lulcbench.evaluation.assisted_areas import prediction_powered, ratio_areas
from lulcbench.evaluation.class_maps import ClassMap, count, totals
from lulcbench.evaluation.design import Kind
from lulcbench.evaluation.drawn_points import DrawnPoints
from lulcbench.evaluation.reference_points import ReferencePoints
from lulcbench.evaluation.sampling import Sampling


class Estimator(StrEnum):
    """How areas are estimated.

    ``design`` uses the weights of the design, and post-strata for samples without strata.
    """

    DESIGN = "design"
    EXPANSION = "expansion"
    POST_STRATIFIED = "post-stratified"
    RATIO = "ratio"
    PREDICTION_POWERED = "prediction-powered"


class Figure(Frozen):
    """An estimate, its standard error and 95 % interval; shares, or areas in m².

    The interval is None where fewer than two points are of the class (``lulcbench.evaluation.areas.MINIMUM``).
    """

    value: float
    se: float
    low: float | None
    high: float | None


class ClassArea(Frozen):
    """One class: what the map has, and what is estimated.

    Attributes:
        code: of the class.
        pixels: number of pixels in the map.
        mapped: area in the map, m².
        points: points with the reference class.
        effective: number of points of equal weight that would be as informative; intervals are rough below 30.
        area: estimated area, m².
        user: user's accuracy; None without points in the map.
        producer: producer's accuracy; None without points in the reference.
        f1: harmonic mean of the two.
        gain: of prediction-powered areas: factor by which predictions multiply the number of points.
    """

    code: int
    pixels: int
    mapped: float
    points: int
    effective: float
    area: Figure
    user: Figure | None
    producer: Figure | None
    f1: Figure | None
    gain: float | None = None


class RegionAccuracy(Frozen):
    """Accuracy of a map in a region.

    Attributes:
        points: points of the sample in the region.
        overall: overall accuracy; None without points.
        user: code → user's accuracy, of classes with map points in the region.
        producer: code → producer's accuracy, of classes with reference points in the region.
    """

    points: int
    overall: Figure | None
    user: dict[int, Figure]
    producer: dict[int, Figure]


class MapAreas(Frozen):
    """Estimated areas of the classes of a map.

    Attributes:
        map: its name.
        simulated: whether it is known to be of simulated data.
        digest: SHA-256 of its classes and grid.
        design: how the points were selected.
        estimator: of the areas.
        level: legend level; None if the values of the map are the classes.
        total: area of all pixels with a class, m².
        points: points that were used.
        not_used: reason → points.
        overall: overall accuracy.
        classes: by code.
        matrix: estimated shares of the area by map class (rows) and reference class (columns).
        regions: name of the region → code → area of the class in the region, m².
        region_accuracy: name of the region → accuracy there.
    """

    map: str
    simulated: bool = False
    digest: str
    design: str
    estimator: str
    level: int | None
    total: float
    points: int
    not_used: dict[str, int]
    overall: Figure
    classes: tuple[ClassArea, ...]
    matrix: tuple[tuple[float, ...], ...]
    regions: dict[str, dict[int, Figure]] = Field(default_factory=dict)
    region_accuracy: dict[str, RegionAccuracy] = Field(default_factory=dict)


def estimate_areas(
    map_: ClassMap,
    points: ReferencePoints,
    sampling: Sampling,
    level: int | None,
    estimator: Estimator = Estimator.DESIGN,
    regions: Mapping[str, npt.NDArray[np.bool_]] | None = None,
) -> MapAreas:
    """Estimate the areas of the classes of a map from a labelled sample.

    Args:
        map_: the map.
        points: the sample.
        sampling: its design.
        level: legend level; None for maps and points of another legend.
        estimator: of the areas.
        regions: name → mask of the points of the table that are in the region.

    Raises:
        LulcbenchError: the design is unknown, or does not fit the points or the map.
    """
    if sampling.kind is Kind.UNKNOWN:
        raise LulcbenchError(
            "No area can be estimated from a sample whose design is unknown: places without points may differ.",
            "State how the points were selected (--design); 'lulcbench validate' shows agreement at any points.",
        )
    drawn = DrawnPoints.of(map_, points, level)
    used = drawn.used
    located = np.isfinite(points.table["x"].to_numpy(float)) & np.isfinite(points.table["y"].to_numpy(float))
    not_used = drawn.not_located()
    not_used.update(
        {
            "outside the map, or no class of this level there": int((located & ~drawn.inside).sum()),
            "no reference class of this level": int((located & drawn.inside & ~drawn.known).sum()),
            "another survey of the same point is used": int(drawn.other_survey.sum()),
        }
    )
    if (number := int(used.sum())) < 2:
        raise LulcbenchError(f"{number} points have classes in the map and in the reference.", "Label more points.")
    counted = count(map_)
    pixels, areas = totals(counted.pixels, level), totals(counted.areas, level)
    sample = sampling.of_points(map_, drawn, counted)
    assert sample is not None  # noqa: S101
    present = sorted({*pixels, *drawn.truth[used].tolist()})
    k, total = len(present), float(sum(areas.values()))
    reference, own = (np.searchsorted(present, codes) for codes in (drawn.truth, drawn.mapped))
    survey = sample.survey(used, reference, own, k)
    map_areas = np.array([areas.get(code, 0.0) for code in present])
    plain = sampling.kind in (Kind.SIMPLE_RANDOM, Kind.SYSTEMATIC)
    if estimator is Estimator.POST_STRATIFIED or (estimator is Estimator.DESIGN and plain):
        survey = survey.post_stratified(map_areas)
    accuracy = survey.accuracy()
    area, gain = accuracy.area * total, None
    if estimator is Estimator.RATIO:
        area = ratio_areas(survey, map_areas)
    elif estimator is Estimator.PREDICTION_POWERED:
        powered = prediction_powered(survey, *_probabilities(map_, points, used, sample.rows, level, present))
        area, gain = powered.area * total, powered.gain
    inside = {name: (mask & used)[sample.rows] for name, mask in (regions or {}).items()}
    classes = survey.reference[:, None] == np.arange(k)
    by_region = {
        name: survey.ratio(classes & mask[:, None], np.ones((len(mask), 1)), share=True)
        for name, mask in inside.items()
    }
    return MapAreas(
        map=map_.name,
        simulated=map_.simulated,
        digest=counted.digest,
        design=sampling.kind.value,
        estimator=estimator.value,
        level=level,
        total=total,
        points=number,
        not_used={reason: n for reason, n in not_used.items() if n},
        overall=_known(accuracy.overall, [0])[0],
        classes=tuple(
            ClassArea(
                code=code,
                pixels=int(pixels.get(code, 0)),
                mapped=float(map_areas[i]),
                points=int(accuracy.points[i]),
                effective=float(accuracy.effective[i]),
                area=figure,
                user=user,
                producer=producer,
                f1=f1,
                gain=None if gain is None or not np.isfinite(gain[i]) else float(gain[i]),
            )
            for i, (code, figure, user, producer, f1) in enumerate(
                zip(
                    present,
                    _known(area, present),
                    _figures(accuracy.user),
                    _figures(accuracy.producer),
                    _figures(accuracy.f1),
                    strict=True,
                )
            )
        ),
        matrix=tuple(tuple(map(float, row)) for row in accuracy.matrix),
        regions={
            name: dict(zip(present, _known(shares * total, present), strict=True)) for name, shares in by_region.items()
        },
        region_accuracy={name: _in_region(survey, mask, present) for name, mask in inside.items()},
    )


def _in_region(survey: Survey, mask: npt.NDArray[np.bool_], codes: list[int]) -> RegionAccuracy:
    """Accuracy of the part of a sample that is in a region (a domain: Cochran 1977, ch. 5A.14)."""
    k, inside = np.arange(survey.classes), mask[:, None]
    reference, mapped = (own[:, None] == k for own in (survey.reference, survey.mapped))
    right = (reference & mapped & inside).astype(np.float64)
    user, producer = (
        dict(zip(codes, _figures(survey.ratio(right, own, share=True, possible=could)), strict=True))
        for own, could in ((mapped & inside, mapped & inside), (reference & inside, inside))
    )
    overall = survey.ratio(right.sum(axis=1, keepdims=True), inside, share=True, possible=inside)
    return RegionAccuracy(
        points=int(mask.sum()),
        overall=_figures(overall)[0],
        user={code: figure for code, figure in user.items() if figure is not None},
        producer={code: figure for code, figure in producer.items() if figure is not None},
    )


def _figures(estimates: Estimates) -> list[Figure | None]:
    parts = (np.atleast_1d(part) for part in (estimates.value, estimates.se, estimates.low, estimates.high))
    return [
        None
        if np.isnan(value)
        else Figure(
            value=float(value),
            se=float(se),
            low=None if np.isnan(low) else float(low),
            high=None if np.isnan(high) else float(high),
        )
        for value, se, low, high in zip(*parts, strict=True)
    ]


def _known(estimates: Estimates, codes: list[int]) -> list[Figure]:
    figures = []
    for code, figure in zip(codes, _figures(estimates), strict=True):
        if figure is None:
            raise LulcbenchError(f"The area of class {code} is undefined: it has no points.", "Use another estimator.")
        figures.append(figure)
    return figures


def _probabilities(
    map_: ClassMap,
    points: ReferencePoints,
    used: npt.NDArray[np.bool_],
    rows: npt.NDArray[np.intp],
    level: int | None,
    present: list[int],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Probabilities of classes at the points of a sample ``(n, k)``, zeros outside its domain; means over the map."""
    if not isinstance(map_, ZarrMap) or level is None:
        raise LulcbenchError(
            "Prediction-powered areas require the probabilities of a map of 'lulcbench map'.",
            "Give the folder of such a map, or another estimator.",
        )
    x, y = (points.table[axis].to_numpy(float)[used] for axis in ("x", "y"))
    predicted = np.zeros((len(used), len(present)))
    predicted[used], mean = map_.probabilities(x, y, level, present)
    return predicted[rows], mean
