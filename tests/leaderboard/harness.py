"""What the board's tests share besides fixtures."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from fastapi.testclient import TestClient

from leaderboard.scoring.worker import Worker
from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.db import Database, Submission
from lulcbench.legend import legend
from lulcbench.predictions import PredictionWriter
from lulcbench.release import Release

CARD = {
    "name": "UNet",
    "authors": ["A. Author"],
    "code": "https://example.org/model",
    "sensors": ["landsat"],
    "training_data": ["train split"],
    "saw_scored_labels": False,
    "pretraining": "none",
    "parameters": 14_300_000,
    "compute": "none to speak of",
    "licence": "Apache-2.0",
}
UPLOAD = {"filename": "p.zip", "size": 3, "sha256": "0" * 64, "card": CARD}  # the request that begins an upload


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Poll until a condition holds; fail, rather than hang, where it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def expire(db: Database, submission: str) -> None:
    """The lease of a submission is over, or its pause before the next try, without waiting for it."""
    with db.write() as session:
        found = session.get(Submission, submission)
        assert found is not None
        found.lease_until = None


def start_web(log: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a web process (``python -m leaderboard … web``) on a free port that it takes itself; it, and its address.

    Args:
        log: a file for what it says.
        arguments: those before ``web``.
    """
    command = [sys.executable, "-m", "leaderboard", *arguments, "web", "--port", "0"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file)

    def address() -> str | None:
        assert process.poll() is None, log.read_text()
        found = re.search(r"Leaderboard at (http://[\d.:]+) ", log.read_text())
        return found and found[1]

    wait_until(address, "the web process to start")
    url = address()
    assert url
    assert httpx2.get(f"{url}/about", timeout=60).status_code == 200
    return process, url


def predict(path: Path, root: Path, noise: float, seed: int, probabilities: bool = False) -> Path:
    """Predictions that are right except for a share of the pixels."""
    release = Release.open(root)
    tiles = release.tiles("test")
    rng, codes = np.random.default_rng(seed), np.array(legend().codes(4), np.uint16)
    with PredictionWriter(path, release, "test", 2018, probabilities=probabilities) as writer:
        for row, tile in zip(release.manifest.rows("test"), tiles.ids, strict=True):
            labels = release.labels("test", 2018, [row])[0]
            known = np.isin(labels, codes)
            wrong = ~known | (rng.random(labels.shape) < noise)
            predicted = np.where(wrong, rng.choice(codes, labels.shape), labels)
            if not probabilities:
                writer.write(tile, predicted)
                continue
            share = np.full((len(codes), 96, 96), 0.3 / (len(codes) - 1), np.float32)
            np.put_along_axis(share, legend().encode(predicted, 4)[None].astype(int), 0.7, 0)
            writer.write(tile, predicted, share)
    return path


@dataclass
class Service:
    """A board in this process, with what a test needs to speak to it."""

    settings: Settings
    client: TestClient
    db: Database
    tokens: dict[str, str]

    def headers(self, who: str = "ours") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[who]}"}

    def begin(self, content: bytes, who: str = "ours", filename: str = "predictions.zip", **card: Any) -> Any:
        body = {
            "filename": filename,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "card": CARD | card,
        }
        return self.client.post("/api/v1/uploads", json=body, headers=self.headers(who))

    def submit(self, path: Path, who: str = "ours", **card: Any) -> str:
        """Upload a file in pieces and complete it; the submission id."""
        content = path.read_bytes()
        state = self.begin(content, who, **card).json()
        url = f"/api/v1/uploads/{state['upload_id']}"
        for at in range(0, len(content), state["chunk_size"]):
            piece = content[at : at + state["chunk_size"]]
            answer = self.client.put(url, params={"offset": at}, content=piece, headers=self.headers(who))
            assert answer.json() == {"offset": at + len(piece)}
        answer = self.client.post(f"{url}/complete", headers=self.headers(who))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["submission_id"])

    def status(self, submission: str, who: str = "ours") -> dict[str, Any]:
        answer = self.client.get(f"/api/v1/submissions/{submission}", headers=self.headers(who))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def score(self) -> bool:
        return Worker(self.db, self.settings).step()

    def transport(self) -> httpx2.MockTransport:
        """For ``lulcbench``'s own client: carries its requests to this board."""

        def forward(request: httpx2.Request) -> httpx2.Response:
            answer = self.client.request(
                request.method, request.url.raw_path.decode(), content=request.read(), headers=dict(request.headers)
            )
            return httpx2.Response(answer.status_code, content=answer.content)

        return httpx2.MockTransport(forward)

    def rows(self, **choice: Any) -> list[dict[str, Any]]:
        answer = self.client.get("/api/v1/leaderboard", params=choice)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["rows"])


def make_entry(
    results: dict[str, Any], number: int, kind: str = "good", team: str = "Ours", **card: Any
) -> ledger.Entry:
    """A ledger entry as the worker would have made it, a day after the one before."""
    at = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=number)
    return ledger.Entry(
        submission=f"{number:020x}",
        team=team,
        tier="rescored",
        filename=f"{number}.zip",
        sha256=hashlib.sha256(f"{number} {kind}".encode()).hexdigest(),  # other predictions in every entry
        card=CARD | {"name": f"Model {number}"} | card,
        submitted_at=at,
        scored_at=at,
        **results[kind],
    )


def form_token(page: str) -> str:
    """The token against forged requests in the forms of a page."""
    found = re.search(r'form_token[="a-z ]+([0-9a-f]{64})', page)
    assert found
    return found[1]


def sign_in(service: Service, who: str = "ours") -> str:
    """Sign the client in; the form token."""
    page = service.client.get("/login").text
    service.client.post("/login", data={"token": service.tokens[who], "form_token": form_token(page)})
    return form_token(service.client.get("/submit").text)
