"""Observations: scenes that show the same ground at the same moment count once.

Archives hold one acquisition several times: processed again with a newer baseline, cut into overlapping tiles or rows,
or delivered in two UTM zones. Scenes of one pass of one satellite are one observation: composites take each pixel of
it from the first scene that has it. A scene that repeats the place of one processed later is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pystac
import shapely
from shapely.geometry.base import BaseGeometry

from builders.readers.scene import Scene
from builders.readers.statements import baseline
from builders.stages.left_out import LeftOut
from lulcbench.errors import LulcbenchError

# A satellite passes over Europe within 15 minutes and returns 90 minutes later at the earliest; the scenes of one pass
# follow one another within seconds. Times of day within an interval that is longer are not known.
SAME_PASS = timedelta(minutes=10)
COVERED = 0.99  # share of a footprint; footprints of two processings differ by pixels

_DATATAKE = re.compile(r"G?(S2[A-Z])_(?:MSIL\d[A-Z]_)?(\d{8}T\d{6})")
_MGRS = re.compile(r"(?:^|[_-])T?(\d{2}[C-X][A-Z]{2})(?=[_-]|$)")


@dataclass(slots=True)
class _Candidate:
    item: pystac.Item
    scene: Scene
    time: datetime | None
    platform: str | None
    datatake: tuple[str, str] | None
    observation: int


def separate(items: Sequence[pystac.Item], scenes: Sequence[Scene]) -> tuple[list[Scene], list[LeftOut]]:
    """Group the scenes of one sensor by observation, and leave out those that were processed again.

    Args:
        items: the items of the catalog.
        scenes: the scene of each item.

    Returns:
        The scenes to use, with their ``observation``, in the order of the observations; within one, the newest
        processing is first. And the scenes that are left out.
    """
    candidates = [
        _Candidate(item, scene, _moment(scene), _platform(item), _datatake(item), i)
        for i, (item, scene) in enumerate(zip(items, scenes, strict=True))
    ]
    _unite(candidates)
    groups: dict[int, list[_Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.observation, []).append(candidate)
    kept: list[Scene] = []
    dropped: list[LeftOut] = []
    for group in sorted(groups.values(), key=lambda g: min((c.scene.start, c.scene.id) for c in g)):
        group.sort(key=lambda c: c.scene.id)
        group.sort(key=lambda c: _processing(c.item), reverse=True)  # stable: equal ones stay in order of id
        name = min((c.scene.start, c.scene.id) for c in group)
        used: list[_Candidate] = []
        for candidate in group:
            newer = next((other for other in used if _repeats(candidate, other)), None)
            if newer is None:
                used.append(candidate)
                kept.append(candidate.scene.model_copy(update={"observation": " ".join(name)}))
            else:
                old, new = candidate.scene, newer.scene
                detail = f"as {new.id}" + (
                    f", baseline {new.baseline} instead of {old.baseline}" if new.baseline else ""
                )
                dropped.append(LeftOut(old.collection, old.id, "processed again later", detail))
    return kept, dropped


def _unite(candidates: list[_Candidate]) -> None:
    """Give all candidates of one pass the same observation number."""
    parent = list(range(len(candidates)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    takes: dict[tuple[str, str], int] = {}
    last: dict[str | None, tuple[datetime, int]] = {}
    timed = [(c.time, i) for i, c in enumerate(candidates) if c.time is not None]
    for time, i in sorted(timed):
        take, platform = candidates[i].datatake, candidates[i].platform
        if take:
            parent[root(i)] = root(takes.setdefault(take, i))
        # An item that does not name its platform may be of any.
        for other in {platform, None} if platform else set(last):
            if other in last and time - last[other][0] <= SAME_PASS:
                parent[root(i)] = root(last[other][1])
        last[platform] = (time, i)
    for i, candidate in enumerate(candidates):
        candidate.observation = root(i)


def _moment(scene: Scene) -> datetime | None:
    """Time of acquisition; None if only an interval is known that is longer than a pass."""
    start, end = (_utc(datetime.fromisoformat(text)) for text in (scene.start, scene.end))
    return start if end - start <= SAME_PASS else None


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _platform(item: pystac.Item) -> str | None:
    """Name of the satellite, in one spelling; None if the item does not state it."""
    name = re.sub(r"[^a-z0-9]", "", str(item.properties.get("platform") or "").lower())
    return re.sub(r"^s(?=\d[a-z]$)", "sentinel", name) or None


def _datatake(item: pystac.Item) -> tuple[str, str] | None:
    """Satellite and start of a Sentinel-2 datatake, without the processing baseline at the end of its id."""
    for text in (item.properties.get("s2:datatake_id"), item.properties.get("s2:product_uri"), item.id):
        if match := _DATATAKE.match(str(text or "")):
            return match[1], match[2]
    return None


def _place(item: pystac.Item) -> str | None:
    """Tile or row of the archive's own grid, if the item states it."""
    properties = item.properties
    mgrs = [properties.get(f"mgrs:{part}") for part in ("utm_zone", "latitude_band", "grid_square")]
    if properties.get("grid:code"):
        return str(properties["grid:code"]).removeprefix("MGRS-")
    if properties.get("s2:mgrs_tile"):
        return str(properties["s2:mgrs_tile"])
    zone = re.match(r"\d+", str(mgrs[0] or ""))  # some archives write the latitude band as well, as in 32U
    if zone and all(mgrs):
        return f"{int(zone[0]):02d}{mgrs[1]}{mgrs[2]}"
    wrs = [re.fullmatch(r"\d+", str(properties.get(f"landsat:wrs_{part}"))) for part in ("path", "row")]
    if wrs[0] and wrs[1]:
        return f"{int(wrs[0][0])}/{int(wrs[1][0])}"
    match = _MGRS.search(item.id)
    return match[1] if match else None


def _processing(item: pystac.Item) -> tuple[float, str, int]:
    """Sorts by processing, later ones higher: baseline, time of processing, Landsat's quality category."""
    properties = item.properties
    known = baseline(item)
    landsat = re.match(r"L\w\d\d_L\w{3}_\d{6}_\d{8}_(\d{8})_", item.id)
    stated = [properties.get(key) for key in ("s2:generation_time", "processing:datetime", "created", "updated")]
    when = landsat[1] if landsat else next((str(text) for text in stated if text), "")
    category = {"T1": 2, "T2": 1}.get(str(properties.get("landsat:collection_category") or item.id[-2:]), 0)
    return known[1] if known else 0, when, category


def _repeats(older: _Candidate, newer: _Candidate) -> bool:
    """Whether the newer scene covers the same place: nothing is lost without the older one."""
    places = _place(older.item), _place(newer.item)
    if all(places) and places[0] != places[1]:
        return False
    a, b = _footprint(older.item), _footprint(newer.item)
    common = a.intersection(b).area
    if all(places):
        return bool(common >= COVERED * a.area)
    return bool(common >= COVERED * max(a.area, b.area))


def _footprint(item: pystac.Item) -> BaseGeometry:
    try:
        if item.geometry:
            return shapely.make_valid(shapely.geometry.shape(item.geometry))
        box = item.bbox or [0, 0, 0, 0]
        return shapely.box(box[0], box[1], box[len(box) // 2], box[len(box) // 2 + 1])
    except (shapely.errors.ShapelyError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise LulcbenchError(f"Item {item.id} has a malformed geometry: {error}.", "Correct the catalog.") from error
