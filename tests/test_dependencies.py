"""What ``pyproject.toml`` declares is what the code imports: no more, no less."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN = {"lulcbench", "builders", "baselines", "leaderboard", "benchmarks", "tests"}

# Groups of the packages that the wheel does not contain, of the tests and of the documentation.
GROUPS = ("build", "baselines", "leaderboard", "dev", "docs")
# Code → extras and groups that it may import from, besides the core. The longest path that fits a file counts.
USES = {
    "lulcbench": (),
    "lulcbench/datasets": ("torch",),
    "lulcbench/datasets/torchgeo.py": ("torchgeo",),
    "lulcbench/_parallel.py": ("maps",),
    "lulcbench/_attribute_tables.py": ("geo",),
    "lulcbench/areas.py": ("geo",),
    "lulcbench/geotiff.py": ("geo",),
    "lulcbench/vectors.py": ("geo",),
    "lulcbench/export/outlines.py": ("geo",),
    "lulcbench/maps": ("maps",),
    "lulcbench/maps/own.py": ("maps", "torch"),
    "lulcbench/series": ("maps",),
    "lulcbench/plotting": ("torch",),
    "lulcbench/remote/backends/s3.py": ("s3",),
    "lulcbench/cli/_page.py": ("geo",),
    "lulcbench/cli/agree.py": ("geo",),
    "lulcbench/cli/spot.py": ("geo",),
    "lulcbench/cli/verify.py": ("geo",),
    "lulcbench/evaluation/_pixel_areas.py": ("geo",),
    "lulcbench/evaluation/_grid_raster.py": ("geo",),
    "lulcbench/evaluation/_raster_map.py": ("geo",),
    "lulcbench/evaluation/agreement.py": ("geo",),
    "lulcbench/evaluation/change.py": ("geo",),
    "lulcbench/evaluation/drawing.py": ("geo",),
    "lulcbench/evaluation/patch_series.py": ("geo",),
    "lulcbench/evaluation/polygons.py": ("geo",),
    "lulcbench/evaluation/spot_images.py": ("geo",),
    "lulcbench/evaluation/verification.py": ("geo",),
    "lulcbench/evaluation/reference_points.py": ("geo",),
    "lulcbench/evaluation/_point_files.py": ("geo",),
    "lulcbench/evaluation/_point_places.py": ("geo",),
    "builders": ("geo", "build"),
    "baselines": ("geo", "maps", "torch", "torchgeo", "baselines"),
    "leaderboard": ("leaderboard",),
    "benchmarks": ("all", "build", "baselines", "leaderboard", "benchmarks"),
    "tests": ("all", *GROUPS),
    "tests/peers": ("all", *GROUPS, "peers"),
}
# Environments of their own, on top of the project's.
ENVIRONMENTS = {"benchmarks": "benchmarks/requirements.txt", "peers": "tests/peers/requirements.txt"}

# Declared, yet imported by other libraries alone.
PLUGINS = {
    "aiohttp": "fsspec reads http(s):// by it",
    "onnxscript": "torch exports ONNX by it",
    "netcdf4": "xarray opens netCDF by it",
    "psycopg": "SQLAlchemy speaks to PostgreSQL by it",
    "python-multipart": "starlette reads forms by it",
    "tensorboard": "Lightning's logger writes by it",
}
# Run from the command line, or plugins of pytest and mypy.
TOOLS = {
    "mkdocs-material", "mkdocstrings", "mypy", "pandas-stubs", "pre-commit", "pytest-randomly", "pytest-socket",
    "pytest-timeout", "pytest-xdist", "ruff", "rustac", "uv",
}  # fmt: skip
# What these environments alone have, where import and distribution differ in name.
ELSEWHERE = {"cv2": "opencv-python-headless", "odc": "odc-stac", "streaming": "mosaicml-streaming"}


def name_of(requirement: str) -> str:
    """Normalised name of a distribution."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~;, ]", requirement, maxsplit=1)[0]).lower()


