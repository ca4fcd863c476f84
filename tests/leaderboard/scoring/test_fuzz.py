"""Damaged and forged archives, through the running service: each is scored correctly or refused with a reason."""

from __future__ import annotations

import gzip
import io
import json
import random
import stat
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leaderboard.scoring.job import answer, score_file
from leaderboard.scoring.worker import Worker
from leaderboard.store.db import Upload
from leaderboard.store.queue import Job
from leaderboard.store.uploads import predictions_path
from lulcbench.legend import legend
from tests.leaderboard.harness import Service

pytestmark = pytest.mark.slow

Members = list[tuple[str, bytes]]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    [
        "../x",
        "/etc/passwd",
        "codes/c/9/0/0/0",
        "codes/c/00/0/0/0",
        "probabilities/zarr.json",
        "x.pkl",
        "a\0b",
        "zarr.json/",
    ]
)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Bytes of the file altered, inserted, cut, or all made up."""
    kind = draw(st.sampled_from(["flip", "insert", "cut", "end", "noise"]))
    at = draw(st.integers(0, len(good) - 1))
    some = draw(st.binary(min_size=1, max_size=64))
    if kind == "flip":
        return good[:at] + some + good[at + len(some) :]
    if kind == "insert":
        return good[:at] + some + good[at:]
    if kind == "cut":
        return good[:at] or b"x"
    return good + some if kind == "end" else some


@st.composite
def rewritten(draw: st.DrawFn, members: Members) -> bytes:
    """A sound zip whose members, or what is said of them, are wrong."""
    members = list(members)
    at = draw(st.integers(0, len(members) - 1))
    name, content = members[at]
    kind = draw(
        st.sampled_from(
            ["drop", "twice", "rename", "extra", "random", "bomb", "short", "json", "link", "deflate", "codes"]
        )
    )
    entry = zipfile.ZipInfo(name)
    if kind == "drop":
        del members[at]
    elif kind == "twice":
        members.append((name, content))
    elif kind == "rename":
        members[at] = (draw(NAMES), content)
    elif kind == "extra":
        members.append((draw(NAMES), draw(st.binary(max_size=100))))
    elif kind == "random":
        members[at] = (name, draw(st.binary(max_size=300)))
    elif kind in ("bomb", "short"):
        members[at] = (name, gzip.compress(bytes(draw(st.integers(10**6, 10**7)) if kind == "bomb" else 100), 9))
    elif kind == "json":
        at = next(i for i, (one, _) in enumerate(members) if one.endswith("zarr.json"))
        name, content = members[at]
        meta = json.loads(content)
        meta[draw(st.sampled_from([*meta, "surprise"]))] = draw(JSON_VALUES)
        members[at] = (name, json.dumps(meta).encode())
    elif kind == "codes":
        at = next(i for i, (one, _) in enumerate(members) if one.startswith("codes/c/"))
        pixels = np.frombuffer(gzip.decompress(members[at][1]), "<u2").copy()
        pixels[draw(st.integers(0, len(pixels) - 1))] = draw(st.sampled_from([0, 1, 65535, 1111, 1121, 2110]))
        members[at] = (members[at][0], gzip.compress(pixels.tobytes()))
    if kind == "link":
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for one, data in members:
            info = entry if kind == "link" and one == name else zipfile.ZipInfo(one)
            info.compress_type = zipfile.ZIP_DEFLATED if kind == "deflate" and one == name else zipfile.ZIP_STORED
            archive.writestr(info, data)
    return made.getvalue()


def accuracy(levels: dict[str, Any]) -> float:
    return float(levels["4"]["metrics"]["overall_accuracy"]["value"])


def map_of(path: Path) -> np.ndarray | None:
    """The codes by plain means, or None."""
    try:
        with zipfile.ZipFile(path) as archive:
            chunks = sorted(name for name in archive.namelist() if name.startswith("codes/c/"))
            return np.stack([np.frombuffer(gzip.decompress(archive.read(name)), "<u2") for name in chunks])
    except Exception:  # damage shows in many ways; if the service reads the file after all, None fails the test
        return None


@pytest.fixture
def in_process(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring in this process: faster, and any unexpected error fails the test."""

    def score(worker: Worker, job: Job, folder: Path, renew: bool = True) -> dict[str, Any]:
        media = folder / "media"
        media.mkdir()
        path = predictions_path(worker.settings, job.submission_id)
        return json.loads(json.dumps(answer(score_file, path, list(worker.settings.releases), media)))

    monkeypatch.setattr(Worker, "score", score)
    service.settings = service.settings.model_copy(update={"daily_submissions": 10_000})
    service.client.app.state.settings = service.settings


