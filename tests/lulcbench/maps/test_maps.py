"""Maps of the small release: what is stored, where, and that nothing but model and imagery decides about it."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import CorruptFileError
from lulcbench.evaluation._stored_maps import ZarrMap
from lulcbench.legend import decide, legend
from lulcbench.maps import MapModel, engine, map_release
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.maps.lattice import Lattice
from lulcbench.maps.viewer.source import MapSource
from lulcbench.maps.windows import predict_window
from lulcbench.release import Release
from tests.builders.stages.kill import tree
from tests.lulcbench.maps import kill
from tests.lulcbench.maps.kill import PART, WHOLE


def stored(folder: Path, group: str = "2018/0") -> xr.Dataset:
    with xr.open_zarr(folder, group=group, consolidated=False, mask_and_scale=False) as opened:
        return opened.load()


@pytest.fixture(scope="session")
def mapped(exported, release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return map_release(exported("unet"), release_root, tmp_path_factory.mktemp("map") / "map").folder


@pytest.fixture(scope="session")
def overlapping(exported, release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return map_release(exported("unet"), release_root, tmp_path_factory.mktemp("map") / "map", WHOLE).folder


@pytest.mark.slow
def test_a_map_is_what_the_model_predicts_of_the_whole_image(mapped: Path, exported, release_root: Path) -> None:
    model = MapModel.open(exported("unet"))
    imagery = ReleaseImagery(Release.open(release_root), model.info, 2018)
    left, bottom, right, top = imagery.bounds
    margin = 96 * 10  # more than the reach, on the grid of the windows
    window = imagery.read((left - margin, bottom - margin, right + margin, top + margin))
    predict = model.predictor()
    p = predict(window.images)[:, 96:-96, 96:-96]
    missing = (window.composites == 0)[96:-96, 96:-96]
    assert 0 < missing.mean() < 0.1

    lattice = Lattice.of(10, model.info.reach, 32)
    assert lattice.overlap == 0
    for index in lattice.blocks(imagery.bounds):
        x0, _, _, y1 = lattice.block(index)
        y, x = round((top - y1) / 10), round((x0 - left) / 10)
        own = predict_window(predict, imagery, lattice, index).p
        assert np.abs(own - p[:, y : y + 480, x : x + 480]).max() <= 1e-5

    part = stored(mapped).sel(x=slice(left, right), y=slice(top, bottom))
    assert part.class_2.shape == (960, 1920)
    assert np.abs(part.probability.to_numpy() / 255 - p)[:, ~missing].max() <= 1 / 510 + 1e-5
    expected = np.where(missing, 0, np.array(legend().codes(2))[decide(p, 2)])
    assert (part.class_2 == expected).mean() > 0.9999  # equally probable classes may change places
    np.testing.assert_array_equal(part.class_1, legend().remap(part.class_2.to_numpy(), 1))
    for layer, fill in (("class_1", 0), ("composites", 0), ("entropy", 255), ("margin", 255)):
        np.testing.assert_array_equal(part[layer] == fill, missing)
    ordered = np.sort(p, axis=0)[::-1]
    scores = {
        "entropy": -(p * np.log(p)).sum(0) / np.log(14),
        "margin": ordered[0] - ordered[1],
        "least_confidence": 1 - ordered[0],
    }
    for layer, score in scores.items():
        assert np.abs(part[layer].to_numpy() / 254 - score)[~missing].max() <= 1 / 508 + 1e-5
    outside = stored(mapped).sel(y=slice(None, top)).class_1
    assert not outside.any()


@pytest.mark.slow
def test_any_part_of_an_area_has_the_same_values(
    mapped: Path, overlapping: Path, overlapping_part: Path, exported, release_root: Path, tmp_path: Path
) -> None:
    alone = map_release(
        exported("unet"), release_root, tmp_path / "map", replace(PART, halo=None, mapping_unit=None)
    ).folder
    left, bottom, right, top = PART.bounds or (0, 0, 0, 0)
    inside = {"x": slice(left, right), "y": slice(top, bottom)}
    for part, whole in ((alone, mapped), (overlapping_part, overlapping)):
        a, b = stored(part).sel(**inside), stored(whole).sel(**inside)
        assert a.class_1.shape == (577, 805)
        assert np.count_nonzero(a.class_1) > 400_000
        xr.testing.assert_identical(a.drop_attrs(), b.drop_attrs())
        # Overview pixels whose children are all inside.
        a, b = stored(part, "2018/1").sel(**inside), stored(whole, "2018/1").sel(**inside)
        edges = {"x": slice(1, -1), "y": slice(1, -1)}
        xr.testing.assert_identical(a.isel(**edges).drop_attrs(), b.isel(**edges).drop_attrs())


@pytest.mark.slow
def test_overlapping_windows_are_blended_without_a_seam(overlapping: Path, exported, release_root: Path) -> None:
    model = MapModel.open(exported("unet"))
    imagery = ReleaseImagery(Release.open(release_root), model.info, 2018)
    lattice = Lattice.of(10, model.info.reach, 32, halo=0)
    assert lattice.overlap == 32
    at = (-653, 906)
    weights = lattice.weights()
    total = np.zeros((480 * 3, 480 * 3))
    for i in range(3):
        for j in range(3):
            rows, columns = slice(480 * i, min(480 * i + 512, 1440)), slice(480 * j, min(480 * j + 512, 1440))
            total[rows, columns] += weights[: rows.stop - rows.start, : columns.stop - columns.start]
    np.testing.assert_allclose(total[32:, 32:], 1, atol=1e-6)
    parts = {
        (i, j): predict_window(model.predictor(), imagery, lattice, (i, j)).p
        for i in (at[0] - 1, at[0])
        for j in (at[1] - 1, at[1])
    }
    p = parts[at][:, :480, :480].astype(np.float64)
    p[:, :32] += parts[at[0] - 1, at[1]][:, 480:, :480]
    p[:, :, :32] += parts[at[0], at[1] - 1][:, :480, 480:]
    p[:, :32, :32] += parts[at[0] - 1, at[1] - 1][:, 480:, 480:]
    left, bottom, right, top = lattice.block(at)
    block = stored(overlapping).sel(x=slice(left, right), y=slice(top, bottom))
    there = block.class_1.to_numpy() > 0
    assert there.mean() > 0.5
    assert np.abs(block.probability.to_numpy() / 255 - p)[:, there].max() <= 1 / 510 + 1e-5


@pytest.mark.slow
def test_maps_by_one_or_two_processes_have_the_same_bytes(
    overlapping_part: Path, exported, release_root: Path, tmp_path: Path
) -> None:
    result = map_release(exported("unet"), release_root, tmp_path / "map", PART, workers=2)
    assert tree(result.folder) == tree(overlapping_part)


@pytest.mark.slow
def test_maps_whose_blocks_are_predicted_in_any_order_have_the_same_bytes(
    overlapping_part: Path, exported, release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order = engine._blocks
    orders = {
        "backwards": lambda *area: in_order(*area)[::-1],
        "shuffled": lambda *area: random.Random(0).sample(blocks := in_order(*area), len(blocks)),
    }
    expected = tree(overlapping_part)  # from north to south, and from west to east
    for name, order in orders.items():
        monkeypatch.setattr(engine, "_blocks", order)
        assert tree(map_release(exported("unet"), release_root, tmp_path / name, PART).folder) == expected


@pytest.mark.slow
def test_maps_that_are_killed_end_in_the_same_bytes(
    overlapping_part: Path, exported, release_root: Path, tmp_path: Path
) -> None:
    """``python -m tests.lulcbench.maps.kill`` does the same at more moments."""
    moments = 200
    killed = kill.chain(exported("unet"), release_root, tmp_path / "map", moments, 3, random.Random(1))
    assert killed == 3
    assert tree(tmp_path / "map") == tree(overlapping_part)


def test_overviews_are_modes_and_means(mapped: Path) -> None:
    group = 0
    while (mapped / "2018" / str(group + 1)).is_dir():
        fine, coarse = stored(mapped, f"2018/{group}"), stored(mapped, f"2018/{group + 1}")
        group += 1
        assert coarse.class_1.shape == tuple(n // 2 for n in fine.class_1.shape)
        np.testing.assert_array_equal(coarse.x, fine.x.to_numpy().reshape(-1, 2).mean(1))
        np.testing.assert_array_equal(coarse.y, fine.y.to_numpy().reshape(-1, 2).mean(1))
        children = {
            name: fine[name].to_numpy()[..., : 2 * coarse.sizes["y"], :].reshape(*lead, coarse.sizes["y"], 2, -1, 2)
            for name, lead in (
                ("class_1", ()),
                ("class_2", ()),
                ("margin", ()),
                ("composites", ()),
                ("probability", (14,)),
            )
        }
        rng = np.random.default_rng(group)
        seen = np.argwhere((children["class_1"] > 0).any(axis=(1, 3)))
        for y, x in rng.permutation(seen)[:500]:
            valid = children["class_1"][y, :, x] > 0
            for layer in ("class_1", "class_2"):
                codes = [int(code) for code in children[layer][y, :, x].ravel() if code]
                # The first of the most frequent ones: Counter keeps the order in which they were counted.
                assert coarse[layer].to_numpy()[y, x] == Counter(codes).most_common(1)[0][0]
            for layer in ("margin", "composites"):
                mean = children[layer][y, :, x][valid].mean()
                assert coarse[layer].to_numpy()[y, x] == int(mean + 0.5)
            means = children["probability"][:, y, :, x][:, valid].mean(axis=1)
            np.testing.assert_array_equal(coarse.probability.to_numpy()[:, y, x], (means + 0.5).astype(int))
        empty = (children["class_1"] == 0).all(axis=(1, 3))
        np.testing.assert_array_equal(coarse.class_1 == 0, empty)
        np.testing.assert_array_equal(coarse.margin == 255, empty)
    assert group == 2


def test_the_command_maps_part_of_a_release(exported, release_root: Path, tmp_path: Path) -> None:
    arguments = ["map", str(exported("majority")), "--root", str(release_root), "--out", str(tmp_path / "map")]
    area = ["--bounds", "4344600", "3130000", "4350000", "3136000"]
    result = CliRunner().invoke(app, [*arguments, "--year", "2018", *area])
    assert result.exit_code == 0, result.output
    mapped = stored(tmp_path / "map").class_1
    there = mapped.x[(mapped > 0).any("y")], mapped.y[(mapped > 0).any("x")]
    assert [(float(axis.min()), float(axis.max())) for axis in there] == [(4344615, 4349985), (3130005, 3135975)]


def test_a_map_that_lost_the_same_chunk_of_all_layers_is_not_read_as_nodata(mapped: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(mapped, tmp_path / "map")
    assert MapSource.open(copy).years == (2018,)
    ZarrMap(copy)
    layers = [path for path in sorted((copy / "2018" / "0").iterdir()) if (path / "c").is_dir()]
    for layer in layers:
        chunk = next(path for path in sorted((layer / "c").rglob("*")) if path.is_file())
        chunk.unlink()
    for read in (MapSource.open, ZarrMap):
        with pytest.raises(CorruptFileError, match=r"2018/0/\w+ has \d+ chunks; \d+ were written"):
            read(copy)
    extra = shutil.copytree(mapped, tmp_path / "extra")
    (extra / "2018" / "0" / "class_1" / "c" / "999").write_bytes(b"")
    with pytest.raises(CorruptFileError, match="class_1 has"):
        ZarrMap(extra)
