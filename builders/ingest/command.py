"""What ``python -m builders ingest FOLDER`` does: catalog and recipe of own scenes and labels."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from builders.ingest.folder import SceneFiles, Understood, understand, write_catalog
from builders.ingest.own_labels import label_rule
from builders.ingest.write_recipe import of_other_years, recipe_text
from builders.recipe import IngestRule, LabelRule, load
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError

OwnLabels = tuple[Path | None, str | None, Path | None, str | None, str | None, str | None, int | None]


def ingest_rule(folder: Path, bands: str | None, dates: list[str], told: dict[str, Any]) -> IngestRule:
    """The options of the command as a rule.

    Raises:
        LulcbenchError: an option is wrong.
    """
    given = {key: value for key, value in told.items() if value is not None}
    spans = [span.split("/") for span in dates]
    if len(spans) == 1 and len(spans[0]) == 2:
        given["acquired"] = spans[0]
    else:
        given["dates"] = dates
    names = tuple(name.strip() for name in bands.split(",")) if bands else ()
    try:
        return IngestRule(path=folder.resolve(), bands=names, **given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "options"
        raise LulcbenchError(
            f"{where}: {first['msg']}.", "See 'python -m builders ingest --help'; dates are such as 2018-07-02."
        ) from error


def run(rule: IngestRule, out: Path, name: str, own: OwnLabels, replace: bool) -> Understood:
    """Write ``out/catalog`` and ``out/recipe.toml``; nothing, if anything is not understood.

    Args:
        rule: the scenes.
        out: folder.
        name: of the release.
        own: labels, their source, mapping, field, layer, band and year.
        replace: whether a recipe may be written again.

    Raises:
        LulcbenchError: there is a recipe already, or scenes or labels are not understood.
    """
    recipe = out / "recipe.toml"
    if recipe.exists() and not replace:
        raise LulcbenchError(f"{recipe} exists.", "Choose another folder with --out; or write it again with --replace.")
    path, source, mapping, field, layer, band, year = own
    understood = understand(rule, [path] if path else [])
    labels: LabelRule | None = None
    if path is not None:
        year = year or _year(understood.scenes)
        labels = label_rule(path.resolve(), year, source, mapping, field, layer, band, out / "mapping.toml")
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "scenes"
    text = recipe_text(slug, understood.scenes, labels, out)
    partial = out / "catalog-partial"
    shutil.rmtree(partial, ignore_errors=True)
    write_catalog(understood.scenes, partial, slug)
    shutil.rmtree(out / "catalog", ignore_errors=True)
    partial.rename(out / "catalog")
    write_atomic(recipe, text.encode())
    if labels is not None:
        load(recipe, out)
        if (labels.codes or {}).get("0") == 0:
            understood.unused.append((labels.path, "pixels of the value 0 are unlabelled: map 0 if it is a class"))
        for scene in of_other_years(understood.scenes, labels):
            why = f"of {scene.times[0].year}: the recipe is of {labels.year}, the year of the labels"
            understood.unused.append((scene.files[0].path, why))
    return understood


def summary(understood: Understood) -> list[str]:
    """What was understood, as lines of text; scenes that differ in date alone stand together."""
    alike: dict[tuple[str, ...], list[SceneFiles]] = {}
    for scene in understood.scenes:
        kind = " ".join(filter(None, (scene.sensor.name, scene.platform, scene.level)))
        layer = f"{scene.sensor.quality_asset}" if scene.quality else "none: all pixels count as clear"
        bands = " ".join(band.name for band in scene.bands)
        alike.setdefault((kind, bands, scene.coding, scene.crs, layer), []).append(scene)
    lines = []
    for (kind, *rest), scenes in alike.items():
        lines.append(f"{len(scenes)} scene{'s' * (len(scenes) > 1)} of {kind}")
        for what, text in zip(("bands", "values", "CRS", "quality layer"), rest, strict=True):
            lines.append(f"  {what:<14}{text}")
        for i, scene in enumerate(scenes):
            when = " to ".join(dict.fromkeys(f"{time:%Y-%m-%d}" for time in scene.times))
            lines.append(f"  {'' if i else 'acquired':<14}{when}  {scene.id}")
    return lines + [f"not used: {path.name}: {reason}" for path, reason in understood.unused]


def _year(scenes: list[SceneFiles]) -> int:
    years = sorted({time.year for scene in scenes for time in scene.times})
    if len(years) > 1:
        raise LulcbenchError(
            f"The scenes are of {years[0]} to {years[-1]}.", "Tell the year of the labels: --label-year."
        )
    return years[0]
