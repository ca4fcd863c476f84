"""Report of a build: which scenes and tiles it uses, which it leaves out, and why. It is part of the release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from builders.readers.scene import Scene
from builders.readers.servers import is_on_server
from builders.recipe import BUFFER, Recipe
from builders.stages.left_out import count_reasons
from builders.stages.plan import Omitted, Planned

FILE = "build.json"
WHY_UNLABELLED = {
    "overlapping_labels": "polygons of several classes overlap there",
    "sparse_labels": "less than min_cover of them has a class",
}


def content(
    lock: Mapping[str, Any],
    rows: Iterable[Planned],
    omitted: Iterable[Omitted],
    dropped: Mapping[str, str],
    unlabelled: Mapping[str, Mapping[str, int]],
    damaged: Sequence[Mapping[str, Any]],
    empty: Sequence[str],
) -> dict[str, Any]:
    """The report.

    Args:
        lock: content of the lock file.
        rows: the plan.
        omitted: tiles that are not planned.
        dropped: tile id → the array of a required sensor that has no valid pixel there.
        unlabelled: label pixels that the map covers and that have no label, by reason and label array; see
            ``materialize.count_unlabelled``.
        damaged: scenes of which parts are not used because a file is damaged: id, what is wrong, and the tiles.
        empty: ``empty_seasons`` of the recipe.

    Returns:
        ``scenes`` and ``tiles``, each with counts and a list ``left_out`` of single scenes or tiles with the reason;
        ``sparse_labels`` and ``overlapping_labels`` by label array. ``on_servers`` counts files that were read from
        servers, whose sidecars (masks, georeference) are not looked for. Decisions that were taken when scenes were
        read are under ``notes``.
    """
    rows = sorted(rows, key=lambda row: row.tile.id)
    tiles = [{"id": one.tile.id, "region": one.region, "reason": one.reason} for one in omitted]
    for row in rows:
        if row.split == BUFFER:
            tiles.append({"id": row.tile.id, "region": row.region, "reason": "in the buffer between splits"})
        elif row.tile.id in dropped:
            reason = f"no valid pixel of {dropped[row.tile.id]}"
            tiles.append({"id": row.tile.id, "region": row.region, "reason": reason})
    scenes = lock["scenes"]
    return {
        "scenes": {
            "used": dict(sorted(Counter(scene["sensor"] for scene in scenes).items())),
            "left_out": lock.get("left_out", []),
            "empty_seasons": list(empty),
            "damaged": list(damaged),
            "on_servers": _on_servers(scenes),
            "notes": [{"id": scene["id"], "note": note} for scene in scenes for note in scene.get("notes", [])],
        },
        "tiles": {
            "used": sum(row.split != BUFFER and row.tile.id not in dropped for row in rows),
            "left_out": sorted(tiles, key=lambda tile: tile["id"]),
        },
        **{reason: dict(sorted(counts.items())) for reason, counts in unlabelled.items()},
    }


def empty_seasons(recipe: Recipe, scenes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Seasons of a sensor's year that no scene falls in, so that their composites are empty."""
    known = [Scene.model_validate(scene) for scene in scenes]
    return [
        f"{rule.name} {year} {season.name}"
        for rule in recipe.sensors
        for year in rule.years
        for season, days in zip(recipe.seasons, rule.spans(recipe.seasons, year), strict=True)
        if not any(scene.sensor == rule.name and scene.falls_in(days) for scene in known)
    ]


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report in a few lines for the console."""
    scenes, tiles = report["scenes"], report["tiles"]
    used = ", ".join(f"{n} of {name}" for name, n in scenes["used"].items())
    yield f"scenes: {used or 'none'}{_left_out(scenes['left_out'])}"
    yield f"tiles: {tiles['used']}{_left_out(tiles['left_out'])}"
    for region, area in report.get("areas", {}).items():
        codes = f"{area['column']} {', '.join(area['codes'])} of " if "codes" in area else ""
        yield f"area of {region}: {codes}{area['file']}"
    for reason, why in WHY_UNLABELLED.items():
        for array, n in report[reason].items():
            if n:
                yield f"{array}: {n} pixels are not labelled, since {why}"
    if scenes["empty_seasons"]:
        yield f"without any scene: {', '.join(scenes['empty_seasons'])}"
    if scenes["damaged"]:
        damaged = scenes["damaged"]
        yield f"damaged: {len(damaged)} scenes are not used in parts, such as {damaged[0]['id']} ({damaged[0]['what']})"
    if scenes["on_servers"]["files"]:
        yield f"{scenes['on_servers']['files']} files on servers were read without looking for sidecars"
    if scenes["notes"]:
        notes = Counter(one["note"] for one in scenes["notes"])
        yield from (f"{n} scene{'s' * (n > 1)}: {note}" for note, n in sorted(notes.items()))


def _on_servers(scenes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    hrefs = {asset["href"] for scene in scenes for asset in scene["assets"].values() if is_on_server(asset["href"])}
    return {"files": len(hrefs), "sidecars": "not read"}


def _left_out(entries: list[dict[str, str]]) -> str:
    return f"; left out: {count_reasons(one['reason'] for one in entries)}" if entries else ""
