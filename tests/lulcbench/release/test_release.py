"""The manifest: what it accepts, and that nothing altered, half-written or hostile passes for a release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.legend import legend
from lulcbench.release import ArrayKey, FileInfo, LabelInfo, Manifest, SensorInfo, Statistics, split_order
from lulcbench.seasons import Season
from lulcbench.sensors import LANDSAT, Band, Coding

SHA = "0" * 64


def manifest(**changes: Any) -> Manifest:
    shard = "landsat_2018/c/1/0/0/0/0"
    content = {
        "name": "luisa-test",
        "version": "0.1.0",
        "title": "Test",
        "description": "",
        "simulated": True,
        "seasons": (Season(name="summer", start="06-25", end="09-12"),),
        "sensors": {
            "landsat": SensorInfo(
                resolution=30,
                bands=(LANDSAT.band("red"), LANDSAT.band("nir08")),
                years=(2012, 2018),
                licence="CC-BY-4.0",
                statistics=Statistics(mean=(0.1, 0.3), std=(0.05, 0.1), pixels=10),
            )
        },
        "labels": {
            "luisa": LabelInfo(
                years=(2018,),
                splits=("train", "test"),
                legend_digest=legend().digest,
                licence="CC-BY-4.0",
                class_counts={2018: {3110: 5}},
            )
        },
        "regions": ("somewhere",),
        "splits": {"train": 2, "test": 1},
        "first_rows": {"train": 0, "test": 2},
        "sources": (),
        "files": (
            FileInfo(path=shard, bytes=3, sha256=SHA, licence="x", split="test", array="landsat_2018"),
            FileInfo(path="luisa_2018/c/1/0/0", bytes=3, sha256=SHA, licence="x", split="test", array="luisa_2018"),
            FileInfo(path="luisa_2018/zarr.json", bytes=3, sha256=SHA, licence="x", array="luisa_2018"),
            FileInfo(path="tile/zarr.json", bytes=3, sha256=SHA, licence="x"),
        ),
        "builder": "test",
    }
    return Manifest.model_validate(content | changes)


def with_landsat(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return content | {"sensors": {"landsat": content["sensors"]["landsat"] | changes}}


def with_luisa(content: Any, **changes: Any) -> Any:
    return content | {"labels": {"luisa": content["labels"]["luisa"] | changes}}


def with_bands(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The second band altered."""
    first, second = content["sensors"]["landsat"]["bands"]
    return with_landsat(content, bands=[first, second | {key: value}])


def test_round_trip_keeps_the_digest(tmp_path: Path) -> None:
    release = manifest()
    release.write(tmp_path)
    assert Manifest.load(tmp_path) == release
    assert Manifest.load(tmp_path).digest == release.digest
    assert [p.name for p in tmp_path.iterdir()] == ["release.json"]


def test_digest_follows_every_field() -> None:
    digests = {manifest(**change).digest for change in ({}, {"version": "0.1.1"}, {"simulated": False}, {"files": ()})}
    assert len(digests) == 4


