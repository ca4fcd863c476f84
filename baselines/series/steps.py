"""Steps 1 and 2 of a run, each kept in a file, so that a run that was stopped continues with the next step."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from baselines.arrays import read_arrays
from baselines.series.pool import Pool, SeriesReader
from baselines.series.pseudo import PseudoLabels, PseudoRule, check_classes, draw, grow, label_years
from baselines.series.samples import Cleaned, SampleRule, clean, inject_noise
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.legend import ClassScheme

Arrays = dict[str, npt.NDArray[Any]]
VERSION = "series/3"  # of the content of the files; incremented when a step changes


@dataclass(frozen=True)
class TrainingSet:
    """Samples of one split: series of one pixel and year each.

    Attributes:
        values: float32 ``(n, step · feature)``, in the unit of the features.
        labels: class indices ``(n,)``.
        years: year of each sample, ``(n,)``.
        blocks: spatial block of each sample, ``(n,)``.
    """

    values: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    years: npt.NDArray[np.int64]
    blocks: npt.NDArray[np.str_]


@dataclass(frozen=True)
class Steps:
    """The steps from a release to training sets.

    Attributes:
        reader: reads series.
        cache: folder of the files.
        label_year, labels: year and source of the map that labels come from.
        scheme: its classes.
        most: largest number of cells of one polygon in the pool.
        noise: share of the labels that are made wrong before step 1, to measure how much of it remains.
        samples, pseudo: settings of steps 1 and 2.
        seed: seed of all draws.
        scheduler: address of a dask scheduler, whose workers read tiles and label cells; None does so here.
    """

    reader: SeriesReader
    cache: Path
    label_year: int
    labels: str
    scheme: ClassScheme
    most: int
    noise: float
    samples: SampleRule
    pseudo: PseudoRule
    seed: int
    scheduler: str | None = None

    def pool(self, split: str) -> Pool:
        """The cells of a split that labels are chosen from."""
        content = self._kept(
            {"step": "pool", "split": split},
            lambda: _arrays_of(
                self.reader.pool(split, self.label_year, self.scheme, self.most, self.seed, self.labels, self.scheduler)
            ),
        )
        return Pool(content["values"], content["labels"], content["polygons"], content["blocks"], self.reader.years)

    @cached_property
    def reliable(self) -> tuple[Cleaned, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Step 1 on the train split: what is kept, the labels that were cleaned, and which are wrong by ``noise``."""
        pool = self.pool("train")
        labels, polygons, wrong = inject_noise(pool.labels, pool.polygons, self.noise, self.seed)
        year = self._label_position
        found = self._kept(
            {"step": "samples", "rule": self.samples.model_dump(), "noise": self.noise},
            lambda: _cleaned(clean(pool.flat[:, year], labels, polygons, pool.blocks, self.samples, self.seed)),
        )
        return Cleaned(found["kept"], found["reasons"]), labels, wrong

    def pseudo_labels(self, split: str) -> PseudoLabels:
        """Step 2: labels of the cells of a split in every year."""
        rule = {"step": "pseudo", "rule": self.samples.model_dump(), "noise": self.noise, "trees": self.pseudo.trees}
        found = self._kept(rule | {"split": split, "omit": self.pseudo.omit}, lambda: self._label(split))
        return PseudoLabels(found["labels"], found["confidence"])

    def training_set(self, split: str, years: tuple[int, ...] | None = None) -> TrainingSet:
        """Drawn cells of a split: one sample per cell and year.

        Args:
            split: ``train`` or ``val``, whose spatial blocks differ.
            years: years of the samples; None takes all.

        Raises:
            LulcbenchError: a class has no reliable sample, or labels of all cells change between years.
        """
        pool, pseudo = self.pool(split), self.pseudo_labels(split)
        count = self.pseudo.train if split == "train" else self.pseudo.val
        rows = draw(pseudo, pool.blocks, count, self.pseudo.changing, self.seed)
        at = [pool.years.index(year) for year in (years or pool.years)]
        flat = pool.flat[rows][:, at]
        return TrainingSet(
            flat.reshape(len(rows) * len(at), -1),
            pseudo.labels[rows][:, at].ravel(),
            np.tile(np.array(pool.years)[at], len(rows)),
            np.repeat(pool.blocks[rows], len(at)),
        )

    @property
    def _label_position(self) -> int:
        """Position of the year of the imagery nearest to the map's; of two, the later: a map may be old, not new."""
        distances = [(abs(year - self.label_year), -year) for year in self.reader.years]
        return distances.index(min(distances))

    def _label(self, split: str) -> Arrays:
        train = self.pool("train")
        cleaned, labels, _ = self.reliable
        check_classes(labels, labels[cleaned.kept], self.scheme.names, self.pseudo.omit)
        if not cleaned.kept.any():
            raise LulcbenchError("No sample is reliable.", "Relax data.samples.")
        features = train.flat[cleaned.kept][:, self._label_position]
        forest = grow(features, labels[cleaned.kept], self.pseudo.trees, self.seed)
        pseudo = label_years(forest, self.pool(split).flat, self.scheduler)
        return {"labels": pseudo.labels, "confidence": pseudo.confidence.astype(np.float32)}

    def _kept(self, step: dict[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """The arrays of a step, from its file if there is one."""
        subset = self.scheme.subset
        key = {
            "version": VERSION,
            "release": self.reader.release.digest,
            "sensor": self.reader.sensor,
            "years": self.reader.years,
            "every": self.reader.every,
            "features": self.reader.features,
            "labels": (self.labels, self.label_year, self.scheme.depth if subset is None else subset.digest),
            "most": self.most,
            "seed": self.seed,
        } | step
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
        path = self.cache / f"{step['step']}-{digest}.npz"
        with suppress(LulcbenchError):  # not made yet, or cut off
            return read_arrays(path, "Delete it.")
        arrays = make()
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]  # names are not those of its options
        write_atomic(path, content.getvalue())
        return arrays


def _arrays_of(pool: Pool) -> Arrays:
    return {"values": pool.values, "labels": pool.labels, "polygons": pool.polygons, "blocks": pool.blocks}


def _cleaned(cleaned: Cleaned) -> Arrays:
    return {"kept": cleaned.kept, "reasons": cleaned.reasons}
