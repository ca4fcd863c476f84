"""From an upload to a row on the board."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from leaderboard.store import ledger, uploads
from leaderboard.store.db import Audit
from leaderboard.web.views import confusion_csv
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.scores import ClassScores, LevelScores, Scores
from lulcbench.evaluation.scoring import score
from lulcbench.release import Manifest
from lulcbench.submission.card import ModelCard
from lulcbench.submission.client import Client
from tests.leaderboard.harness import CARD, Service, sign_in


@pytest.mark.slow
def test_a_submission_becomes_a_row_a_page_and_a_ledger_file(
    service: Service, predictions: dict[str, Path], release_root: Path
) -> None:
    submission = service.submit(predictions["good"], name="Good model")
    assert service.status(submission)["status"] == "queued"
    assert service.rows() == []
    assert service.score()
    assert not service.score()
    state = service.status(submission)
    assert state["status"] == "scored"
    assert state["url"] == f"http://testserver/submissions/{submission}"
    # What is shown is what the scorer says here, of this very file.
    assert Scores.model_validate(state["scores"]) == score(predictions["good"], release_root)
    (row,) = service.rows(level=3)
    assert (row["model"], row["team"], row["tier"], row["simulated"]) == ("Good model", "Ours", "rescored", True)
    assert row["miou"] == state["scores"]["levels"]["3"]["metrics"]["miou"]["value"]
    page = service.client.get(f"/submissions/{submission}").text
    assert "Good model" in page
    assert "simulated data" in page
    assert f"/media/{submission}/worst-prediction.png" in page
    picture = service.client.get(f"/media/{submission}/worst-image.png")
    assert picture.content.startswith(b"\x89PNG")
    assert service.client.get(f"/media/{submission}/../secret.key").status_code == 404
    (path,) = service.settings.ledger.glob(f"*/{submission}.json")
    assert ledger.read(path).sha256 == hashlib.sha256(predictions["good"].read_bytes()).hexdigest()
    assert service.client.get(f"/submissions/{submission}/ledger.json").content == path.read_bytes()
    matrix = service.client.get(f"/submissions/{submission}/confusion-3.csv")
    assert matrix.headers["content-type"].startswith("text/csv")
    table = pd.read_csv(io.StringIO(matrix.text), index_col=["label", "name"])
    assert f"/submissions/{submission}/confusion-3.csv" in page
    assert table.to_numpy().tolist() == state["scores"]["levels"]["3"]["confusion"]
    for wrong in ("confusion-5.csv", "confusion-x.csv"):
        assert service.client.get(f"/submissions/{submission}/{wrong}").status_code in (404, 422)
    with service.db.read() as session:
        actions = [line.action for line in session.query(Audit).filter_by(subject=submission).order_by(Audit.id)]
    assert actions == ["upload.begin", "upload.complete", "score.begin", "score.finish"]


@pytest.mark.slow
def test_an_upload_is_resumed_where_it_stopped(service: Service, predictions: dict[str, Path]) -> None:
    content = predictions["poor"].read_bytes()
    upload = service.begin(content).json()
    url = f"/api/v1/uploads/{upload['upload_id']}"
    headers = service.headers()
    half = 15_000
    assert service.client.put(f"{url}?offset=0", content=content[:half], headers=headers).json() == {"offset": half}
    early = service.client.post(f"{url}/complete", headers=headers)
    assert early.status_code == 409
    assert f"{half} of {len(content)}" in early.json()["what"]
    wrong = service.client.put(f"{url}?offset=0", content=b"x", headers=headers)
    assert (wrong.status_code, wrong.headers["upload-offset"]) == (409, str(half))
    assert service.client.get(url, headers=headers).json()["offset"] == half
    for at in range(half, len(content), 20_000):
        service.client.put(f"{url}?offset={at}", content=content[at : at + 20_000], headers=headers)
    first = service.client.post(f"{url}/complete", headers=headers)
    again = service.client.post(f"{url}/complete", headers=headers)
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert service.client.get(url, headers=headers).json()["submission_id"] == first.json()["submission_id"]
    assert service.score()
    assert not service.score()


def test_altered_bytes_are_refused_and_may_be_sent_again(service: Service) -> None:
    upload = service.begin(b"right").json()
    url = f"/api/v1/uploads/{upload['upload_id']}"
    service.client.put(f"{url}?offset=0", content=b"wrong", headers=service.headers())
    answer = service.client.post(f"{url}/complete", headers=service.headers())
    assert answer.status_code == 422
    assert hashlib.sha256(b"wrong").hexdigest() in answer.json()["what"]
    assert service.client.get(url, headers=service.headers()).json()["offset"] == 0
    service.client.put(f"{url}?offset=0", content=b"right", headers=service.headers())
    assert service.client.post(f"{url}/complete", headers=service.headers()).status_code == 202


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"PK\x05\x06" + b"\0" * 18, "zarr.json is missing"),
        (b"no zip at all", "not a zip"),
        (b"\0" * 100_000, "not a zip"),
    ],
    ids=["empty zip", "text", "zeros"],
)
def test_a_file_that_cannot_be_scored_is_refused_with_the_reason(
    service: Service, tmp_path: Path, content: bytes, why: str
) -> None:
    path = tmp_path / "bad.zip"
    path.write_bytes(content)
    submission = service.submit(path)
    assert service.score()
    state = service.status(submission)
    assert state["status"] == "refused"
    assert why in state["error"]["what"]
    assert state["error"]["remedy"]
    assert service.rows() == []
    assert list(service.settings.ledger.glob("*/*.json")) == []


@pytest.mark.slow
def test_another_release_is_refused_by_name(service: Service, predictions: dict[str, Path], tmp_path: Path) -> None:
    alien = predictions["poor"].read_bytes()
    digest = Manifest.load(next(iter(service.settings.releases))).data_digest
    assert digest.encode() in alien
    path = tmp_path / "alien.zip"
    path.write_bytes(alien.replace(digest.encode(), b"0" * 64))
    submission = service.submit(path)
    service.score()
    assert service.status(submission)["status"] == "refused"


@pytest.mark.slow
def test_the_client_of_lulcbench_submits_and_waits(
    service: Service, predictions: dict[str, Path], tmp_path: Path
) -> None:
    """The command's own client against the service, request by request."""
    path = tmp_path / "mine.zip"
    path.write_bytes(predictions["good"].read_bytes())
    card = ModelCard.model_validate_json(json.dumps(CARD))

    transport = service.transport()
    with Client("http://127.0.0.1", service.tokens["ours"], transport, sleep=lambda _: service.score()) as client:
        result = client.wait(client.upload(path, card))
    assert result.scores is not None
    assert service.rows()[0]["submission"] == result.submission_id
    with (
        Client("http://127.0.0.1", "lb_000000000000_" + "0" * 64, transport, sleep=lambda _: None) as client,
        pytest.raises(LulcbenchError, match="token is not valid"),
    ):
        client.upload(path, card)


