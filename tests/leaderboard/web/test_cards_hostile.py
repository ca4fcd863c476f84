"""Model cards that are made to bring the web process down, sent to a real one on loopback."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from leaderboard.settings import Settings
from leaderboard.store.accounts import create_token
from leaderboard.store.db import Database
from tests.leaderboard.harness import CARD, start_web

DOTTED = "a" + ".a" * 24_000 + "=1"
TOML = {
    "dotted key of 48 kB": DOTTED,
    "dotted key of 200 kB": "a" + ".a" * 100_000 + "=1",
    "dotted key of 900 kB": "a" + ".a" * 450_000 + "=1",
    "long header, many keys": f"[a{'.a' * 12_000}]\n" + "\n".join(f"k{i}=1" for i in range(4_000)),
    "nested arrays": "name = " + "[" * 30_000 + "]" * 30_000,
    "nested inline tables": "name = " + "{a=" * 15_000,
    "integer of 6,000 digits": "parameters = " + "1" * 6_000,
    "integer of 60,000 digits": "parameters = " + "1" * 60_000,
    "9,000 keys": "\n".join(f"{i:x}=1" for i in range(9_000)),
    "10,000 tables": "[[a]]\n" * 10_000,
    "no text": "\0" * 60_000,
}
JSON: dict[str, Any] = {
    "nested arrays": '{"card": ' + "[" * 120_000 + "]" * 120_000 + "}",
    "nested objects": '{"card": ' + '{"a":' * 40_000 + "1" + "}" * 40_000 + "}",
    "integer of 6,000 digits": '{"card": {"parameters": ' + "1" * 6_000 + "}}",
    "30,000 keys": json.dumps({"card": {f"{i:x}": 1 for i in range(20_000)}}),
    "unknown keys": json.dumps({f"{i:x}": 1 for i in range(20_000)}),
    "half of a surrogate pair": '{"card": {"name": "\\ud800"}}',
}


class Web:
    """A web process of its own, and a browser and a client that have a token."""

    def __init__(self, settings: Settings) -> None:
        folders = ("--data", str(settings.data), "--ledger", str(settings.ledger))
        self.process, self.url = start_web(settings.data.parent / "web.log", *folders)
        db = Database(settings.url)
        self.token = create_token(db, "Ours")
        db.close()
        self.browser = httpx2.Client(base_url=self.url)
        self.browser.post("/login", data={"token": self.token, "form_token": self.form_token("/login")})

    def form_token(self, page: str) -> str:
        found = re.search(r'name="form_token" value="([0-9a-f]{64})"', self.browser.get(page).text)
        assert found
        return found[1]

    def peak(self) -> int:
        """MiB of memory that the process ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024  # type: ignore[index]

    def seconds(self) -> float:
        """Of the processor's time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


@pytest.fixture
def web(settings: Settings) -> Iterator[Web]:
    site = Web(settings.model_copy(update={"releases": ()}))
    try:
        yield site
    finally:
        site.browser.close()
        site.process.kill()
        site.process.wait()


def by_text(web: Web, card: str) -> httpx2.Response:
    url = f"/submit?form_token={web.form_token('/submit')}"
    return web.browser.post(url, data={"card": card}, files={"predictions": ("p.zip", b"PK")})


def by_file(web: Web, card: str) -> httpx2.Response:
    url = f"/submit?form_token={web.form_token('/submit')}"
    return web.browser.post(url, files={"predictions": ("p.zip", b"PK"), "card_file": ("card.toml", card.encode())})


@pytest.mark.slow
def test_no_card_costs_the_web_process_more_than_an_answer(web: Web) -> None:
    """Under the limits of the form (1 MiB of text) and of the interface (256 KiB); before, 48 kB took 2.4 GB."""
    ways: list[Callable[[Web, str], httpx2.Response]] = [by_text, by_file]
    good = "\n".join(f"{key} = {json.dumps(value)}" for key, value in CARD.items())
    assert by_text(web, good).status_code == 303  # also loads what a submission needs
    memory, seconds = web.peak(), web.seconds()
    for kind, card in TOML.items():
        for way in ways:
            answer = way(web, card)
            assert answer.status_code == 422, (kind, answer.status_code)
            assert "The model card" in answer.text, kind
    headers = {"Authorization": f"Bearer {web.token}", "Content-Type": "application/json"}
    for kind, body in JSON.items():
        answer = web.browser.post("/api/v1/uploads", content=body, headers=headers)
        assert answer.status_code in (400, 422), (kind, answer.status_code)
        assert set(answer.json()) == {"what", "remedy"}, kind
    assert web.peak() - memory < 150
    assert web.seconds() - seconds < 0.5 * (2 * len(TOML) + len(JSON))
    assert web.process.poll() is None
    assert by_text(web, good).status_code == 303
