"""The audit as an HTML page: verdict, maps of splits, classes and displacements, checks and measurements."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from builders.stages._audit_imagery import shift_columns
from lulcbench.grid import TILE_SIZE, Tile
from lulcbench.legend import legend
from lulcbench.release import ArrayKey, Manifest
from lulcbench.release.index import fraction_column

SIDE = TILE_SIZE / 1000  # km
Color = tuple[float, float, float]
UNLABELLED: Color = (0.9, 0.9, 0.9)
SPLIT_COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown", "tab:pink")


def render(report: Any, manifest: Manifest, index: pd.DataFrame) -> str:
    """The page.

    Args:
        report: findings (``audit.Findings``).
        manifest: of the release.
        index: of the release, one row per tile.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("audit.html.j2").render(
        report=report,
        failed=report.problems,
        simulated=manifest.simulated,
        tiles=len(index),
        maps=_maps(manifest, index),
        shown=_shown,
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {part}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _maps(manifest: Manifest, index: pd.DataFrame) -> list[tuple[str, str]]:
    if index.empty:
        return []
    maps = [("Splits", _tiles(index, *_split_colors(index)))]
    maps += [
        (f"Most frequent class of level 1, {array}", _tiles(index, *_class_colors(index, array)))
        for array in manifest.arrays
        if array.name in manifest.labels
    ]
    for (a, b), (east, north) in shift_columns(index).items():
        maps.append((f"Displacement of {b} against {a}, m", _arrows(index, index[east], index[north])))
    return maps


def _split_colors(index: pd.DataFrame) -> tuple[list[Color], dict[str, Color]]:
    names = list(dict.fromkeys(index["split"]))
    entries = {name: to_rgb(SPLIT_COLORS[i % len(SPLIT_COLORS)]) for i, name in enumerate(names)}
    return [entries[split] for split in index["split"]], entries


def _class_colors(index: pd.DataFrame, labels: ArrayKey) -> tuple[list[Color], dict[str, Color]]:
    codes, names = legend().codes(1), legend().names(1)
    colors = [(r / 255, g / 255, b / 255) for r, g, b in legend().colors(1).tolist()]
    shares = index[[fraction_column(labels, code) for code in codes]].to_numpy(np.float64)
    labelled = (shares > 0).any(axis=1)
    most = np.where(labelled, np.nan_to_num(shares).argmax(axis=1), -1)
    entries = {names[i]: colors[i] for i in sorted(set(most[labelled].tolist()))}
    if not labelled.all():
        entries["unlabelled"] = UNLABELLED
    return [UNLABELLED if i < 0 else colors[i] for i in most.tolist()], entries


def _tiles(index: pd.DataFrame, colors: list[Color], entries: dict[str, Color]) -> str:
    figure, axis = _axis(index)
    boxes = [Rectangle(_corner(tile), SIDE, SIDE) for tile in index["id"]]
    axis.add_collection(PatchCollection(boxes, facecolors=colors, edgecolors="white", linewidths=0.3))
    handles = [Patch(color=color, label=name) for name, color in entries.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return _png(figure)


def _arrows(index: pd.DataFrame, east: pd.Series, north: pd.Series) -> str:
    figure, axis = _axis(index)
    boxes = [Rectangle(_corner(tile), SIDE, SIDE) for tile in index["id"]]
    axis.add_collection(PatchCollection(boxes, facecolors="0.9", edgecolors="white", linewidths=0.3))
    centres = np.array([_corner(tile) for tile in index["id"]]) + SIDE / 2
    shifts = np.stack([east.to_numpy(np.float64), north.to_numpy(np.float64)])
    known = np.isfinite(shifts).all(axis=0)
    # The longest arrow is as long as a tile is wide.
    longest = float(np.hypot(*shifts[:, known]).max(initial=1.0))
    quiver = axis.quiver(
        *centres[known].T, *shifts[:, known], angles="xy", scale_units="xy", scale=longest / SIDE, pivot="mid"
    )
    axis.quiverkey(quiver, 0.85, 1.06, longest, f"{longest:.1f} m", labelpos="E", coordinates="axes")
    return _png(figure)


def _axis(index: pd.DataFrame) -> tuple[Figure, Any]:
    corners = np.array([_corner(tile) for tile in index["id"]])
    low, high = corners.min(axis=0), corners.max(axis=0) + SIDE
    margin = 0.03 * (high - low).max()
    low, high = low - margin, high + margin
    # As high as the map and three rows of the legend.
    width, height = high - low
    figure = Figure(figsize=(5, min(4.2 * height / width, 6) + 1.1), layout="constrained")
    axis = figure.add_subplot()
    axis.set(
        xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal",
        xlabel="easting, km (EPSG:3035)", ylabel="northing, km",
    )  # fmt: skip
    axis.tick_params(labelsize=7)
    return figure, axis


def _corner(tile: str) -> tuple[float, float]:
    """Lower left corner, km."""
    left, bottom, _, _ = Tile.from_id(tile).bounds
    return left / 1000, bottom / 1000


def _png(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return base64.b64encode(content.getvalue()).decode()
