"""Downloading what a dataset lacks, for its option ``download``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def fetch(source: bool | str, root: str | os.PathLike[str], **parts: Any) -> None:
    """Download parts of a release.

    Args:
        source: name or address of the release; True takes the release named like the last part of ``root``.
        root: folder of the release.
        **parts: see ``lulcbench.download.download``.
    """
    from lulcbench.download import download

    download(Path(root).name if source is True else str(source), root, **parts)
