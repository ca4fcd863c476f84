"""What each LUISA class is made of: objects (buildings, crowns, streets) on a ground of fields or natural cover.

A class is a mixture and an arrangement, never a colour: the densities of urban fabric share their materials, pasture and
sports ground share their grass, and river, lake and sea share their water.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from builders.simulate import materials
from builders.simulate.noise import generator
from lulcbench.legend import legend

VARIANTS = 64  # mixtures drawn for each class; every patch takes one
NO_OBJECT = 255


class Recipe(NamedTuple):
    """How a class is made.

    Attributes:
        pattern: arrangement of the objects (a name in ``patterns.NAMES``).
        objects: material → fraction of the area under it, laid by rank of the pattern; the rest shows the ground.
        ground: material → share of the ground.
        field: (length, width) of ground parcels in metres, or None for natural blotches.
        edge: width of the strip between parcels, metres, and its material.
        inclusions: how readily patches of other classes below the mapping unit occur, relative.
    """

    pattern: str
    objects: dict[str, float]
    ground: dict[str, float]
    field: tuple[float, float] | None = None
    edge: tuple[float, str] = (0.0, "meadow")
    inclusions: float = 1.0


_GARDEN = {"lawn": 5, "shrub": 2, "gravel": 1.5, "oak": 2, "spruce": 1}
_CROPS = {"wheat": 3, "wheat_late": 2, "barley": 2, "rapeseed": 1.5, "maize": 2.5, "beet": 1.5, "spring_barley": 1,
          "clover": 1, "fallow": 0.8, "hay": 0.6, "soil_bright": 0.2}  # fmt: skip
_SUMMER_CROPS = {"maize": 3, "vegetables": 3, "beet": 2, "clover": 2, "wheat": 1.5, "barley": 1, "fallow": 0.6}
_GRASS = {"meadow": 5, "hay": 3, "lawn": 1.5, "clover": 0.8, "fallow": 0.8}
_WATER = {"water_clear": 6, "water_silt": 2.5, "water_algae": 1.5}


def _urban(street: float, roofs: float, ground: dict[str, float]) -> Recipe:
    objects = {"asphalt": street, "roof_tile": 0.5 * roofs, "roof_dark": 0.35 * roofs, "roof_bright": 0.15 * roofs}
    return Recipe("town", objects, ground, (30, 18), inclusions=0.6)


RECIPES: dict[int, Recipe] = {
    1111: _urban(0.16, 0.42, {"asphalt": 3, "concrete": 3, "lawn": 1, "oak": 1, "gravel": 1}),
    1121: _urban(0.14, 0.30, {**_GARDEN, "concrete": 3, "asphalt": 2}),
    1122: _urban(0.11, 0.21, {**_GARDEN, "concrete": 1.2, "asphalt": 0.6}),
    1123: _urban(0.07, 0.12, {**_GARDEN, "meadow": 4, "hay": 2}),
    1130: Recipe("crowns", {"oak": 0.25, "beech": 0.1}, {**_GARDEN, "meadow": 3}, (40, 25), inclusions=0.8),
    1210: Recipe("halls", {"roof_bright": 0.2, "roof_dark": 0.12, "concrete": 0.08},
                 {"asphalt": 3, "concrete": 3, "gravel": 1.5, "lawn": 2.5, "shrub": 0.8}, (90, 60), inclusions=0.6),
    1221: Recipe("road", {"asphalt": 0.26, "ballast": 0.16, "concrete": 0.05}, {"meadow": 3, "shrub": 2, "lawn": 2, "oak": 1},
                 (120, 40), inclusions=0.0),
    1222: Recipe("rows", {"ballast": 0.5, "roof_dark": 0.08}, {"ballast": 2, "asphalt": 3, "concrete": 2, "lawn": 1}, (100, 30)),
    1230: Recipe("halls", {"roof_bright": 0.13, "roof_dark": 0.1}, {"concrete": 4, "asphalt": 3, "gravel": 2, "water_silt": 1.5},
                 (140, 70)),
    1241: Recipe("runways", {"concrete": 0.1, "asphalt": 0.08}, {"meadow": 5, "hay": 3, "lawn": 2}, (500, 200), inclusions=0.3),
    1242: Recipe("halls", {"roof_bright": 0.2, "roof_dark": 0.1}, {"concrete": 5, "asphalt": 4, "lawn": 1}, (150, 80)),
    1310: Recipe("blotch", {"limestone": 0.2, "gravel": 0.25}, {"soil_bright": 3, "soil_dark": 2, "sand": 1.5, "water_clear": 1,
                 "shrub": 1.5, "fallow": 1}),
    1320: Recipe("blotch", {"gravel": 0.2, "soil_dark": 0.25}, {"soil_bright": 2, "soil_dark": 2, "fallow": 3, "shrub": 1.5,
                 "roof_bright": 0.4}),
    1330: Recipe("halls", {"concrete": 0.1, "roof_bright": 0.05}, {"soil_bright": 3, "soil_dark": 2.5, "gravel": 2.5, "fallow": 2,
                 "asphalt": 1}, (80, 60)),
    1410: Recipe("crowns", {"oak": 0.22, "beech": 0.14, "spruce": 0.05}, {"lawn": 5, "meadow": 2, "shrub": 1, "gravel": 0.5,
                 "water_clear": 0.3}, (60, 40), inclusions=0.7),
    1421: Recipe("crowns", {"oak": 0.1, "shrub": 0.06}, {"lawn": 6, "hay": 2, "meadow": 1.5, "sand": 0.4, "gravel": 0.4}, (110, 65),
                 inclusions=0.7),
    1422: Recipe("halls", {"roof_bright": 0.1, "roof_tile": 0.08}, {"lawn": 4, "asphalt": 2, "gravel": 2, "shrub": 1.2, "oak": 1},
                 (70, 50)),
    2110: Recipe("none", {}, _CROPS, (330, 130), (3, "meadow"), inclusions=0.8),
    2120: Recipe("none", {}, _SUMMER_CROPS, (260, 120), (3, "fallow"), inclusions=0.7),
    2130: Recipe("none", {}, {"rice": 7, "maize": 1, "fallow": 0.7, "vegetables": 0.6}, (200, 90), (3, "reed"), inclusions=0.5),
    2210: Recipe("rows", {"vine": 0.55}, {"soil_bright": 3, "fallow": 3, "meadow": 2}, (140, 60), (3, "gravel"), inclusions=0.9),
    2220: Recipe("orchard", {"fruit": 0.5}, {"meadow": 4, "fallow": 2, "soil_bright": 1.5}, (130, 70), (3, "shrub"), inclusions=0.9),
    2230: Recipe("orchard", {"olive": 0.38}, {"soil_bright": 4, "fallow": 3, "dry_grass": 2}, (160, 90), (3, "maquis"),
                 inclusions=0.9),
    2310: Recipe("crowns", {"oak": 0.03}, _GRASS, (170, 95), (4, "shrub"), inclusions=0.9),
    2410: Recipe("orchard", {"fruit": 0.14, "olive": 0.06}, {"wheat": 2, "barley": 1.5, "vegetables": 1, "fallow": 2, "vine": 1.5,
                 "meadow": 1}, (90, 50), (3, "meadow")),
    2420: Recipe("crowns", {"oak": 0.05, "fruit": 0.05}, {**_CROPS, "meadow": 4, "vegetables": 2, "vine": 1, "lawn": 1}, (80, 45),
                 (3, "shrub"), inclusions=1.2),
    2430: Recipe("crowns", {"oak": 0.16, "shrub": 0.08}, {**_GRASS, "wheat": 1, "maize": 1, "fallow": 2, "shrub": 2}, (120, 70),
                 (6, "shrub"), inclusions=1.6),
    2440: Recipe("crowns", {"oak": 0.14, "olive": 0.1}, {"dry_grass": 4, "fallow": 2.5, "meadow": 1.5, "barley": 1}, (260, 150)),
    3110: Recipe("crowns", {"beech": 0.45, "oak": 0.38, "spruce": 0.05, "pine": 0.03}, {"shrub": 2, "meadow": 1, "beech": 2}),
    3120: Recipe("crowns", {"spruce": 0.45, "pine": 0.32, "beech": 0.05, "oak": 0.05}, {"shrub": 2, "heather": 1, "spruce": 2}),
    3130: Recipe("crowns", {"spruce": 0.24, "pine": 0.16, "beech": 0.22, "oak": 0.2}, {"shrub": 2, "meadow": 1, "oak": 1}),
    3210: Recipe("blotch", {"rock": 0.03, "shrub": 0.06}, {"dry_grass": 4, "meadow": 3, "fallow": 2, "hay": 1}, inclusions=1.1),
    3220: Recipe("blotch", {"heather": 0.5, "shrub": 0.1}, {"dry_grass": 2, "meadow": 1.5, "bog": 1, "heather": 2}, inclusions=1.1),
    3230: Recipe("crowns", {"maquis": 0.5, "olive": 0.06}, {"dry_grass": 3, "rock": 1, "soil_bright": 1, "maquis": 2}),
    3240: Recipe("crowns", {"shrub": 0.25, "oak": 0.12, "spruce": 0.1}, {"dry_grass": 2, "meadow": 2, "shrub": 3, "heather": 1,
                 "fallow": 1}, inclusions=1.4),
    3310: Recipe("blotch", {"sand": 0.5}, {"sand": 5, "dry_grass": 2, "heather": 0.6, "mud": 0.6}, inclusions=0.7),
    3320: Recipe("blotch", {"rock": 0.4, "limestone": 0.25}, {"rock": 3, "limestone": 2, "dry_grass": 1.5}, inclusions=0.8),
    3330: Recipe("blotch", {"rock": 0.15, "limestone": 0.1}, {"dry_grass": 4, "soil_bright": 1.5, "rock": 1, "shrub": 1, "heather": 1}),
    3340: Recipe("blotch", {"char": 0.4}, {"char": 4, "maquis": 1, "soil_dark": 1.5, "dry_grass": 1, "pine": 0.6}),
    3350: Recipe("blotch", {"snow": 0.6}, {"snow": 6, "rock": 1}, inclusions=0.3),
    4000: Recipe("blotch", {"reed": 0.25, "bog": 0.2}, {"reed": 2, "bog": 2, "meadow": 1.5, "mud": 1, "water_algae": 1, "shrub": 0.7}),
    5110: Recipe("none", {}, _WATER, inclusions=0.15),
    5120: Recipe("none", {}, _WATER, inclusions=0.08),
    5210: Recipe("none", {}, {**_WATER, "mud": 0.4}, inclusions=0.08),
    5220: Recipe("none", {}, {**_WATER, "mud": 0.8}, inclusions=0.08),
    5230: Recipe("none", {}, _WATER, inclusions=0.01),
}  # fmt: skip

# What hides below the mapping unit, by level-1 class of the surroundings.
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
        objects: uint8 (46, VARIANTS, 256): material by rank of the pattern, NO_OBJECT where the ground shows.
        ground: uint8 (46, VARIANTS, 256): material by random byte of the parcel or rank of the blotch.
        hidden: uint8 (46, 16): class index of an inclusion by random nibble.
        hidden_share: uint8 (46,): inclusions where the rank of their pattern is below it.
        field: float32 (46, 2): parcel length and width, metres.
        natural: bool (46,): the ground comes in blotches, not parcels.
        edge_width: float32 (46,) metres.
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
        seed: of the country.
        variation: spread of a class's mixtures about its recipe; 0 gives the recipe every time.
        inclusions: fraction of the ground that differs from its label, for a class of relative readiness 1.
    """
    order = legend().codes(4)
    recipes = [RECIPES[code] for code in order]
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
        np.array([recipe.edge[0] for recipe in recipes], np.float32),
        np.array([materials.INDEX[recipe.edge[1]] for recipe in recipes], np.uint8),
    )


def _fill(shares: dict[str, float], rng: np.random.Generator, variation: float, partial: bool) -> npt.NDArray[np.uint8]:
    """256 slots filled in the order of ``shares``, each share scaled by a log-normal factor."""
    out = np.full(256, NO_OBJECT, np.uint8)
    if not shares:
        return out
    drawn = np.array(list(shares.values())) * np.exp(rng.normal(0, variation, len(shares)))
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
