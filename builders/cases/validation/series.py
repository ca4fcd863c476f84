"""Agreement of the composites of two sensors over the same area, and the effect of cloudy dates on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from builders.cases.validation.classes import NIR, RED, band_names, ndvi, position
from builders.readers.scene import Scene
from builders.recipe import Recipe
from builders.stages.materialize import Notes, materialize
from builders.stages.plan import Planned
from builders.workspace import Workspace
from lulcbench._files import write_json
from lulcbench.errors import LulcbenchError
from lulcbench.release import ArrayKey
from lulcbench.sensors import sensor, true_color

Float = npt.NDArray[np.float32]
COARSE = "landsat"
FINE = "sentinel2"
BLUE = band_names("blue")
MIN_PIXELS = 3


@dataclass(frozen=True, slots=True)
class Agreement:
    """NDVI correlation of the two sensors at 30 m and the brightest blue, with and without the cloud mask."""

    pixels: int
    masked: float | None
    unmasked: float | None
    masked_by_season: dict[str, float | None]
    unmasked_by_season: dict[str, float | None]
    blue_99_masked: dict[str, float]
    blue_99_unmasked: dict[str, float]


def sensor_agreement(
    recipe: Recipe, space: Workspace, rows: list[Planned], scenes: list[Scene], out: Path
) -> Agreement:
    """Composite with and without the quality layers, by the same stage; write ``series.json`` and ``series.png``.

    Args:
        recipe: with Sentinel-2 and Landsat.
        space: workspace of its build, whose cache is used.
        rows: the plan.
        scenes: the frozen search result.
        out: folder for the results.

    Raises:
        LulcbenchError: the recipe lacks a sensor, band or common year, or the composites have no pixel in common.
    """
    year, bands = _common(recipe)
    blind = [
        scene.model_copy(update={"assets": {k: v for k, v in scene.assets.items() if k not in ("scl", "qa_pixel")}})
        for scene in scenes
    ]
    elsewhere = Workspace(space.root, space.work / "unmasked")
    images = {}
    for kind, home, some in (("masked", space, scenes), ("unmasked", elsewhere, blind)):
        images[kind] = _read(recipe, home, materialize(recipe, home, rows, some, None), year)
    names = [season.name for season in recipe.seasons]
    index = {kind: [ndvi(pair[s], bands[s], s) for s in (FINE, COARSE)] for kind, pair in images.items()}
    coarse = {kind: (_aggregate(fine), landsat) for kind, (fine, landsat) in index.items()}
    both = [np.isfinite(a) & np.isfinite(b) for a, b in coarse.values()]
    use = both[0] & both[1]
    if use.sum() < MIN_PIXELS:
        raise LulcbenchError(
            f"The composites of {FINE} and {COARSE} have {int(use.sum())} valid pixels in common.",
            f"A correlation needs {MIN_PIXELS}: take a region and seasons with scenes of both.",
        )
    result = Agreement(
        pixels=int(use.sum()),
        masked=_r(*(v[use] for v in coarse["masked"])),
        unmasked=_r(*(v[use] for v in coarse["unmasked"])),
        masked_by_season={n: _r(*(v[i][use[i]] for v in coarse["masked"])) for i, n in enumerate(names)},
        unmasked_by_season={n: _r(*(v[i][use[i]] for v in coarse["unmasked"])) for i, n in enumerate(names)},
        blue_99_masked={s: _bright(images["masked"][s], bands[s].index(BLUE[s])) for s in (FINE, COARSE)},
        blue_99_unmasked={s: _bright(images["unmasked"][s], bands[s].index(BLUE[s])) for s in (FINE, COARSE)},
    )
    write_json(out / "series.json", asdict(result))
    _figure(recipe, names, images, bands, coarse["masked"], use, result, out / "series.png")
    return result


def _common(recipe: Recipe) -> tuple[int, dict[str, tuple[str, ...]]]:
    """First year that both sensors have, and the bands of each."""
    rules = {rule.name: rule for rule in recipe.sensors}
    if missing := [name for name in (FINE, COARSE) if name not in rules]:
        raise LulcbenchError(
            f"The recipe {recipe.name} has no {' and no '.join(missing)}.",
            f"This comparison is of {FINE} and {COARSE}.",
        )
    bands = {name: rules[name].bands for name in (FINE, COARSE)}
    for name, given in bands.items():
        for band in (RED[name], NIR[name], BLUE[name]):
            position(given, band, name)
    years = sorted(set(rules[FINE].years) & set(rules[COARSE].years))
    if not years:
        raise LulcbenchError(f"{FINE} and {COARSE} of {recipe.name} have no year in common.", "Add one to the recipe.")
    return years[0], bands


def _read(recipe: Recipe, space: Workspace, notes: Notes, year: int) -> dict[str, Float]:
    """Reflectance ``(season, band, y, x)`` of each sensor, all tiles side by side."""
    return {
        rule.name: np.concatenate(
            [
                sensor(rule.name).coding.decode(np.load(space.cache / note[array].file, allow_pickle=False))
                for note in notes.values()
                for array in (ArrayKey(rule.name, year),)
            ],
            axis=-1,
        )
        for rule in recipe.sensors
        if rule.name in (FINE, COARSE)
    }


def _aggregate(fine: Float) -> Float:
    """Mean over 3 × 3 pixels of 10 m; NaN unless all nine are valid."""
    n = sensor(COARSE).resolution // sensor(FINE).resolution
    seasons, height, width = fine.shape
    means: Float = fine.reshape(seasons, height // n, n, width // n, n).mean(axis=(2, 4))
    return means


def _r(a: Float, b: Float) -> float | None:
    """Correlation; None of fewer pixels than it needs, or of values that are all alike."""
    if len(a) < MIN_PIXELS or not (a.std() and b.std()):
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 4)


def _bright(image: Float, band: int) -> float:
    return round(float(np.nanpercentile(image[:, band], 99)), 4)


def _figure(
    recipe: Recipe,
    names: list[str],
    images: dict[str, dict[str, Float]],
    bands: dict[str, tuple[str, ...]],
    coarse: tuple[Float, Float],
    use: npt.NDArray[np.bool_],
    result: Agreement,
    path: Path,
) -> None:
    """Composites of both sensors, masked and unmasked, by season, and the scatter of their NDVI."""
    figure = Figure(figsize=(15, 3 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 5, squeeze=False)
    for i, name in enumerate(names):
        column = 0
        for s in (FINE, COARSE):
            valid = np.isfinite(images["masked"][s][:, 0]).any(axis=0)
            box = [slice(v.min(), v.max() + 1) for v in np.nonzero(valid)]
            rgb = list(true_color([sensor(s).band(band) for band in bands[s]]) or [position(bands[s], RED[s], s)] * 3)
            for kind in ("masked", "unmasked"):
                picture = np.moveaxis(images[kind][s][i, rgb][:, box[0], box[1]], 0, -1)
                axes[i][column].imshow(np.clip(np.nan_to_num(picture, nan=1.0) / 0.25, 0, 1))
                axes[i][column].set_title(f"{s} {name}, {kind}", fontsize=9)
                axes[i][column].axis("off")
                column += 1
        axes[i][4].plot(coarse[0][i][use[i]], coarse[1][i][use[i]], ".", ms=3)
        axes[i][4].plot([0, 1], [0, 1], "k:", lw=0.8)
        axes[i][4].set_title(f"NDVI {FINE} and {COARSE}, r = {result.masked_by_season[name]}", fontsize=9)
    figure.suptitle(f"{recipe.title}: r = {result.masked} masked, {result.unmasked} unmasked")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
