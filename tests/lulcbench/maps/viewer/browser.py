"""What the tests of the viewer in a browser share."""

from __future__ import annotations

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


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """Position on the page of a coordinate of the map."""
    px, py = page.evaluate(f"lulcbench.view.map.getPixelFromCoordinate([{x}, {y}])")
    box = page.locator("#map").bounding_box()
    return box["x"] + px, box["y"] + py
