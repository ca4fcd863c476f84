"""The hidden Markov model against all sequences, one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from baselines.series.smoothing import (
    CANDIDATES,
    Smoothing,
    choose_stay,
    count_pairs,
    estimate_stay,
    forward_backward,
    transitions,
    viterbi,
)
from lulcbench.errors import LulcbenchError
from lulcbench.legend import ClassScheme, legend


def by_enumeration(p: np.ndarray, matrix: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Posterior of each year, and the best sequence, from the joint probability of every sequence."""
    years, classes = p.shape
    posterior = np.zeros((years, classes))
    joint = {}
    for path in itertools.product(range(classes), repeat=years):
        value = prior[path[0]]
        for year, state in enumerate(path):
            value *= p[year, state] / prior[state]
            value *= matrix[path[year - 1], state] if year else 1
        joint[path] = value
        for year, state in enumerate(path):
            posterior[year, state] += value
    return posterior / posterior.sum(axis=1, keepdims=True), max(joint, key=lambda path: joint[path])


def test_posteriors_and_best_sequences_are_those_of_all_sequences() -> None:
    rng = np.random.default_rng(0)
    prior = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    matrix = transitions(ClassScheme.luisa(1), [0.85], prior)
    p = rng.dirichlet(np.ones(5), (4, 12)).transpose(0, 2, 1)  # year, class, pixel
    smooth, best = forward_backward(p, matrix, prior), viterbi(p, matrix, prior)
    np.testing.assert_allclose(smooth.sum(axis=1), 1)
    for pixel in range(12):
        posterior, path = by_enumeration(p[:, :, pixel], matrix, prior)
        np.testing.assert_allclose(smooth[:, :, pixel], posterior, rtol=1e-8)
        assert tuple(best[:, pixel]) == path
    maps = forward_backward(p.reshape(4, 5, 3, 4), matrix, prior)
    np.testing.assert_array_equal(maps.reshape(4, 5, 12), smooth)


@pytest.mark.parametrize("stay", [0.8, 0.98, 0.999])
def test_a_class_that_training_did_not_have_is_never_mapped(stay: float) -> None:
    rng = np.random.default_rng(0)
    prior = np.array([0.5, 0.3, 0.0, 0.2, 0.0])
    matrix = transitions(ClassScheme.luisa(1), [stay], prior)
    p = rng.dirichlet((5, 3, 0.01, 2, 0.01), (4, 500)).transpose(0, 2, 1)
    p[:, :, 0] = [0, 0, 1, 0, 0]  # evidence for it alone is none
    smooth, best = forward_backward(p, matrix, prior), viterbi(p, matrix, prior)
    assert (smooth[:, prior == 0] == 0).all()
    assert not np.isin(best, np.flatnonzero(prior == 0)).any()
    np.testing.assert_allclose(smooth.sum(axis=1), 1)
    np.testing.assert_allclose(smooth[:, :, 0], np.broadcast_to(prior, (4, 5)), atol=0.2)
    # As if there were no such classes.
    known = prior > 0
    part = forward_backward(p[:, known, 1:], matrix[np.ix_(known, known)], prior[known])
    np.testing.assert_allclose(smooth[:, known, 1:], part, atol=1e-9)


