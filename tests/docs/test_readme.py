"""The README's lines of code run, and its lists are complete."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from lulcbench import cli
from lulcbench.release import Release
from tests.docs.pages import HOST, ROOT
from tests.loopback import serve

README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGES = ("lulcbench", "builders", "baselines", "leaderboard")


@pytest.mark.slow
def test_lines_of_python_run(folder: Path) -> None:
    """On the tests' release in place of that of the demo; its region has another name."""
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    region = Release.open(folder / "demo" / "luisa-sim").manifest.regions[0]
    names: dict[str, object] = {}
    with serve(folder / "demo") as address:
        for block in blocks:
            assert 'regions="sim"' in block or block is not blocks[1]
            code = block.replace('regions="sim"', f'regions="{region}"').replace(HOST, address)
            exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - of the README
    scored = subprocess.run(
        [sys.executable, "-m", "lulcbench", "score", "mine.zip", "--root", "demo/luisa-sim"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "level 1" in scored.stdout


def test_the_region_of_the_demo_has_that_name() -> None:
    recipe = tomllib.loads((ROOT / "builders" / "recipes" / "luisa-sim.toml").read_text())
    assert [region["name"] for region in recipe["regions"]] == ["sim"]


def test_all_commands_are_named() -> None:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    pages = {"README.md": README, "cli.md": (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")}
    named = {
        page: {word for line in re.findall(r"lulcbench ([a-z| -]+)", text) for word in re.findall(r"[a-z-]+", line)}
        for page, text in pages.items()
    }
    assert {page: set(group.commands) - names for page, names in named.items()} == {page: set() for page in pages}


def test_variables_of_the_environment_are_in_the_table() -> None:
    page = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([A-Z][A-Z0-9_]+…?)`", page))
    # Those that the code reads, by the prefixes of the programs they belong to; not options of GDAL and of s3fs.
    pattern = re.compile(r"[\"']((?:LULCBENCH|HF|AWS|CDSE|PC_SDK|XDG|MALLOC|GLIBC)_[A-Z0-9_]+)[\"']")
    gdal = {"AWS_HTTPS", "AWS_S3_ENDPOINT", "AWS_VIRTUAL_HOSTING", "AWS_REQUEST_PAYER"}
    read = {
        name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in pattern.findall(path.read_text(encoding="utf-8"))
    } - gdal
    boards = {name for name in read if name.startswith("LULCBENCH_BOARD_")}
    assert len(read) > 15
    assert read - boards - listed == set()
    of_libraries = {name for name in listed if name.startswith(("HF_", "AWS_", "COLUMNS", "LULCBENCH_BOARD_"))}
    assert listed - read - of_libraries == set()


@pytest.mark.parametrize("name", ["CITATION.cff", "SECURITY.md"])
def test_files_about_the_project_are_current(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if name == "CITATION.cff":
        assert f"version: {project['version']}" in text
        assert f'repository-code: "{project["urls"]["Repository"]}"' in text
        assert f"license: {project['license']}" in text
    for path in re.findall(r"\]\(([\w/.-]+)\)", text):
        assert (ROOT / path).exists(), path
