from __future__ import annotations

import io
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from rasterio.warp import transform
from scipy.spatial import cKDTree
from typer.testing import CliRunner

from baselines.config import ClassificationModel, Config, EuroSatData
from baselines.data import load
from baselines.data.eurosat import (
    ALL,
    BAND_SETS,
    BLOCK_LISTS,
    CLASSES,
    DISK_ORDER,
    RGB,
    Archives,
    bands_of,
    decode,
    digest,
    labels,
    pick_bands,
    read_list,
    read_part,
)
from baselines.models.networks import build
from builders.__main__ import app as builders_app
from lulcbench import grid
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


def test_data_are_the_same_however_they_are_packed(eurosat_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "zenodo"
    shutil.copytree(eurosat_root, root)
    old = root / "eurosat_rgb_1of1.zip"

    def pack(leave: int | None = None) -> str:
        with (
            zipfile.ZipFile(old) as source,
            zipfile.ZipFile(root / "EuroSAT_RGB.zip", "w", zipfile.ZIP_DEFLATED) as made,
        ):
            for i, member in enumerate(reversed(source.namelist())):
                content = source.read(member)
                made.writestr(f"EuroSAT_RGB/{member}", content if i != leave else content + b"\0")
        hidden = old.rename(root / "old")
        found = digest(data(root), Archives(root))
        hidden.rename(old)
        return found

    before = digest(data(eurosat_root), Archives(eurosat_root))
    assert pack() == before
    assert pack(7) != before
    (root / "EuroSAT_RGB.zip").unlink()
    path = root / "eurosat-random-train.txt"
    path.write_text("\n".join(reversed(path.read_text().split())))
    assert digest(data(root), Archives(root)) != before  # another order, another training


def test_lists_that_do_not_fit_are_refused(eurosat_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(eurosat_root, root)
    archives = Archives(root)
    path = root / "eurosat-random-val.txt"
    whole = path.read_text()
    settings = {"name": "a", "data": data(root).model_dump(), "model": {"kind": "timm"}}
    leak = (root / "eurosat-random-test.txt").read_text().splitlines()[0]
    path.write_text(whole + leak)
    with pytest.raises(LulcbenchError, match=rf"{leak[:-4]} is in the val list and in the test list"):
        load(Config.parse(settings))
    path.write_text(whole.replace(".jpg", ""))  # the suffix is no part of a name
    assert read_list(data(root), "val") == [line[:-4] for line in whole.split()]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(LulcbenchError, match="no text"):
        read_list(data(root), "val")
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


def jpeg(height: int = 64, width: int = 64) -> bytes:
    """A 64 × 64 JPEG that claims to be of another size."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    content = bytearray(buffer.getvalue())
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = height.to_bytes(2) + width.to_bytes(2)
    return bytes(content)


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("Forest/Forest_1.jpg", bytes(2 << 20), "no patch is that large"),
        ("Forest/Forest_1.jpg", jpeg(9_000, 9_000), "is 9000 × 9000"),
        ("Forest/Forest_1.jpg", jpeg(60_000, 60_000), "no readable image"),
        ("Forest/Forest_1.jpg", jpeg(65, 64), "65 × 64"),
        ("Forest/Forest_1.jpg", jpeg()[:-400], "no readable image"),
        ("Forest/Forest_1.jpg", b"GIF89a" + bytes(100), "no readable image"),
        ("Forest/Forest_1.tif", b"II*\0", "no readable image"),
    ],
    ids=["large file", "9000 pixels", "60000 pixels", "65 pixels", "truncated JPEG", "truncated GIF", "truncated TIFF"],
)
def test_hostile_patches_are_refused(tmp_path: Path, member: str, content: bytes, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "eurosat_1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    with pytest.raises(LulcbenchError, match=message):
        Archives(tmp_path).read(["Forest_1"], RGB, "test")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_patch_cannot_have_other_files_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.tif"
    with rasterio.open(
        secret, "w", driver="GTiff", width=64, height=64, count=1, dtype="uint16", transform=from_origin(0, 64, 1, 1)
    ) as file:
        file.write(np.ones((1, 64, 64), np.uint16))
    source = f'<SourceFilename relativeToVRT="0">{secret}</SourceFilename><SourceBand>1</SourceBand>'
    band = f'<VRTRasterBand dataType="UInt16"><SimpleSource>{source}</SimpleSource></VRTRasterBand>'
    vrt = f'<VRTDataset rasterXSize="64" rasterYSize="64">{13 * band}</VRTDataset>'
    with MemoryFile(vrt.encode()) as memory, memory.open() as file:  # GDAL would
        assert (file.read() == 1).all()
    with pytest.raises(LulcbenchError, match="no readable image"):
        decode(vrt.encode(), "Forest_1.tif", RGB)


def test_hostile_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "eurosat_1.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Forest/Forest_1.jpg", jpeg() + bytes(64 << 20))
    packed = bytearray(path.read_bytes())
    entry = packed.index(b"PK\1\2")
    packed[entry + 24 : entry + 28] = (900).to_bytes(4, "little")  # it claims 900 bytes and unpacks to 64 MiB
    path.write_bytes(packed)
    tracemalloc.start()
    with pytest.raises(LulcbenchError, match="is damaged"):
        Archives(tmp_path).read(["Forest_1"], RGB, "test")
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    packed[entry + 8] |= 1  # encrypted
    path.write_bytes(packed)
    with pytest.raises(LulcbenchError, match="is damaged"):
        Archives(tmp_path).read(["Forest_1"], RGB, "test")
    for number in (1, 2):
        with zipfile.ZipFile(tmp_path / f"eurosat_{number}.zip", "w") as archive:
            archive.writestr("Forest/Forest_1.jpg", jpeg())
    with pytest.raises(LulcbenchError, match="Forest_1 is there twice"):
        Archives(tmp_path)


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
    with pytest.raises(LulcbenchError, match="same name"):
        pick_bands(image[:2], ("B01", "B01"), ("B01",))


@pytest.mark.real
def test_thirteen_band_patches_agree_with_their_jpegs(real_data: Path) -> None:
    multispectral, rgb = Archives(real_data / "eurosat_ms"), Archives(real_data / "eurosat_rgb")
    names = multispectral.names
    assert len(names) == 100
    reflectance = multispectral.read(names, ALL, "13 bands")
    jpegs = rgb.read(names, RGB, "JPEGs").astype(float)
    # The JPEGs are a linear stretch of B04, B03, B02, clipped at both ends; no other band correlates as well.
    for channel, band in enumerate(RGB):
        inside = (jpegs[:, channel] > 5) & (jpegs[:, channel] < 250)
        found = [np.corrcoef(image[inside], jpegs[:, channel][inside])[0, 1] for image in reflectance.swapaxes(0, 1)]
        assert ALL[int(np.argmax(found))] == band
        assert max(found) > 0.97


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_thirteen_band_patches_are_the_same_whatever_the_order_of_their_bands(real_data: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    archives = Archives(real_data / "eurosat_ms")
    with (
        zipfile.ZipFile(archives.paths[0]) as source,
        zipfile.ZipFile(tmp_path / "eurosat_ms_shuffled.zip", "w") as archive,
    ):
        for member in (m for m in source.namelist() if m.endswith(".tif")):
            with MemoryFile(source.read(member)) as memory, memory.open() as file:
                profile, stored = file.profile, file.read()
            order = rng.permutation(13)
            with MemoryFile() as memory:
                with memory.open(**profile) as file:
                    file.write(stored[order])
                    file.descriptions = [DISK_ORDER[i] for i in order]
                archive.writestr(member, memory.read())
    shuffled = Archives(tmp_path)
    torch.manual_seed(0)
    for name in ("all", "rgb", "swir"):
        wanted = BAND_SETS[name]
        before, after = (a.read(archives.names, wanted, name) for a in (archives, shuffled))
        np.testing.assert_array_equal(before, after)
        net = build(ClassificationModel(kind="timm", name="test_resnet"), len(wanted), len(CLASSES)).eval()
        with torch.inference_mode():
            classes = [net(torch.from_numpy(images)).argmax(1).tolist() for images in (before, after)]
        assert classes[0] == classes[1]


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


@pytest.mark.real
def test_the_block_split_is_what_the_splitter_makes_and_does_not_leak(real_data: Path, tmp_path: Path) -> None:
    table = real_data / "eurosat_rgb" / "eurosat-coordinates.csv"
    arguments = ["split-points", str(table), "--out", str(tmp_path), "--prefix", "eurosat-block", "--suffix", ".jpg"]
    assert CliRunner().invoke(builders_app, arguments).exit_code == 0
    points = pd.read_csv(table).set_index("name")
    points["x"], points["y"] = transform("EPSG:4326", grid.CRS, *points[["lon", "lat"]].to_numpy().T)
    parts = {}
    for part in ("train", "val", "test"):
        path = BLOCK_LISTS / f"eurosat-block-{part}.txt"
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
        parts[part] = points.loc[read_list(data(real_data / "eurosat_rgb", split="block"), part)]
    share = points["class"].value_counts(normalize=True)
    blocks, trees = {}, {}
    for part, chosen in parts.items():
        assert abs(chosen["class"].value_counts(normalize=True) - share).max() < 0.005
        blocks[part] = set(zip(chosen["x"] // 48_000, chosen["y"] // 48_000, strict=True))
        trees[part] = cKDTree(chosen[["x", "y"]].to_numpy())
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not blocks[one] & blocks[other]
        nearest, _ = trees[one].query(parts[other][["x", "y"]].to_numpy())
        assert nearest.min() > grid.TILE_SIZE  # a tile of buffer; patches are 640 m wide
