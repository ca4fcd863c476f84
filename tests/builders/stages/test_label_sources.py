"""Labels of several sources in one release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from builders.recipe import Recipe, load
from lulcbench import LuisaSeg, Release
from lulcbench.cli import app
from lulcbench.datasets.sampler import balanced
from lulcbench.download import download
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.evaluation.comparison import compare
from lulcbench.evaluation.scoring import score
from lulcbench.legend import IGNORE_INDEX, corine_to_luisa, legend
from lulcbench.plotting import tile_panels
from lulcbench.release import ArrayKey
from tests.builders import world
from tests.builders.labelled import (
    BOTTOM,
    IMAGERY,
    LEFT,
    MAPPED,
    RIGHT,
    SOURCES,
    TOP,
    build,
    corine,
    expected_labels,
    own,
    predict,
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return build(tmp_path_factory.mktemp("sources"), SOURCES)


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
    assert licences.pop("landsat-clear") == licences["landsat"]
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
