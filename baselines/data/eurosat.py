"""EuroSAT (Helber et al. 2019, https://doi.org/10.1109/JSTARS.2019.2918242): patches of 640 m with one class each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from baselines.data.archives import Archives
from baselines.data.base import DATA, DataConfig, DataInfo, Input, shares
from baselines.data.lists import read_list, read_lists
from baselines.data.patches import BAND_SETS
from baselines.registry import Names, expand
from lulcbench import _console
from lulcbench.datasets.batch import Sample, Samples, positions
from lulcbench.errors import LulcbenchError
from lulcbench.plotting import Panel, rgb_panel
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
_BATCH = 2048  # patches per step of the computation of statistics


@DATA.register
class EuroSatData(DataConfig):
    """EuroSAT patches, read directly from their zip archives.

    Attributes:
        root: folder with ``eurosat_rgb_*.zip`` and the split lists, or with 13-band GeoTIFFs (``eurosat_ms*.zip``).
        split: name of the split lists: ``random``, ``spatial`` (by longitude) or ``block`` (spatial blocks, see
            ``baselines/splits``).
        bands: name of a set, or names of bands; RGB archives have only ``rgb``.
        train_on: splits to train on; the published 80/20 protocol trains on train and val together.
        part: the archives have only some of the patches: the split lists are cut to these. Without it, a patch of a
            list that the archives lack is an error.
    """

    kind: Literal["eurosat"] = "eurosat"
    target: ClassVar[str] = "label"
    task: ClassVar[str] = "classification"
    root: str = "$LULCBENCH_REAL_DATA/eurosat_rgb"
    split: Literal["random", "spatial", "block"] = "random"
    bands: Literal["rgb", "swir", "color-infrared", "all"] | Names = "rgb"
    train_on: Annotated[tuple[Literal["train", "val"], ...], Field(min_length=1)] = ("train",)
    part: bool = False

    @property
    def dataset(self) -> type[EuroSat]:
        """The class ``EuroSat``."""
        return EuroSat

    @property
    def options(self) -> dict[str, Any]:
        """Options of ``EuroSat``; images remain uint8 until they are normalised on the device."""
        return {
            "root": expand(self.root),
            "lists": self.split,
            "bands": self.bands,
            "part": self.part,
            "normalize": "device",
        }

    @property
    def train_options(self) -> dict[str, Any]:
        """The splits to train on."""
        return {"split": self.train_on}

    def fitted_options(self, info: DataInfo) -> dict[str, Any]:
        """The statistics to normalise by."""
        return {"input": info.inputs["sentinel2"]}

    def normalize_alike(self, dataset: EuroSat, info: DataInfo) -> None:
        """Have another split normalised by the statistics of the training patches."""
        dataset.normalize_by(info.inputs["sentinel2"])

    @property
    def has_val(self) -> bool:
        """False if val is used for training too."""
        return "val" not in self.train_on

    @property
    def sensor_names(self) -> tuple[str, ...]:
        """Sentinel-2."""
        return ("sentinel2",)

    def units(self, dataset: EuroSat) -> tuple[str, Sequence[str]]:
        """Patches: their locations are not in the archive."""
        return "patches", dataset.names

    def digest(self) -> str:
        """Digest of lists and patches, independent of archives: those of other distributors differ."""
        archives, total = Archives(expand(self.root)), hashlib.sha256()
        lists = read_lists(expand(self.root), self.split)
        with _console.progress() as bar:
            for split, listed in lists.items():
                names = archives.present(listed) if self.part else listed
                archives.check(names, split)
                total.update(f"{split}\n".encode())
                contents = archives.contents(bar.track(names, description=f"hash {split}"))
                for name, (_, content) in zip(names, contents, strict=True):
                    total.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
        return total.hexdigest()

    def describe(self, train: EuroSat) -> DataInfo:
        """Bands and statistics of the training patches."""
        digest = self.digest()  # first, since it refuses lists that overlap
        return DataInfo(
            inputs={"sentinel2": train.input},
            classes=CLASSES,
            level=None,
            digest=digest,
            simulated=False,
            frequencies=shares(np.bincount(train.labels, minlength=len(CLASSES))),
        )


class EuroSat:
    """One split, or several splits together, as a ``lulcbench.datasets.protocol.BatchDataset``.

    Samples have ``image``, float32 ``(band, 64, 64)``, normalised; ``label``, int64 class index; ``id``, name of the
    patch.

    Args:
        root: folder of archives and lists.
        split: ``train``, ``val`` or ``test``, or several of these.
        lists: name of the split lists: ``random``, ``spatial`` or ``block``.
        bands: name of a set, or names of bands.
        part: the archives have only some of the patches: leave out those that they lack.
        normalize: True: images are normalised; ``"device"``: images have stored values, uint8 (float32 reflectance of
            13-band archives), to be passed through ``finish`` on the device.
        input: mean and standard deviation to normalise by; by default those of this dataset.

    Attributes:
        split: name of the split, such as ``train+val``.
        names: names of the patches.
        labels: class indices, uint8 ``(n,)``.

    Raises:
        LulcbenchError: archives or lists are missing or damaged or do not match, or a band is unknown.
    """

    fixed = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str | Sequence[str] = "train",
        lists: str = "random",
        bands: str | Sequence[str] = "rgb",
        *,
        part: bool = False,
        normalize: bool | str = True,
        input: Input | None = None,
    ) -> None:
        splits = (split,) if isinstance(split, str) else tuple(split)
        self.split = "+".join(splits)
        self.bands = band_names(bands)
        self.normalize = normalize
        self.archives = Archives(Path(root))
        self.names: list[str] = []
        for one in splits:
            names = read_list(Path(root), lists, one)
            names = self.archives.present(names) if part else names
            self.archives.check(names, one)
            self.names += names
        self.labels = labels(self.names)
        self._input = input
        self._on_device: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        """Read several samples."""
        return Samples(self.read(indices), len(indices))

    def read(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> Sample:
        """Read a batch: the entries of samples with a leading batch dimension, and a list of names."""
        at = positions(indices, len(self))
        names = [self.names[i] for i in at]
        stored: Tensor = torch.from_numpy(self.archives.read(names, self.bands))
        return {
            "image": stored if self.normalize == "device" else self._normalized(stored),
            "label": torch.from_numpy(self.labels[at].astype(np.int64)),
            "id": names,
        }

    def finish(self, batch: Sample) -> Sample:
        """Normalise a batch that was read with ``normalize="device"``, on its device."""
        return batch | {"image": self._normalized(batch["image"])} if self.normalize == "device" else batch

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: patches are the same in every epoch."""

    @cached_property
    def input(self) -> Input:
        """Bands, and the mean and standard deviation by which images are normalised."""
        if self._input is not None:
            return self._input
        total, square = (torch.zeros(len(self.bands), dtype=torch.float64) for _ in range(2))
        for start in range(0, len(self), _BATCH):
            values = torch.from_numpy(self.archives.read(self.names[start : start + _BATCH], self.bands)).double()
            total += values.sum((0, 2, 3))
            square += (values**2).sum((0, 2, 3))
        n = len(self) * values.shape[-1] * values.shape[-2]
        mean = total / n
        std = (square / n - mean**2).sqrt().clamp_min(1e-6)
        return Input(channels=self.bands, mean=tuple(mean.tolist()), std=tuple(std.tolist()), resolution=10)

    def normalize_by(self, input: Input) -> None:
        """Normalise by this mean and standard deviation from now on."""
        self.input = input
        self._on_device.clear()

    def rgb_panels(self, sample: Sample) -> list[Panel]:
        """True colour of a sample, normalised or not."""
        image = sample["image"].cpu().float().numpy()
        if self.normalize != "device":
            mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.input.mean, self.input.std))
            image = image * std + mean
        return [rgb_panel(image, [SENTINEL2.band(name) for name in self.bands], "true colour")]

    def _normalized(self, stored: Tensor) -> Tensor:
        device = stored.device
        if device not in self._on_device:
            mean, std = (torch.tensor(v, device=device).view(-1, 1, 1) for v in (self.input.mean, self.input.std))
            self._on_device[device] = mean, std
        mean, std = self._on_device[device]
        return (stored.float() - mean) / std


def band_names(bands: str | Sequence[str]) -> tuple[str, ...]:
    """Names of bands, given these or the name of a set.

    Raises:
        LulcbenchError: a band is unknown.
    """
    names = BAND_SETS[bands] if isinstance(bands, str) else tuple(bands)
    for name in names:
        SENTINEL2.band(name)
    return names


def labels(names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Class indices of patches from their names: uint8 ``(n,)``.

    Raises:
        LulcbenchError: a name does not begin with a class.

    Example:
        >>> labels(["Forest_12", "River_3"]).tolist()
        [1, 8]
    """
    indices = []
    for name in names:
        label = name.rpartition("_")[0]
        if label not in CLASSES:
            raise LulcbenchError(f"{name}: {label!r} is not a class of EuroSAT.", f"Classes are {', '.join(CLASSES)}.")
        indices.append(CLASSES.index(label))
    return np.array(indices, np.uint8)
