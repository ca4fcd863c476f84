"""The code of all pages but the tutorials runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Shell, pages, run


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in pages("**/*.md") if page.parent.name != "tutorials"], ids=lambda path: path.stem
)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # rioxarray multiplies affine transforms by *
def test_code_on_a_page_runs(page: Path, folder: Path, shell: Shell) -> None:
    run(page, folder, shell)
