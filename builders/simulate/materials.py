"""Surface materials and their reflectance through the year.

A material is a mixture of two end members, a cover and the ground visible between it; the cover fraction depends on the
month. The spectra are rounded from the shapes of published libraries (USGS splib07, ECOSTRESS) at eleven wavelengths;
they need to be plausible, not exact: the difficulty is calibrated against the literature (see ``difficulty``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

WAVELENGTHS = (0.44, 0.49, 0.56, 0.66, 0.705, 0.74, 0.783, 0.865, 0.945, 1.61, 2.20)  # µm

# Reflectance × 1000 at WAVELENGTHS.
_END_MEMBERS: dict[str, tuple[int, ...]] = {
    "green": (20, 30, 70, 35, 100, 300, 380, 420, 420, 200, 90),
    "leaf": (17, 24, 52, 28, 85, 270, 340, 380, 380, 170, 75),
    "needle": (15, 20, 36, 23, 52, 165, 205, 235, 235, 105, 46),
    "waxy": (20, 27, 48, 36, 75, 170, 210, 240, 240, 150, 80),
    "bloom": (50, 70, 200, 200, 220, 320, 360, 420, 420, 200, 100),
    "dry": (50, 70, 110, 145, 175, 200, 220, 260, 270, 330, 230),
    "litter": (35, 45, 65, 85, 105, 130, 145, 170, 175, 220, 150),
    "darksoil": (40, 50, 72, 92, 104, 113, 121, 140, 150, 200, 170),
    "soil": (60, 80, 115, 155, 170, 185, 200, 225, 235, 300, 265),
    "brightsoil": (85, 115, 165, 225, 245, 262, 280, 310, 320, 400, 360),
    "sand": (160, 205, 270, 325, 345, 358, 370, 390, 398, 450, 420),
    "rock": (100, 120, 148, 168, 178, 186, 192, 205, 210, 250, 230),
    "limestone": (150, 180, 220, 250, 258, 264, 270, 285, 290, 320, 280),
    "asphalt": (60, 70, 82, 92, 96, 100, 103, 110, 113, 135, 130),
    "concrete": (130, 155, 185, 208, 216, 222, 228, 243, 248, 285, 265),
    "tile": (60, 72, 100, 175, 195, 210, 222, 245, 250, 315, 275),
    "slate": (58, 63, 70, 76, 80, 83, 86, 92, 94, 112, 105),
    "metal": (240, 265, 285, 298, 302, 306, 310, 325, 325, 320, 290),
    "gravel": (90, 110, 140, 165, 175, 183, 190, 205, 210, 260, 240),
    "water": (38, 38, 32, 16, 12, 9, 8, 6, 5, 3, 2),
    "silt": (60, 75, 90, 70, 58, 36, 33, 25, 20, 8, 5),
    "algae": (30, 36, 56, 36, 40, 30, 29, 20, 15, 6, 4),
    "snow": (850, 865, 860, 840, 830, 820, 805, 770, 700, 120, 80),
    "char": (30, 34, 40, 48, 54, 60, 66, 80, 88, 140, 150),
    "peat": (25, 30, 45, 52, 62, 82, 92, 110, 112, 130, 90),
    "shade": (28, 28, 24, 20, 25, 40, 45, 50, 50, 32, 20),
}

_EVERGREEN = (0.9,) * 12
_STEADY = (1.0,) * 12

# name: (cover, ground between it, cover fraction January … December)
_MATERIALS: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "water_clear": ("water", "water", _STEADY),
    "water_silt": ("silt", "water", (0.7, 0.7, 0.7, 0.6, 0.5, 0.4, 0.4, 0.4, 0.4, 0.5, 0.6, 0.7)),
    "water_algae": ("algae", "water", (0.1, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.9, 0.7, 0.4, 0.2, 0.1)),
    "asphalt": ("asphalt", "asphalt", _STEADY),
    "concrete": ("concrete", "asphalt", (0.8,) * 12),
    "roof_tile": ("tile", "slate", (0.85,) * 12),
    "roof_dark": ("slate", "asphalt", (0.7,) * 12),
    "roof_bright": ("metal", "concrete", (0.6,) * 12),
    "gravel": ("gravel", "soil", (0.7,) * 12),
    "ballast": ("gravel", "asphalt", (0.45,) * 12),
    "soil_dark": ("darksoil", "green", (0.92,) * 12),
    "soil_bright": ("brightsoil", "dry", (0.85,) * 12),
    "sand": ("sand", "dry", (0.92,) * 12),
    "rock": ("rock", "darksoil", (0.85,) * 12),
    "limestone": ("limestone", "soil", (0.8,) * 12),
    "snow": ("snow", "rock", (1, 1, 1, 1, 0.97, 0.9, 0.8, 0.75, 0.85, 0.95, 1, 1)),
    "char": ("char", "dry", (0.6, 0.6, 0.6, 0.6, 0.6, 0.7, 0.9, 0.95, 0.9, 0.85, 0.8, 0.75)),
    "lawn": ("green", "dry", (0.6, 0.6, 0.7, 0.8, 0.88, 0.82, 0.74, 0.72, 0.76, 0.74, 0.68, 0.6)),
    "meadow": ("green", "dry", (0.52, 0.54, 0.64, 0.8, 0.88, 0.76, 0.68, 0.66, 0.72, 0.7, 0.62, 0.54)),
    "hay": ("green", "dry", (0.5, 0.52, 0.62, 0.8, 0.9, 0.6, 0.7, 0.5, 0.66, 0.66, 0.58, 0.52)),
    "dry_grass": ("green", "dry", (0.4, 0.44, 0.56, 0.7, 0.66, 0.42, 0.24, 0.2, 0.24, 0.34, 0.4, 0.4)),
    "beech": ("leaf", "litter", (0.12, 0.12, 0.16, 0.4, 0.85, 0.95, 0.95, 0.92, 0.86, 0.6, 0.22, 0.12)),
    "oak": ("leaf", "litter", (0.18, 0.18, 0.2, 0.3, 0.7, 0.9, 0.92, 0.9, 0.84, 0.66, 0.34, 0.2)),
    "spruce": ("needle", "shade", _EVERGREEN),
    "pine": ("needle", "litter", (0.78, 0.78, 0.78, 0.8, 0.84, 0.86, 0.86, 0.86, 0.84, 0.82, 0.8, 0.78)),
    "shrub": ("leaf", "dry", (0.22, 0.22, 0.28, 0.46, 0.7, 0.78, 0.76, 0.72, 0.66, 0.5, 0.3, 0.24)),
    "maquis": ("waxy", "soil", (0.72, 0.74, 0.76, 0.8, 0.8, 0.74, 0.68, 0.64, 0.66, 0.7, 0.72, 0.72)),
    "heather": ("waxy", "litter", (0.5, 0.5, 0.52, 0.56, 0.62, 0.7, 0.74, 0.74, 0.68, 0.6, 0.54, 0.5)),
    "reed": ("green", "litter", (0.12, 0.12, 0.16, 0.3, 0.55, 0.75, 0.8, 0.76, 0.62, 0.4, 0.2, 0.14)),
    "bog": ("green", "peat", (0.15, 0.15, 0.2, 0.28, 0.4, 0.5, 0.54, 0.5, 0.42, 0.3, 0.2, 0.16)),
    "mud": ("darksoil", "silt", (0.4,) * 12),
    "wheat": ("green", "soil", (0.35, 0.4, 0.6, 0.88, 0.95, 0.7, 0.12, 0.08, 0.1, 0.14, 0.25, 0.32)),
    "wheat_late": ("green", "soil", (0.2, 0.24, 0.4, 0.72, 0.92, 0.88, 0.4, 0.1, 0.08, 0.1, 0.14, 0.18)),
    "barley": ("green", "dry", (0.4, 0.45, 0.68, 0.92, 0.9, 0.35, 0.1, 0.14, 0.2, 0.26, 0.32, 0.38)),
    "rapeseed": ("green", "soil", (0.5, 0.52, 0.62, 0.8, 0.88, 0.7, 0.2, 0.14, 0.3, 0.45, 0.5, 0.5)),
    "maize": ("green", "soil", (0.06, 0.06, 0.06, 0.06, 0.15, 0.5, 0.88, 0.92, 0.7, 0.2, 0.08, 0.06)),
    "beet": ("green", "darksoil", (0.06, 0.06, 0.06, 0.08, 0.3, 0.75, 0.92, 0.92, 0.88, 0.6, 0.15, 0.06)),
    "spring_barley": ("green", "soil", (0.08, 0.08, 0.1, 0.35, 0.8, 0.88, 0.3, 0.1, 0.14, 0.14, 0.1, 0.08)),
    "clover": ("green", "soil", (0.45, 0.48, 0.6, 0.8, 0.7, 0.8, 0.66, 0.76, 0.7, 0.68, 0.58, 0.48)),
    "fallow": ("green", "dry", (0.3, 0.32, 0.42, 0.58, 0.62, 0.5, 0.38, 0.34, 0.36, 0.36, 0.34, 0.3)),
    "vegetables": ("green", "soil", (0.3, 0.3, 0.4, 0.55, 0.65, 0.7, 0.72, 0.7, 0.6, 0.5, 0.4, 0.32)),
    "rice": ("green", "silt", (0.15, 0.12, 0.12, 0.1, 0.1, 0.4, 0.85, 0.92, 0.6, 0.2, 0.2, 0.18)),
    "vine": ("leaf", "soil", (0.06, 0.06, 0.06, 0.14, 0.4, 0.66, 0.72, 0.7, 0.6, 0.35, 0.1, 0.06)),
    "fruit": ("leaf", "litter", (0.15, 0.15, 0.2, 0.45, 0.75, 0.84, 0.84, 0.82, 0.74, 0.5, 0.22, 0.15)),
    "olive": ("waxy", "soil", (0.66,) * 12),
}

# Rapeseed flowers from mid-April to late May: fraction of the cover that flowers replace, by month.
_BLOOM = (0.0, 0.0, 0.0, 0.5, 0.7, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

NAMES = tuple(_MATERIALS)
INDEX = {name: index for index, name in enumerate(NAMES)}


def reflectance(day: int, wavelengths: Sequence[float], shift: float = 0.0) -> npt.NDArray[np.float32]:
    """Reflectance of every material on a day of the year.

    Args:
        day: day of the year, 1 to 366.
        wavelengths: band centres, µm.
        shift: delay of the phenology in days.

    Returns:
        float32 (material, band), 0…1.
    """
    months = np.arange(12) * 30.44 + 15.2
    bands = {name: np.interp(wavelengths, WAVELENGTHS, np.array(v) / 1000) for name, v in _END_MEMBERS.items()}
    rows = []
    for name, (cover, ground, fractions) in _MATERIALS.items():
        fraction = np.interp(day - shift, months, fractions, period=365.25)
        top = bands[cover]
        if name == "rapeseed":
            bloom = np.interp(day - shift, months, _BLOOM, period=365.25)
            top = (1 - bloom) * top + bloom * bands["bloom"]
        rows.append(fraction * top + (1 - fraction) * bands[ground])
    return np.array(rows, np.float32)
