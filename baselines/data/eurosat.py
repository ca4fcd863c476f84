"""EuroSAT (Helber et al. 2019, https://doi.org/10.1109/JSTARS.2019.2918242), read straight from its archives.

RGB archives hold 64 × 64 JPEGs ``Class/Class_1.jpg``; 13-band archives hold GeoTIFFs of Sentinel-2 L1C in the same
layout. A split is a text file with one patch name a line.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from baselines.config import Config, EuroSatData, expand
from baselines.data.arrays import Arrays, Problem, check_finite
from lulcbench import _console
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import SENTINEL2

CLASSES = (
    "AnnualCrop",
    "Forest",
    "HerbaceousVegetation",
    "Highway",
    "Industrial",
    "Pasture",
    "PermanentCrop",
    "Residential",
    "River",
    "SeaLake",
)
RGB = ("B04", "B03", "B02")
ALL = tuple(band.name for band in SENTINEL2.bands)
# The GeoTIFFs name no bands; this is their order on disk (phelber/EuroSAT): B8A comes last.
DISK_ORDER = (*(f"B{n:02d}" for n in range(1, 9)), "B09", "B10", "B11", "B12", "B8A")
# Band sets of the paper, in the order of its pictures.
BAND_SETS = {"rgb": RGB, "swir": ("B12", "B8A", "B04"), "color-infrared": ("B08", "B04", "B03"), "all": ALL}
SIZE = 64
PARTS = ("train", "val", "test")
LISTS = {
    "random": "it holds the names in the EuroSAT split of https://github.com/biasvariancelabs/aitlas-arena, one a line",
    "spatial": "torchgeo's EuroSATSpatial has it: https://hf.co/datasets/torchgeo/eurosat",
    "block": "it is part of this repository",
}
MAX_BYTES = 1 << 20  # of a patch: the largest real ones, 13 bands uncompressed, have a tenth of that
BLOCK_LISTS = Path(__file__).parents[1] / "splits"

Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]


def bands_of(data: EuroSatData) -> tuple[str, ...]:
    """Band names of a config, checked."""
    names = BAND_SETS[data.bands] if isinstance(data.bands, str) else data.bands
    for name in names:
        SENTINEL2.band(name)
    return names


def pick_bands(image: npt.NDArray[np.generic], order: Sequence[str], wanted: Sequence[str]) -> npt.NDArray[np.generic]:
    """Bands by name: ``(band, y, x)`` in ``order`` → those ``wanted``, whatever the order on disk.

    Raises:
        LulcbenchError: a band is not there, or two have the same name.
    """
    if len(set(order)) != len(order):
        raise LulcbenchError(f"Two bands have the same name: {', '.join(order)}.", "Name every band.")
    if len(order) != len(image):
        raise LulcbenchError(f"{len(image)} bands, but {len(order)} names: {', '.join(order)}.", "Name every band.")
    for name in wanted:
        if name not in order:
            raise LulcbenchError(f"These data have no band {name}.", f"They have {', '.join(order)}.")
    return image[[list(order).index(name) for name in wanted]]


def decode(content: bytes, name: str, wanted: Sequence[str]) -> npt.NDArray[np.generic]:
    """One patch: a JPEG as uint8, a GeoTIFF as float32 reflectance; ``(band, 64, 64)``.

    Raises:
        LulcbenchError: it is damaged, of another size, or lacks a band.
    """
    try:
        if name.endswith(".tif"):
            from rasterio.io import MemoryFile

            # No other driver: a VRT under the name of a GeoTIFF could have GDAL read any file or address.
            with MemoryFile(content) as memory, memory.open(driver="GTiff") as file:
                _check_size(name, file.height, file.width)
                stored = file.read()
                order = file.descriptions if all(file.descriptions) else DISK_ORDER
            if (stored == 0).all(0).any():
                raise LulcbenchError(f"{name} holds nodata pixels.", "EuroSAT has none; is the file whole?")
            image = pick_bands(stored, order, wanted) * np.float32(1e-4)
        else:
            with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
                _check_size(name, picture.height, picture.width)
                image = np.moveaxis(np.asarray(picture.convert("RGB")), 2, 0)
            image = pick_bands(image, RGB, wanted)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise LulcbenchError(f"{name} is no readable image: {error}.", "Fetch the archive again.") from error
    return image


def _check_size(name: str, height: int, width: int) -> None:
    """Before anything is decoded: a small file can claim to be a huge picture."""
    if (height, width) != (SIZE, SIZE):
        raise LulcbenchError(f"{name} is {height} × {width}, not {SIZE} × {SIZE}.", "Fetch the archive again.")


def read_list(data: EuroSatData, part: str) -> list[str]:
    """Patch names (without suffix) of a part of a split.

    Raises:
        LulcbenchError: there is no such list, or it names a patch twice.
    """
    folder = BLOCK_LISTS if data.split == "block" else expand(data.root)
    path = folder / f"eurosat-{data.split}-{part}.txt"
    if not path.is_file():
        raise LulcbenchError(f"{path} is missing.", f"Put it there; {LISTS[data.split]}.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise LulcbenchError(f"{path} is no text: {error}.", "Fetch it again.") from error
    names = [Path(line.strip()).stem for line in lines if line.strip()]
    if len(set(names)) != len(names):
        raise LulcbenchError(f"{path} names a patch twice.", "Fetch it again.")
    return names


def read_lists(data: EuroSatData) -> dict[str, list[str]]:
    """Patch names of all parts of a split.

    Raises:
        LulcbenchError: a list is missing, or a patch is in two of them: a score on it would be worth nothing.
    """
    lists = {part: read_list(data, part) for part in PARTS}
    seen: dict[str, str] = {}
    for part, names in lists.items():
        for name in names:
            if name in seen:
                raise LulcbenchError(
                    f"{name} is in the {seen[name]} list and in the {part} list of the {data.split} split.",
                    "Fetch the lists again.",
                )
            seen[name] = part
    return lists


class Archives:
    """The zips of a folder, as one set of patches."""

    def __init__(self, root: Path) -> None:
        self.paths = sorted(root.glob("eurosat_*.zip", case_sensitive=False))
        if not self.paths:
            raise LulcbenchError(
                f"No eurosat_*.zip in {root}.",
                "Put EuroSAT_RGB.zip (or EuroSAT_MS.zip) of https://zenodo.org/records/7711810 there, or name another "
                "folder in data.root.",
            )
        self._where: dict[str, tuple[Path, str]] = {}
        for path in self.paths:
            try:
                with zipfile.ZipFile(path) as archive:
                    members = archive.infolist()
            except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
                raise LulcbenchError(f"{path} is no whole zip: {error}.", "Fetch it again.") from error
            for member in members:
                if member.filename.endswith((".jpg", ".tif")):
                    self._add(path, member)

    def _add(self, path: Path, member: zipfile.ZipInfo) -> None:
        name = Path(member.filename).stem
        if member.file_size > MAX_BYTES:
            raise LulcbenchError(
                f"{path}: {member.filename} has {member.file_size:,} bytes; no patch is that large.", "Fetch it again."
            )
        if name in self._where:
            before, twin = self._where[name]
            raise LulcbenchError(
                f"{name} is there twice: {before.name}/{twin} and {path.name}/{member.filename}.",
                "Keep RGB and 13-band archives in folders of their own.",
            )
        self._where[name] = (path, member.filename)

    def __contains__(self, name: str) -> bool:
        return name in self._where

    @property
    def names(self) -> list[str]:
        """All patches, in order."""
        return sorted(self._where)

    def read(self, names: Sequence[str], bands: Sequence[str], what: str) -> Images:
        """Patches as one array ``(n, band, 64, 64)``.

        Raises:
            LulcbenchError: a patch is unknown or damaged.
        """
        result: Images | None = None
        with closing(self.contents(names, what)) as found:
            for i, (member, content) in enumerate(found):
                image = decode(content, member, bands)
                if result is None:
                    result = np.empty((len(names), *image.shape), image.dtype)  # type: ignore[assignment]
                result[i] = image
        if result is None:
            raise LulcbenchError(f"The {what} list is empty.", "Fetch it again.")
        return result

    def contents(self, names: Sequence[str], what: str, verb: str = "read") -> Generator[tuple[str, bytes]]:
        """File name and bytes of patches, as they were packed.

        Raises:
            LulcbenchError: a patch is unknown, or its archive is damaged.
        """
        unknown = [name for name in names if name not in self]
        if unknown:
            raise LulcbenchError(
                f"The {what} list names {len(unknown)} patches that no archive holds, such as {unknown[0]}.",
                f"The archives are {', '.join(p.name for p in self.paths)}.",
            )
        open_zips = {path: zipfile.ZipFile(path) for path in self.paths}
        try:
            with _console.progress() as bar:
                for name in bar.track(names, description=f"{verb} {what}"):
                    path, member = self._where[name]
                    try:
                        with open_zips[path].open(member) as file:
                            content = file.read(MAX_BYTES)  # bounded: an entry may claim less than it unpacks to
                    # RuntimeError: encrypted; NotImplementedError: packed by a method that zipfile does not know.
                    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
                        raise LulcbenchError(f"{path}: {member} is damaged: {error}.", "Fetch it again.") from error
                    yield member, content
        finally:
            for archive in open_zips.values():
                archive.close()


def labels(names: Sequence[str]) -> torch.Tensor:
    """Class index of each patch, from its name: uint8 ``(n, 1)``.

    Raises:
        LulcbenchError: a name starts with no class.
    """
    found = []
    for name in names:
        kind = name.rpartition("_")[0]
        if kind not in CLASSES:
            raise LulcbenchError(f"{name}: {kind!r} is no class of EuroSAT.", f"Classes are {', '.join(CLASSES)}.")
        found.append(CLASSES.index(kind))
    return torch.tensor(found, dtype=torch.uint8)[:, None]


def read_part(data: EuroSatData, part: str, archives: Archives) -> Arrays:
    """One part (train, val or test) of the split."""
    names = read_list(data, part)
    images = torch.from_numpy(archives.read(names, bands_of(data), part))
    check_finite(images, part)
    return Arrays(images, labels(names), tuple(names))


def digest(data: EuroSatData, archives: Archives) -> str:
    """Identity of a split and of its patches, however these are packed: others have other archives of EuroSAT."""
    total = hashlib.sha256()
    for part, names in read_lists(data).items():
        total.update(f"{part}\n".encode())
        for name, (_, content) in zip(names, archives.contents(names, part, "hash"), strict=True):
            total.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def load(config: Config) -> Problem:
    """Training data: ``data.train_on`` to learn from; val is None where it is among them."""
    data = config.data
    if not isinstance(data, EuroSatData):
        raise TypeError(type(data))
    archives = Archives(expand(data.root))
    identity = digest(data, archives)  # first, since it refuses lists that overlap
    parts = [read_part(data, part, archives) for part in data.train_on]
    images, targets = torch.cat([p.images for p in parts]), torch.cat([p.targets for p in parts])
    mean, std = statistics(images)
    seen = set(targets.flatten().tolist())
    return Problem(
        train=Arrays(images, targets, tuple(i for p in parts for i in p.ids)),
        val=None if "val" in data.train_on else read_part(data, "val", archives),
        channels=bands_of(data),
        mean=mean,
        std=std,
        classes=CLASSES,
        level=None,
        digest=identity,
        simulated=False,
        absent=tuple(name for i, name in enumerate(CLASSES) if i not in seen),
    )


def statistics(images: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of the images learnt from, in stored units."""
    channels = images.shape[1]
    total, square = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    for chunk in images.split(2048):
        values = chunk.double()
        total += values.sum((0, 2, 3))
        square += (values**2).sum((0, 2, 3))
    n = images.numel() / channels
    mean = total / n
    std = (square / n - mean**2).sqrt().clamp_min(1e-6)
    return tuple(mean.tolist()), tuple(std.tolist())
