"""Exported models: a folder with ``model.onnx`` and ``model.json``, checked before anything in it is run.

``model.json`` is a STAC item with the ``mlm`` extension; what a map needs is in its property ``lulcbench:model``. Both
files may be untrusted: the description is validated, and the graph may hold nothing but standard operators and
the weights inside the file. No pickle is ever read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from lulcbench._files import Frozen, Name
from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import CorruptFileError, LulcbenchError, UnsupportedFormatError
from lulcbench.legend import ClassScheme, LegendSubset
from lulcbench.maps._graph import check_graph, short
from lulcbench.maps.checks import checked
from lulcbench.release import Sha256
from lulcbench.release.keys import ArrayName
from lulcbench.seasons import Season
from lulcbench.series.regular import days_of_year

DESCRIPTION = "model.json"
GRAPH = "model.onnx"
PROPERTY = "lulcbench:model"
OUTPUT = "probabilities"
MEMBERS = "members"  # the second output of a stack: probabilities of one member after the other
FORMAT: Final = "lulcbench-model/1"
STEP = 32  # px: networks halve the resolution up to five times
MAX_REACH = 4096  # px
MAX_BYTES = 2**31 - 1  # of a graph: the limit of protobuf
_EXPORT = "Export it with 'python -m baselines export RUN --out FOLDER'."

Image = npt.NDArray[np.float32]


class Series(Frozen):
    """How the series of a model are made of dated imagery, see ``lulcbench.series``.

    Attributes:
        every: days between the fixed days of a year.
        indices: names of the spectral indices that follow the bands.
        cell: side of the cells that pixels are averaged over, m: the pixels of the map.
    """

    every: Annotated[int, Field(ge=1, le=180)]
    indices: tuple[str, ...] = ()
    cell: Literal[50] = 50


class ModelInput(Frozen):
    """Imagery of one sensor as input of a model.

    Channels are (years ×) seasons × bands, the bands of a season next to each other; of series they are steps × (bands,
    indices).

    Attributes:
        resolution: pixel size, m.
        bands: names of the bands.
        seasons: the seasons with their days; empty for single images and series.
        history: how many years before that of the map the earlier composites are from whose channels come first, the
            earliest year first.
        composite: how the clear observations of a season became one; None for single images, and where it is unknown.
        series: how series are made; None for composites and single images.
        mean: of each channel over the training data, in the unit of the bands.
        std: standard deviation of each channel.
    """

    resolution: Annotated[int, Field(gt=0)]
    bands: Annotated[tuple[str, ...], Field(min_length=1)]
    seasons: tuple[Season, ...]
    history: tuple[Annotated[int, Field(ge=1, le=200)], ...] = ()
    composite: Literal["median", "medoid"] | None = None
    mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]
    series: Series | None = None

    @model_validator(mode="after")
    def _one_per_channel(self) -> ModelInput:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError("there must be one mean and one std per season and band")
        if self.series and self.seasons:
            raise ValueError("series have steps in place of seasons")
        if self.history and not self.seasons:
            raise ValueError("only composites of seasons have a history")
        if list(self.history) != sorted(set(self.history), reverse=True):
            raise ValueError("history must begin with the earliest year and name each once")
        return self

    @property
    def channels(self) -> int:
        """Number of channels."""
        if self.series:
            return len(days_of_year(self.series.every)) * (len(self.bands) + len(self.series.indices))
        return (len(self.history) + 1) * max(1, len(self.seasons)) * len(self.bands)

    @property
    def grid(self) -> int:
        """Pixel size of the images that the model takes, m."""
        return self.series.cell if self.series else self.resolution


class ModelInfo(Frozen):
    """What ``model.json`` states of a model.

    Attributes:
        architecture: name of the architecture.
        dense: whether it predicts every pixel, or one class per patch.
        inputs: by sensor; predictions are on the grid of the first.
        classes: names, in the order of the outputs.
        level: LUISA level of the classes; None for a subset or another legend.
        subset: name → LUISA codes of the classes of a legend subset; None for others.
        legend_digest: of the LUISA legend, or of the subset; None for another legend.
        members: names of the members of a stack, whose own probabilities are the second output of the graph,
            ``(member·class, y, x)``; empty for other models.
        temperature: divides logits before the softmax, so that probabilities are calibrated.
        reach: pixels around a cell of 32 × 32 that its predictions depend on; 0 for classifiers of single pixels, None
            where it is unbounded, as of global pooling.
        window: side of the training windows, m.
        training_digest: digest of the data of the release that it was trained on (``Manifest.data_digest``).
        simulated: whether that release was simulated.
        sha256: of ``model.onnx``.
    """

    format: Literal["lulcbench-model/1"] = FORMAT
    name: Name
    architecture: str
    dense: bool
    inputs: Annotated[dict[ArrayName, ModelInput], Field(min_length=1)]
    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=255)]
    level: Annotated[int, Field(ge=1, le=4)] | None
    subset: dict[str, tuple[int, ...]] | None = None
    legend_digest: Sha256 | None
    members: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    reach: Annotated[int, Field(ge=0, le=MAX_REACH)] | None
    window: Annotated[float, Field(gt=0)] | None = None
    training_digest: str
    simulated: bool
    sha256: Sha256

    @model_validator(mode="after")
    def _legend_agrees(self) -> ModelInfo:
        if self.level is not None and self.subset is not None:
            raise ValueError("level and subset both define the classes")
        if (self.level is None and self.subset is None) != (self.legend_digest is None):
            raise ValueError("level or subset and legend_digest go together")
        if self.of_series and len(self.inputs) > 1:
            raise ValueError("a model of series has one sensor")
        if self.members and (len(self.members) < 2 or not self.dense):
            raise ValueError("only models of pixels have members, and at least two")
        return self

    @property
    def scheme(self) -> ClassScheme:
        """The classes of the pixels that it predicts.

        Raises:
            LulcbenchError: it classifies patches, or has classes of another legend.
        """
        found = self.known_classes()
        if not self.dense or found is None:
            raise LulcbenchError(
                f"{self.name} classifies {'pixels' if self.dense else 'patches'}"
                f"{' of another legend' if found is None else ''}; a map needs LUISA classes of pixels, or those of a "
                "legend subset.",
                "Use a segmentation model that was trained on a release.",
            )
        return found

    def known_classes(self, where: str = DESCRIPTION) -> ClassScheme | None:
        """The classes of pixels or patches; None for those of another legend.

        Raises:
            LulcbenchError: the legend subset is not valid.
        """
        if self.subset is not None:
            return ClassScheme.of_subset(LegendSubset(self.subset, where))
        return None if self.level is None else ClassScheme.luisa(self.level)

    @property
    def resolution(self) -> int:
        """Pixel size of the predictions, m: that of the first sensor."""
        return next(iter(self.inputs.values())).grid

    @property
    def of_series(self) -> bool:
        """Whether it takes series of dated imagery."""
        return any(imagery.series for imagery in self.inputs.values())


def step_of(info: ModelInfo) -> int:
    """Pixels of a map by which the windows of a model may be shifted.

    These are whole pixels of all sensors, and of the coarsest features of a network.
    """
    resolutions = [imagery.grid for imagery in info.inputs.values()]
    if info.reach == 0:
        return math.lcm(*resolutions) // info.resolution
    return math.lcm(*(STEP * r for r in resolutions)) // info.resolution


class Predictor(Protocol):
    """Anything that predicts the pixels of an image: an ONNX model here, torch on a GPU in ``baselines``."""

    def __call__(self, images: Mapping[str, Image]) -> Image:
        """Predict class probabilities.

        Args:
            images: sensor → normalised image, float32 ``(channel, y, x)``; nodata is 0. All have the same extent.

        Returns:
            float32 ``(class, y, x)`` on the grid of the first sensor.
        """


@dataclass(frozen=True, slots=True)
class MapModel:
    """An exported model, checked.

    Attributes:
        folder: its folder.
        info: its description.
        digest: SHA-256 of ``model.json``, which names that of the graph: the identity of the model.
    """

    folder: Path
    info: ModelInfo
    digest: str

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> MapModel:
        """Read and check a model.

        Raises:
            LulcbenchError: a file is missing.
            CorruptFileError: the description is not valid, or the graph is not that of the description.
            UnsupportedFormatError: it is of another format version or legend, or its graph has operators that are not
                standard, or weights in other files.
        """
        folder = Path(folder)
        path = folder / DESCRIPTION
        if not path.is_file():
            raise LulcbenchError(f"{folder} has no exported model ({DESCRIPTION} is missing).", _EXPORT)
        text = read_limited(path, 4 * 2**20, "It is not the description of a model.")
        content = parse_json(text, str(path), _EXPORT, 4 * 2**20)
        properties = content.get("properties")
        stated = properties.get(PROPERTY) if isinstance(properties, dict) else None
        if not isinstance(stated, dict):
            raise CorruptFileError(f"{path} does not describe a model: {PROPERTY} is missing.", _EXPORT)
        if stated.get("format") != FORMAT:
            raise UnsupportedFormatError(
                f"{path} has format {str(stated.get('format'))[:80]!r}, this lulcbench reads {FORMAT!r}.", _EXPORT
            )
        try:
            info = ModelInfo.model_validate_json(json.dumps(stated))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise CorruptFileError(f"{path} is damaged: {where}: {first['msg']}.", _EXPORT) from error
        if (known := info.known_classes(str(path))) is not None:
            if info.legend_digest != known.digest:
                raise UnsupportedFormatError(
                    f"The model in {folder} was trained with another legend ({str(info.legend_digest)[:12]}…).",
                    f"This lulcbench has {known.digest[:12]}…; train it again.",
                )
            if info.classes != known.names:
                raise CorruptFileError(
                    f"{path} is damaged: its classes are not those"
                    f"{known.level_name(known.depth) or ' of its legend subset'}.",
                    _EXPORT,
                )
        model = cls(folder, info, hashlib.sha256(text).hexdigest())
        check_graph(
            model.graph(),
            folder / GRAPH,
            {name: imagery.channels for name, imagery in info.inputs.items()},
            {OUTPUT: len(info.classes)} | ({MEMBERS: len(info.members) * len(info.classes)} if info.members else {}),
        )
        return model

    def graph(self) -> bytes:
        """The bytes of the graph.

        Raises:
            CorruptFileError: it is missing, or is not that of the description.
        """
        path = self.folder / GRAPH
        if not path.is_file():
            raise CorruptFileError(f"{path} is missing.", _EXPORT)
        content = read_limited(path, MAX_BYTES, "It is not an ONNX model of this size.")
        if hashlib.sha256(content).hexdigest() != self.info.sha256:
            raise CorruptFileError(f"{path} is not the graph that {DESCRIPTION} describes.", _EXPORT)
        return content

    def predictor(self) -> OnnxPredictor:
        """Load the graph into a session of onnxruntime on one processor thread.

        Raises:
            CorruptFileError: the graph cannot be run.
        """
        return OnnxPredictor(self.graph(), self.info, str(self.folder / GRAPH))


class OnnxPredictor:
    """Runs a checked graph on one thread of the processor, so that sums are made in one order.

    Args:
        graph: bytes of the ONNX model.
        info: its description.
        where: its name, for error messages.
    """

    def __init__(self, graph: bytes, info: ModelInfo, where: str = GRAPH) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.use_deterministic_compute = True
        self.info, self.where = info, where
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has an exception of its own for each kind of failure
            raise CorruptFileError(f"{where} cannot be run: {short(error)}.", _EXPORT) from error

    def __call__(self, images: Mapping[str, Image]) -> Image:
        """Predict class probabilities ``(class, y, x)``, or ``(class,)`` for models of patches; see ``Predictor``.

        Raises:
            LulcbenchError: memory ran out, the graph fails on images of this size, or its results are not
                probabilities of all classes, see ``lulcbench.maps.checks``.
        """
        (p,) = self._run([OUTPUT], images)
        return checked(p, images, self.info)

    def with_members(self, images: Mapping[str, Image]) -> tuple[Image, Image]:
        """Predict the probabilities of a stack, and those of its members ``(member, class, y, x)``; raises the same."""
        p, members = self._run([OUTPUT, MEMBERS], images)
        p, parts = checked(p, images, self.info), len(self.info.members)
        return p, checked(members, images, self.info, parts).reshape(parts, *p.shape)

    def _run(self, outputs: list[str], images: Mapping[str, Image]) -> list[npt.NDArray[Any]]:
        try:
            results = self._session.run(outputs, {name: image[None] for name, image in images.items()})
        except Exception as error:
            if "alloc" in str(error).lower():
                raise LulcbenchError(
                    f"Memory ran out while {self.where} predicted a window: {short(error)}.",
                    "Lower --workers or --halo, or free memory.",
                ) from error
            raise LulcbenchError(
                f"{self.where} fails: {short(error)}.", "Check the model, or export it again."
            ) from error
        return [result[0] for result in results]
