"""The examples in docstrings run, on the tests' release, and every public class has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import lulcbench

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("lulcbench", "baselines")
    for path in (ROOT / package).rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("ignore:.*isinstance.*treespec.*LeafSpec")
def test_examples_of_a_module_run(
    name: str, release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In examples ``root`` is the folder of a release; files are written to an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    public = {public: getattr(lulcbench, public) for public in lulcbench.__all__}
    result = doctest.testmod(
        importlib.import_module(name),
        extraglobs=public | {"root": release_root},
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
    )
    assert result.failed == 0
    assert result.attempted > 0


@pytest.mark.parametrize("name", [name for name in lulcbench.__all__ if not name.startswith("_")])
def test_a_public_class_has_an_example(name: str) -> None:
    assert ">>>" in inspect.getdoc(getattr(lulcbench, name))
