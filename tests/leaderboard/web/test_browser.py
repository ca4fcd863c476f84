"""The pages in a real browser, as a person uses them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderboard.scoring.worker import Worker
from leaderboard.server import make_server
from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.accounts import create_token
from leaderboard.store.records import replay
from leaderboard.web.app import create_app
from tests.leaderboard.harness import CARD, make_entry, wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")


# Texts, borders of fields and bars that do not stand out (WCAG 2.1, 1.4.3 and 1.4.11): [ratio, needed, what].
FAINT = """() => {
  const channels = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = (top, below) => {
    const alpha = top.length > 3 ? top[3] : 1;
    return [0, 1, 2].map((i) => alpha * top[i] + (1 - alpha) * below[i]);
  };
  const background = (element) => {
    if (!element) return [255, 255, 255];
    const own = channels(getComputedStyle(element).backgroundColor);
    return own.length > 3 && own[3] === 0 ? background(element.parentElement)
      : own.length > 3 ? over(own, background(element.parentElement)) : own;
  };
  const light = (color) => {
    const [r, g, b] = color.map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const found = [];
  const check = (color, behind, needed, what) => {
    const value = ratio(over(channels(color), behind), behind);
    if (value < needed) found.push([Math.round(100 * value) / 100, needed, what]);
  };
  for (const element of document.body.querySelectorAll("*")) {
    const style = getComputedStyle(element);
    if (style.display === "none" || style.visibility === "hidden" || element.disabled) continue;
    const what = `${element.tagName}.${element.getAttribute("class") || ""} ${element.textContent.trim().slice(0, 30)}`;
    const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const inSvg = element instanceof SVGElement;
    if (words && !inSvg) {
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
      let seen = 1;
      for (let one = element; one; one = one.parentElement) seen *= Number(getComputedStyle(one).opacity);
      const text = channels(style.color);
      check(`${text[0]} ${text[1]} ${text[2]} ${(text[3] ?? 1) * seen}`, background(element), large ? 3 : 4.5, what);
    }
    const paper = inSvg && element.ownerSVGElement && background(element.ownerSVGElement.parentElement);
    if (words && element.matches("svg text.tick")) check(style.fill, paper, 4.5, what);
    if (element.matches("input:not([type=checkbox]):not([type=hidden]), select, textarea, .tabs a, .tier")) {
      check(style.borderTopColor, background(element.parentElement), 3, `border of ${what}`);
    }
    if (element.matches(".bar .value, .legend rect, .swatch rect")) {
      check(style.stroke, paper, 3, `edge of ${what}`);
    }
  }
  return found.slice(0, 10);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        # Without its sandbox: test machines often run as root in a container; only our own pages are opened.
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def board(
    tmp_path_factory: pytest.TempPathFactory, release_root: Path, results: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Address and token of a board with three results."""
    folder = tmp_path_factory.mktemp("board")
    settings = Settings(
        data=folder / "data", ledger=folder / "ledger", releases=(release_root,), cache_s=0, public_url="http://x"
    )
    app = create_app(settings)
    server = make_server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "the server to start")
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    app.state.settings = settings = settings.model_copy(update={"public_url": url})  # known only now
    cards = (
        {"name": "Beta", "kind": "poor", "sensors": ["sentinel2"]},
        {"name": "Alpha", "kind": "good", "sensors": ["landsat"]},
        {"name": "Gamma", "kind": "poor", "sensors": ["landsat", "sentinel2"], "team": "Theirs"},
        {
            "name": "W" * 120,
            "kind": "poor",
            "sensors": ["landsat"],
            "pretraining": "P" * 120,
            "saw_scored_labels": True,
        },
    )
    for number, card in enumerate(cards, start=1):
        ledger.write(settings.ledger, make_entry(results, number, card.pop("kind"), card.pop("team", "Ours"), **card))
    replay(app.state.db, settings)
    token = create_token(app.state.db, "Ours")
    stop = threading.Event()

    def work() -> None:
        worker = Worker(app.state.db, settings)
        while not stop.wait(0.1):
            worker.step()

    worker = threading.Thread(target=work)
    worker.start()
    yield url, token
    stop.set()
    worker.join()
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(browser: Any, board: tuple[str, str]) -> Iterator[Any]:
    """A tab; every complaint of the browser (also about the content policy) fails the test."""
    context = browser.new_context(base_url=board[0], viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(60_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    expected = "Failed to load resource"  # message of Chromium for any page with an error status
    assert [text for text in complaints if not text.startswith(expected)] == []


def names(page: Any) -> list[str]:
    return list(page.locator("table.board tbody th > a").all_inner_texts())


@pytest.mark.slow
def test_sort_filter_compare(page: Any) -> None:
    page.goto("/")
    assert names(page)[0] == "Alpha"
    page.get_by_role("link", name="Model", exact=True).click()
    page.wait_for_url("**sort=**")
    assert names(page) == ["Alpha", "Beta", "Gamma"]
    before = page.url
    page.get_by_role("link", name="Model", exact=True).click()  # the other way round
    page.wait_for_url(lambda url: url != before)
    assert names(page) == ["Gamma", "Beta", "Alpha"]
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Model")
    page.get_by_label("Uses sensor").select_option("sentinel2")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**sensor=sentinel2**")
    assert names(page) == ["Gamma", "Beta"]
    compare = page.locator("#compare")
    assert compare.is_disabled()
    page.get_by_label("Compare Beta by Ours").check()
    page.get_by_role("link", name="Date", exact=True).click()  # the selection survives sorting
    page.wait_for_url("**sort=date**")
    assert page.get_by_label("Compare Beta by Ours").is_checked()
    page.get_by_label("Compare Gamma by Theirs").check()
    assert compare.inner_text() == "Compare 2 selected"
    compare.click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("Comparison at level 4")
    assert "no difference can be shown here" in page.get_by_role("region", name="Is the difference real?").inner_text()
    page.get_by_role("link", name="Gamma").first.click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("Gamma")
    assert page.locator("svg.chart").count() >= 3


@pytest.mark.slow
def test_the_selection_survives_filters_that_hide_it(page: Any) -> None:
    page.goto("/")
    page.get_by_label("Compare Alpha by Ours").check()
    page.goto("/?sensor=sentinel2")
    assert names(page) == ["Beta", "Gamma"]
    compare = page.locator("#compare")
    assert compare.inner_text() == "Compare 1 selected"
    page.get_by_label("Compare Gamma by Theirs").check()
    compare.click()
    page.wait_for_url("**/compare?**")
    assert {"Alpha", "Gamma"} <= set(page.locator("thead th a").all_inner_texts())
    page.goto("/")  # what was compared is no longer selected
    assert page.locator("input[name=id]:checked").count() == 0
    page.get_by_label("Compare Alpha by Ours").check()
    page.get_by_role("button", name="Select none").click()
    assert page.locator("input[name=id]:checked").count() == 0
    assert compare.is_disabled()


@pytest.mark.slow
def test_without_javascript(browser: Any, board: tuple[str, str]) -> None:
    context = browser.new_context(base_url=board[0], java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Uses sensor").select_option("landsat")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**sensor=landsat**")
    assert sorted(names(page)) == ["Alpha", "Gamma"]
    page.locator("input[name=id]").first.check()
    page.get_by_role("button", name="Compare selected").click()
    assert "1 submissions are chosen" in page.get_by_role("alert").inner_text()
    context.close()


def test_columns_are_chosen_and_remembered(page: Any) -> None:
    page.goto("/")
    device = page.locator("table.board th[data-column=device]")
    assert not device.is_visible()
    page.get_by_text("Columns (more").click()
    page.get_by_label("Device").check()
    page.get_by_label("Trust", exact=True).uncheck()
    page.reload()
    assert device.is_visible()
    assert not page.locator("table.board th[data-column=tier]").is_visible()


def test_with_the_keyboard_alone(page: Any) -> None:
    page.goto("/")
    focused = "document.activeElement.textContent.trim()"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    page.locator("th[scope=col] a", has_text="Date").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**sort=date**")
    assert names(page)[0] == "Gamma"
    assert page.evaluate(focused).startswith("Date")  # the focus is where it was
    page.keyboard.press("Enter")
    page.wait_for_url("**order=asc**")
    assert page.evaluate(focused).startswith("Date")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1366, 320])
def test_nothing_sticks_out_and_text_stands_out(browser: Any, board: tuple[str, str], width: int, scheme: str) -> None:
    context = browser.new_context(base_url=board[0], viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    first = f"{1:020x}"
    page.goto("/login")
    page.get_by_label("Your team's token").fill(board[1])
    page.get_by_role("button", name="Sign in").click()
    for path in (
        "/",
        f"/submissions/{first}",
        f"/compare?id={first}&id={2:020x}",
        "/history",
        "/?superseded=true&saw_labels=true",
        "/parts?level=1",
        "/parts?level=1&part=class-1",
        "/teams?name=Ours",
        "/submit",
        "/mine",
        "/policy",
        "/about",
        "/login",
        "/docs",
        "/ledger",
    ):
        page.goto(path)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
        assert page.evaluate(FAINT) == [], (path, scheme)
        if page.locator(".scroll.tall").count() and width > 1000:
            box = page.locator(".scroll.tall")
            assert box.evaluate("box => box.scrollWidth - box.clientWidth") <= 0  # the whole table is in view
    context.close()


@pytest.mark.slow
def test_upload_through_the_form(
    page: Any, board: tuple[str, str], predictions: dict[str, Path], tmp_path: Path
) -> None:
    page.goto("/submit")
    assert page.url.endswith("/login")
    page.get_by_label("Your team's token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert "not valid" in page.get_by_role("alert").inner_text()
    page.get_by_label("Your team's token").fill(board[1])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Predictions").set_input_files(predictions["good"])
    page.get_by_label("… or as text").fill("name = 'half a card'")
    page.get_by_role("button", name="Submit", exact=True).click()
    assert "authors: Field required" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("… or as text").input_value() == "name = 'half a card'"
    page.get_by_label("Predictions").set_input_files(predictions["good"])
    page.get_by_label("… or as text").fill(_toml({**CARD, "name": "From the form"}))
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url("**/submissions/**")
    page.get_by_role("heading", name="From the form").wait_for(timeout=60_000)  # the page loads itself again
    assert page.locator(".tiles img").count() == 12
    assert page.evaluate("[...document.images].every((one) => one.loading === 'lazy' || one.naturalWidth > 0)")
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"no zip")
    page.goto("/submit")
    page.get_by_label("Predictions").set_input_files(bad)
    card = tmp_path / "card.toml"
    card.write_text(_toml({**CARD, "name": "Broken"}))
    page.get_by_label("Model card (TOML file)").set_input_files(card)
    page.get_by_role("button", name="Submit", exact=True).click()
    alert = page.get_by_role("alert")
    alert.wait_for(timeout=60_000)
    assert "not a zip" in alert.inner_text()
    page.goto("/mine")
    page.get_by_label("Withdraw From the form …").click()
    page.get_by_role("button", name="Yes, withdraw From the form").click()
    page.goto("/")
    assert "From the form" not in names(page)


def _toml(card: dict[str, Any]) -> str:
    import json

    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in card.items())
