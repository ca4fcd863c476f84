"""Maps of the classes of a legend subset: flat, with codes 1, 2, … of their own."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr

from lulcbench.errors import LulcbenchError, UnsupportedFormatError
from lulcbench.evaluation.class_maps import count, open_map
from lulcbench.geozarr import consolidate
from lulcbench.grid import Tile
from lulcbench.legend import ClassScheme, LegendSubset, legend
from lulcbench.maps import MapModel, MappingUnit, OwnModel, map_release
from lulcbench.maps.answers import UNCERTAIN, answers
from lulcbench.maps.conformal import calibrate, nonconformity
from lulcbench.maps.viewer import Point, write_site
from lulcbench.release import Release
from tests.lulcbench.maps.kill import PART

CLASSES = {"residential": [111, 112], "industrial": [121], "forest": [31]}
CITY = LegendSubset(CLASSES)


@pytest.fixture(scope="module")
def city(exported, release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of a fitted forest with everything that a map may have."""
    model = shutil.copytree(exported("city"), tmp_path_factory.mktemp("city") / "model")
    calibrate(model, release_root, coverage=0.5)
    unit = MappingUnit(artificial=0.5, other=1.0)
    return map_release(
        model, release_root, model.parent / "map", replace(PART, years=(2018,), cog=True, mapping_unit=unit)
    ).folder


def edited(model: Path, out: Path, **changes: Any) -> Path:
    copy = shutil.copytree(model, out)
    content = json.loads((copy / "model.json").read_bytes())
    content["properties"]["lulcbench:model"] |= changes
    (copy / "model.json").write_text(json.dumps(content))
    return copy


def own(root: Path, subset: LegendSubset, version: str = "1") -> OwnModel:
    """Predicts more of each class from the left to the right of an image."""

    def predict(images: dict[str, np.ndarray]) -> np.ndarray:
        _, height, width = images["landsat"].shape
        p = np.linspace(1, 2, width)[None, None] ** np.arange(len(subset.names))[:, None, None]
        return np.broadcast_to(p / p.sum(0), (len(subset.names), height, width)).astype(np.float32)

    return OwnModel.of(predict, root, "landsat", subset, name="ramp", version=version)


