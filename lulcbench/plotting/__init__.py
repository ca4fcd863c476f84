"""Figures of tiles and samples: true colour next to labels in legend colours. Simulated data are marked."""

from __future__ import annotations

from lulcbench.plotting.figures import bar_figure, figure, line_figure, matrix_figure
from lulcbench.plotting.panels import (
    Panel,
    change_panel,
    check_classes,
    class_panel,
    credit,
    rgb_panel,
    tile_panels,
    transition_panel,
    uncertainty_panel,
)

__all__ = [
    "Panel",
    "bar_figure",
    "change_panel",
    "check_classes",
    "class_panel",
    "credit",
    "figure",
    "line_figure",
    "matrix_figure",
    "rgb_panel",
    "tile_panels",
    "transition_panel",
    "uncertainty_panel",
]
