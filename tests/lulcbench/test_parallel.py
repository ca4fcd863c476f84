"""Processes of a pool."""

from __future__ import annotations

import time

from lulcbench._parallel import each, executor


class Blocked:
    """Like a library whose threads wait for one another while the interpreter ends."""

    def __del__(self) -> None:
        time.sleep(3600)


def load(number: int) -> int:
    globals()["library"] = Blocked()
    return number


def test_a_worker_whose_libraries_do_not_end_does_not_stop_the_pool_from_ending() -> None:
    with executor(2) as pool:
        assert list(each(pool, load, [7])) == [7]
