"""STAC items of Earth Search, Planetary Computer, USGS, CDSE and stactools, as their archives publish them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pystac
import pytest

from builders.readers.items import channels
from builders.readers.scene import Scene
from builders.readers.statements import extent, interval
from builders.stages import _catalogs
from builders.stages._inputs import parse_checksum
from builders.stages._observations import _datatake, _place, _platform, separate
from lulcbench.errors import LulcbenchError

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def items(real_data: Path) -> dict[str, pystac.Item]:
    """By name of the file."""
    found = {}
    for path in sorted((real_data / "stac_items").glob("*.json")):
        content = json.loads(path.read_text())
        if content.get("type") == "Feature":
            with _catalogs._quiet():
                found[path.stem] = pystac.Item.from_dict(content)
            if "self" not in {link["rel"] for link in content["links"]}:
                found[path.stem].set_self_href(str(path))  # hrefs of files are relative to it
    return found


def item(items: dict[str, pystac.Item], start: str) -> pystac.Item:
    (found,) = [value for name, value in items.items() if name.startswith(start)]
    return found


def scene(one: pystac.Item) -> Scene:
    """What grouping needs of a scene; its files are not here."""
    start, end = interval(one)
    return Scene(
        id=one.id, sensor="sentinel2", collection=one.collection_id or "", start=start, end=end, cloud=None,
        baseline=one.properties.get("s2:processing_baseline"), crs=None, bounds=(0, 0, 1, 1), assets={},
    )  # fmt: skip


def test_every_item_is_read_or_refused_by_its_name(items: dict[str, pystac.Item]) -> None:
    refused = []
    for one in items.values():
        try:
            start, end = (datetime.fromisoformat(text) for text in interval(one))
            assert start <= end
            left, bottom, right, top = extent(one)
            assert left < right
            assert bottom < top
            assert all(channel.href for channel in channels(one))
        except LulcbenchError as error:
            refused.append(error.what)
    assert len(items) == 28
    assert refused == ["Item LC08_L2SP_197023_20220324_02_T1 has no bbox."]


def test_checksums_of_three_archives_are_understood(items: dict[str, pystac.Item]) -> None:
    """CDSE states some with the code of MD5 and the length of another function; these cannot be verified."""
    functions: dict[str, set[str]] = {}
    for name, one in items.items():
        for asset in one.assets.values():
            if text := asset.extra_fields.get("file:checksum"):
                parsed = parse_checksum(text)
                functions.setdefault(name.partition("__")[0], set()).add(parsed[0] if parsed else text[:6])
    assert functions == {"cdse": {"md5", "sha3_256", "d50120"}, "es1-c1": {"sha256"}, "usgs": {"sha512"}}


def test_one_acquisition_in_three_collections_is_one_observation(items: dict[str, pystac.Item]) -> None:
    three = [item(items, start) for start in ("es1-c1__S2B_T24MXV", "es1-l2a__S2B_24MXV", "es1-l1c__S2B_24MXV")]
    assert {_datatake(one) for one in three} == {("S2B", "20250731T130249")}
    assert {_place(one) for one in three} == {"24MXV"}
    scenes, left_out = separate(three, [scene(one) for one in three])
    assert len({one.observation for one in scenes}) == 1
    assert len(scenes) + len(left_out) == 3
    assert len(scenes) == 1


def test_rows_of_one_landsat_pass_are_one_observation(items: dict[str, pystac.Item]) -> None:
    """Rows 22 and 23 of path 198, 24 seconds apart; row 23 of path 197 is of another year."""
    rows = [one for name, one in items.items() if name.startswith("pc-landsat8-nl__")]
    scenes, left_out = separate(rows, [scene(one) for one in rows])
    assert not left_out
    assert sorted(len([s for s in scenes if s.observation == name]) for name in {s.observation for s in scenes}) == [
        1,
        2,
    ]


def test_satellites_and_tiles_are_told_in_every_archive(items: dict[str, pystac.Item]) -> None:
    shown = {name: (_platform(one), _place(one)) for name, one in items.items()}
    assert shown["pc-s2__S2A_MSIL2A_20190101T000001_R116_T58UFE_20201007T214651"] == ("sentinel2a", "58UFE")
    assert shown["es0-cogs__S2A_28QCH_20200714_0_L2A"] == ("sentinel2a", "28QCH")
    assert shown["usgs__LC08_L2SP_028030_20200114_20200824_02_T1_SR"] == ("landsat8", "28/30")
    cdse = next(value for name, value in shown.items() if name.startswith("cdse__S2B"))
    assert cdse == ("sentinel2b", "32TMT")
