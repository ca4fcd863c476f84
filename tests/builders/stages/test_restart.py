"""A killed build continues; two builds of one folder do not harm each other."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builders.recipe import Recipe
from builders.stages import materialize, pack, plan, search
from builders.stages.audit import audit
from builders.workspace import Workspace
from lulcbench.errors import LulcbenchError
from lulcbench.release import Manifest
from tests.builders import world
from tests.builders.stages import kill


def command(folder: Path) -> list[str]:
    recipe, out = str(folder / "recipe.toml"), str(folder / "out")
    return [sys.executable, "-m", "builders", "build", recipe, "--out", out, "--workers", "2"]


@pytest.mark.slow
def test_builds_that_are_killed_end_in_the_same_bytes(tmp_path: Path) -> None:
    """``python -m tests.builders.stages.kill`` does the same at more moments."""
    world.make(tmp_path / "whole")
    moments = kill.build(tmp_path / "whole")
    world.make(tmp_path / "killed")
    assert kill.chain(tmp_path / "killed", int(moments or 0), 5, random.Random(3)) > 1
    assert kill.tree(tmp_path / "killed" / "out") == kill.tree(tmp_path / "whole" / "out")


@pytest.mark.slow
def test_two_builds_of_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    world.make(tmp_path)
    builds = [subprocess.Popen(command(tmp_path), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
              for _ in range(2)]  # fmt: skip
    ended = [build.communicate(timeout=300) for build in builds]
    assert [build.returncode for build in builds] == [0, 0], ended
    assert sum("Another build uses" in errors for _, errors in ended) == 1
    assert len({output.splitlines()[0] for output, _ in ended}) == 1  # the same digest
    assert not audit(tmp_path / "out").problems


@pytest.mark.slow
def test_workers_end_when_their_builder_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from lulcbench._parallel import each, executor\n"
        "if __name__ == '__main__':\n"
        "    with executor(2) as pool:\n"
        "        print(*{pool.submit(os.getpid).result() for _ in range(20)}, flush=True)\n"
        "        pool.submit(time.sleep, 300).result()\n"
    )
    (tmp_path / "program.py").write_text(code)
    builder = subprocess.Popen([sys.executable, str(tmp_path / "program.py")], stdout=subprocess.PIPE, text=True,
                               env={"PYTHONPATH": str(Path(__file__).parents[3])})  # fmt: skip
    assert builder.stdout is not None
    workers = [int(pid) for pid in builder.stdout.readline().split()]
    builder.kill()
    builder.wait()
    builder.stdout.close()
    end = time.monotonic() + 60
    while time.monotonic() < end and any(alive(pid) for pid in workers):
        time.sleep(0.05)
    assert workers
    assert not any(alive(pid) for pid in workers)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may still be listed as a zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def materialized(folder: Path) -> tuple[Recipe, Workspace, list[plan.Planned]]:
    """A world whose tiles are in the cache."""
    recipe, space = world.make(folder)
    rows = plan.plan(recipe, space)
    materialize.materialize(recipe, space, rows, search.search(recipe, space, rows), None)
    return recipe, space, rows


@pytest.mark.slow
def test_a_release_that_was_just_moved_to_its_place_is_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the last rename: the same command finds its own release."""
    recipe, space, rows = materialized(tmp_path)
    monkeypatch.setattr(
        pack, "_clear", lambda home: (_ for _ in ()).throw(KeyboardInterrupt) if space.root.exists() else None
    )
    with pytest.raises(KeyboardInterrupt):
        pack.pack(recipe, space, rows, None)
    monkeypatch.undo()
    assert pack.pack(recipe, space, rows, None).digest == Manifest.load(space.root).digest


@pytest.mark.slow
def test_what_a_kill_left_half_deleted_is_not_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes of shards remain where the shards themselves are gone."""
    recipe, space, rows = materialized(tmp_path)
    rmtree = shutil.rmtree

    def half(path: Path, ignore_errors: bool = False) -> None:
        if Path(path).name == "pack" and space.root.exists():
            raise KeyboardInterrupt
        rmtree(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(pack.shutil, "rmtree", half)
    with pytest.raises(KeyboardInterrupt):
        pack.pack(recipe, space, rows, None)
    monkeypatch.undo()
    first = kill.tree(space.root)
    shutil.rmtree(space.root)
    pack.pack(recipe, space, rows, None)
    assert kill.tree(space.root) == first


@pytest.mark.slow
def test_temporary_files_of_a_killed_build_are_not_part_of_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zarr, too, writes to a temporary name and renames."""
    recipe, space, rows = materialized(tmp_path)

    def killed(*_: object) -> None:
        staging = space.work / "pack" / "release"
        (staging / "landsat_2018" / "zarr.0f1e.partial").write_bytes(b"x")
        (staging / ".index.parquet.x1y2").write_bytes(b"x")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pack, "write_index", killed)
        with pytest.raises(KeyboardInterrupt):
            pack.pack(recipe, space, rows, None)
    pack.pack(recipe, space, rows, None)
    (space.root / ".audit.html.x1y2").write_bytes(b"x")  # the audit is killed after pack
    pack.pack(recipe, space, rows, None)
    assert not [path for path in kill.tree(space.root) if "partial" in path or ".index" in path or ".audit" in path]


def test_a_folder_that_another_build_filled_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "staging").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "release.json").write_text("{}")
    with pytest.raises(LulcbenchError, match="has been filled by another build"):
        pack._install(tmp_path / "staging", tmp_path / "out", replace=False)
    assert (tmp_path / "out" / "release.json").read_text() == "{}"