def test_the_digest_of_the_data_follows_only_what_is_learnt_and_scored() -> None:
    files = manifest().files
    splits = FileInfo(path="splits.csv", bytes=3, sha256=SHA, licence="x")
    card = FileInfo(path="README.md", bytes=3, sha256=SHA, licence="x")
    whole = manifest(files=(*files, splits))
    content = whole.model_dump(mode="json")

    def altered(position: int) -> Any:
        return tuple(
            f.model_copy(update={"sha256": "1" * 64} if i == position else {}) for i, f in enumerate(whole.files)
        )

    same: list[dict[str, Any]] = [
        {"name": "other", "version": "0.2.0", "title": "t", "description": "d", "builder": "pack/99"},
        {"files": (card, *reversed(whole.files))},
        {"files": altered(2)},  # zarr.json of the labels: attributes describe them
        {"regions": ("renamed",)},
        with_landsat(content, licence="MIT"),
    ]
    for change in same:
        other = manifest(**{"files": whole.files, **change})
        assert (other.data_digest, other.digest == whole.digest) == (whole.data_digest, False)
    statistics = content["sensors"]["landsat"]["statistics"]
    different: list[dict[str, Any]] = [
        {"files": files},
        *({"files": altered(position)} for position in (0, 1, 4)),  # imagery, labels, splits
        {"simulated": False},
        {"splits": {"train": 1, "test": 1}},
        with_landsat(content, statistics=statistics | {"pixels": statistics["pixels"] + 1}),
        with_bands(content, "name", "nir"),
    ]
    digests = {manifest(**{"files": whole.files, **change}).data_digest for change in different}
    assert len(digests | {whole.data_digest}) == len(different) + 1


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda m: m | {"title": "altered"}, "does not match its content"),
        (lambda m: m | {"digest": SHA}, "does not match its content"),
        (lambda m: {k: v for k, v in m.items() if k != "digest"}, "does not match its content"),
        (lambda m: m | {"format": "lulcbench-release/99"}, "lulcbench-release/99"),
        (lambda m: m | {"surprise": 1}, "surprise"),
        (lambda m: m | {"version": "latest"}, "version"),
        (lambda m: m | {"splits": m["splits"] | {"Hold out": 1}}, "Hold out"),
        (lambda m: m | {"splits": m["splits"] | {"map": 0}}, "greater than 0"),
        (lambda m: m | {"splits": {"train": 2}, "first_rows": {"train": 0}}, "of a split that there is not"),
        (lambda m: m | {"sensors": {}}, "of an array that the release does not have"),
        (lambda m: m | {"labels": {}}, "of an array that the release does not have"),
        (lambda m: m | {"labels": {"landsat": m["labels"]["luisa"]}}, "'landsat' cannot be the name of labels"),
        (lambda m: m | {"labels": {"cloud": m["labels"]["luisa"]}}, "'cloud' cannot be the name of labels"),
        (lambda m: m | {"labels": {"lu_isa": m["labels"]["luisa"]}}, "lu_isa"),
        (lambda m: with_luisa(m, class_counts={}), "class_counts must be of the years"),
        (lambda m: with_luisa(m, years=[]), "years"),
        (lambda m: with_luisa(m, years=[18], class_counts={18: {}}), "is not the name of an array"),
        (lambda m: with_landsat(m, resolution=0), "resolution"),
        (lambda m: with_landsat(m, spans=[[2012, 2012]]), "begin before they end"),
        (lambda m: m | {"first_rows": {"train": 0, "test": 1}}, "splits overlap"),
        (lambda m: m | {"first_rows": {"train": 0}}, "different splits"),
        (lambda m: m | {"seasons": []}, "but no season"),
        (lambda m: with_landsat(m, bands=m["sensors"]["landsat"]["bands"][:1]), "differ in length"),
        (lambda m: with_bands(m, "name", "red"), "same name"),
        (lambda m: with_bands(m, "unit", "K"), "must share coding and unit"),
        (
            lambda m: with_bands(m, "coding", {"dtype": "int16", "scale": 1, "offset": 0, "nodata": 5}),
            "nodata of int16",
        ),
    ],
    ids=[
        "title",
        "digest",
        "no digest",
        "format",
        "surplus key",
        "version",
        "split name",
        "empty split",
        "labels of no split",
        "no sensor",
        "no labels",
        "labels named like a sensor",
        "labels named like a column",
        "labels of two words",
        "class counts",
        "no year",
        "year of two digits",
        "resolution",
        "span of one year",
        "overlapping splits",
        "splits without rows",
        "no seasons",
        "bands",
        "band twice",
        "unit",
        "coding",
    ],
)
def test_altered_manifests_are_refused(tmp_path: Path, alter: Any, message: str) -> None:
    path = manifest().write(tmp_path)
    path.write_text(json.dumps(alter(json.loads(path.read_text()))))
    with pytest.raises(LulcbenchError, match=message) as caught:
        Manifest.load(tmp_path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_format_version_1_asks_to_rebuild(tmp_path: Path) -> None:
    path = manifest().write(tmp_path)
    path.write_text(path.read_text().replace("lulcbench-release/2", "lulcbench-release/1"))
    with pytest.raises(LulcbenchError, match=r"(?s)lulcbench-release/1.*python -m builders build"):
        Manifest.load(tmp_path)


def test_a_sensor_need_not_be_registered(tmp_path: Path) -> None:
    """The manifest says all that is needed to read its arrays."""
    elevation = Band("elevation", None, 30, "dem", "m", Coding("float32", 1, 0, "NaN"))
    info = SensorInfo(
        resolution=30,
        bands=(elevation,),
        years=(2018,),
        licence="x",
        statistics=Statistics(mean=(300,), std=(9,), pixels=1),
    )
    release = manifest(sensors={"glo30": info}, files=())
    release.write(tmp_path)
    assert Manifest.load(tmp_path).sensor("glo30") == info


def test_another_legend_is_refused(tmp_path: Path) -> None:
    luisa = manifest().labels["luisa"]
    manifest(labels={"luisa": luisa.model_copy(update={"legend_digest": SHA})}).write(tmp_path)
    with pytest.raises(LulcbenchError, match="another legend"):
        Manifest.load(tmp_path)


def test_missing_release_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match=r"release\.json is missing") as caught:
        Manifest.load(tmp_path / "nowhere")
    assert "lulcbench download" in caught.value.remedy


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\\..\\x", "c:/x", "", "a\0b"], ids=ascii)
def test_file_paths_stay_inside(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        FileInfo(path=path, bytes=1, sha256=SHA, licence="x")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_release_or_a_clear_error(text: bytes) -> None:
    with pytest.raises(LulcbenchError):
        Manifest.parse(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(Manifest.model_fields)), json_values)
