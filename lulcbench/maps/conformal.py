"""Conformal answers: the finest class of the legend that is certain at a stated coverage.

The sets are the classes of the legend themselves. A pixel's decided class has one ancestor at each coarser level, and
above level 1 all classes; the probability of a class is the sum over its children, so it grows upwards. The answer is
the finest of these whose probability is at least a threshold. It is wrong if the label is not in it, and a higher
threshold only makes answers coarser, so that errors can be controlled.

The threshold is found on labelled tiles by conformal risk control (Angelopoulos et al. 2024, arxiv.org/abs/2208.02814).
Pixels next to each other are not exchangeable, but spatial blocks are: the loss of a block is the share of its pixels
with a wrong answer, and the threshold is the lowest for which ``n / (n + 1) · mean loss + 1 / (n + 1)`` over the n
blocks is at most 1 − coverage. The expected loss in a block that was not used then is at most that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from lulcbench._files import Frozen, write_atomic
from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import CorruptFileError, LulcbenchError, UnsupportedFormatError
from lulcbench.grid import LABEL_RESOLUTION, Tile
from lulcbench.legend import NODATA, ClassScheme
from lulcbench.maps.answers import probability_of
from lulcbench.maps.dated import open_imagery
from lulcbench.maps.lattice import Index, Lattice
from lulcbench.maps.model import MapModel, step_of
from lulcbench.maps.smoothing import Smoothing
from lulcbench.maps.windows import Predicted, predict_block, predict_window
from lulcbench.release import Release, Row, Sha256

FILE = "conformal.json"
FORMAT: Final = "lulcbench-conformal/2"
_WINDOWS = 4  # that are kept: blocks of neighbouring tiles share windows

Scores = npt.NDArray[np.float32]


class Calibration(Frozen):
    """What ``calibrate`` found, ``conformal.json`` beside the model.

    Attributes:
        model: digest of the model.
        release: digest of the release with the labels.
        smoothing: of the probabilities; None if there was none.
        halo: pixels around a block that the model saw.
        overlap: pixels in which neighbouring windows were blended.
        coverage: wanted share of right answers.
        threshold: of the probability of an answer; above 1 where nothing is certain.
        blocks: number of spatial blocks.
        pixels: number of label pixels.
    """

    format: Literal["lulcbench-conformal/2"] = FORMAT
    model: Sha256
    release: Sha256
    split: str
    year: int
    smoothing: Smoothing | None = None
    halo: Annotated[int, Field(ge=0)]
    overlap: Annotated[int, Field(ge=0)]
    coverage: Annotated[float, Field(gt=0, lt=1)]
    threshold: Annotated[float, Field(ge=0, le=2)]
    blocks: Annotated[int, Field(gt=0)]
    pixels: Annotated[int, Field(gt=0)]

    @classmethod
    def of(cls, model: MapModel) -> Calibration | None:
        """The calibration of a model; None if there is none.

        Raises:
            CorruptFileError: it is damaged, or of another model.
            UnsupportedFormatError: it is of another format version.
        """
        path = model.folder / FILE
        if not path.is_file():
            return None
        remedy = "Run 'lulcbench calibrate' again, or delete it."
        content = parse_json(read_limited(path, 2**16, remedy), str(path), remedy)
        if content.get("format") != FORMAT:
            raise UnsupportedFormatError(
                f"{path} has format {str(content.get('format'))[:80]!r}, this lulcbench reads {FORMAT!r}.", remedy
            )
        try:
            found = cls.model_validate_json(json.dumps(content))
        except ValidationError as error:
            raise CorruptFileError(f"{path} is damaged: {error.errors()[0]['msg']}.", remedy) from error
        if found.model != model.digest:
            raise CorruptFileError(f"{path} is of another model.", remedy)
        return found

    def check(self, model: MapModel, lattice: Lattice, smoothing: Smoothing | None) -> None:
        """Refuse maps whose probabilities are made otherwise than those of the calibration.

        Raises:
            LulcbenchError: smoothing, halo or overlap differ.
        """
        how = (
            f"{'with' if self.smoothing else 'without'} smoothing"
            if self.smoothing != smoothing
            else f"with a halo of {self.halo} and an overlap of {self.overlap} pixels, not {lattice.halo} and "
            f"{lattice.overlap}"
        )
        if (self.smoothing, self.halo, self.overlap) != (smoothing, lattice.halo, lattice.overlap):
            raise LulcbenchError(
                f"{model.info.name} was calibrated {how}.",
                f"Calibrate it as it is mapped ('lulcbench calibrate'), or delete {FILE} in {model.folder}.",
            )


def calibrate(
    model: str | Path,
    root: str | Path,
    split: str = "val",
    year: int | None = None,
    coverage: float = 0.9,
    smoothing: Smoothing | None = None,
    halo: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Find the threshold on the labelled tiles of a split and write it beside the model.

    Args:
        model: folder of an exported model.
        root: folder or URL of a release with labels.
        split: that was not used in training.
        year: of imagery and labels; None takes the last one of the labels.
        coverage: wanted share of right answers.
        smoothing: of the maps that will be made.
        halo: likewise; see ``MapOptions``.
        progress: is told the numbers of finished tiles and of all tiles.

    Raises:
        LulcbenchError: there are no labels, or too few spatial blocks for this coverage.
    """
    opened, release = MapModel.open(model), Release.open(root)
    info, manifest = opened.info, release.manifest
    scheme = info.scheme
    source = manifest.choose_labels()
    year = max(manifest.labels[source].years) if year is None else year
    imagery = open_imagery(release, info, year)
    lattice = Lattice.of(info.resolution, info.reach, step_of(info), halo, smoothing.margin if smoothing else 0)
    window = partial(
        predict_window, opened.predictor(), imagery, lattice, temperature=info.temperature, smoothing=smoothing
    )
    predict = lru_cache(_WINDOWS)(window)
    tiles = release.tiles(split)
    scores: dict[str, list[Scores]] = {}
    for at, (tile, block) in enumerate(zip(tiles.ids, tiles.blocks, strict=True)):
        labels = release.labels(split, year, [Row(tiles.first + at)])[0]
        p, valid = _on_labels(predict, lattice, Tile.from_id(tile), len(info.classes))
        scores.setdefault(block, []).append(nonconformity(p, np.where(valid, labels, NODATA), scheme))
        if progress:
            progress(at + 1, len(tiles.ids))
    by_block = {block: np.concatenate(parts) for block, parts in scores.items()}
    by_block = {block: own for block, own in by_block.items() if len(own)}
    found = Calibration(
        model=opened.digest,
        release=release.digest,
        split=split,
        year=year,
        smoothing=smoothing,
        halo=lattice.halo,
        overlap=lattice.overlap,
        coverage=coverage,
        threshold=threshold(by_block, coverage),
        blocks=len(by_block),
        pixels=sum(map(len, by_block.values())),
    )
    write_atomic(opened.folder / FILE, (found.model_dump_json(indent=1) + "\n").encode())
    return found


