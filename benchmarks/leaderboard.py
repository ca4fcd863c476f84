# ruff: noqa: E402 (the imports below need the path that is set above them)
"""The leaderboard under load and with processes being killed, on the local machine (loopback).

    python benchmarks/leaderboard.py                     # 200 readers for 60 s, 10 submissions scored; 50 kills
    python benchmarks/leaderboard.py --seconds 10 --kills 5

There are two types of readers, each for ``--seconds``: *paced* ones request one page per second, like users; *greedy*
ones send the next request immediately, so that latency is the number of readers divided by the throughput. Both run at
the same time as the web process and a worker that scores; greedy readers then request a bare FastAPI "hello" on the
same server. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from sqlalchemy import select

ROOT = Path(__file__).parents[1]
sys.path[0] = str(ROOT)  # otherwise this folder comes first, and this file hides the package of the same name

from leaderboard.scoring.job import score_file
from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.accounts import create_token
from leaderboard.store.db import Audit, Database, Submission
from leaderboard.store.records import replay
from lulcbench.legend import legend
from lulcbench.predictions import PredictionWriter
from lulcbench.release import Release, Row

ROWS = 200
SUBMISSIONS = 10
TARGET_P99_MS = 250
QUERIES = ("", "level=1", "level=2", "level=3", "sort=weighted_f1", "sort=date", "sensor=landsat", "page=2", "q=7")
CARD = {
    "name": "Benchmark",
    "authors": ["A. Author"],
    "code": "https://example.org/",
    "sensors": ["landsat"],
    "training_data": ["none"],
    "saw_scored_labels": False,
    "pretraining": "none",
    "parameters": 1000,
    "compute": "none",
    "licence": "CC0-1.0",
}
HELLO = """
import sys
from fastapi import FastAPI
from leaderboard.server import make_server
app = FastAPI()
@app.get("/")
def hello():
    return {"hello": "world"}
make_server(app, "127.0.0.1", int(sys.argv[1])).run()
"""


class Board:
    """A board in separate processes, which can be killed."""

    def __init__(self, folder: Path, release: Path, workers: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = Settings(
            data=folder / "data",
            ledger=folder / "ledger",
            releases=(release,),
            daily_submissions=10_000,
            lease_s=3,
            max_attempts=1000,
        )
        self.settings.prepare()
        config = folder / "settings.toml"
        config.write_text("daily_submissions = 10000\nlease_s = 3\nmax_attempts = 1000\n")
        base = [sys.executable, "-m", "leaderboard", "--config", str(config), "--release", str(release)]
        base += ["--data", str(self.settings.data), "--ledger", str(self.settings.ledger)]
        self._web = [*base, "serve", "--port", str(self.port), "--workers", "0"]
        self._worker = [*base, "worker"]
        self.processes: list[tuple[list[str], subprocess.Popen[bytes]]] = []
        for command in [self._web, *[self._worker] * workers]:
            self.processes.append((command, start(command)))
        self.wait()
        self.db = Database(self.settings.url)
        self.token = create_token(self.db, "Benchmark")

    def wait(self) -> None:
        """Wait until the web process answers."""
        wait_for(self.url + "/about")

    def kill_one(self, chance: random.Random) -> str:
        """Send SIGKILL to a random process and start it again; returns ``web`` or ``worker``."""
        at = chance.randrange(len(self.processes))
        command, process = self.processes[at]
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.processes[at] = (command, start(command))
        return "web" if command is self._web else "worker"

    def web_peak(self) -> int:
        """Peak of the resident memory, in bytes, of the web process (its supervisor has some on top)."""
        supervisor = self.processes[0][1].pid
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        states = [Path(f"/proc/{pid}/status").read_text() for pid in children]
        return max(int(state.split("VmHWM:")[1].split()[0]) * 1024 for state in states)

    def close(self) -> None:
        """Kill all processes."""
        for _, process in self.processes:
            process.kill()
            process.wait()
        self.db.close()

    def submit(self, content: bytes, patience: float = 600) -> str:
        """Upload a file and queue it, retrying after broken connections; returns the id of the accepted submission."""
        headers = {"Authorization": f"Bearer {self.token}"}
        body = {"filename": "b.zip", "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "card": CARD}
        upload, done, deadline = "", "", time.monotonic() + patience
        with httpx2.Client(base_url=self.url, headers=headers, timeout=20) as client:
            while not done:
                if time.monotonic() > deadline:
                    raise TimeoutError("the board does not take the submission")
                try:
                    if not upload:
                        upload = client.post("/api/v1/uploads", json=body).json()["upload_id"]
                    path = f"/api/v1/uploads/{upload}"
                    at = client.get(path).json()["offset"]
                    if at < len(content):
                        client.put(path, params={"offset": at}, content=content[at : at + 65536])
                    else:
                        done = client.post(f"{path}/complete").json()["submission_id"]
                except (httpx2.TransportError, KeyError, ValueError):
                    time.sleep(0.1)
        return done


def free_port() -> int:
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a process of this repository."""
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603


