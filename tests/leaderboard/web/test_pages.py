"""The table and what hangs on it, as a reader without JavaScript gets it."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from leaderboard.errors import RequestError, not_found
from leaderboard.ranking.table import PAGE_ROWS, Snapshot
from leaderboard.store import ledger
from leaderboard.store.records import replay
from leaderboard.web import charts
from leaderboard.web.board import Board
from leaderboard.web.render import Page
from tests.leaderboard.harness import Service, make_entry, wait_until

Fill = Callable[..., list[str]]
VOID = {"meta", "link", "input", "img", "br", "hr"}


class Outline(HTMLParser):
    """What a page is made of; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def models(page: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/submissions/[0-9a-f]{20}">([^<]*)</a>', page)


def test_an_empty_board_states_this(service: Service) -> None:
    page = service.client.get("/").text
    assert "Be the first" in page
    assert "LUISA labels are public" in page
    Outline(page)
    for path in ("/history", "/about", "/docs", "/login"):
        answer = service.client.get(path)
        assert answer.status_code == 200
        Outline(answer.text)


def test_sort_and_filter_by_query_string(service: Service, fill: Fill) -> None:
    fill(
        {"name": "Beta", "kind": "poor", "sensors": ["sentinel2"], "pretraining": "ImageNet", "parameters": 5_000_000},
        {"name": "alpha", "kind": "good", "sensors": ["landsat"]},
        {
            "name": "Gamma",
            "kind": "poor",
            "sensors": ["landsat", "sentinel2"],
            "parameters": 90_000_000,
            "team": "Theirs",
        },
    )
    get = lambda query: models(service.client.get(f"/{query}").text)  # noqa: E731
    assert get("")[0] == "alpha"
    assert get("?sort=model") == ["alpha", "Beta", "Gamma"]
    assert get("?sort=model&order=desc") == ["Gamma", "Beta", "alpha"]
    assert get("?sort=date") == ["Gamma", "alpha", "Beta"]
    assert get("?sort=parameters") == ["Beta", "alpha", "Gamma"]
    assert get("?sort=log_loss")[0] == "alpha"  # those without probabilities are at the end
    assert get("?sort=log_loss&order=desc")[0] == "alpha"
    assert get("?sensor=sentinel2&sort=model") == ["Beta", "Gamma"]
    assert get("?pretraining=ImageNet") == ["Beta"]
    assert get("?max_parameters=20&sort=model") == ["alpha", "Beta"]
    assert get("?since=2026-01-03&sort=model") == ["alpha", "Gamma"]
    assert get("?q=THEIRS") == ["Gamma"]
    assert get("?tier=reproduced") == []
    assert get("?task=change") == []
    assert get("?release=other-1.0.0-00000000") == []
    # A form sends its empty fields too.
    assert len(get("?sensor=&tier=&pretraining=&max_parameters=&since=&q=&order=&release=")) == 3


@pytest.mark.parametrize(
    "query", ["level=5", "level=x", "since=yesterday", "max_parameters=-1", "page=0", "task=magic"]
)
def test_a_wrong_choice_is_an_error_page_that_names_it(service: Service, query: str) -> None:
    answer = service.client.get(f"/?{query}")
    assert answer.status_code == 422
    assert query.split("=")[0] in answer.text
    assert 'role="alert"' in answer.text
    assert service.client.get(f"/api/v1/leaderboard?{query}").status_code == 422 or query == "page=0"


def test_the_table_shows_levels_intervals_and_the_sorted_column(service: Service, fill: Fill) -> None:
    fill({}, {"kind": "poor"})
    page = service.client.get("/?level=2").text
    row = service.rows(level=2)[0]
    assert f"{row['miou']:.3f}" in page
    assert f"{row['miou_low']:.3f}–{row['miou_high']:.3f}" in page
    outline = Outline(page)
    assert [th.get("aria-sort") for th in outline.all("th") if th.get("aria-sort")] == ["descending"]
    assert "simulated data" in page


@pytest.mark.slow
def test_long_tables_have_pages(service: Service, fill: Fill) -> None:
    fill(*({"name": f"Model {i:03}"} for i in range(PAGE_ROWS + 3)))
    first, second = (service.client.get(f"/?sort=model&page={n}").text for n in (1, 2))
    assert models(first) == [f"Model {i:03}" for i in range(PAGE_ROWS)]
    assert models(second) == [f"Model {i:03}" for i in range(PAGE_ROWS, PAGE_ROWS + 3)]
    assert 'rel="next"' in first
    assert 'rel="next"' not in second
    assert models(service.client.get("/?sort=model&page=99").text) == models(second)
    assert len(service.rows()) == PAGE_ROWS + 3


def test_pages_are_sound_html_that_can_be_read_aloud(service: Service, fill: Fill) -> None:
    ids = fill({}, {"kind": "poor"})
    paths = [
        "/",
        "/?level=1&sort=model",
        f"/submissions/{ids[0]}",
        f"/compare?id={ids[0]}&id={ids[1]}&level=2",
        "/history",
    ]
    for path in paths:
        answer = service.client.get(path)
        assert answer.status_code == 200, path
        outline = Outline(answer.text)
        assert outline.all("html")[0]["lang"] == "en"
        assert len(outline.all("h1")) == 1
        assert len(outline.all("main")) == 1
        assert all(image.get("alt") for image in outline.all("img"))
        assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in outline.all("svg"))
        assert all(th.get("scope") for th in outline.all("th"))
        ids_used = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
        assert len(ids_used) == len(set(ids_used))
        assert "simulated data" in answer.text


