"""The board as files: every link leads to a file of the export, in any folder."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pytest

from leaderboard.export import export
from leaderboard.store import ledger
from leaderboard.store.db import Database
from leaderboard.store.records import replay
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import Service, make_entry
from tests.leaderboard.store.test_tables import variant
from tests.leaderboard.web.test_pages import Outline


@pytest.fixture
def filled(service: Service, predictions: dict[str, Path], results: dict[str, Any]) -> tuple[Service, str]:
    """A board of four tables, with pictures, and a submission that a withdrawn one superseded."""
    scored = service.submit(predictions["good"], name="<Model>")
    service.score()
    variants: tuple[dict[str, Any], ...] = (
        {"years": (2012,)},
        {"years": (2012, 2018)},
        {"scorer": "0.9.0"},
        {"saw_scored_labels": True, "name": "Saw"},
        {"name": "Old"},
        {"name": "Newer", "kind": "poor"},
        {"name": "Withdrawn"},
    )
    entries = [
        ledger.write(service.settings.ledger, variant(results, number, **changes))
        for number, changes in enumerate(variants, start=1)
    ]
    replay(service.db, service.settings)
    *_, old, newer, withdrawn = (entry.submission for entry in entries)
    for one, by in ((old, newer), (newer, withdrawn)):
        url = f"/api/v1/submissions/{one}/supersede"
        assert service.client.post(url, json={"by": by}, headers=service.headers()).status_code == 200
    service.client.post(f"/api/v1/submissions/{withdrawn}/withdraw", headers=service.headers())
    return service, scored


def check_links(out: Path) -> set[Path]:
    """Files that can be reached from the index, each of whose links leads to a file, and to a place in it."""
    outlines: dict[Path, Outline] = {}
    waiting, reached = [out / "index.html"], set[Path]()
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        if page.suffix != ".html":
            continue
        outlines[page] = Outline(page.read_text())
        for _, attributes in outlines[page].tags:
            for name in ("href", "src", "action"):
                link = attributes.get(name)
                parts = urlsplit(link or "")
                if not link or parts.scheme:
                    continue
                assert not parts.query, (page, link)
                assert not link.startswith("/"), (page, link)
                target = (page.parent / parts.path).resolve() if parts.path else page
                assert target.is_file(), (page, link)
                waiting.append(target)
    for page, outline in outlines.items():
        for _, attributes in outline.tags:
            parts = urlsplit(attributes.get("href") or "")
            if parts.fragment and not parts.scheme:
                target = (page.parent / parts.path).resolve() if parts.path else page
                assert any(found.get("id") == parts.fragment for _, found in outlines[target].tags), (page, parts)
    return reached


@pytest.mark.slow
def test_every_link_of_an_export_leads_to_a_file(filled: tuple[Service, str], tmp_path: Path) -> None:
    service, scored = filled
    out = export(service.db, service.settings, tmp_path / "site").resolve()
    unlinked = {path for path in out.rglob("*") if path.is_file()} - check_links(out)
    assert unlinked == set()
    for page in out.rglob("*.html"):
        assert service.settings.public_url not in page.read_text(), page
    table = pd.read_parquet(out / "leaderboard.parquet")
    assert set(table["years"]) == {"2018", "2012", "2012-2018"}
    assert table["simulated"].all()
    text = (out / "submissions" / f"{scored}.html").read_text()
    assert "&lt;Model&gt;" in text
    assert "simulated data" in text
    assert (out / "media" / scored / "worst-label.png").is_file()
    (original,) = service.settings.ledger.glob(f"*/{scored}.json")
    assert (out / "ledger" / original.parent.name / original.name).read_bytes() == original.read_bytes()
    row = service.rows(level=3)[0]
    stem = f"{row['release']}-segmentation-2018-test-scorer{row['scorer_version']}-level3"
    rows = list(csv.DictReader(io.StringIO((out / f"{stem}.csv").read_text())))
    assert [(one["model"], one["years"]) for one in rows] == [
        ("<Model>", "2018"),
        ("Newer", "2018"),  # since what superseded it was withdrawn
        ("Saw", "2018"),
    ]
    assert "not ranked" in (out / f"{stem}.html").read_text()
    assert "Saw</a>" not in (out / f"{stem}-history.html").read_text()
    shown = service.client.get("/api/v1/leaderboard?format=csv&level=3").headers["content-disposition"]
    assert f'"leaderboard-{stem}.csv"' in shown
    with pytest.raises(LulcbenchError, match="exists"):
        export(service.db, service.settings, out)


@pytest.mark.slow
def test_permalinks_of_an_export_name_where_it_will_lie(filled: tuple[Service, str], tmp_path: Path) -> None:
    service, scored = filled
    out = export(service.db, service.settings, tmp_path / "site", "https://board.example/lulc/").resolve()
    check_links(out)
    link = f'href="https://board.example/lulc/submissions/{scored}.html"'
    assert link in (out / "submissions" / f"{scored}.html").read_text()
    for url in ("board.example", "ftp://board.example", "https://x/?a=1", "http://", 'https://x/"onload="'):
        with pytest.raises(LulcbenchError, match="not the web address"):
            export(service.db, service.settings, tmp_path / "other", url)


def test_a_page_states_that_the_record_of_a_successor_cannot_be_read(
    service: Service, fill: Callable[..., list[str]], tmp_path: Path
) -> None:
    old, new = fill({}, {})
    url = f"/api/v1/submissions/{old}/supersede"
    assert service.client.post(url, json={"by": new}, headers=service.headers()).status_code == 200
    (path,) = service.settings.ledger.glob(f"*/{new}.json")
    path.write_text("{")
    out = export(service.db, service.settings, tmp_path / "site")
    text = (out / "submissions" / f"{old}.html").read_text()
    assert "Superseded by a newer submission, whose record cannot be read at the moment" in text


def test_cells_with_units_have_the_value_that_sorts_them(
    service: Service, fill: Callable[..., list[str]], tmp_path: Path
) -> None:
    fill(
        {"parameters": 900, "training_hours": 2.5},
        {"parameters": 60_000, "training_hours": 0.5},
        {"parameters": 23_200_000},
    )
    out = export(service.db, service.settings, tmp_path / "site")
    (page,) = out.glob("*-level4.html")
    cells = re.findall(r'data-column="(parameters|training)" data-value="([^"]*)">([^<]*)<', page.read_text())
    assert sorted(cells) == [
        ("parameters", "23200000", "23.2 M"),
        ("parameters", "60000", "60.0 k"),
        ("parameters", "900", "900"),
        ("training", "", "–"),
        ("training", "0.5", "30.0 min"),
        ("training", "2.5", "2.5 h"),
    ]


def test_an_empty_board_can_be_exported(service: Service, tmp_path: Path) -> None:
    check_links(export(service.db, service.settings, tmp_path / "site").resolve())


def test_a_file_name_holds_no_surprise(service: Service, fill: Callable[..., list[str]]) -> None:
    fill({})
    header = service.client.get('/api/v1/leaderboard?format=csv&release=x";%0d%0a/..').headers["content-disposition"]
    assert header == 'attachment; filename="leaderboard-x_____..-segmentation-test-level4.csv"'


@pytest.mark.slow
def test_a_ledger_without_a_database_is_exported_with_its_results(
    service: Service, fill: Callable[..., list[str]], tmp_path: Path
) -> None:
    (one,) = fill({})
    settings = service.settings.model_copy(update={"data": tmp_path / "new"})
    settings.prepare()
    db = Database(settings.url)
    db.upgrade(settings.ledger)
    out = export(db, settings, tmp_path / "site")
    assert (out / "submissions" / f"{one}.html").is_file()
    ledger.write(settings.ledger, make_entry({"good": entry_content(settings.ledger, one)}, 2))  # from a colleague
    again = export(db, settings, tmp_path / "later")
    assert len(list((again / "submissions").glob("*.html"))) == 2
    db.close()


def test_the_database_of_another_ledger_is_not_exported(
    service: Service, fill: Callable[..., list[str]], tmp_path: Path
) -> None:
    fill({})
    settings = service.settings.model_copy(update={"ledger": tmp_path / "other"})
    settings.prepare()
    with pytest.raises(LulcbenchError, match="is missing"):
        export(service.db, settings, tmp_path / "site")


def entry_content(root: Path, submission: str) -> dict[str, Any]:
    """The result of a submission as the scorer made it."""
    entry = ledger.find(root, submission)
    assert entry is not None
    names = ("release", "release_digest", "simulated", "task", "split", "scores", "cells", "samples", "blocks")
    return {name: getattr(entry, name) for name in names}
