from __future__ import annotations

import io
import shutil
import tracemalloc
import zipfile
from copy import deepcopy
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

from baselines.config import Config
from baselines.data import Input
from baselines.data.archives import Archives
from baselines.data.eurosat import CLASSES, EuroSat, EuroSatData, band_names, labels
from baselines.data.lists import BLOCK_LISTS, read_list
from baselines.data.patches import ALL, BAND_SETS, DISK_ORDER, RGB, decode, pick_bands
from baselines.experiment import Experiment
from baselines.models.timm import Timm
from builders.__main__ import app as builders_app
from lulcbench import grid
from lulcbench.errors import LulcbenchError


def data(root: Path, **more: object) -> EuroSatData:
    return EuroSatData(root=str(root), **more)


def open_experiment(root: Path, **more: object) -> Experiment:
    return Experiment.open(
        Config.parse({"name": "a", "data": data(root, **more).model_dump(), "model": {"kind": "timm"}})
    )


def test_patches_labels_and_statistics_come_from_the_train_split(eurosat_root: Path) -> None:
    experiment = open_experiment(eurosat_root)
    train = experiment.data.datasets["train"]
    whole = train.read(range(len(train)))
    assert whole["image"].shape == (60, 3, 64, 64)
    assert whole["image"].dtype == torch.uint8
    assert len(experiment.data.datasets["val"]) == 20
    assert [CLASSES[i] for i in whole["label"]] == [name.rpartition("_")[0] for name in whole["id"]]
    imagery = experiment.info.inputs["sentinel2"]
    np.testing.assert_allclose(imagery.mean, whole["image"].double().mean((0, 2, 3)).numpy())
    np.testing.assert_allclose(imagery.std, whole["image"].double().std((0, 2, 3), unbiased=False).numpy())
    assert experiment.info.absent == ()
    merged = open_experiment(eurosat_root, train_on=("train", "val"))
    assert not merged.config.data.has_val
    assert len(merged.data.datasets["train"]) == 80
    assert merged.data.datasets["train"].split == "train+val"


