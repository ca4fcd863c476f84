"""Change that happens at once: storm, fire, building. A map of a year shows it from the year of the event on."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from builders.simulate.country import Canvas, Codes
from lulcbench.grid import LABEL_RESOLUTION

_FOREST = (3110, 3120, 3130)
_FUEL = (*_FOREST, 3210, 3220, 3230, 3240)
_FELLED, _BURNT, _INDUSTRY = 3240, 3340, 1210
_REACH = 1_500  # m; new buildings are at most so far from present ones
# Wavelengths of the noise that gives events their places, m.
_EXTENTS = {"storm": 4_000, "fire": 3_000, "building": 1_200}


class Event(BaseModel):
    """An event of one year.

    Attributes:
        kind: ``storm`` fells forest (it becomes transitional woodland), ``fire`` burns forest and shrub, ``building``
            turns farmland near settlements into industry.
        year: first year whose map and imagery show it.
        share: of the land that it can affect.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["storm", "fire", "building"]
    year: int
    share: Annotated[float, Field(gt=0, le=0.5)]


def apply_event(canvas: Canvas, codes: Codes, event: Event) -> Codes:
    """The map after an event.

    Args:
        canvas: the grid of the map.
        codes: the map before it, uint16 ``(h, w)``.
        event: the event.

    Returns:
        Codes, uint16 ``(h, w)``. Affected areas are contiguous: single pixels are left out.
    """
    if event.kind == "building":
        built = codes // 1000 == 1
        near = ndimage.distance_transform_edt(~built) * LABEL_RESOLUTION <= _REACH if built.any() else built
        exposed, target = (codes // 1000 == 2) & near, _INDUSTRY
    else:
        exposed = np.isin(codes, _FOREST if event.kind == "storm" else _FUEL)
        target = _FELLED if event.kind == "storm" else _BURNT
    after = codes.copy()
    after[_struck(canvas, exposed, event)] = target
    return after


def _struck(canvas: Canvas, exposed: npt.NDArray[np.bool_], event: Event) -> npt.NDArray[np.bool_]:
    """The part of the exposed land that an event strikes, in patches of at least 2 × 2 pixels."""
    if not exposed.any():
        return exposed
    field = canvas.noise(f"{event.kind}-{event.year}", _EXTENTS[event.kind], 3)
    struck = exposed & (field > np.quantile(field[exposed], 1 - event.share))
    patches: npt.NDArray[np.bool_] = ndimage.binary_opening(struck, np.ones((2, 2)))
    return patches
