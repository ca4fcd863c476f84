"""The same tests, by the same names, on every run and machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Escapes of bytes and of control characters; addresses of objects; functions and objects without a name.
UNNAMED = re.compile(r"(?<!\\)\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|[nrt])|0x[0-9a-f]{6,}|<")


def collect(hash_seed: str, *options: str) -> list[str]:
    """Ids of all tests in order of collection, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-2000:]
    return [line for line in run.stdout.splitlines() if "::" in line]


@pytest.fixture(scope="module")
def collections(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], list[str]]:
    """Ids in order of collection: those of this run, and all at another time on another machine."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    there = collect("2", "-p", "tests.other_machine", "--basetemp", str(elsewhere / "tmp"))
    here = [item.nodeid for item in request.session.items]
    if len(here) != len(there) or request.config.pluginmanager.hasplugin("randomly"):
        here = collect("1")  # this run is of some tests only, or in another order
    return here, there


def test_every_test_of_this_run_has_an_id_that_can_be_typed(request: pytest.FixtureRequest) -> None:
    assert [item.nodeid for item in request.session.items if UNNAMED.search(item.nodeid)] == []


@pytest.mark.slow
def test_ids_depend_on_no_clock_hash_seed_or_machine(collections: tuple[list[str], list[str]]) -> None:
    here, elsewhere = collections
    assert len(here) > 1000
    assert here == elsewhere


@pytest.mark.slow
def test_every_test_has_an_id_of_its_own_that_can_be_typed(collections: tuple[list[str], list[str]]) -> None:
    ids = collections[1]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if UNNAMED.search(name)] == []
    assert [name for name in ids if len(name) > 250] == []
