"""Sampling designs: how many points, in which strata, and what ``area`` and ``validate`` must know of them.

Sizes and allocation follow Cochran 1977 (Sampling Techniques, ch. 4 and 5) as recommended by Olofsson et al. 2014
(Remote Sensing of Environment 148, 42–57, section 5.1).
"""

from __future__ import annotations

import math
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from lulcbench._files import Frozen, write_json
from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import LulcbenchError, UnsupportedFormatError

FORMAT: Literal["lulcbench-design/1"] = "lulcbench-design/1"
MAX_BYTES = 16 * 2**20
MAX_POINTS = 1_000_000
BUFFER = 10_000_000_000  # added to the code of a class: the stratum around it; codes of pairs of classes are smaller

Sizes = npt.NDArray[np.float64]
Points = npt.NDArray[np.int64]


class Kind(StrEnum):
    """How the points of a sample were selected."""

    UNKNOWN = "unknown"
    SIMPLE_RANDOM = "simple-random"
    SYSTEMATIC = "systematic"
    STRATIFIED = "stratified"
    CLUSTER = "cluster"
    TWO_PHASE = "two-phase"


class Allocation(StrEnum):
    """How points are divided among strata.

    ``proportional`` to area estimates overall accuracy well, ``equal`` the user's accuracies, and ``optimal`` (Neyman)
    minimises the standard error of overall accuracy and of areas for the expected accuracies.
    """

    PROPORTIONAL = "proportional"
    EQUAL = "equal"
    OPTIMAL = "optimal"


class Stratum(Frozen):
    """One stratum of a design.

    Attributes:
        code: map class of the stratum, or a number.
        pixels: number of pixels.
        area: true area, m².
        points: number of points.
    """

    code: int
    pixels: Annotated[int, Field(gt=0)]
    area: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    points: Annotated[int, Field(ge=0)]


class Design(Frozen):
    """The design of a sample, stored beside it as JSON.

    Attributes:
        kind: how the points were selected.
        map: name of the map from which they were drawn.
        map_digest: SHA-256 of its classes and its grid (``class_maps.count``).
        level: legend level of the strata; None if the codes of the map are the strata.
        strata: all strata; one for designs without.
        seed: of the random selection.
        allocation: how the points were divided among the strata.
        target_se: standard error of overall accuracy for which the size was calculated; None if it was given.
    """

    format: Literal["lulcbench-design/1"] = FORMAT
    kind: Kind
    map: str
    map_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    level: Annotated[int, Field(ge=1, le=4)] | None = None
    strata: Annotated[tuple[Stratum, ...], Field(min_length=1)]
    seed: int
    allocation: Allocation | None = None
    target_se: float | None = None

    @model_validator(mode="after")
    def _codes_differ(self) -> Self:
        if len({stratum.code for stratum in self.strata}) != len(self.strata):
            raise ValueError("two strata have the same code")
        return self

    @property
    def points(self) -> int:
        """Number of points of all strata."""
        return sum(stratum.points for stratum in self.strata)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the design as JSON."""
        write_json(Path(path), self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a design.

        Raises:
            LulcbenchError: the file is missing or damaged.
            UnsupportedFormatError: it is of another format version.
        """
        path, remedy = Path(path), "Draw the sample again with 'lulcbench design'."
        if not path.is_file():
            raise LulcbenchError(f"The design {path} is missing.", remedy)
        content = parse_json(read_limited(path, MAX_BYTES, remedy), str(path), remedy, MAX_BYTES)
        if content.get("format") != FORMAT:
            raise UnsupportedFormatError(
                f"{path} has format {str(content.get('format'))[:80]!r}, this lulcbench reads {FORMAT!r}.", remedy
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the design"
            raise LulcbenchError(f"{path} is damaged: {where}: {first['msg']}.", remedy) from error


def sample_size(areas: npt.ArrayLike, expected: npt.ArrayLike, target_se: float) -> int:
    """Number of points for a standard error of overall accuracy (Cochran 1977, eq. 5.25, large populations).

    Args:
        areas: area of each stratum in any unit, ``(k,)``.
        expected: expected user's accuracy of each stratum, ``(k,)``.
        target_se: wanted standard error, for instance 0.01.

    Raises:
        LulcbenchError: a value is out of range, or more than ``MAX_POINTS`` points are necessary.

    Examples:
        Olofsson et al. 2014, section 5.1.1:

        >>> sample_size([0.02, 0.015, 0.32, 0.645], [0.7, 0.6, 0.9, 0.95], 0.01)
        641
    """
    shares, deviation = _shares(areas), _deviation(expected)
    if not 0 < target_se < 0.5:
        raise LulcbenchError(f"A standard error of {target_se} is not a target.", "Choose one such as 0.01.")
    n = math.ceil(float((shares @ deviation) ** 2) / target_se**2 - 1e-9)
    if n > MAX_POINTS:
        raise LulcbenchError(f"A standard error of {target_se} takes {n:,} points.", "Choose a larger one.")
    return max(n, 2 * len(shares))


def allocate(
    n: int,
    areas: npt.ArrayLike,
    method: Allocation = Allocation.PROPORTIONAL,
    expected: npt.ArrayLike | None = None,
    minimum: int = 0,
    available: npt.ArrayLike | None = None,
) -> Points:
    """Divide points among strata; the sum is exactly ``n`` (largest remainders).

    A stratum with fewer pixels than its share or the minimum gets all of them, and the others share the rest.

    Args:
        n: number of points.
        areas: area of each stratum in any unit, ``(k,)``.
        method: rule of division.
        expected: expected user's accuracy of each stratum, ``(k,)``; required for the optimal allocation.
        minimum: points of each stratum at least; rare classes get them, the others share the rest.
        available: number of pixels of each stratum, ``(k,)``; None without a limit.

    Raises:
        LulcbenchError: the minimum (or two in each stratum) takes more than ``n`` points, or there are fewer pixels.

    Examples:
        Olofsson et al. 2014, table 5, proportional allocation, and with at least 75 points in each stratum:

        >>> allocate(641, [0.02, 0.015, 0.32, 0.645])
        array([ 13,  10, 205, 413])
        >>> allocate(641, [0.02, 0.015, 0.32, 0.645], minimum=75)
        array([ 75,  75, 163, 328])
        >>> allocate(641, [0.02, 0.015, 0.32, 0.645], minimum=75, available=[9, 1000, 1000, 1000])
        array([  9,  75, 185, 372])
    """
    shares = _shares(areas)
    k = len(shares)
    most = np.full(k, np.inf) if available is None else np.asarray(available, np.float64)
    least = np.minimum(float(max(minimum, 2)), most)
    if least.sum() > n:
        raise LulcbenchError(
            f"{n:,} points are fewer than {max(minimum, 2)} in each of {k} strata.",
            "Take more points, a smaller minimum, or a coarser level.",
        )
    if n > most.sum():
        raise LulcbenchError(f"{n:,} points are more than {most.sum():,.0f} pixels.", "Take fewer points.")
    if method is Allocation.EQUAL:
        wanted = np.full(k, 1 / k)
    elif method is Allocation.OPTIMAL:
        if expected is None:
            raise LulcbenchError("The optimal allocation requires expected accuracies.", "State them.")
        wanted = shares * _deviation(expected)
        wanted = wanted / wanted.sum() if wanted.sum() else shares
    else:
        wanted = shares
    fixed, exact = np.zeros(k, bool), np.zeros(k)
    while not fixed.all():
        free = wanted if wanted[~fixed].sum() else shares
        exact = np.where(fixed, exact, free * (n - exact[fixed].sum()) / free[~fixed].sum())
        low, high = ~fixed & (exact < least), ~fixed & (exact > most)
        if not (low | high).any():
            break
        # Raising strata to their minimum takes points from the others, limiting strata gives points: the larger first.
        bound = low if (least - exact)[low].sum() >= (exact - most)[high].sum() else high
        exact = np.where(bound, np.clip(exact, least, most), exact)
        fixed |= bound
    points = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-np.where(fixed, -1, exact - points), kind="stable")
    points[order[: n - int(points.sum())]] += 1
    return points


