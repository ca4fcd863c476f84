"""References: made over seeds, resumable in time, reproduced or not; model cards; single patches."""

from __future__ import annotations

import json
import shutil
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from pystac.extensions.mlm import MLMExtension
from rasterio.transform import from_origin

import baselines.measure
from baselines.config import CONFIGS, Config
from baselines.gpu import JOBS, run_jobs
from baselines.measure import FOLDER, RESULT, add, committed, measure, read, reproduce, write
from baselines.models.network import NetworkPredictor
from baselines.predicting.patch import predict_files
from baselines.run import DESCRIPTION, load_run, versions
from lulcbench._files import hash_file
from lulcbench.errors import LulcbenchError


@pytest.fixture(scope="module")
def config(eurosat_root: Path) -> Config:
    return Config.parse(
        {
            "name": "small",
            "data": {"kind": "eurosat", "root": str(eurosat_root)},
            "model": {"kind": "timm", "name": "test_resnet"},
            "train": {"epochs": 6, "batch_size": 20, "lr": 5e-3},
        }
    )


@pytest.fixture(scope="module")
def runs(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("references")
    for seed in (1, 0):  # a machine may have time for one only; the other is added
        add(config, [measure(config, seed, out)], out)
    return out


def test_a_reference_says_what_made_it(config: Config, runs: Path) -> None:
    made = read("small", runs)
    values = [run["overall_accuracy"] for run in made["runs"]]
    assert made["overall_accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert made["overall_accuracy"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert made["seeds"] == [0, 1]
    assert Config.parse(made["config"]).digest == config.digest == made["config_digest"]
    for run in made["runs"]:
        assert len(run["learning_curve"]) == 6
        assert run["data_digest"] == made["data_digest"]
        assert run["versions"] == versions()
        assert run["commit"] is None or len(run["commit"].removesuffix("-dirty")) == 40
    with pytest.raises(LulcbenchError, match="small"):
        read("none", runs)


def test_only_results_of_the_same_recipe_and_data_are_added_up(config: Config, runs: Path, tmp_path: Path) -> None:
    made = read("small", runs)
    write(made, tmp_path)
    assert sorted(committed(config, tmp_path)) == [0, 1]
    assert committed(config.replace(train={"epochs": 7}), tmp_path) == {}
    other = made["runs"][0] | {"seed": 2, "data_digest": "0" * 64}
    add(config, [other], tmp_path)
    assert read("small", tmp_path)["seeds"] == [2]
    older = json.loads(json.dumps(made))  # of a version that did not know a setting yet
    del older["config"]["predict"]["tta"]
    write(older | {"config_digest": "0" * 64}, tmp_path)
    assert sorted(committed(config, tmp_path)) == [0, 1]
    older["config"]["train"]["magic"] = 1  # of one that knew another
    write(older, tmp_path)
    assert committed(config, tmp_path) == {}
    (tmp_path / "small.json").write_text('{"name": ')
    with pytest.raises(LulcbenchError, match="not JSON"):
        read("small", tmp_path)


def test_seeds_that_are_added_at_the_same_time_are_all_kept(
    config: Config, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = read("small", runs)["runs"][0]
    combine = baselines.measure.combine
    monkeypatch.setattr(baselines.measure, "combine", lambda *given: (time.sleep(0.1), combine(*given))[1])
    threads = [threading.Thread(target=add, args=(config, [one | {"seed": n}], tmp_path)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read("small", tmp_path)["seeds"] == [0, 1, 2, 3]


def test_a_result_of_other_data_is_not_taken(config: Config, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "small-seed0", tmp_path / "small-seed0")
    path = tmp_path / "small-seed0" / RESULT
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_digest": "0" * 64, "overall_accuracy": 1.5}))
    again = measure(config, 0, tmp_path)
    assert again["overall_accuracy"] <= 1
    assert again["data_digest"] == read("small", runs)["data_digest"]
    path.write_text("{")
    with pytest.raises(LulcbenchError, match="not JSON"):
        measure(config, 0, tmp_path)


@pytest.mark.slow
def test_reproducing_compares_with_the_tolerance(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = read("small", runs)
    write(other | {"versions": {"torch": "1.0"}}, tmp_path)
    assert reproduce("small", tmp_path, 1, tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert "config of small.json, seeds 0; runs in" in said
    assert f"torch: 1.0 in the reference, {versions()['torch']}" in said
    accuracy = f"{other['runs'][0]['overall_accuracy']:.4f}"
    assert f"small, seed 0: overall accuracy {accuracy} now, {accuracy} committed" in said
    assert ": reproduced" in said
    assert reproduce("small", tmp_path, 1, tmp_path)
    assert "nothing is trained" in capsys.readouterr().err
    other |= {"name": "wrong", "overall_accuracy": {"mean": 0.01, "sd": 0.001}}
    write(other, tmp_path)
    assert not reproduce("wrong", tmp_path, 1, tmp_path)
    write(other | {"name": "elsewhere", "data_digest": "0" * 64}, tmp_path)
    with pytest.raises(LulcbenchError, match="other data"):
        reproduce("elsewhere", tmp_path / "new", 1, tmp_path)
    assert not (tmp_path / "new").exists()  # before anything is trained


def test_the_gpu_script_rehearses_and_resumes(
    eurosat_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(eurosat_root, tmp_path / "eurosat_rgb")
    monkeypatch.setenv("LULCBENCH_REAL_DATA", str(tmp_path))
    out = tmp_path / "runs"
    assert run_jobs(1e-6, out, smoke=True, jobs=("eurosat-rgb-random",)) == []
    assert (out / "eurosat-rgb-random-seed0" / "last.ckpt").is_file()
    (path,) = run_jobs(5, out, smoke=True, jobs=("eurosat-rgb-random",))
    assert json.loads(path.read_text())["seeds"] == [0]
    with pytest.raises(LulcbenchError, match="Unknown job"):
        run_jobs(5, out, smoke=True, jobs=("imagenet",))

    def bare(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'zarr'")

    monkeypatch.setattr("baselines.gpu.measure", bare)
    assert run_jobs(5, out, smoke=True, jobs=("luisa-sim-cls", "luisa-sim-unet")) == []


def test_jobs_are_in_order_of_priority_and_settings_are_evaluated_on_val() -> None:
    (first, seeds), (second, _) = JOBS[:2]
    assert (first, second) == ("eurosat-rgb-random", "eurosat-rgb-val")
    assert len(seeds) >= 3
    recipes = {name: Config.load(CONFIGS / f"{name}.toml") for name, _ in JOBS if name.startswith("eurosat")}
    on_val = recipes["eurosat-rgb-val"]
    assert (on_val.data.train_on, on_val.predict.split) == (("train",), "val")  # the test split stays unseen
    for name, config in recipes.items():
        assert (config.model, config.train, config.augment) == (on_val.model, on_val.train, on_val.augment)
        if name != on_val.name:
            assert (config.data.train_on, config.predict.split) == (("train", "val"), "test")


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_the_committed_references_say_what_their_runs_say(name: str) -> None:
    made = read(name)
    values = [run["overall_accuracy"] for run in made["runs"]]
    assert made["name"] == name
    assert made["seeds"] == [run["seed"] for run in made["runs"]] == sorted(set(made["seeds"]))
    assert made["overall_accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert made["overall_accuracy"]["sd"] == (pytest.approx(np.std(values, ddof=1)) if len(values) > 1 else None)
    assert sorted(committed(Config.load(CONFIGS / f"{name}.toml"))) == made["seeds"]  # the config in the repository
    for run in made["runs"]:
        assert run["data_digest"] == made["data_digest"]
        assert run["epochs"] == len(run["learning_curve"])
        wrong = sum(pair["patches"] for pair in run["confused"])
        assert 0 < wrong <= round((1 - run["overall_accuracy"]) * run["patches"])


def test_the_card_is_stac_with_mlm(runs: Path) -> None:
    folder = runs / "small-seed0"
    item = pystac.Item.from_file(folder / "model.stac.json")
    card = MLMExtension.ext(item)
    assert card.total_parameters == load_run(folder).about.parameters.total
    # The schema wants the bands of the input described (STAC 1.1), and knows the framework by this spelling.
    assert [band.name for band in card.input[0].bands] == ["B04", "B03", "B02"]
    assert "bands" not in item.properties  # they are of the inputs alone
    assert (card.framework, item.assets["weights"].extra_fields["mlm:artifact_type"]) == (
        "PyTorch",
        "safetensors.torch.save_file",
    )
    assert [c.name for c in card.output[0].classes][:2] == ["AnnualCrop", "Forest"]
    assert item.assets["weights"].extra_fields["file:checksum"] == "1220" + hash_file(folder / NetworkPredictor.file)
    assert item.datetime is not None
    assert item.datetime <= datetime.now(UTC)


def test_damaged_or_foreign_models_are_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match="has no trained model"):
        load_run(tmp_path)
    folder = tmp_path / "run"
    shutil.copytree(runs / "small-seed0", folder)
    about = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(about | {"legend_digest": "0" * 64}))
    with pytest.raises(LulcbenchError, match="another legend"):
        load_run(folder)
    few = {name: about["info"][name][:5] for name in ("classes", "frequencies")}
    (folder / DESCRIPTION).write_text(json.dumps(about | {"info": about["info"] | few}))
    with pytest.raises(LulcbenchError, match="do not match"):
        load_run(folder)
    imagery = about["info"]["inputs"]["sentinel2"]
    short = {"inputs": {"sentinel2": imagery | {"mean": imagery["mean"][:1]}}}
    for damage in ({"info": about["info"] | short}, {"config": 1}, {"info": None}, {"temperature": 0}):
        (folder / DESCRIPTION).write_text(json.dumps(about | damage))
        with pytest.raises(LulcbenchError, match=r"damaged|config"):
            load_run(folder)
    (folder / DESCRIPTION).write_text(json.dumps({k: v for k, v in about.items() if k != "temperature"}))
    with pytest.raises(LulcbenchError, match=r"damaged: model\.json, temperature"):
        load_run(folder)
    (folder / DESCRIPTION).write_text(json.dumps(about))
    (folder / NetworkPredictor.file).write_bytes((folder / NetworkPredictor.file).read_bytes()[:1000])
    with pytest.raises(LulcbenchError, match="damaged"):
        load_run(folder)


def patch(path: Path, index: int = 1, east: float = 6e5, crs: str | None = "EPSG:32631", dtype: str = "uint8") -> Path:
    place = {} if crs is None else {"crs": crs, "transform": from_origin(east, 5e6, 10, 10)}
    image = np.random.default_rng(index).integers(1, 255, (3, 64, 64), np.uint8)
    with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=3, dtype=dtype, **place) as file:
        file.write(image.astype(dtype))
    return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_single_patches_and_series(runs: Path, tmp_path: Path) -> None:
    trained = load_run(runs / "small-seed0")
    later, first = patch(tmp_path / "p_20180801.tif"), patch(tmp_path / "p_2018-03-01.tif")
    (one,) = predict_files(trained, [later])
    assert one["crs"] == "EPSG:32631"
    assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert one["class"] == max(one["probabilities"], key=one["probabilities"].get)
    assert one["lonlat"] == pytest.approx([4.27, 45.15], abs=0.02)
    series = predict_files(trained, [later, first])
    assert [r["date"] for r in series] == ["2018-03-01", "2018-08-01", None]
    assert series[-1]["dates"] == 2
    with pytest.raises(LulcbenchError, match="Give files of one location"):
        predict_files(trained, [first, patch(tmp_path / "far.tif", east=7e5)])
    with pytest.raises(LulcbenchError, match="no georeference"):
        predict_files(trained, [patch(tmp_path / "nowhere.tif", crs=None)])
    with pytest.raises(LulcbenchError, match="no band B02"):
        predict_files(trained, [first], ["B04", "B03", "B05"])
    with rasterio.open(later, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2019:02:28 10:00:00")
    undated = later.rename(tmp_path / "p_20181399.tif")
    assert predict_files(trained, [undated])[0]["date"] == "2019-02-28"
    with pytest.raises(LulcbenchError, match="has uint16; the model was trained on 8-bit"):
        predict_files(trained, [patch(tmp_path / "dn.tif", dtype="uint16")])
    first.write_bytes(b"II")
    with pytest.raises(LulcbenchError, match="Cannot read"):
        predict_files(trained, [first])
