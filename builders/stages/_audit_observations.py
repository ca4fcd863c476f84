"""The part of the audit that compares a release with the scenes of its lock file: how often ground was seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from builders.workspace import read_json
from lulcbench.grid import Tile
from lulcbench.release import ArrayKey, Manifest
from lulcbench.release.index import cloud_column
from lulcbench.seasons import Days
from lulcbench.sensors import SENSORS

SAME_PASS = timedelta(minutes=10)  # a satellite needs 15 minutes from one end of Europe to the other
Read = Callable[[ArrayKey, int], npt.NDArray[Any]]


class Checks(Protocol):
    """What counts checks and keeps problems."""

    def check(self, name: str, good: bool, problem: str) -> None:
        """Count one check; keep the problem if it failed."""


def observations(root: Path, manifest: Manifest, index: pd.DataFrame, read: Read, found: Checks) -> None:
    """Check numbers of clear observations and cloud fractions against the scenes that tiles were made from.

    Args:
        root: folder of the release.
        manifest: of the release.
        index: of the release, one row per tile.
        read: gives the stored values of a tile by array and row.
        found: gets checks and problems.
    """
    scenes: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for scene in read_json(root / "scenes.lock.json", "pack")["scenes"]:
        scenes[scene["sensor"]].append(scene)
    for name, info in manifest.sensors.items():
        quality = SENSORS[name].quality_asset if name in SENSORS else None
        for key in info.arrays(name):
            for _, row in index.iterrows():
                bounds = Tile.from_id(row["id"]).bounds
                used = set(row["scenes"])
                here = [s for s in scenes[name] if s["id"] in used and _touch(s["bounds"], bounds)]
                counts = (
                    np.asarray(read(key.clear, int(row["row"])))
                    if key.clear in info.clear_arrays(name)
                    else np.zeros((0, 1))
                )
                for season, values in zip(manifest.seasons, counts, strict=False):
                    # Of scenes that the recipe takes for any season, all count.
                    passes = count_passes([s for s in here if _falls_in(s, season.days(key.first))] or here)
                    found.check(
                        "an acquisition counts once",
                        int(values.max(initial=0)) <= passes,
                        f"{row['id']} {key}, {season.name}: a pixel has {values.max(initial=0)} clear observations, "
                        f"but its scenes are of {passes} acquisitions",
                    )
                cloud = row[cloud_column(key)]
                known = quality is None or not here or any(quality in scene["assets"] for scene in here)
                found.check(
                    "clouds without a quality layer are unknown",
                    known or bool(pd.isna(cloud)),
                    f"{row['id']} {key}: cloud fraction {cloud}, but no scene has a quality layer",
                )


def count_passes(scenes: Sequence[Mapping[str, Any]]) -> int:
    """Number of acquisitions that scenes are of: those of one platform within ten minutes are of one.

    Scenes of which only an interval is known that is longer count one by one.

    Example:
        >>> first = {"platform": "sentinel-2a", "start": "2018-07-02T10:20:21Z", "end": "2018-07-02T10:20:21Z"}
        >>> again = first | {"start": "2018-07-02T10:20:25Z"}
        >>> later = first | {"start": "2018-07-05T10:20:21Z"}
        >>> count_passes([first, again, later])
        2
    """
    last: dict[str, datetime] = {}
    exact = [scene for scene in scenes if _moment(scene["end"]) - _moment(scene["start"]) <= SAME_PASS]
    count = len(scenes) - len(exact)
    for start, platform in sorted((_moment(scene["start"]), str(scene.get("platform"))) for scene in exact):
        if platform not in last or start - last[platform] > SAME_PASS:
            count += 1
        last[platform] = start
    return count


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _falls_in(scene: Mapping[str, Any], days: Days) -> bool:
    return _moment(scene["start"]).date() <= days[1] and _moment(scene["end"]).date() >= days[0]


def _touch(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
