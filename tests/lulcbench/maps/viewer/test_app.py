"""The committed application is what its source builds, small, and asks nothing of other hosts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

VIEWER = Path(__file__).parents[4] / "lulcbench" / "maps" / "viewer"
APP, STATIC = VIEWER / "app", VIEWER / "static"


def test_the_committed_application_equals_a_rebuild(tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not (APP / "node_modules").is_dir():
        pytest.skip("the libraries of the application are not installed (make viewer)")
    subprocess.run(["node", APP / "build.mjs", tmp_path / "static"], check=True, cwd=APP)
    built = {path.name: path.read_bytes() for path in (tmp_path / "static").iterdir()}
    assert built == {path.name: path.read_bytes() for path in STATIC.iterdir()}


def test_it_is_small() -> None:
    files = {path.suffix: path for path in STATIC.iterdir()}
    assert set(files) == {".html", ".js", ".css", ".txt"}
    assert sum(path.stat().st_size for suffix, path in files.items() if suffix != ".txt") <= 400_000


def test_versions_are_exact_and_no_registry_is_named() -> None:
    package = json.loads((APP / "package.json").read_text())
    for version in (package["dependencies"] | package["devDependencies"]).values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    lock = json.loads((APP / "package-lock.json").read_text())["packages"]
    assert all("resolved" not in entry for entry in lock.values())
    assert all("integrity" in entry for name, entry in lock.items() if name)


def test_the_licences_of_the_libraries_are_included() -> None:
    text = (STATIC / "LICENSES.txt").read_text()
    assert "ol " + json.loads((APP / "package.json").read_text())["dependencies"]["ol"] in text
    assert "Redistribution and use in source and binary forms" in text


def test_the_policy_of_the_page_allows_its_own_folder_only() -> None:
    page = (STATIC / "index.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "http" not in policy[1]
    assert "http:" not in page
    assert "https:" not in page