def test_comparison(service: Service, fill: Fill) -> None:
    one, two = fill({"name": "One"}, {"name": "Two", "kind": "poor"})
    page = service.client.get(f"/compare?id={one}&id={two}&level=1").text
    rows = {row["model"]: row for row in service.rows(level=1)}
    assert f"{rows['One']['miou']:.3f}" in page
    assert f"{rows['Two']['miou']:.3f}" in page
    assert "Difference" in page
    for query, status in ((f"id={one}", 422), (f"id={one}&id={'0' * 20}", 404), (f"id={one}&id={two}&level=7", 422)):
        assert service.client.get(f"/compare?{query}").status_code == status


def test_paired_test_of_the_compared(service: Service, fill: Fill, results: dict[str, Any]) -> None:
    one, two = fill({"name": "One"}, {"name": "=Two", "kind": "poor"})
    page = service.client.get(f"/compare?id={one}&id={two}").text
    assert "no difference can be shown here" in page  # two blocks: p is 0.5 at best
    # The same results as if of twelve blocks.
    path = service.settings.ledger / next(service.settings.ledger.glob(f"*/{one}.json")).parent.name
    for number, kind in ((3, "good"), (4, "poor")):
        entry = make_entry(results, number, kind)
        blocks = dict(entry.blocks or {})
        blocks["blocks"] = [f"B{i}" for i in range(12)]
        blocks["sums"] = {
            family: {level: part * 6 for level, part in levels.items()} for family, levels in blocks["sums"].items()
        }
        ledger.write(service.settings.ledger, entry.model_copy(update={"blocks": blocks}))
    ledger.write(path.parent, make_entry(results, 5).model_copy(update={"blocks": None, "tier": "reported"}))
    replay(service.db, service.settings)
    third, fourth, reported = (f"{n:020x}" for n in (3, 4, 5))
    page = service.client.get(f"/compare?id={third}&id={fourth}&id={reported}").text
    assert "worse, unlikely by chance" in page
    assert "self-reported; the test needs predictions" in page
    assert "No test: The two differ in blocks" in service.client.get(f"/compare?id={one}&id={third}").text
    query = f"/api/v1/compare?id={third}&id={fourth}&level=2"
    (test,) = service.client.get(query).json()["tests"]
    found = {row["metric"]: row for row in test["differences"]}
    expected = {row["model"]: row for row in service.rows(level=2)}
    difference = expected["Model 4"]["miou"] - expected["Model 3"]["miou"]
    assert found["miou"]["difference"] == pytest.approx(difference)
    assert found["miou"]["low"] <= difference <= found["miou"]["high"]
    assert found["miou"]["p"] < 0.01
    table = list(csv.DictReader(io.StringIO(service.client.get(f"{query}&format=csv").text)))
    assert float(next(row for row in table if row["metric"] == "miou")["difference"]) == pytest.approx(difference)
    assert service.client.get(f"/api/v1/compare?id={one}&id={two}&format=csv").text.count("'=Two") > 3
    assert service.client.get(f"/api/v1/compare?id={one}").status_code == 422


