"""Fair under load: teams take turns, one team cannot block the form, comparisons cannot starve other pages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from leaderboard.errors import RequestError
from leaderboard.ranking.choice import Choice
from leaderboard.store import queue
from leaderboard.store.db import Submission, now
from leaderboard.web import limits
from leaderboard.web.limits import Forms, Turns
from leaderboard.web.views import check_ids, ranks
from tests.leaderboard.harness import CARD, Service

A, B, C = (f"{number:020x}" for number in range(1, 4))


def test_teams_take_turns_in_the_queue(service: Service) -> None:
    with service.db.write() as session:
        for number, team in enumerate([1] * 6 + [2, 3, 2]):
            session.add(
                Submission(
                    id=f"{number:020x}",
                    team_id=team,
                    status="queued",
                    tier="rescored",
                    filename="p.zip",
                    sha256="0" * 64,
                    card=CARD,
                    created_at=now(),
                )
            )
    order = []
    for _ in range(9):
        job = queue.claim(service.db, service.settings, "worker")
        assert job is not None
        order.append(job.team)
        queue.refuse(service.db, "worker", job, "what", "remedy")
    assert order == ["Ours", "Theirs", "Operators", "Ours", "Theirs", "Ours", "Ours", "Ours", "Ours"]
    with service.db.read() as session:
        assert set(session.scalars(select(Submission.status))) == {"refused"}


def test_a_comparison_has_one_key_in_whatever_order_it_is_asked_for() -> None:
    assert check_ids([A, C, B], 4) == check_ids([A, B, C, B], 4) == [A, B, C]
    assert check_ids([B, C, A], 4) == [B, A, C]


def test_comparisons_run_one_at_a_time_and_few_may_wait() -> None:
    running, most = 0, 0
    lock, go = threading.Lock(), threading.Event()

    def work() -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go.wait(10)
        with lock:
            running -= 1
        return 1

    async def flood() -> list[Any]:
        turns = Turns("comparisons")
        tasks = [asyncio.create_task(turns.run(work)) for _ in range(30)]
        await asyncio.sleep(0.05)
        go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(flood())
    refused = [answer for answer in answers if isinstance(answer, RequestError)]
    assert (len(refused), {error.status for error in refused}, most) == (30 - limits.MAX_WAITING, {503}, 1)


def test_one_team_has_one_form_at_a_time_and_space_is_reserved_for_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms, settings = Forms(), service.settings
    with forms.arriving(settings, 1, 1000):
        with pytest.raises(RequestError, match="Another form of your team") as error, forms.arriving(settings, 1, 10):
            pass
        assert error.value.status == 429
        with forms.arriving(settings, 2, 1000):
            pass
        free = settings.disk_reserve_bytes + 2 * (1000 + 500)
        usage = type("Usage", (), {"free": free - 1})
        monkeypatch.setattr("leaderboard.store.uploads.shutil.disk_usage", lambda _: usage)
        with pytest.raises(RequestError, match="no space"), forms.arriving(settings, 2, 500):
            pass
    with forms.arriving(settings, 1, 10):
        pass


def test_rows_of_the_same_score_share_a_rank_in_the_order_of_submission(
    service: Service, fill: Callable[..., list[str]]
) -> None:
    ids = fill({}, {}, {"kind": "poor"}, {})
    board = service.client.app.state.board.current()  # type: ignore[attr-defined]
    choice = Choice()
    rows = board.select(choice)
    assert [row.id for row in rows] == [ids[0], ids[1], ids[3], ids[2]]
    assert ranks(rows, choice) == {ids[0]: 1, ids[1]: 1, ids[3]: 1, ids[2]: 4}


@pytest.mark.slow
def test_the_same_predictions_sent_twice_are_one_row_with_a_note(
    service: Service, predictions: dict[str, Path], results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = service.submit(predictions["poor"]), service.submit(predictions["poor"], name="Again")
    assert service.score()
    assert service.score()
    assert [row["submission"] for row in service.rows()] == [first]
    assert "sent 2 times" in service.client.get("/").text
    service.client.post(f"/api/v1/submissions/{first}/withdraw", headers=service.headers())
    assert [row["submission"] for row in service.rows()] == [second]
    assert "times" not in service.client.get("/").text
