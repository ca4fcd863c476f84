"""Isolation of the scoring process with Landlock (Linux 5.13 and later): it needs no privileges and no other program.

A process that is isolated reads only the files that scoring needs, writes only where its answer goes, makes no TCP
connection (Linux 6.7 and later), and sends no signals (Linux 6.12 and later). It therefore cannot read the settings,
the secret of the sessions or predictions of other teams, regardless of what a forged file makes it do. Landlock covers
neither UDP nor Unix sockets with a path; ``sockets.py`` does. See https://docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, the same on all architectures
_VERSION, _PATH_BENEATH, _NO_NEW_PRIVS = 1, 1, 38
_READ = 0b1101  # execute, read file, read folder
_FILE = 0b11 << 14 | 0b111  # rights that a file that is not a folder can have: read, write, execute, truncate, ioctl
_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system", "/sys/fs/cgroup"),
    *("/dev/null", "/dev/zero", "/dev/urandom"),
)
_WRITABLE_DEVICES = ("/dev/null",)


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Version of Landlock in the running kernel; 0 without it. From 4 on, it covers TCP."""
    return max(0, int(_libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def isolate(read: Iterable[Path], write: Iterable[Path]) -> bool:
    """Restrict this process and its children, for good.

    Args:
        read: files and folders that it may read, besides system folders.
        write: folders in which it may also write.

    Returns:
        False if the kernel has no Landlock; nothing has been restricted then.

    Raises:
        OSError: the kernel refuses.
    """
    known = version()
    if not known:
        return False
    everything = (1 << (13 + min(known - 1, 2))) - 1 | (1 << 15 if known >= 5 else 0)
    rules = _Ruleset(everything, 0b11, 0b11)
    size = 24 if known >= 6 else 16 if known >= 4 else 8  # what older kernels do not know is left out
    ruleset = _checked(_libc().syscall(_CREATE, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0)))
    try:
        for path in (*map(Path, _SYSTEM), *read):
            _allow(ruleset, path, _READ & everything)
        for path in (*map(Path, _WRITABLE_DEVICES), *write):
            _allow(ruleset, path, everything)
        _checked(_libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_libc().syscall(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)
    return True


def code_folders(private: Path) -> list[Path]:
    """Folders of Python and of the imported packages, without one that contains ``private``.

    Other folders on the path of modules, such as a clone or the working directory, may hold settings or data, so only
    the packages that score are read from them.
    """
    folders = {Path(sys.prefix), Path(sys.base_prefix)}
    hidden = private.resolve()
    for entry in map(Path, filter(None, sys.path)):
        if entry.name in ("site-packages", "dist-packages"):
            folders.add(entry)
    for name in ("lulcbench", "leaderboard"):
        found = importlib.util.find_spec(name)  # an editable installation may have it in any folder
        folders |= set(map(Path, found.submodule_search_locations or ())) if found else set()
    return sorted(folder for folder in folders if folder.exists() and not hidden.is_relative_to(folder.resolve()))


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        folder = stat.S_ISDIR(os.fstat(opened).st_mode)
        rule = _PathBeneath(rights if folder else rights & _FILE, opened)
        call = (_ADD, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0))
        _checked(_libc().syscall(*call))
    finally:
        os.close(opened)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return int(result)
