"""A recipe: the one TOML file that says what a release is made of.

Paths are relative to the recipe file. Three variables are expanded in them: ``${SCENES}``, the folder that the recipe's
own ``[simulate]`` or ``[ingest]`` table fills, ``${DOWNLOADS}``, that of its downloads, and ``${LULCBENCH_REAL_DATA}``
from the environment.
"""

from builders.recipe.areas import AreaRule
from builders.recipe.model import Recipe
from builders.recipe.reading import PATH_KEYS, RECIPES, load
from builders.recipe.sections import (
    BUFFER,
    Codec,
    DatedRule,
    Download,
    IngestRule,
    LabelRule,
    PackRule,
    Region,
    SensorRule,
    SplitRule,
    check_codes,
)

__all__ = [
    "BUFFER",
    "PATH_KEYS",
    "RECIPES",
    "AreaRule",
    "Codec",
    "DatedRule",
    "Download",
    "IngestRule",
    "LabelRule",
    "PackRule",
    "Recipe",
    "Region",
    "SensorRule",
    "SplitRule",
    "check_codes",
    "load",
]
