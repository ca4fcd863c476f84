"""The simulator: what it writes is a true archive, and the same seed writes the same bytes."""

import hashlib
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio

from builders.simulate import SimulationConfig, simulate
from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend

SMALL = {"bounds": (4_339_200, 3_124_800, 4_341_600, 3_127_200), "dates_per_season": 1}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    simulate(SimulationConfig(**SMALL), out)
    return out


def test_same_seed_same_bytes(scenes: Path, tmp_path: Path) -> None:
    simulate(SimulationConfig(**SMALL), tmp_path)
    assert digests(tmp_path) == digests(scenes)


def test_another_seed_differs(scenes: Path, tmp_path: Path) -> None:
    simulate(SimulationConfig(**SMALL, seed=8), tmp_path)
    assert digests(tmp_path)["labels/luisa_2018.tif"] != digests(scenes)["labels/luisa_2018.tif"]


def test_catalog_is_whole(scenes: Path) -> None:
    catalog = pystac.Catalog.from_file(str(scenes / "catalog.json"))
    items = list(catalog.get_items(recursive=True))
    assert {item.collection_id for item in items} == {"sentinel-2-l2a", "landsat-c2-l2"}
    for item in items:
        for key, asset in item.assets.items():
            path = Path(str(asset.get_absolute_href()))
            assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest(), key


def test_labels_hold_known_codes(scenes: Path) -> None:
    with rasterio.open(scenes / "labels" / "luisa_2018.tif") as file:
        assert (file.crs.to_epsg(), file.res, file.dtypes[0], file.nodata) == (3035, (50, 50), "int32", 0)
        codes = file.read(1)
    assert set(np.unique(codes)) <= set(legend().codes(4))


def test_unknown_key_is_named() -> None:
    with pytest.raises(LulcbenchError, match="cloudines"):
        SimulationConfig.parse({"cloudines": 0.1}, "recipe.toml")