def test_pages_of_one_kind_do_not_answer_for_another(
    service: Service, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = fill({}, {})
    board = Board(service.db, service.settings.model_copy(update={"cache_s": 60}))
    monkeypatch.setattr(service.client.app.state, "board", board)
    query = f"compare?id={one}&id={two}&level=4"
    assert "Comparison" not in service.client.get(f"/?{query}").text
    assert "Comparison" in service.client.get(f"/{query}").text
    assert "Comparison" not in service.client.get(f"/?/{query}").text


def test_a_page_that_can_no_longer_be_made_does_not_stop_the_board(service: Service, fill: Fill) -> None:
    board = Board(service.db, service.settings.model_copy(update={"cache_s": 0.01}))

    def only_without_rows(snapshot: Snapshot) -> Page:
        if snapshot.rows:
            raise not_found()
        return Page.of("empty")

    assert board.page("x", only_without_rows).plain == b"empty"
    fill({})
    time.sleep(0.02)
    assert len(board.current().rows) == 1
    with pytest.raises(RequestError):
        board.page("x", only_without_rows)


def test_by_sensor_set(service: Service, fill: Fill) -> None:
    fill(
        {"name": "Both, poor", "sensors": ["sentinel2", "landsat"], "kind": "poor"},
        {"name": "Both", "sensors": ["landsat", "sentinel2"]},
        {"name": "Landsat", "sensors": ["landsat"], "kind": "poor"},
        {"name": "Planet", "sensors": ["planet"]},
    )
    assert {row["model"] for row in service.rows(sensor="landsat")} == {"Both", "Both, poor", "Landsat"}
    assert [row["model"] for row in service.rows(sensors="landsat")] == ["Landsat"]
    assert [row["model"] for row in service.rows(sensors="landsat+sentinel2")] == ["Both", "Both, poor"]
    # The best are the same in every order, also of calibration, of which smaller values are better.
    for query in ("", "?sort=miou&order=asc", "?sort=date", "?sort=log_loss"):
        section = service.client.get(f"/{query}").text.split('id="h-best"')[1].split("</section>")[0]
        assert re.findall(r">([^<>]+)</a> <small>", section).count("Both") == 1
        assert "Both, poor" not in section
        assert "landsat + sentinel2" in section
    assert "h-best" not in service.client.get("/?sensors=planet").text
    one = service.rows(sensors="planet")[0]["submission"]
    assert "By superclass" in service.client.get(f"/submissions/{one}").text


def test_history_keeps_the_leaders_only(service: Service, fill: Fill) -> None:
    fill({"name": "First", "kind": "poor"}, {"name": "Better"}, {"name": "Worse again", "kind": "poor"})
    page = service.client.get("/history").text
    assert models(page) == ["Better", "First"]


def test_downloads(service: Service, fill: Fill) -> None:
    fill({"name": "One"}, {"name": "Two", "kind": "poor"})
    answer = service.client.get("/api/v1/leaderboard?format=csv&level=3&sort=model")
    assert answer.headers["content-type"].startswith("text/csv")
    table = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["model"] for row in table] == ["One", "Two"]
    assert [float(row["miou"]) for row in table] == [row["miou"] for row in service.rows(level=3, sort="model")]
    assert {row["simulated"] for row in table} == {"True"}