def nonconformity(p: npt.NDArray[np.float32], labels: npt.NDArray[np.uint16], scheme: ClassScheme) -> Scores:
    """The threshold that a pixel's answer must not reach, or it is wrong: float32 ``(n,)`` of the labelled pixels.

    This is the probability of the coarsest class among the decided one and its ancestors that does not contain the
    label; 0 if all contain it. Labels that are coarser than a class do not contradict it.

    Args:
        p: probabilities ``(class, …)``.
        labels: LUISA codes of any level ``(…)``; 0 is left out, and what is of none of the classes.
        scheme: the classes.
    """
    labelled = scheme.from_luisa(labels, 1) != NODATA
    p, truth = p[:, labelled], labels[labelled]
    chosen = scheme.decide(p)
    scores = np.zeros(len(truth), np.float32)
    for at in reversed(scheme.levels):  # coarser classes replace finer ones
        expected = scheme.from_luisa(truth, at)
        decided = scheme.codes_over(at)[chosen]
        wrong = (expected != NODATA) & (expected != decided)
        scores = np.where(wrong, probability_of(p, chosen, scheme, at), scores)
    return scores


def threshold(scores: Mapping[str, Scores], coverage: float) -> float:
    """The lowest threshold that controls the expected loss of a block.

    Args:
        scores: of the pixels of each spatial block, see ``nonconformity``.
        coverage: wanted share of right answers.

    Raises:
        LulcbenchError: there are too few blocks.

    Examples:
        >>> blocks = {str(i): np.array([0.1 * (i % 10)], np.float32) for i in range(100)}
        >>> round(threshold(blocks, 0.9), 3)  # a tenth of the pixels may be wrong, less a reserve of 1 / 101
        0.9
    """
    n = len(scores)
    allowed = ((1 - coverage) * (n + 1) - 1) / n if n else -1.0
    if allowed < -1e-9:  # rounding aside
        raise LulcbenchError(
            f"{n} spatial blocks are too few to be certain at {coverage:.0%}.",
            f"Use a split with at least {math.ceil(coverage / (1 - coverage) - 1e-9)} blocks, or a lower coverage.",
        )
    values = np.concatenate(list(scores.values())).astype(np.float64)
    weights = np.concatenate([np.full(len(own), 1 / (len(own) * n)) for own in scores.values()])
    order = np.argsort(-values, kind="stable")
    values, loss = values[order], np.cumsum(weights[order])
    # The loss at a threshold t is the weight of the scores that are at least t.
    first = int(np.searchsorted(loss, allowed + 1e-12, side="right"))
    if first == len(values):
        return 0.0
    return float(np.nextafter(np.float32(values[first]), np.float32(2)))


def _on_labels(
    predict: Callable[[Index], Predicted], lattice: Lattice, tile: Tile, classes: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Probabilities of a map at the centres of the label pixels of a tile, and where there are data."""
    left, _, _, top = tile.bounds
    n = tile.shape(LABEL_RESOLUTION)[0]
    centres = (np.arange(n) + 0.5) * LABEL_RESOLUTION
    p = np.zeros((classes, n, n), np.float32)
    valid = np.zeros((n, n), bool)
    for index in lattice.blocks(tile.bounds):
        x0, y0, x1, y1 = lattice.block(index)
        rows = np.flatnonzero((top - centres > y0) & (top - centres < y1))
        columns = np.flatnonzero((left + centres > x0) & (left + centres < x1))
        if not (len(rows) and len(columns)):
            continue
        predicted = predict_block(predict, lattice, index, classes)
        if predicted.p is None:
            continue
        y = ((y1 - top + centres[rows]) / lattice.resolution).astype(np.intp)
        x = ((left + centres[columns] - x0) / lattice.resolution).astype(np.intp)
        p[:, rows[:, None], columns] = predicted.p[:, y[:, None], x]
        valid[rows[:, None], columns] = predicted.counts["composites"][y[:, None], x] > 0
    return p, valid