@pytest.mark.parametrize("years", [3, 60])
def test_years_that_contradict_labels_without_change_have_probabilities(years: int) -> None:
    scheme = ClassScheme.luisa(2)
    labels = np.repeat([0, 8], 50)
    stay = estimate_stay(labels, labels, scheme, 6)
    assert stay == [1.0, 1.0]  # no pixel changes
    matrix = transitions(scheme, stay, np.full(14, 1 / 14), count_pairs(labels, labels, 14))
    p = np.zeros((years, 14, 2))  # as a forest gives them: 0 for all classes that no tree knows
    p[:, 8] = 1
    p[1, :, 0], p[years // 2 :, :, 1] = np.eye(14)[9], np.eye(14)[4]
    smooth = forward_backward(p, matrix, np.full(14, 1 / 14))
    np.testing.assert_allclose(smooth.sum(axis=1), 1)
    assert (smooth[:, :, 0].argmax(axis=1) == 8).all()
    if years == 60:  # too many contradictions for a slip: it changes once
        assert smooth[:, :, 1].argmax(axis=1).tolist() == [8] * 30 + [4] * 30
    np.testing.assert_array_equal(smooth.argmax(axis=1)[:, 0], viterbi(p, matrix, np.full(14, 1 / 14))[:, 0])


def test_maps_in_another_order_than_time_are_not_smoothed() -> None:
    for gap in (0, -1):
        with pytest.raises(LulcbenchError, match=f"The maps are {gap} years apart"):
            Smoothing("viterbi", ClassScheme.luisa(1), np.full(5, 0.2), gap, (0.9,)).probabilities(
                np.full((2, 5, 1), 0.2)
            )


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_transitions_stay_with_the_given_probability_at_every_level(level: int) -> None:
    stay = [0.99, 0.97, 0.95, 0.9][:level]
    n = len(legend().codes(level))
    prior = np.random.default_rng(1).dirichlet(np.ones(n))
    matrix = transitions(ClassScheme.luisa(level), stay, prior)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    top = np.asarray(legend().parents(level, 1))
    same = np.where(top[:, None] == top[None, :], matrix, 0).sum(axis=1)
    np.testing.assert_allclose(same, 0.99)


def test_smoothing_removes_flicker_and_keeps_change() -> None:
    prior = np.full(5, 0.2)
    matrix = transitions(ClassScheme.luisa(1), [0.95], prior)
    states = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 2, 2], [0, 0, 1, 0, 0]]).T  # the last one flickers
    p = np.full((5, 5, 3), 0.05)
    for year in range(5):
        p[year, states[year], np.arange(3)] = 0.8
    p[2, :, 2] = [0.3, 0.55, 0.05, 0.05, 0.05]  # uncertain
    expected = states.copy()
    expected[2, 2] = 0
    assert (viterbi(p, matrix, prior) == expected).all()
    assert (forward_backward(p, matrix, prior).argmax(axis=1) == expected).all()


def test_probabilities_to_stay_are_estimated_from_two_maps() -> None:
    rng = np.random.default_rng(2)
    n = len(legend().codes(2))
    prior = np.full(n, 1 / n)
    yearly = transitions(ClassScheme.luisa(2), [0.98, 0.99], prior)
    before = rng.integers(0, n, 200_000)
    after = before.copy()
    for _ in range(3):
        after = (rng.random(len(after))[:, None] > yearly.cumsum(axis=1)[after]).sum(axis=1).clip(0, n - 1)
    top, fine = estimate_stay(before, after, ClassScheme.luisa(2), years=3)
    assert top == pytest.approx(0.98, abs=0.003)
    assert fine == pytest.approx(0.99, abs=0.006)
    with pytest.raises(LulcbenchError, match="no pixel in common"):
        estimate_stay(np.array([-1, 0]), np.array([0, -1]), ClassScheme.luisa(1), 6)
    with pytest.raises(LulcbenchError, match="Probabilities to stay"):
        transitions(ClassScheme.luisa(1), [1.5], np.full(5, 0.2))
    with pytest.raises(LulcbenchError, match="1 probabilities to stay and 5 classes"):
        transitions(ClassScheme.luisa(2), [0.9], np.full(5, 0.2))


