"""A recipe as a whole, and what its tables must have in common."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from builders.recipe.sections import Download, IngestRule, LabelRule, PackRule, Region, SensorRule, SplitRule
from lulcbench._files import Frozen, Name
from lulcbench.release import Source, split_order
from lulcbench.release.entries import COLUMN_PREFIXES
from lulcbench.seasons import SEASONS, Season


class Recipe(Frozen):
    """Everything a build depends on. Load it with ``load``.

    Attributes:
        catalog: catalog or STAC API of all sensors that do not name their own.
        empty_tiles: a tile without one valid pixel of a required sensor is an error, or is dropped and reported.
        lock: a committed search result to use in place of searching.
        labels: of any number of years and sources; none make a release of imagery alone.
        label_licence: of labels that do not name their own, and of the tables and texts.
    """

    name: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    title: str
    description: str
    simulated: bool
    catalog: str = ""
    lock: Path | None = None
    empty_tiles: Literal["error", "drop"] = "error"
    regions: Annotated[tuple[Region, ...], Field(min_length=1)]
    split: SplitRule = SplitRule()
    seasons: Annotated[tuple[Season, ...], Field(min_length=1)] = SEASONS
    sensors: Annotated[tuple[SensorRule, ...], Field(min_length=1)]
    labels: tuple[LabelRule, ...]
    pack: PackRule = PackRule()
    label_licence: str = "CC-BY-4.0"
    sources: tuple[Source, ...] = ()
    downloads: tuple[Download, ...] = ()
    simulate: dict[str, Any] | None = None
    ingest: IngestRule | None = None

    @field_validator("regions")
    @classmethod
    def _divided(cls, regions: tuple[Region, ...]) -> tuple[Region, ...]:
        return tuple(part for region in regions for part in region.divided())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, names in (
            ("region", [r.name for r in self.regions]),
            ("sensor", [s.name for s in self.sensors]),
            ("season", [s.name for s in self.seasons]),
            ("label array", [str(label.array) for label in self.labels]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"a {what} is named twice: {names}")
        clashes = {label.name for label in self.labels} & {*COLUMN_PREFIXES, *(rule.name for rule in self.sensors)}
        if clashes:
            raise ValueError(f"labels cannot be named {min(clashes)!r}: it is in use")
        for name in sorted({label.name for label in self.labels}):
            licences = {self.licence_of(label) for label in self.labels if label.name == name}
            if len(licences) > 1:
                raise ValueError(f"labels of {name} have several licences: {', '.join(sorted(licences))}")
        unknown = set(self.split.unlabelled) - set(self.splits)
        if unknown and not self.split.file:
            raise ValueError(f"unlabelled names {min(unknown)!r}, which no fraction or region does")
        if not self.labels and any(region.bounds is None and region.area is None for region in self.regions):
            raise ValueError("a region needs bounds or an area where there are no labels to take them from")
        lacking = [rule.name for rule in self.sensors if not self.catalog_of(rule)]
        if lacking:
            raise ValueError(f"catalog is missing, which {lacking[0]} needs")
        if self.simulate is not None and self.ingest is not None:
            raise ValueError("a recipe has a [simulate] table or an [ingest] table, not both")
        if self.simulate is not None and not self.simulated:
            raise ValueError("the [simulate] table makes simulated data: state simulated = true")
        return self

    @property
    def splits(self) -> tuple[str, ...]:
        """All splits that regions and, where they leave tiles to share out, fractions name; in their order."""
        own = [region.split for region in self.regions]
        shared = [split for split, share in self.split.fractions.items() if share and None in own]
        return tuple(split_order([*shared, *filter(None, own)]))

    def labelled(self, split: str) -> bool:
        """Whether tiles of a split get labels."""
        return bool(self.labels) and split not in self.split.unlabelled

    def catalog_of(self, rule: SensorRule) -> str:
        """Where the scenes of a sensor are listed."""
        return rule.catalog or self.catalog

    def licence_of(self, label: LabelRule) -> str:
        """Licence of labels."""
        return label.licence or self.label_licence

    def key(self, *parts: str) -> str:
        """SHA-256 of some of the recipe's fields: what a stage depends on. Areas are files, whose content counts."""
        content = self.model_dump(mode="json", include=set(parts), exclude={"regions": {"__all__": {"area"}}})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
