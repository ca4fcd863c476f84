"""Time to find the scenes of each group of tiles: the spatial index of the builder against a scan of all scenes.

``python benchmarks/nearby.py`` uses 100,000 scenes of 110 km (Sentinel-2 tiles, three seasons of a year of Europe) and
10,000 groups of 9.6 km; the scan is measured on some groups and scaled.
"""

from __future__ import annotations

import argparse
import json
import platform
import time

import numpy as np

from builders.readers.scene import Scene
from builders.stages._jobs import Nearby

EUROPE = (2_500_000, 1_400_000, 7_400_000, 5_400_000)  # left, bottom, right, top, EPSG:3035 m
DAY = "2018-07-01T00:00:00+00:00"


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenes", type=int, default=100_000)
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--scanned", type=int, default=20, help="groups that the scan is measured on")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    left, bottom, right, top = EUROPE
    corners = rng.uniform((left, bottom), (right - 109_800, top - 109_800), (options.scenes, 2))
    scenes = [
        Scene(
            id=str(i), sensor="sentinel2", collection="c", start=DAY, end=DAY, cloud=None, baseline=None, crs=None,
            bounds=(x, y, x + 109_800, y + 109_800), assets={},
        )
        for i, (x, y) in enumerate(corners.tolist())
    ]  # fmt: skip
    places = rng.uniform((left, bottom), (right - 9600, top - 9600), (options.groups, 2))
    groups = [(x, y, x + 9600, y + 9600) for x, y in places.tolist()]

    begin = time.perf_counter()
    index = Nearby(scenes)
    built = time.perf_counter()
    found = [index.touching(group) for group in groups]
    done = time.perf_counter()
    scanned = [tuple(scene for scene in scenes if scene.touches(group)) for group in groups[: options.scanned]]
    scan = (time.perf_counter() - done) / options.scanned * options.groups
    assert found[: options.scanned] == scanned
    result = {
        "scenes": options.scenes,
        "groups": options.groups,
        "pairs": sum(map(len, found)),
        "index_build_s": round(built - begin, 2),
        "index_query_s": round(done - built, 2),
        "scan_s": round(scan, 1),
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
