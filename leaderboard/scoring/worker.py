"""The worker: takes submissions from the queue and scores each in a process with limited resources."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from leaderboard.scoring import isolation, sockets
from leaderboard.scoring.job import TEMPORARY_FAILURE
from leaderboard.settings import Settings
from leaderboard.store import ledger, queue, uploads
from leaderboard.store.db import Database, Submission, Upload, now
from leaderboard.store.queue import Job, LostLease, NoAccess
from leaderboard.store.uploads import partial_path, predictions_path
from lulcbench._parsing import parse_json
from lulcbench.errors import LulcbenchError

log = logging.getLogger(__name__)
POLL_S = 0.5
BACKOFF_S = 5.0
MAX_BACKOFF_S = 600.0
DAMAGED_BACKOFF_S = 60.0
STALE_UPLOAD_DAYS = 7
UNFINISHED_DAYS = 2
SCRATCH = ".scoring-"
MAX_ANSWER_BYTES = 64 * 2**20


class Worker:
    """Scores submissions one after the other. Any number of workers may share a database.

    Args:
        db: the database.
        settings: limits and folders.
    """

    def __init__(self, db: Database, settings: Settings) -> None:
        self.db = db
        self.settings = settings
        self._had_room = True
        self.owner = f"{socket.gethostname()[:32]}:{os.getpid()}:{secrets.token_hex(4)}"

    def run(self) -> None:
        """Work until the process is ended; waits while the database is unavailable."""
        if self.settings.isolate_scoring and isolation.version() < 4:
            log.warning("the scoring process is not isolated from files and network: the kernel has no Landlock 4")
        if self.settings.isolate_scoring and not sockets.available():
            log.warning("the scoring process can create sockets: the kernel or the machine has no seccomp filters")
        housekept = 0.0
        while True:
            try:
                if time.monotonic() - housekept > 3600 or not housekept:
                    self.housekeep()
                    housekept = time.monotonic()
                if not self.step():
                    time.sleep(POLL_S)
            except OperationalError as error:
                log.warning("database: %s; trying again", error.orig)
                time.sleep(BACKOFF_S / 5)

    def step(self) -> bool:
        """Score one submission. False if the queue is empty or the disk too full."""
        if not self.has_room():
            return False
        job = queue.claim(self.db, self.settings, self.owner)
        if job is None:
            return False
        with contextlib.suppress(LostLease):
            try:
                if not queue.may_publish(self.db, job):
                    raise NoAccess(job.team)
                self._handle(job)
            except NoAccess:
                what = "The access of the team has ended, so its submissions are not scored."
                queue.refuse(self.db, self.owner, job, what, "Ask the operator of the board.")
        return True

    def housekeep(self) -> None:
        """Delete files that are no longer needed.

        These are uploads that were not continued for two days, files that were refused or withdrawn a week ago,
        predictions that were submitted ``keep_predictions_days`` ago, and temporary folders of workers that were
        killed.
        """
        self._sweep()
        limit = now() - timedelta(days=UNFINISHED_DAYS)
        with self.db.read() as session:
            old = select(Upload).where(Upload.completed_at.is_(None), Upload.created_at < limit)
            unfinished = session.scalars(old).all()
        for upload in unfinished:
            if self._last_byte(upload) < limit:
                uploads.forget(self.db, self.settings, self.owner, upload)
        limit = now() - timedelta(days=STALE_UPLOAD_DAYS)
        with self.db.read() as session:
            refused = select(Submission.id).where(Submission.status == "refused", Submission.finished_at < limit)
            withdrawn = select(Submission.id).where(Submission.status == "withdrawn", Submission.withdrawn_at < limit)
            for submission_id in (*session.scalars(refused), *session.scalars(withdrawn), *self._outdated(session)):
                predictions_path(self.settings, submission_id).unlink(missing_ok=True)

    def _outdated(self, session: Session) -> Sequence[str]:
        """Submissions that are or were on the board and whose predictions are older than ``keep_predictions_days``."""
        if not self.settings.keep_predictions_days:
            return ()
        limit = now() - timedelta(days=self.settings.keep_predictions_days)
        states = Submission.status.in_(("scored", "withdrawn"))
        # Rescoring keeps the date of submission, and so does not prolong this.
        return session.scalars(select(Submission.id).where(states, Submission.created_at < limit)).all()

    def has_room(self) -> bool:
        """Whether there is disk space to start a job; the rest is reserved for finishing work that has begun."""
        s = self.settings
        room = all(shutil.disk_usage(p).free >= s.disk_reserve_bytes // 2 for p in (s.data, s.ledger))
        if self._had_room and not room:
            log.error("less than half of disk_reserve_bytes is free in %s or %s; waiting", s.data, s.ledger)
        self._had_room = room
        return room

    def _last_byte(self, upload: Upload) -> datetime:
        """When the last byte of an upload arrived."""
        try:
            changed = partial_path(self.settings, upload).stat().st_mtime
        except FileNotFoundError:
            return upload.created_at
        return datetime.fromtimestamp(changed, UTC)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder for one scoring, locked as long as this process lives."""
        with tempfile.TemporaryDirectory(dir=self.settings.data, prefix=SCRATCH) as name, _locked(name):
            yield Path(name)

    def _sweep(self) -> None:
        for folder in self.settings.data.glob(f"{SCRATCH}*"):
            # Some are in use by other workers. A folder that is just being created may be deleted; its submission then
            # goes back to the queue.
            with contextlib.suppress(OSError), _locked(folder):
                shutil.rmtree(folder, ignore_errors=True)

    def _handle(self, job: Job) -> None:
        try:
            standing = ledger.find(self.settings.ledger, job.submission_id)
            if standing is not None and standing.sha256 != job.sha256:
                raise ledger.DamagedFile(
                    f"{standing.path} belongs to another predictions file.", "Restore it from a backup."
                )
        except ledger.DamagedFile as error:
            self._wait_for_operator(job, error)
            return
        if standing is not None:  # a worker died between ledger and commit
            queue.finish(self.db, self.settings, self.owner, job, standing)
            return
        if job.attempts > self.settings.max_attempts:
            what = f"Scoring was interrupted {job.attempts - 1} times."
            queue.refuse(self.db, self.owner, job, what, f"Tell the operator the submission id, {job.submission_id}.")
            return
        if not predictions_path(self.settings, job.submission_id).is_file():
            log.error("%s: its predictions file is missing", job.submission_id)
            queue.refuse(self.db, self.owner, job, "The uploaded file is no longer on the server.", "Submit it again.")
            return
        media = self.settings.media / job.submission_id
        try:
            with self.scratch() as folder:
                answer = self.score(job, folder)
                if "result" in answer:
                    shutil.rmtree(media, ignore_errors=True)
                    (folder / "media").replace(media)
        except OSError as error:
            log.warning("%s: %s; will try again", job.submission_id, error)
            queue.put_back(self.db, self.owner, job, BACKOFF_S, str(error))
            return
        if "later" in answer:
            log.warning("%s: %s; will try again", job.submission_id, answer["later"])
            queue.put_back(self.db, self.owner, job, BACKOFF_S, answer["later"])
        elif "damaged" in answer:
            log.error("%s: the release cannot be read: %s; will try again", job.submission_id, answer["damaged"])
            notice = (
                "The board's copy of the release cannot be read at the moment.",
                "Nothing is wrong with the file; it is scored when the operator has repaired the copy.",
            )
            queue.put_back(self.db, self.owner, job, DAMAGED_BACKOFF_S, answer["damaged"], notice=notice)
        elif "killed" in answer:
            self._interrupted(job, answer["killed"])
        elif "refused" in answer:
            what, remedy = (self._shown(job, str(answer["refused"][key])) for key in ("what", "remedy"))
            queue.refuse(self.db, self.owner, job, what, remedy)
        else:
            self._finish(job, answer["result"])

    def _interrupted(self, job: Job, by: str) -> None:
        """Try again after a signal. Its cause is uncertain; most often the system is short of memory.

        A file that crashes the scorer would do so every time, hence ``max_attempts``.
        """
        if job.attempts >= self.settings.max_attempts:
            what = f"Scoring was interrupted {job.attempts} times, most recently by {by}."
            remedy = "The server may be short of memory. Run 'lulcbench score' on the file; if that works, tell the "
            queue.refuse(self.db, self.owner, job, what, f"{remedy}operator the submission id, {job.submission_id}.")
            return
        seconds = min(BACKOFF_S * 2 ** (job.attempts - 1), MAX_BACKOFF_S)
        notice = (
            f"Scoring was interrupted on the server, {job.attempts} times so far.",
            "It is tried again automatically.",
        )
        queue.put_back(self.db, self.owner, job, seconds, f"ended by {by}", counted=True, notice=notice)

    def _shown(self, job: Job, text: str) -> str:
        """A message with the team's own file name instead of the path on the server."""
        path = predictions_path(self.settings, job.submission_id)
        return text.replace(str(path.resolve()), job.filename).replace(path.name, job.filename)

    def _finish(self, job: Job, result: dict[str, Any]) -> None:
        known = {
            "submission": job.submission_id,
            "team": job.team,
            "tier": job.tier,
            "filename": job.filename,
            "sha256": job.sha256,
            "card": job.card,
            "submitted_at": job.submitted_at,
            "scored_at": now(),
        }
        try:
            entry = ledger.Entry.model_validate(result | known)
            if entry.scores["predictions_sha256"] != job.sha256:
                raise ValueError("the scores belong to another file")
        except (ValueError, KeyError) as error:  # a ValidationError is a ValueError
            log.error("%s: %s", job.submission_id, error)
            queue.refuse(self.db, self.owner, job, "Scoring gave no usable result.", "Tell the operator.")
            return
        try:
            queue.finish(self.db, self.settings, self.owner, job, entry)
        except OSError as error:  # no space for the ledger file: nothing was written, the transaction rolled back
            log.warning("%s: %s; will try again", job.submission_id, error)
            queue.put_back(self.db, self.owner, job, BACKOFF_S, str(error))
        except LulcbenchError as error:  # a file of that name exists already
            self._wait_for_operator(job, error)

    def _wait_for_operator(self, job: Job, error: LulcbenchError) -> None:
        """Put back a submission whose ledger file is damaged or belongs to other predictions; the others go on."""
        log.error("%s: %s; will try again", job.submission_id, error.what)
        notice = (
            "The board's record of this submission is damaged.",
            "Nothing is wrong with the file; it is scored when the operator has restored the record.",
        )
        queue.put_back(self.db, self.owner, job, DAMAGED_BACKOFF_S, error.what, notice=notice)

    def score(self, job: Job, folder: Path, renew: bool = True) -> dict[str, Any]:
        """Run the scoring process; with ``renew``, keep the lease of the job alive meanwhile."""
        out, media = folder / "answer.json", folder / "media"
        media.mkdir()
        s = self.settings
        limits = {"memory": s.scoring_memory_bytes, "cpu": s.scoring_cpu_s, "file": s.scoring_file_bytes}
        # The operator's own command (a container, say) may stand between this process and the scoring process.
        own = s.scoring_command == Settings.model_fields["scoring_command"].default
        limits["parent"] = os.getpid() if own else 0
        limits["isolate"] = int(s.isolate_scoring)
        roots = [str(root.resolve()) for root in s.releases]
        predictions = predictions_path(s, job.submission_id).resolve()
        arguments = [str(predictions), str(out.resolve()), str(media.resolve()), json.dumps(limits), *roots]
        with (folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(  # noqa: S603 - the command is the operator's
                [*s.scoring_command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=_environment(),
                start_new_session=True,
            )
            try:
                code = self._wait(process, job, renew)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        tail = (folder / "stderr").read_bytes()[-2000:].decode(errors="replace")
        if code == TEMPORARY_FAILURE:
            return {"later": f"the scoring process could not read or write: {tail.strip()}"}
        if code == 0 and out.is_file() and out.stat().st_size <= MAX_ANSWER_BYTES:
            return parse_json(out.read_bytes(), str(out), max_bytes=MAX_ANSWER_BYTES)
        log.error("%s: scoring ended with %s: %s", job.submission_id, code, tail)
        by = _signal(code)
        if by == "SIGXCPU":
            why = f"took more than {s.scoring_cpu_s} s of processor time"
        elif by:
            return {"killed": by}
        else:
            why = f"took longer than {s.scoring_timeout_s:g} s" if code is None else f"stopped (code {code})"
        return {
            "refused": {
                "what": f"Scoring this file {why}.",
                "remedy": "Run 'lulcbench score' on it; if that works, tell the operator the submission id.",
            }
        }

    def _wait(self, process: subprocess.Popen[bytes], job: Job, renew: bool) -> int | None:
        """The exit code, or None after a timeout.

        Raises:
            LostLease: this worker no longer holds the lease of the submission.
        """
        deadline = time.monotonic() + self.settings.scoring_timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=min(self.settings.lease_s / 3, max(deadline - time.monotonic(), 0.01)))
            if not renew:
                continue
            with contextlib.suppress(OperationalError):  # the next renewal, or finish, reports a lost lease
                queue.renew(self.db, self.settings, self.owner, job)
        return None


@contextlib.contextmanager
def _locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """A lock that the system releases when the process ends for any reason.

    Raises:
        OSError: another process holds it (``BlockingIOError``), or the folder is missing.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _signal(code: int | None) -> str:
    """Name of the signal that ended a process, also one run by a shell or container; empty if no signal did."""
    number = 0 if code is None else -code if code < 0 else code - 128
    return signal.Signals(number).name if number in set(signal.Signals) else ""


def _environment() -> dict[str, str]:
    """The environment variables that the scoring process needs, without secrets of the service."""
    keep = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LC_ALL", "TMPDIR")
    # One thread per maths library: thread pools would use up the address space and take cores from the web server.
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    return {key: os.environ[key] for key in keep if key in os.environ} | threads