@pytest.mark.parametrize(
    ("card", "where"),
    [
        ({"sensors": ["landsat", "planet"]}, "sensors: no release of this board has 'planet'"),
        ({"saw_scored_labels": "no"}, "saw_scored_labels"),
        ({"parameters": "12"}, "parameters"),
    ],
)
def test_a_card_is_checked_before_anything_is_sent(service: Service, card: dict[str, Any], where: str) -> None:
    answer = service.begin(b"abc", **card)
    assert answer.status_code == 422
    assert where in answer.json()["what"]


@pytest.mark.slow
def test_withdraw_and_supersede(service: Service, predictions: dict[str, Path]) -> None:
    old = service.submit(predictions["poor"], name="Old")
    new = service.submit(predictions["good"], name="New")
    gone = service.submit(predictions["poor"], name="Gone before it was scored")
    assert service.client.post(f"/api/v1/submissions/{gone}/withdraw", headers=service.headers()).status_code == 200
    early = service.client.post(f"/api/v1/submissions/{old}/supersede", json={"by": new}, headers=service.headers())
    assert early.status_code == 409
    while service.score():
        pass
    assert [row["model"] for row in service.rows()] == ["New", "Old"]
    for _ in range(2):  # asking twice is harmless
        answer = service.client.post(
            f"/api/v1/submissions/{old}/supersede", json={"by": new}, headers=service.headers()
        )
        assert answer.json()["superseded_by"] == new
    assert [row["model"] for row in service.rows()] == ["New"]
    assert [row["model"] for row in service.rows(superseded=True)] == ["New", "Old"]
    circle = service.client.post(f"/api/v1/submissions/{new}/supersede", json={"by": old}, headers=service.headers())
    assert circle.status_code == 409
    service.client.post(f"/api/v1/submissions/{new}/withdraw", headers=service.headers())
    assert [row["model"] for row in service.rows()] == ["Old"]  # what it had superseded is back
    public = service.client.get(f"/api/v1/submissions/{new}").json()
    assert (public["status"], public["scores"]) == ("withdrawn", None)
    assert "withdrawn" in service.client.get(f"/submissions/{new}").text
    kinds = sorted(event.kind for event in ledger.load(service.settings.ledger).events)
    assert kinds == ["superseded", "withdrawn"]


def test_names_of_classes_are_no_formulas_in_the_table_of_a_confusion_matrix() -> None:
    row = ClassScores(code=1, name="=1+1", support=3, predicted=3)
    part = LevelScores(level=1, pixels=3, classes=(row,), confusion=((3,),), metrics={})
    assert confusion_csv(part) == "label,name,predicted 1\n1,'=1+1,3\n"


def test_the_form_states_the_largest_file_that_is_accepted(service: Service) -> None:
    sign_in(service)
    largest = uploads.largest_file(service.settings)
    assert largest < service.settings.max_form_bytes
    assert f"up to {largest:,} bytes" in service.client.get("/submit").text
