"""Study files: which runs to make, which of them to compare, and what to plot. Unknown keys are errors."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from baselines.config import CONFIGS, Config
from baselines.registry import NotNegative, Part, Positive
from lulcbench._parsing import MAX_TEXT_BYTES, parse_toml, read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import METRICS

STUDIES = Path(__file__).parent
# Values of a run that do not come from its predictions; name → label.
TRAINING_VALUES = {
    "train_loss": "Training loss",
    "val_loss": "Validation loss",
    "loss_gap": "Validation loss − training loss",
    "training_minutes": "Minutes of training (processor time if without a GPU)",
    "parameters": "Parameters",
    "samples_kept": "Share of samples kept",
    "noise_left": "Share of wrong labels among kept samples",
}
# Those of which less is better.
LOWER_IS_BETTER = frozenset({"train_loss", "val_loss", "loss_gap", "training_minutes", "parameters", "noise_left"})
# The smallest run with the same code: one epoch of the smallest model of the kind.
REHEARSAL = {
    "train": {"epochs": 1, "steps": None, "max_minutes": None, "compile": False, "patience": None},
    "predict": {"tta": False},
}

Key = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
Settings = tuple[str, ...]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)]


class Base(Part):
    """A config of a study, ``[configs.NAME]``.

    Attributes:
        file: TOML file of the config, relative to ``baselines/configs``, or to the study if it begins with ``./``.
        set: settings ``section.key=value`` that replace those of the file.
        seeds: seeds of its runs; by default those of the study.
        predictions: name → settings of ``predict``; every trained model predicts with each of them.
    """

    file: str
    set: Settings = ()
    seeds: Seeds | None = None
    predictions: dict[Key, Settings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _only_predict(self) -> Base:
        for name, settings in self.predictions.items():
            for setting in settings:
                if not setting.startswith("predict."):
                    raise ValueError(
                        f"predictions.{name} sets {setting!r}, but only predict.… can be set after training"
                    )
        return self


class Versus(Part):
    """A comparison, ``[[comparisons]]``: first minus second.

    In the file, any key may have a list of values: a comparison for each combination.

    Attributes:
        first, second: runs: ``config``, ``config.setting``, or ``config.setting/prediction``.
        metric: metric of ``lulcbench score``, or a value of training such as ``loss_gap``.
        level: legend level; None means the finest that both have.
        where: pixels that count: all, those at the edges of label areas, or the others.
        expect: what the study expects of the first.
        margin: for ``no worse``: the largest difference that counts as no worse.
    """

    first: str
    second: str
    metric: str = "overall_accuracy"
    level: Annotated[int, Field(ge=1, le=4)] | None = None
    where: Literal["all", "edge", "interior"] = "all"
    expect: Literal["better", "worse", "no worse"] | None = None
    margin: NotNegative = 0.0


class Plot(Part):
    """A figure, ``[[figures]]``.

    Attributes:
        title: title.
        chart: ``points``: values by run; ``curves``: columns of the learning curves by epoch; ``classes``: F1 by class;
            ``tiles``: best and worst tiles of a run; ``agreement``: agreement between years by class; ``maps``:
            pictures of the predictions of the first tile.
        runs: runs to show; empty means all. ``tiles`` shows the first one, with its first seed.
        y: metric or value of training (``points``), or columns such as ``train_loss`` (``curves``).
        x: dotted key of the config whose value is the x axis (``points``); None shows the runs side by side.
        level: legend level; None means the finest.
    """

    title: str
    chart: Literal["points", "curves", "classes", "tiles", "agreement", "maps"]
    runs: tuple[str, ...] = ()
    y: tuple[str, ...] = ("overall_accuracy",)
    x: str | None = None
    level: Annotated[int, Field(ge=1, le=4)] | None = None


class Study(Part):
    """A study. Read it with ``Study.load``.

    Attributes:
        name, folder: name and folder of the file.
        title, question: heading and question of the page.
        core_minutes: estimated processor time of all runs, in minutes.
        seeds: seeds of all runs.
        set: settings of all configs.
        configs: name → config.
        settings: name → settings; each is combined with each config. Empty: the configs as they are.
        skip: combinations ``config.setting`` that are left out.
        metrics: columns of the table of scores.
        comparisons, figures: see their classes.
        note: how the results are to be read: explains findings that the study did not expect.
    """

    name: str
    folder: Path
    title: str
    question: str
    core_minutes: Positive
    seeds: Seeds = (0, 1, 2)
    set: Settings = ()
    configs: Annotated[dict[Key, Base], Field(min_length=1)]
    settings: dict[Key, Settings] = Field(default_factory=dict)
    skip: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("overall_accuracy", "weighted_f1", "macro_f1", "miou", "log_loss")
    comparisons: tuple[Versus, ...] = ()
    figures: tuple[Plot, ...] = ()
    note: str = ""

    @field_validator("comparisons", mode="before")
    @classmethod
    def _expanded(cls, tables: Any) -> Any:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            return tables
        values = [[v if isinstance(v, list) else [v] for v in table.values()] for table in tables]
        combined = zip(tables, (product(*lists) for lists in values), strict=True)
        return [dict(zip(table, chosen, strict=True)) for table, combinations in combined for chosen in combinations]

    @classmethod
    def load(cls, study: str | Path) -> Study:
        """Read a study by name (``baselines/studies/NAME.toml``) or path.

        Raises:
            LulcbenchError: the file is missing or is not TOML, has an unknown key or an invalid value, or names runs or
                metrics that do not exist.
        """
        path = Path(study)
        if path.suffix != ".toml":
            path = STUDIES / f"{study}.toml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in STUDIES.glob("*.toml"))) or "none yet"
            raise LulcbenchError(f"There is no study {str(study)!r}.", f"There are: {known}; or give a TOML file.")
        content = parse_toml(read_limited(path, MAX_TEXT_BYTES), str(path), "Compare it with baselines/studies/.")
        try:
            loaded = cls.model_validate(content | {"name": path.stem, "folder": path.parent})
        except ValidationError as error:
            lines = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'study'}: {e['msg']}" for e in error.errors())
            raise LulcbenchError(
                f"{path}: {lines}.", "The keys are documented in baselines/studies/study.py."
            ) from error
        loaded._check(path)
        return loaded

    def _check(self, path: Path) -> None:
        runs = {name for name, *_ in self._combinations(with_skipped=True)}
        if unknown := [name for name in self.skip if name not in runs]:
            raise LulcbenchError(
                f"{path}: skip names {', '.join(unknown)}.", f"The runs are {', '.join(sorted(runs))}."
            )
        shown = {f"{run}/{p}" if p else run for run, base, _ in self._combinations() for p in base.predictions or ("",)}
        named = [name for c in self.comparisons for name in (c.first, c.second)]
        named += [name for figure in self.figures for name in figure.runs]
        for name in named:
            if name not in shown:
                raise LulcbenchError(f"{path}: there is no run {name!r}.", f"The runs are {', '.join(sorted(shown))}.")
        metrics = [*self.metrics, *(c.metric for c in self.comparisons)]
        metrics += [y for figure in self.figures if figure.chart == "points" for y in figure.y]
        for metric in metrics:
            if metric not in METRICS and metric not in TRAINING_VALUES:
                known = ", ".join([*METRICS, *TRAINING_VALUES])
                raise LulcbenchError(f"{path}: there is no metric {metric!r}.", f"There are {known}.")
        for c in self.comparisons:
            if c.metric in TRAINING_VALUES and (c.level or c.where != "all"):
                raise LulcbenchError(
                    f"{path}: {c.metric} has neither a level nor a place, but a comparison sets them.", "Remove them."
                )
            if c.where != "all" and METRICS[c.metric].family is not Family.CLASSES:
                raise LulcbenchError(f"{path}: {c.metric} is not counted at edges.", 'Set where = "all".')

    def _combinations(self, with_skipped: bool = False) -> Iterator[tuple[str, Base, Settings]]:
        for name, base in self.configs.items():
            for setting, values in (self.settings or {"": ()}).items():
                run = f"{name}.{setting}" if setting else name
                if with_skipped or run not in self.skip:
                    yield run, base, (*self.set, *base.set, *values)

    def jobs(self, root: Path | None = None, rehearse: bool = False) -> list[Job]:
        """All runs, seed by seed: the first seed of every run precedes the second.

        Args:
            root: folder of the release that replaces the ``data.root`` of all configs.
            rehearse: the smallest model of each kind for one epoch, with one seed.
        """
        jobs = [
            Job(self, run, seed, base, settings, root, rehearse)
            for run, base, settings in self._combinations()
            for seed in (base.seeds or self.seeds)[: 1 if rehearse else None]
        ]
        return sorted(jobs, key=lambda job: (job.base.seeds or self.seeds).index(job.seed))


@dataclass(frozen=True, slots=True)
class Job:
    """One model to train, and its predictions.

    Attributes:
        study: the study.
        run: name of the run.
        seed: seed.
        base: config of the study.
        settings: settings of study, config and combination.
        root: see ``Study.jobs``.
        rehearse: see ``Study.jobs``.
    """

    study: Study
    run: str
    seed: int
    base: Base
    settings: Settings
    root: Path | None
    rehearse: bool

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{self.run}-seed{self.seed}"

    def config(self) -> Config:
        """The config of training, named after its content, so that studies share runs with the same settings.

        Raises:
            LulcbenchError: the file is missing, or a setting is unknown or invalid.
        """
        config = self._load(())
        # Without defaults: settings that a newer version adds leave the names as they are.
        kinds = [config.data.kind, config.task.kind, config.model.kind]
        content = json.dumps([*kinds, config.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)])
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        return config.replace(name=f"{config.model.kind}-seed{self.seed}-{key}")

    def predictions(self) -> dict[str, Config]:
        """Name of the prediction → config with its settings; the name is empty if the config declares none."""
        return {name: self._load(values) for name, values in (self.base.predictions or {"": ()}).items()}

    def _load(self, more: Settings) -> Config:
        path = (self.study.folder if self.base.file.startswith("./") else CONFIGS) / self.base.file
        settings = (*self.settings, *more)
        if self.root is not None:
            settings += (f"data.root={json.dumps(str(self.root))}",)
            if any(re.match(r"predict\.root\s*=", setting) for setting in settings):
                settings += (f"predict.root={json.dumps(str(self.root))}",)
        config = Config.load(path, settings)
        if self.rehearse:
            config = config.replace(**REHEARSAL, model=config.model.small())
        return config.replace(seed=self.seed)
