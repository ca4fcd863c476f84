"""A board on a small real release, with real predictions, scored by the real scorer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from leaderboard.scoring.job import score_file
from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.accounts import create_token
from leaderboard.store.records import replay
from leaderboard.web.app import create_app
from tests.leaderboard.harness import Service, make_entry, predict


@pytest.fixture(scope="session")
def predictions(release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two files of predictions: ``good`` with probabilities, ``poor`` without."""
    folder = tmp_path_factory.mktemp("predictions")
    return {
        "good": predict(folder / "good.zip", release_root, 0.2, 0, probabilities=True),
        "poor": predict(folder / "poor.zip", release_root, 0.6, 1),
    }


@pytest.fixture(scope="session")
def results(
    release_root: Path, predictions: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the scorer says of each file."""
    media = tmp_path_factory.mktemp("media")
    return {name: score_file(path, [release_root], media) for name, path in predictions.items()}


@pytest.fixture
def settings(tmp_path: Path, release_root: Path) -> Settings:
    return Settings(
        data=tmp_path / "data",
        ledger=tmp_path / "ledger",
        releases=(release_root,),
        public_url="http://testserver",
        cache_s=0,
        daily_submissions=50,
        chunk_bytes=20_000,
    )


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    app = create_app(settings)
    db = app.state.db
    tokens = {
        "ours": create_token(db, "Ours"),
        "theirs": create_token(db, "Theirs"),
        "admin": create_token(db, "Operators", "admin"),
    }
    with TestClient(app, raise_server_exceptions=True, follow_redirects=False) as client:
        yield Service(settings, client, db, tokens)


@pytest.fixture
def fill(service: Service, results: dict[str, Any]) -> Callable[..., list[str]]:
    """Adds results to the board through the ledger, without scoring them again."""

    def put(*cards: dict[str, Any]) -> list[str]:
        ids = []
        for number, card in enumerate(cards, start=1):
            kind, team = card.pop("kind", "good"), card.pop("team", "Ours")
            ids.append(
                ledger.write(service.settings.ledger, make_entry(results, number, kind, team, **card)).submission
            )
        replay(service.db, service.settings)
        return ids

    return put
