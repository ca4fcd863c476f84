"""Areas of classes inside boxes and polygons, in a real browser, against the arrays of the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from affine import Affine
from rasterio.features import geometry_mask

from tests.lulcbench.maps.viewer.browser import at, opened, until


def pixels_of(page: Any) -> dict[int, int]:
    """Class code → pixels, as the table of areas has them."""
    cells = "[...document.querySelectorAll('#areas tbody tr')].map((row) => [row.dataset.code, "
    rows = page.evaluate(f"{cells} row.querySelector('[data-pixels]').dataset.pixels].map(Number))")
    return {int(code): int(pixels) for code, pixels in rows if pixels}


def counted(codes: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(codes[codes != 0], return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def area_of(page: Any) -> Any:
    until(page, "Boolean(lulcbench.state().area)")
    page.locator("#areas tfoot").wait_for()
    return page.evaluate("lulcbench.state().area")


def test_the_areas_of_a_box_are_exact(page: Any, map_folder: Path) -> None:
    page.get_by_role("button", name="Box").click()
    page.mouse.click(*at(page, 4322500, 3150000))
    page.mouse.click(*at(page, 4331800, 3141000))
    ring = np.array(area_of(page))
    (left, bottom), (right, top) = ring.min(axis=0), ring.max(axis=0)
    codes = zarr.open_group(map_folder, mode="r")["2018/0/class_4"][...]
    x, y = 4320000 + 30 * (np.arange(480) + 0.5), 3153600 - 30 * (np.arange(480) + 0.5)
    inside = ((y > bottom) & (y < top))[:, None] & ((x > left) & (x < right))[None]
    assert inside.sum() > 50_000
    assert pixels_of(page) == counted(codes[inside])


@pytest.mark.slow
def test_the_areas_of_a_polygon_are_exact_at_each_level(page: Any, map_folder: Path) -> None:
    page.get_by_role("button", name="Polygon").click()
    corners = [(4321000, 3152000), (4333000, 3150500), (4326000, 3146000), (4331000, 3140500), (4322000, 3141500)]
    for corner in corners:
        page.mouse.click(*at(page, *corner))
    page.mouse.click(*at(page, *corners[-1]))
    ring = area_of(page)
    assert len(ring) == len(corners)
    outside = geometry_mask(
        [{"type": "Polygon", "coordinates": [[*ring, ring[0]]]}], (480, 480), Affine(30, 0, 4320000, 0, -30, 3153600)
    )
    for level in (4, 1):
        page.locator("#classes").select_option(f"class_{level}")
        until(page, "(text) => document.querySelector('#areas caption')?.innerText.startsWith(text)", f"Level {level}")
        codes = zarr.open_group(map_folder, mode="r")[f"2018/0/class_{level}"][...]
        assert pixels_of(page) == counted(codes[~outside])


def test_the_areas_of_the_whole_map_are_downloaded_as_csv(page: Any, map_folder: Path) -> None:
    page.get_by_role("button", name="Whole map").click()
    root = zarr.open_group(map_folder, mode="r")
    area_of(page)
    assert pixels_of(page) == counted(root["2018/0/class_4"][...])
    page.get_by_label("Swipe", exact=True).check()
    until(page, "document.querySelectorAll('#areas thead th').length === 5")
    with page.expect_download() as download:
        page.get_by_text("Download as CSV").click()
    table = pd.read_csv(download.value.path())
    assert list(table.columns) == ["map", "year", "simulated", "layer", "code", "name", "pixels", "area_ha"]
    assert table["simulated"].all()
    for year in (2012, 2018):
        rows = table[(table["year"] == year) & (table["pixels"] > 0)]
        assert dict(zip(rows["code"], rows["pixels"], strict=True)) == counted(root[f"{year}/0/class_4"][...])
    np.testing.assert_allclose(table["area_ha"], table["pixels"] * 0.09)


def test_titles_are_not_formulas_in_the_csv(page: Any) -> None:
    page.evaluate("lulcbench.site.maps[0].title = '=1+1'")
    page.get_by_role("button", name="Whole map").click()
    area_of(page)
    with page.expect_download() as download:
        page.get_by_text("Download as CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()[1:]
    assert lines
    assert all(line.startswith("'=1+1,") for line in lines)


@pytest.mark.slow
def test_an_area_is_drawn_with_the_keyboard_and_is_in_the_permalink(page: Any, browser: Any, site_url: str) -> None:
    page.get_by_role("button", name="Box").focus()
    page.keyboard.press("Enter")
    page.evaluate("document.querySelector('#map').focus()")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert page.get_by_role("button", name="Box").get_attribute("aria-pressed") is None
    page.get_by_role("button", name="Box").click()
    page.evaluate("document.querySelector('#map').focus()")
    page.keyboard.press("Enter")
    x, y = page.evaluate("lulcbench.view.map.getView().getCenter()")
    page.evaluate(f"lulcbench.view.map.getView().setCenter([{x + 1500}, {y - 900}])")
    page.keyboard.press("Enter")
    assert np.ptp(area_of(page), axis=0).tolist() == [1500, 900]
    assert sum(pixels_of(page).values()) == 50 * 30
    other = browser.new_context().new_page()
    opened(other, site_url, page.evaluate("location.hash"))
    area_of(other)
    assert pixels_of(other) == pixels_of(page)
    other.context.close()


def test_a_double_click_ends_a_polygon_without_zooming(page: Any) -> None:
    before = page.evaluate("lulcbench.view.map.getView().getResolution()")
    page.get_by_role("button", name="Polygon").click()
    page.mouse.click(*at(page, 4324000, 3150000))
    page.mouse.click(*at(page, 4330000, 3150000))
    page.mouse.dblclick(*at(page, 4327000, 3144000))
    assert len(area_of(page)) == 3
    page.wait_for_timeout(400)
    assert page.evaluate("lulcbench.view.map.getView().getResolution()") == before


def test_boxes_side_by_side_count_every_pixel_once(page: Any, map_folder: Path) -> None:
    """Also where their borders run through pixel centres."""
    codes = zarr.open_group(map_folder, mode="r")["2018/0/class_1"][...]
    page.locator("#classes").select_option("class_1")
    total: dict[int, int] = {}
    for west, east in ((4319000, 4326015), (4326015, 4326030), (4326030, 4340000)):
        for south, north in ((3130000, 3146415), (3146415, 3160000)):
            ring = f"{west}~{south}_{west}~{north}_{east}~{north}_{east}~{south}"
            page.evaluate(f"location.hash = 'classes=class_1&area={ring}'")
            until(page, "(text) => location.hash.includes(text)", ring.replace("~", "%7E"))
            area_of(page)
            for code, pixels in pixels_of(page).items():
                total[code] = total.get(code, 0) + pixels
    assert total == counted(codes)
