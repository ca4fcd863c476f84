"""Below Python: the compiled inner loops, and how the process's memory is handed out.

``compiled`` is ``None`` where there was no C compiler at installation; NumPy then does the same work.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from functools import cache

try:
    from lulcbench._native import _pixels as compiled

    if not hasattr(compiled, "count_maps"):  # built from an older source
        raise ImportError("lulcbench._native._pixels is out of date")
except ImportError as error:
    compiled = None  # type: ignore[assignment]
    logging.getLogger(__name__).info("NumPy replaces the C extension, which takes about twice as long: %s", error)

__all__ = ["compiled", "keep_freed_memory"]

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


@cache
def keep_freed_memory() -> None:
    """Have glibc keep up to 64 MiB of freed memory (a thread's arena) instead of giving every freed buffer back.

    Each chunk that is decoded needs buffers of some 100 KB for a moment, and fresh pages for them cost much. Done once
    a process, when it first reads shards; never where the environment has settings of its own for glibc's malloc (``man
    mallopt``), nor on other systems.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _SETTINGS):
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc allows, and what it adapts to by itself
    libc.mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)
