"""The tutorials run from top to bottom."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Shell, pages, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("page", pages("tutorials/*.md"), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*isinstance.*treespec.*LeafSpec")
def test_tutorial_runs(page: Path, folder: Path, shell: Shell) -> None:
    run(page, folder, shell)
