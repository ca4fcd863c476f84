"""Conformal answers and smoothing, each against an independent computation."""

from __future__ import annotations

import json
import math
import shutil
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import xarray as xr
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import CorruptFileError, LulcbenchError, UnsupportedFormatError
from lulcbench.grid import Tile
from lulcbench.legend import NODATA, ClassScheme, legend
from lulcbench.maps import MapModel, MapOptions, Smoothing, map_release
from lulcbench.maps.answers import UNCERTAIN, answers
from lulcbench.maps.conformal import nonconformity, threshold
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.maps.lattice import Lattice
from lulcbench.maps.smoothing import smooth
from lulcbench.maps.windows import predict_block, predict_window
from lulcbench.release import Release


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(0))
    return (p / p.sum(0)).astype(np.float32)


def contains(code: int, label: int) -> bool:
    """Whether a class contains a label, or the label a class: by the tree of the legend alone."""
    if code == UNCERTAIN:
        return True
    level = min(legend().classes[code].level, legend().classes[label].level)
    return legend().ancestor(code, level) == legend().ancestor(label, level)


def test_an_answer_is_wrong_exactly_where_the_threshold_is_not_above_the_score() -> None:
    rng = np.random.default_rng(0)
    p = softmax(rng.normal(0, 2.5, (41, 300)))
    labels = rng.choice(sorted(code for code in legend().classes if legend().classes[code].level <= 3), 300)
    labels = labels.astype(np.uint16)
    scores = nonconformity(p, labels, ClassScheme.luisa(3))
    assert {0} < set(np.round(scores, 1).tolist())
    for limit in (0.0, 0.2, 0.5, 0.8, 0.99, 1.5):
        codes, sizes = answers(p, ClassScheme.luisa(3), limit)
        for pixel in range(300):
            code = int(codes[pixel])
            assert contains(code, int(labels[pixel])) == (scores[pixel] < limit or scores[pixel] == 0)
            below = [
                c
                for c in legend().codes(3)
                if code == UNCERTAIN or legend().ancestor(c, legend().classes[code].level) == code
            ]
            assert sizes[pixel] == len(below)
            if code != UNCERTAIN:
                members = [legend().codes(3).index(c) for c in below]
                assert p[members, pixel].sum() >= limit - 1e-5
    nothing = np.zeros(300, np.uint16)
    assert len(nonconformity(p, nothing, ClassScheme.luisa(3))) == 0


def test_coverage_holds_on_blocks_that_were_not_used() -> None:
    """Blocks differ: in some, the model is far too sure of itself."""
    rng = np.random.default_rng(1)
    blocks, pixels, n = 400, 80, 60
    scores, regions = {}, {}
    for block in range(blocks):
        logits = rng.normal(0, 2.5, (14, pixels))
        sure = rng.uniform(0.4, 1.1)  # the true distribution is flatter than that of the model
        truth = softmax(sure * logits)
        drawn = (rng.random(pixels) > truth.cumsum(0)).sum(0).clip(0, 13)
        labels = np.array(legend().codes(2), np.uint16)[drawn]
        scores[block] = nonconformity(softmax(logits), labels, ClassScheme.luisa(2))
        regions[block] = block % 4
    coverages, by_region = [], {region: [] for region in range(4)}
    for _ in range(200):
        chosen = set(rng.choice(blocks, n, replace=False).tolist())
        limit = threshold({str(block): scores[block] for block in chosen}, 0.9)
        losses = {block: np.mean(own >= limit) for block, own in scores.items() if block not in chosen}
        coverages.append(1 - np.mean(list(losses.values())))
        for region, own in by_region.items():
            own.append(1 - np.mean([loss for block, loss in losses.items() if regions[block] == region]))
    assert 0.9 <= np.mean(coverages) <= 0.92
    assert min(np.mean(own) for own in by_region.values()) >= 0.85


def test_the_threshold_is_the_lowest_that_controls_the_loss() -> None:
    rng = np.random.default_rng(2)
    scores = {str(i): rng.random(rng.integers(1, 40)).round(2).astype(np.float32) for i in range(30)}
    found = threshold(scores, 0.8)

    def bound(limit: float) -> float:
        loss = np.mean([np.mean(own >= np.float32(limit)) for own in scores.values()])
        return 30 / 31 * loss + 1 / 31

    assert bound(found) <= 0.2
    lower = max(value for own in scores.values() for value in own.tolist() if value < found)
    assert bound(lower) > 0.2
    with pytest.raises(LulcbenchError, match="8 spatial blocks are too few to be certain at 90%"):
        threshold({str(i): np.zeros(3, np.float32) for i in range(8)}, 0.9)
    assert threshold({str(i): np.zeros(3, np.float32) for i in range(9)}, 0.9) < 1e-6


