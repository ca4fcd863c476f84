"""No new sockets in the scoring process: a seccomp filter (Linux 3.17 and later, x86-64 and aarch64).

Landlock covers TCP only. This filter makes the system calls that create sockets of any family fail with EPERM, in all
threads of the process and in its children, for good; ``io_uring``, which creates sockets without such a call, too. See
https://docs.kernel.org/userspace-api/seccomp_filter.html.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

# By machine: AUDIT_ARCH of linux/audit.h, then the numbers of the calls seccomp, socket and socketpair.
_MACHINES = {"x86_64": (0xC000003E, 317, 41, 53), "aarch64": (0xC00000B7, 277, 198, 199)}
_IO_URING_SETUP = 425  # on all machines
_X32 = 0x40000000  # from this number on, calls of x86-64 with short pointers
_GET_SECCOMP, _NO_NEW_PRIVS, _SET_FILTER, _ALL_THREADS = 21, 38, 1, 1
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # operations of classic BPF (linux/bpf_common.h)
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def available() -> bool:
    """Whether kernel and machine have such a filter."""
    libc = ctypes.CDLL(None, use_errno=True)
    return platform.machine() in _MACHINES and libc.prctl(_GET_SECCOMP, 0, 0, 0, 0) >= 0


def close_sockets() -> bool:
    """Refuse new sockets to this process and its children, for good; open ones stay open.

    Returns:
        False if the kernel or the machine has no such filter; nothing has been restricted then.

    Raises:
        OSError: the kernel refuses.
    """
    if not available():
        return False
    architecture, seccomp, *sockets = _MACHINES[platform.machine()]
    refused = [(_EQUAL, number) for number in (*sockets, _IO_URING_SETUP)] + [(_AT_LEAST, _X32)]
    # A test that is true skips as many instructions as its second number says, one that is false as its third.
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 0, len(refused) + 2, architecture),  # calls in the manner of 32-bit programs are refused
        (_LOAD, 0, 0, _NUMBER),
        *((test, len(refused) - i, 0, number) for i, (test, number) in enumerate(refused)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp: no_new_privs is refused")
    program = _Program(len(instructions), code)
    result = libc.syscall(seccomp, ctypes.c_uint(_SET_FILTER), ctypes.c_uint(_ALL_THREADS), ctypes.byref(program))
    if result == 0:
        return True
    number = ctypes.get_errno()
    raise OSError(number, f"seccomp: {os.strerror(number) if result < 0 else 'a thread cannot be restricted'}")
