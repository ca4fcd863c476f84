"""Areas from a sample with more knowledge than its points: mapped areas, or predictions in every pixel of the map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lulcbench.evaluation.areas import Estimates, Survey
from lulcbench.evaluation.confusion import Floats, divide
from lulcbench.evaluation.intervals import t_quantiles


def ratio_areas(survey: Survey, map_areas: npt.ArrayLike) -> Estimates:
    """Ratio estimates of areas: the area of a class in the map × (true share / mapped share) in the sample.

    Cochran 1977, ch. 6. It is precise for classes whose map area is proportional to their true area.

    Args:
        survey: the sample.
        map_areas: area of each class in the map, ``(k,)``.

    Returns:
        Areas ``(k,)`` in the unit of ``map_areas``; NaN for classes without map points.
    """
    k = np.arange(survey.classes)
    areas = np.asarray(map_areas, np.float64)
    ratio = survey.ratio(survey.reference[:, None] == k, survey.mapped[:, None] == k)
    low = np.maximum(ratio.low, 0)
    return Estimates(ratio.value * areas, ratio.se * areas, low * areas, ratio.high * areas)


@dataclass(frozen=True)
class PredictionPowered:
    """Areas by prediction-powered inference.

    Attributes:
        area: share of the area of each class, ``(k,)``.
        tuning: λ of each class, ``(k,)``: 0 ignores the predictions, 1 trusts them fully.
        gain: variance without predictions divided by that with them, ``(k,)``: the factor by which the predictions
            multiply the number of points.
    """

    area: Estimates
    tuning: Floats
    gain: Floats


def prediction_powered(survey: Survey, predicted: npt.ArrayLike, mean: npt.ArrayLike) -> PredictionPowered:
    """Areas from points and the class probabilities of a model that are known in every pixel (PPI++).

    The mean of the predictions over the map, corrected by their error at the points: λ·mean + Σ w (y − λ·p), with the λ
    of least variance (Angelopoulos, Duchi & Zrnic 2023, PPI++: Efficient prediction-powered inference,
    arXiv:2311.01453, eq. 6, for a map that is predicted completely; the difference estimator of Särndal et al. 1992,
    ch. 6). It is unbiased for any model.

    Args:
        survey: the sample, not post-stratified.
        predicted: probabilities of the classes at the points, ``(n, k)``; any finite numbers outside the domain.
        mean: their mean over all pixels of the map (weighted by the area of pixels), ``(k,)``.
    """
    p = np.asarray(predicted, np.float64)
    y = (survey.reference[:, None] == np.arange(survey.classes)).astype(np.float64)
    own = survey.in_domain(survey.weight)
    share = own / own.sum()
    centred_y, centred_p = y - share @ y, p - share @ p
    scale = share[:, None]
    plain, both, alone = (survey.variance(scale * z)[0] for z in (centred_y, centred_y + centred_p, centred_p))
    tuning = np.clip(np.nan_to_num(divide(both - plain - alone, 2 * alone)), 0, 1)
    value = share @ y + tuning * (np.asarray(mean, np.float64) - share @ p)
    variance, degrees = survey.variance(scale * (centred_y - tuning * centred_p))
    se = np.sqrt(variance)
    reach = t_quantiles(degrees) * se
    area = Estimates(value, se, np.maximum(value - reach, 0), np.minimum(value + reach, 1))
    return PredictionPowered(area, tuning, divide(plain, variance))
