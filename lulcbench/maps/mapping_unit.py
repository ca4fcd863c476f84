"""Minimum mapping unit: patches of a class that are smaller are filled from their surroundings.

A patch is a set of pixels of one class (of the level of the model) that are connected by their sides. The minimum
mapping unit of LUISA is 1 ha for artificial surfaces and 5 ha for all other classes (Pigaiani and Batista e Silva 2021,
doi.org/10.2760/503006); smaller patches are filled by this rule:

1. The pixels of patches that are large enough keep their class.
2. In each of ``STEPS`` steps, every other pixel that has a neighbour with a class (of four: above, left, right, below)
   takes the class that is most frequent among these; of equally frequent ones, that of the first in this order.
3. Pixels that no step has reached keep their class: patches far from any large one, and islands in pixels without data.

The result at a pixel depends on a bounded neighbourhood alone, and so does not depend on the area that is mapped: a
step reaches one pixel further, and whether a patch is too small is known from as many pixels as the largest unit has.
Probabilities, scores and conformal answers remain those of the single pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from lulcbench._files import Frozen
from lulcbench.legend import ClassScheme
from lulcbench.maps.lattice import BLOCK, Index
from lulcbench.maps.layers import GENERALISED, Layer
from lulcbench.maps.overviews import most_frequent
from lulcbench.maps.store import Pyramid

STEPS: Final = 32  # 320 m at 10 m: small patches side by side are filled, too
CHOSEN = Layer("chosen", "uint8", 0, "mode", {"long_name": "class index at the level of the model plus 1"})

Classes = npt.NDArray[np.uint8]


class MappingUnit(Frozen):
    """Smallest area of a patch in hectares; the defaults are those of LUISA.

    Attributes:
        artificial: of artificial surfaces (code 1 and its children); of a legend subset, of classes of these alone.
        other: of all other classes.

    Examples:
        >>> MappingUnit().pixels(ClassScheme.luisa(1), 30)  # artificial surfaces, agricultural areas, ...
        array([12, 56, 56, 56, 56])
        >>> MappingUnit().margin(ClassScheme.luisa(1), 30)
        87
    """

    artificial: Annotated[float, Field(gt=0, le=100)] = 1.0
    other: Annotated[float, Field(gt=0, le=100)] = 5.0

    def pixels(self, scheme: ClassScheme, resolution: int) -> npt.NDArray[np.int64]:
        """Smallest number of pixels of a patch of each class: int64 ``(class,)``."""
        hectares = np.where(scheme.artificial, self.artificial, self.other)
        return np.ceil(hectares * 10_000 / resolution**2 - 1e-9).astype(np.int64)

    def margin(self, scheme: ClassScheme, resolution: int) -> int:
        """Pixels that are needed around the result."""
        return int(self.pixels(scheme, resolution).max()) - 1 + STEPS


def generalise(chosen: Classes, pixels: npt.NDArray[np.int64]) -> Classes:
    """Fill the patches of an image that are too small.

    Args:
        chosen: uint8 ``(y, x)``: class indices plus 1; 0 where there are no data.
        pixels: smallest number of pixels of a patch of each class.

    Returns:
        Likewise. At least ``MappingUnit.margin`` from the edge, it does not depend on what is outside the image.

    Examples:
        >>> image = np.full((5, 5), 2, np.uint8)
        >>> image[2, 2] = 1
        >>> np.unique(generalise(image, np.array([2, 2])))
        array([2], dtype=uint8)
    """
    from skimage.measure import label

    patches = label(chosen, background=0, connectivity=1)  # type: ignore[no-untyped-call]
    areas = np.bincount(patches.ravel())
    needed = np.concatenate([[0], pixels])
    kept = areas[patches] >= needed[chosen]
    filled = np.pad(np.where(kept, chosen, 0), 1)  # so that every pixel has four neighbours
    y, x = np.nonzero(~kept & (chosen > 0))
    for _ in range(STEPS):
        near = np.stack([filled[y, x + 1], filled[y + 1, x], filled[y + 1, x + 2], filled[y + 2, x + 1]])
        taken = most_frequent(near)
        filled[y + 1, x + 1] = taken
        y, x = y[taken == 0], x[taken == 0]
        if not (taken > 0).any():
            break
    filled[y + 1, x + 1] = chosen[y, x]
    result: Classes = filled[1:-1, 1:-1]
    return result


def late_layers(scheme: ClassScheme) -> tuple[str, ...]:
    """Names of the layers that ``write_generalised`` writes."""
    return (*scheme.layers, GENERALISED)


def write_generalised(pyramid: Pyramid, source: Pyramid, blocks: Sequence[Index], unit: MappingUnit) -> None:
    """Write the class layers of a map at full resolution, and where the unit has changed the class.

    Args:
        pyramid: the map, whose other layers are complete.
        source: the classes that the model decided, of all blocks within the margin of these.
        blocks: the blocks that may have data.
        unit: minimum mapping unit.
    """
    resolution = pyramid.frame.lattice.resolution
    scheme = pyramid.scheme
    margin, pixels = unit.margin(scheme, resolution), unit.pixels(scheme, resolution)
    chosen = source.array(CHOSEN.name)
    targets = {name: pyramid.array(name) for name in late_layers(scheme)}
    composites = pyramid.array("composites")
    for index in blocks:
        place = pyramid.frame.place(index)
        valid = np.asarray(composites[place]) > 0
        if not valid.any():
            for target in targets.values():
                target[place] = 0  # an earlier run may have read other tiles
            continue
        around = _window(chosen, source.frame.place(index), margin)
        result = generalise(around, pixels)[margin : margin + BLOCK, margin : margin + BLOCK]
        before = around[margin : margin + BLOCK, margin : margin + BLOCK]
        for n, name in zip(scheme.levels, scheme.layers, strict=True):
            codes = np.concatenate([[np.uint16(0)], scheme.codes_over(n)])
            targets[name][place] = np.where(valid, codes[result], 0)
        targets[GENERALISED][place] = (valid & (result != before)).astype(np.uint8)


def _window(array: Any, place: tuple[slice, slice], margin: int) -> Classes:
    """A block with a margin; 0 outside the array."""
    first = [own.start - margin for own in place]
    out = np.zeros((BLOCK + 2 * margin, BLOCK + 2 * margin), np.uint8)
    inside = [slice(max(0, start), min(size, start + len(out))) for start, size in zip(first, array.shape, strict=True)]
    there = tuple(slice(own.start - start, own.stop - start) for own, start in zip(inside, first, strict=True))
    out[there] = np.asarray(array[tuple(inside)])
    return out
