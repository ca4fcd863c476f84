"""The table of tools that were tried names the versions that the tests run, and tests that exist."""

from __future__ import annotations

import re

from tests.docs.pages import DOCS, ROOT

LISTS = ("requirements.txt", "tests/peers/requirements.txt", "tests/peers/terratorch.txt")


def test_versions_are_those_of_the_tests() -> None:
    page = (DOCS / "reference" / "tools.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "`tests/" in line]
    assert len(rows) > 15
    pinned: dict[str, set[str]] = {}
    for name in LISTS:
        for tool, version in re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE):
            pinned.setdefault(tool, set()).add(version)
    assert {tool: version for tool, version, *_ in rows if version not in pinned.get(tool, set())} == {}
    for tool, *_, test in rows:
        code = (ROOT / test.strip("`")).read_text(encoding="utf-8")
        # The page of the guides runs all code of the pages.
        assert tool.replace("-", "_") in code.replace("-", "_") or test == "`tests/docs/test_guides.py`", (tool, test)
