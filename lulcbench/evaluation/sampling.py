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
from lulcbench.evaluation.areas import Indices, Survey
from lulcbench.evaluation.class_maps import NONE, ClassMap, MapCount, at_level, count, totals
from lulcbench.evaluation.confusion import Floats
from lulcbench.evaluation.design import BUFFER, Design, Kind

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

    def of_points(
        self, map_: ClassMap, table: pd.DataFrame, codes: npt.NDArray[np.integer], counted: MapCount | None = None
    ) -> Sample | None:
        """The sample that points of a table are; None if its design is unknown.

        Args:
            map_: the map.
            table: the points, one row each.
            codes: codes of the map at the points, ``(n,)``.
            counted: the counted map, if it is known.

        Raises:
            LulcbenchError: the design is of another map, lacks a column, or contradicts the points.
        """
        if self.kind is Kind.UNKNOWN or not len(table):
            return None
        if self.design is not None and not self.other_map:
            counted = counted or count(map_)
            if counted.digest != self.design.map_digest:
                raise LulcbenchError(
                    f"The sample was designed for {self.design.map}, and {map_.name} differs from it.",
                    "Give that map, or --other-map if the sample is to evaluate another one.",
                )
            self._check_strata(self.design, map_, table, codes)
        n = len(table)
        weight = np.ones(n)
        if "weight" in table:
            weight = np.array(pd.to_numeric(table["weight"], errors="coerce"), np.float64)
            if not (np.isfinite(weight) & (weight > 0)).all():
                raise LulcbenchError(
                    "A weight of a point is missing or not positive.", "Correct the column of weights."
                )
        elif self.kind is Kind.TWO_PHASE:
            raise LulcbenchError("A two-phase design requires weights.", "Name their column with --weights.")
        if self.kind is Kind.CLUSTER and "cluster" not in table:
            raise LulcbenchError("A cluster design requires clusters.", "Name their column with --clusters.")
        cluster = _index(table["cluster"], "cluster")[0] if self.kind is Kind.CLUSTER else None
        stratum, sizes = np.zeros(n, np.intp), None
        if self.kind is Kind.STRATIFIED and self.sizes is None:
            if "stratum" in table:
                raise LulcbenchError("Strata require their areas.", _SIZES)
            own = at_level(codes, self.level)
            if (own == NONE).any():
                raise LulcbenchError(f"{map_.name} has classes coarser than level {self.level}.", "Choose its level.")
            areas = totals((counted or count(map_)).areas, self.level)
            names = list(areas)
            stratum, sizes = np.searchsorted(names, own), np.array(list(areas.values()))
        elif "stratum" in table and self.kind not in (Kind.SIMPLE_RANDOM, Kind.SYSTEMATIC):
            stratum, texts = _index(table["stratum"], "stratum")
            sizes = None if self.sizes is None else _in_order(self.sizes, texts)
        elif self.kind is Kind.STRATIFIED:
            raise LulcbenchError("A stratified design requires strata.", "Name their column with --strata.")
        if sizes is not None:
            weight = self._calibrated(weight, stratum, sizes, "weight" in table and self.design is None)
        return Sample(self.kind, weight, stratum.astype(np.intp), cluster, self.first_phase)

    def _check_strata(
        self, design: Design, map_: ClassMap, table: pd.DataFrame, codes: npt.NDArray[np.integer]
    ) -> None:
        """Refuse points that are not where they were drawn, or whose strata were edited."""
        if design.kind is not Kind.STRATIFIED:
            return
        stated = pd.to_numeric(table["stratum"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        own = at_level(codes, design.level)
        wrong = np.flatnonzero((stated < BUFFER) & (own != stated))
        if len(wrong):
            raise LulcbenchError(
                f"{len(wrong)} points are not in the stratum that the sample states: one of {stated[wrong[0]]:.0f} is "
                f"in a pixel of {own[wrong[0]]} in {map_.name}.",
                "Restore positions and strata as they were drawn, or leave these points out.",
            )

    def _calibrated(self, weight: Floats, stratum: npt.NDArray[np.integer], sizes: Floats, stated: bool) -> Floats:
        drawn = np.bincount(stratum, weights=weight, minlength=len(sizes))
        if (single := np.flatnonzero(np.bincount(stratum, minlength=len(sizes)) == 0)).size:
            raise LulcbenchError(
                f"{single.size} map classes have no points, so that their errors are unknown.",
                "Label points in them, or choose a coarser --strata-level.",
            )
        if stated and (np.abs(drawn / sizes - 1) > TOLERANCE).any():
            worst = int(np.argmax(np.abs(drawn / sizes - 1)))
            raise LulcbenchError(
                f"The weights of a stratum add up to {drawn[worst]:g}, and its area is {sizes[worst]:g}.",
                "Correct weights or areas; both must have the same unit.",
            )
        calibrated: Floats = weight * (sizes / drawn)[stratum]
        return calibrated


@dataclass(frozen=True)
class Sample:
    """Points of a probability sample.

    Attributes:
        kind: how they were selected.
        weight: area that each point stands for, ``(n,)``.
        stratum: index ``(n,)``.
        cluster: index ``(n,)``; None without clusters.
        first_phase: number of points of the first phase; None if there is none.
    """

    kind: Kind
    weight: Floats
    stratum: Indices
    cluster: Indices | None
    first_phase: int | None

    def survey(
        self, rows: npt.NDArray[np.integer], reference: npt.ArrayLike, mapped: npt.ArrayLike, classes: int
    ) -> Survey:
        """The survey of some of the points (a domain), such as those with classes of a level.

        Strata that have a single point of the domain are merged with the next one, which overestimates the variance
        (collapsed strata: Cochran 1977, ch. 5A.12).

        Args:
            rows: positions of the points ``(m,)``.
            reference: class indices ``(m,)``.
            mapped: class indices ``(m,)``.
            classes: number of classes.

        Raises:
            LulcbenchError: there are fewer than two points or clusters.
        """
        cluster = None if self.cluster is None else self.cluster[rows]
        stratum = np.unique(self.stratum[rows], return_inverse=True)[1]
        unit = np.unique(cluster, return_index=True)[1] if cluster is not None else np.arange(len(rows))
        while (units := np.bincount(stratum[unit])).min(initial=2) < 2 and len(units) > 1:
            single = int(np.argmin(units))
            stratum = np.where(stratum == single, single + 1 if single + 1 < len(units) else single - 1, stratum)
            stratum = np.unique(stratum, return_inverse=True)[1]
        return Survey.weighted(
            reference, mapped, classes, self.weight[rows], stratum, cluster, first_phase=self.first_phase
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
    texts, index = np.unique(
        column.astype(str).str.strip().str.replace(r"[.,]0+$", "", regex=True).to_numpy(str), return_inverse=True
    )
    return index.astype(np.intp), [str(text) for text in texts]
