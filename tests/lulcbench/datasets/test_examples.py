"""The examples in the docstrings run, on the tests' release."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

MODULES = ("_seeds", "augment", "datamodule", "loader", "resident", "sampler")


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("ignore:.*isinstance.*treespec.*LeafSpec")
def test_examples_say_the_truth(release_root: Path, name: str) -> None:
    import lulcbench

    module = importlib.import_module(f"lulcbench.datasets.{name}")
    names = {"root": release_root, "LuisaSeg": lulcbench.LuisaSeg}
    result = doctest.testmod(module, extraglobs=names)
    assert result.failed == 0
    assert result.attempted > 0
