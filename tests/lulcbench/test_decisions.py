"""Classes from probabilities: the compiled loop and that of NumPy decide alike, and as the definition says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lulcbench._native import compiled
from lulcbench.legend import LEVELS, decide, decisions, legend

Floats = npt.NDArray[Any]


@pytest.fixture(params=["compiled", "numpy"])
def _loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(decisions, "compiled", None)
    elif compiled is None:
        pytest.skip("there was no C compiler at installation")


def by_definition(p: Floats, level: int) -> list[int]:
    """Pixel by pixel, from class codes: the most probable child of the class above, the lowest code of equal ones."""
    codes = legend().codes(level)
    chosen = []
    for pixel in p.reshape(len(p), -1).T:
        above = ""
        for n in LEVELS[:level]:
            sums = dict.fromkeys((str(c) for c in legend().codes(n)), np.float32(0))
            for code, value in zip(codes, pixel, strict=True):
                sums[str(legend().codes(n)[legend().parents(level, n)[codes.index(code)]])] += value
            below = [c for c in sums if n == 1 or _parent(c, n) == above]
            above = max(below, key=lambda c: (sums[c], -int(c)))
        chosen.append(codes.index(int(above)))
    return chosen


def _parent(code: str, level: int) -> str:
    at = list(map(str, legend().codes(level))).index(code)
    return str(legend().codes(level - 1)[legend().parents(level, level - 1)[at]])


@pytest.mark.usefixtures("_loop")
@pytest.mark.parametrize("level", LEVELS)
def test_classes_are_those_of_the_definition(level: int) -> None:
    rng = np.random.default_rng(level)
    n = len(legend().codes(level))
    p = rng.dirichlet(np.full(n, 0.3), 300).T.astype(np.float32)
    p[:, :100] = rng.integers(0, 3, (n, 100))  # many are equal
    assert decide(p, level).tolist() == by_definition(p, level)
    assert decide(p.reshape(n, 20, 15), level).tolist() == decide(p, level).reshape(20, 15).tolist()


@pytest.mark.usefixtures("_loop")
def test_memory_layout_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(46, 0.3), 400).T.astype(np.float32)
    expected = decide(p, 4)
    wide = np.zeros((92, 450), np.float32)
    wide[::2, 25:425] = p
    shifted = np.frombuffer(b"\0" + p.tobytes(), np.uint8)[1:].view(np.float32).reshape(p.shape)  # not aligned
    for same in (wide[::2, 25:425], np.asfortranarray(p), p[:, ::-1][:, ::-1], shifted, p.astype(">f4")):
        assert (decide(same, 4) == expected).all()
    assert (decide(p[:, ::-1], 4) == expected[::-1]).all()
    assert (decide(p[:, :1], 4) == expected[:1]).all()
    assert decide(p[:, :0], 4).shape == (0,)


@pytest.mark.skipif(compiled is None, reason="there was no C compiler at installation")
def test_both_loops_decide_alike_without_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    p = rng.random((46, 3000), np.float32)
    p[rng.random(p.shape) < 0.02] = np.nan
    p[rng.random(p.shape) < 0.02] = np.inf
    p[rng.random(p.shape) < 0.02] = -0.0
    fast = [decide(p[: len(legend().codes(level))], level) for level in LEVELS]
    monkeypatch.setattr(decisions, "compiled", None)
    for level, classes in zip(LEVELS, fast, strict=True):
        assert (decide(p[: len(legend().codes(level))], level) == classes).all()
