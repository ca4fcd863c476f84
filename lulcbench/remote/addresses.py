"""Addresses: folders and URLs, and paths below them."""

from __future__ import annotations

import os
from pathlib import Path


def scheme_of(root: str | os.PathLike[str]) -> str:
    """Scheme of a URL, such as ``https``; empty for a folder."""
    before, separator, _ = os.fspath(root).partition("://")
    return before if separator else ""


def is_remote(root: str | os.PathLike[str]) -> bool:
    """Whether ``root`` is a URL rather than a folder.

    Examples:
        >>> from lulcbench.remote.addresses import is_remote
        >>> is_remote("s3://bucket/luisa-sim"), is_remote("data/luisa-sim")
        (True, False)
    """
    return bool(scheme_of(root))


def join(root: str | os.PathLike[str], *parts: str) -> str:
    """Join a path to ``root``, a URL or a folder.

    Examples:
        >>> from lulcbench.remote.addresses import join
        >>> join("s3://bucket/luisa-sim/", "release.json")
        's3://bucket/luisa-sim/release.json'
    """
    return "/".join([os.fspath(root).rstrip("/"), *parts]) if is_remote(root) else str(Path(root).joinpath(*parts))