def test_the_probability_to_stay_is_chosen_for_the_best_change() -> None:
    """A classifier right in .8 of the years, on pixels of which a tenth changes once."""
    rng = np.random.default_rng(0)
    labels = np.tile(rng.integers(0, 5, 4000), (5, 1))
    moved = rng.random(4000) < 0.1
    labels[2:, moved] = (labels[2:, moved] + 1) % 5
    right = rng.random(labels.shape) < 0.8
    guess = np.where(right, labels, rng.integers(0, 5, labels.shape))
    p = np.where(np.arange(5)[None, :, None] == guess[:, None], 0.84, 0.04)
    smoothing = Smoothing("viterbi", ClassScheme.luisa(1), np.full(5, 0.2), 1, ())
    years = range(2016, 2021)
    truth, lower = labels[1:] != labels[:-1], {}
    for stay in CANDIDATES:
        maps = smoothing.with_stay([stay]).classes(p)
        found = maps[1:] != maps[:-1]
        near = [np.array([part[max(0, i - 1) : i + 2].any(axis=0) for i in range(4)]) for part in (truth, found)]
        lower[stay] = min((found & near[0]).sum() / max(1, found.sum()), (truth & near[1]).sum() / truth.sum())
    best = max(lower, key=lower.__getitem__)
    assert CANDIDATES[0] < best < CANDIDATES[-1]
    assert choose_stay(lambda stay: [smoothing.with_stay(stay).classes(p)], [labels], years, ClassScheme.luisa(1)) == [
        best
    ]
    same = np.zeros_like(labels)
    with pytest.raises(LulcbenchError, match="The labels of 2016 to 2020 show no change"):
        choose_stay(lambda stay: [same], [same], years, ClassScheme.luisa(1))


def test_smoothing_is_chosen_by_the_change_of_all_levels() -> None:
    """Of 330 changes, 30 are of level 1, and look like 60 that are none."""
    at = {code: i for i, code in enumerate(legend().codes(2))}
    arable, pastures, forest = at[21], at[23], at[31]
    labels = np.full((2, 6000), arable)
    labels[1, :300], labels[1, 300:330] = pastures, forest
    guess = labels.copy()
    guess[1, 330:390] = forest
    p = np.full((2, len(at), 6000), 1e-4)
    np.put_along_axis(p, np.full((2, 1, 6000), arable), 0.001, axis=1)
    np.put_along_axis(p, guess[:, None], 0.95, axis=1)
    smoothing = Smoothing("viterbi", ClassScheme.luisa(2), np.full(len(at), 1 / len(at)), 1, ())
    found = {}
    for levels in (1, 2):
        by_level = [labels] if levels == 2 else [np.where(labels == forest, arable, labels)]
        stay = choose_stay(
            lambda stay: [smoothing.with_stay(stay).classes(p)], by_level, (2018, 2019), smoothing.scheme
        )
        maps = smoothing.with_stay(stay).classes(p)
        found[levels] = [int((maps[0] != maps[1])[part].sum()) for part in (slice(300), slice(300, 390))]
    assert found == {1: [300, 0], 2: [300, 90]}  # without the change of level 1, what looks like it is smoothed


def test_classes_change_as_often_as_in_the_labels() -> None:
    """Fields became houses; nothing else is known to have changed."""
    at = {code: i for i, code in enumerate(legend().codes(1))}
    houses, fields, forest = at[1], at[2], at[3]
    changes = np.diag([5000, 8000, 8000, 20, 0])
    changes[fields, houses] = 200
    prior = np.full(5, 0.2)
    even, known = (
        transitions(ClassScheme.luisa(1), [0.99], prior),
        transitions(ClassScheme.luisa(1), [0.99], prior, changes),
    )
    np.testing.assert_allclose(known.sum(axis=1), 1)
    rate = 200 / changes.sum()
    # (changes + 10 · even) / (expected + 10), times 1 - stay, by hand
    assert known[fields, houses] == pytest.approx(0.01 * (200 + 2.5) / (rate * 8200 + 10))
    assert known[houses, fields] == pytest.approx(0.01 * 2.5 / (rate * 5000 + 10))
    assert known[forest, fields] < 0.2 * even[forest, fields]
    assert known[3, forest] == pytest.approx(even[3, forest], rel=0.03)  # too few pixels to know
    nothing = transitions(ClassScheme.luisa(1), [0.99], prior, np.zeros((5, 5), np.int64))
    np.testing.assert_allclose(nothing, even)
    extreme = transitions(ClassScheme.luisa(1), [0.6], prior, changes)
    assert (extreme > 0).all()
    np.testing.assert_allclose(extreme.sum(axis=1), 1)


def test_pairs_are_counted_where_both_maps_are_known() -> None:
    before, after = np.array([[0, 1, -1, 1]]), np.array([[0, 0, 1, -1]])
    counts = count_pairs(before, after, 5)
    assert counts.sum() == 2
    assert (counts[0, 0], counts[1, 0]) == (1, 1)
