"""The viewer in a real browser, as a person uses it."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image

from lulcbench.grid import Tile
from lulcbench.legend import legend
from lulcbench.maps.viewer import write_site
from lulcbench.release import Release
from tests.loopback import serving
from tests.lulcbench.maps.viewer.browser import RENDERED, at, opened, tab, until
from tests.lulcbench.maps.viewer.conftest import Silent
from tests.lulcbench.maps.viewer.made_map import write_map


def codes_of(page: Any) -> np.ndarray:
    return np.array([entry["code"] for entry in page.evaluate("lulcbench.site.legend")])


@pytest.mark.slow
def test_what_is_displayed_is_what_is_stored_at_1000_random_clicks_over_all_zooms(page: Any, map_folder: Path) -> None:
    root = zarr.open_group(map_folder, mode="r")
    codes = codes_of(page)
    overviews = page.evaluate("lulcbench.site.maps[0].overviews")
    resolutions = np.array([overview["resolution"] for overview in overviews])
    rng = np.random.default_rng(5)
    seen: set[int] = set()
    by_colour = 0
    for view in range(20):
        level = 1 + view % 4
        resolution = float(np.exp(rng.uniform(np.log(2), np.log(resolutions.max() * 1.5))))
        x, y = 4320000 + rng.uniform(0.2, 0.8) * 14400, 3153600 - rng.uniform(0.2, 0.8) * 14400
        page.locator("#classes").select_option(f"class_{level}")
        page.evaluate(f"lulcbench.view.map.getView().setCenter([{x}, {y}])")
        page.evaluate(f"lulcbench.view.map.getView().setResolution({resolution})")
        page.evaluate(RENDERED)
        box = page.locator("#map").bounding_box()
        assert [box["width"], box["height"]] == page.evaluate("lulcbench.view.map.getSize()")
        assert box["y"] % 1 == 0  # otherwise the browser would resample the map
        (x, y), resolution = page.evaluate("((v) => [v.getCenter(), v.getResolution()])(lulcbench.view.map.getView())")
        pixels = np.stack([rng.uniform(0, box["width"], 50), rng.uniform(0, box["height"], 50)], -1).round()
        shown = page.evaluate(
            "async (pixels) => { const out = []; for (const p of pixels) out.push(await lulcbench.displayed(p)); "
            "return out; }",
            pixels.tolist(),
        )
        said = page.evaluate(
            "async (pixels) => { const out = []; for (const p of pixels) { await lulcbench.pick(p); "
            "out.push([...document.querySelectorAll('#pixel [data-code]')].map((e) => Number(e.dataset.code))); } "
            "return out; }",
            pixels.tolist(),
        )
        page.evaluate("lulcbench.view.marker.setPosition(undefined)")
        image = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB"))
        # The overview whose resolution is nearest, as the library chooses it.
        overview = int(np.abs(resolutions - resolution).argmin())
        seen.add(overview)
        displayed = root[f"2018/{overview}/class_{level}"][...]
        full = [root[f"2018/0/class_{n}"][...] for n in (1, 2, 3, 4)]
        for (px, py), (layer,), clicked in zip(pixels, shown, said, strict=True):
            east, north = x + (px - box["width"] / 2) * resolution, y - (py - box["height"] / 2) * resolution
            row, column = (3153600 - north) / resolutions[overview], (east - 4320000) / resolutions[overview]
            at = int(np.floor(row)), int(np.floor(column))
            inside = 0 <= at[0] < displayed.shape[0] and 0 <= at[1] < displayed.shape[1]
            expected = int(displayed[at]) if inside else 0
            assert (layer["row"], layer["column"], layer["overview"]) == (*at, overview)
            assert (0 if layer["value"] is None else codes[layer["value"]]) == expected
            fine = int((3153600 - north) // 30), int((east - 4320000) // 30)
            within = 0 <= fine[0] < 480 and 0 <= fine[1] < 480
            assert clicked == ([int(values[fine]) for values in full] if within and full[0][fine] else [])
            # The colour on the screen, where the pixel of the map is large and this point is well inside it.
            margin = 1.5 * resolution / resolutions[overview]
            if expected and margin < row % 1 < 1 - margin and margin < column % 1 < 1 - margin:
                if _covered(page, px, py):
                    continue
                assert "#{:02x}{:02x}{:02x}".format(*image[int(py), int(px)]) == legend().classes[expected].color
                by_colour += 1
    assert seen == set(range(len(overviews)))
    assert by_colour >= 50


def _covered(page: Any, x: float, y: float) -> bool:
    """Whether a control is over that point of the map."""
    return bool(
        page.evaluate(
            "([x, y]) => { const box = document.querySelector('#map').getBoundingClientRect();"
            "return !document.elementFromPoint(box.x + x, box.y + y)?.matches('canvas, .ol-layer, .ol-viewport'); }",
            [x, y],
        )
    )


def test_a_click_shows_the_pixel_and_a_key_that_in_the_centre(page: Any) -> None:
    page.mouse.click(500, 400)
    page.locator("#pixel .probabilities").wait_for()
    assert page.locator("#pixel .classes tr").count() == 4
    assert page.locator("#pixel svg.chart polyline.line").count() >= 1
    before = page.locator("#pixel .hint").inner_text()
    page.locator("#map").focus()
    page.keyboard.press("Enter")
    until(page, "(before) => document.querySelector('#pixel .hint').innerText !== before", before)
    assert page.locator("#status").inner_text() == page.locator("#pixel .classes tr:last-child td").inner_text()


def test_a_count_of_0_is_a_count_where_the_map_has_data(page: Any, map_folder: Path) -> None:
    changed = zarr.open_group(map_folder, mode="r")["2018/0/changed_by_smoothing"][...]
    page.evaluate("lulcbench.view.map.getView().setResolution(30)")
    for value in (0, 1):
        row, column = (int(at) for at in np.argwhere(changed[300:] == value)[0] + (300, 0))
        centre = [4320000 + 30 * (column + 0.5), 3153600 - 30 * (row + 0.5)]
        page.evaluate(f"lulcbench.view.map.getView().setCenter({centre})")
        page.evaluate(RENDERED)
        page.locator("#map").focus()
        page.keyboard.press("Enter")
        cell = page.locator("#pixel tr", has_text="Changed by smoothing").locator("td")
        until(page, "(value) => document.querySelector('#pixel')?.innerText.includes(value)", "Changed by smoothing")
        assert cell.inner_text() == str(value)


def test_a_click_reads_one_small_file_per_year(page: Any, site_url: str) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url.removeprefix(f"{site_url}/")))
    page.mouse.click(500, 400)
    page.locator("#pixel .probabilities").wait_for()
    assert len([path for path in requests if not path.endswith("index.bin")]) == 2
    assert all("/pixels/" in path for path in requests)


def test_the_heat_map_of_a_class_reads_its_own_chunks_only(page: Any, site_url: str) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url.removeprefix(f"{site_url}/")))
    page.locator("#overlay").select_option("p3110")
    page.evaluate(RENDERED)
    assert requests
    assert all(path.startswith("data/0/2018/probability/3110/") for path in requests)


def test_classes_fade_under_another_layer_unless_their_opacity_was_chosen(page: Any) -> None:
    opacity = "lulcbench.state().classOpacity"
    overlay = page.locator("#overlay")
    overlay.select_option("entropy")
    assert page.evaluate(opacity) == 0.25
    overlay.select_option("")
    assert page.evaluate(opacity) == 1
    page.locator("#classOpacity").fill("0.6")
    overlay.select_option("margin")
    assert page.evaluate(opacity) == 0.6


def test_the_filter_hides_classes(page: Any) -> None:
    page.locator("#classes").select_option("class_1")
    page.locator("#hide-all").click()
    page.get_by_label("3 Forest and semi-natural areas").check()
    page.evaluate(RENDERED)
    drawn = set()
    for x in range(200, 700, 7):
        drawn |= set(
            page.evaluate(
                "(x) => Array.from({length: 60}, (_, i) => lulcbench.view.layers[0].classes.getData([x, 80 + 10 * i]))"
                ".filter((data) => data && data[3]).map((data) => [...data.slice(0, 3)].join())",
                x,
            )
        )
    forest = ",".join(str(v) for v in bytes.fromhex(legend().classes[3].color[1:]))
    assert drawn == {forest}


@pytest.mark.slow
def test_a_permalink_restores_everything(page: Any, browser: Any, site_url: str) -> None:
    page.locator("#classes").select_option("class_2")
    page.locator("#overlay").select_option("entropy")
    page.locator("#palette").select_option("safe")
    page.get_by_label("1 Artificial surfaces").uncheck()
    page.get_by_label("Swipe", exact=True).check()
    page.mouse.click(300, 300)
    page.locator("#pixel .classes").wait_for()
    page.get_by_role("button", name="Zoom in").click()
    page.evaluate(RENDERED)
    page.wait_for_timeout(300)
    fragment = page.evaluate("location.hash")
    other = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    opened(other, site_url, fragment)
    state = "(({hidden, ...rest}) => JSON.stringify({...rest, hidden: [...hidden].sort()}))(lulcbench.state())"
    assert other.evaluate("location.hash") == fragment
    for key in ("map", "year", "classes", "overlay", "palette", "swipe", "divider"):
        assert other.evaluate(f"lulcbench.state().{key}") == page.evaluate(f"lulcbench.state().{key}"), key
    assert len(other.evaluate(state)) > 100
    assert other.locator("#pixel .classes").inner_text() == page.locator("#pixel .classes").inner_text()
    other.context.close()


@pytest.mark.parametrize(("x", "year"), [(300, "2012"), (600, "2018")])
def test_a_permalink_describes_the_pixel_of_the_side_that_was_clicked(
    page: Any, browser: Any, site_url: str, x: int, year: str
) -> None:
    page.get_by_label("Swipe", exact=True).check()
    page.evaluate(RENDERED)
    page.mouse.click(x, 400)
    hint = page.locator("#pixel .hint").first
    until(page, "(year) => document.querySelector('#pixel .hint')?.innerText.includes(`, ${year} `)", year)
    other = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    opened(other, site_url, page.evaluate("location.hash"))
    other.locator("#pixel .classes").first.wait_for()
    assert other.locator("#pixel .hint").first.inner_text() == hint.inner_text()
    other.context.close()


def test_a_line_of_the_chart_breaks_at_a_year_without_data(browser: Any, tmp_path: Path) -> None:
    map_ = write_map(tmp_path / "map", (2006, 2012, 2018), complete=(2006, 2018))
    site = write_site([map_], tmp_path / "site")
    with serving(functools.partial(Silent, directory=str(site))) as address, tab(browser, address) as page:
        counts = {}
        for name, row in (("all years", 300), ("without 2012", 440)):
            page.evaluate(f"lulcbench.view.map.getView().setCenter([4320000 + 30 * 240.5, 3153600 - 30 * {row + 0.5}])")
            page.evaluate(RENDERED)
            page.locator("#map").focus()
            page.keyboard.press("Enter")
            until(page, f"document.querySelector('#pixel')?.innerText.includes('row {row}')")
            page.locator("#pixel svg.chart").wait_for()
            counts[name] = [
                len(points.split())
                for points in page.locator("#pixel svg.chart polyline.line").evaluate_all(
                    "(lines) => lines.map((line) => line.getAttribute('points'))"
                )
            ]
    assert set(counts["all years"]) == {3}
    assert set(counts["without 2012"]) == {1}  # a point before the gap, and one after it
    assert len(counts["without 2012"]) % 2 == 0


@pytest.mark.parametrize(
    "fragment",
    ["#x=nan&y=1&r=-3", "#map=9&year=1900&classes=class_9", "#hide=1.2.x&swipe=..&pick=~", "#%", "#overlay=__proto__"],
)
def test_a_bad_permalink_shows_the_default(page: Any, site_url: str, fragment: str) -> None:
    opened(page, site_url, fragment)
    assert page.evaluate("lulcbench.state().classes") == "class_4"
    assert page.evaluate("lulcbench.state().year") == 2018
    assert page.locator("#error").is_hidden()


def test_years_are_changed_by_a_slider(page: Any) -> None:
    slider = page.get_by_label("Year, left")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("lulcbench.state().year") == 2012
    assert slider.get_attribute("aria-valuetext") == "2012"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("lulcbench.state().year") == 2018


@pytest.mark.slow
def test_swipe_shows_two_years(page: Any) -> None:
    page.get_by_label("Swipe", exact=True).check()
    page.evaluate(RENDERED)
    years = [page.evaluate(f"lulcbench.displayed([{x}, 300]).then((found) => found[0].year)") for x in (300, 600)]
    assert years == [2012, 2018]
    page.get_by_label("Position of the swipe").focus()
    for _ in range(25):
        page.keyboard.press("ArrowRight")
    years = [page.evaluate(f"lulcbench.displayed([{x}, 300]).then((found) => found[0].year)") for x in (300, 600)]
    assert years == [2012, 2012]


def test_with_the_keyboard_alone(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip the map"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "map"
    center = page.evaluate("lulcbench.view.map.getView().getCenter()")
    page.keyboard.press("ArrowRight")
    until(page, "(x) => lulcbench.view.map.getView().getCenter()[0] > x", center[0])
    resolution = page.evaluate("lulcbench.view.map.getView().getResolution()")
    page.keyboard.press("+")
    until(page, "(r) => lulcbench.view.map.getView().getResolution() < r", resolution)
    assert page.locator("#crosshair").is_visible()
    page.get_by_label("Classes of Agricultural areas").focus()
    page.keyboard.press("Enter")
    assert page.get_by_label("Classes of Agricultural areas").get_attribute("aria-expanded") == "false"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Classes of Agricultural areas"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_nothing_overflows_and_simulated_is_visible(browser: Any, site_url: str, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    opened(page, site_url)
    page.get_by_label("Swipe", exact=True).check()
    page.mouse.click(230 if width == 320 else 400, 300)
    page.locator("#pixel .classes").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('#panel').scrollWidth <= document.querySelector('#panel').clientWidth")
    notice = page.get_by_text("Simulated data", exact=False).first
    assert notice.is_visible()
    inside = page.evaluate(
        "[...document.querySelectorAll('#timebar, .ol-control, #side-left, #side-right')].map((e) => {"
        "const a = e.getBoundingClientRect(), b = document.querySelector('#stage').getBoundingClientRect();"
        "return a.left >= b.left && a.right <= b.right && a.bottom <= b.bottom; })"
    )
    assert all(inside)
    context.close()


def test_a_missing_chunk_is_reported(browser: Any, site_url: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.route("**/class_4/**/*.bin", lambda route: route.fulfill(status=404))
    page.goto(site_url)
    page.get_by_role("alert").wait_for()
    assert "could not be read" in page.get_by_role("alert").inner_text()
    assert "404" in page.get_by_role("alert").inner_text()
    context.close()


@pytest.mark.slow
def test_labels_and_observations_are_shown_at_a_click(browser: Any, release_site: Path, release_root: Path) -> None:
    point = json.loads((release_site / "site.json").read_bytes())["points"][0]
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    with serving(functools.partial(Silent, directory=str(release_site))) as url:
        opened(page, url, f"#x={point['x']}&y={point['y']}&r=10")
        page.mouse.click(*at(page, point["x"], point["y"]))
        rows = page.locator("#pixel .references tr")
        rows.first.wait_for()
        texts = rows.all_inner_texts()
        assert [text.split("\t")[0] for text in texts] == ["Label 2012", "Label 2018", "Observation"]
        assert "311" in texts[2]
        assert "LUCAS 2018 (4711)" in texts[2]
        release = Release.open(release_root)
        tiles = release.tiles("test")
        left, _, _, top = Tile.from_id(tiles.ids[0]).bounds
        x, y = page.evaluate("lulcbench.state().pick")
        for year, text in ((2012, texts[0]), (2018, texts[1])):
            code = release.labels("test", year, [tiles.first])[0][int((top - y) // 50), int((x - left) // 50)]
            assert f"{code} {legend().classes[int(code)].name}" in text
        page.get_by_label("Observations on the ground").uncheck()
        page.mouse.click(*at(page, point["x"], point["y"]))
        until(page, "document.querySelectorAll('#pixel .references tr').length === 2")
        page.get_by_label("Swipe", exact=True).check()
        page.locator("#map-right").select_option("1")
        page.evaluate(RENDERED)
        found = page.evaluate("lulcbench.displayed([800, 400])")
        assert [entry["map"] for entry in found] == ["1"]
    context.close()
