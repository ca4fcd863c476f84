"""How fast the viewer of maps is in headless Chromium: first paint, frames while panning, bytes of the page.

A simulated map is not needed: ``--site`` names a folder that ``lulcbench view`` wrote. The page is opened several times
with an empty cache, from a server on loopback. First paint is the time from the request of the page until all tiles in
view are drawn; a frame is the time between two animation frames while the map is dragged over its whole width.

The last line is one JSON object: medians over the rounds, and the worst frame but 5 %.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import statistics
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

START = """performance.mark('start'); window.frames_ms = [];
addEventListener('DOMContentLoaded', () => {
  const look = () => {
    const map = window.lulcbench?.view.map;
    if (!map) return setTimeout(look, 1);
    map.once('rendercomplete', () => { window.painted_ms = performance.now(); });
  };
  look();
});"""
RECORD = """() => { let last = performance.now();
const next = (now) => { frames_ms.push(now - last); last = now; requestAnimationFrame(next); };
requestAnimationFrame(next); }"""


class Silent(SimpleHTTPRequestHandler):
    """What ``python -m http.server`` does, without its log."""

    def log_message(self, *args: Any) -> None:
        """Write nothing."""


def visit(browser: Any, url: str) -> tuple[float, list[float], int]:
    """First paint, frames of a pan (ms) and bytes received until the first paint, of one visit."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.add_init_script(START)
    received: list[int] = []
    page.on("response", lambda response: received.append(int(response.headers.get("content-length", 0))))
    page.goto(url)
    while not page.evaluate("window.painted_ms"):
        page.wait_for_timeout(20)
    paint = page.evaluate("window.painted_ms")
    loaded = sum(received)
    page.evaluate("lulcbench.view.map.getView().setResolution(lulcbench.view.map.getView().getResolution() / 2)")
    page.wait_for_timeout(500)
    page.mouse.move(800, 400)
    page.mouse.down()
    page.evaluate(RECORD)
    for step in range(60):
        page.mouse.move(800 - 12 * step, 400 + 3 * step)
    page.mouse.up()
    frames = page.evaluate("frames_ms")
    context.close()
    return paint, frames[2:], loaded


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is not installed (apt-get install chromium)", file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    handler = functools.partial(Silent, directory=str(options.site))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        visits = [visit(browser, f"http://127.0.0.1:{server.server_port}/") for _ in range(options.rounds)]
        version = browser.version
        browser.close()
    server.shutdown()
    frames = sorted(frame for _, own, _ in visits for frame in own)
    page = sum((options.site / name).stat().st_size for name in ("index.html", "viewer.js", "viewer.css"))
    result = {
        "first_paint_ms": round(statistics.median(paint for paint, _, _ in visits)),
        "pan_frame_ms": round(statistics.median(frames), 1),
        "pan_frame_95_ms": round(frames[int(0.95 * len(frames))], 1),
        "page_bytes": page,
        "first_view_bytes": visits[0][2],
        "chromium": version,
        "rounds": options.rounds,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
