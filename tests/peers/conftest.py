"""Tests of tools that users combine with lulcbench; they run in an environment of their own (make test-peers)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips them elsewhere, also those whose tool the project's environment has: importing it takes seconds."""
    if importlib.util.find_spec("albumentations") is None:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="not in this environment: make test-peers"))
