"""The command ``verify`` on the small release: ranked polygons and the page."""

from __future__ import annotations

import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
from shapely.geometry import box

from benchmarks.verification import write_map
from lulcbench import cli
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.polygons import read_polygons
from lulcbench.grid import CRS
from lulcbench.release import Release


@pytest.mark.slow
def test_a_map_is_verified_against_imagery(
    exported, release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = Release.open(release_root)
    wrong = write_map(tmp_path / "map.gpkg", release, list(release.manifest.splits), 2, 0.1)
    ranked, page = tmp_path / "ranked.gpkg", tmp_path / "page.html"
    command = ["verify", tmp_path / "map.gpkg", "--class-column", "code", "--level", "2", "--out", ranked]
    command += ["--imagery", release_root, "--model", exported("forest"), "--page", page, "--top", "3"]
    monkeypatch.setattr(sys, "argv", ["lulcbench", *map(str, command)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    assert not end.value.code, captured.err
    polygons = geopandas.read_file(ranked)
    assert f"of {len(polygons):,} polygons are wrong" in captured.out
    assert len(polygons) > 0.9 * len(wrong)
    assert polygons["rank"].tolist() == list(range(1, len(polygons) + 1))
    assert polygons["wrong"].is_monotonic_decreasing
    ranks = np.flatnonzero(wrong[polygons["feature"].to_numpy()]) / len(polygons)
    assert ranks.mean() < 0.5  # benchmarks/verification.py measures how well errors are found
    assert page.read_text().count("data:image/png;base64,") == 9
    assert "wrong with a probability of" in page.read_text()
    assert "SIMULATED DATA" in captured.out
    assert "SIMULATED DATA" in page.read_text()


def test_a_file_with_several_layers_needs_one_to_be_named(tmp_path: Path) -> None:
    path, square = tmp_path / "map.gpkg", box(0, 0, 10, 10)
    bounds = (0, 0, 100, 100)
    for layer, code in (("old", 31), ("new", 21)):
        geopandas.GeoDataFrame({"code": [code]}, geometry=[square], crs=CRS).to_file(path, layer=layer)
    geopandas.GeoDataFrame({"name": ["here"]}, geometry=[square], crs=CRS).to_file(path, layer="outline")
    with pytest.raises(LulcbenchError, match="several layers with the column code: old, new"):
        read_polygons(path, bounds, 10, class_column="code")
    with pytest.raises(LulcbenchError, match="no layer newest"):
        read_polygons(path, bounds, 10, class_column="code", layer="newest")
    assert read_polygons(path, bounds, 10, class_column="code", layer="new").table["code"].tolist() == [21]


def test_of_several_layers_the_only_one_with_the_classes_is_read(tmp_path: Path) -> None:
    path, square = tmp_path / "map.gpkg", box(0, 0, 10, 10)
    for layer, column in (("outline", "name"), ("classes", "code")):
        geopandas.GeoDataFrame({column: [31]}, geometry=[square], crs=CRS).to_file(path, layer=layer)
    assert read_polygons(path, (0, 0, 100, 100), 10, class_column="code").table["code"].tolist() == [31]
