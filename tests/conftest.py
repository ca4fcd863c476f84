"""Fixtures that all tests share."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import lulcbench.download._transfers
import lulcbench.download.downloader
import lulcbench.remote.stores
from tests.lulcbench.fake_hub import TOKEN, FakeHub

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


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data (see CONTRIBUTING.md); tests that need it skip where it is absent."""
    folder = os.environ.get("LULCBENCH_REAL_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("LULCBENCH_REAL_DATA names no folder with real data")
    return Path(folder)


@pytest.fixture(scope="session")
def release_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated release (8 tiles, Landsat 2012 and 2018, Sentinel-2 2018), built by the real builder.

    All tests share it: whoever alters something works on a copy.
    """
    root = tmp_path_factory.mktemp("tiny") / "release"
    recipe = Path(__file__).parent / "recipes" / "tiny.toml"
    command = [sys.executable, "-m", "builders", "build", str(recipe), "--out", str(root)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr[-3000:]
    return root


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Draws from global generators depend on no other test."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow one another without waiting."""
    for module in (lulcbench.download.downloader, lulcbench.remote.stores, lulcbench.download._transfers):
        monkeypatch.setattr(module, "wait", lambda attempt, error: None)


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
