"""Descriptions of a release that others read: STAC, Croissant with GeoCroissant, thumbnails, licences."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import geopandas
import mlcroissant
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pystac
import pytest
import stac_geoparquet.arrow
import zarr
from huggingface_hub import DatasetCard
from PIL import Image
from pystac.extensions.classification import SummariesClassificationExtension
from pystac.extensions.grid import GridExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.xarray_assets import XarrayAssetsExtension

from builders.stages import _thumbnails
from lulcbench.grid import Tile
from lulcbench.legend import legend
from lulcbench.release import INDEX, ArrayKey, Manifest, Release, thumbnails_of
from tests.stac import check_stac


@pytest.fixture(scope="module")
def pictures(release_root: Path) -> pd.DataFrame:
    return read_pictures(release_root)


def read_pictures(root: Path) -> pd.DataFrame:
    """All thumbnails, in the order of the splits."""
    parts = [pd.read_parquet(root / thumbnails_of(split)) for split in Manifest.load(root).splits]
    return pd.concat(parts, ignore_index=True)


def picture(cell: dict[str, Any]) -> Image.Image:
    opened = Image.open(io.BytesIO(cell["bytes"]))
    opened.load()
    return opened


def test_every_tile_has_small_pictures_in_the_order_of_the_index(release_root: Path, pictures: pd.DataFrame) -> None:
    index = pd.read_parquet(release_root / INDEX)
    assert pictures[["id", "split", "region"]].equals(index[["id", "split", "region"]])
    assert list(pictures.columns[3:]) == ["landsat_2018", "sentinel2_2018", "luisa_2018"]
    for column, side in (("landsat_2018", 128), ("sentinel2_2018", 128), ("luisa_2018", 96)):
        for tile, cell in zip(pictures["id"], pictures[column], strict=True):
            assert cell["path"] == f"{tile}-{column}.png"
            shown = picture(cell)
            assert (shown.format, shown.mode, shown.size) == ("PNG", "RGB", (side, side))
            assert len(cell["bytes"]) < 60_000


def test_the_columns_are_images_to_the_hub(release_root: Path, pictures: pd.DataFrame) -> None:
    metadata = pq.read_schema(release_root / thumbnails_of("test")).metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert list(features) == list(pictures.columns)
    assert features["landsat_2018"] == {"_type": "Image"}
    assert features["id"] == {"dtype": "string", "_type": "Value"}


def test_the_card_declares_our_splits_and_the_licence(release_root: Path) -> None:
    """As ``load_dataset`` finds them; tests/peers runs it."""
    card = DatasetCard.load(release_root / "README.md")
    pictures, index = card.data.configs
    assert pictures["config_name"] == "thumbnails"
    assert pictures["default"] is True
    assert {entry["split"]: entry["path"] for entry in pictures["data_files"]} == {
        split: f"thumbnails-{split}.parquet" for split in ("train", "val", "test")
    }
    assert index["data_files"] == [{"split": "tiles", "path": "index.parquet"}]
    assert card.data.license == "cc-by-4.0"
    for split, tiles in Manifest.load(release_root).splits.items():
        shown = pd.read_parquet(release_root / thumbnails_of(split))
        assert len(shown) == tiles
        assert set(shown["split"]) == {split}


def test_pictures_show_their_tile(release_root: Path, pictures: pd.DataFrame) -> None:
    """Labels in the colours of the legend; summer in true colour, north up."""
    release = Release.open(release_root)
    bands = release.manifest.sensors["landsat"].band_names
    group = zarr.open_group(release_root, mode="r")
    compared = 0
    for row, shown in pictures.iterrows():
        place = int(pd.read_parquet(release_root / INDEX)["row"][row])
        codes = np.asarray(group["luisa_2018"][place])
        painted = np.asarray(picture(shown["luisa_2018"]))
        for code in np.unique(codes[codes > 0]):
            color = legend().classes[int(code)].color
            expected = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
            assert (painted[codes == code] == expected).all()
        red = np.asarray(group["landsat_2018"][place, 2, bands.index("red")]).astype(float)
        seen = np.asarray(picture(shown["landsat_2018"]))[..., 0].astype(float)
        small = np.asarray(Image.fromarray(red.astype(np.float32)).resize((128, 128), Image.Resampling.BOX))
        clear = small > 1000
        if clear.mean() > 0.5:
            compared += 1
            assert np.corrcoef(small[clear], seen[clear])[0, 1] > 0.9
    assert compared >= 4


@pytest.mark.slow
def test_a_large_release_shows_a_part_of_its_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.builders.stages.test_clear_counts import build

    assert _thumbnails.MOST == 1000
    monkeypatch.setattr(_thumbnails, "MOST", 4)
    root = build(tmp_path)
    parts = [root / thumbnails_of(split) for split in Manifest.load(root).splits]
    shown = pd.concat([pd.read_parquet(path) for path in parts if path.is_file()])["id"].tolist()
    order = pd.read_parquet(root / INDEX)["id"].tolist()
    assert len(shown) == 4
    assert shown == [tile for tile in order if tile in shown]


@pytest.fixture
def items(release_root: Path) -> list[pystac.Item]:
    table = pq.read_table(release_root / INDEX)
    return [pystac.Item.from_dict(item) for item in stac_geoparquet.arrow.stac_table_to_items(table)]


def test_the_collection_is_valid_and_extensions_are_read(release_root: Path) -> None:
    collection = pystac.Collection.from_file(str(release_root / "collection.json"))
    check_stac(json.loads((release_root / "collection.json").read_bytes()))
    assert collection.assets["arrays"].roles == ["data", "labels"]
    assert XarrayAssetsExtension.ext(collection.assets["arrays"]).open_kwargs == {
        "engine": "zarr",
        "consolidated": True,
    }
    classes = SummariesClassificationExtension(collection).classes or []
    assert [entry.value for entry in classes] == list(legend().codes(4))
    assert collection.summaries.lists["proj:code"] == ["EPSG:3035"]
    assert len(collection.summaries.lists["bands"]) == 11
    colors = {int(entry.value): entry.properties["color_hint"] for entry in classes}
    assert colors == {code: legend().classes[code].color[1:].upper() for code in legend().codes(4)}
    assert collection.license == "CC-BY-4.0"
    content = json.loads((release_root / "collection.json").read_bytes())
    links = {link["rel"]: link["href"] for link in content["links"]}
    assert links == {"root": "./collection.json", "license": "https://creativecommons.org/licenses/by/4.0/"}
    manifest = Manifest.load(release_root)
    assert set(collection.item_assets) == {str(key) for key in manifest.arrays}
    assert collection.item_assets["luisa_2018"].properties["roles"] == ["labels"]
    named = [band["name"] for band in collection.item_assets["landsat_2018"].properties["bands"]]
    assert named == list(manifest.sensors["landsat"].band_names)
    for asset in collection.assets.values():
        assert (release_root / asset.href).exists()


def test_every_row_of_the_index_is_a_valid_item(release_root: Path, items: list[pystac.Item]) -> None:
    manifest = Manifest.load(release_root)
    assert len(items) == sum(manifest.splits.values())
    for item in items:
        check_stac(item.to_dict(include_self_link=False, transform_hrefs=False))
        tile = Tile.from_id(item.id)
        projection = ProjectionExtension.ext(item)
        assert projection.code == "EPSG:3035"
        assert tuple(projection.bbox or ()) == tile.bounds
        for name, asset in item.assets.items():  # each on its own grid
            sensor = ArrayKey.parse(name.replace("-clear", "")).name
            pixel = manifest.sensors[sensor].resolution if sensor in manifest.sensors else 50
            west, south, east, north = tile.bounds
            grid = ProjectionExtension.ext(asset)
            n = 4800 // pixel
            assert list(grid.shape or ()) == [n, n]
            assert list(grid.transform or ()) == [pixel, 0, west, 0, -pixel, north]
            assert (east - west, north - south) == (4800, 4800)
        assert {link.rel for link in item.links} == {"collection", "parent", "root"}
        assert {link.target for link in item.links} == {"./collection.json"}
        assert GridExtension.ext(item).code == f"LULCBENCH-{tile.id}"
        assert set(item.assets) == {str(key) for key in manifest.arrays}
        assert item.collection_id == manifest.id


def test_the_index_is_a_table_of_places_to_geopandas(release_root: Path) -> None:
    table = geopandas.read_parquet(release_root / INDEX)
    assert table.crs.to_epsg() == 4326
    expected = np.array([Tile.from_id(tile).bounds for tile in table["id"]])
    np.testing.assert_allclose(table.to_crs(3035).bounds.to_numpy(), expected, atol=0.01)


def text(value: str | bytes) -> str:
    """Text that mlcroissant read from a table (bytes) or from the description itself."""
    return value.decode() if isinstance(value, bytes) else value


# mlcroissant's use of rdflib and of pandas.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ConjunctiveGraph:DeprecationWarning", "ignore:The inplace keyword")
def test_croissant_is_valid_and_its_records_are_those_of_the_index(release_root: Path) -> None:
    dataset = mlcroissant.Dataset(release_root / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    records = list(dataset.records("tiles"))
    index = pd.read_parquet(release_root / INDEX)
    assert [record["tiles/id"].decode() for record in records] == index["id"].tolist()
    assert [record["tiles/clear_landsat_2018"] for record in records] == index["clear_landsat_2018"].tolist()
    # The splits, to which each record refers.
    splits = {text(record["splits/name"]): record for record in dataset.records("splits")}
    manifest = Manifest.load(release_root)
    assert {name: record["splits/tiles"] for name, record in splits.items()} == manifest.splits
    kinds = {name: text(record["splits/url"]).rpartition("/")[2] for name, record in splits.items()}
    assert kinds == {"train": "TrainingSplit", "val": "ValidationSplit", "test": "TestSplit"}
    assert [text(record["tiles/split"]) for record in records] == index["split"].tolist()
    content = json.loads((release_root / "croissant.json").read_bytes())
    declared = {record_set["@id"]: record_set for record_set in content["recordSet"]}
    assert declared["splits"]["dataType"] == "cr:Split"
    field = next(field for field in declared["tiles"]["field"] if field["@id"] == "tiles/split")
    assert field["references"] == {"field": {"@id": "splits/name"}}


def test_croissant_has_the_properties_of_geocroissant(release_root: Path) -> None:
    content = json.loads((release_root / "croissant.json").read_bytes())
    assert "http://mlcommons.org/croissant/geo/1.0" in content["conformsTo"]
    assert content["@context"]["geocr"] == "http://mlcommons.org/croissant/geo/"
    assert content["geocr:coordinateReferenceSystem"] == "EPSG:3035"
    assert content["geocr:spatialResolution"] == "landsat 30 m, sentinel2 10 m, luisa labels 50 m"
    assert content["geocr:bandConfiguration"]["geocr:totalBands"] == 11
    nir = next(band for band in content["geocr:spectralBandMetadata"] if band["name"] == "landsat/nir08")
    assert nir["geocr:centerWavelength"] == {"@type": "QuantitativeValue", "value": 870, "unitText": "nm"}
    south, west, north, east = map(float, content["spatialCoverage"]["geo"]["box"].split())
    box = pd.read_parquet(release_root / INDEX)["bbox"]
    assert (west, south) == (min(b["xmin"] for b in box), min(b["ymin"] for b in box))
    assert (east, north) == (max(b["xmax"] for b in box), max(b["ymax"] for b in box))
    assert content["temporalCoverage"] == "2011-12-02/2018-12-01"
