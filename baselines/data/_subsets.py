"""Legend subsets as the classes of data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from baselines.registry import expand
from lulcbench.errors import LulcbenchError
from lulcbench.legend import LegendSubset

SUBSETS = Path(__file__).parents[1] / "subsets"


def read_subset(subset: str) -> LegendSubset:
    """Read a legend subset by name or path.

    Raises:
        LulcbenchError: it is missing or invalid.
    """
    path = expand(subset)
    if path.suffix != ".toml":
        path = SUBSETS / f"{subset}.toml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in SUBSETS.glob("*.toml")))
            raise LulcbenchError(f"There is no legend subset {subset!r}.", f"There are: {known}; or give a TOML file.")
    return LegendSubset.load(path)


def check_one_of(level: int, default: int, given: bool, subset: str | None) -> None:
    """Check that a level and a legend subset do not both choose the classes.

    Args:
        level: the level.
        default: the default level.
        given: whether the level is set.
        subset: the legend subset.

    Raises:
        ValueError: both do.
    """
    if subset is not None and given and level != default:
        raise ValueError("level and subset both choose the classes: give only one of them")


def digest_of(release: str, subset: LegendSubset) -> str:
    """Digest of a release with the labels of a subset."""
    classes = json.dumps([subset.names, subset.codes])
    return hashlib.sha256(f"{release} {classes}".encode()).hexdigest()