@pytest.mark.slow
def test_a_calibrated_model_is_right_as_often_as_it_states(exported, release_root: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(exported("forest"), model)
    command = ["calibrate", str(model), "--root", str(release_root), "--split", "train", "--year", "2018"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, LulcbenchError)  # four blocks
    result = CliRunner().invoke(app, [*command, "--coverage", "0.7"])
    assert result.exit_code == 0, result.output
    assert "in 4 blocks" in result.output
    folder = map_release(model, release_root, tmp_path / "map", MapOptions(years=(2018,), cog=True)).folder
    style = ElementTree.parse(folder / "cog" / "2018" / "certain.qml")  # noqa: S314
    listed = {entry.get("value"): entry.get("label") for entry in style.iter("paletteEntry")}
    assert listed[str(UNCERTAIN)] == f"{UNCERTAIN} Uncertain at all levels"
    with rasterio.open(folder / "cog" / "2018" / "certain.tif") as file:
        assert set(np.unique(file.read()).tolist()) <= {0, *map(int, listed)}
    release = Release.open(release_root)
    tiles = release.tiles("train")
    labels = release.labels("train", 2018, rows=release.manifest.rows("train"))
    losses = []
    with xr.open_zarr(folder, group="2018/0", consolidated=False, mask_and_scale=False) as stored:
        certain = stored.certain.load()
        for tile, own in zip(tiles.ids, labels, strict=True):
            left, _, _, top = Tile.from_id(tile).bounds
            centres = (np.arange(96) + 0.5) * 50
            # Three label centres of 48 lie on an edge between pixels of 30 m; either is right, to the south-east here.
            codes = certain.sel(x=left + centres + 1e-3, y=top - centres - 1e-3, method="nearest").to_numpy()
            known = (own != NODATA) & (codes != 0)
            wrong = [not contains(int(c), int(label)) for c, label in zip(codes[known], own[known], strict=True)]
            losses.append(np.mean(wrong))
    assert np.mean(losses) <= (0.3 * 5 - 1) / 4 + 1e-3
    assert len(np.unique(certain)) > 4
    with pytest.raises(LulcbenchError, match="calibrated without smoothing"):
        map_release(model, release_root, tmp_path / "smooth", MapOptions(smoothing=Smoothing()))
    shutil.copyfile(model / "conformal.json", tmp_path / "conformal.json")
    other = tmp_path / "other"
    shutil.copytree(exported("majority"), other)
    shutil.copyfile(model / "conformal.json", other / "conformal.json")
    with pytest.raises(CorruptFileError, match="is of another model"):
        map_release(other, release_root, tmp_path / "map2")


@pytest.mark.slow
def test_a_calibration_holds_for_maps_of_the_same_halo_alone(exported, release_root: Path, tmp_path: Path) -> None:
    """Also where windows overlap: the scores are of blended probabilities, as in the map."""
    model = Path(shutil.copytree(exported("unet"), tmp_path / "model"))
    arguments = ["calibrate", str(model), "--root", str(release_root), "--split", "train", "--coverage", "0.7"]
    result = CliRunner().invoke(app, [*arguments, "--halo", "0"])
    assert result.exit_code == 0, result.output
    found = json.loads((model / "conformal.json").read_text())
    assert (found["halo"], found["overlap"]) == (0, 32)
    with pytest.raises(LulcbenchError, match=r"a halo of 0 and an overlap of 32 pixels, not 64 and 0\.") as refused:
        map_release(model, release_root, tmp_path / "other", MapOptions((2018,)))
    assert "lulcbench calibrate" in str(refused.value)
    folder = map_release(model, release_root, tmp_path / "map", MapOptions((2018,), halo=0)).folder
    with xr.open_zarr(folder, group="2018/0", consolidated=False, mask_and_scale=False) as stored:
        p = stored.probability.load()
    opened, release = MapModel.open(model), Release.open(release_root)
    lattice = Lattice(10, 0, 32)
    window = partial(predict_window, opened.predictor(), ReleaseImagery(release, opened.info, 2018), lattice)
    for index in ((-654, 906), (-653, 907)):
        left, bottom, right, top = lattice.block(index)
        expected = p.sel(x=slice(left, right), y=slice(top, bottom)).to_numpy() / 255
        own = predict_block(window, lattice, index, 14)
        assert own.p is not None
        there = expected.any(axis=0)
        assert there.mean() > 0.5
        assert np.abs(own.p[:14] - expected)[:, there].max() <= 1 / 510 + 1e-5


def test_a_calibration_of_another_format_is_refused(exported, release_root: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(exported("majority"), tmp_path / "model"))
    (model / "conformal.json").write_text('{"format": "lulcbench-conformal/1"}')
    with pytest.raises(UnsupportedFormatError, match="has format 'lulcbench-conformal/1'") as refused:
        map_release(model, release_root, tmp_path / "map")
    assert "Run 'lulcbench calibrate' again" in str(refused.value)


def test_smoothing_is_that_of_camara_et_al() -> None:
    """Pixel by pixel, with the formulas of the paper."""
    rng = np.random.default_rng(3)
    p = softmax(rng.normal(0, 2, (5, 13, 15)))
    p[:, 6, 6] = [1, 0, 0, 0, 0]
    valid = rng.random((13, 15)) > 0.2
    settings = Smoothing(window=5, fraction=0.4, smoothness=3.0)
    result = smooth(p, valid, settings)
    clipped = np.clip(p.astype(np.float64), 1e-4, 1 - 1e-4)
    x = np.log(clipped / (1 - clipped))
    for i in range(9):
        for j in range(11):
            posterior = []
            near = valid[i : i + 5, j : j + 5]
            for k in range(5):
                neighbours = sorted(x[k, i : i + 5, j : j + 5][near].tolist(), reverse=True)
                used = neighbours[: math.ceil(0.4 * len(neighbours))]
                m, s2 = np.mean(used), np.var(used, ddof=1)
                posterior.append((s2 * x[k, i + 2, j + 2] + 3.0 * m) / (s2 + 3.0))
            expected = 1 / (1 + np.exp(-np.array(posterior)))
            np.testing.assert_allclose(result[:, i, j], expected / expected.sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_smoothed_map_is_the_same_in_parts_and_marks_what_changed(
    exported, release_root: Path, tmp_path: Path
) -> None:
    smoothing = Smoothing(window=3)
    area = (4346000.0, 3132000.0, 4349000.0, 3135000.0)  # across the edge of two blocks
    parts = {
        name: map_release(
            exported("forest"), release_root, tmp_path / name, MapOptions((2018,), bounds, smoothing=smoothing)
        ).folder
        for name, bounds in (("part", area), ("whole", (4344000.0, 3130000.0, 4352000.0, 3137000.0)))
    }
    inside = {"x": slice(area[0], area[2]), "y": slice(area[3], area[1])}
    part, whole = (
        xr.open_zarr(folder, group="2018/0", consolidated=False, mask_and_scale=False).sel(**inside).load()
        for folder in parts.values()
    )
    xr.testing.assert_identical(part.drop_attrs(), whole.drop_attrs())
    rough = map_release(exported("forest"), release_root, tmp_path / "rough", MapOptions((2018,), area)).folder
    with xr.open_zarr(rough, group="2018/0", consolidated=False) as stored:
        before = stored.class_3.sel(**inside).to_numpy()
    np.testing.assert_array_equal(part.changed_by_smoothing == 1, before != part.class_3)
    assert 0.01 < (part.changed_by_smoothing == 1).mean() < 0.9


def test_smoothing_changes_nothing_where_there_are_no_data(exported, release_root: Path, tmp_path: Path) -> None:
    folder = map_release(
        exported("forest"), release_root, tmp_path / "map", MapOptions((2018,), smoothing=Smoothing())
    ).folder
    with xr.open_zarr(folder, group="2018/0", consolidated=False, mask_and_scale=False) as stored:
        missing, changed = stored.class_1.to_numpy() == 0, stored.changed_by_smoothing.to_numpy()
    tiles = Release.open(release_root).index()
    assert missing.sum() > missing.size - len(tiles) * 160**2  # also within the tiles
    assert changed.any()
    assert not changed[missing].any()


@pytest.mark.parametrize("wrong", [{"window": 4}, {"window": 1}, {"fraction": 0}, {"smoothness": math.inf}])
def test_smoothing_that_is_not_possible_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Smoothing(**wrong)
