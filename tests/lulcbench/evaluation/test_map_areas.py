"""From the labelled sample of a map to areas and areas of change."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from rasterio.transform import from_origin

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.areas import Survey
from lulcbench.evaluation.change import PairMap, transitions
from lulcbench.evaluation.class_maps import open_map
from lulcbench.evaluation.design import Design
from tests.lulcbench.evaluation.drawn_maps import CODES, LEFT, TOP, pixels, run, write


@pytest.mark.slow
def test_from_the_map_to_areas_by_the_commands(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path, other, truth, codes = maps
    sample = tmp_path / "s.gpkg"
    out = run("design", path, "--points", 500, "--out", sample)
    assert "stratified, 500 points" in out
    design = Design.load(tmp_path / "s.design.json")
    layer = geopandas.read_file(sample)
    assert list(layer.columns) == ["id", "stratum", "weight", "lon", "lat", "reference", "geometry"]
    assert layer.crs.to_epsg() == 3035
    rows, columns = ((TOP - layer.geometry.y) // 10).astype(int), ((layer.geometry.x - LEFT) // 10).astype(int)
    labels = truth[rows, columns]
    layer.assign(reference=labels.astype(str)).to_file(sample, layer="sample")
    pd.read_csv(tmp_path / "s.csv").assign(reference=labels).to_csv(tmp_path / "s.csv", index=False)
    results = []
    for name in ("s.gpkg", "s.csv"):
        files = ("--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv", "--figure", tmp_path / "r.png")
        out = run("area", path, "--sample", tmp_path / name, *files)
        assert "500 points (stratified, design)" in out
        results.append(json.loads((tmp_path / "r.json").read_text()))
    assert results[0] == results[1]
    order = [s.code for s in design.strata]
    mapped = np.searchsorted(order, codes[rows, columns])
    survey = Survey.stratified(np.searchsorted(order, labels), mapped, 3, mapped, [s.area for s in design.strata])
    expected = survey.accuracy().area
    for i, row in enumerate(results[0]["classes"]):
        assert row["area"]["value"] == pytest.approx(expected.value[i] * codes.size * 100)
        assert row["area"]["se"] == pytest.approx(expected.se[i] * codes.size * 100)
        assert row["area"]["low"] <= (truth == row["code"]).sum() * 100 <= row["area"]["high"]
        assert (row["pixels"], row["mapped"]) == ((codes == row["code"]).sum(), (codes == row["code"]).sum() * 100)
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 4
    assert (tmp_path / "r.png").stat().st_size > 5000
    with pytest.raises(LulcbenchError, match=r"was designed for a\.tif, and b\.tif differs"):
        run("area", other, "--sample", tmp_path / "s.csv")
    out = run("area", other, "--sample", tmp_path / "s.csv", "--other-map")  # strata ≠ map classes
    assert "500 points" in out
    out = run(
        "validate", path, "--points", sample, "--class-column", "reference", "--design", tmp_path / "s.design.json"
    )
    assert "accuracy (stratified), level 3" in out
    pd.read_csv(tmp_path / "s.csv").iloc[:-1].assign(reference=np.nan).to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(LulcbenchError, match="0 points have classes"):
        run("area", path, "--sample", tmp_path / "s.csv")


def labelled(folder: Path, truth: np.ndarray, n: int = 400) -> Path:
    rng = np.random.default_rng(3)
    rows, columns = rng.integers(0, 600, n), rng.integers(0, 700, n)
    shapes = shapely.points(LEFT + 10.0 * columns + 5, TOP - 10.0 * rows - 5)
    frame = geopandas.GeoDataFrame({"reference": truth[rows, columns]}, geometry=shapes, crs="EPSG:3035")
    frame.to_file(folder / "own.gpkg")
    return folder / "own.gpkg"


@pytest.mark.slow
def test_estimators_and_regions(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path, _, truth, codes = maps
    sample = labelled(tmp_path, truth)
    halves = [shapely.box(LEFT, TOP - 6000, LEFT + 3500, TOP), shapely.box(LEFT + 3500, TOP - 6000, LEFT + 7000, TOP)]
    geopandas.GeoDataFrame({"NUTS_ID": ["XX1", "XX2"]}, geometry=halves, crs="EPSG:3035").to_file(
        tmp_path / "nuts.gpkg"
    )
    errors = {}
    for estimator in ("design", "expansion", "post-stratified", "ratio"):
        run(
            "area", path, "--sample", sample, "--design", "simple-random", "--estimator", estimator,
            "--regions", tmp_path / "nuts.gpkg", "--region-layer", "nuts", "--json", tmp_path / "r.json",
        )  # fmt: skip
        result = json.loads((tmp_path / "r.json").read_text())
        errors[estimator] = [row["area"]["se"] for row in result["classes"]]
        for row in result["classes"]:
            assert abs(row["area"]["value"] - (truth == row["code"]).sum() * 100) < 4 * row["area"]["se"]
            for name, own in (("XX1", truth[:, :350]), ("XX2", truth[:, 350:])):
                figure = result["regions"][name][str(row["code"])]
                assert abs(figure["value"] - (own == row["code"]).sum() * 100) < 4 * figure["se"]
        # Overall accuracy of simple random points in a region is that of these points.
        layer = geopandas.read_file(sample)
        rows, columns = pixels(pd.DataFrame({"x": layer.geometry.x, "y": layer.geometry.y}))
        right, west = codes[rows, columns] == truth[rows, columns], columns < 350
        found = result["region_accuracy"]["XX1"]
        assert found["points"] == west.sum()
        if estimator == "expansion":
            assert found["overall"]["value"] == pytest.approx(right[west].mean())
            share = right[west].mean()
            assert found["overall"]["se"] == pytest.approx(np.sqrt(share * (1 - share) / west.sum()), rel=0.01)
            for code in CODES:
                mapped, true = (west & (own[rows, columns] == code) for own in (codes, truth))
                assert found["user"][str(code)]["value"] == pytest.approx(right[mapped].mean())
                assert found["producer"][str(code)]["value"] == pytest.approx(right[true].mean())
    assert errors["design"] == errors["post-stratified"]
    assert (np.array(errors["post-stratified"]) < np.array(errors["expansion"])).all()
    with pytest.raises(LulcbenchError, match="whose design is unknown"):
        run("area", path, "--sample", sample)
    with pytest.raises(LulcbenchError, match="no estimator 'best'"):
        run("area", path, "--sample", sample, "--design", "simple-random", "--estimator", "best")
    with pytest.raises(LulcbenchError, match="probabilities of a map"):
        run("area", path, "--sample", sample, "--design", "simple-random", "--estimator", "prediction-powered")
    with pytest.raises(LulcbenchError, match="has no column NAME"):
        run(
            "area", path, "--sample", sample, "--design", "simple-random", "--regions", tmp_path / "nuts.gpkg",
            "--region-column", "NAME",
        )  # fmt: skip


def test_transitions_between_maps(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    before, after, _, codes = maps
    later = codes.copy()
    later[:200, :350] = 211
    with open_map(before) as a, open_map(after) as b:
        found = transitions(PairMap(a, b, 3))
    assert found.codes == (211, 311, 512)
    for i, one in enumerate(CODES):
        for j, two in enumerate(CODES):
            assert found.pixels[i, j] == ((codes == one) & (later == two)).sum()
    assert found.gain.tolist() == [((later == 211) & (codes != 211)).sum() * 100, 0, 0]
    assert found.loss.tolist() == [0, *(((codes == c) & (later != c)).sum() * 100 for c in (311, 512))]
    files = ("--json", tmp_path / "c.json", "--csv", tmp_path / "c.csv", "--figure", tmp_path / "c.png")
    out = run("change", before, after, *files)
    assert "differ" in out
    assert json.loads((tmp_path / "c.json").read_text())["pixels"] == found.pixels.tolist()
    assert (tmp_path / "c.csv").read_text().splitlines()[0] == "from,to,pixels,area_m2,simulated"
    coarse = write(tmp_path / "coarse.tif", codes[::2, ::2], transform=from_origin(LEFT, TOP, 20, 20))
    with pytest.raises(LulcbenchError, match="have different pixels"):
        run("change", before, coarse)
    link, copy = tmp_path / "link.tif", tmp_path / "copy.tif"
    link.symlink_to(before)
    copy.write_bytes(before.read_bytes())
    told = "No pixel differs between a.tif and copy.tif"
    for command in (("change", before), ("design", before, "--points", 90, "--out", tmp_path / "s.gpkg", "--to")):
        for same in (before, link):
            with pytest.raises(LulcbenchError, match=r"read from the same band or year of a\.tif"):
                run(*command, same)
        assert told in run(*command, copy)
    assert "No pixel differs" not in out


def test_areas_of_change_from_a_sample(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    before, after, truth, _ = maps
    true_later = truth.copy()
    true_later[:200, :350] = 211
    sample = tmp_path / "s.gpkg"
    run("design", before, "--to", after, "--points", 600, "--out", sample, "--minimum", 40)
    table = pd.read_csv(tmp_path / "s.csv")
    layer = geopandas.read_file(sample)
    rows, columns = ((TOP - layer.geometry.y) // 10).astype(int), ((layer.geometry.x - LEFT) // 10).astype(int)
    table.assign(reference=truth[rows, columns], reference_to=true_later[rows, columns]).to_csv(
        tmp_path / "s.csv", index=False
    )
    out = run("change", before, after, "--sample", tmp_path / "s.csv", "--json", tmp_path / "r.json")
    assert "311 → 211" in out
    rows_of = {row["code"]: row for row in json.loads((tmp_path / "r.json").read_text())["classes"]}
    cleared = ((truth == 311) & (true_later == 211)).sum() * 100
    assert rows_of[3110211]["area"]["low"] <= cleared <= rows_of[3110211]["area"]["high"]


def drawn(folder: Path, path: Path, truth: np.ndarray) -> pd.DataFrame:
    run("design", path, "--points", 200, "--out", folder / "s.gpkg")
    layer = geopandas.read_file(folder / "s.gpkg")
    rows, columns = pixels(pd.DataFrame({"x": layer.geometry.x, "y": layer.geometry.y}))
    return pd.read_csv(folder / "s.csv").assign(reference=truth[rows, columns])


@pytest.mark.slow
def test_doubled_points_count_once(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path, _, truth, _ = maps
    table = drawn(tmp_path, path, truth)
    results = []
    for rows in (table, pd.concat([table, table.iloc[:50], table.iloc[:5]])):
        rows.to_csv(tmp_path / "s.csv", index=False)
        run("area", path, "--sample", tmp_path / "s.csv", "--json", tmp_path / "r.json")
        results.append(json.loads((tmp_path / "r.json").read_text()))
    assert results[1].pop("not_used") == {"repeated record": 55}
    assert results[0].pop("not_used") == {}
    assert results[0] == results[1]
    other = table.iloc[:10].assign(reference=[311 if code == 211 else 211 for code in table["reference"][:10]])
    pd.concat([table, other]).to_csv(tmp_path / "s.csv", index=False)
    out = run("area", path, "--sample", tmp_path / "s.csv", "--json", tmp_path / "r.json")
    assert "190 points (stratified, design)" in out
    assert "20 points not used: records of the same point, without years, contradict each other" in out


def test_points_that_were_moved_are_refused(maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path, _, truth, _ = maps
    table = drawn(tmp_path, path, truth)
    table.assign(stratum=table["stratum"].where(table.index > 0, 211 if table["stratum"][0] != 211 else 311)).to_csv(
        tmp_path / "s.csv", index=False
    )
    with pytest.raises(LulcbenchError, match="1 points are not in the stratum that the sample states"):
        run("area", path, "--sample", tmp_path / "s.csv")
    swapped = table.assign(lat=np.roll(table["lat"], 1), lon=np.roll(table["lon"], 1))
    swapped.to_csv(tmp_path / "s.csv", index=False)
    moved = int((table["stratum"] != np.roll(table["stratum"], 1)).sum())
    with pytest.raises(LulcbenchError, match=f"{moved} points are not in the stratum"):
        run("area", path, "--sample", tmp_path / "s.csv")


def test_pairs_of_classes_that_contradict_each_other(
    maps: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    before, after, truth, _ = maps
    run("design", before, "--to", after, "--points", 300, "--out", tmp_path / "s.gpkg")
    layer = geopandas.read_file(tmp_path / "s.gpkg")
    rows, columns = pixels(pd.DataFrame({"x": layer.geometry.x, "y": layer.geometry.y}))
    own = truth[rows, columns]
    table = pd.read_csv(tmp_path / "s.csv").assign(reference=own, reference_to=own)
    later = table.iloc[:7].assign(reference_to=[311 if code == 211 else 211 for code in own[:7]])
    pd.concat([table, later]).to_csv(tmp_path / "s.csv", index=False)
    out = run("change", before, after, "--sample", tmp_path / "s.csv")
    assert "293 points (stratified, design)" in out
    assert "14 points not used: records of the same point, without years, contradict each other" in out
    pd.concat([table.iloc[:7].assign(reference_to=np.nan), table]).to_csv(tmp_path / "s.csv", index=False)
    out = run("change", before, after, "--sample", tmp_path / "s.csv")
    assert "300 points (stratified, design)" in out
    assert "7 points not used: no reference class of this level" in out
