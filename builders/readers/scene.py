"""A scene: one source acquisition, with all that is needed to turn its files into stored values."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lulcbench._files import Frozen
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Bounds
from lulcbench.release import Sha256
from lulcbench.seasons import Days


class Asset(Frozen):
    """One channel of a scene.

    Attributes:
        href: path or URL of the file.
        band: number of the channel in the file, from 1; None where only the file itself can tell.
        scale: value = DN · scale + offset.
        offset: see ``scale``.
        nodata: DN that means nothing was seen; None where the file has no such value.
        power: values are linear power, of which decibels are stored.
        bytes: size of the file when the search was frozen, to notice a change.
        sha256: checksum from the catalog, where it gives one.
    """

    href: str
    band: Annotated[int, Field(ge=1)] | None = None
    scale: float = 1
    offset: float = 0
    nodata: float | None = None
    power: bool = False
    bytes: int | None = None
    sha256: Sha256 | None = None


class Scene(Frozen):
    """One acquisition of one sensor.

    Attributes:
        start: first moment of acquisition, ISO 8601 UTC; equal to ``end`` where the moment is known.
        end: last moment.
        cloud: cloud cover in %, or None where unknown.
        baseline: Sentinel-2 processing baseline.
        crs: the catalog's word on the projection of the files, checked when they are opened.
        bounds: extent in EPSG:3035 metres.
        assets: channels by STAC asset name, with the quality layer.
        notes: decisions taken when the item was read, such as a contradiction about its offset.
    """

    id: str
    sensor: str
    collection: str
    start: str
    end: str
    cloud: float | None
    baseline: str | None
    crs: str | None
    bounds: Bounds
    platform: str | None = None
    licence: str | None = None
    assets: dict[str, Asset]
    notes: tuple[str, ...] = ()

    def touches(self, bounds: Bounds) -> bool:
        """Whether the scene's extent overlaps ``bounds``."""
        left, bottom, right, top = self.bounds
        return left < bounds[2] and bounds[0] < right and bottom < bounds[3] and bounds[1] < top

    def falls_in(self, days: Days) -> bool:
        """Whether the scene was, or may have been, acquired within the days."""
        start, end = (datetime.fromisoformat(moment).date() for moment in (self.start, self.end))
        return start <= days[1] and end >= days[0]

    def asset(self, name: str) -> Asset:
        """The channel of that asset name."""
        if name not in self.assets:
            raise LulcbenchError(f"Scene {self.id} has no asset {name!r}.", f"It has {', '.join(self.assets)}.")
        return self.assets[name]


def file_size(href: str) -> int | None:
    """Bytes of a local file; None for a URL.

    Raises:
        LulcbenchError: the local file is missing.
    """
    if "://" in href:
        return None
    try:
        return Path(href).stat().st_size
    except OSError as error:
        raise LulcbenchError(f"{href} is missing.", "Fetch the scene again, or take it out of the catalog.") from error
