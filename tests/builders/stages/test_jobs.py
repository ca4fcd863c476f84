"""Scenes are matched to groups of tiles by a spatial index, with the result of a scan."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from builders.readers.scene import Scene
from builders.stages._jobs import Nearby

EDGES = st.integers(-4, 4).map(lambda k: 4800.0 * k)  # that coincide often
BOXES = st.tuples(EDGES, EDGES, EDGES, EDGES).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
EVERYWHERE = (-math.inf, -math.inf, math.inf, math.inf)


def scene(name: str, bounds: tuple[float, float, float, float]) -> Scene:
    day = "2018-07-01T00:00:00+00:00"
    return Scene(
        id=name, sensor="landsat", collection="c", start=day, end=day, cloud=None, baseline=None, crs=None,
        bounds=bounds, assets={},
    )  # fmt: skip


@given(st.lists(st.one_of(BOXES, st.just(EVERYWHERE)), max_size=12), BOXES)
@example([], (0, 0, 4800, 4800))
@example([(0, 0, 4800, 4800), EVERYWHERE], (4800, 0, 9600, 4800))
def test_the_index_finds_what_a_scan_finds_in_the_same_order(boxes: list[tuple], area: tuple) -> None:
    """Scenes that only share an edge with the area do not overlap it; those without an extent may be anywhere."""
    scenes = [scene(str(i), box) for i, box in enumerate(boxes)]
    assert Nearby(scenes).touching(area) == tuple(one for one in scenes if one.touches(area))
