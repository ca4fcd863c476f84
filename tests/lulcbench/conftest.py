"""Fixtures of the tests that download."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import lulcbench.hub
import lulcbench.sources
from builders.publish import publish
from lulcbench.release import Release
from tests.lulcbench.fake_hub import FakeHub


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow one another without waiting."""
    for module in (lulcbench.hub, lulcbench.sources):
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
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    assert HfApi().endpoint == server.url
    yield server
    server.close()


@pytest.fixture
def published(hub: FakeHub, release_root: Path) -> FakeHub:
    """The hub with the small release on it, as lulcbench/tiny."""
    assert publish(release_root, "hf://lulcbench/tiny") == f"hf://lulcbench/tiny@v{Release.load(release_root).version}"
    return hub
