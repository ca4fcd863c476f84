"""Seeds of random numbers in training, so that all draws are reproducible."""

from __future__ import annotations


def mix(*numbers: int) -> int:
    """One seed from several numbers, such as (seed, epoch); the order of the numbers matters.

    A step of a linear congruential generator per number, with Knuth's constants (MMIX).

    Example:
        >>> mix(0, 1) == mix(1, 0)
        False
    """
    state = 0
    for number in numbers:
        state = (state * 6364136223846793005 + number + 1442695040888963407) % 2**63
    return state
