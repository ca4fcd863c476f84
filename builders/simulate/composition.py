"""Material composition of each LUISA class, as lookup tables: objects (buildings, crowns, streets) on a ground.

The mean compositions are in ``classes.toml``; the patches of a class vary about its mean.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from builders.simulate import materials
from builders.simulate.noise import generator, portable
from lulcbench._parsing import parse_toml
from lulcbench.legend import legend

VARIANTS = 64  # number of mixtures drawn for each class; every patch uses one of them
NO_OBJECT = 255


class _Edge(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    width: float = 0.0
    material: str = "meadow"


class Composition(BaseModel):
    """Composition of a class; the fields are explained in ``classes.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    objects: dict[str, float] = {}
    ground: dict[str, float]
    field: tuple[float, float] | None = None
    edge: _Edge = _Edge()
    inclusions: float = 1.0


@functools.cache
def compositions() -> dict[int, Composition]:
    """The composition of every level-4 class, by code."""
    text = Path(__file__).with_name("classes.toml").read_text(encoding="utf-8")
    return {int(code): Composition.model_validate(entry) for code, entry in parse_toml(text).items()}


# Classes of inclusions smaller than the minimum mapping unit, by level-1 class of the surroundings.
_HIDDEN = {
    1: (1410, 1421, 1122, 1123, 1210, 2310, 1330),
    2: (1123, 2310, 2110, 3110, 3130, 2420, 3240, 5120, 2430),
    3: (3110, 3120, 3130, 3240, 3210, 2310, 3220, 2430, 3330),
    4: (2310, 3240, 5120, 3110),
    5: (4000, 3310),
}


class Tables(NamedTuple):
    """Lookup tables over (class index at level 4, variant, byte).

    Attributes:
        objects: uint8 (46, VARIANTS, 256): material by rank of the pattern; NO_OBJECT where the ground is visible.
        ground: uint8 (46, VARIANTS, 256): material by random byte of the parcel or rank of the blotch pattern.
        hidden: uint8 (46, 16): class index of an inclusion by random nibble.
        hidden_share: uint8 (46,): a cell belongs to an inclusion if the rank of the inclusion pattern is below this.
        field: float32 (46, 2): parcel length and width, metres.
        natural: bool (46,): whether the ground consists of blotches instead of parcels.
        edge_width: float32 (46,): width of the strip between parcels, metres.
        edge: uint8 (46,): material of the strip between parcels.
    """

    objects: npt.NDArray[np.uint8]
    ground: npt.NDArray[np.uint8]
    hidden: npt.NDArray[np.uint8]
    hidden_share: npt.NDArray[np.uint8]
    field: npt.NDArray[np.float32]
    natural: npt.NDArray[np.bool_]
    edge_width: npt.NDArray[np.float32]
    edge: npt.NDArray[np.uint8]


@functools.cache
def tables(seed: int, variation: float, inclusions: float) -> Tables:
    """Draw the mixtures of every class.

    Args:
        seed: seed of the country.
        variation: standard deviation of the logarithm of the shares of a class about their means; 0 gives the means.
        inclusions: fraction of the ground that differs from its label, for a class with ``inclusions = 1``.
    """
    order = legend().codes(4)
    recipes = [compositions()[code] for code in order]
    rng = generator(seed, "mixtures")
    objects = np.full((len(order), VARIANTS, 256), NO_OBJECT, np.uint8)
    ground = np.zeros((len(order), VARIANTS, 256), np.uint8)
    hidden = np.zeros((len(order), 16), np.uint8)
    for index, (code, recipe) in enumerate(zip(order, recipes, strict=True)):
        choices = [order.index(other) for other in _HIDDEN[code // 1000] if other != code]
        hidden[index] = np.resize(choices, 16)
        for variant in range(VARIANTS):
            objects[index, variant] = _fill(recipe.objects, rng, variation, partial=True)
            ground[index, variant] = _fill(recipe.ground, rng, 2 * variation, partial=False)
    share = np.array([min(recipe.inclusions * inclusions, 0.95) * 256 for recipe in recipes])
    return Tables(
        objects,
        ground,
        hidden,
        share.astype(np.uint8),
        np.array([recipe.field or (1e9, 1e9) for recipe in recipes], np.float32),
        np.array([recipe.field is None for recipe in recipes]),
        np.array([recipe.edge.width for recipe in recipes], np.float32),
        np.array([materials.INDEX[recipe.edge.material] for recipe in recipes], np.uint8),
    )


def _fill(shares: dict[str, float], rng: np.random.Generator, variation: float, partial: bool) -> npt.NDArray[np.uint8]:
    """Fill 256 slots in the order of ``shares``, each share scaled by a log-normal factor."""
    out = np.full(256, NO_OBJECT, np.uint8)
    if not shares:
        return out
    drawn = np.array(list(shares.values())) * portable(np.exp, rng.normal(0, variation, len(shares)))
    if partial:
        drawn *= min(1.0, 0.95 / drawn.sum())
    else:
        drawn /= drawn.sum()
    ends = np.rint(np.cumsum(drawn) * 256).astype(int)
    start = 0
    for name, end in zip(shares, ends, strict=True):
        out[start:end] = materials.INDEX[name]
        start = end
    if not partial:
        out[start:] = materials.INDEX[next(iter(shares))]
    return out
