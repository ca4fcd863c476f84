"""Several models in one map, such as seeds of one network: their mean, and how far they disagree."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.legend import ClassScheme
from lulcbench.maps.layers import Probabilities, entropy, temper
from lulcbench.maps.model import Image, MapModel, ModelInfo, OnnxPredictor, Predictor
from lulcbench.maps.own import OwnModel

AnyModel = MapModel | OwnModel


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Models that take the same images and predict the same classes.

    Attributes:
        members: at least two.

    Raises:
        LulcbenchError: there is one model, or one twice; or they differ in inputs or classes.
    """

    members: tuple[AnyModel, ...]

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise LulcbenchError(f"An ensemble has at least two models, not {len(self.members)}.", "Name the others.")
        first = self.members[0].info
        for member in self.members[1:]:
            for what, same in (
                ("inputs or their statistics", member.info.inputs == first.inputs),
                ("classes", _classes(member.info) == _classes(first)),
            ):
                if not same:
                    raise LulcbenchError(
                        f"{member.info.name} and {first.name} differ in their {what}.",
                        "Train all members of an ensemble on the same release, bands and level.",
                    )
        if len({member.digest for member in self.members}) < len(self.members):
            raise LulcbenchError("A model is named twice.", "Name each member of an ensemble once.")

    @property
    def info(self) -> ModelInfo:
        """Description of all members; temperatures are those of the members, and hence 1 here."""
        infos = [member.info for member in self.members]
        kinds = list(dict.fromkeys(info.architecture for info in infos))
        reaches = [info.reach for info in infos]
        return infos[0].model_copy(
            update={
                "name": f"{infos[0].name[:48]}-mean-of-{len(infos)}",
                "architecture": f"mean of {len(infos)} models: {', '.join(kinds)}",
                "members": (),  # of a stack; the disagreement is that between the stacks
                "temperature": 1.0,
                "reach": None if None in reaches else max(reach or 0 for reach in reaches),
                "training_digest": ", ".join(dict.fromkeys(info.training_digest for info in infos)),
                "simulated": any(info.simulated for info in infos),
                "sha256": hashlib.sha256("".join(info.sha256 for info in infos).encode()).hexdigest(),
            }
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the digests of the members, in their order."""
        return hashlib.sha256("".join(member.digest for member in self.members).encode()).hexdigest()

    def predictor(self) -> Predictor:
        """Predicts the mean probabilities of the members, followed by their disagreement, see ``disagreement``."""
        temperatures = [member.info.temperature for member in self.members]
        return _Mean([member.predictor() for member in self.members], temperatures, self.info.scheme)


def _classes(info: ModelInfo) -> tuple[int | None, str | None, tuple[str, ...]]:
    return info.level, info.legend_digest, info.classes


class _Mean:
    def __init__(self, predictors: Sequence[Predictor], temperatures: Sequence[float], scheme: ClassScheme) -> None:
        self._members, self._scheme = list(zip(predictors, temperatures, strict=True)), scheme

    def __call__(self, images: Mapping[str, Image]) -> Image:
        """Float32 ``(class + 2, y, x)``."""
        mean: Image | None = None
        for predict, temperature in self._members:  # one after the other: an image of probabilities may take 100 MiB
            p = temper(predict(images), temperature)
            if mean is None:
                mean, squares, within = p.copy(), p * p, entropy(p)
            else:
                mean += p
                squares += p * p
                within += entropy(p)
        if mean is None:
            raise ValueError("an ensemble has members")
        n = np.float32(len(self._members))
        return np.concatenate([mean / n, disagreement(mean / n, squares / n, within / n, self._scheme)])


class _Stacked:
    """A stack with the disagreement of its members; the decided class is that of calibrated probabilities."""

    def __init__(self, predictor: OnnxPredictor, info: ModelInfo) -> None:
        self._predict, self._scheme, self._temperature = predictor, info.scheme, info.temperature

    def __call__(self, images: Mapping[str, Image]) -> Image:
        """Float32 ``(class + 2, y, x)``."""
        p, members = self._predict.with_members(images)
        mean: Image = members.mean(axis=0)
        within: Image = reduce(np.add, map(entropy, members)) / np.float32(len(members))
        squares: Image = np.square(members, out=members).mean(axis=0, dtype=np.float32)
        decided = self._scheme.decide(temper(p, self._temperature))  # another one than of p itself, with levels
        return np.concatenate([p, disagreement(mean, squares, within, self._scheme, decided)])


def has_members(model: AnyModel | Ensemble) -> bool:
    """Whether a map shows how far members disagree: those of an ensemble, or of an exported stack."""
    return isinstance(model, Ensemble) or (isinstance(model, MapModel) and bool(model.info.members))


def map_predictor(model: AnyModel | Ensemble) -> Predictor:
    """Predicts probabilities, and after them ``disagreement`` if the model has members."""
    if isinstance(model, MapModel) and model.info.members:
        return _Stacked(model.predictor(), model.info)
    return model.predictor()


def disagreement(
    mean: Probabilities,
    squares: Probabilities,
    within: npt.NDArray[np.float32],
    scheme: ClassScheme,
    decided: npt.NDArray[np.integer] | None = None,
) -> npt.NDArray[np.float32]:
    """How far members disagree: float32 ``(2, y, x)``.

    First the standard deviation over the members of the probability of the decided class; then
    their mutual information with the class, divided by the logarithm of the number of classes: the entropy of the mean
    less the mean entropy of the members, 0 where all predict the same (Houlsby et al. 2011, arxiv.org/abs/1112.5745).

    Args:
        mean: mean probabilities ``(class, y, x)``.
        squares: mean squares of the probabilities.
        within: mean entropy of the members ``(y, x)``.
        scheme: the classes.
        decided: index of the decided class ``(y, x)``; None decides by the mean.
    """
    chosen = (scheme.decide(mean) if decided is None else decided)[None]
    variance = np.take_along_axis(squares, chosen, 0)[0] - np.take_along_axis(mean, chosen, 0)[0] ** 2
    shared = (entropy(mean) - within) / np.float32(np.log(len(mean)))
    result: npt.NDArray[np.float32] = np.stack([np.sqrt(np.maximum(variance, 0)), np.maximum(shared, 0)])
    return result


def open_model(
    model: str | os.PathLike[str] | AnyModel | Ensemble | Sequence[str | os.PathLike[str] | AnyModel],
) -> AnyModel | Ensemble:
    """A model from its folder, a model that is open, or an ensemble of several.

    Raises:
        LulcbenchError: see ``MapModel.open`` and ``Ensemble``.
    """
    if isinstance(model, MapModel | OwnModel | Ensemble):
        return model
    if isinstance(model, str | os.PathLike):
        return MapModel.open(model)
    members = [own if isinstance(own, MapModel | OwnModel) else MapModel.open(own) for own in model]
    return members[0] if len(members) == 1 else Ensemble(tuple(members))
