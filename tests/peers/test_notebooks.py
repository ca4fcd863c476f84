"""The notebooks run in a kernel, as in a user's Jupyter; tests/docs/test_notebooks.py checks what they compute."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_kernel_runs_the_notebook(
    path: Path, release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    clone, commands = tmp_path / "clone", tmp_path / "bin"
    (clone / "demo").mkdir(parents=True)
    (clone / "demo" / "luisa-sim").symlink_to(release_root)
    for package in ("baselines", "builders", "leaderboard", "lulcbench"):
        (clone / package).symlink_to(ROOT / package)
    commands.mkdir()
    for name, start in (("python", ""), ("lulcbench", "-m lulcbench ")):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {start}"$@"\n')
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=":")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(clone)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    printed = "".join(output.get("text", "") for output in outputs)
    assert "Traceback" not in printed
    assert "Error" not in printed
