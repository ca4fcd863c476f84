"""Info: what a recipe pins and where it searches, as lines for people."""

from __future__ import annotations

from pathlib import Path

from builders.archives.luisa import EDITIONS
from builders.recipe import LabelRule, Recipe
from builders.stages.search import requests

SHOWN = 12  # regions
OWN_SCENES = Path("/scenes-of-the-recipe")  # in place of a folder of a workspace: nothing is made


def lines(recipe: Recipe) -> list[str]:
    """The recipe's pins: label maps, downloads, lock file; its regions; and the searches that it sends."""
    out = [f"{recipe.name} {recipe.version}: {recipe.title}"]
    names = [region.name for region in recipe.regions]
    out.append(f"regions: {', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}")
    for area in dict.fromkeys(region.area for region in recipe.regions if region.area):
        codes = f", {area.column} {', '.join(area.codes)}" if area.codes else ""
        out.append(f"area {area.path.name}{codes}: SHA-256 {area.sha256 or 'not pinned'}")
    out += [f"labels {rule.array}: {rule.path.name}, {_pin(rule)}" for rule in recipe.labels]
    simulated = recipe.simulate or {}
    if "label_map" in simulated:
        edition, digest = simulated.get("label_map_edition"), simulated.get("label_map_sha256")
        out.append(f"rendered map: {edition or 'edition not named'}, SHA-256 {digest or 'not pinned'}")
    out += [f"download {one.path.name}: {one.url}, SHA-256 {one.sha256 or 'not pinned'}" for one in recipe.downloads]
    if recipe.lock:
        return [*out, f"scenes: those of {recipe.lock.name}; nothing is searched"]
    for rule in recipe.sensors:
        catalog = recipe.catalog_of(rule)
        where = f"{rule.collection} of {catalog}"
        if "://" not in catalog and Path(catalog).is_relative_to(OWN_SCENES):
            where = "simulated by this recipe" if recipe.simulate else "ingested by this recipe"
        dated = [f"{rule.dated.first}-{rule.dated.last} by date"] if rule.dated else []
        bands, years = ", ".join(rule.bands), ", ".join([*map(str, rule.years), *dated])
        out.append(f"scenes {rule.name} {years}: {where}; {bands}")
        cloud = f"{100 * rule.max_cloud:g} %"
        out += [f"  {first} to {last}, at most {cloud} cloud" for first, last in requests(recipe, rule)]
    return out


def _pin(rule: LabelRule) -> str:
    digest = rule.sha256 or (EDITIONS[rule.edition].sha256 if rule.edition in EDITIONS else None)
    return f"{rule.edition or 'edition not named'}, SHA-256 {digest or 'not pinned'}"