def test_the_model_states_its_classes(exported) -> None:
    info = MapModel.open(exported("city")).info
    text = json.dumps([list(CLASSES), list(CLASSES.values()), legend().digest])
    assert info.classes == ("residential", "industrial", "forest")
    assert {name: list(codes) for name, codes in info.subset.items()} == CLASSES
    assert (info.level, info.legend_digest) == (None, hashlib.sha256(text.encode()).hexdigest())
    assert info.scheme.digest == info.legend_digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": CLASSES | {"forest": [311]}}, "trained with another legend"),
        ({"subset": {"residential": [111], "industrial": [1121], "forest": [112]}}, "code 1121 is in"),
        ({"subset": CLASSES | {"forest": [999]}}, "999 of class 'forest' is not a LUISA code"),
        ({"subset": None}, "level or subset and legend_digest go together"),
        ({"level": 1}, "level and subset both define the classes"),
        ({"classes": ["residential", "forest", "industrial"]}, "its classes are not those of its legend subset"),
    ],
)
def test_a_model_whose_classes_were_changed_is_refused(
    exported, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(LulcbenchError, match=message):
        MapModel.open(edited(exported("city"), tmp_path / "model", **changes))


def test_layers_are_of_the_subset(city: Path) -> None:
    year = xr.open_dataset(city / "2018" / "0", engine="zarr", mask_and_scale=False, consolidated=False)
    assert "class_1" not in year
    codes, p = year["classes"].to_numpy(), year["probability"].to_numpy().astype(int)
    valid = codes > 0
    assert valid.any()
    assert set(np.unique(codes)) <= {0, 1, 2, 3}
    assert year["class"].to_numpy().tolist() == [1, 2, 3]
    unchanged = valid & (year["changed_by_mapping_unit"].to_numpy() == 0)
    highest = np.take_along_axis(p, codes[None].astype(int).clip(1) - 1, 0)[0]
    assert (highest == p.max(0))[unchanged].all()
    assert 0 < (highest < p.max(0))[valid].mean() < 0.5  # small patches were filled
    shares = p[:, valid] / 255
    entropy = -(shares * np.log(shares.clip(1e-12))).sum(0) / np.log(3)
    assert np.abs(year["entropy"].to_numpy()[valid] / 254 - entropy).max() < 0.03
    certain = year["certain"].to_numpy()[valid]
    assert ((certain == p.argmax(0)[valid] + 1) | (certain == UNCERTAIN)).mean() > 0.99  # ties aside
    assert year["classes"].attrs["flag_values"] == [0, 1, 2, 3]
    assert year["classes"].attrs["flag_meanings"] == "unlabelled residential industrial forest"


def test_files_name_and_colour_the_classes(city: Path) -> None:
    colors = []
    for codes in CLASSES.values():
        rgb = [bytes.fromhex(legend().classes[code].color[1:]) for code in codes]
        colors.append(tuple(np.mean([list(one) for one in rgb], axis=0).round().astype(int).tolist()))
    with rasterio.open(city / "cog" / "2018" / "classes.tif") as file:
        assert [file.colormap(1)[code][:3] for code in (1, 2, 3)] == colors
        assert json.loads(file.tags()["SUBSET"]) == CLASSES
        assert file.tags()["LEGEND"] == CITY.digest
        stored = file.read(1)
    group = zarr.open_group(city, mode="r")
    np.testing.assert_array_equal(stored, group["2018/0/classes"][...])
    with rasterio.open(city / "cog" / "2018" / "probability.tif") as file:
        assert file.descriptions == ("1 residential", "2 industrial", "3 forest")
    assert 'label="2 industrial"' in (city / "cog" / "2018" / "classes.qml").read_text()
    item = json.loads((city / "2018" / "item.json").read_bytes())
    classes = item["assets"]["zarr"]["classification:classes"]
    assert [(c["value"], c["title"], c["description"]) for c in classes] == [
        (1, "residential", "LUISA 111, 112"),
        (2, "industrial", "LUISA 121"),
        (3, "forest", "LUISA 31"),
    ]
    assert "pixels of other classes are mapped as one of these" in item["properties"]["description"]
    attributes = dict(group.attrs)
    assert (attributes["lulcbench:subset"], attributes["legend_digest"]) == (CLASSES, CITY.digest)
    assert not [name for name in group.metadata.consolidated_metadata.metadata if name.startswith(".")]


def test_it_is_shown_with_labels_and_points_in_its_classes(city: Path, release_root: Path, tmp_path: Path) -> None:
    left, top = (zarr.open_group(city, mode="r")["2018/0"].attrs["spatial:transform"][i] for i in (2, 5))
    points = [Point(left + 30, top - 30, code, "a") for code in (1121, 3110, 2110, 0)]
    site = json.loads(
        (write_site([city], tmp_path / "site", labels=release_root, points=points) / "site.json").read_bytes()
    )
    assert [(c["code"], c["name"], c["level"], c["parent"]) for c in site["legend"]] == [
        (1, "residential", 1, None),
        (2, "industrial", 1, None),
        (3, "forest", 1, None),
        (UNCERTAIN, "Uncertain at all levels", 0, None),
    ]
    assert len({c["safe"] for c in site["legend"]}) == 4
    assert [point["code"] for point in site["points"]] == [1, 3, 0, 0]
    shown, labels = site["maps"]
    assert [(layer["id"], layer["title"]) for layer in shown["layers"][:1]] == [("classes", "Classes")]
    assert shown["probabilities"] == {"level": 1, "codes": [1, 2, 3]}
    release, grid = Release.open(release_root), labels["overviews"][0]
    counts = np.frombuffer(_gunzip(tmp_path / "site" / "data" / "1" / "2018" / "classes" / "counts.bin"), "<u2")
    stored = np.zeros(3, int)
    for split in release.manifest.splits:
        tiles = release.tiles(split)
        for position, name in enumerate(tiles.ids):
            assert Tile.from_id(name).bounds[0] >= grid["left"]
            codes, n = np.unique(release.labels(split, 2018, [tiles.first + position])[0], return_counts=True)
            for code, pixels in zip(codes.tolist(), n.tolist(), strict=True):
                classes = [i for i, own in enumerate(CLASSES.values()) for c in own if str(code).startswith(str(c))]
                stored[classes] += pixels
    assert counts.reshape(-1, 3).sum(0).tolist() == stored.tolist()
    assert stored.all()


def test_answers_of_no_class_are_shown_as_uncertain(city: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(city, tmp_path / "map")
    array = zarr.open_array(copy / "2018" / "0" / "certain", mode="r+")
    values = array[...]
    values[values == 3] = UNCERTAIN
    array[...] = values
    counts = write_site([copy], tmp_path / "site") / "data" / "0" / "2018" / "certain" / "counts.bin"
    shown = np.frombuffer(_gunzip(counts), "<u2").reshape(-1, 4).sum(0)
    assert shown.tolist() == [(values == 1).sum(), (values == 2).sum(), 0, (values == UNCERTAIN).sum()]
    assert shown[3] > 0


def _gunzip(path: Path) -> bytes:
    import gzip

    return gzip.decompress(path.read_bytes())


def test_maps_of_other_legends_are_not_mixed(city: Path, tmp_path: Path) -> None:
    changed, attributes = shutil.copytree(city, tmp_path / "map"), dict(zarr.open_group(city, mode="r").attrs)
    fewer = CLASSES | {"forest": [311]}
    consolidate(changed, attributes | {"lulcbench:subset": fewer, "legend_digest": LegendSubset(fewer).digest})
    with pytest.raises(LulcbenchError, match="has other classes than"):
        write_site([city, changed], tmp_path / "site")
    consolidate(changed, attributes | {"lulcbench:subset": fewer})
    with pytest.raises(UnsupportedFormatError, match="has another legend"):
        write_site([changed], tmp_path / "site")
    with pytest.raises(UnsupportedFormatError, match="has another legend"):
        open_map(changed, "values")


def test_codes_are_not_taken_for_those_of_luisa(city: Path) -> None:
    with pytest.raises(LulcbenchError, match=r"not LUISA codes(.|\n)*'values': 1 residential, 2 industrial, 3 forest"):
        open_map(city)
    with open_map(city, "values") as map_:
        found = count(map_).pixels
    codes, n = np.unique(zarr.open_array(city / "2018" / "0" / "classes", mode="r")[...], return_counts=True)
    assert found == {code: pixels for code, pixels in zip(codes.tolist(), n.tolist(), strict=True) if code}


def test_models_of_your_own_and_their_ensembles(release_root: Path, tmp_path: Path) -> None:
    pair = [own(release_root, CITY), own(release_root, CITY, "2")]
    folder = map_release(pair, release_root, tmp_path / "map", replace(PART, years=(2018,))).folder
    group = zarr.open_group(folder, mode="r")["2018/0"]
    assert set(np.unique(group["classes"][...])) <= {0, 1, 3}
    assert (group["deviation"][...][group["classes"][...] > 0] == 0).all()
    other = own(release_root, LegendSubset(CLASSES | {"forest": [311]}))
    with pytest.raises(LulcbenchError, match="differ in their classes"):
        map_release([pair[0], other], release_root, tmp_path / "other", PART)


def test_answers_are_a_class_or_none_and_other_labels_do_not_count() -> None:
    scheme = ClassScheme.of_subset(CITY)
    p = np.array([[0.6, 0.2, 0.5, 0.1], [0.3, 0.2, 0.1, 0.1], [0.1, 0.6, 0.4, 0.8]], np.float32)
    codes, sizes = answers(p, scheme, 0.55)
    assert (codes.tolist(), sizes.tolist()) == ([1, 3, UNCERTAIN, 3], [1, 1, 3, 1])
    # The second label is forest; arable land, artificial surfaces and no label say nothing of these classes.
    labels = np.array([1210, 3110, 2110, 1], np.uint16)
    np.testing.assert_allclose(nonconformity(p, labels, scheme), [0.6, 0.0])


def test_a_class_is_artificial_if_all_its_codes_are() -> None:
    mixed = ClassScheme.of_subset(LegendSubset({"town": [11, 121], "edge": [14, 21], "forest": [31]}))
    assert MappingUnit().pixels(mixed, 10).tolist() == [100, 500, 500]
