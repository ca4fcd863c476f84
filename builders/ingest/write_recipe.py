"""A recipe for ingested scenes, ready to build and to edit."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from builders.archives import label_source
from builders.ingest.folder import L1C_COLLECTION, SceneFiles
from builders.readers.opening import states_simulated
from builders.recipe import LabelRule
from lulcbench.errors import LulcbenchError
from lulcbench.grid import TILE_SIZE, Bounds
from lulcbench.legend import NODATA, legend


def recipe_text(name: str, scenes: Sequence[SceneFiles], labels: LabelRule | None, folder: Path) -> str:
    """The recipe.

    Args:
        name: of the release.
        scenes: of the catalog ``catalog/catalog.json`` in ``folder``.
        labels: None leaves the table out.
        folder: of the recipe, which paths are relative to.

    Raises:
        LulcbenchError: scenes and labels do not overlap, or the labels cannot be read.
    """
    bounds = _extent(scenes, labels)
    simulated = any(scene.simulated for scene in scenes) or (labels is not None and states_simulated(labels.path))
    tiles = math.prod(math.ceil(bounds[i + 2] / TILE_SIZE) - math.floor(bounds[i] / TILE_SIZE) for i in (0, 1))
    description = (
        f"{len(scenes)} scene{'s' * (len(scenes) > 1)} of {', '.join(sorted({scene.sensor.name for scene in scenes}))}."
    )
    if any(scene.collection == L1C_COLLECTION for scene in scenes):
        description += " Sentinel-2 is Level-1C: reflectance at the top of the atmosphere, not of the surface."
    if any(scene.quality is None for scene in scenes):
        description += " Scenes without a quality layer count as clear."
    parts = [
        f"# Written by 'python -m builders ingest'. builders/recipe/ describes every key.\n"
        f"name = {_text(name)}\n"
        f'version = "0.1.0"\n'
        f"title = {_text(name)}\n"
        f"description = {_text(description)}\n"
        f"simulated = {str(simulated).lower()}\n"
        f'catalog = "catalog/catalog.json"\n'
        f'empty_tiles = "drop"  # tiles without a valid pixel\n'
        f'label_licence = "other"  # an SPDX id or a URL: state it before you publish',
        f'[[regions]]\nname = "all"\n'
        f"bounds = {[int(value) for value in bounds]}  # EPSG:3035 metres: where there are scenes and labels\n"
        f"whole = false  # tiles that the extent touches",
        _split(tiles, labels),
        "[[seasons]]  # one composite of the whole year; add tables for more\n"
        'name = "year"\nstart = "01-01"\nend = "12-31"',
        *(_sensor(sensor, scenes, labels) for sensor in sorted({scene.sensor.name for scene in scenes})),
        *([_labels(labels, folder)] if labels else []),
    ]
    return "\n\n".join(parts) + "\n"


def _split(tiles: int, labels: LabelRule | None) -> str:
    small, tiny = tiles < 100, tiles < 5
    lines = [
        "[split]",
        f"block = {1 if small else 10}  # side of a spatial block in tiles of 4,800 m",
        f"buffer = {0 if small else 1}  # tiles left out between splits",
        "fractions = { train = 1.0 }  # too few tiles for more"
        if tiny
        else "fractions = { train = 0.6, val = 0.2, test = 0.2 }",
        "min_labelled = 0.01  # least labelled share of a tile",
    ]
    if labels and labels.codes:
        codes = {code for code in labels.codes.values() if code != NODATA}
        coarsest = min((legend().classes[code].level for code in codes), default=2)
        if coarsest < 2:
            lines.append(f"stratify_level = {coarsest}  # the coarsest of the mapped codes")
    return "\n".join(lines)


def _sensor(name: str, scenes: Sequence[SceneFiles], labels: LabelRule | None) -> str:
    own = [scene for scene in scenes if scene.sensor.name == name]
    common = set.intersection(*({band.name for band in scene.bands} for scene in own))
    bands = [band.name for band in own[0].sensor.bands if band.name in common]
    years = sorted({year for scene in own for year in scene.years})
    lines = [
        "[[sensors]]",
        f"name = {_text(name)}",
        f"bands = [{', '.join(map(_text, bands))}]",
        f"years = {[labels.year] if labels else years}",
    ]
    if labels and labels.year not in years:
        first, last = min(scene.times[0] for scene in own).date(), max(scene.times[1] for scene in own).date()
        lines.append(f'acquired = ["{first}", "{last}"]  # no scene is of {labels.year}: days of all scenes instead')
    if own[0].collection != own[0].sensor.collection:
        lines.append(f"collection = {_text(own[0].collection)}")
    if own[0].sensor.quality_asset and any(scene.quality is None for scene in own):
        lines.append('quality = "optional"  # scenes without a quality layer count as clear')
    lines.append('licence = "other"  # an SPDX id or a URL: state it before you publish')
    return "\n".join(lines)


def _labels(rule: LabelRule, folder: Path) -> str:
    path = Path(os.path.relpath(rule.path.resolve(), folder.resolve())).as_posix()
    lines = ["[[labels]]", f"year = {rule.year}", f"source = {_text(rule.source)}", f"path = {_text(path)}"]
    lines += [f"{key} = {_text(value)}" for key in ("layer", "field") if (value := getattr(rule, key))]
    if rule.band is not None:
        lines.append(f"band = {rule.band if isinstance(rule.band, int) else _text(rule.band)}")
    lines.append(f"sha256 = {_text(rule.sha256 or '')}")
    if rule.codes is not None:
        lines.append("[labels.codes]  # own code or word = LUISA code")
        lines += [f"{_key(own)} = {code}" for own, code in rule.codes.items()]
    return "\n".join(lines)


def of_other_years(scenes: Sequence[SceneFiles], labels: LabelRule | None) -> list[SceneFiles]:
    """Scenes that the recipe does not use: those of other years than the labels, if a sensor has some of that year."""
    if labels is None:
        return []
    sensors = {scene.sensor.name for scene in scenes if labels.year in scene.years}
    return [scene for scene in scenes if scene.sensor.name in sensors and labels.year not in scene.years]


def _extent(scenes: Sequence[SceneFiles], labels: LabelRule | None) -> Bounds:
    """Extent of the scenes, as far as labels reach, in whole metres."""
    left, bottom, right, top = zip(*(scene.bounds for scene in scenes), strict=True)
    bounds = (min(left), min(bottom), max(right), max(top))
    if labels is not None:
        box = label_source(labels).bounds()
        bounds = (max(bounds[0], box[0]), max(bounds[1], box[1]), min(bounds[2], box[2]), min(bounds[3], box[3]))
    if bounds[0] >= bounds[2] or bounds[1] >= bounds[3]:
        raise LulcbenchError("Scenes and labels do not overlap.", "Check their coordinate reference systems.")
    # Rounding must not add a row of tiles that are touched by a fraction of a metre.
    return (round(bounds[0]), round(bounds[1]), round(bounds[2]), round(bounds[3]))


def _key(value: str) -> str:
    return value if re.fullmatch(r"[A-Za-z0-9_-]+", value) else _text(value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
