"""Rescoring after an upgrade of the scorer, retention of predictions, and isolation of the scoring process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from leaderboard.scoring import isolation, job, sockets
from leaderboard.scoring.rescore import rescore
from leaderboard.scoring.worker import Worker
from leaderboard.store import ledger, standing
from leaderboard.store.db import Submission, now
from leaderboard.store.names import rename
from leaderboard.store.queue import Job
from leaderboard.store.records import replay, verify
from leaderboard.store.rescored import rescored_id
from leaderboard.store.standing import OPERATOR
from leaderboard.store.uploads import predictions_path
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.scores import SCORER_VERSION
from tests.leaderboard.harness import Service, make_entry


def older(service: Service, results: dict[str, Any], path: Path) -> str:
    """A result of an older scorer, whose predictions are kept."""
    entry = make_entry(results, 1, "good")
    scores = json.loads(json.dumps(entry.scores)) | {"scorer_version": "0.9.0"}
    entry = entry.model_copy(update={"scores": scores, "sha256": scores["predictions_sha256"], "tier": "reproduced"})
    ledger.write(service.settings.ledger, entry)
    replay(service.db, service.settings)
    kept = predictions_path(service.settings, entry.submission)
    kept.write_bytes(path.read_bytes())
    return entry.submission


@pytest.mark.slow
def test_kept_predictions_are_scored_again_into_the_table_of_this_scorer(
    service: Service, results: dict[str, Any], predictions: dict[str, Path]
) -> None:
    old = older(service, results, predictions["good"])
    worker = Worker(service.db, service.settings)
    ((name, new),) = rescore(worker)
    assert name == old
    (row,) = service.rows(level=4)
    (before,) = service.rows(level=4, scorer="0.9.0")  # stays in its own table
    assert (row["submission"], before["submission"]) == (new, old)
    assert row["scorer_version"] == results["good"]["scores"]["scorer_version"]
    for key in ("miou", "submitted", "team", "model", "tier"):
        assert row[key] == before[key]
    assert service.client.get(f"/submissions/{new}").text.count("<img") == 12
    assert predictions_path(service.settings, new).is_file()
    assert verify(service.db, service.settings) == ()
    assert list(rescore(worker)) == []
    with pytest.raises(LulcbenchError, match="no scored submission 'x'"):
        list(rescore(worker, ["x"]))


def test_an_interrupted_rescoring_adds_no_second_result(
    service: Service, results: dict[str, Any], predictions: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = older(service, results, predictions["good"])
    kill_after_the_ledger(service, results, old, monkeypatch)
    assert list(rescore(Worker(service.db, service.settings))) == []  # the result is added to the database
    assert len(service.rows(level=4)) == 1
    assert len(list(service.settings.ledger.rglob("[0-9a-f]*.json"))) == 2
    assert old in {row["submission"] for row in service.rows(level=4, scorer="0.9.0")}


def quick(service: Service, results: dict[str, Any], during: Callable[[], object] = lambda: None) -> Worker:
    """A worker whose scorer has its answer ready; ``during`` happens while it scores."""
    worker = Worker(service.db, service.settings)

    def score(_job: Job, folder: Path, renew: bool = True) -> dict[str, Any]:
        (folder / "media").mkdir()
        during()
        return {"result": json.loads(json.dumps(results["good"]))}

    worker.score = score  # type: ignore[method-assign]
    return worker


def test_what_is_withdrawn_while_it_is_scored_again_is_not_published(
    service: Service, results: dict[str, Any], predictions: dict[str, Path]
) -> None:
    old = older(service, results, predictions["good"])
    worker = quick(service, results, lambda: standing.withdraw(service.db, service.settings, OPERATOR, old))
    assert list(rescore(worker)) == [(old, "it was withdrawn")]
    assert len(list(service.settings.ledger.glob("*/*.json"))) == 2  # the result and its withdrawal
    assert [path.stem.partition(".")[0] for path in service.settings.predictions.iterdir()] == [old]
    assert list(service.settings.media.iterdir()) == []


def kill_after_the_ledger(service: Service, results: dict[str, Any], old: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Rescore, killed between ledger and database; the id of the result that only the ledger has."""
    written = ledger.write

    def killed(*given: Any) -> None:
        written(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            list(rescore(quick(service, results), [old]))
    new = rescored_id(old, SCORER_VERSION)
    assert ledger.find(service.settings.ledger, new) is not None
    return new


def test_a_withdrawal_holds_for_a_result_that_only_the_ledger_has(
    service: Service, results: dict[str, Any], predictions: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = older(service, results, predictions["good"])
    new = kill_after_the_ledger(service, results, old, monkeypatch)
    standing.withdraw(service.db, service.settings, OPERATOR, old)
    replay(service.db, service.settings)
    assert service.rows() == service.rows(scorer="0.9.0") == []
    with service.db.read() as session:
        assert session.get_one(Submission, new).status == "withdrawn"
    assert verify(service.db, service.settings) == ()


def test_a_name_is_replaced_in_a_result_that_only_the_ledger_has(
    service: Service, results: dict[str, Any], predictions: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = older(service, results, predictions["good"])
    new = kill_after_the_ledger(service, results, old, monkeypatch)
    rename(service.db, service.settings, "Ours", "Former team 1", ["X"])
    entry = ledger.find(service.settings.ledger, new)
    assert entry is not None
    assert (entry.team, entry.card["authors"]) == ("Former team 1", ["X"])
    replay(service.db, service.settings)
    assert {row["team"] for row in service.rows()} == {"Former team 1"}
    assert verify(service.db, service.settings) == ()


def test_names_that_are_replaced_while_a_file_is_scored_again_do_not_come_back(
    service: Service, results: dict[str, Any], predictions: dict[str, Path]
) -> None:
    old = older(service, results, predictions["good"])
    worker = quick(service, results, lambda: rename(service.db, service.settings, "Ours", "Former team 1", ["X"]))
    ((_, new),) = rescore(worker)
    entry = ledger.find(service.settings.ledger, new)
    assert entry is not None
    assert (entry.team, entry.card["authors"]) == ("Former team 1", ["X"])
    assert verify(service.db, service.settings) == ()
    assert {row["team"] for row in service.rows()} == {"Former team 1"}
    assert old != new


def test_a_rescored_result_follows_its_original(
    service: Service, results: dict[str, Any], predictions: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = older(service, results, predictions["good"])
    db, settings = service.db, service.settings
    ((_, new),) = rescore(quick(service, results))

    def states() -> list[tuple[str, str | None]]:
        with db.read() as session:
            both = [session.get_one(Submission, name) for name in (old, new)]
            return [(one.status, one.superseded_by) for one in both]

    standing.withdraw(db, settings, OPERATOR, old)
    assert states() == [("withdrawn", None)] * 2
    standing.undo(db, settings, OPERATOR, old)
    assert states() == [("scored", None)] * 2
    standing.withdraw(db, settings, OPERATOR, new)  # this one only, and for good
    standing.withdraw(db, settings, OPERATOR, old)
    standing.undo(db, settings, OPERATOR, old)
    assert states() == [("scored", None), ("withdrawn", None)]
    standing.undo(db, settings, OPERATOR, new)
    newer = ledger.write(settings.ledger, make_entry(results, 2)).submission
    replay(db, settings)
    standing.supersede(db, settings, OPERATOR, old, newer)
    assert states() == [("scored", newer)] * 2
    assert verify(db, settings) == ()
    # A later scorer scores originals only, so that each file has one result of each version.
    monkeypatch.setattr("leaderboard.scoring.rescore.SCORER_VERSION", "99.0.0")
    assert list(rescore(quick(service, results), [new])) == [(new, "it is a rescored result; name the original")]


def test_superseded_results_and_banned_teams_are_not_scored_again(
    service: Service, results: dict[str, Any], predictions: dict[str, Path]
) -> None:
    newer = service.submit(predictions["poor"])
    service.score()
    old = older(service, results, predictions["good"])
    worker = Worker(service.db, service.settings)
    with service.db.write() as session:
        team = session.get_one(Submission, old).team
        team.banned_at = now()
    assert list(rescore(worker)) == [(old, "its team is banned")]
    with service.db.write() as session:
        submission = session.get_one(Submission, old)
        submission.team.banned_at, submission.superseded_by = None, newer
    assert list(rescore(worker)) == []
    assert list(rescore(worker, [old])) == [(old, "it is superseded")]


@pytest.mark.slow
def test_rescoring_says_what_it_cannot_do(
    service: Service, results: dict[str, Any], predictions: dict[str, Path]
) -> None:
    old = older(service, results, predictions["good"])
    worker = Worker(service.db, service.settings)
    predictions_path(service.settings, old).write_bytes(b"no zip")
    ((_, why),) = rescore(worker, [old])
    assert why.startswith("not scored: ")
    predictions_path(service.settings, old).write_bytes(predictions["poor"].read_bytes())
    assert list(rescore(worker)) == [(old, "the kept predictions are not those that were submitted")]
    predictions_path(service.settings, old).unlink()
    assert list(rescore(worker)) == [(old, "its predictions are not kept")]
    assert service.rows(level=4) == service.rows(level=4, scorer="0.9.0")


def test_predictions_are_deleted_when_they_are_no_longer_kept(service: Service) -> None:
    states = {"scored": 40, "withdrawn": 8, "refused": 8}
    with service.db.write() as session:
        for number, (status, days) in enumerate(states.items(), start=1):
            for age in (days, 1):
                at = now() - timedelta(days=age)
                submission = Submission(
                    id=f"{number:010x}{age:010x}", team_id=1, status=status, tier="rescored", filename="p.zip",
                    sha256="0" * 64, card={}, created_at=at, finished_at=at, withdrawn_at=at,
                )  # fmt: skip
                session.add(submission)
                predictions_path(service.settings, submission.id).write_bytes(b"x")

    def left(days: int) -> set[str]:
        settings = service.settings.model_copy(update={"keep_predictions_days": days})
        Worker(service.db, settings).housekeep()
        return {path.name[:10] + ("old" if int(path.name[10:20], 16) > 1 else "") for path in folder.iterdir()}

    folder = service.settings.predictions
    scored, withdrawn, refused = (f"{number:010x}" for number in (1, 2, 3))
    assert left(0) == {scored, f"{scored}old", withdrawn, refused}
    assert left(30) == {scored, withdrawn, refused}
    with service.db.write() as session:  # rescored or withdrawn later: the date of submission counts
        for submission in session.scalars(select(Submission).where(Submission.status != "refused")):
            submission.created_at = now() - timedelta(days=40)
    assert left(30) == {refused}


def test_a_kernel_that_refuses_to_isolate_leaves_the_file_in_the_queue(
    service: Service, predictions: dict[str, Path]
) -> None:
    text = (
        "from leaderboard.scoring import job\n"
        "def refuse(*_): raise OSError(22, 'Invalid argument')\n"
        "job.isolate = refuse\njob.main()"
    )
    settings = service.settings.model_copy(update={"scoring_command": (sys.executable, "-c", text)})
    waiting = service.submit(predictions["good"])
    assert Worker(service.db, settings).step()
    assert service.status(waiting)["status"] == "queued"


def test_links_in_releases_lead_to_files_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"x")
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "shard").symlink_to(tmp_path / "store")
    assert job._targets([str(tmp_path / "release")]) == [(tmp_path / "store").resolve()]


PROBE = """
import socket, sys
from pathlib import Path
from leaderboard.scoring.isolation import code_folders, isolate
data, release, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
assert isolate([data / "predictions/mine.zip", release, *code_folders(data)], [data / "answer"])
def attempt(name, action):
    try:
        action()
        print(name, "done")
    except OSError as error:
        print(name, type(error).__name__)
attempt("own predictions", (data / "predictions/mine.zip").read_bytes)
attempt("release", (release / "manifest").read_bytes)
attempt("answer", lambda: (data / "answer/out").write_bytes(b"x"))
attempt("settings", Path("board.toml").read_bytes)
attempt("system", Path("/etc/passwd").read_bytes)
attempt("secret", (data / "secret.key").read_bytes)
attempt("other predictions", (data / "predictions/theirs.zip").read_bytes)
attempt("own changed", lambda: (data / "predictions/mine.zip").write_bytes(b"x"))
attempt("elsewhere", lambda: (data / "x").write_bytes(b"x"))
attempt("network", lambda: socket.create_connection(("127.0.0.1", port), timeout=5))
import lulcbench.evaluation.scores
print("imports done")
"""


@pytest.mark.skipif(isolation.version() < 4, reason="the kernel has no Landlock of version 4 or later")
def test_the_scoring_process_reaches_its_own_files_only(tmp_path: Path) -> None:
    data, release = tmp_path / "data", tmp_path / "release"
    for folder in (data / "predictions", data / "answer", release):
        folder.mkdir(parents=True)
    for path in (
        data / "secret.key",
        data / "predictions/mine.zip",
        data / "predictions/theirs.zip",
        release / "manifest",
    ):
        path.write_bytes(b"x")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-c", PROBE, str(data), str(release), str(listener.getsockname()[1])]
        (tmp_path / "board.toml").write_bytes(b"x")
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.stdout.split("\n")[:-1] == [
        "own predictions done",
        "release done",
        "answer done",
        "settings PermissionError",
        "system PermissionError",
        "secret PermissionError",
        "other predictions PermissionError",
        "own changed PermissionError",
        "elsewhere PermissionError",
        "network PermissionError",
        "imports done",
    ], done.stderr


SOCKETS = """
import os, socket, sys, threading
from leaderboard.scoring.sockets import close_sockets
one, other = socket.socketpair()
begin, answers = threading.Event(), []
def attempt(family, kind):
    try:
        socket.socket(family, kind).close()
        return "open"
    except PermissionError:
        return "closed"
everything = [(socket.AF_NETLINK, socket.SOCK_RAW)]
everything += [(family, kind) for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
def attempts():
    return [attempt(*pair) for pair in everything]
thread = threading.Thread(target=lambda: (begin.wait(), answers.extend(attempts())))
thread.start()
print(attempts()[0], close_sockets())
begin.set()
thread.join()
print(set(attempts()), set(answers))
if os.fork() == 0:
    os._exit(attempts() != ["closed"] * len(everything))
print(os.wait()[1])
try:
    socket.socketpair()
except PermissionError:
    one.send(b"x")
    print(other.recv(1))
import ctypes
print(ctypes.CDLL(None, use_errno=True).syscall(425, 4, None), ctypes.get_errno())
"""


@pytest.mark.skipif(not sockets.available(), reason="the kernel or the machine has no seccomp filters")
def test_the_scoring_process_creates_no_sockets() -> None:
    """Of no family, in no thread, in no child, and not by io_uring; those that are open remain."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", SOCKETS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    expected = ["open True", "{'closed'} {'closed'}", "0", "b'x'", "-1 1"]
    assert done.stdout.split("\n")[:-1] == expected, done.stderr


def test_packages_are_read_and_not_what_is_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    folders = isolation.code_folders(tmp_path / "runs" / "data")
    assert Path(isolation.__file__).parents[1] in folders
    assert tmp_path not in folders
    assert Path(__file__).parents[3] not in folders
