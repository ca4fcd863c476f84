from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from baselines.config import Config, EuroSatData
from baselines.data import load
from baselines.eurosat import (
    ALL,
    CLASSES,
    DISK_ORDER,
    RGB,
    Archives,
    bands_of,
    labels,
    pick_bands,
    read_list,
    read_part,
)
from lulcbench.errors import LulcbenchError


def data(root: Path, **more: object) -> EuroSatData:
    return EuroSatData(kind="eurosat", root=str(root), **more)


def test_patches_labels_and_statistics_come_from_the_train_split(eurosat_root: Path) -> None:
    problem = load(Config.parse({"name": "a", "data": data(eurosat_root).model_dump(), "model": {"kind": "timm"}}))
    train = problem.train
    assert train.images.shape == (60, 3, 64, 64)
    assert len(problem.val) == 20
    assert [CLASSES[i] for i in train.targets[:, 0].tolist()] == [i.rpartition("_")[0] for i in train.ids]
    np.testing.assert_allclose(problem.mean, train.images.double().mean((0, 2, 3)).numpy())
    np.testing.assert_allclose(problem.std, train.images.double().std((0, 2, 3), unbiased=False).numpy())
    assert problem.absent == ()
    both = {"name": "a", "data": data(eurosat_root, train_on=("train", "val")).model_dump(), "model": {"kind": "timm"}}
    merged = load(Config.parse(both))
    assert merged.val is None
    assert len(merged.train) == 80


def test_lists_that_do_not_fit_are_refused(eurosat_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(eurosat_root, root)
    archives = Archives(root)
    path = root / "eurosat-random-val.txt"
    path.write_text("Forest_99999.jpg\n")
    with pytest.raises(LulcbenchError, match="Forest_99999"):
        read_part(data(root), "val", archives)
    path.write_text("Forest_1.jpg\nForest_1.jpg\n")
    with pytest.raises(LulcbenchError, match="twice"):
        read_list(data(root), "val")
    path.unlink()
    with pytest.raises(LulcbenchError, match="is missing"):
        read_list(data(root), "val")
    with pytest.raises(LulcbenchError, match="no class"):
        labels(["Desert_1"])
    with pytest.raises(LulcbenchError, match=r"No eurosat_\*\.zip"):
        Archives(tmp_path)
    (root / "eurosat_rgb_1of1.zip").write_bytes(b"PK")
    with pytest.raises(LulcbenchError, match="no whole zip"):
        Archives(root)


def test_bands_that_the_archive_lacks_are_named(eurosat_root: Path) -> None:
    with pytest.raises(LulcbenchError, match="no band B12"):
        read_part(data(eurosat_root, bands="swir"), "val", Archives(eurosat_root))
    with pytest.raises(LulcbenchError, match="no band 'B99'"):
        bands_of(data(eurosat_root, bands=("B99",)))


@pytest.mark.parametrize("named", [False, True])
def test_bands_are_picked_by_name_whatever_their_order(tmp_path: Path, named: bool) -> None:
    order = list(reversed(ALL)) if named else list(DISK_ORDER)
    image = np.stack([np.full((64, 64), 100 * (1 + ALL.index(name)), np.uint16) for name in order])
    with zipfile.ZipFile(tmp_path / "eurosat_ms_1.zip", "w") as archive:
        buffer = io.BytesIO()
        with rasterio.open(
            buffer,
            "w",
            driver="GTiff",
            width=64,
            height=64,
            count=13,
            dtype="uint16",
            crs="EPSG:32631",
            transform=from_origin(6e5, 5e6, 10, 10),
        ) as file:
            file.write(image)
            if named:
                file.descriptions = order
        archive.writestr("Forest/Forest_1.tif", buffer.getvalue())
    archives = Archives(tmp_path)
    for wanted in (RGB, ALL, ("B8A", "B09")):
        picked = archives.read(["Forest_1"], wanted, "test")
        np.testing.assert_allclose(picked[0, :, 0, 0], [0.01 * (1 + ALL.index(name)) for name in wanted])
    with pytest.raises(LulcbenchError, match="2 names"):
        pick_bands(image, ("B01", "B02"), ("B01",))


@pytest.mark.real
def test_thirteen_band_patches_agree_with_their_jpegs(real_data: Path) -> None:
    multispectral, rgb = Archives(real_data / "eurosat_ms"), Archives(real_data / "eurosat_rgb")
    names = multispectral.names
    assert len(names) == 100
    reflectance = multispectral.read(names, RGB, "13 bands")
    jpegs = rgb.read(names, RGB, "JPEGs").astype(float)
    # The JPEGs are a linear stretch of B04, B03, B02, clipped at both ends; the right bands correlate best.
    swapped = multispectral.read(names, RGB[::-1], "13 bands")
    for channel in (0, 2):
        inside = (jpegs[:, channel] > 5) & (jpegs[:, channel] < 250)
        right = np.corrcoef(reflectance[:, channel][inside], jpegs[:, channel][inside])[0, 1]
        wrong = np.corrcoef(swapped[:, channel][inside], jpegs[:, channel][inside])[0, 1]
        assert right > 0.97
        assert right > wrong + 0.02


@pytest.mark.real
def test_all_patches_have_a_place_in_each_published_split(real_data: Path) -> None:
    archives = Archives(real_data / "eurosat_rgb")
    assert len(archives.names) == 27_000
    for split in ("random", "spatial", "block"):
        settings = data(real_data / "eurosat_rgb", split=split)
        parts = [set(read_list(settings, part)) for part in ("train", "val", "test")]
        assert all(name in archives for part in parts for name in part)
        assert not (parts[0] & parts[1])
        assert not (parts[0] & parts[2])
        assert not (parts[1] & parts[2])
        assert sum(map(len, parts)) == (25_065 if split == "block" else 27_000)
