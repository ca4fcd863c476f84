"""What the tests of the viewer in a browser share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.leaderboard.harness import wait_until

RENDERED = """new Promise((done) => {
  lulcbench.view.map.once("rendercomplete", () => done());
  lulcbench.view.map.render();
})"""


def until(page: Any, expression: str, argument: Any = None) -> None:
    """Wait until an expression is true. Not ``wait_for_function``: the content policy of the page forbids its eval."""
    wait_until(lambda: page.evaluate(expression, argument), expression, 60)


def opened(page: Any, url: str, fragment: str = "") -> None:
    page.goto(f"{url}/{fragment}")
    until(page, "Boolean(window.lulcbench)")
    page.evaluate(RENDERED)


@contextlib.contextmanager
def tab(browser: Any, url: str) -> Iterator[Any]:
    """A tab; complaints of the browser and requests to other addresses fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(60_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    opened(page, url)
    yield page
    context.close()
    assert complaints == []
    assert requests
    assert [address for address in requests if not address.startswith((f"{url}/", "data:", f"blob:{url}/"))] == []


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """Position on the page of a coordinate of the map."""
    px, py = page.evaluate(f"lulcbench.view.map.getPixelFromCoordinate([{x}, {y}])")
    box = page.locator("#map").bounding_box()
    return box["x"] + px, box["y"] + py
