"""Silent faults of building a release, and the checks of the audit that go red on each.

``python -m tests.builders.stages.faults`` prints the table of ``docs/reference/audit.md``.
"""

from __future__ import annotations

import typer

FAULTS: dict[str, tuple[str, ...]] = {
    "offset not subtracted, all scenes": (
        "some ground is dark",
        "sensors agree in reflectance",
        "leaves are dark in blue",
    ),
    "offset not subtracted, one scene": ("some ground is dark",),
    "offset subtracted twice, all scenes": ("reflectance is not negative", "sensors agree in reflectance"),
    "offset subtracted twice, one scene": ("reflectance is not negative",),
    "percent in place of reflectance": ("reflectance is at most 1",),
    "red and near infrared exchanged": ("forest is green", "sensors agree in reflectance"),
    "blue and red exchanged": ("bare ground is brighter in red than in blue",),
    "near and shortwave infrared exchanged": ("leaves have the spectrum of leaves",),
    "both shortwave infrared bands exchanged": ("leaves have the spectrum of leaves",),
    "picture for display in place of a band, as digital numbers": ("some ground is bright",),
    "picture for display in place of a band, from 0 to 1": ("sensors agree in reflectance",),
    "nodata taken for reflectance": ("missing pixels are not values",),
    "hole bled into its neighbours": ("holes do not bleed",),
    "south-up raster read as north-up": ("sensors agree in reflectance", "labels lie on the imagery"),
    "rotated raster read as north-up": ("sensors agree in reflectance", "labels lie on the imagery"),
    "all sensors south-up, labels not": ("labels lie on the imagery",),
    "one sensor displaced by a pixel": ("sensors are co-registered",),
    "labels displaced by a pixel": ("labels lie on the imagery",),
    "labels south-up": ("labels lie on the imagery",),
    "labels of another year": ("labels of two years differ",),
    "labels of two years exchanged": ("labels are of the year of the imagery",),
    "Level-1C in place of Level-2A": ("leaves are dark in blue",),
    "pixels stated too large": ("images are as sharp as their pixels", "sensors agree in reflectance"),
    "clouds left in": ("no clouds are left",),
    "one image in several tiles": ("no image twice",),
    "same acquisition counted twice": ("an acquisition counts once",),
    "missing quality layer taken for clear": ("clouds without a quality layer are unknown",),
    "class fractions in percent": ("class fractions",),
    "cloud fractions in percent": ("cloud fractions are fractions",),
}


def table() -> str:
    """Markdown: one row per fault."""
    rows = [f"| {fault} | {'; '.join(checks)} |" for fault, checks in FAULTS.items()]
    return "\n".join(["| fault | checks that go red |", "|---|---|", *rows])


if __name__ == "__main__":
    typer.echo(table())
