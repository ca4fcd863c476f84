"""Networks for time series of single pixels, on the regular series of ``baselines.data.series``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from baselines.data import Input
from baselines.data.base import only_input
from baselines.models.base import MODELS, Fitted
from baselines.models.network import NetworkConfig, NetworkPredictor
from baselines.predicting.views import temper
from baselines.registry import Count, Fraction
from baselines.series.nets import ByYear, LstmNet, LtaeNet, PixelSeries, TempCnnNet, TransformerNet
from baselines.training.effort import Effort
from baselines.training.history import BEST, LAST
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.devices import Images
    from baselines.experiment import Experiment
    from baselines.models.base import Predictor
    from baselines.tasks import Task


class SeriesNetwork(NetworkConfig):
    """Base class of networks for series.

    Attributes:
        by_year: train one network on the samples of each year, in place of one on those of all years.
    """

    dense: ClassVar[bool] = True
    by_year: bool = False

    @abstractmethod
    def _net(self, features: int, outputs: int) -> nn.Module:
        """The network of a series with so many features."""

    @property
    def label(self) -> str:
        """Name of the network, and whether there is one per year."""
        return f"{self.title}, one per year" if self.by_year else self.title

    def build(self, inputs: Mapping[str, Input], outputs: int) -> nn.Module:
        """Build the network for channels such as ``d015:B04``."""
        channels = only_input(inputs, self.title).channels
        steps = list(dict.fromkeys(channel.partition(":")[0] for channel in channels))
        if not all(step[:1] == "d" and step[1:].isdecimal() for step in steps):
            raise LulcbenchError(
                f"{self.title} takes series of dated imagery, not channels such as {channels[0]}.",
                'Use data of the kind "series".',
            )
        features = len(channels) // len(steps)
        return PixelSeries(self._net(features, outputs), [int(step[1:]) for step in steps], features)

    def fit(self, experiment: Experiment, folder: Path, deadline: float | None = None) -> Fitted:
        """Train the network, or that of each year."""
        if not self.by_year:
            return super().fit(experiment, folder, deadline)
        config = experiment.config
        if "years" not in config.data.options:
            raise LulcbenchError(f"Data {config.data.kind} are not of several years.", "Set model.by_year = false.")
        if config.data.options.get("train_years") is not None:
            raise LulcbenchError(
                "model.by_year trains a network on each of data.years: data.train_years would have no effect.",
                "Leave out data.train_years, or set model.by_year = false.",
            )
        nets: dict[int, nn.Module] = {}
        efforts = []
        temperatures = {}
        for year in config.data.options["years"]:
            part = config.replace(data={"train_years": (year,)}, model={"by_year": False})
            # Normalised as the predictor will normalise: by the statistics of all years.
            opened = type(experiment).open(part, **config.data.fitted_options(experiment.info))
            fitted = part.model.fit(opened, folder / str(year), deadline)
            nets[year] = cast("NetworkPredictor", fitted.predictor).net
            efforts.append(fitted.effort)
            temperatures[year] = fitted.temperature
        for year in nets:  # after all years: each is resumed from its own
            for leftover in (LAST, BEST):
                (folder / str(year) / leftover).unlink(missing_ok=True)
        predictor = ByYearPredictor(ByYear(nets), experiment.task, config)
        predictor.set_temperatures(temperatures)
        return Fitted(predictor, _total(efforts))

    def load(self, folder: Path, config: Config, task: Task) -> NetworkPredictor:
        """Read the trained network, or those of all years."""
        if not self.by_year:
            return super().load(folder, config, task)
        years = config.data.options["years"]
        net = ByYear({year: self.build(task.info.inputs, task.outputs) for year in years})
        predictor = ByYearPredictor(net, task, config)
        try:
            net.load_state_dict(load((folder / predictor.file).read_bytes()))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise LulcbenchError(f"The model in {folder} is damaged: {error!r}.", "Train it again.") from error
        net.eval()
        return predictor

    def small(self) -> dict[str, Any]:
        """The same settings: series of pixels train fast."""
        return {}


class ByYearPredictor(NetworkPredictor):
    """Networks of single years; ``for_year`` gives that of a year.

    Args:
        net: the networks.
        task: converts outputs to probabilities.
        config: config with the settings for prediction.
    """

    def __init__(self, net: ByYear, task: Task, config: Config) -> None:
        super().__init__(net, task, config)
        self._by_year = net

    def set_temperatures(self, temperatures: Mapping[int, float]) -> None:
        """Set the temperature of each year."""
        self._by_year.temperatures = torch.tensor([temperatures[int(year)] for year in self._years])

    @property
    def _years(self) -> list[str]:
        return list(self._by_year.nets)

    def for_year(self, year: int) -> Predictor:
        """The network of a year, with calibrated probabilities."""
        if str(year) not in self._years:
            raise LulcbenchError(f"There is no network for {year}.", f"Those of {', '.join(self._years)} were trained.")
        temperature = float(self._by_year.temperatures[self._years.index(str(year))])
        return _Tempered(self._by_year.nets[str(year)], self.task, self.config, temperature)

    def graph(self, inputs: Mapping[str, Input]) -> bytes:
        """Refuse: a graph has no year."""
        raise LulcbenchError("There is one network per year.", "Export a model that is trained on all years.")

    def __call__(self, images: Images) -> Tensor:
        """Refuse: images do not tell their year."""
        raise LulcbenchError("There is one network per year.", "Predict each year with that of the year: for_year.")


class _Tempered(NetworkPredictor):
    """A network whose probabilities are calibrated."""

    def __init__(self, net: nn.Module, task: Task, config: Config, temperature: float) -> None:
        super().__init__(net, task, config)
        self._temperature = temperature if config.predict.calibrate else 1.0

    def __call__(self, images: Images) -> Tensor:
        """Calibrated probabilities."""
        return temper(super().__call__(images), self._temperature)


def _total(efforts: list[Effort]) -> Effort:
    """Sum of the efforts of several networks."""
    return Effort(
        seconds=sum(e.seconds for e in efforts),
        core_seconds=sum(e.core_seconds for e in efforts),
        epochs=max(e.epochs for e in efforts),
        steps=sum(e.steps for e in efforts),
        planned_steps=sum(e.planned_steps for e in efforts),
        cut_short=any(e.cut_short for e in efforts),
    )


@MODELS.register
class Lstm(SeriesNetwork):
    """LSTM, as in Sedona, Paris et al. (IGARSS 2022).

    Attributes:
        hidden, layers: width of the states, and number of layers.
        dropout: dropout before the outputs.
    """

    kind: Literal["lstm"] = "lstm"
    title: ClassVar[str] = "LSTM"
    hidden: Count = 128
    layers: Count = 1
    dropout: Fraction = 0.2

    def _net(self, features: int, outputs: int) -> nn.Module:
        return LstmNet(features, outputs, self.hidden, self.layers, self.dropout)


@MODELS.register
class TempCnn(SeriesNetwork):
    """Temporal convolutional network, with the defaults of the R package sits.

    Attributes:
        width, kernel: channels of the three convolutions, and steps that each covers.
        hidden: width of the dense layer.
        dropout: dropout of the convolutions, and of the dense layer.
    """

    kind: Literal["tempcnn"] = "tempcnn"
    title: ClassVar[str] = "TempCNN"
    width: Count = 64
    kernel: Count = 5
    hidden: Count = 256
    dropout: tuple[Fraction, Fraction] = (0.2, 0.5)

    def _net(self, features: int, outputs: int) -> nn.Module:
        return TempCnnNet(features, outputs, self.width, self.kernel, self.hidden, self.dropout)


@MODELS.register
class Ltae(SeriesNetwork):
    """Lightweight temporal attention encoder, with the defaults of the R package sits.

    Attributes:
        width, heads, key: width of the embedding, number of heads, width of their keys.
        dropout: dropout before the outputs.
    """

    kind: Literal["ltae"] = "ltae"
    title: ClassVar[str] = "L-TAE"
    width: Count = 128
    heads: Count = 16
    key: Count = 8
    dropout: Fraction = 0.2

    def _net(self, features: int, outputs: int) -> nn.Module:
        return LtaeNet(features, outputs, self.width, self.heads, self.key, self.dropout)


@MODELS.register
class SeriesTransformer(SeriesNetwork):
    """Small transformer with absolute encoding of the days.

    Attributes:
        width, heads, layers: width of the embedding, number of heads and of layers.
        dropout: dropout in the layers.
    """

    kind: Literal["transformer"] = "transformer"
    title: ClassVar[str] = "Transformer"
    width: Count = 64
    heads: Count = 4
    layers: int = Field(default=2, ge=1)
    dropout: Fraction = 0.1

    def _net(self, features: int, outputs: int) -> nn.Module:
        return TransformerNet(features, outputs, self.width, self.heads, self.layers, self.dropout)
