"""The board by class, region and label edge."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.leaderboard.harness import Service


def test_classes_are_ranked_by_their_iou(
    service: Service, fill: Callable[..., list[str]], results: dict[str, Any]
) -> None:
    fill({"name": "Good"}, {"name": "Poor", "kind": "poor"}, {"name": "Cheat", "saw_scored_labels": True})
    page = service.client.get("/parts", params={"level": 1}).text
    ious = {
        kind: {scored["code"]: scored["iou"] for scored in results[kind]["scores"]["levels"]["1"]["classes"]}
        for kind in ("good", "poor")
    }
    for code, iou in ious["good"].items():
        if iou is not None:
            row = page.split(f"part=class-{code}#h-chosen")[1].split("</tr>")[0]
            assert f">{iou:.3f}<" in row
            assert row.index(f">{iou:.3f}<") < row.index(f">{ious['poor'][code]:.3f}<")
            assert row.index(">Good<") < row.index(">Poor<")
    assert "Cheat" not in page
    code = next(iter(ious["good"]))
    chosen = service.client.get("/parts", params={"level": 1, "part": f"class-{code}"}).text.split('id="h-chosen"')[1]
    ranking = chosen.split("</table>")[0]
    assert ranking.index(">Good<") < ranking.index(">Poor<")
    assert 'href="/parts?' in service.client.get("/", params={"level": 1}).text


@pytest.mark.parametrize(
    "part", ["class-9999", "region-x", "<script>", "class-"], ids=["code", "region", "markup", "none"]
)
def test_unknown_parts_are_not_found(service: Service, fill: Callable[..., list[str]], part: str) -> None:
    fill({})
    assert service.client.get("/parts", params={"part": part}).status_code == 404


def test_an_empty_board_has_no_parts(service: Service) -> None:
    assert "No result yet" in service.client.get("/parts").text


def test_edges_and_regions_are_there(service: Service, fill: Callable[..., list[str]], results: dict[str, Any]) -> None:
    fill({})
    level = results["good"]["scores"]["levels"]["4"]
    page = service.client.get("/parts").text
    for kind, known in (("region", level["regions"]), ("edge", level["boundary"])):
        for one in known:
            row = page.split(f"part={kind}-{one['name']}#h-chosen")[1].split("</tr>")[0]
            assert f">{one['metrics']['miou']['value']:.3f}<" in row


def test_equal_values_share_a_rank(service: Service, fill: Callable[..., list[str]]) -> None:
    fill({"name": "One"}, {"name": "Two"}, {"name": "Three", "kind": "poor"})
    page = service.client.get("/parts", params={"level": 1, "part": "class-1"}).text
    ranking = page.split('id="h-chosen"')[1].split("</table>")[0]
    assert re.findall(r'<tr><td class="num">(\d)</td>', ranking) == ["1", "1", "3"]
    row = page.split('part=class-1#h-chosen"')[1].split("</tr>")[0]
    assert re.findall(r"<td>(2 results)?", row) == ["2 results", ""]
    assert ">Three<" in row
