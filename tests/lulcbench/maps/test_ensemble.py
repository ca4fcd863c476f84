"""Maps of several models, and of models that are not exported."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

from baselines.models.stack import member_probabilities
from lulcbench import LuisaSeg
from lulcbench.cli import app
from lulcbench.errors import CorruptFileError, LulcbenchError, NotAvailableError
from lulcbench.legend import decide
from lulcbench.maps import Ensemble, MapOptions, OwnModel, TorchPredictor, map_release
from lulcbench.maps.ensemble import has_members, map_predictor, open_model
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.maps.lattice import Lattice
from lulcbench.maps.model import Image
from lulcbench.maps.pool import Work
from lulcbench.release import Release
from tests.lulcbench.maps.test_bad_input import changed

PART = MapOptions((2018,), (4347470.0, 3131230.0, 4350530.0, 3134230.0))  # across the edge of two blocks


def stored(folder: Path) -> xr.Dataset:
    with xr.open_zarr(folder, group="2018/0", consolidated=False, mask_and_scale=False) as opened:
        return opened.load()


def net(seed: int, classes: int = 5) -> torch.nn.Module:
    torch.manual_seed(seed)
    last = torch.nn.Conv2d(8, classes, 3, padding=1)
    last.weight.data *= 20  # so that members disagree
    return torch.nn.Sequential(torch.nn.Conv2d(24, 8, 3, padding=1), torch.nn.ReLU(), last)


@pytest.fixture
def own(release_root: Path) -> Callable[..., OwnModel]:
    def get(seed: int = 0, classes: int = 5, **options: Any) -> OwnModel:
        given = {"reach": 2, "name": f"seed-{seed}"} | options
        return OwnModel.of_torch(net(seed, classes), release_root, "landsat", level=1, **given)

    return get


@pytest.mark.slow
def test_a_torch_module_maps_what_it_predicts_of_samples(own, release_root: Path, tmp_path: Path) -> None:
    model = own(temperature=2.0)
    sample = LuisaSeg(release_root, "train", sensors="landsat", year=2018, level=1)[0]
    bounds = left, bottom, right, top = tuple(float(end) for end in sample["bounds"])
    mapped = stored(map_release(model, release_root, tmp_path / "map", replace(PART, bounds=bounds)).folder)
    with torch.inference_mode():
        expected = (net(0)(sample["image"][None])[0].double() / 2).softmax(0).numpy()
    p = mapped.sel(x=slice(left, right), y=slice(top, bottom)).probability.to_numpy() / 255
    assert p.shape == expected.shape
    seen = p.any(axis=0)
    seen[[0, 1, -2, -1]] = seen[:, [0, 1, -2, -1]] = False  # beyond the edge, the map sees other tiles
    assert seen.mean() > 0.8
    assert np.abs(p - expected)[:, seen].max() <= 1 / 510 + 1e-5


@pytest.mark.slow
def test_a_function_without_torch_is_mapped_and_resumed(release_root: Path, tmp_path: Path) -> None:
    calls = []

    def predict(images: Mapping[str, Image]) -> Image:
        calls.append(1)
        bright = 1 / (1 + np.exp(-images["landsat"].mean(axis=0)))
        return np.stack([bright, 1 - bright, *np.zeros((3, *bright.shape), np.float32)])

    model = OwnModel.of(predict, release_root, "landsat", 1, name="bright", version="1", bands=["red", "nir08"])
    assert model.info.inputs["landsat"].channels == 8
    folder = map_release(model, release_root, tmp_path / "map", PART).folder
    assert set(np.unique(stored(folder).class_1)) == {0, 1, 2}
    with pytest.raises(LulcbenchError, match="holds a map already"):
        map_release(replace(model), release_root, folder, PART)
    other = OwnModel.of(predict, release_root, "landsat", 1, name="bright", version="2", bands=["red", "nir08"])
    assert other.digest != model.digest
    with pytest.raises(LulcbenchError, match=r"(?s)bright is not exported.*Use one worker"):
        map_release(model, release_root, tmp_path / "other", PART, workers=2)


@pytest.mark.slow
def test_models_that_do_not_predict_probabilities_of_all_pixels_are_refused(
    own, release_root: Path, tmp_path: Path
) -> None:
    for model, what in (
        (own(classes=4), r"predicts an array \(4, 512, 512\).*not \(class, y, x\) = \(5, 512, 512\)"),
        (own(activate=lambda outputs: outputs - 3, version="1"), "probabilities are 0 to 1"),
        (own(activate=lambda outputs: outputs.softmax(1) * float("nan"), version="1"), "not finite"),
        (own(activate=torch.sigmoid, version="1"), r"sum to \d.* in a pixel, not 1"),
        (own(activate=torch.zeros_like, version="1"), "sum to 0 in a pixel, not 1"),
    ):
        with pytest.raises(LulcbenchError, match=what):
            map_release(model, release_root, tmp_path / "map", replace(PART, halo=0), replace=True)
    with pytest.raises(NotAvailableError, match="has no band 'thermal'"):
        own(bands=["thermal"])
    with pytest.raises(LulcbenchError, match="Bands are those of a single sensor"):
        OwnModel.of_torch(net(0), release_root, ["landsat", "sentinel2"], 1, name="two", bands=["red"])
    assert TorchPredictor(net(0)).digest == TorchPredictor(net(0)).digest != TorchPredictor(net(1)).digest


@pytest.mark.slow
@pytest.mark.parametrize("halo", [None, 0])
def test_an_ensemble_maps_the_mean_and_how_far_its_members_disagree(
    halo: int | None, own, release_root: Path, tmp_path: Path
) -> None:
    members = [own(0), own(1, temperature=0.5), own(2)]
    folder = map_release(members, release_root, tmp_path / "map", replace(PART, halo=halo)).folder
    mapped = stored(folder)
    left, bottom, right, top = 4347450, 3131220, 4350540, 3134250  # whole pixels
    imagery = ReleaseImagery(Release.open(release_root), members[0].info, 2018)
    window = imagery.read((left - 60, bottom - 60, right + 60, top + 60))
    images = torch.from_numpy(window.images["landsat"])[None]
    with torch.inference_mode():
        logits = [net(seed)(images)[0].double()[:, 2:-2, 2:-2] for seed in range(3)]
    p = np.stack([(own / t).softmax(0).numpy() for own, t in zip(logits, (1, 0.5, 1), strict=True)])
    mean = p.mean(axis=0)
    at = decide(mean.astype(np.float32), 1)
    entropy = -(p * np.log(p)).sum(axis=1)
    expected = {
        "deviation": np.take_along_axis(p, at[None, None], 1)[:, 0].std(axis=0),
        "mutual_information": (-(mean * np.log(mean)).sum(0) - entropy.mean(0)) / np.log(5),
        "entropy": -(mean * np.log(mean)).sum(0) / np.log(5),
    }
    part = mapped.sel(x=slice(left, right), y=slice(top, bottom))
    seen = part.class_1.to_numpy() > 0
    if halo == 0:  # windows lack what is beyond them, and are blended to the right of the edge of the blocks
        x = (part.x.to_numpy() - 4348800) / 30
        seen[:, (x > -3) & (x < 35)] = False
    assert seen.sum() > 2000
    assert np.abs(part.probability.to_numpy() / 255 - mean)[:, seen].max() <= 1 / 510 + 1e-5
    for name, values in expected.items():
        assert np.abs(part[name].to_numpy() / 254 - values)[seen].max() <= 1 / 508 + 1e-3
        assert values[seen].std() > 0.01
        np.testing.assert_array_equal(part[name] == 255, part.class_1 == 0)
    facts = json.loads((folder / "zarr.json").read_bytes())["attributes"]["lulcbench:model"]
    assert facts["name"] == "seed-0-mean-of-3"
    assert facts["members"] == [member.digest for member in members]


@pytest.mark.slow
def test_exported_models_are_an_ensemble_that_other_processes_open(
    exported, release_root: Path, tmp_path: Path
) -> None:
    folders = [exported("majority"), changed(exported("majority"), tmp_path / "flat", temperature=5.0)]
    command = ["map", *map(str, folders), "--root", str(release_root), "--year", "2018", "--out", str(tmp_path / "map")]
    result = CliRunner().invoke(app, [*command, "--bounds", *(str(end) for end in PART.bounds or ())])
    assert result.exit_code == 0, result.exception
    mapped = stored(tmp_path / "map")
    assert (mapped.mutual_information.to_numpy()[mapped.class_1 > 0] > 0).all()

    lattice, ensemble = Lattice(30, 0, 0), open_model(folders)
    own = Work.of(ensemble, Release.open(release_root), lattice, None)((2018, (-218, 301)))
    left, bottom, right, top = lattice.block((-218, 301))
    part = mapped.sel(x=slice(left, right), y=slice(top, bottom))
    valid = (own.counts["composites"] > 0) & (part.class_1.to_numpy() > 0)
    assert valid.sum() > 2000
    assert np.abs(part.probability.to_numpy() / 255 - own.p[:-2])[:, valid].max() <= 1 / 510 + 1e-6


def test_models_that_are_no_ensemble_are_refused(own, release_root: Path) -> None:
    first, options = own(0), {"name": "other", "version": "1"}
    with pytest.raises(LulcbenchError, match="at least two models, not 1"):
        Ensemble((first,))
    with pytest.raises(LulcbenchError, match="named twice"):
        Ensemble((first, own(0)))
    with pytest.raises(LulcbenchError, match="other and seed-0 differ in their classes"):
        Ensemble((first, OwnModel.of(first.predict, release_root, "landsat", 2, **options)))
    with pytest.raises(LulcbenchError, match="other and seed-0 differ in their inputs"):
        Ensemble((first, OwnModel.of(first.predict, release_root, "sentinel2", 1, **options)))
    assert Ensemble((first, own(1, reach=None))).info.reach is None
    assert Ensemble((first, own(1, reach=9))).info.reach == 9


def test_a_stack_maps_how_far_its_members_disagree(exported, fitted, release_root: Path, tmp_path: Path) -> None:
    model = open_model(exported("stack"))
    assert model.info.members == ("forest", "boosting", "network")
    sample = LuisaSeg(release_root, "train", sensors="landsat", year=2018, level=2)[0]
    bounds = tuple(float(end) for end in sample["bounds"])
    folder = map_release(model, release_root, tmp_path / "map", replace(PART, bounds=bounds)).folder
    mapped = stored(folder).sel(x=slice(bounds[0], bounds[2]), y=slice(bounds[3], bounds[1]))
    stack, images = fitted("stack").predictor, sample["image"][None]
    p = stack(images)[0].numpy()
    pixels = sample["image"].reshape(24, -1).T.numpy()
    x = stack.features.of(pixels)
    members = np.stack([member_probabilities(m, x, len(p)).T.reshape(p.shape) for m in stack.members.values()])
    chosen = decide(p, 2)[None, None]
    deviation = np.take_along_axis(members, np.repeat(chosen, 3, 0), 1).std(axis=0)[0]
    mean = members.mean(axis=0)

    def entropy(q: np.ndarray) -> np.ndarray:
        return -(q * np.log(np.where(q > 0, q, 1))).sum(0)

    information = (entropy(mean) - np.mean([entropy(m) for m in members], axis=0)) / np.log(len(p))
    predict = map_predictor(model)({"landsat": sample["image"].numpy()})
    assert predict.shape == (len(p) + 2, 40, 40)
    np.testing.assert_allclose(predict[len(p)], deviation, atol=2e-4)
    np.testing.assert_allclose(predict[len(p) + 1], np.maximum(information, 0), atol=2e-4)
    seen = mapped.class_1.to_numpy() > 0
    assert seen.any()
    for name, expected in (("deviation", deviation), ("mutual_information", information)):
        steps = mapped[name].to_numpy()[seen] * mapped[name].attrs["scale_factor"]
        assert np.abs(steps - np.maximum(expected, 0)[seen]).max() < 0.003  # half a step, and the rounding of ONNX
    (item,) = folder.rglob("item.json")
    assert json.loads(item.read_text())["properties"]["lulcbench:model"]["stacked"] == list(model.info.members)


def test_the_deviation_of_a_stack_is_that_of_the_class_after_calibration(exported, tmp_path: Path) -> None:
    sharp = open_model(changed(exported("stack"), tmp_path / "sharp", temperature=0.2))
    images = {"landsat": 2 * np.random.default_rng(0).normal(size=(24, 40, 40)).astype(np.float32)}
    p, members = sharp.predictor().with_members(images)
    tempered = np.maximum(p.astype(np.float64), 1e-7) ** 5
    chosen = decide(tempered / tempered.sum(axis=0), 2)
    assert (chosen != decide(p, 2)).sum() > 10  # levels are decided by sums
    deviation = np.take_along_axis(members, np.repeat(chosen[None, None], 3, 0), 1).std(axis=0)[0]
    found = map_predictor(sharp)(images)
    np.testing.assert_array_equal(found[: len(p)], p)
    np.testing.assert_allclose(found[len(p)], deviation, atol=1e-3)


def test_a_function_with_the_description_of_a_stack_has_no_members(
    exported, release_root: Path, tmp_path: Path
) -> None:
    stack = open_model(exported("stack"))
    own = OwnModel(stack.predictor(), stack.info)
    mapped = stored(map_release(own, release_root, tmp_path / "map", PART).folder)
    assert "entropy" in mapped
    assert "deviation" not in mapped


def test_the_mean_of_stacks_shows_how_far_the_stacks_disagree(exported) -> None:
    both = Ensemble((open_model(exported("stack")), replace(open_model(exported("stack")), digest="0" * 64)))
    assert has_members(both)
    assert both.info.members == ()
    images = {"landsat": np.random.default_rng(0).normal(size=(24, 8, 8)).astype(np.float32)}
    predicted = map_predictor(both)(images)
    assert predicted.shape == (16, 8, 8)
    np.testing.assert_allclose(predicted[14:], 0, atol=1e-3)  # the same stack twice


def test_models_with_another_activation_or_other_buffers_are_other_models(own) -> None:
    with pytest.raises(LulcbenchError, match="has an activation of its own") as refused:
        own(activate=torch.sigmoid)
    assert "Give a version of it" in str(refused.value)
    digests = {own().digest, own(version="1").digest, own(activate=torch.sigmoid, version="2").digest}
    assert len(digests) == 3
    assert own(version="1").digest in digests

    def scaled(by: float) -> torch.nn.Module:
        module = net(0)
        module.register_buffer("scale", torch.tensor(by), persistent=False)
        return module

    assert TorchPredictor(scaled(1)).digest == TorchPredictor(scaled(1)).digest != TorchPredictor(scaled(2)).digest


def test_the_members_of_a_stack_are_checked_as_the_stack_is(exported, tmp_path: Path) -> None:
    graph = onnx.load_model(exported("stack") / "model.onnx")
    last = next(node for node in graph.graph.node if "members" in node.output)
    last.output[list(last.output).index("members")] = "inner"
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    graph.graph.node.append(onnx.helper.make_node("Mul", ["inner", "half"], ["members"]))
    model = open_model(changed(exported("stack"), tmp_path / "model", graph.SerializeToString()))
    images = {"landsat": np.zeros((24, 8, 8), np.float32)}
    assert model.predictor()(images).shape == (14, 8, 8)
    with pytest.raises(LulcbenchError, match=r"sum to 0\.5 in a pixel, not 1"):
        map_predictor(model)(images)


@pytest.mark.parametrize("members", [["one"], ["a", "b"], ["a", "b", "c", "d"]])
def test_descriptions_with_other_members_than_the_graph_are_refused(
    members: list[str], exported, tmp_path: Path
) -> None:
    model = changed(exported("stack"), tmp_path / "model", members=members)
    with pytest.raises(CorruptFileError, match=r"members|outputs"):
        open_model(model)
