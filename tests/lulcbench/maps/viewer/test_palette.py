"""The second palette is legible with a colour vision deficiency."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from lulcbench.legend import LEVELS, ClassScheme, legend
from lulcbench.maps.viewer.palette import safe_colors

# Machado, Oliveira and Fernandes 2009, severity 1.0, for linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def seen(codes: tuple[int, ...], matrix: object) -> np.ndarray:
    """Colours in CIE Lab as they are seen with a deficiency."""
    srgb = np.array([list(bytes.fromhex(safe_colors(ClassScheme.luisa(4))[code][1:])) for code in codes]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(matrix).T, 0, 1)
    return rgb2lab(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))


def closest(codes: tuple[int, ...], matrix: object) -> float:
    lab = seen(codes, matrix)
    return min(float(deltaE_ciede2000(a, b)) for a, b in itertools.combinations(lab, 2))


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_coarse_classes_are_told_apart(deficiency: str) -> None:
    assert closest(legend().codes(1), DEFICIENCIES[deficiency]) > 15
    assert closest(legend().codes(2), DEFICIENCIES[deficiency]) > 4


@pytest.mark.parametrize("level", LEVELS)
def test_no_two_classes_have_the_same_colour(level: int) -> None:
    codes = legend().codes(level)
    assert len({safe_colors(ClassScheme.luisa(4))[code] for code in codes}) == len(codes)
    assert closest(codes, DEFICIENCIES["none"]) > 1
