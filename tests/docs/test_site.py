"""The documentation site builds without a warning and loads nothing from other hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr[-3000:]
    return out


def test_site_loads_nothing_from_another_host(site: Path) -> None:
    """Links may lead anywhere; scripts, styles, fonts and images must be in the site."""
    loaded = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//[^\"'> ]+)")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        assert loaded.findall(page.read_text(encoding="utf-8")) == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_public_names_are_in_the_reference(site: Path) -> None:
    import lulcbench

    anchors = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").rglob("*.html"))
    public = [name for name in lulcbench.__all__ if not name.startswith("_")]
    assert [name for name in public if not re.search(rf'id="lulcbench\.[\w.]*\b{name}"', anchors)] == []


def test_methods_that_datasets_inherit_are_in_the_reference(site: Path) -> None:
    from lulcbench.datasets import LuisaDataset

    owners = [owner for owner in LuisaDataset.__mro__ if owner.__module__.startswith("lulcbench.")]
    public = {name for owner in owners for name in vars(owner) if not name.startswith("_")}
    page = (site / "reference" / "datasets.html").read_text(encoding="utf-8")
    shown = set(re.findall(r'id="lulcbench\.datasets\.LuisaDataset\.(\w+)"', page))
    assert "plot" in public
    assert public - shown == set()