def memory(name: str) -> int:
    """A line of ``/proc/self/status`` in KiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


@pytest.mark.usefixtures("in_process")
@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile, when the test writes a member twice
def test_fuzzed_archives(service: Service, predictions: dict[str, Path], results: dict[str, Any]) -> None:
    good = predictions["poor"].read_bytes()
    with zipfile.ZipFile(predictions["poor"]) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    expected = results["poor"]["scores"]
    original = map_of(predictions["poor"])
    seen: set[str] = set()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(content=damaged(good) | rewritten(members))
    def check(content: bytes) -> None:
        path = service.settings.data / "fuzzed.zip"
        path.write_bytes(content)
        submission = service.submit(path)
        assert service.score()
        state = service.status(submission)
        seen.add(state["status"])
        if state["status"] == "refused":
            assert state["error"]["what"].isprintable()
            assert 10 < len(state["error"]["what"]) < 2000
            assert state["error"]["remedy"]
            return
        assert state["status"] == "scored"
        found = map_of(path)
        assert found is not None
        levels = state["scores"]["levels"]
        if np.array_equal(found, original):
            assert levels == expected["levels"]
        else:  # one pixel differs
            assert np.isin(found, legend().codes(4)).all()
            assert abs(accuracy(levels) - accuracy(expected["levels"])) <= 2 / found.size

    # The peak of this test alone: other tests may have run in this process before.
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    check()
    assert seen == {"refused", "scored"}
    assert memory("VmHWM") - before < 3 * 2**20
    assert {path.name for path in service.settings.data.iterdir()} <= {
        *("uploads", "predictions", "media", "secret.key", "fuzzed.zip"),
        *("board.sqlite", "board.sqlite-wal", "board.sqlite-shm"),
    }
    with service.db.read() as session:
        assert session.query(Upload).count() >= 60


MANY = """
from leaderboard.scoring import job
def scorer(folder, roots, media):
    return {path.name: job.answer(job.score_file, path, roots, media) for path in folder.glob("*.zip")}
job.main(scorer)
"""


def mutated(members: Members, chance: random.Random) -> bytes:
    """A zip whose checksums are right, around members that somebody altered with care."""
    made_of = list(members)
    for at in chance.sample(range(len(members)), chance.randint(1, 3)):
        name, content = members[at]
        altered = bytearray(content)
        kind = chance.choice(["byte", "gzip header", "cut", "tail", "pixel", "size", "swap"])
        if kind in ("pixel", "size") and "/c/" in name:
            altered = bytearray(gzip.decompress(content))
            if kind == "size":
                altered += bytes(chance.choice([1, 2, 2**20]))
            else:
                altered[chance.randrange(len(altered))] = chance.randrange(256)
            altered = bytearray(gzip.compress(altered, chance.randrange(10)))
        elif kind == "gzip header":
            altered[chance.randrange(10)] = chance.randrange(256)
        elif kind == "cut":
            del altered[chance.randrange(len(altered)) :]
        elif kind == "tail":
            altered += chance.randbytes(chance.randint(1, 40))
        elif kind == "swap":
            altered = bytearray(members[chance.randrange(len(members))][1])
        else:
            altered[chance.randrange(len(altered))] = chance.randrange(256)
        made_of[at] = (name, bytes(altered))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, content in made_of:
            archive.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


@pytest.mark.slow
def test_archives_with_forged_checksums_in_a_confined_process(
    service: Service, predictions: dict[str, Path], tmp_path: Path
) -> None:
    """Nothing ends the process: each of 300 archives is scored or refused under the limits of the service."""
    folder, media, out = tmp_path / "archives", tmp_path / "media", tmp_path / "answer.json"
    folder.mkdir()
    media.mkdir()
    chance = random.Random(20261121)
    for kind, count in (("poor", 270), ("good", 30)):
        with zipfile.ZipFile(predictions[kind]) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
        for number in range(count):
            (folder / f"{kind}{number}.zip").write_bytes(mutated(members, chance))
    s = service.settings
    limits = {"memory": s.scoring_memory_bytes, "cpu": s.scoring_cpu_s, "file": s.scoring_file_bytes, "parent": 0}
    arguments = [str(folder), str(out), str(media), json.dumps(limits), *map(str, s.releases)]
    done = subprocess.run([sys.executable, "-c", MANY, *arguments], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(out.read_bytes())["result"]
    assert len(answers) == 300
    kinds = Counter(next(iter(one)) for one in answers.values())
    assert set(kinds) == {"refused", "result"}
    assert kinds["refused"] > 200
    for name, one in answers.items():
        if "result" in one:
            found = map_of(folder / name)
            assert found is not None, name
            assert np.isin(found, legend().codes(4)).all(), name
        else:
            assert one["refused"]["what"].isprintable(), name
