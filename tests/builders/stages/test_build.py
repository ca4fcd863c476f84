"""From scenes to a release, and everything that can go wrong on the way."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import mlcroissant
import numpy as np
import pandas as pd
import pystac
import pytest
import zarr

from builders.ingest.catalog import write
from builders.recipe import load
from builders.stages import _shards, materialize, pack, plan, search
from builders.stages.audit import audit
from builders.stages.publish import publish
from builders.workspace import Workspace
from lulcbench.errors import CorruptFileError, LulcbenchError
from lulcbench.release import Manifest
from lulcbench.sensors import REFLECTANCE
from tests.builders import world


def build(folder: Path, replace: bool = False) -> tuple[Manifest, Workspace]:
    """All stages in this process."""
    space = world.workspace(folder / "out")
    recipe = load(folder / "recipe.toml", space.scenes)
    rows = plan.plan(recipe, space)
    scenes = search.search(recipe, space, rows)
    materialize.materialize(recipe, space, rows, scenes, None)
    return pack.pack(recipe, space, rows, None, replace), space


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    world.make(folder)
    build(folder)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The release alone, to be altered."""
    shutil.copytree(made / "out", tmp_path / "release")
    return tmp_path / "release"


def image(root: Path, split: str = "train") -> np.ndarray:
    rows = Manifest.load(root).rows(split)
    return REFLECTANCE.decode(np.asarray(zarr.open_array(root / "landsat_2018", mode="r")[rows.start : rows.stop]))


def test_composites_are_medians_in_reflectance(made: Path) -> None:
    """Three scenes with red 0.1, 0.2 and 0.3."""
    np.testing.assert_allclose(image(made / "out")[:, 0, 0], 0.2, atol=1e-4)
    np.testing.assert_allclose(image(made / "out")[:, 0, 1], 0.3, atol=1e-4)


def test_statistics_and_counts_are_of_train_alone(made: Path) -> None:
    release = Manifest.load(made / "out")
    values = image(made / "out").astype(float)
    stated = release.sensors["landsat"].statistics
    np.testing.assert_allclose(stated.mean, np.nanmean(values, axis=(0, 1, 3, 4)), atol=1e-6)
    labels = np.asarray(zarr.open_array(made / "out" / "luisa_2018", mode="r")[: release.splits["train"]])
    codes, counts = np.unique(labels, return_counts=True)
    assert release.labels["luisa"].class_counts[2018] == dict(zip(codes.tolist(), counts.tolist(), strict=True))


def test_audit_of_a_good_release_finds_nothing(made: Path) -> None:
    found = audit(made / "out")
    assert not found.problems
    assert json.loads((made / "out" / "audit.json").read_text())["checked"]["class fractions"] == 24


def test_building_again_changes_nothing(made: Path) -> None:
    stamp = (made / "out" / "release.json").stat().st_mtime_ns
    notes = sorted(p.stat().st_mtime_ns for p in (made / "out.work" / "cache").rglob("*.json"))
    build(made)
    assert (made / "out" / "release.json").stat().st_mtime_ns == stamp
    assert sorted(p.stat().st_mtime_ns for p in (made / "out.work" / "cache").rglob("*.json")) == notes


@pytest.mark.slow
def test_same_inputs_elsewhere_give_the_same_arrays(made: Path, tmp_path: Path) -> None:
    world.make(tmp_path)
    again, _ = build(tmp_path)
    first = {file.path: file.sha256 for file in Manifest.load(made / "out").files if file.split}
    assert {file.path: file.sha256 for file in again.files if file.split} == first