def test_readers_get_a_cached_page_until_the_board_changes(service: Service, fill: Fill) -> None:
    (one,) = fill({})
    first = service.client.get("/")
    etag = first.headers["etag"]
    assert service.client.get("/", headers={"If-None-Match": etag}).status_code == 304
    plain = service.client.get("/", headers={"Accept-Encoding": "identity"})
    assert plain.text == first.text
    service.client.post(f"/api/v1/submissions/{one}/withdraw", headers=service.headers())
    after = service.client.get("/", headers={"If-None-Match": etag})
    assert after.status_code == 200
    assert one not in after.text


def test_a_busy_board_shows_old_pages_until_the_new_ones_are_ready(service: Service, fill: Fill) -> None:
    board = Board(service.db, service.settings.model_copy(update={"cache_s": 0.2}))
    made: list[int] = []

    def make(snapshot: Snapshot) -> Page:
        made.append(len(snapshot.rows))
        return Page.of(str(len(snapshot.rows)))

    assert board.peek("") is None
    assert board.page("", make).plain == b"0"
    assert board.peek("") is board.page("", make)
    assert made == [0]
    fill({}, {"kind": "poor"})
    time.sleep(0.25)
    assert board.peek("").plain == b"0"  # at once, the old one; a thread is on its way
    wait_until(lambda: board.peek("").plain == b"2", "the new page")
    assert made == [0, 2]
    time.sleep(0.25)
    board.page("x" * 1000, make)
    assert board.peek("x" * 1000) is None  # what somebody made up is not kept
    assert made == [0, 2, 2]  # pages are not rendered again while nothing changes


def test_the_interface_is_described(service: Service) -> None:
    schema = service.client.get("/api/v1/openapi.json").json()
    paths = schema["paths"]
    assert "put" in paths["/api/v1/uploads/{upload_id}"]
    for operations in paths.values():
        for operation in operations.values():
            assert operation["description"]
            assert "ErrorBody" in str(operation["responses"]["422"])
    page = service.client.get("/docs").text
    assert all(path in page for path in paths)


def test_the_interface_explains_every_field(service: Service) -> None:
    page = service.client.get("/docs").text
    for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", page, re.DOTALL):
        cells = [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td>(.*?)</td>", row, re.DOTALL)]
        assert cells, row
        assert all(cells), row


def test_of_equal_values_none_is_the_best(service: Service, fill: Fill) -> None:
    one, two, poor = fill({"name": "One"}, {"name": "Two"}, {"name": "Poor", "kind": "poor"})
    for ids, best in ((f"id={one}&id={two}", 0), (f"id={one}&id={poor}", 1)):
        classes = service.client.get(f"/compare?{ids}&level=1").text.split("IoU by class")[1].split("</table>")[0]
        for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", classes):
            values = re.findall(r"(\d\.\d{3})", row)[:2]
            assert row.count("<strong>") == (best if len(set(values)) == 2 else 0)


def test_ticks_of_sizes_stay_in_the_chart() -> None:
    chart = str(charts.sizes([("a", 11_000_000, 0.5), ("b", 23_000_000, 0.6)], "mIoU"))
    assert re.findall(r'text-anchor="(start|middle|end)">(\d+ M)<', chart) == [
        ("start", "10 M"),
        ("middle", "20 M"),
        ("middle", "50 M"),
        ("end", "100 M"),
    ]


def test_a_citation_is_sound_latex(service: Service, fill: Fill) -> None:
    (one,) = fill({"name": "a_b 50 % {x} $y$ \\z"})
    citation = service.client.get(f"/submissions/{one}").text.split("@misc")[1].split("</pre>")[0]
    assert r"title = {a\_b 50  x y z: result" in citation
