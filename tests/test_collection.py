"""The same tests, by the same names, on every run and machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

# Escapes of bytes and of control characters; addresses of objects; functions and objects without a name.
UNNAMED = re.compile(r"(?<!\\)\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|[nrt])|0x[0-9a-f]{6,}|<")


def collect(hash_seed: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def collections(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], ...]:
    """Ids in order of collection: those of this run, and all at another time on another machine."""
    here = [item.nodeid for item in request.session.items]
    random_order = request.config.pluginmanager.hasplugin("randomly")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    runs = [collect("2", "-p", "tests.other_machine", "--basetemp", str(elsewhere / "tmp"))]
    if len(here) < 1000 or random_order:  # not the whole suite, or not in its own order
        runs.append(collect("1"))
    outputs = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * len(runs), "\n".join(output[-2000:] for output in outputs)
    ids = [[line for line in output.splitlines() if "::" in line] for output in outputs]
    return ids[1] if len(runs) == 2 else here, ids[0]


def test_ids_depend_on_no_clock_hash_seed_or_machine(collections: tuple[list[str], ...]) -> None:
    here, elsewhere = collections
    assert len(here) > 1000
    chosen = set(here)  # a run may be of some files only
    assert here == [name for name in elsewhere if name in chosen]


def test_every_test_has_an_id_of_its_own_that_can_be_typed(collections: tuple[list[str], ...]) -> None:
    ids = collections[1]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if UNNAMED.search(name)] == []
    assert [name for name in ids if len(name) > 250] == []
