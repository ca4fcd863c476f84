"""From a stated sampling design and a table of points to a ``Survey``, whose estimates hold for the map.

A sample whose design is unknown, or that is not a probability sample, describes its own points only: there is no survey
then, and no area is estimated.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench._parsing import read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.areas import Bools, Indices, Survey
from lulcbench.evaluation.class_maps import NONE, ClassMap, MapCount, at_level, count, totals
from lulcbench.evaluation.confusion import Floats
from lulcbench.evaluation.design import BUFFER, Design, Kind
from lulcbench.evaluation.drawn_points import CENTRE, DrawnPoints

TOLERANCE = 0.01  # of the sum of weights against the areas of the strata
_MAX_BYTES = 2**24
_SIZES = "Give a CSV file with columns stratum and area (--sizes)."


@dataclass(frozen=True)
class Sampling:
    """A sampling design as it is stated. Columns of the table are ``stratum``, ``cluster`` and ``weight``.

    Attributes:
        kind: how the points were selected.
        sizes: area of each stratum in any unit, by the text in column ``stratum``; None if strata are the map classes.
        level: legend level of strata that are map classes; None for the codes of the map.
        first_phase: number of points of the first phase.
        design: a design that ``lulcbench design`` wrote; then ``kind`` and ``sizes`` are its own.
        other_map: whether the map may be another than that of the design (Stehman 2014).
    """

    kind: Kind = Kind.UNKNOWN
    sizes: Mapping[str, float] | None = None
    level: int | None = None
    first_phase: int | None = None
    design: Design | None = None
    other_map: bool = False

    @classmethod
    def of_design(cls, design: Design, other_map: bool = False) -> Sampling:
        """The sampling of a design that ``lulcbench design`` wrote."""
        sizes = {str(stratum.code): stratum.area for stratum in design.strata}
        return cls(design.kind, sizes, None, None, design, other_map)

    def of_points(self, map_: ClassMap, points: DrawnPoints, counted: MapCount | None = None) -> Sample | None:
        """The sample that drawn points are; None if its design is unknown, or none of them is used.

        Weights add up to the areas of the strata over all drawn points, in the map or not. The weights of points
        without a reference class go to those that have one, of the same stratum, and likewise with a class in the map
        (weighting classes: Särndal et al. 1992, ch. 15.6). Points that cannot be used and lack a weight, a stratum with
        an area or a cluster are not part of the sample.

        Args:
            map_: the map.
            points: the points.
            counted: the counted map, if it is known.

        Raises:
            LulcbenchError: the design is of another map, lacks a column, or contradicts the points.
        """
        if self.kind is Kind.UNKNOWN or not points.used.any():
            return None
        if self.design is not None and not self.other_map:
            counted = counted or count(map_)
            if counted.digest != self.design.map_digest:
                raise LulcbenchError(
                    f"The sample was designed for {self.design.map}, and {map_.name} differs from it.",
                    "Give that map, or --other-map if the sample is to evaluate another one.",
                )
        drawn, sizes = points.table.copy(deep=False), self._named_sizes()
        for name in {"stratum", "cluster"} & set(drawn):
            drawn[name] = _names(drawn[name])
        rows = np.flatnonzero(points.unit & (points.used | _complete(drawn, sizes)))
        own_strata = self.kind is Kind.STRATIFIED and self.sizes is None
        if own_strata:  # the sample is one of this map
            rows = rows[points.codes[rows, CENTRE] != NONE]
        table, codes = drawn.iloc[rows], points.codes[rows, CENTRE]
        if self.design is not None and not self.other_map:
            _check_strata(self.design, map_, table, codes)
        stratum, names, areas = self._strata(map_, table, codes, counted, sizes)
        stated = "weight" in table and self.design is None
        weight = _calibrated(self._weights(table), stratum, areas, stated)
        inside, known = points.inside[rows], points.known[rows]
        kept, weight = _answered(weight, stratum, names, inside, known)
        cluster = _index(table["cluster"], "cluster")[0][kept] if "cluster" in table else None
        return Sample(self.kind, rows[kept], weight, stratum[kept], cluster, self.first_phase)

    def _named_sizes(self) -> dict[str, float] | None:
        """Areas of the strata by name."""
        if self.sizes is None:
            return None
        return dict(zip(_names(pd.Series(list(self.sizes))), self.sizes.values(), strict=True))

    def _weights(self, table: pd.DataFrame) -> Floats:
        """Weights of the points as they are stated, otherwise 1.

        Raises:
            LulcbenchError: a weight is missing or not positive.
        """
        if "weight" in table:
            weight = np.array(pd.to_numeric(table["weight"], errors="coerce"), np.float64)
            if not (np.isfinite(weight) & (weight > 0)).all():
                raise LulcbenchError(
                    "A weight of a point is missing or not positive.", "Correct the column of weights."
                )
            return weight
        if self.kind is Kind.TWO_PHASE:
            raise LulcbenchError("A two-phase design requires weights.", "Name their column with --weights.")
        return np.ones(len(table))

    def _strata(
        self,
        map_: ClassMap,
        table: pd.DataFrame,
        codes: npt.NDArray[np.integer],
        counted: MapCount | None,
        sizes: Mapping[str, float] | None,
    ) -> tuple[Indices, list[str], Floats | None]:
        """Stratum of each point, names of the strata, and their areas if they are known.

        Raises:
            LulcbenchError: strata, areas or clusters are missing, or do not match.
        """
        if self.kind is Kind.CLUSTER and "cluster" not in table:
            raise LulcbenchError("A cluster design requires clusters.", "Name their column with --clusters.")
        if self.kind is Kind.STRATIFIED and sizes is None:
            if "stratum" in table:
                raise LulcbenchError("Strata require their areas.", _SIZES)
            own = at_level(codes, self.level)
            if (own == NONE).any():
                raise LulcbenchError(f"{map_.name} has classes coarser than level {self.level}.", "Choose its level.")
            areas = totals((counted or count(map_)).areas, self.level)
            stratum = np.searchsorted(list(areas), own).astype(np.intp)
            if missing := len(areas) - len(np.unique(stratum)):
                raise LulcbenchError(
                    f"{missing} map classes have no points, so that their errors are unknown.",
                    "Label points in them, or choose a coarser --strata-level.",
                )
            return stratum, [str(code) for code in areas], np.array(list(areas.values()))
        if "stratum" in table and self.kind not in (Kind.SIMPLE_RANDOM, Kind.SYSTEMATIC):
            stratum, names = _index(table["stratum"], "stratum")
            return stratum, names, None if sizes is None else _in_order(sizes, names)
        if self.kind is Kind.STRATIFIED:
            raise LulcbenchError("A stratified design requires strata.", "Name their column with --strata.")
        return np.zeros(len(table), np.intp), [], None


@dataclass(frozen=True)
class Sample:
    """Points of a probability sample.

    Attributes:
        kind: how they were selected.
        rows: positions of the points in the table, ``(n,)``: those with a reference class, and those without a class
            in the map.
        weight: area that each point stands for, ``(n,)``.
        stratum: index ``(n,)``.
        cluster: index ``(n,)``; None without clusters.
        first_phase: number of points of the first phase; None if there is none.
    """

    kind: Kind
    rows: Indices
    weight: Floats
    stratum: Indices
    cluster: Indices | None
    first_phase: int | None

    def survey(self, domain: Bools, reference: Indices, mapped: Indices, classes: int) -> Survey:
        """The survey of a domain of the sample, such as the points with classes of a level.

        Strata that have a single point are merged with the next one, which overestimates the variance (collapsed
        strata: Cochran 1977, ch. 5A.12).

        Args:
            domain: mask of the records of the table.
            reference: class indices of all records of the table; those outside the domain are not used.
            mapped: likewise.
            classes: number of classes.

        Raises:
            LulcbenchError: there are fewer than two points or clusters.
        """
        inside = domain[self.rows]
        stratum = np.unique(self.stratum, return_inverse=True)[1]
        unit = np.arange(len(stratum)) if self.cluster is None else np.unique(self.cluster, return_index=True)[1]
        while (units := np.bincount(stratum[unit])).min(initial=2) < 2 and len(units) > 1:
            single = int(np.argmin(units))
            stratum = np.where(stratum == single, single + 1 if single + 1 < len(units) else single - 1, stratum)
            stratum = np.unique(stratum, return_inverse=True)[1]
        true, own = (np.where(inside, index[self.rows], 0) for index in (reference, mapped))
        return Survey.weighted(
            true, own, classes, self.weight, stratum, self.cluster, first_phase=self.first_phase, domain=inside
        )


def read_sizes(path: str | os.PathLike[str]) -> dict[str, float]:
    """Read areas of strata: a CSV file with columns ``stratum`` and ``area``.

    Raises:
        LulcbenchError: the file is missing, or a stratum is doubled or has no positive area.
    """
    path = Path(path)
    if not path.is_file():
        raise LulcbenchError(f"The file of strata {path} is missing.", _SIZES)
    text = read_limited(path, _MAX_BYTES, _SIZES).decode("utf-8-sig", errors="replace")
    sizes: dict[str, float] = {}
    for line, row in enumerate(csv.DictReader(text.splitlines()), start=2):
        name = str(row.get("stratum") or "").strip()
        try:
            area = float(str(row.get("area")))
        except ValueError:
            area = -1.0
        if not name or not 0 < area < np.inf or name in sizes:
            raise LulcbenchError(f"{path}, line {line}: not a new stratum with a positive area.", _SIZES)
        sizes[name] = area
    if not sizes:
        raise LulcbenchError(f"{path} has no strata.", _SIZES)
    return sizes


def _in_order(sizes: Mapping[str, float], texts: list[str]) -> Floats:
    """Areas of the strata in the order of ``texts``.

    Raises:
        LulcbenchError: strata and areas do not match.
    """
    if unknown := [text for text in texts if text not in sizes]:
        raise LulcbenchError(f"Strata of points have no area: {unknown[:8]}.", _SIZES)
    if missing := [text for text in sizes if text not in texts]:
        raise LulcbenchError(
            f"Strata without labelled points: {missing[:8]}.",
            "Label points in them, or merge them with similar strata.",
        )
    return np.array([sizes[text] for text in texts])


def _index(column: pd.Series[str], what: str) -> tuple[Indices, list[str]]:
    """Indices of texts and the texts."""
    if column.isna().any():
        raise LulcbenchError(f"{int(column.isna().sum()):,} points have no {what}.", "Complete the column.")
    texts, index = np.unique(column.to_numpy(str), return_inverse=True)
    return index.astype(np.intp), [str(text) for text in texts]


def _names(column: pd.Series[str]) -> pd.Series[str]:
    """Names of strata or clusters: 1.0 is 1 if all names are fractions, as integers in a column with gaps become.

    Different names remain different.
    """
    names = column.astype("string").str.strip()
    if not names.str.fullmatch(r"-?\d+[.,]\d+").dropna().all():
        return names
    return names.str.replace(r"[.,]0$", "", regex=True)


def _complete(table: pd.DataFrame, sizes: Mapping[str, float] | None) -> Bools:
    """Mask of points with a weight, a stratum that has an area, and a cluster, as far as the table has the columns."""
    complete = np.ones(len(table), bool)
    for name in {"weight", "stratum", "cluster"} & set(table):
        complete &= table[name].notna().to_numpy(bool)
    if "stratum" in table and sizes is not None:
        complete &= table["stratum"].isin(list(sizes)).to_numpy(bool)
    return complete


def _check_strata(design: Design, map_: ClassMap, table: pd.DataFrame, codes: npt.NDArray[np.integer]) -> None:
    """Refuse points of a map that are not where they were drawn in it, or whose strata were edited."""
    own = at_level(codes, design.level)
    remedy = "Restore positions and strata as they were drawn, or leave these points out."
    if design.kind is not Kind.STRATIFIED:
        if outside := int((own == NONE).sum()):
            raise LulcbenchError(
                f"{outside} points are not where they were drawn: {map_.name} has no class there.", remedy
            )
        return
    stated = pd.to_numeric(table["stratum"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.flatnonzero((own == NONE) | ((stated < BUFFER) & (own != stated)))
    if len(wrong):
        first = own[wrong[0]]
        place = f"in a pixel of {first} in {map_.name}" if first != NONE else f"where {map_.name} has no class"
        raise LulcbenchError(
            f"{len(wrong)} points are not in the stratum that the sample states: "
            f"one of {stated[wrong[0]]:.0f} is {place}.",
            remedy,
        )


def _calibrated(weight: Floats, stratum: Indices, sizes: Floats | None, stated: bool) -> Floats:
    """Weights that add up to the areas of the strata, if these are known.

    Raises:
        LulcbenchError: stated weights differ from these areas.
    """
    if sizes is None:
        return weight
    drawn = np.bincount(stratum, weights=weight, minlength=len(sizes))
    if stated and (np.abs(drawn / sizes - 1) > TOLERANCE).any():
        worst = int(np.argmax(np.abs(drawn / sizes - 1)))
        raise LulcbenchError(
            f"The weights of a stratum add up to {drawn[worst]:g}, and its area is {sizes[worst]:g}.",
            "Correct weights or areas; both must have the same unit.",
        )
    calibrated: Floats = weight * (sizes / drawn)[stratum]
    return calibrated


def _answered(
    weight: Floats, stratum: Indices, names: list[str], inside: Bools, known: Bools
) -> tuple[Indices, Floats]:
    """Positions of the points that are evaluated or outside the map, and their weights.

    Raises:
        LulcbenchError: all points of a stratum that are in the map lack a reference class.
    """
    answered = known | ~inside
    cell = 2 * stratum + inside  # a stratum in the map, and out of it
    everyone, those = (np.bincount(cell, weights=weight * used) for used in (1, answered))
    if (silent := np.flatnonzero((everyone > 0) & (those == 0)) // 2).size:
        raise LulcbenchError(
            f"Strata without labelled points: {[names[i] for i in silent[:8]]}.",
            "Label points in them, or merge them with similar strata.",
        )
    kept = np.flatnonzero(answered)
    return kept, (weight * (everyone / np.where(those > 0, those, 1))[cell])[kept]
