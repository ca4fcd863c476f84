"""Compiled inner loops, and settings of the memory allocator.

``compiled`` is None if there was no C compiler at installation; NumPy is then used instead.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from functools import cache

try:
    from lulcbench._native import _pixels as compiled

    if not hasattr(compiled, "decide"):  # built from an older source
        raise ImportError("lulcbench._native._pixels is out of date")
except ImportError as error:
    compiled = None  # type: ignore[assignment]
    logging.getLogger(__name__).info("NumPy is used instead of the C extension, which is slower: %s", error)

__all__ = ["compiled", "keep_freed_memory"]

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_SETTINGS = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TOP_PAD_",
    "GLIBC_TUNABLES",
)


@cache
def keep_freed_memory(*, tensors: bool = False) -> None:
    """Let glibc keep up to 64 MiB of freed memory per arena instead of returning every freed buffer to the system.

    Decoding a chunk needs temporary buffers of about 100 KB, and new pages for them are expensive. Called once per
    process, before it first reads shards. Has no effect if the environment configures malloc (``man mallopt``), or on
    other systems.

    Args:
        tensors: keep all freed memory, also of buffers over 32 MiB, as PyTorch allocates them for activations: every
            step of training on a CPU needs buffers of the same sizes again.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _SETTINGS):
        return
    libc = ctypes.CDLL(None)
    if tensors:
        keep_freed_memory()  # so that the first read does not undo this
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    else:
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the maximum, to which glibc also adapts by itself
        libc.mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)
