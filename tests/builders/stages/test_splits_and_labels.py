"""Releases with an unlabelled split, without labels, and with several sources of labels: built, read and scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from affine import Affine
from typer.testing import CliRunner

from builders.recipe import Recipe, load
from builders.stages import materialize, pack, plan, search
from builders.stages.audit import audit
from lulcbench import LuisaChange, LuisaCls, LuisaSeg, LuisaSeries, PredictionWriter, Release
from lulcbench.cli import app
from lulcbench.datasets.sampler import balanced
from lulcbench.download import download
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.evaluation.comparison import compare
from lulcbench.evaluation.scoring import score
from lulcbench.legend import IGNORE_INDEX, corine_to_luisa, legend
from lulcbench.plotting import tile_panels
from lulcbench.predictions import Predictions
from lulcbench.release import ArrayKey, TilePosition
from lulcbench.release.verify import verify
from lulcbench.submission.card import check_predictions
from tests.builders import world

LEFT, BOTTOM, RIGHT, TOP = world.BOUNDS
EDGE = LEFT + 2 * 4800  # of the region to be mapped: the third column of tiles
REGIONS = f"""
[[regions]]
name = "west"
bounds = [{LEFT}, {BOTTOM}, {EDGE}, {TOP}]

[[regions]]
name = "east"
bounds = [{EDGE}, {BOTTOM}, {RIGHT}, {TOP}]
split = "map"
"""
MAPPED = world.RECIPE.replace('[[regions]]\nname = "all"\n', REGIONS).replace(
    "[split]\n", '[split]\nunlabelled = ["map"]\n'
)
IMAGERY = (
    world.RECIPE.replace(
        'name = "all"\n', f'name = "all"\nbounds = [{LEFT}, {BOTTOM}, {RIGHT}, {TOP}]\nsplit = "map"\n'
    )
    .replace('[[labels]]\nyear = 2018\nsource = "luisa"\npath = "labels.tif"\n', "")
    .replace('catalog = "catalog.json"', 'catalog = "catalog.json"\nlabels = []')
)
CORINE = """
[[labels]]
year = 2018
source = "corine"
path = "corine.tif"
licence = "CORINE-licence"

