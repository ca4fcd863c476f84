"""Access to servers without what earlier tests left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from builders.readers import access, opening


@pytest.fixture
def fresh_access(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No token, key or open file of an earlier test."""
    for name in (
        "CDSE_USERNAME",
        "CDSE_PASSWORD",
        "CDSE_S3_ACCESS_KEY",
        "CDSE_S3_SECRET_KEY",
        "PC_SDK_SUBSCRIPTION_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(access, "_tokens", {})
    opening._kept.cache_clear()
    yield
    opening._kept.cache_clear()