def expected_se(points: npt.ArrayLike, areas: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    """Standard error of overall accuracy that a sample will have if the expectation holds (Cochran 1977, eq. 5.7).

    The fraction of the pixels that are sampled is taken as 0, so that small strata err on the safe side.

    Args:
        points: number of points of each stratum, ``(k,)``.
        areas: area of each stratum in any unit, ``(k,)``.
        expected: expected user's accuracy of each stratum, ``(k,)``.

    Examples:
        >>> round(expected_se([75, 75, 163, 328], [0.02, 0.015, 0.32, 0.645], [0.7, 0.6, 0.9, 0.95]), 4)
        0.0109
    """
    numbers = np.asarray(points, np.float64)
    return float(np.sqrt(np.sum((_shares(areas) * _deviation(expected)) ** 2 / numbers)))


def allocate_for(
    target_se: float,
    areas: npt.ArrayLike,
    method: Allocation,
    expected: npt.ArrayLike,
    minimum: int = 0,
    available: npt.ArrayLike | None = None,
) -> Points:
    """Divide as few points among strata as give a standard error of overall accuracy; see ``allocate``.

    ``sample_size`` holds for the optimal allocation; other ones, and a minimum for rare classes, need more points.

    Raises:
        LulcbenchError: a value is out of range, or more than ``MAX_POINTS`` points or all pixels are necessary.

    Examples:
        >>> allocate_for(0.01, [0.02, 0.015, 0.32, 0.645], Allocation.EQUAL, [0.7, 0.6, 0.9, 0.95]).tolist()
        [292, 292, 292, 291]
    """
    k = len(_shares(areas))
    most = MAX_POINTS if available is None else min(MAX_POINTS, int(np.asarray(available, np.int64).sum()))
    least = np.full(k, max(minimum, 2)) if available is None else np.minimum(max(minimum, 2), available)

    def divided(n: int) -> Points:
        return allocate(n, areas, method, expected, minimum, available)

    high = low = min(max(sample_size(areas, expected, target_se), int(np.sum(least))), most)
    while expected_se(divided(high), areas, expected) > target_se:
        if high >= most:
            what = "points" if most == MAX_POINTS else "points, all pixels,"
            raise LulcbenchError(
                f"{most:,} {what} do not reach a standard error of {target_se}.", "Choose a larger one."
            )
        low, high = high, min(2 * high, most)
    while high - low > 1:  # low has too few points, or is the smallest size
        middle = (low + high) // 2
        low, high = (low, middle) if expected_se(divided(middle), areas, expected) <= target_se else (middle, high)
    return divided(high)


def _shares(areas: npt.ArrayLike) -> Sizes:
    values = np.asarray(areas, np.float64)
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise LulcbenchError("Strata must have positive areas.", "Leave out strata without pixels.")
    shares: Sizes = values / values.sum()
    return shares


def _deviation(expected: npt.ArrayLike) -> Sizes:
    """Standard deviation of "correct" in each stratum."""
    values = np.asarray(expected, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise LulcbenchError("An expected accuracy is not between 0 and 1.", "State shares such as 0.85.")
    deviation: Sizes = np.sqrt(values * (1 - values))
    return deviation
