"""The compiled inner loops (``_pixels.c``), or None where there was no C compiler at installation."""

from __future__ import annotations

try:
    from lulcbench import _pixels as compiled
except ImportError:
    compiled = None  # type: ignore[assignment]

__all__ = ["compiled"]