@cache
def declared(extra: str) -> frozenset[str]:
    """Distributions of the core ("") or of an extra or group itself, without the extras that it includes."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, groups = content["project"], content["dependency-groups"]
    if extra in ENVIRONMENTS:
        lines = (ROOT / ENVIRONMENTS[extra]).read_text().splitlines()
        return frozenset(name_of(line) for line in lines if line and not line.startswith("#"))
    requirements = groups.get(extra) or (project["optional-dependencies"][extra] if extra else project["dependencies"])
    names = [name_of(requirement) for requirement in requirements]
    assert len(set(names)) == len(names), f"{extra} declares a distribution twice"
    return frozenset(names) - {"lulcbench"}


@cache
def included(extra: str) -> frozenset[str]:
    """An extra, the extras that it includes, and the core."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {"", extra}
    for requirement in project["optional-dependencies"].get(extra, ()):
        if own := re.fullmatch(r"lulcbench\[(.+)\]", requirement):
            found |= {name for inner in own[1].split(",") for name in included(inner.strip())}
    return frozenset(found)


def allowed(path: str) -> frozenset[str]:
    """Distributions that a file may import."""
    area = max((area for area in USES if path == area or path.startswith(f"{area}/")), key=len)
    extras = {name for extra in USES[area] for name in included(extra)} | {""}
    return frozenset(name for extra in extras for name in declared(extra))


def imported(path: Path) -> Iterator[str]:
    """Top-level names of other distributions that a module imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("importorskip", "import_module"):
            names = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        else:
            continue
        tops = {name.partition(".")[0] for name in names}
        yield from tops - OWN - set(sys.stdlib_module_names)


@cache
def imports() -> dict[str, frozenset[str]]:
    """File → import names."""
    return {
        path.relative_to(ROOT).as_posix(): frozenset(imported(path))
        for folder in sorted(OWN)
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


installed = cache(packages_distributions)  # module → distributions


@cache
def distributions(module: str) -> frozenset[str]:
    """Distributions that install a module; those of other environments are not installed here."""
    found = installed().get(module, [ELSEWHERE.get(module, module)])
    return frozenset(name_of(name) for name in found)


@pytest.mark.slow
@pytest.mark.parametrize("area", sorted(OWN))
def test_everything_imported_is_declared(area: str) -> None:
    missing = {
        f"{path}: {module}"
        for path, modules in imports().items()
        if path.startswith(f"{area}/")
        for module in modules
        if not distributions(module) & allowed(path)
    }
    assert not missing


@pytest.mark.parametrize("extra", ["", "torch", "torchgeo", "geo", "maps", "s3", *GROUPS])
def test_everything_declared_is_imported(extra: str) -> None:
    users = [area for area in USES if any(extra in included(name) for name in USES[area]) or not extra]
    used = {
        distribution
        for path, modules in imports().items()
        if any(path == area or path.startswith(f"{area}/") for area in users)
        for module in modules
        for distribution in distributions(module)
    }
    assert declared(extra) - used - set(PLUGINS) - TOOLS == set()


def test_extras_are_all_checked() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(content["project"]["optional-dependencies"]) == {"torch", "torchgeo", "geo", "maps", "s3", "all"}
    assert {"torch", "torchgeo", "geo", "maps", "s3"} < included("all")
    assert set(content["dependency-groups"]) == set(GROUPS)


def test_everything_declared_is_pinned() -> None:
    """Fails if requirements.txt was compiled without the groups: `make lock` names them."""
    pinned = {name_of(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line}
    wanted = {name for extra in (*included("all"), *GROUPS) for name in declared(extra)}
    assert wanted - pinned == set()
    lock = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("GROUPS := "))
    assert set(lock.split()[2:]) == set(GROUPS)


def test_the_lists_of_exceptions_are_not_stale() -> None:
    everything = {name for extra in (*included("all"), *GROUPS) for name in declared(extra)}
    by_code = {name for modules in imports().values() for module in modules for name in distributions(module)}
    assert set(PLUGINS) | TOOLS <= everything
    assert not (set(PLUGINS) | TOOLS) & by_code
