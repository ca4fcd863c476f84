"""Fixtures that all tests share."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tenacity
from filelock import FileLock
from hypothesis import HealthCheck, settings

import lulcbench.remote.retry
from lulcbench._files import hash_file
from tests.lulcbench.fake_hub import TOKEN, FakeHub

RECIPE = Path(__file__).parent / "recipes" / "tiny.toml"

# The same examples on every run, and no limits of time that a busy machine breaks. `make test-random` draws others.
settings.register_profile(
    "fixed", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("random", settings.get_profile("fixed"), derandomize=False, print_blob=True)
settings.load_profile("fixed")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names bytes and unnamed functions by their argument and number them; by default ids hold the bytes themselves.

    Bytes that a compressor made may hold the time, and then the workers of pytest-xdist collect different tests.
    """
    if isinstance(val, bytes | bytearray) or getattr(val, "__name__", "") == "<lambda>":
        return argname
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests first, so that at the end no worker waits long for another."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data (see CONTRIBUTING.md); tests that need it skip where it is absent."""
    folder = os.environ.get("LULCBENCH_REAL_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("LULCBENCH_REAL_DATA names no folder with real data")
    return Path(folder)


@pytest.fixture(scope="session")
def release_root(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
    """A small simulated release (8 tiles, Landsat 2012 and 2018, Sentinel-2 2018), built by the real builder.

    All tests of a worker share it: a test that alters something works on a copy. Built once for all workers, or once
    per state of the code where LULCBENCH_TEST_CACHE names a folder.
    """
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    if cache := os.environ.get("LULCBENCH_TEST_CACHE"):
        shared = Path(cache) / _code_digest()
        shared.mkdir(parents=True, exist_ok=True)
    root = shared / "tiny" / "release"
    with FileLock(shared / "tiny.lock"):
        if not _is_whole(root):
            shutil.rmtree(root.parent, ignore_errors=True)
            command = [sys.executable, "-m", "builders", "build", str(RECIPE), "--out", str(root)]
            build = subprocess.run(command, capture_output=True, text=True, timeout=600)
            assert build.returncode == 0, build.stderr[-3000:]
        own = Path(shutil.copytree(root, tmp_path_factory.mktemp("tiny") / "release"))
    yield own
    assert _is_whole(own), "a test altered the release that all tests share"


def _is_whole(root: Path) -> bool:
    """Whether a release built by an earlier worker or run is there, every byte of it."""
    content = json.loads((root / "release.json").read_bytes()) if (root / "release.json").is_file() else None
    return content is not None and all(
        (root / file["path"]).is_file() and hash_file(root / file["path"]) == file["sha256"]
        for file in content["files"]
    )


def _code_digest() -> str:
    """Of the recipe and all code that a build runs."""
    top = Path(__file__).parents[1]
    rooms = ("legend", "release", "remote", "_native")
    folders = [top / "builders", *(top / "lulcbench" / room for room in rooms)]
    files = [RECIPE, top / "requirements.txt", *(top / "lulcbench").glob("*.py")]
    files += [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".csv", ".toml", ".c")]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(top)} {hash_file(path)}\n".encode())
    return digest.hexdigest()[:16]


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Draws from global generators depend on no other test."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def metric_list() -> Iterator[None]:
    """Restores the list of metrics after a test that registers or unregisters some."""
    from lulcbench.evaluation import _metric

    before = dict(_metric._METRICS)
    yield
    _metric._METRICS.clear()
    _metric._METRICS.update(before)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow one another without waiting, those of huggingface_hub as well."""
    from huggingface_hub.utils import _http

    monkeypatch.setattr(lulcbench.remote.retry, "wait", tenacity.wait_none())
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub on loopback that the real client talks to."""
    import huggingface_hub.constants as constants
    from huggingface_hub import HfApi, hf_api

    server = FakeHub()
    # The library reads these variables once, when it is first imported.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(hf_api.api, "endpoint", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert HfApi().endpoint == server.url
    yield server
    server.close()