def wait_for(url: str) -> None:
    """Wait until a URL answers."""
    for _ in range(600):
        with contextlib.suppress(httpx2.TransportError):
            httpx2.get(url)
            return
        time.sleep(0.05)
    raise TimeoutError(f"{url} does not answer")


async def read_pages(port: int, readers: int, seconds: float, pause: float) -> tuple[list[float], int]:
    """Latencies in seconds of all requests of ``readers`` keep-alive connections, and the number of errors."""
    latencies: list[float] = []
    errors = 0
    begun = time.perf_counter()

    async def reader(number: int) -> None:
        nonlocal errors
        chance = random.Random(number)  # noqa: S311
        await asyncio.sleep(chance.random() * min(pause or 0.2, seconds))
        stream, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() - begun < seconds:
            query = chance.choice(QUERIES)
            asked = time.perf_counter()
            writer.write(f"GET /?{query} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n".encode())
            try:
                head = await stream.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await stream.readexactly(length)
            except (OSError, asyncio.IncompleteReadError, IndexError):
                errors += 1
                stream, writer = await asyncio.open_connection("127.0.0.1", port)
                continue
            latencies.append(time.perf_counter() - asked)
            if b" 200 " not in head[:16]:
                errors += 1
            if pause:
                await asyncio.sleep(chance.uniform(0.5, 1.5) * pause)
        writer.close()

    await asyncio.gather(*(reader(number) for number in range(readers)))
    return latencies, errors


def summary(latencies: list[float], errors: int, seconds: float) -> dict[str, Any]:
    """Throughput and quantiles of latency."""
    p50, p99, worst = (round(1000 * float(v), 1) for v in np.quantile(latencies, (0.5, 0.99, 1)))
    rate = round(len(latencies) / seconds)
    return {"requests_per_second": rate, "p50_ms": p50, "p99_ms": p99, "max_ms": worst, "errors": errors}


def load(folder: Path, release: Path, content: bytes, readers: int, seconds: float) -> dict[str, Any]:
    """Measure readers while submissions are scored, and then readers of a bare hello."""
    board = Board(folder, release, workers=1)
    fill(board, folder)
    busy = round(os.getloadavg()[0], 1)  # other load on the machine affects the results
    report: dict[str, Any] = {"readers": readers, "seconds": seconds, "rows": ROWS, "load_average_before": busy}
    try:
        for name, pause in (("paced", 1.0), ("greedy", 0.0)):
            accepted: list[str] = []
            sender = threading.Thread(
                target=lambda sent=accepted: sent.extend(board.submit(content) for _ in range(SUBMISSIONS))
            )
            sender.start()
            requests = asyncio.run(read_pages(board.port, readers, seconds, pause))
            sender.join()
            report[name] = summary(*requests, seconds)
            with board.db.read() as session:
                states = Counter(session.scalars(select(Submission.status).where(Submission.id.in_(accepted))))
            report[name]["scored_meanwhile"] = states["scored"]
            say(f"{name}: {report[name]}")
        report["pages_read"] = crawl(board)
        report["web_peak_mib"] = round(board.web_peak() / 2**20)
    finally:
        board.close()
    port = free_port()
    hello = start([sys.executable, "-c", HELLO, str(port)])
    try:
        wait_for(f"http://127.0.0.1:{port}/")
        requests = asyncio.run(read_pages(port, readers, min(seconds, 15), 0))
        report["hello"] = summary(*requests, min(seconds, 15))
    finally:
        hello.kill()
        hello.wait()
    report["vs_hello"] = round(report["greedy"]["requests_per_second"] / report["hello"]["requests_per_second"], 3)
    return report


def crawl(board: Board) -> int:
    """Read every page and table of the board once, and comparisons, so that its caches are full; returns how many."""
    names = [f"{number:020x}" for number in range(ROWS)]
    paths = ["/feed.atom", "/ledger", "/history", "/policy", "/docs", "/api/v1/openapi.json"]
    paths += [f"/parts?level={level}&q={number}" for level in (1, 2, 3, 4) for number in range(25)]
    paths += [f"/submissions/{name}" for name in names]
    paths += [f"/submissions/{name}/confusion-{level}.csv" for name in names for level in (1, 2, 3, 4)]
    paths += [f"/compare?id={names[0]}&id={name}" for name in names[1:51]]
    with httpx2.Client(base_url=board.url, timeout=60) as client:
        for path in paths:
            client.get(path).raise_for_status()
    return len(paths)


