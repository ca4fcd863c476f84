"""Items of a release as JSON files, as STAC Browser and pystac read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pystac
import pytest
from typer.testing import CliRunner

from builders.__main__ import app
from builders.stages.items import write_items
from lulcbench.errors import CorruptFileError, LulcbenchError
from lulcbench.legend import legend
from lulcbench.release import INDEX, Manifest, thumbnails_of
from tests.stac import check_stac


@pytest.fixture(scope="module")
def catalog(release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("catalog") / "of" / "items"
    result = CliRunner().invoke(app, ["items", str(release_root), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output == f"{sum(Manifest.load(release_root).splits.values())} items in {out / 'collection.json'}\n"
    return out


def test_every_tile_is_a_valid_item_whose_files_exist(release_root: Path, catalog: Path) -> None:
    collection = pystac.Collection.from_file(str(catalog / "collection.json"))
    items = list(collection.get_items())
    assert [item.id for item in items] == pd.read_parquet(release_root / INDEX)["id"].tolist()
    for path in (catalog / "collection.json", *(catalog / "items").glob("*.json")):
        check_stac(json.loads(path.read_bytes()))
    for asset in (*collection.assets.values(), *(asset for item in items for asset in item.assets.values())):
        assert Path(asset.get_absolute_href() or "").exists()
    for item in items:
        assert item.get_parent() is collection
        titles = [asset.title for asset in item.assets.values()]
        assert len(set(titles)) == len(titles)
        assert {"split", "region", "datetime", "shares"} <= set(item.properties)
        assert "Simulated data" in item.properties["description"]


def test_pictures_are_those_of_the_release(release_root: Path, catalog: Path) -> None:
    pictures = {
        row["id"]: row
        for split in Manifest.load(release_root).splits
        for row in pq.read_table(release_root / thumbnails_of(split)).to_pylist()
    }
    for item in pystac.Collection.from_file(str(catalog / "collection.json")).get_items():
        (thumbnail,) = item.get_assets(role="thumbnail").values()
        shown = [thumbnail, *item.get_assets(role="overview").values()]
        content = [Path(asset.get_absolute_href() or "").read_bytes() for asset in shown]
        assert content == [cell["bytes"] for cell in pictures[item.id].values() if isinstance(cell, dict)]


def test_shares_have_the_names_of_their_classes(release_root: Path, catalog: Path) -> None:
    index = pd.read_parquet(release_root / INDEX).set_index("id").to_dict("index")
    for item in pystac.Collection.from_file(str(catalog / "collection.json")).get_items():
        shares = item.properties["shares"]["luisa_2018"]
        for code in (*legend().codes(1), *legend().codes(2)):
            share = round(index[item.id][f"luisa_2018_{code}"], 4)
            assert shares.get(f"{code} {legend().classes[code].name}", 0) == share
        assert sum(share for name, share in shares.items() if int(name.split()[0]) < 10) == pytest.approx(1, abs=3e-4)
        assert not [name for name in item.properties if name.startswith("luisa_2018_")]


def test_the_release_may_be_elsewhere(release_root: Path, tmp_path: Path) -> None:
    write_items(release_root, tmp_path / "stac", "https://data.example/luisa/")
    collection = pystac.Collection.from_file(str(tmp_path / "stac" / "collection.json"))
    item = next(collection.get_items())
    hrefs = [asset.href for owner in (collection, item) for asset in owner.assets.values()]
    for href in hrefs:
        assert href.startswith("https://data.example/luisa/") or href.endswith(".png")
        assert "//" not in href.removeprefix("https://")


def test_nothing_is_overwritten_and_no_release_gets_other_files(release_root: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(LulcbenchError, match="exists already"):
        write_items(release_root, tmp_path / "there")
    with pytest.raises(LulcbenchError, match="is inside the release"):
        write_items(release_root, release_root / "stac")


@pytest.mark.parametrize("damaged", ["index.parquet", "collection.json", "thumbnails-val.parquet"])
def test_a_damaged_release_leaves_nothing(release_root: Path, tmp_path: Path, damaged: str) -> None:
    root = tmp_path / "release"
    shutil.copytree(release_root, root)
    (root / damaged).write_bytes((root / damaged).read_bytes()[:100])
    with pytest.raises(CorruptFileError, match="cannot be read"):
        write_items(root, tmp_path / "stac")
    assert [path.name for path in tmp_path.iterdir()] == ["release"]
