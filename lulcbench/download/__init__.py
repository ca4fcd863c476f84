"""Download of releases: selected parts, resumable, every file checked."""

from __future__ import annotations

from lulcbench.download.downloader import download

__all__ = ["download"]
