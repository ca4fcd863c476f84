from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lulcbench import LuisaChange, LuisaSeg, LuisaSeries
from lulcbench.errors import CorruptFileError, LulcbenchError
from lulcbench.release import INDEX, ArrayKey, Manifest, Release
from lulcbench.release.index import read_table, select


@pytest.fixture
def copy(release_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release_root, tmp_path / "release"))


def test_rows_in_another_order_are_found_out(copy: Path) -> None:
    table = pq.read_table(copy / INDEX)
    split, row = table["split"].to_pylist(), table["row"].to_pylist()
    last = split.count("train") - 1
    swapped = [last - r if s == "train" else r for s, r in zip(split, row, strict=True)]
    at = table.column_names.index("row")
    pq.write_table(table.set_column(at, "row", pa.array(swapped, table["row"].type)), copy / INDEX)
    release = Manifest.load(copy)
    with pytest.raises(CorruptFileError, match=r"index\.parquet is not the file that tiny-0\.1\.0 was published with"):
        Release(copy, release).index()
    with pytest.raises(LulcbenchError, match="its SHA-256 differs"):
        LuisaSeg(copy, sensors="landsat")


def test_a_table_and_shards_that_disagree_from_the_start(copy: Path) -> None:
    release = Manifest.load(copy)
    longer = release.model_copy(update={"splits": dict(release.splits) | {"test": 99}})
    with pytest.raises(LulcbenchError, match="disagree about test"):
        Release(copy, longer).index("test")
    none = release.model_copy(update={"files": tuple(file for file in release.files if file.path != INDEX)})
    with pytest.raises(LulcbenchError, match=r"lists no file index\.parquet"):
        Release(copy, none).index()


def test_clouds_count_where_they_are_asked_for() -> None:
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "region": "here",
            "cloud_landsat_2012": [0.9, 0.0, 0.0],
            "cloud_landsat_2018": [0.0, 0.9, None],
            "cloud_sentinel2_2018": [0.0, 0.0, 0.9],
        }
    )

    def clear(*imagery: ArrayKey) -> str:
        return "".join(select(table, max_cloud=0.1, imagery=imagery)["id"])

    landsat, sentinel2 = [ArrayKey("landsat", 2012), ArrayKey("landsat", 2018)], ArrayKey("sentinel2", 2018)
    assert clear() == "abc"
    assert clear(landsat[1]) == "a"  # the clouds of c are unknown
    assert clear(landsat[0]) == "bc"
    assert clear(landsat[1], sentinel2) == "a"
    assert clear(sentinel2) == "ab"
    with pytest.raises(LulcbenchError, match="No tile"):
        clear(*landsat, sentinel2)
    with pytest.raises(CorruptFileError, match="no column cloud_planet_2018"):
        clear(ArrayKey("planet", 2018))


def test_datasets_ask_for_the_clouds_of_what_they_read(release_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lulcbench.datasets.base as base

    asked = []

    def spy(table: pd.DataFrame, **options: object) -> pd.DataFrame:
        asked.append([str(key) for key in options["imagery"]])  # type: ignore[attr-defined]
        return select(table, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(base, "select", spy)
    LuisaSeg(release_root, sensors="landsat", year=2012)
    LuisaChange(release_root)
    LuisaSeries(release_root)
    LuisaSeries(release_root, years=(2012,), year=2012)
    both = ["landsat_2012", "landsat_2018"]
    assert asked == [["landsat_2012"], both, both, ["landsat_2012"]]


@pytest.mark.parametrize("region", ["../../escaped", "/elsewhere", "north\x1b]0;"], ids=["up", "absolute", "escape"])
def test_regions_are_names_that_the_manifest_has(region: str, copy: Path) -> None:
    def forge(column: str, value: str) -> Release:
        table = pq.read_table(copy / INDEX)
        at = table.column_names.index(column)
        changed = table.set_column(at, column, pa.array([value] * len(table), pa.string()))
        pq.write_table(changed, copy / INDEX)
        content = (copy / INDEX).read_bytes()
        manifest = Manifest.load(copy)
        files = [
            file.model_copy(update={"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
            if file.path == INDEX
            else file
            for file in manifest.files
        ]
        return Release(copy, manifest.model_copy(update={"files": tuple(files)}))

    with pytest.raises(CorruptFileError, match=r"has the region .* which the manifest does not have"):
        forge("region", region).index()
    content = json.loads((copy / "release.json").read_text())
    (copy / "release.json").write_text(json.dumps(content | {"regions": [region]}))
    with pytest.raises(CorruptFileError, match="regions"):
        Manifest.load(copy)


def test_tiles_lie_where_their_ids_say(copy: Path) -> None:
    table = pq.read_table(copy / INDEX)
    ids = table["id"].to_pylist()
    swapped = table.set_column(table.column_names.index("id"), "id", pa.array([ids[1], ids[0], *ids[2:]]))
    pq.write_table(swapped, copy / INDEX)
    content = (copy / INDEX).read_bytes()
    manifest = Manifest.load(copy)
    with pytest.raises(CorruptFileError, match="at the place of another one"):
        read_table(io.BytesIO(content), INDEX, manifest)


def test_texts_of_a_release_do_not_control_a_terminal(copy: Path) -> None:
    content = json.loads((copy / "release.json").read_text())
    (copy / "release.json").write_text(json.dumps(content | {"description": "Two lines\nof \x1b]0;pwned\x07"}))
    with pytest.raises(CorruptFileError, match="which cannot be shown"):
        Manifest.load(copy)
    with pytest.raises(CorruptFileError, match="does not match its content"):  # read, and found to be another one
        Manifest.parse(json.dumps(content | {"description": "Two lines\nof text"}), "release.json")