def test_index_is_stac_and_readable_by_pandas(made: Path) -> None:
    index = pd.read_parquet(made / "out" / "index.parquet")
    assert {"id", "geometry", "bbox", "split", "row", "region", "block", "ix", "iy", "scenes"} <= set(index.columns)
    assert set(index["ml-aoi:split"]) == {"train", "validate", "test"}
    assert index["scenes"].map(list).tolist() == [["s0", "s1", "s2"]] * 6
    assert (index["valid_landsat_2018"] == 1).all()
    assert np.allclose(index[[f"luisa_2018_{n}" for n in (1, 2, 3, 4, 5)]].sum(axis=1), 1)


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph:DeprecationWarning")  # mlcroissant's use of rdflib
def test_descriptions_are_valid(made: Path) -> None:
    collection = pystac.Collection.from_file(str(made / "out" / "collection.json"))
    assert collection.extent.spatial.bboxes[0][0] == pytest.approx(10, abs=0.1)
    dataset = mlcroissant.Dataset(made / "out" / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    card = (made / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert "Simulated data" in card


@pytest.mark.slow
def test_clouded_dates_are_left_out_and_counted(tmp_path: Path) -> None:
    world.make(tmp_path)
    cloudy = world.scene(tmp_path / "scenes", "s3", datetime(2018, 7, 9, tzinfo=UTC), (0.9, 0.9), world.CLOUD)
    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    write(tmp_path, "world", "World", [*catalog.get_items(recursive=True), cloudy])
    _, space = build(tmp_path)
    np.testing.assert_allclose(image(space.root)[:, 0, 0], 0.2, atol=1e-4)
    index = pd.read_parquet(space.root / "index.parquet")
    assert (index["cloud_landsat_2018"] == 0.25).all()
    assert not any("s3" in scenes for scenes in index["scenes"])


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make(tmp_path)
    keep, calls = materialize._keep, []

    def dies(*args: object, **more: object) -> object:
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return keep(*args, **more)

    monkeypatch.setattr(materialize, "_keep", dies)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path)
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / "out.work" / "cache").rglob("*.json"))) == 3
    build(tmp_path)
    assert len(calls) == 4 + 12 - 3
    monkeypatch.undo()
    assert not audit(tmp_path / "out").problems


@pytest.mark.slow
def test_a_killed_pack_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make(tmp_path)
    load_, calls = _shards._load, []

    def dies(path: Path) -> np.ndarray:
        calls.append(path)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return load_(path)

    monkeypatch.setattr(_shards, "_load", dies)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path)
    assert not (tmp_path / "out").exists()
    build(tmp_path)
    assert not audit(tmp_path / "out").problems
    assert len(calls) < 2 * 12


@pytest.mark.slow
def test_a_changed_scene_is_searched_and_made_again(tmp_path: Path) -> None:
    world.make(tmp_path)
    first, _ = build(tmp_path)
    items = [
        world.scene(tmp_path / "scenes", f"s{i}", datetime(2018, 7, 1 + i, tzinfo=UTC), (0.4, 0.5)) for i in range(3)
    ]
    write(tmp_path, "world", "World", items)
    with pytest.raises(LulcbenchError, match="releases are immutable"):
        build(tmp_path)
    second, space = build(tmp_path, replace=True)
    assert second.digest != first.digest
    np.testing.assert_allclose(image(space.root)[:, 0, 0], 0.4, atol=1e-4)


def test_scenes_of_other_days_and_of_too_much_cloud_are_not_taken(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path)
    extra = world.scene(tmp_path / "scenes", "winter", datetime(2018, 1, 9, tzinfo=UTC), (0.9, 0.9))
    dull = world.scene(tmp_path / "scenes", "dull", datetime(2018, 7, 9, tzinfo=UTC), (0.9, 0.9))
    dull.properties["eo:cloud_cover"] = 95.0
    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    write(tmp_path, "world", "World", [*catalog.get_items(recursive=True), extra, dull])
    scenes = search.search(recipe, space, plan.plan(recipe, space))
    assert [scene.id for scene in scenes] == ["s0", "s1", "s2"]


