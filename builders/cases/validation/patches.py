"""EuroSAT patches and the labels of a release: whether the majority label of a patch agrees with its EuroSAT class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from matplotlib.figure import Figure
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom

from builders.cases.validation import mosaic
from builders.cases.validation.classes import position
from builders.readers.opening import open_raster
from builders.stages.search import read as read_scenes
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS
from lulcbench.legend import LEVELS, NODATA, legend
from lulcbench.release import Release
from lulcbench.sensors import SENTINEL2

# Where the two legends correspond: first digits of LUISA codes. Highway and River are narrow and
# mixed with other land.
EXPECTED = {"Industrial": ("12",), "Residential": ("11",), "Pasture": ("23",), "Forest": ("31",), "SeaLake": ("5",)}
COLUMNS = 10
CELL = 72  # px of 10 m on the page for a patch of 64 px, which is rotated against EPSG:3035
TITLE = 18  # px above each row
BRIGHT = 0.2  # reflectance shown as white


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch: its EuroSAT class, the majority LUISA code at each level (0 for none) and the share of that code."""

    name: str
    eurosat: str
    majority: dict[int, int]
    share: float
    cover: float
    box: tuple[float, float, float, float]


def patch_agreement(root: Path, listing: Path, out: Path, year: int = 2018) -> pd.DataFrame:
    """Write ``patches.csv``, ``contingency_level<n>.csv`` and ``patches.png``.

    Args:
        root: release made from patches.
        listing: CSV with the columns name and eurosat_class.
        out: folder for the results.
        year: of the labels.

    Returns:
        One row per patch: name, eurosat_class, level_1 … level_4, share, cover, agrees (None where the legends do not
        correspond).

    Raises:
        LulcbenchError: the listing cannot be read or lacks a patch, or a scene of the release is not a patch.
    """
    classes = _classes(listing)
    release = Release.open(root)
    truth = mosaic.labels(release, year)
    patches = []
    for scene in read_scenes(root / "scenes.lock.json"):
        if scene.id not in classes.index:
            raise LulcbenchError(f"{listing} has no patch {scene.id}.", "Name the list that belongs to the patches.")
        with open_raster(scene.asset(SENTINEL2.band("B04").asset).href) as file:
            outline = transform_geom(file.crs, CRS, shapely.box(*file.bounds).__geo_interface__)
        inside = geometry_mask([outline], truth.area.shape, truth.area.transform, invert=True)
        codes = truth.values[inside]
        known = codes[codes != NODATA]
        majority = {level: _majority(legend().remap(known, level)) for level in LEVELS}
        share = float((known == _majority(known)).mean()) if known.size else 0.0
        box = shapely.geometry.shape(outline).bounds
        patches.append(Patch(scene.id, str(classes[scene.id]), majority, share, float((codes != NODATA).mean()), box))
    table = pd.DataFrame(
        {
            "name": p.name,
            "eurosat_class": p.eurosat,
            **{f"level_{level}": code for level, code in p.majority.items()},
            "share": round(p.share, 4),
            "cover": round(p.cover, 4),
            "agrees": agrees(p),
        }
        for p in patches
    ).sort_values("name")
    write_atomic(out / "patches.csv", table.to_csv(index=False).encode())
    for level in LEVELS:
        write_atomic(out / f"contingency_level{level}.csv", contingency(table, level).to_csv().encode())
    _page(release, year, sorted(patches, key=lambda p: (p.eurosat, p.name)), truth, out / "patches.png")
    return table


def _classes(listing: Path) -> pd.Series[str]:
    """Class by name of patch."""
    remedy = "Give a CSV with the columns name and eurosat_class, one row per patch."
    try:
        table = pd.read_csv(listing, dtype="string")
    except FileNotFoundError as error:
        raise LulcbenchError(f"There is no list {listing}.", remedy) from error
    except (ValueError, OSError) as error:
        raise LulcbenchError(f"Cannot read {listing}: {error}.", remedy) from error
    if missing := {"name", "eurosat_class"} - set(table.columns):
        raise LulcbenchError(f"{listing} has no column {' and no column '.join(sorted(missing))}.", remedy)
    if table["name"].duplicated().any():
        raise LulcbenchError(
            f"{listing} has a patch twice: {table['name'][table['name'].duplicated()].iloc[0]}.", remedy
        )
    return table.dropna().set_index("name")["eurosat_class"]


def contingency(table: pd.DataFrame, level: int) -> pd.DataFrame:
    """EuroSAT class by majority LUISA class of a level; where the labels stop at a coarser level, code 0."""
    return pd.crosstab(table["eurosat_class"], table[f"level_{level}"])


def agrees(patch: Patch) -> bool | None:
    """Whether the majority class belongs to the EuroSAT class; None where the legends do not correspond."""
    if patch.eurosat not in EXPECTED:
        return None
    code = next((patch.majority[level] for level in (3, 2, 1) if patch.majority[level]), NODATA)
    return str(code).startswith(EXPECTED[patch.eurosat])


def _majority(codes: np.ndarray) -> int:
    """The most frequent value; 0 wins where most labels stop at a coarser level."""
    values, counts = np.unique(codes, return_counts=True)
    return int(values[counts.argmax()]) if len(values) else NODATA


def _page(release: Release, year: int, patches: list[Patch], truth: mosaic.Mosaic, path: Path) -> None:
    """Every patch with its labels and EuroSAT class, as in the release, in one figure."""
    image = mosaic.reflectance(release, "sentinel2", year)
    names = release.manifest.sensor("sentinel2").band_names
    rgb = [position(names, name, "sentinel2") for name in ("B04", "B03", "B02")]
    rows = -(-len(patches) // COLUMNS)
    canvas = np.ones((rows * (CELL + TITLE), COLUMNS * 2 * CELL, 3))
    figure = Figure(figsize=(COLUMNS * 2.1, rows * 1.3 + 0.5), layout="constrained")
    axis = figure.subplots()
    for i, patch in enumerate(patches):
        top, left = i // COLUMNS * (CELL + TITLE) + TITLE, i % COLUMNS * 2 * CELL
        picture = np.moveaxis(image.values[(0, rgb, *image.window(patch.box))], 0, -1)
        codes = truth.values[truth.window(patch.box)]
        scale = round(truth.area.resolution / image.area.resolution)
        label = mosaic.paint(codes).repeat(scale, axis=0).repeat(scale, axis=1) / 255
        for part, x in ((np.clip(np.nan_to_num(picture, nan=1.0) / BRIGHT, 0, 1), left), (label, left + CELL)):
            part = part[: CELL - 2, : CELL - 2]
            canvas[top : top + part.shape[0], x : x + part.shape[1]] = part
        verdict = {True: "agrees", False: "differs", None: ""}[agrees(patch)]
        code = next((patch.majority[level] for level in (4, 3, 2, 1) if patch.majority[level]), 0)
        axis.text(left, top - 3, patch.eurosat, fontsize=7)
        axis.text(left + CELL, top - 3, f"{code} {verdict}", fontsize=7, color="r" if verdict == "differs" else "k")
    axis.imshow(canvas, interpolation="nearest")
    axis.axis("off")
    axis.set_title(f"{release.manifest.title}: patch | LUISA majority code", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
