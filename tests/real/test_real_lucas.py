"""Where the points of the survey are: figures that docstrings and decisions quote."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest

pytestmark = pytest.mark.real


def test_measured_coordinates_are_those_of_the_surveyor(real_data: Path) -> None:
    """Their distance from the node of the grid, which the id of a point names in kilometres, is ``obs_dist``."""
    points = geopandas.read_file(real_data / "lucas_cz_2018" / "cz_lucas_points_l1_2018.shp").to_crs("EPSG:3035")
    assert len(points) == 5037
    ids = points["point_id"].astype(str)
    nodes = 1000 * np.stack([ids.str[:4].astype(int), ids.str[4:].astype(int)])
    distance = np.hypot(points.geometry.x - nodes[0], points.geometry.y - nodes[1])
    stated = points["obs_dist"].to_numpy(float)
    known = stated >= 0
    assert known.mean() > 0.99
    assert np.corrcoef(distance[known], stated[known])[0, 1] > 0.999