def test_a_winter_begins_in_the_year_before(tmp_path: Path) -> None:
    text = world.RECIPE.replace('"06-25"', '"12-02"').replace('"09-12"', '"03-20"')
    recipe, space = world.make(tmp_path, text)
    days = {"before": (2017, 12, 1), "first": (2017, 12, 2), "last": (2018, 3, 20), "after": (2018, 12, 5)}
    items = [world.scene(tmp_path / "scenes", n, datetime(*d, 23, tzinfo=UTC), (0.1, 0.2)) for n, d in days.items()]
    write(tmp_path, "world", "World", items)
    scenes = search.search(recipe, space, plan.plan(recipe, space))
    assert sorted(scene.id for scene in scenes) == ["first", "last"]


@pytest.mark.slow
def test_a_tile_without_a_valid_pixel_is_an_error_or_dropped(tmp_path: Path) -> None:
    text = world.RECIPE
    world.make(tmp_path, text, scenes=0)
    _, shape = world.frame(30)
    qa = np.full(shape, world.CLEAR, np.uint16)
    qa[:, shape[1] // 2 :] = world.CLOUD
    half = world.scene(tmp_path / "scenes", "half", datetime(2018, 7, 1, tzinfo=UTC), (0.1, 0.2), qa)
    write(tmp_path, "world", "World", [half])
    with pytest.raises(LulcbenchError, match=r"(?s)2 of 6 tiles have no valid pixel: E0902N0.*empty_tiles"):
        build(tmp_path)
    assert not (tmp_path / "out").exists()
    text = text.replace('"catalog.json"', '"catalog.json"\nempty_tiles = "drop"')
    (tmp_path / "recipe.toml").write_text(text.replace("train = 0.5, val = 0.25, test = 0.25", "train = 1.0"))
    release, _ = build(tmp_path)
    assert release.splits == {"train": 4}


def test_no_scene_at_all_is_an_error(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path, world.RECIPE.replace("years = [2018]", "years = [2012]"))
    with pytest.raises(LulcbenchError, match="no landsat scene"):
        search.search(recipe, space, plan.plan(recipe, space))


def test_a_missing_or_damaged_catalog_is_named(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path)
    rows = plan.plan(recipe, space)
    (tmp_path / "catalog.json").write_text("{")
    with pytest.raises(LulcbenchError, match=r"catalog\.json is damaged"):
        search.search(recipe, space, rows)
    (tmp_path / "catalog.json").unlink()
    with pytest.raises(LulcbenchError, match=r"catalog\.json or an item of it is missing"):
        search.search(recipe, space, rows)


@pytest.mark.parametrize("what", ["shard", "index", "manifest"])
def test_audit_finds_tampering(copy: Path, what: str) -> None:
    if what == "shard":
        path = next(p for p in sorted((copy / "landsat_2018" / "c").rglob("*")) if p.is_file())
        path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    elif what == "index":
        (copy / "index.parquet").unlink()
    else:
        text = (copy / "release.json").read_text()
        (copy / "release.json").write_text(text.replace('"title": "World"', '"title": "Word"'))
        with pytest.raises(LulcbenchError, match="does not match its content"):
            audit(copy)
        return
    found = audit(copy)
    assert "files have the bytes of the manifest" in found.problems
    with pytest.raises(LulcbenchError, match="fails its audit"):
        found.raise_if_bad(copy)


def test_audit_finds_what_a_consistent_manifest_hides(copy: Path) -> None:
    """Statistics, fractions and distances are computed again, not believed."""
    release = Manifest.load(copy)
    info = release.sensors["landsat"]
    wrong = info.statistics.model_copy(update={"mean": (0.5, 0.5)})
    sensors = {"landsat": info.model_copy(update={"statistics": wrong})}
    (copy / "splits.csv").write_text((copy / "splits.csv").read_text().replace("# buffer 0", "# buffer 1"))
    index = pd.read_parquet(copy / "index.parquet")
    index["luisa_2018_3110"] += 0.1
    index.to_parquet(copy / "index.parquet")
    files = tuple(
        file.model_copy(update={"bytes": p.stat().st_size, "sha256": pack.hash_file(p)})
        for file in release.files
        for p in [copy / file.path]
    )
    release.model_copy(update={"sensors": sensors, "files": files}).write(copy)
    problems = audit(copy).problems
    assert {"statistics of train", "class fractions", "splits keep their distance"} <= set(problems)


def test_publish_to_a_folder_is_verified_and_whole(made: Path, copy: Path, tmp_path: Path) -> None:
    target = tmp_path / "hub"
    place = Path(publish(made / "out", str(target)))
    assert Manifest.load(place).digest == Manifest.load(made / "out").digest
    assert not audit(place).problems
    assert publish(made / "out", str(target)) == str(place)
    victim = next(p for p in sorted((copy / "landsat_2018").rglob("*")) if p.is_file())
    victim.write_bytes(b"x")
    with pytest.raises(CorruptFileError, match=r"1 files of .* are missing or altered, such as landsat_2018"):
        publish(copy, str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def with_wrong_statistics(root: Path) -> Path:
    """Another release, of wrong statistics, that its manifest agrees with."""
    release = Manifest.load(root)
    info = release.sensors["landsat"]
    wrong = info.statistics.model_copy(update={"mean": (0.5, 0.5)})
    sensors = {"landsat": info.model_copy(update={"statistics": wrong})}
    release.model_copy(update={"sensors": sensors}).write(root)
    return root


@pytest.mark.slow
def test_a_release_that_fails_its_audit_is_not_published(copy: Path, tmp_path: Path) -> None:
    audit(copy)  # passes, but the findings are of what was there before
    with_wrong_statistics(copy)
    with pytest.raises(LulcbenchError, match="fails 1 checks of its audit, such as 'statistics of train'") as error:
        publish(copy, str(tmp_path / "hub"))
    assert "--allow" in error.value.remedy
    assert not (tmp_path / "hub").exists()


@pytest.mark.slow
def test_what_is_allowed_is_published_with_its_reason(copy: Path, tmp_path: Path) -> None:
    with_wrong_statistics(copy)
    place = Path(publish(copy, str(tmp_path / "hub"), {"statistics of train": "Of another <release>."}))
    report = json.loads((place / "audit.json").read_text())
    assert report["allowed"] == {"statistics of train": "Of another <release>."}
    assert report["problems"].keys() == {"statistics of train"}
    assert "Of another &lt;release&gt;." in (place / "audit.html").read_text()
    with pytest.raises(LulcbenchError, match="no failed check named 'class fractions'"):
        publish(copy, str(tmp_path / "other"), {"statistics of train": "y", "class fractions": "x"})


@pytest.mark.slow
def test_allow_needs_a_reason(copy: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "builders", "publish", str(copy), str(tmp_path / "hub"), "--allow", "shapes"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert "--allow is given 1 times and --why 0 times" in ended.stderr


def test_the_audit_has_a_page(made: Path) -> None:
    audit(made / "out")
    page = (made / "out" / "audit.html").read_text()
    assert "checks passed" in page
    assert "Simulated data" in page
    assert page.count("data:image/png;base64,") == 2  # splits and classes; one sensor has no displacement


def test_a_folder_that_is_no_release_is_not_overwritten(tmp_path: Path) -> None:
    world.make(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(LulcbenchError, match="is not empty and holds no release"):
        build(tmp_path, replace=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


@pytest.mark.slow
def test_commands_end_with_code_2_and_a_message(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(world.RECIPE.replace("[pack]", "[pak]"))
    command = [sys.executable, "-m", "builders", "build", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert "recipe.toml" in ended.stderr
    assert "pak: unknown key" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_the_shared_release_passes_its_audit(release_root: Path) -> None:
    found = audit(release_root)
    assert not found.problems
    assert found.checked["no tile without labels"] == 8
