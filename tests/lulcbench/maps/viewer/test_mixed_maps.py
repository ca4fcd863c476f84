"""Maps of different levels on one page, and layers of several levels: what is named is what is displayed."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from lulcbench.errors import CorruptFileError
from lulcbench.legend import legend
from lulcbench.maps.answers import UNCERTAIN
from lulcbench.maps.viewer import write_site
from tests.lulcbench.maps.viewer.browser import RENDERED, opened, tab, until
from tests.lulcbench.maps.viewer.test_areas import counted, pixels_of
from tests.lulcbench.maps.viewer.test_site import assembled, site_of

NAME = "Uncertain at all levels"
CORNER = (4320000, 3153600)  # of all maps


@pytest.fixture
def page(browser: Any, mixed_url: str) -> Iterator[Any]:
    with tab(browser, mixed_url) as page:
        yield page


@pytest.fixture(scope="module")
def stored(mixed_maps: list[Path]) -> list[Any]:
    return [zarr.open_group(folder, mode="r") for folder in mixed_maps]


def shown(page: Any, url: str, fragment: str) -> None:
    opened(page, url, f"?{fragment}#{fragment}")  # another query, so that the page is loaded again


def layer_at(page: Any, x: int, y: int, of: str = "layer") -> list[Any]:
    return list(page.evaluate(f"lulcbench.displayed([{x}, {y}]).then((all) => all.map((one) => one.{of}))"))


def view(page: Any, row: int, column: int, resolution: float = 30) -> tuple[float, float]:
    """Put a pixel of the maps into the centre of the page; where it is on the page."""
    page.evaluate(f"lulcbench.view.map.getView().setResolution({resolution})")
    centre = [CORNER[0] + 30 * (column + 0.5), CORNER[1] - 30 * (row + 0.5)]
    page.evaluate(f"lulcbench.view.map.getView().setCenter({centre})")
    page.evaluate(RENDERED)
    box = page.locator("#map").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def picked(page: Any, row: int, column: int) -> str:
    """What screen readers hear of a pixel."""
    view(page, row, column)
    return str(page.evaluate("lulcbench.pick(lulcbench.view.map.getSize().map((side) => side / 2))"))


def test_the_chosen_classes_are_those_displayed_after_another_map_is_chosen(page: Any) -> None:
    page.locator("#map-left").select_option("1")
    page.locator("#classes").select_option("class_4")
    page.locator("#map-left").select_option("0")
    page.evaluate(RENDERED)
    assert layer_at(page, 400, 400) == ["class_2"]
    assert page.locator("#classes").input_value() == "class_2"
    assert page.evaluate("lulcbench.state().classes") == "class_2"
    assert page.get_by_label("Classes of Arable land").count() == 0  # the tree ends at level 2
    page.locator("#classes").select_option("class_1")
    page.evaluate(RENDERED)
    assert layer_at(page, 400, 400) == ["class_1"]


@pytest.mark.parametrize(
    ("fragment", "layer"), [("map=0&year=2018&classes=class_4", "class_2"), ("map=1&year=2018", "class_4")]
)
def test_a_permalink_to_a_layer_of_another_map_opens_the_finest(
    page: Any, mixed_url: str, fragment: str, layer: str
) -> None:
    shown(page, mixed_url, fragment)
    assert page.locator("#classes").input_value() == page.evaluate("lulcbench.state().classes") == layer
    assert layer_at(page, 400, 400) == [layer]


def test_a_layer_on_top_that_the_other_map_lacks_is_left_and_the_classes_no_longer_fade(page: Any) -> None:
    page.locator("#map-left").select_option("1")
    page.locator("#overlay").select_option("set_size")
    assert page.evaluate("lulcbench.state().classOpacity") == 0.25
    page.locator("#map-left").select_option("0")
    assert page.evaluate("[lulcbench.state().overlay, lulcbench.state().classOpacity]") == ["", 1]


def test_areas_of_maps_of_different_levels_are_of_the_finest_level_of_both(
    page: Any, mixed_url: str, stored: list[Any]
) -> None:
    shown(page, mixed_url, "map=1&year=2018&classes=class_4&swipe=2.2018.0.5&area=map")
    page.locator("#areas tfoot").wait_for()
    assert page.locator("#areas caption").inner_text() == "Level 1, the finest level of both maps"
    cells = "[...document.querySelectorAll('#areas tbody tr')].map((row) => [row.dataset.code, "
    rows = page.evaluate(f"{cells} ...[...row.querySelectorAll('[data-pixels]')].map((e) => e.dataset.pixels)])")
    for column, number in ((1, 1), (2, 2)):
        expected = counted(stored[number]["2018/0/class_1"][...])
        assert {int(row[0]): int(row[column]) for row in rows} == expected
    with page.expect_download() as download:
        page.get_by_text("Download as CSV").click()
    table = pd.read_csv(download.value.path())
    assert set(table["layer"]) == {"class_1"}
    assert table.groupby("map")["pixels"].sum().nunique() == 1
    # What is displayed is finer on the left, and its name is at its side.
    assert page.locator("#side-left").inner_text().startswith("2018 · Level 4 · ")
    assert page.locator("#side-right").inner_text().startswith("2018 · Level 1 · ")
    page.locator("#classes").select_option("class_1")
    until(page, "document.querySelector('#areas caption')?.innerText === 'Level 1'")
    assert page.locator("#side-left").inner_text().startswith("2018 · Land cover")


def test_uncertain_pixels_are_stored_as_the_last_entry_of_the_legend(mixed_site: Path, stored: list[Any]) -> None:
    entries = site_of(mixed_site)["legend"]
    assert [entry["name"] for entry in entries if entry["level"] == 0] == [NAME]
    codes = np.array([entry["code"] for entry in entries] + [0] * (256 - len(entries)), np.uint16)
    assert codes[106] == UNCERTAIN
    for overview in (0, 1):
        certain = stored[1][f"2018/{overview}/certain"][...]
        assert set(np.unique(certain)) >= {0, UNCERTAIN}
        np.testing.assert_array_equal(codes[assembled(mixed_site, 2018, "certain", overview, 255, 1)], certain)
    counts = gzip.decompress((mixed_site / "data/1/2018/certain/counts.bin").read_bytes())
    totals = np.frombuffer(counts, "<u2").reshape(-1, 107).sum(axis=0)
    expected = counted(stored[1]["2018/0/certain"][...])
    assert {int(code): int(n) for code, n in zip(codes, totals, strict=False) if n} == expected


def test_a_legend_without_layers_of_several_levels_has_classes_only(site_folder: Path) -> None:
    assert len(site_of(site_folder)["legend"]) == len(legend().classes)


@pytest.mark.parametrize("layer", ["certain", "class_1"])
def test_a_lost_chunk_and_an_uncertain_code_of_one_level_are_refused(
    mixed_maps: list[Path], tmp_path: Path, layer: str
) -> None:
    copy = shutil.copytree(mixed_maps[1], tmp_path / "map")
    if layer == "certain":
        next(path for path in sorted((copy / "2018/0/certain/c").rglob("*")) if path.is_file()).unlink()
        message = "in only one of class_1 and certain, .* a chunk is missing"
    else:
        zarr.open_array(copy / "2018" / "0" / layer, mode="r+")[300, 300] = UNCERTAIN
        message = "has 65535, not a LUISA code"
    with pytest.raises(CorruptFileError, match=message):
        write_site([copy], tmp_path / "site")


def test_areas_of_certain_classes_have_a_row_of_uncertain_pixels(page: Any, mixed_url: str, stored: list[Any]) -> None:
    shown(page, mixed_url, "map=1&year=2018&classes=certain&area=map")
    page.locator("#areas tfoot").wait_for()
    certain = stored[1]["2018/0/certain"][...]
    assert pixels_of(page) == counted(certain)
    total = (stored[1]["2018/0/class_1"][...] != 0).sum()
    assert page.locator("#areas tfoot [data-pixels]").get_attribute("data-pixels") == str(total)
    row = page.locator(f"#areas tr[data-code='{UNCERTAIN}']")
    assert row.locator("th").inner_text().strip() == NAME
    assert row.locator("td").last.inner_text() == f"{100 * (certain == UNCERTAIN).sum() / total:.1f} %"
    ring = "4320000~3139200_4320000~3150000_4331001~3150000_4331001~3139200"  # cuts through tiles
    shown(page, mixed_url, f"map=1&year=2018&classes=certain&area={ring}")
    page.locator("#areas tfoot").wait_for()
    assert pixels_of(page) == counted(certain[120:, :367])


def test_uncertain_pixels_have_a_colour_and_an_entry_of_their_own(page: Any, mixed_url: str, stored: list[Any]) -> None:
    shown(page, mixed_url, "map=1&year=2018&classes=certain")
    certain = stored[1]["2018/0/certain"][...]
    row, column = (int(at) for at in np.argwhere(certain[300:] == UNCERTAIN)[0] + (300, 0))
    x, y = view(page, row, column, 2)
    box = page.locator("#map").bounding_box()
    drawn = "(p) => { const d = lulcbench.view.layers[0].classes.getData(p); return d && [...d]; }"
    at = [x - box["x"], y - box["y"]]
    assert page.evaluate(drawn, at) == [0, 0, 0, 255]
    page.mouse.move(x, y)
    until(page, "(name) => document.querySelector('#tooltip').textContent === name", NAME)
    entry = page.locator("#legend").get_by_label(NAME)
    entry.uncheck()
    page.evaluate(RENDERED)
    assert page.evaluate(drawn, at) in (None, [0, 0, 0, 0])
    entry.check()
    page.locator("#classes").select_option("class_4")
    assert page.locator("#legend").get_by_label(NAME).count() == 0


def test_screen_readers_hear_the_finest_class_and_what_is_certain(page: Any, mixed_url: str, stored: list[Any]) -> None:
    shown(page, mixed_url, "map=1&year=2018&classes=class_4")
    codes, certain = stored[1]["2018/0/class_4"][...], stored[1]["2018/0/certain"][...]
    names = {code: f"{code} {entry.name}" for code, entry in legend().classes.items()} | {UNCERTAIN: NAME}
    coarse = (certain != codes) & (certain != UNCERTAIN)
    for chosen in (coarse, certain == UNCERTAIN, certain == codes):
        row, column = (int(at) for at in np.argwhere(chosen[300:])[0] + (300, 0))
        assert picked(page, row, column) == (
            f"{names[int(codes[row, column])]}; Finest class that is certain at 90%: {names[int(certain[row, column])]}"
        )


def test_the_line_of_the_chart_is_at_the_year_of_the_clicked_side(page: Any, mixed_url: str) -> None:
    shown(page, mixed_url, "map=1&year=2012&swipe=1.2018.0.3")
    line = "document.querySelector('.chart .now').getAttribute('x1')"
    picked(page, 300, 300)
    later = page.evaluate(line)
    assert ", 2018 ·" in page.locator("#pixel .hint").first.inner_text()
    page.get_by_label("Year, right").fill("0")
    until(page, "document.querySelector('#pixel .hint').innerText.includes(', 2012 ·')")
    assert float(page.evaluate(line)) < float(later)
    page.get_by_label("Year, left").fill("1")
    page.wait_for_timeout(300)
    assert ", 2012 ·" in page.locator("#pixel .hint").first.inner_text()  # still that of the right-hand side


def test_the_chart_has_a_gap_in_years_without_data(page: Any, mixed_url: str) -> None:
    shown(page, mixed_url, "map=1&year=2018")
    for row, points in ((300, 2), (410, 1), (450, 1)):  # the second in a block that has data elsewhere
        picked(page, row, 300)
        lines = page.evaluate("[...document.querySelectorAll('.chart .line')].map((e) => e.getAttribute('points'))")
        assert lines
        assert {len(line.split()) for line in lines} == {points}
        assert (page.locator("figure td", has_text="–").count() > 0) == (points == 1)


def test_outside_of_the_map_no_value_is_displayed_and_inside_0_is_a_value(
    page: Any, mixed_url: str, stored: list[Any]
) -> None:
    code = legend().codes(4)[0]
    probability = stored[1]["2018/0/probability"][0]
    data = stored[1]["2018/0/class_4"][...] != 0
    changed = stored[1]["2018/0/changed_by_smoothing"][...]
    for overlay, values in ((f"p{code}", probability), ("changed_by_smoothing", changed)):
        shown(page, mixed_url, f"map=1&year=2018&classes=class_4&overlay={overlay}")
        for value, chosen in ((0, data & (values == 0)), (None, ~data), (1, data & (values == 1))):
            row, column = (int(at) for at in np.argwhere(chosen)[-1])
            view(page, row, column)
            size = page.evaluate("lulcbench.view.map.getSize()")
            assert layer_at(page, int(size[0] / 2), int(size[1] / 2), "value")[0] == value
        x, y = view(page, -50, -50)
        page.mouse.move(x - 5, y)
        page.mouse.move(x, y)
        page.wait_for_timeout(300)
        assert page.locator("#tooltip").is_hidden()


def test_the_buttons_for_the_zoom_work_by_keyboard(page: Any) -> None:
    resolution = "lulcbench.view.map.getView().getResolution()"
    for button, key, sign in ((".ol-zoom-in", "Enter", 1), (".ol-zoom-out", "Space", -1), (".ol-zoom-in", "Space", 1)):
        before = page.evaluate(resolution)
        page.locator(button).focus()
        page.keyboard.press(key)
        until(page, f"([before, sign]) => ({resolution} - before) * sign < 0", [before, sign])
        page.evaluate(RENDERED)
        page.wait_for_timeout(400)
    assert page.evaluate("lulcbench.state().pick") is None


def test_the_site_of_maps_of_a_legend_names_layers_with_a_capital(mixed_site: Path) -> None:
    titles = [layer["title"] for layer in json.loads((mixed_site / "site.json").read_bytes())["maps"][1]["layers"]]
    assert "Finest class that is certain at 90%" in titles
    assert all(title[0].isupper() for title in titles)


@pytest.mark.parametrize("width", [390, 320])
def test_on_a_phone_the_names_of_the_sides_leave_the_map_free(page: Any, mixed_url: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    shown(page, mixed_url, "map=1&year=2018&classes=certain&swipe=2.2018.0.5")
    box = "document.querySelector('{}').getBoundingClientRect()"
    stage, bar, left, right, handle = (
        page.evaluate(f"(({{x, y, right, bottom}}) => ({{x, y, right, bottom}}))({box.format(name)})")
        for name in ("#stage", "#timebar", "#side-left", "#side-right", "#divide")
    )
    assert left["right"] < width / 2 < right["x"]
    assert max(left["bottom"], right["bottom"]) < handle["y"] < handle["bottom"] < bar["y"]
    assert bar["bottom"] - bar["y"] < (stage["bottom"] - stage["y"]) / 3
    inside = "[...document.querySelectorAll('#timebar *')].every((one) => one.getBoundingClientRect().right <= {})"
    assert page.evaluate(inside.format(bar["right"]))
    # The year and the layer come first, so that a long title does not hide them.
    assert page.locator("#side-right").inner_text().startswith("2018 · Level 1 · ")


def test_skipping_the_map_by_keyboard_changes_nothing_but_the_focus(page: Any, mixed_url: str) -> None:
    shown(page, mixed_url, "map=1&year=2012&classes=class_3&swipe=2.2018.0.5")
    before = page.evaluate("location.hash")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(page, "document.activeElement.id === 'panel'")
    page.wait_for_timeout(200)
    assert page.evaluate("location.hash") == before
    assert page.evaluate("[lulcbench.state().map, lulcbench.state().classes]") == ["1", "class_3"]


def test_uncertain_pixels_differ_from_the_ground_also_in_dark_mode(page: Any) -> None:
    page.emulate_media(color_scheme="dark")
    ground = page.evaluate("getComputedStyle(document.querySelector('#stage')).backgroundColor")
    assert min(int(part) for part in ground[4:-1].split(",")) >= 0x38
