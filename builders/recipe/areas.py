"""Areas of regions: polygons of a vector file in place of bounds, or within them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from lulcbench._files import Frozen
from lulcbench.areas import CODES
from lulcbench.release import Sha256


class AreaRule(Frozen):
    """Polygons whose tiles a region has; ``lulcbench.areas.Area.read`` reads them, as it does for maps.

    Attributes:
        path: of the vector file, such as GeoJSON or GeoPackage.
        codes: values of ``column``, such as NUTS codes; none takes all polygons of the file.
        column: of the codes.
        layer: of a file with several.
        margin: tiles that are nearer to the polygons than so many metres are built, too: what a model sees around the
            area, its halo, then has imagery.
        sha256: pins the file; one with another digest is refused.
    """

    path: Path
    codes: tuple[str, ...] = ()
    column: str = CODES
    layer: str | None = None
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    sha256: Sha256 | None = None
