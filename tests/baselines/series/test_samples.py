"""Steps 1 and 2 on samples whose noise is known."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.series.pseudo import PseudoLabels, check_classes, draw, grow, label_years
from baselines.series.samples import ALIKE, DOMINANT, FEW, KEPT, OTHER, SampleRule, clean, inject_noise
from lulcbench.errors import LulcbenchError

METHODS = {
    "kmeans": (0.04, 0.6),
    "polygon-kmeans": (0.04, 0.3),
    "som": (0.04, 0.5),
    "confident": (0.04, 0.7),
}  # noise left, least share kept


def samples(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Three classes of ten polygons each, in five blocks: features, labels, polygons, blocks."""
    rng = np.random.default_rng(seed)
    polygons = np.repeat(np.arange(30), 40)
    labels = polygons // 10
    centres = np.array([[0, 0, 0, 0], [3, 0, 3, 0], [0, 3, 0, 3]])
    features = centres[labels] + rng.normal(0, 0.4, (30, 4))[polygons] + rng.normal(0, 0.4, (len(labels), 4))
    return features, labels, polygons, np.array([f"b{polygon % 5}" for polygon in polygons])


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.2])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_removes_most_of_the_noise_and_keeps_most_samples(method: str, share: float) -> None:
    features, labels, polygons, blocks = samples()
    noisy, moved, wrong = inject_noise(labels, polygons, share, seed=1)
    assert wrong.mean() == pytest.approx(share)
    assert ((moved // 10) == noisy).all()
    rule = SampleRule(method=method, trees=20, side=6)
    found = clean(features, noisy, moved, blocks, rule)
    left, least = METHODS[method]
    assert wrong[found.kept].mean() <= left
    assert found.kept.mean() >= least
    assert (np.isin(found.reasons, list(KEPT)) == found.kept).all()
    assert sum(found.counts().values()) == len(labels)
    again = clean(features, noisy, moved, blocks, rule)
    assert (again.reasons == found.reasons).all()


def test_polygons_keep_their_dominant_clusters() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 20, (12, 3))
    polygons = np.repeat(np.arange(12), 40)
    features = centres[polygons] + rng.normal(0, 0.3, (480, 3))
    features[:6] = centres[[4, 5, 6, 7, 8, 9]] + rng.normal(0, 0.3, (6, 3))  # of other classes
    features[470:], polygons[470:] = centres[11], 99  # a small polygon
    found = clean(features, polygons // 3 % 4, polygons, np.full(480, "b"), SampleRule(clusters=20, fewest=11))
    assert set(found.reasons[:6]) == {OTHER}
    assert (found.reasons[6:40] == DOMINANT).mean() > 0.9
    assert set(found.reasons[470:]) == {FEW}
    same = clean(np.full((12, 3), 2.5), np.zeros(12, int), np.zeros(12, int), np.full(12, "b"), SampleRule())
    assert set(same.reasons) == {ALIKE}  # all clusters are equal
    assert same.kept.all()


def test_bad_samples_are_refused() -> None:
    features, labels, polygons, blocks = samples()
    with pytest.raises(LulcbenchError, match="no sample"):
        clean(features[:0], labels[:0], polygons[:0], blocks[:0], SampleRule())
    broken = features.copy()
    broken[5, 1] = np.nan
    with pytest.raises(LulcbenchError, match="missing values"):
        clean(broken, labels, polygons, blocks, SampleRule())
    with pytest.raises(LulcbenchError, match="Polygon 0 has several labels"):
        clean(features, labels, np.zeros_like(polygons), blocks, SampleRule())
    with pytest.raises(LulcbenchError, match="All samples are of one class"):
        inject_noise(np.zeros(100, np.int64), np.repeat([0, 1], 50), 0.1, 0)
    with pytest.raises(LulcbenchError, match="one spatial block"):
        clean(features, labels, polygons, np.full(len(labels), "b"), SampleRule(method="confident"))


def test_pixels_on_which_all_years_agree_are_drawn_from_all_classes_and_blocks() -> None:
    features, labels, _, blocks = samples()
    years = np.stack([features, features, features + (np.arange(len(features)) % 7 == 0)[:, None] * 3], axis=1)
    pseudo = label_years(grow(features, labels, trees=20, seed=0), years)
    assert pseudo.labels.shape == (1200, 3)
    chosen = draw(pseudo, blocks, 300, changing=False, seed=0)
    assert len(set(chosen.tolist())) == 300
    assert pseudo.agree[chosen].all()
    drawn = pseudo.labels[chosen, 0]
    assert np.bincount(drawn).tolist() == [100, 100, 100]
    assert {(a, b) for a, b in zip(drawn.tolist(), blocks[chosen], strict=True)} == {
        (c, f"b{b}") for c in range(3) for b in range(5)
    }
    with_changes = draw(pseudo, blocks, 5000, changing=True, seed=0)
    assert not pseudo.agree[with_changes].all()


def test_changing_pixels_enter_with_the_probability_of_their_change() -> None:
    n = 20_000
    labels = np.tile([0, 1], (n, 1))
    confidence = np.tile([0.8, 0.5], (n, 1))
    chosen = draw(PseudoLabels(labels, confidence), np.full(n, "b"), n, changing=True, seed=3)
    assert len(chosen) / n == pytest.approx(0.4, abs=0.01)


def test_change_in_every_pixel_and_classes_without_samples_are_errors() -> None:
    labels, confidence = np.array([[0, 1], [1, 0]]), np.ones((2, 2))
    with pytest.raises(LulcbenchError, match="of all cells change between years"):
        draw(PseudoLabels(labels, confidence), np.array(["a", "b"]), 2, changing=False, seed=0)
    with pytest.raises(LulcbenchError, match="No sample of forest is reliable"):
        check_classes(np.array([0, 1]), np.array([0]), ("arable", "forest"), omit=False)
    check_classes(np.array([0, 1]), np.array([0]), ("arable", "forest"), omit=True)
