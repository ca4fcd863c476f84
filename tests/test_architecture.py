"""The house rules that a script can see: who imports whom, and that importing costs nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lulcbench", "builders", "baselines", "leaderboard")


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names that a module imports anywhere, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_packages_meet_only_in_lulcbench(package: str) -> None:
    allowed = {package, "lulcbench"} if package != "lulcbench" else {"lulcbench"}
    for path in (ROOT / package).rglob("*.py"):
        tops = {name.split(".")[0] for name in imports(path)}
        assert not (tops & set(PACKAGES)) - allowed, path


def room(name: str) -> str:
    """The room of ``lulcbench`` that a dotted name is in: a folder, or a module at the top level."""
    return name.split(".")[1]


# From the first to the last: a room imports from rooms that stand before it (or itself), never from later ones.
ROOMS = (
    "errors", "_files", "_coordinates", "_attribute_tables", "_parsing", "_parallel", "_native", "legend", "grid",
    "geozarr", "geotiff", "seasons", "sensors", "windows", "series", "remote", "release", "vectors", "areas",
    "download", "maps", "predictions", "export", "evaluation", "plotting", "datasets", "submission", "_console", "cli",
)  # fmt: skip


def test_rooms_of_the_library_are_all_listed() -> None:
    folder = ROOT / "lulcbench"
    there = {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/*.py")}
    assert there - {"__init__", "__main__"} == set(ROOMS)


@pytest.mark.parametrize("path", sorted((ROOT / "lulcbench").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_between_rooms_run_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT / "lulcbench").with_suffix("").parts
    if parts in (("__init__",), ("__main__",)):
        return  # names of the first are loaded on first use; the second is the command line
    own = ROOMS.index(parts[0])
    names = {name for name in imports(path) if name.startswith("lulcbench.") and room(name) in ROOMS}
    assert not {name for name in names if ROOMS.index(room(name)) > own}


def test_what_begins_with_an_underscore_is_used_by_its_own_room_alone() -> None:
    """Modules such as ``lulcbench/datasets/_masks.py``; those at the top level belong to the repository."""
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        for name in imports(path):
            steps = name.split(".")
            private = next((i for i, step in enumerate(steps) if i > 1 and step.startswith("_")), None)
            if private is not None and steps[0] in PACKAGES and not steps[private].startswith("__"):
                assert tuple(steps[:private]) == parts[:private], f"{path}: {name}"


# The same of the baselines. What only type checkers import does not count.
BASELINES = (
    "registry", "settings", "devices", "arrays", "series", "data", "predicting", "tasks", "training", "exporting",
    "models", "config", "experiment", "run", "train", "export", "difficulty", "measure", "reports", "studies", "gpu",
    "cli",
)  # fmt: skip


def runtime_imports(path: Path) -> set[str]:
    """Dotted names that a module imports when it runs."""
    tree = parse(path)
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    skipped = {id(inner) for block in blocks for inner in ast.walk(block)}
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and id(node) not in skipped]
    return {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}


def test_rooms_of_the_baselines_are_all_listed() -> None:
    folder = ROOT / "baselines"
    there = {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/*.py")}
    assert there - {"__init__", "__main__"} == set(BASELINES)


@pytest.mark.parametrize("path", sorted((ROOT / "baselines").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_between_rooms_of_the_baselines_run_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT / "baselines").with_suffix("").parts
    if parts[0] in ("__init__", "__main__"):
        return
    own = BASELINES.index(parts[0])
    names = {name for name in runtime_imports(path) if name.startswith("baselines.")}
    assert not {name for name in names if BASELINES.index(room(name)) > own}


def test_reading_a_config_imports_no_package_that_takes_seconds() -> None:
    """Follows the imports at the top of modules; all kinds of data, tasks and models are imported with the config."""
    pending = {p for room in ("data", "tasks", "models") for p in (ROOT / "baselines" / room).glob("[!_]*.py")}
    pending |= {ROOT / "baselines/config.py", ROOT / "baselines/studies/command.py", ROOT / "baselines/run.py"}
    seen: set[Path] = set()
    while pending:
        path = pending.pop()
        seen.add(path)
        for node in parse(path).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            assert not {"lightning", "sklearn", "timm", "torchgeo", "torchvision"} & {n.split(".")[0] for n in names}, (
                path
            )
            stems = [ROOT.joinpath(*name.split(".")) for name in names]
            files = {file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py")}
            pending |= {file for file in files if file.is_file()} - seen
    assert ROOT / "lulcbench/datasets/seg.py" in seen


def test_the_baselines_ask_no_object_for_its_kind() -> None:
    """What depends on the kind of data, task or model is a method of its class."""
    kinds = {"DataConfig", "TaskConfig", "ModelConfig", "NetworkConfig", "Task", "Predictor", "LuisaData"}
    trees = {path: parse(path) for path in (ROOT / "baselines").rglob("*.py")}
    for tree in trees.values():
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        kinds |= {
            node.name for node in classes if any(ast.unparse(d).endswith(".register") for d in node.decorator_list)
        }
    assert {"UNet", "Forest", "SegmentationConfig", "EuroSatData"} <= kinds
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                asked = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
                assert not asked & kinds, f"{path}:{node.lineno}"
            if isinstance(node, ast.Compare):
                assert not ast.unparse(node.left).endswith((".kind", "['kind']")), f"{path}:{node.lineno}"


def test_benchmarks_and_packages_import_no_tests() -> None:
    for folder in (*PACKAGES, "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "tests" not in {name.split(".")[0] for name in imports(path)}, path


def test_only_datasets_and_own_models_import_torch() -> None:
    for path in (ROOT / "lulcbench").rglob("*.py"):
        if {name.split(".")[0] for name in imports(path)} & {"torch", "lightning"}:
            within = path.relative_to(ROOT / "lulcbench")
            assert within.parts[0] == "datasets" or within.as_posix() == "maps/own.py", path


def test_only_one_module_parses_toml() -> None:
    """``tomllib`` is quadratic on hostile text; ``lulcbench._parsing`` looks at the text first."""
    for path in (p for package in PACKAGES for p in (ROOT / package).rglob("*.py")):
        assert "tomllib" not in imports(path) or path == ROOT / "lulcbench" / "_parsing.py", path


# Modules that may write to the terminal; all others log, and report progress by functions that they are given.
COMMAND_LINES = ("lulcbench/_console.py", "lulcbench/cli", "builders/__main__.py", "leaderboard/__main__.py")


@pytest.mark.parametrize("package", ["lulcbench", "builders", "leaderboard"])
def test_only_command_lines_write_to_the_terminal(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        if not path.relative_to(ROOT).as_posix().startswith(COMMAND_LINES):
            names = imports(path)
            assert "rich" not in {name.split(".")[0] for name in names}, path
            assert not {name for name in names if name.startswith("lulcbench._console")}, path


@pytest.mark.slow
def test_loggers_bear_the_names_of_modules_and_importing_configures_none() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(parse(path)):
                value = ast.unparse(node.value) if isinstance(node, ast.Assign) else ""
                if value.startswith("logging.getLogger("):
                    assert value == "logging.getLogger(__name__)", f"{path}:{node.lineno}"
    code = (
        "import logging, lulcbench.cli, lulcbench.download, leaderboard.server, builders.stages.publish;"
        "print(logging.getLogger().handlers, logging.getLogger('lulcbench').handlers)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert shown.split() == ["[]", "[<NullHandler", "(NOTSET)>]"]


@pytest.mark.slow
@pytest.mark.parametrize("module", ["lulcbench", "lulcbench.evaluation.scoring", "lulcbench.cli"])
def test_import_is_light(module: str) -> None:
    """Counts modules, not seconds: none of these loads torch, and ``import lulcbench`` loads next to nothing."""
    code = f"import sys; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    tops = {name.split(".")[0] for name in loaded}
    assert not tops & {"torch", "torchvision", "lightning", "rasterio", "torchgeo", "matplotlib"}
    if module == "lulcbench":
        assert not tops & {"numpy", "pandas", "zarr", "tensorstore", "pydantic", "typer"}


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_unpickles_or_stops_the_interpreter(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        tree = parse(path)
        assert not {n.split(".")[0] for n in imports(path)} & {"pickle", "cloudpickle", "dill", "joblib"}, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"input", "exit", "quit", "eval", "exec"}, f"{path}:{node.lineno}"


def test_files_that_the_guide_to_changes_names_exist() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text().split("## Where to make a change")[1].split("\n## ")[0]
    named = re.findall(r"`([^`]+)`", guide)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []
