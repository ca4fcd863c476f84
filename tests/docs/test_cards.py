"""Model cards in the documentation name releases that there are; cells of notebooks replace no files of the user."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import DOCS

RECIPES = DOCS.parent / "builders" / "recipes"


def test_cards_name_the_version_that_a_recipe_builds() -> None:
    named = {}
    for path in sorted(DOCS.rglob("*")):
        if path.suffix in (".md", ".ipynb"):
            for release in re.findall(r"([a-z0-9-]+ \d+\.\d+\.\d+), train split", path.read_text(encoding="utf-8")):
                named[path.name] = release.split()
    assert "submit.md" in named
    for page, (name, version) in named.items():
        assert tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))["version"] == version, page


def test_example_scenes_replace_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = json.loads((DOCS / "notebooks" / "own-release.ipynb").read_text(encoding="utf-8"))["cells"]
    code = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "labels.tif").write_bytes(b"of the user")
    exec(compile(code, "own-release.ipynb", "exec"), {"__name__": "__main__"})  # noqa: S102 - of the docs
    assert (tmp_path / "site" / "labels.tif").read_bytes() == b"of the user"
    assert len(list((tmp_path / "site").glob("landsat_*.tif"))) == 6