def fill(board: Board, folder: Path) -> None:
    """Add rows to the board through the ledger, as a rebuild does."""
    media = folder / "media"
    media.mkdir()
    result = score_file(folder / "predictions.zip", list(board.settings.releases), media)
    first = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(ROWS):
        at = first + timedelta(hours=number)
        entry = ledger.Entry(
            submission=f"{number:020x}",
            team=f"Team {number % 17}",
            tier="rescored",
            filename="b.zip",
            sha256=f"{number:064x}",  # of the same predictions, the table shows the earliest row only
            card=CARD | {"name": f"Model {number}"},
            submitted_at=at,
            scored_at=at,
            **result,
        )
        ledger.write(board.settings.ledger, entry)
    replay(board.db, board.settings)


def faults(folder: Path, release: Path, content: bytes, kills: int, seed: int) -> dict[str, Any]:
    """Kill web and worker processes at random while submissions arrive; then count the states of the submissions."""
    board = Board(folder, release, workers=2)
    chance = random.Random(seed)  # noqa: S311
    killed: Counter[str] = Counter()
    promised: list[str] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            promised.append(board.submit(content))
            stop.wait(0.3)

    senders = [threading.Thread(target=send) for _ in range(2)]
    try:
        for sender in senders:
            sender.start()
        for _ in range(kills):
            time.sleep(chance.uniform(0.5, 5))
            killed[board.kill_one(chance)] += 1
        stop.set()
        for sender in senders:
            sender.join()
        board.wait()
        deadline = time.monotonic() + 30 + 4 * len(promised)
        while time.monotonic() < deadline and waiting(board):
            time.sleep(0.5)
        with board.db.read() as session:
            states = Counter(session.scalars(select(Submission.status)))
            lines = session.scalars(select(Audit.subject).where(Audit.action == "score.finish"))
            finished = Counter(lines)
            shown = set(session.scalars(select(Submission.id).where(Submission.status == "scored")))
    finally:
        stop.set()
        board.close()
    recorded = {entry.submission for entry in ledger.load(board.settings.ledger).entries}
    return {
        "kills": dict(killed),
        "seed": seed,
        "promised": len(promised),
        "states": dict(states),
        "lost": len(set(promised) - shown),
        "scored_twice": sum(1 for n in finished.values() if n > 1),
        "half_visible": len(shown ^ recorded),
    }


def waiting(board: Board) -> int:
    """Number of submissions that are queued or being scored."""
    with board.db.read() as session:
        query = select(Submission.id).where(Submission.status.in_(("queued", "scoring")))
        return len(session.scalars(query).all())


def predict(path: Path, root: Path) -> bytes:
    """Write predictions that are partly correct; returns the content of the file."""
    release = Release.open(root)
    year = release.manifest.label_source("luisa").years[-1]
    tiles = release.tiles("test")
    chance, codes = np.random.default_rng(0), np.array(legend().codes(4), np.uint16)
    with PredictionWriter(path, release, "test", year) as writer:
        for row, tile in zip(map(Row, release.manifest.rows("test")), tiles.ids, strict=True):
            labels = release.labels("test", year, [row])[0]
            wrong = ~np.isin(labels, codes) | (chance.random(labels.shape) < 0.4)
            writer.write(tile, np.where(wrong, chance.choice(codes, labels.shape), labels))
    return path.read_bytes()


def say(text: str) -> None:
    """Print progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run the benchmarks selected on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path, help="root of a release; by default the tests' tiny one is built")
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        release = options.release or folder / "release"
        if options.release is None:
            recipe = ROOT / "tests" / "recipes" / "tiny.toml"
            build = [sys.executable, "-m", "builders", "build", str(recipe), "--out", str(release)]
            subprocess.run(build, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        report: dict[str, Any] = {}
        if options.seconds:
            (folder / "load").mkdir()
            content = predict(folder / "load" / "predictions.zip", release)
            report["load"] = load(folder / "load", release.resolve(), content, options.readers, options.seconds)
            say(str(report["load"]))
        if options.kills:
            (folder / "faults").mkdir()
            content = predict(folder / "faults" / "predictions.zip", release)
            report["faults"] = faults(folder / "faults", release.resolve(), content, options.kills, options.seed)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