def test_a_fuzzed_field_never_passes(field: str, value: Any) -> None:
    content = manifest().model_dump(mode="json")
    genuine = content | {"digest": manifest().digest}
    fuzzed = genuine | {field: value}
    if fuzzed == genuine:
        return
    with pytest.raises(LulcbenchError):
        Manifest.parse(json.dumps(fuzzed).encode())


def test_selecting_files_and_naming_what_exists() -> None:
    release = manifest()
    shard, labels, metadata, _ = release.files
    assert release.array_files(["test"], sensors=()) == [labels, metadata]
    assert release.array_files(["test"], years=(2012,)) == []
    assert release.array_files(["test"]) == [shard, labels, metadata]
    assert release.array_files(["train"]) == [metadata]
    assert release.files_of(ArrayKey("luisa", 2018), "test") == [labels, metadata]
    assert release.files_of(ArrayKey("luisa", 2018), "train") == [metadata]
    assert (list(release.rows("train")), list(release.rows("test")), release.array_rows) == ([0, 1], [2], 3)
    with pytest.raises(LulcbenchError, match=r"no split 'val'") as caught:
        release.check_split("val")
    assert "train, test" in caught.value.remedy
    assert release.label_array("luisa", 2018, "test") == ArrayKey("luisa", 2018)
    assert release.imagery("landsat", 2012) == ArrayKey("landsat", 2012)
    assert release.years == (2012, 2018)
    for ask, message, remedy in (
        (lambda: release.label_array("luisa", 2012, "test"), "no luisa labels for 2012", "It has 2018"),
        (lambda: release.label_array("corine", 2018, "test"), "no corine labels", "It has luisa"),
        (lambda: release.label_array("luisa", 2018, "val"), "no split 'val'", "train, test"),
        (lambda: release.imagery("landsat", 2015), "no landsat for 2015", "2012, 2018"),
        (lambda: release.imagery("planet", 2018), "no sensor 'planet'", "It has landsat"),
    ):
        with pytest.raises(NotAvailableError, match=message) as caught:
            ask()
        assert remedy in caught.value.remedy


def test_a_split_without_labels_or_a_release_without_any() -> None:
    release = manifest(splits={"train": 2, "test": 1, "map": 5}, first_rows={"train": 0, "test": 2, "map": 4})
    assert release.split_arrays("map") == (ArrayKey("landsat", 2012), ArrayKey("landsat", 2018))
    assert release.split_arrays("test") == release.arrays == (*release.split_arrays("map"), ArrayKey("luisa", 2018))
    with pytest.raises(NotAvailableError, match="no luisa labels in its split 'map'") as caught:
        release.label_array("luisa", 2018, "map")
    assert "train, test" in caught.value.remedy
    landsat = release.sensors["landsat"].model_copy(update={"statistics": None})
    unlabelled = manifest(splits={"map": 5}, first_rows={"map": 0}, labels={}, sensors={"landsat": landsat}, files=())
    assert Manifest.parse(json.dumps(unlabelled.model_dump(mode="json") | {"digest": unlabelled.digest}).encode())
    with pytest.raises(NotAvailableError, match="no luisa labels") as caught:
        unlabelled.label_array("luisa", 2018, "map")
    assert "It has none" in caught.value.remedy
    with pytest.raises(ValueError, match="no train split"):
        manifest(splits={"map": 5}, first_rows={"map": 0}, labels={}, files=())


def test_labels_are_luisa_by_default_or_the_only_ones() -> None:
    luisa = manifest().labels["luisa"]
    assert manifest(labels={"corine": luisa, "luisa": luisa}).choose_labels() == "luisa"
    assert manifest(labels={"corine": luisa, "luisa": luisa}).choose_labels("corine") == "corine"
    others = {"files": ()}
    assert manifest(labels={"own": luisa}, **others).choose_labels() == "own"
    with pytest.raises(NotAvailableError, match="several sources") as caught:
        manifest(labels={"own": luisa, "corine": luisa}, **others).choose_labels()
    assert "own, corine" in caught.value.remedy
    with pytest.raises(NotAvailableError, match="no luisa labels"):
        manifest(labels={}, **others).choose_labels()


def test_splits_have_an_order() -> None:
    assert split_order(["map", "test", "train", "holdout", "test", "val"]) == ["train", "val", "test", "holdout", "map"]


def test_write_atomic_leaves_nothing_behind_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_atomic(target, b"first")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(target, b"second")
    assert target.read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
