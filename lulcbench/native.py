"""The compiled inner loops (``_pixels.c``), or None where there was no C compiler at installation."""

from __future__ import annotations

try:
    from lulcbench import _pixels as compiled

    if not hasattr(compiled, "normalize"):  # built from an older source
        raise ImportError("lulcbench._pixels is out of date")
except ImportError:
    compiled = None  # type: ignore[assignment]

__all__ = ["compiled"]
