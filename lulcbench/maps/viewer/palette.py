"""A second palette for users with a colour vision deficiency."""

from __future__ import annotations

from functools import cache

import numpy as np

from lulcbench.legend import LEVELS, ClassScheme, legend

# Ends of the ramp of each class of level 1, in CIE LCh: lightness, chroma, hue in degrees. Found by random search
# within the usual hues (red, yellow, green, violet, blue) for the largest smallest difference (CIEDE2000) between
# classes of levels 1 and 2, as seen with each of the three deficiencies; the test of this module measures it.
_RAMPS = {
    1: ((15, 64, 42), (61, 68, 52)),  # artificial: dark red to orange
    2: ((65, 85, 91), (98, 20, 110)),  # agriculture: ochre to pale yellow
    3: ((37, 30, 158), (76, 44, 154)),  # forest and semi-natural: dark to light green
    4: ((76, 62, 327), (76, 62, 327)),  # wetlands: pink
    5: ((26, 46, 300), (60, 15, 274)),  # water: dark to greyish blue
}


# Colours for few classes that differ with any deficiency (Okabe and Ito 2008, jfly.uni-koeln.de/color), without black.
_FEW = ("#d55e00", "#0072b2", "#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#f0e442")


def safe_colors(scheme: ClassScheme) -> dict[int, str]:
    """Code → colour as ``#rrggbb`` of all classes.

    Up to seven classes of a legend subset have the colours of Okabe and Ito; more have the mean colour of their codes.
    """
    known = _luisa()
    if scheme.subset is None:
        return known
    if len(scheme.codes()) <= len(_FEW):
        return dict(zip(scheme.codes(), _FEW, strict=False))
    rgb = {code: list(bytes.fromhex(color[1:])) for code, color in known.items()}
    means = {code: np.mean([rgb[own] for own in scheme.luisa_codes(code)], axis=0).round() for code in scheme.codes()}
    return {code: "#{:02x}{:02x}{:02x}".format(*mean.astype(int)) for code, mean in means.items()}


@cache
def _luisa() -> dict[int, str]:
    """Colours of all 106 classes of LUISA.

    A class of level 4 has its place in the ramp of its class of level 1, by the order of the codes; coarser classes
    have the colour of the middle of their descendants.
    """
    finest = legend().codes(LEVELS[-1])
    place: dict[int, tuple[int, float]] = {}
    for code in legend().classes:
        top = legend().ancestor(code, 1)
        siblings = [one for one in finest if legend().ancestor(one, 1) == top]
        level = legend().classes[code].level
        own = [i for i, one in enumerate(siblings) if legend().ancestor(one, level) == code]
        place[code] = (top, (float(np.mean(own)) / (len(siblings) - 1)) if len(siblings) > 1 else 0.0)
    return {code: _hex(*_between(*_RAMPS[top], share)) for code, (top, share) in place.items()}


def _between(
    low: tuple[float, float, float], high: tuple[float, float, float], share: float
) -> tuple[float, float, float]:
    lightness, chroma, hue = (a + (b - a) * share for a, b in zip(low, high, strict=True))
    return lightness, chroma, hue


def _hex(lightness: float, chroma: float, hue: float) -> str:
    """CIE LCh (D65) to sRGB, clipped."""
    a, b = chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))
    fy = (lightness + 16) / 116
    f = np.array([fy + a / 500, fy, fy - b / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.95047, 1.0, 1.08883)
    linear = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]) @ xyz
    linear = np.clip(linear, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#{:02x}{:02x}{:02x}".format(*np.rint(srgb * 255).astype(int))
