"""Models of your own: a torch module or any other function, mapped without being exported.

They predict in this process alone, on one image after the other; exported models also run on several processes and
machines, and are checked. Nothing of them is stored: a map is resumed if the description and the weights are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.legend import ClassScheme, LegendSubset
from lulcbench.legend.scheme import SUBSET
from lulcbench.maps.checks import checked
from lulcbench.maps.model import Image, ModelInfo, ModelInput, Predictor
from lulcbench.release import Release

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class OwnModel:
    """A function that predicts, and the description of what it takes.

    Attributes:
        predict: maps images to class probabilities.
        info: its description. ``sha256`` identifies the weights: maps of other weights are other maps.

    Examples:
        >>> import torch
        >>> from lulcbench.maps import MapOptions, map_release
        >>> net = torch.nn.Conv2d(24, 5, kernel_size=3, padding=1)  # four seasons of six bands, five classes
        >>> model = OwnModel.of_torch(net, root, "landsat", level=1, reach=1, name="convolution")
        >>> bounds = (4344000.0, 3129600.0, 4346000.0, 3131000.0)
        >>> map_release(model, root, "map", MapOptions((2018,), bounds)).years
        (2018,)
    """

    predict: Predictor
    info: ModelInfo

    @classmethod
    def of(
        cls,
        predict: Predictor,
        release: Release | str,
        sensors: str | Sequence[str],
        level: int | LegendSubset,
        *,
        name: str,
        version: str,
        bands: Sequence[str] | None = None,
        history: Sequence[int] = (),
        reach: int | None = 0,
        temperature: float = 1.0,
    ) -> OwnModel:
        """Describe a function that takes images as ``LuisaSeg`` returns them.

        Args:
            predict: see ``Predictor``; it gets all seasons, normalised by the statistics of the train split.
            release: the release that it was trained on, or its address.
            sensors: names of its sensors; predictions are on the grid of the first.
            level: legend level of its classes, which are all of that level; or a legend subset.
            name: of the model, lower-case.
            version: changes if its results change.
            bands: names of the bands of a single sensor; None takes all.
            history: years before that of the map whose composites it takes too, as in ``LuisaDataset``.
            reach: pixels around a pixel that its prediction depends on; 0 for models of single pixels, None where it
                is not bounded.
            temperature: divides the logits of the probabilities.

        Raises:
            NotAvailableError: the release lacks a sensor, a band, or statistics.
        """
        opened = release if isinstance(release, Release) else Release.open(release)
        names = [sensors] if isinstance(sensors, str) else list(sensors)
        if bands is not None and len(names) > 1:
            raise LulcbenchError("Bands are those of a single sensor.", "Leave bands out, or take one sensor.")
        scheme = ClassScheme.of_subset(level) if isinstance(level, LegendSubset) else ClassScheme.luisa(level)
        info = ModelInfo(
            name=name,
            architecture=getattr(predict, "architecture", type(predict).__name__),
            dense=True,
            inputs={sensor: _input(opened, sensor, bands, sorted(history, reverse=True)) for sensor in names},
            classes=scheme.names,
            level=scheme.depth if scheme.subset is None else None,
            subset=scheme.attributes.get(SUBSET),
            legend_digest=scheme.digest,
            temperature=temperature,
            reach=reach,
            training_digest=opened.data_digest,
            simulated=opened.simulated,
            sha256=hashlib.sha256(version.encode()).hexdigest(),
        )
        return cls(predict, info)

    @classmethod
    def of_torch(
        cls,
        net: torch.nn.Module,
        release: Release | str,
        sensors: str | Sequence[str],
        level: int | LegendSubset,
        *,
        name: str,
        activate: Callable[[torch.Tensor], torch.Tensor] | None = None,
        version: str | None = None,
        device: str = "cpu",
        **options: Any,
    ) -> OwnModel:
        """Describe a torch module that takes batches of ``LuisaSeg``; its version includes the SHA-256 of its weights.

        Args:
            net: maps ``(1, channel, y, x)``, or a dict of these by sensor, to ``(1, class, y, x)``.
            release: see ``of``.
            sensors: see ``of``.
            level: see ``of``.
            name: see ``of``.
            activate: maps its outputs to probabilities; None is the softmax over classes. It needs a ``version``.
            version: changes if results change for another reason than structure, weights and buffers: ``activate``, or
                numbers in the code of the module.
            device: on which it predicts, such as ``cuda``.
            **options: ``bands``, ``history``, ``reach`` and ``temperature`` of ``of``.

        Raises:
            LulcbenchError: ``activate`` has no version, so that maps of another one could not be told apart.
            NotAvailableError: see ``of``.
        """
        if activate is not None and version is None:
            raise LulcbenchError(
                f"{name} has an activation of its own, and a map cannot tell whether it has changed.",
                "Give a version of it, such as version='sigmoid', and another one after a change.",
            )
        predictor = TorchPredictor(net, activate, device)
        own = predictor.digest if version is None else f"{version} {predictor.digest}"
        return cls.of(predictor, release, sensors, level, name=name, version=own, **options)

    @property
    def digest(self) -> str:
        """SHA-256 of the description."""
        return hashlib.sha256(self.info.model_dump_json().encode()).hexdigest()

    def predictor(self) -> Predictor:
        """The function, whose results are checked."""
        return self._checked

    def _checked(self, images: Mapping[str, Image]) -> Image:
        """Predict; see ``lulcbench.maps.checks`` for what is refused."""
        return checked(np.asarray(self.predict(images)), images, self.info)


class TorchPredictor:
    """A torch module as a predictor, in evaluation mode and without gradients.

    Args:
        net: the module.
        activate: maps its outputs to probabilities; None is the softmax over classes.
        device: on which it predicts.

    Examples:
        >>> import numpy as np, torch
        >>> predict = TorchPredictor(torch.nn.Conv2d(6, 5, 1))
        >>> predict({"landsat": np.zeros((6, 8, 9), np.float32)}).shape
        (5, 8, 9)
    """

    def __init__(
        self,
        net: torch.nn.Module,
        activate: Callable[[torch.Tensor], torch.Tensor] | None = None,
        device: str = "cpu",
    ) -> None:
        self.net, self.activate, self.device = net.eval().to(device), activate, device
        self.architecture = type(net).__name__

    @property
    def digest(self) -> str:
        """SHA-256 of the structure, the weights and all buffers, also those that are not stored with the weights."""
        total = hashlib.sha256(str(self.net).encode())
        for name, tensor in (self.net.state_dict() | dict(self.net.named_buffers())).items():
            values = tensor.detach().cpu().contiguous()
            total.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            total.update(values.view(-1).numpy().tobytes())
        return total.hexdigest()

    def __call__(self, images: Mapping[str, Image]) -> Image:
        """Predict class probabilities; see ``Predictor``."""
        import torch

        with torch.inference_mode():
            tensors = {name: torch.from_numpy(image)[None].to(self.device) for name, image in images.items()}
            outputs = self.net(next(iter(tensors.values())) if len(tensors) == 1 else tensors)
            p = outputs.softmax(dim=1) if self.activate is None else self.activate(outputs)
            result: Image = p[0].float().cpu().numpy()
        return result


def _input(release: Release, sensor: str, bands: Sequence[str] | None, history: Sequence[int]) -> ModelInput:
    """All seasons of a sensor, with the statistics of the train split."""
    info, seasons = release.manifest.sensor(sensor), release.manifest.seasons
    if info.statistics is None:
        raise NotAvailableError(
            f"{release.id} has no statistics of {sensor}: it has no train split.",
            "Give the release that the model was trained on.",
        )
    names = info.band_names if bands is None else tuple(bands)
    if unknown := [band for band in names if band not in info.band_names]:
        raise NotAvailableError(
            f"{sensor} of {release.id} has no band {unknown[0]!r}.", f"It has {', '.join(info.band_names)}."
        )
    at = [info.band_names.index(band) for band in names]
    return ModelInput(
        resolution=info.resolution,
        bands=names,
        seasons=seasons,
        history=tuple(history),
        composite=info.composite,
        mean=tuple(info.statistics.mean[i] for i in at) * ((len(history) + 1) * len(seasons)),
        std=tuple(info.statistics.std[i] for i in at) * ((len(history) + 1) * len(seasons)),
    )