def test_patches_are_normalised_at_once_or_on_the_device(eurosat_root: Path) -> None:
    stored, ready = (EuroSat(eurosat_root, "val", normalize=how) for how in ("device", True))
    batch = stored.finish(stored.read([3, 1]))
    assert torch.equal(batch["image"], ready.read([3, 1])["image"])
    assert torch.equal(ready.finish(batch)["image"], batch["image"])
    whole = ready.read(range(len(ready)))["image"]
    torch.testing.assert_close(whole.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    other = EuroSat(eurosat_root, "test", input=stored.input)
    assert other.input == stored.input
    assert other[4]["id"] == other.names[4]
    for dataset, image in ((stored, stored[0]), (ready, ready[0])):
        (panel,) = dataset.rgb_panels(image)
        assert panel.rgb.shape == (64, 64, 3)
    np.testing.assert_allclose(stored.rgb_panels(stored[0])[0].rgb, ready.rgb_panels(ready[0])[0].rgb, atol=1e-3)


def test_datasets_go_to_worker_processes(eurosat_root: Path) -> None:
    dataset = EuroSat(eurosat_root, "val")
    expected = dataset.read([0, 7])
    copied = deepcopy(dataset)  # open files cannot be copied, nor sent
    assert torch.equal(copied.read([0, 7])["image"], expected["image"])


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
        found = data(root).digest()
        hidden.rename(old)
        return found

    before = data(eurosat_root).digest()
    assert pack() == before
    assert pack(7) != before
    (root / "EuroSAT_RGB.zip").unlink()
    path = root / "eurosat-random-train.txt"
    path.write_text("\n".join(reversed(path.read_text().split())))
    assert data(root).digest() != before  # another order, another training


def test_lists_that_do_not_fit_are_refused(eurosat_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(eurosat_root, root)
    path = root / "eurosat-random-val.txt"
    whole = path.read_text()
    leak = (root / "eurosat-random-test.txt").read_text().splitlines()[0]
    path.write_text(whole + leak)
    with pytest.raises(LulcbenchError, match=rf"{leak[:-4]} is in the val list and in the test list"):
        open_experiment(root)
    path.write_text(whole.replace(".jpg", ""))  # the suffix is not part of a name
    assert read_list(root, "random", "val") == [line[:-4] for line in whole.split()]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(LulcbenchError, match="is not text"):
        read_list(root, "random", "val")
    path.write_text("Forest_99999.jpg\n")
    with pytest.raises(LulcbenchError, match="Forest_99999"):
        EuroSat(root, "val")
    path.write_text("Forest_1.jpg\nForest_1.jpg\n")
    with pytest.raises(LulcbenchError, match="twice"):
        read_list(root, "random", "val")
    path.unlink()
    with pytest.raises(LulcbenchError, match="is missing"):
        read_list(root, "random", "val")
    with pytest.raises(LulcbenchError, match="is not a class"):
        labels(["Desert_1"])
    with pytest.raises(LulcbenchError, match=r"has no eurosat_\*\.zip"):
        Archives(tmp_path)
    (root / "eurosat_rgb_1of1.zip").write_bytes(b"PK")
    with pytest.raises(LulcbenchError, match="is not a complete zip archive"):
        Archives(root)


def test_lists_are_cut_to_the_patches_of_a_part(eurosat_root: Path, tmp_path: Path) -> None:
    for path in eurosat_root.glob("*.txt"):
        shutil.copy(path, tmp_path)
    with (
        zipfile.ZipFile(eurosat_root / "eurosat_rgb_1of1.zip") as whole,
        zipfile.ZipFile(tmp_path / "eurosat_rgb_part.zip", "w") as archive,
    ):
        for member in whole.namelist()[::2]:
            archive.writestr(member, whole.read(member))
    kept = {Path(member).stem for member in zipfile.ZipFile(tmp_path / "eurosat_rgb_part.zip").namelist()}
    with pytest.raises(LulcbenchError, match="not in the archives"):
        open_experiment(tmp_path)
    experiment = open_experiment(tmp_path, part=True)
    for split in ("train", "val"):
        listed = [Path(line).stem for line in (tmp_path / f"eurosat-random-{split}.txt").read_text().split()]
        assert experiment.data.datasets[split].names == [name for name in listed if name in kept]
    assert experiment.info.digest == experiment.config.data.digest() != data(eurosat_root).digest()
    assert data(eurosat_root, part=True).digest() == data(eurosat_root).digest()  # nothing is left out of the whole
    (tmp_path / "eurosat-random-val.txt").write_text("Forest_99999.jpg\n")
    with pytest.raises(LulcbenchError, match="The val list is empty"):
        open_experiment(tmp_path, part=True)


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
        ("Forest/Forest_1.jpg", bytes(2 << 20), "too many for a patch"),
        ("Forest/Forest_1.jpg", jpeg(9_000, 9_000), "is 9000 × 9000"),
        ("Forest/Forest_1.jpg", jpeg(60_000, 60_000), "is not a readable image"),
        ("Forest/Forest_1.jpg", jpeg(65, 64), "65 × 64"),
        ("Forest/Forest_1.jpg", jpeg()[:-400], "is not a readable image"),
        ("Forest/Forest_1.jpg", b"GIF89a" + bytes(100), "is not a readable image"),
        ("Forest/Forest_1.tif", b"II*\0", "is not a readable image"),
    ],
    ids=["large file", "9000 pixels", "60000 pixels", "65 pixels", "truncated JPEG", "truncated GIF", "truncated TIFF"],
)
def test_hostile_patches_are_refused(tmp_path: Path, member: str, content: bytes, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "eurosat_1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    with pytest.raises(LulcbenchError, match=message):
        Archives(tmp_path).read(["Forest_1"], RGB)


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
    with pytest.raises(LulcbenchError, match="is not a readable image"):
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
        Archives(tmp_path).read(["Forest_1"], RGB)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    packed[entry + 8] |= 1  # encrypted
    path.write_bytes(packed)
    with pytest.raises(LulcbenchError, match="is damaged"):
        Archives(tmp_path).read(["Forest_1"], RGB)
    for number in (1, 2):
        with zipfile.ZipFile(tmp_path / f"eurosat_{number}.zip", "w") as archive:
            archive.writestr("Forest/Forest_1.jpg", jpeg())
    with pytest.raises(LulcbenchError, match="Two files have the patch Forest_1"):
        Archives(tmp_path)


def test_bands_that_the_archive_lacks_are_named(eurosat_root: Path) -> None:
    with pytest.raises(LulcbenchError, match="no band B12"):
        EuroSat(eurosat_root, "val", bands="swir")[0]
    with pytest.raises(LulcbenchError, match="no band 'B99'"):
        band_names(("B99",))


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
        picked = archives.read(["Forest_1"], wanted)
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
    reflectance = multispectral.read(names, ALL)
    jpegs = rgb.read(names, RGB).astype(float)
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
        before, after = (a.read(archives.names, wanted) for a in (archives, shuffled))
        np.testing.assert_array_equal(before, after)
        imagery = Input(channels=wanted, mean=(0,) * len(wanted), std=(1,) * len(wanted), resolution=10)
        net = Timm(name="test_resnet").build({"sentinel2": imagery}, len(CLASSES)).eval()
        with torch.inference_mode():
            classes = [net(torch.from_numpy(images)).argmax(1).tolist() for images in (before, after)]
        assert classes[0] == classes[1]


@pytest.mark.real
def test_all_patches_have_a_place_in_each_published_split(real_data: Path) -> None:
    archives = Archives(real_data / "eurosat_rgb")
    assert len(archives.names) == 27_000
    for split in ("random", "spatial", "block"):
        parts = [set(read_list(real_data / "eurosat_rgb", split, part)) for part in ("train", "val", "test")]
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
        parts[part] = points.loc[read_list(real_data / "eurosat_rgb", "block", part)]
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
