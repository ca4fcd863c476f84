"""Accuracy and area from the points of a probability sample: estimates, standard errors, 95 % intervals.

All estimates are ratios of weighted sums over points. Their variance is that of the linearised sums over the strata and
clusters of the sample (Särndal, Swensson & Wretman 1992, Model Assisted Survey Sampling, ch. 5 and 7). It equals

- for strata that are the map classes, the formulas of Olofsson et al. 2014 (Remote Sensing of Environment 148, 42–57);
- for other strata, those of Stehman 2014 (International Journal of Remote Sensing 35, 4923–4939);
- for post-strata, that of calibrated weights (Särndal et al. 1992, ch. 7.6);
- for two phases, the stratified one plus the variance of the sizes of the strata (Cochran 1977, Sampling Techniques,
  eq. 12.24).

Estimates may be those of a part of what was sampled (a domain: a map that covers a part of the region, pixels with
classes of a level). Points outside it count as zeros in both sums, and in the numbers of points of the strata: that
their number in the domain is random is part of the variance (Cochran 1977, ch. 5A.14; Särndal et al. 1992, ch. 10.3).

A map has many more pixels than a sample has points, so that no factor for finite populations is used. A systematic
sample is treated as a simple random one, which overestimates its variance in most landscapes (Stehman 1992,
Photogrammetric Engineering and Remote Sensing 58, 1343–1350). Clusters are the units of the variance.

Intervals of shares (accuracies, F1, areas) are symmetric on the logit scale, with the quantile of Student's t. Half a
point is added on both sides (Gart & Zweifel 1967, Biometrika 54, 181–187), because a sample without an omission does
not show that there are none: it has the weight of a typical point of those that could have been right or wrong. This
concerns the interval alone, not the estimate and its standard error. Olofsson et al. state ± 1.96 standard errors
instead (``Estimates.margin``), which contain the truth less often for rare classes; ``benchmarks/surveys.py`` measures
how often these intervals do. Estimates from fewer than ``MINIMUM`` points have no interval.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.confusion import Floats, divide
from lulcbench.evaluation.intervals import t_quantiles

MINIMUM = 2  # points (or clusters) that an interval needs

Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Estimates:
    """Estimates with standard errors and the ends of 95 % intervals: float64 of the same shape, NaN if undefined.

    Intervals are also NaN where fewer than ``MINIMUM`` points are in the denominator.
    """

    value: Floats
    se: Floats
    low: Floats
    high: Floats

    @property
    def margin(self) -> Floats:
        """1.96 standard errors, as Olofsson et al. 2014 state after ±."""
        result: Floats = 1.96 * self.se
        return result

    def __mul__(self, factor: float) -> Estimates:
        """Multiply all four by a number, for instance shares by the area of the map."""
        return Estimates(*(part * factor for part in (self.value, self.se, self.low, self.high)))


@dataclass(frozen=True)
class Accuracy:
    """Estimates of the accuracy of a map and of the true areas of its classes.

    Attributes:
        matrix: estimated shares of the area, rows are map classes and columns reference classes: ``(k, k)``.
        overall: overall accuracy, shape ``()``.
        user: user's accuracy (precision) of each class, ``(k,)``.
        producer: producer's accuracy (recall) of each class, ``(k,)``.
        f1: harmonic mean of the two, ``(k,)``.
        area: share of the area that truly has the class, ``(k,)``.
        points: points with the reference class, int64 ``(k,)``.
        effective: number of points (or clusters) of equal weight that would be as informative: (Σw)² / Σw² over those
            of the reference class, ``(k,)`` (Kish 1965, Survey Sampling). Intervals of classes with fewer than 30 are
            rough.
    """

    matrix: Floats
    overall: Estimates
    user: Estimates
    producer: Estimates
    f1: Estimates
    area: Estimates
    points: npt.NDArray[np.int64]
    effective: Floats


@dataclass(frozen=True)
class Survey:
    """Points of a probability sample with their classes in the map and in the reference.

    Attributes:
        reference: class index of the reference, intp ``(n,)``.
        mapped: class index of the map, intp ``(n,)``.
        classes: number of classes.
        weight: area that a point stands for, in any unit: the inverse of its inclusion probability, float64 ``(n,)``.
        stratum: index of the stratum, intp ``(n,)``.
        cluster: index of the cluster, intp ``(n,)``; None if points are sampled one by one.
        map_areas: areas of the map classes, to which the weights are calibrated (post-stratification), float64
            ``(classes,)``; None without.
        first_phase: number of points of the first phase, from which the sizes of the strata are estimated; None if
            they are known.
        domain: mask of the points ``(n,)`` that are in the domain of the estimates; None if all are. The classes of
            the others are not used.

    Examples:
        >>> reference, mapped = [0] * 90 + [1] * 10 + [1] * 50, [0] * 100 + [1] * 50
        >>> survey = Survey.stratified(reference, mapped, 2, stratum=mapped, sizes=[9000.0, 1000.0])
        >>> accuracy = survey.accuracy()
        >>> accuracy.area.value.round(2), accuracy.producer.value.round(3)
        (array([0.81, 0.19]), array([1.   , 0.526]))
    """

    reference: Indices
    mapped: Indices
    classes: int
    weight: Floats
    stratum: Indices
    cluster: Indices | None = None
    map_areas: Floats | None = None
    first_phase: int | None = None
    domain: Bools | None = None

    @classmethod
    def simple_random(cls, reference: npt.ArrayLike, mapped: npt.ArrayLike, classes: int) -> Survey:
        """A simple random or a systematic sample: all points stand for the same area.

        Raises:
            LulcbenchError: there are fewer than two points.
        """
        n = len(np.asarray(reference))
        return cls.weighted(reference, mapped, classes, np.full(n, 1 / max(n, 1)))

    @classmethod
    def stratified(
        cls,
        reference: npt.ArrayLike,
        mapped: npt.ArrayLike,
        classes: int,
        stratum: npt.ArrayLike,
        sizes: npt.ArrayLike,
        pixel_area: npt.ArrayLike = 1.0,
    ) -> Survey:
        """A stratified random sample.

        Args:
            reference: class indices ``(n,)``.
            mapped: class indices ``(n,)``.
            classes: number of classes.
            stratum: index of the stratum ``(n,)``: the map class (Olofsson et al. 2014) or any other (Stehman 2014).
            sizes: area of each stratum in any unit, ``(strata,)``.
            pixel_area: area of the pixel of each point, if pixels differ in area, ``(n,)``.

        Raises:
            LulcbenchError: a stratum with an area has fewer than two points, or one with points has no area.
        """
        stratum = np.asarray(stratum, np.intp)
        sizes = np.asarray(sizes, np.float64)
        own = np.broadcast_to(np.asarray(pixel_area, np.float64), stratum.shape)
        drawn = np.bincount(stratum, weights=own, minlength=len(sizes))
        if len(drawn) > len(sizes) or ((drawn > 0) & ~(sizes > 0)).any():
            raise LulcbenchError("A stratum has points but no area.", "State the areas of all strata.")
        if (missing := np.flatnonzero((sizes > 0) & (drawn == 0))).size:
            raise LulcbenchError(
                f"Strata without points: {missing.tolist()[:8]} (numbered from 0).",
                "Label points in them, or merge them with similar strata.",
            )
        return cls.weighted(reference, mapped, classes, own * (sizes / np.where(drawn > 0, drawn, 1))[stratum], stratum)

    @classmethod
    def weighted(
        cls,
        reference: npt.ArrayLike,
        mapped: npt.ArrayLike,
        classes: int,
        weight: npt.ArrayLike,
        stratum: npt.ArrayLike | None = None,
        cluster: npt.ArrayLike | None = None,
        first_phase: int | None = None,
        domain: npt.ArrayLike | None = None,
    ) -> Survey:
        """A sample with weights; strata, clusters, a first phase and a domain if it has them.

        Args:
            reference: class indices ``(n,)``.
            mapped: class indices ``(n,)``.
            classes: number of classes.
            weight: area that each point stands for, ``(n,)``.
            stratum: index of the stratum, ``(n,)``.
            cluster: index of the cluster, ``(n,)``; each is in one stratum.
            first_phase: number of points of the first phase.
            domain: mask of the points that are in the domain, ``(n,)``.

        Raises:
            LulcbenchError: a weight is not positive, a cluster is in two strata, or a stratum has one point or cluster.
        """
        reference, mapped = np.asarray(reference, np.intp), np.asarray(mapped, np.intp)
        weight = np.asarray(weight, np.float64)
        stratum = np.zeros(len(reference), np.intp) if stratum is None else np.asarray(stratum, np.intp)
        if not (np.isfinite(weight).all() and (weight > 0).all()):
            raise LulcbenchError(
                "A weight is not a positive number.", "Correct the weights, or leave these points out."
            )
        clusters = None if cluster is None else np.unique(np.asarray(cluster), return_inverse=True)[1].astype(np.intp)
        inside = None if domain is None else np.asarray(domain, np.bool_)
        survey = cls(reference, mapped, classes, weight, stratum, clusters, None, first_phase, inside)
        units = survey._units_by_stratum()
        if (single := np.flatnonzero(units == 1)).size or not units.sum():
            noun = "points" if cluster is None else "clusters"
            which = f"stratum {single[0]} (numbered from 0)" if single.size and len(units) > 1 else "the sample"
            raise LulcbenchError(
                f"No variance can be estimated: {which} has fewer than two {noun}.",
                "Label more points, or merge the stratum with a similar one.",
            )
        return survey

    def post_stratified(self, map_areas: npt.ArrayLike) -> Survey:
        """The sample with weights that add up to the areas of the map classes; reduces the variance of areas.

        Args:
            map_areas: area of each class in the map, ``(classes,)``, in any unit.

        Raises:
            LulcbenchError: a class of the map has no points.
        """
        areas = np.asarray(map_areas, np.float64)
        own = self.in_domain(self.weight)
        sampled = np.bincount(self.mapped, weights=own, minlength=self.classes)
        if (missing := np.flatnonzero((areas > 0) & (sampled == 0))).size:
            raise LulcbenchError(
                f"Map classes without points: {missing.tolist()[:8]} (numbered from 0).",
                "Merge them with other classes (a coarser level), or do not post-stratify.",
            )
        factor = divide(areas, sampled)[self.mapped]
        if self.domain is not None:  # weights outside the domain keep the unit of those inside
            factor = np.where(self.domain, factor, areas.sum() / own.sum())
        weight = self.weight * factor
        if not (weight > 0).all():
            raise LulcbenchError("Points have a map class without area.", "Count the same map as the points.")
        return replace(self, weight=weight, map_areas=areas)

    def ratio(
        self,
        numerator: npt.ArrayLike,
        denominator: npt.ArrayLike,
        share: bool = False,
        possible: npt.ArrayLike | None = None,
    ) -> Estimates:
        """Ratio of two weighted sums.

        Args:
            numerator: values of the points, ``(n, k)``.
            denominator: values of the points, ``(n, k)`` or ``(n, 1)``.
            share: whether the ratio is between 0 and 1 by definition: its interval is symmetric on the logit scale.
            possible: of a share, which points could be in the denominator, ``(n, k)``; by default all.

        Returns:
            Estimates ``(k,)``.
        """
        y, x = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
        y, x = self.in_domain(y), self.in_domain(x)
        total = self.weight @ x
        value = divide(self.weight @ y, total)
        residual = self.weight[:, None] * (y - np.nan_to_num(value) * x) * divide(1, total)
        variance, degrees = self.variance(residual)
        se = np.where(np.isnan(value), np.nan, np.sqrt(variance))
        t = np.where(self._units(x) < MINIMUM, np.nan, t_quantiles(degrees))
        if not share:
            return Estimates(value, se, value - t * se, value + t * se)
        could = np.ones(x.shape) if possible is None else np.broadcast_to(np.asarray(possible, np.float64), x.shape)
        weights = self.weight[:, None] * self.in_domain(could)
        half = 0.5 * divide((weights**2).sum(axis=0), weights.sum(axis=0))  # of a typical point
        total = total + 2 * half
        centre = divide(self.weight @ y + half, total)
        variance, _ = self.variance(self.weight[:, None] * (y - np.nan_to_num(centre) * x) * divide(1, total))
        variance = variance + 2 * (half / total) ** 2 * ((1 - centre) ** 2 + centre**2)
        logit, reach = np.log(centre / (1 - centre)), t * np.sqrt(variance) / (centre * (1 - centre))
        low, high = ((1 + np.tanh((logit + step) / 2)) / 2 for step in (-reach, reach))  # inverse logit
        # Where all or none of the points agree, the added halves must not exclude the estimate itself.
        return Estimates(value, se, np.minimum(low, value), np.maximum(high, value))

    def accuracy(self) -> Accuracy:
        """Error matrix, accuracies and areas."""
        k = np.arange(self.classes)
        reference, mapped = self.reference[:, None] == k, self.mapped[:, None] == k
        right = (reference & mapped).astype(np.float64)
        one = np.ones((len(self.weight), 1))
        overall = self.ratio(right.sum(axis=1, keepdims=True), one, share=True)
        return Accuracy(
            matrix=self.matrix(),
            overall=Estimates(*(part[0] for part in (overall.value, overall.se, overall.low, overall.high))),
            user=self.ratio(right, mapped, share=True, possible=mapped),
            producer=self.ratio(right, reference, share=True),
            f1=self.ratio(2 * right, reference.astype(float) + mapped, share=True),
            area=self.ratio(reference, one, share=True),
            points=self.in_domain(reference.astype(np.float64)).sum(axis=0).astype(np.int64),
            effective=self._effective(reference),
        )

    def matrix(self) -> Floats:
        """Estimated shares of the area by map class (rows) and reference class (columns)."""
        n = self.classes
        own = self.in_domain(self.weight)
        cells = np.bincount(self.mapped * n + self.reference, weights=own, minlength=n * n)
        return (cells / own.sum()).reshape(n, n)

    def in_domain(self, values: Floats) -> Floats:
        """Values of the points ``(n,)`` or ``(n, k)``, with zeros outside the domain."""
        if self.domain is None:
            return values
        inside: Floats = np.where(self.domain if values.ndim == 1 else self.domain[:, None], values, 0.0)
        return inside

    def _units(self, x: Floats) -> npt.NDArray[np.int64]:
        """Number of points, or of clusters, with a value: ``(k,)``."""
        used = x != 0
        if self.cluster is not None:
            used = np.stack([np.bincount(self.cluster, weights=column) > 0 for column in used.T], axis=1)
        number: npt.NDArray[np.int64] = used.sum(axis=0)
        return number

    def _effective(self, reference: npt.NDArray[np.bool_]) -> Floats:
        own = self.in_domain(reference * self.weight[:, None])
        if self.cluster is not None:
            own = np.stack([np.bincount(self.cluster, weights=column) for column in own.T], axis=1)
        return np.nan_to_num(divide(own.sum(axis=0) ** 2, (own**2).sum(axis=0)))

    def variance(self, z: Floats) -> tuple[Floats, Floats]:
        """Variance of the sum over points of linearised values ``(n, k)``, and its degrees of freedom: ``(k,)`` each.

        The degrees are 2 V² / var(V) (Satterthwaite 1946, Biometrics Bulletin 2, 110–114) with the variance of V from
        the fourth moments of the values, so that few points with most of the variance, such as omission errors in a
        large stratum, widen the interval. They are at most the number of units (points or clusters) in the domain less
        that of their strata, as of a sample of the domain alone in which strata with a single unit are merged.
        """
        if self.map_areas is not None:
            members = self.in_domain((self.mapped[:, None] == np.arange(self.classes)).astype(np.float64))
            mean = divide(members.T @ z, (members.T @ self.weight)[:, None])
            z = z - self.in_domain(self.weight[:, None] * mean[self.mapped])
        if self.cluster is not None:
            order = np.argsort(self.cluster, kind="stable")
            first = np.flatnonzero(np.diff(self.cluster[order], prepend=-1))
            z = np.add.reduceat(z[order], first, axis=0)
        stratum = self._unit_strata()
        strata = (stratum[:, None] == np.arange(stratum.max() + 1)).astype(np.float64)
        strata = strata[:, strata.any(axis=0)]
        units = strata.sum(axis=0)[:, None]
        sums = strata.T @ z
        factor = units / (units - 1)
        squares = (z - strata @ (sums / units)) ** 2
        by_stratum = strata.T @ squares
        variance = (factor * by_stratum).sum(axis=0)
        fourth = strata.T @ squares**2
        # Squares that are all equal (half of the points right) have no spread; rounding must not make it negative.
        spread = (factor**2 * (fourth - by_stratum**2 / units)).sum(axis=0)
        spread = np.where(spread > 1e-9 * (factor**2 * fourth).sum(axis=0), spread, 0)
        if self.first_phase is not None:
            share = strata.T @ (self.weight if self.cluster is None else np.bincount(self.cluster, self.weight))
            share = share / self.weight.sum()
            between = (sums**2 / share[:, None]).sum(axis=0) / self.first_phase
            variance = variance + between
        inside = self.in_domain(np.ones(len(self.weight)))
        if self.cluster is not None:
            inside = (np.bincount(self.cluster, weights=inside) > 0).astype(np.float64)
        own = strata.T @ inside
        limit = float(own.sum() - (own > 1).sum() - (own == 1).sum() // 2)
        degrees = np.minimum(divide(2 * variance**2, spread), limit)
        return variance, np.where(np.isnan(degrees), limit, np.maximum(degrees, 1.0))

    def _units_by_stratum(self) -> npt.NDArray[np.int64]:
        return np.bincount(self._unit_strata()).astype(np.int64)

    def _unit_strata(self) -> Indices:
        """Stratum of each point, or of each cluster."""
        if self.cluster is None:
            return self.stratum
        first = np.unique(self.cluster, return_index=True)[1]
        strata: Indices = self.stratum[first]
        if (strata[self.cluster] != self.stratum).any():
            raise LulcbenchError("A cluster has points in several strata.", "Clusters are drawn within one stratum.")
        return strata