[[labels]]
name = "own"
year = 2018
source = "luisa"
path = "own.tif"
required = false
"""
SOURCES = world.RECIPE.replace("\n[pack]", CORINE + "\n[pack]")
Writer = Callable[[str, Path, str, np.ndarray], Path]


def corine() -> tuple[np.ndarray, Affine, str, int]:
    """CLC codes at 100 m."""
    codes = np.random.default_rng(1).choice([112, 211, 311, 512], (96, 48 * 3)).astype(np.int32)
    return codes, Affine(100, 0, LEFT, 0, -100, TOP), "EPSG:3035", 0


def own() -> tuple[np.ndarray, Affine, str, int]:
    """LUISA codes of the first column of tiles alone."""
    codes, *rest = world.labels()
    codes = np.where(codes == 3110, 3120, codes)
    codes[:, 96:] = 0
    return codes, *rest  # type: ignore[return-value]


def build(folder: Path, recipe: str) -> Release:
    world.make(folder, recipe)
    world.write_raster(folder / "corine.tif", *corine())
    world.write_raster(folder / "own.tif", *own())
    space = world.workspace(folder / "out")
    made = load(folder / "recipe.toml", space.scenes)
    rows = plan.plan(made, space)
    materialize.materialize(made, space, rows, search.search(made, space, rows), None)
    pack.pack(made, space, rows, None)
    found = audit(space.root)
    assert not found.problems, found.problems
    return Release.open(space.root)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return build(tmp_path_factory.mktemp("mapped"), MAPPED)


@pytest.fixture(scope="module")
def imagery(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return build(tmp_path_factory.mktemp("imagery"), IMAGERY)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return build(tmp_path_factory.mktemp("sources"), SOURCES)


def expected_labels(tile_row: pd.Series, raster: np.ndarray) -> np.ndarray:
    """The part of a 50 m raster of the whole world that a tile covers."""
    x, y = (int(tile_row["ix"]) * 4800 - LEFT) // 50, (TOP - (int(tile_row["iy"]) + 1) * 4800) // 50
    return raster[y : y + 96, x : x + 96]


def predict(path: Path, release: Release, split: str, codes: np.ndarray) -> Path:
    with PredictionWriter(path, release, split, 2018) as writer:
        for tile, values in zip(writer.info.tiles, codes, strict=True):
            writer.write(tile, values)
    return path


# --- a split without labels beside splits with them


def test_a_region_is_a_split_of_its_own(mapped: Release) -> None:
    manifest = mapped.manifest
    assert list(manifest.splits) == ["train", "val", "test", "map"]
    assert manifest.splits["map"] == 2
    assert set(mapped.index("map")["region"]) == {"east"}
    assert set(mapped.index("map")["ix"]) == {EDGE // 4800}
    assert manifest.labels["luisa"].splits == ("train", "val", "test")


def test_an_unlabelled_split_has_neither_label_arrays_nor_class_fractions(mapped: Release) -> None:
    labels = zarr.open_array(Path(mapped.root) / "luisa_2018", mode="r")
    for split in mapped.manifest.splits:
        rows = mapped.manifest.rows(split)
        assert (np.asarray(labels[rows.start : rows.stop]) > 0).any() == (split != "map")
        shards = [file for file in mapped.manifest.files if file.split == split]
        assert {file.array for file in shards} == set(mapped.manifest.split_arrays(split))
        assert (ArrayKey("luisa", 2018) in mapped.manifest.split_arrays(split)) == (split != "map")
        fractions = mapped.index(split).filter(regex=r"^luisa_2018_[1-5]$")
        assert fractions.shape[1] == 5
        if split == "map":
            assert fractions.isna().all(axis=None)
        else:
            np.testing.assert_allclose(fractions.sum(axis=1), 1)
    assert not verify(mapped).problems


def test_imagery_of_an_unlabelled_split_is_read_with_the_statistics_of_train(mapped: Release) -> None:
    data = LuisaSeg(mapped, split="map", sensors="landsat", labels=None, window=None)
    assert data.label_years == ()
    assert "label years: \n" in f"{data}\n"
    sample = data[0]
    assert set(sample) == {"image", "tile", "bounds", "crs", "year"}
    stored = zarr.open_array(Path(mapped.root) / "landsat_2018", mode="r")[mapped.manifest.first_rows["map"]]
    info = mapped.manifest.sensor("landsat")
    assert info.statistics is not None
    mean, std = (np.array(part)[None, :, None, None] for part in (info.statistics.mean, info.statistics.std))
    right = (np.asarray(stored) * 1e-4 - 0.1 - mean) / std
    np.testing.assert_allclose(sample["image"].numpy(), right.reshape(-1, 160, 160), atol=1e-3)
    assert data.plot(sample).axes


@pytest.mark.parametrize("kind", [LuisaSeg, LuisaCls, LuisaSeries])
def test_labels_of_an_unlabelled_split_are_not_made_up(mapped: Release, kind: type[LuisaSeg]) -> None:
    with pytest.raises(NotAvailableError, match="no luisa labels in its split 'map'") as caught:
        kind(mapped, split="map", sensors="landsat")
    assert "train, val, test" in caught.value.remedy
    with pytest.raises(NotAvailableError, match="no luisa labels in its split 'map'"):
        mapped.labels("map", 2018, [mapped.manifest.first_rows["map"]])


def test_what_needs_labels_says_so(mapped: Release) -> None:
    for kind in (LuisaCls, LuisaChange):
        with pytest.raises(LulcbenchError, match=f"{kind.__name__} needs labels"):
            kind(mapped, split="map", sensors="landsat", labels=None)
    with pytest.raises(LulcbenchError, match="classes were chosen, but no labels"):
        LuisaSeg(mapped, split="map", sensors="landsat", labels=None, classes=3110)
    with pytest.raises(LulcbenchError, match="no labels to balance by"):
        balanced(LuisaSeg(mapped, split="map", sensors="landsat", labels=None))
    with pytest.raises(LulcbenchError, match="no labels of 2018"):
        LuisaSeg(mapped, split="map", sensors="landsat", labels=None).class_fractions(2018, 1)


def test_an_unlabelled_split_is_predicted_but_not_scored(mapped: Release, tmp_path: Path) -> None:
    path = predict(tmp_path / "map.zip", mapped, "map", np.full((2, 96, 96), 3110))
    with Predictions.open(path, mapped) as predictions:
        assert predictions.info.split == "map"
        assert (predictions.codes(TilePosition(0)) == 3110).all()
    for evaluate in (score, check_predictions):
        with pytest.raises(NotAvailableError, match="no luisa labels in its split 'map'"):
            evaluate(path, mapped)


def test_an_unlabelled_split_is_shown_and_downloaded(mapped: Release, tmp_path: Path) -> None:
    tile = mapped.tiles("map").ids[0]
    assert [panel.title for panel in tile_panels(mapped, tile)] == ["landsat 2018, summer (red)"]
    said = CliRunner().invoke(app, ["info", mapped.root])
    assert said.exit_code == 0, said.output
    assert "labels of luisa: 2018; 50 m; in train, val, test" in said.output
    download(mapped.root, tmp_path / "got", splits=["map"])
    got = Release.open(tmp_path / "got")
    assert not verify(got).problems
    ours, theirs = (LuisaSeg(one, "map", "landsat", labels=None, window=None) for one in (mapped, got))
    assert torch.equal(ours[1]["image"], theirs[1]["image"])


def test_the_buffer_parts_labelled_splits_alone(tmp_path: Path) -> None:
    recipe = MAPPED.replace("buffer = 0", "buffer = 1").replace(
        "fractions = { train = 0.5, val = 0.25, test = 0.25 }", "fractions = { train = 1.0 }"
    )
    made, space = world.make(tmp_path, recipe)
    rows = plan.plan(made, space)
    assert sorted(row.split for row in rows) == ["map"] * 2 + ["train"] * 4  # though they touch
    labelled = recipe.replace('unlabelled = ["map"]\n', "")
    (tmp_path / "recipe.toml").write_text(labelled)
    rows = plan.plan(load(tmp_path / "recipe.toml", space.scenes), space)
    assert sorted(row.split for row in rows) == ["buffer"] * 2 + ["map"] * 2 + ["train"] * 2


# --- no labels at all


def test_a_release_may_be_imagery_alone(imagery: Release) -> None:
    manifest = imagery.manifest
    assert manifest.labels == {}
    assert dict(manifest.splits) == {"map": 6}
    assert manifest.sensor("landsat").statistics is None
    assert not imagery.index().filter(like="luisa").shape[1]
    assert 'map = LuisaSeg("world", split="map", sensors="landsat", year=2018, labels=None, normalize=False)' in (
        Path(imagery.root) / "README.md"
    ).read_text(encoding="utf-8")
    said = CliRunner().invoke(app, ["info", imagery.root])
    assert said.exit_code == 0, said.output
    assert "labels: none" in said.output


def test_imagery_alone_is_normalised_with_the_statistics_that_a_model_was_trained_on(
    imagery: Release, mapped: Release
) -> None:
    options = {"split": "map", "sensors": "landsat", "labels": None, "window": None}
    with pytest.raises(LulcbenchError, match="no statistics of landsat to normalise with") as caught:
        LuisaSeg(imagery, **options)
    assert "statistics=train.statistics" in caught.value.remedy
    assert LuisaSeg(imagery, normalize=False, **options).statistics is None
    train = LuisaSeg(mapped, sensors="landsat")
    assert train.statistics is not None
    data = LuisaSeg(imagery, statistics=train.statistics, **options)
    same = LuisaSeg(mapped, **options)
    tiles = [data.tiles["id"].tolist().index(tile) for tile in same.tiles["id"]]
    assert torch.equal(data.read(tiles)["image"], same.read([0, 1])["image"])
    device = LuisaSeg(imagery, statistics=train.statistics, normalize="device", **options)
    torch.testing.assert_close(device.finish(device.read(tiles))["image"], same.read([0, 1])["image"])


def test_given_statistics_are_of_bands_by_name(mapped: Release) -> None:
    given = {"landsat": {"nir08": (0.25, 0.5), "red": (0.2, 0.1)}}
    raw = LuisaSeg(mapped, sensors="landsat", bands=("nir08", "red"), normalize=False)
    data = LuisaSeg(mapped, sensors="landsat", bands=("nir08", "red"), statistics=given)
    right = (raw[0]["image"] - torch.tensor([0.25, 0.2])[:, None, None]) / torch.tensor([0.5, 0.1])[:, None, None]
    torch.testing.assert_close(data[0]["image"], right, atol=1e-5, rtol=0)
    assert data.statistics == given


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({}, "no mean and standard deviation of band red of landsat"),
        ({"landsat": {"red": (0.1, 0.1)}}, "no mean and standard deviation of band nir08 of landsat"),
        ({"landsat": {"red": 0.1, "nir08": (0, 1)}}, "no mean and standard deviation of band red"),
        ({"landsat": {"red": (0.1, 0.0), "nir08": (0, 1)}}, "mean 0.1 and standard deviation 0.0"),
        ({"landsat": {"red": (float("nan"), 1.0), "nir08": (0, 1)}}, "mean nan"),
    ],
    ids=["nothing", "one band", "a number", "no spread", "no mean"],
)
def test_statistics_that_cannot_be_are_refused(mapped: Release, statistics: object, message: str) -> None:
    with pytest.raises(LulcbenchError, match=message):
        LuisaSeg(mapped, sensors="landsat", statistics=statistics)  # type: ignore[arg-type]


# --- two sources of labels, and a third that does not cover everything


def test_each_source_has_arrays_counts_and_a_licence_of_its_own(sources: Release) -> None:
    manifest = sources.manifest
    assert list(manifest.labels) == ["luisa", "corine", "own"]
    rasters = {
        "luisa": world.labels()[0],
        "corine": np.vectorize(corine_to_luisa().get)(corine()[0]).repeat(2, 0).repeat(2, 1),
        "own": own()[0],
    }
    for name, raster in rasters.items():
        counts: dict[int, int] = {}
        for split in manifest.splits:
            for _, tile in sources.index(split).iterrows():
                right = expected_labels(tile, raster)
                np.testing.assert_array_equal(sources.labels(split, 2018, [tile["row"]], name)[0], right)
                at_level = legend().remap(right.astype(np.uint16), 1)
                for code in legend().codes(1):
                    assert tile[f"{name}_2018_{code}"] == pytest.approx((at_level == code).mean())
                if split == "train":
                    for code, n in zip(*np.unique(right[right > 0], return_counts=True), strict=True):
                        counts[int(code)] = counts.get(int(code), 0) + int(n)
        assert manifest.labels[name].class_counts == {2018: counts}
    licences = {file.array.name: file.licence for file in manifest.files if file.array and "/c/" in file.path}
    assert licences == {"landsat": "CC-BY-4.0", "luisa": "CC-BY-4.0", "corine": "CORINE-licence", "own": "CC-BY-4.0"}
    assert {"labels-luisa-2018", "labels-corine-2018", "labels-own-2018"} <= {one.id for one in manifest.sources}


def test_datasets_take_the_labels_that_are_asked_for(sources: Release) -> None:
    tiles = sources.index("train")
    for name in ("luisa", "corine", "own"):
        data = LuisaSeg(sources, sensors="landsat", labels=name, window=None, mask_resolution="label", level=4)
        for i, row in enumerate(tiles["row"]):
            right = legend().encode(sources.labels("train", 2018, [row], name)[0], 4)
            np.testing.assert_array_equal(data[i]["mask"].numpy(), right)
        np.testing.assert_allclose(
            data.class_fractions(2018, 1), tiles[[f"{name}_2018_{code}" for code in legend().codes(1)]]
        )
    with pytest.raises(NotAvailableError, match="no osm labels") as caught:
        LuisaSeg(sources, sensors="landsat", labels="osm")
    assert "luisa, corine, own" in caught.value.remedy


def test_classes_are_looked_for_in_the_chosen_labels(sources: Release) -> None:
    def ids(labels: str, code: int) -> set[str]:
        return {
            tile
            for split in sources.manifest.splits
            if (sources.index(split)[f"{labels}_2018_{code}"] > 0).any()
            for tile in LuisaSeg(sources, split, "landsat", labels=labels, classes=code).tiles["id"]
        }

    west = {tile for _, tile, ix in sources.index()[["id", "ix"]].itertuples() if ix == LEFT // 4800}
    assert ids("own", 3120) == west
    assert ids("luisa", 3110) == set(sources.index()["id"])
    with pytest.raises(LulcbenchError, match="No tile meets"):
        LuisaSeg(sources, sensors="landsat", labels="luisa", classes=3120)


def test_windows_are_balanced_by_the_chosen_labels(sources: Release) -> None:
    weights = {}
    for name in ("luisa", "corine"):
        data = LuisaSeg(sources, sensors="landsat", labels=name, window=2400, level=4)
        weights[name] = balanced(data)
        share = data.class_fractions(2018, 4).mean(axis=0)
        worth = np.append(np.divide(1, share, out=np.zeros_like(share), where=share > 0), np.zeros(256 - len(share)))
        masks = LuisaSeg(sources, sensors="landsat", labels=name, window=2400, level=4, mask_resolution="label").read(
            range(len(data))
        )["mask"]
        right = worth[masks.numpy()].mean(axis=(1, 2))
        np.testing.assert_allclose(weights[name], right / right.sum(), rtol=1e-5)
    assert not torch.allclose(weights["luisa"], weights["corine"])


def test_predictions_are_scored_against_the_chosen_labels(sources: Release, tmp_path: Path) -> None:
    rows = sources.index("test")["row"].to_numpy()
    luisa, other = (sources.labels("test", 2018, rows, name) for name in ("luisa", "corine"))
    path = predict(tmp_path / "p.zip", sources, "test", luisa)
    assert score(path, sources).levels[4]["overall_accuracy"] == 1
    assert score(path, sources).source == "luisa"
    scores = score(path, sources, source="corine")
    assert scores.source == "corine"
    for level, part in scores.levels.items():
        truth, guess = legend().encode(other, level), legend().encode(luisa, level)
        known = truth != IGNORE_INDEX
        assert part.pixels == known.sum()
        if known.any():
            assert part["overall_accuracy"] == pytest.approx((truth == guess)[known].mean())
    said = CliRunner().invoke(app, ["score", str(path), "--root", sources.root, "--labels", "corine"])
    assert said.exit_code == 0, said.output
    assert "corine labels" in said.output
    with pytest.raises(NotAvailableError, match="no osm labels"):
        score(path, sources, source="osm")
    if len(set(sources.tiles("test").blocks)) > 1:
        assert compare(path, path, sources, source="corine").differences


def test_all_labels_are_downloaded_and_shown(sources: Release, tmp_path: Path) -> None:
    download(sources.root, tmp_path / "got", splits=["val"], sensors=["landsat"])
    got = Release.open(tmp_path / "got")
    for name in ("luisa", "corine", "own"):
        rows = got.manifest.rows("val")[:1]
        np.testing.assert_array_equal(got.labels("val", 2018, rows, name), sources.labels("val", 2018, rows, name))
    titles = [panel.title for panel in tile_panels(got, got.tiles("val").ids[0], level=1)]
    assert [title for title in titles if "labels" in title] == [
        f"{name} labels of 2018, level 1" for name in ("luisa", "corine", "own")
    ]


# --- recipes that contradict themselves


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('unlabelled = ["map"]', 'unlabelled = ["mapp"]', "unlabelled names 'mapp'"),
        ('split = "map"', 'split = "buffer"', "'buffer' is not a name for a split"),
        ('split = "map"', 'split = "../map"', "split"),
        ("train = 0.5", "train = 0.6", "must sum to 1"),
        ('source = "luisa"', 'source = "luisa"\nname = "landsat"', "labels cannot be named 'landsat'"),
        ('source = "luisa"', 'source = "luisa"\nname = "valid"', "labels cannot be named 'valid'"),
        ('source = "luisa"', 'source = "luisa"\nname = "my_labels"', "name"),
    ],
    ids=["unlabelled", "buffer", "path", "fractions", "sensor", "column", "two words"],
)
def test_recipes_that_contradict_themselves_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MAPPED
    (tmp_path / "recipe.toml").write_text(MAPPED.replace(old, new))
    with pytest.raises(LulcbenchError, match=message):
        load(tmp_path / "recipe.toml", tmp_path)


def test_one_source_has_one_map_per_year_and_one_licence(tmp_path: Path) -> None:
    def read(recipe: str) -> Recipe:
        (tmp_path / "recipe.toml").write_text(recipe)
        return load(tmp_path / "recipe.toml", tmp_path)

    assert [str(label.array) for label in read(SOURCES).labels] == ["luisa_2018", "corine_2018", "own_2018"]
    with pytest.raises(LulcbenchError, match="a label array is named twice"):
        read(SOURCES.replace('name = "own"\n', ""))
    with pytest.raises(LulcbenchError, match="labels of corine have several licences"):
        read(SOURCES.replace('name = "own"\nyear = 2018', 'name = "corine"\nyear = 2012'))
    with pytest.raises(LulcbenchError, match="a region needs bounds"):
        read(IMAGERY.replace(f"bounds = [{LEFT}, {BOTTOM}, {RIGHT}, {TOP}]\n", ""))
    assert ArrayKey("own", 2018) == read(SOURCES).labels[2].array
