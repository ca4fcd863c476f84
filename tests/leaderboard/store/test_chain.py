"""The chain of the ledger: files that are changed, removed or exchanged later do not fit it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from leaderboard.export import export
from leaderboard.store import chain, ledger
from leaderboard.store.backups import backup, restore
from leaderboard.store.db import Database
from leaderboard.store.records import replay, verify
from tests.leaderboard.harness import Service, make_entry
from tests.leaderboard.store.test_ledger_damaged import signed

A, B, C = (f"{number:020x}" for number in range(1, 4))


@pytest.fixture
def three(service: Service, fill: Callable[..., list[str]]) -> Service:
    fill({}, {}, {})
    return service


def path_of(service: Service, name: str) -> Path:
    (path,) = service.settings.ledger.glob(f"*/{name}.json")
    return path


def test_scores_that_are_altered_with_their_digest_do_not_fit_the_chain(three: Service, tmp_path: Path) -> None:
    path = path_of(three, A)
    content = json.loads(path.read_bytes())
    content["scores"]["levels"]["1"]["metrics"]["miou"]["value"] = 0.999
    path.write_text(signed(content))
    assert three.client.get(f"/submissions/{A}").status_code == 503
    assert three.client.get(f"/submissions/{A}/ledger.json").status_code == 503
    assert three.client.get(f"/submissions/{B}").status_code == 200
    (fault,) = verify(three.db, three.settings)
    assert "not that which chain.log states" in fault.what
    export(three.db, three.settings, tmp_path / "export")
    assert set(pd.read_parquet(tmp_path / "export" / "leaderboard.parquet")["submission"]) == {B, C}
    # The chain rewritten as well, the database still knows what was scored.
    (three.settings.ledger / chain.NAME).unlink()
    ledger.seal(three.settings.ledger)
    (fault,) = verify(three.db, three.settings)
    assert "not the file that was scored" in fault.what


def test_a_removed_withdrawal_does_not_bring_a_result_back(three: Service) -> None:
    answer = three.client.post(f"/api/v1/submissions/{B}/withdraw", headers=three.headers())
    assert answer.json()["status"] == "withdrawn"
    assert verify(three.db, three.settings) == ()
    path_of(three, f"{B}.withdrawn").unlink()
    (fault,) = verify(three.db, three.settings)
    assert f"{B}.withdrawn.json is missing" in fault.what
    contents = ledger.load(three.settings.ledger)
    assert (contents.held_back, len(contents.missing)) == ({B}, 1)
    settings = three.settings.model_copy(update={"data": three.settings.data.parent / "rebuilt"})
    settings.prepare()
    db = Database(settings.url)
    db.upgrade(settings.ledger)
    assert replay(db, settings) == 2
    db.close()


def test_a_chain_that_was_rewritten_lacks_the_head_that_somebody_noted(three: Service) -> None:
    root = three.settings.ledger
    page = three.client.get("/ledger").text
    noted = re.search(r"Head: <code>([0-9a-f]{64})</code>", page)[1]  # type: ignore[index]
    assert three.client.get("/ledger/chain.log").text.rstrip().rpartition("\n")[2].startswith(noted)
    three.client.post(f"/api/v1/submissions/{C}/withdraw", headers=three.headers())
    assert verify(three.db, three.settings, noted) == ()
    lines = (root / chain.NAME).read_text().splitlines(keepends=True)
    (root / chain.NAME).write_text("".join(reversed(lines)))
    assert "was altered" in verify(three.db, three.settings)[0].what
    (root / chain.NAME).unlink()
    ledger.seal(root)  # the same files in an order that is not that of writing, say
    (root / chain.NAME).write_text("".join(f"{line}\n" for line in rechained(lines[1:])))
    assert any("does not contain the head" in fault.what for fault in verify(three.db, three.settings, noted))


def rechained(lines: list[str]) -> list[str]:
    head, result = chain.START, []
    for line in lines:
        _, digest, facts, path = line.split()
        head = chain.following(head, digest, path, facts)
        result.append(f"{head} {digest} {facts} {path}")
    return result


def test_files_put_into_the_ledger_are_shown_and_reported_until_they_are_sealed(
    three: Service, results: dict[str, Any], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    entry = ledger.write(other, make_entry(results, 9))
    shutil.copyfile(other / entry.path, three.settings.ledger / entry.path)
    assert replay(three.db, three.settings) == 1
    assert len(three.rows()) == 4
    (fault,) = verify(three.db, three.settings)
    assert "is not in chain.log" in fault.what
    assert ledger.seal(three.settings.ledger) == 1
    assert verify(three.db, three.settings) == ()


def test_many_writers_make_one_chain_and_half_a_line_is_dropped(tmp_path: Path) -> None:
    names = [f"release-1/{number:020x}.json" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: chain.append(tmp_path, name, "ab" * 32, "cd" * 32), names * 2))
    whole = chain.load(tmp_path)
    assert (set(whole.digests), whole.fault, len(whole.heads)) == (set(names), "", 40)
    path = tmp_path / chain.NAME
    path.write_bytes(path.read_bytes()[:-30])
    chain.append(tmp_path, "release-1/x.json", "0" * 64, "1" * 64)
    again = chain.load(tmp_path)
    assert (again.fault, len(again.digests), again.heads[:39]) == ("", 40, whole.heads[:39])


def test_a_withdrawn_result_leaves_a_tombstone_that_names_who_withdrew_it(three: Service) -> None:
    three.client.post(f"/api/v1/submissions/{A}/withdraw", headers=three.headers())
    three.client.post(f"/api/v1/submissions/{B}/withdraw", headers=three.headers("admin"))
    ours, operators = (three.client.get(f"/submissions/{name}").text for name in (A, B))
    assert "withdrawn by its team" in ours
    assert "withdrawn by the operator of this board" in operators
    assert ledger.read(path_of(three, A)).digest in ours
    assert f"{A}.withdrawn.json" in three.client.get("/ledger").text


def test_a_backup_has_the_chain(three: Service, tmp_path: Path) -> None:
    backup(three.db, three.settings, tmp_path / "backup.tar")
    settings = three.settings.model_copy(update={"data": tmp_path / "data2", "ledger": tmp_path / "ledger2"})
    db = Database(settings.url)
    restore(db, settings, tmp_path / "backup.tar")
    assert verify(db, settings, chain.load(three.settings.ledger).head) == ()
    db.close()
