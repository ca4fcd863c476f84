"""A scene: one source image, with the metadata needed to read its files as stored values."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from lulcbench._files import Frozen
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Bounds
from lulcbench.seasons import Days


class UnusableSceneError(LulcbenchError):
    """A scene that cannot be used, while others of its collection may be.

    Args:
        reason: a few words that are the same for all scenes with this fault.
        what: see ``LulcbenchError``.
        remedy: see ``LulcbenchError``.
    """

    def __init__(self, reason: str, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.reason = reason


class Asset(Frozen):
    """One channel of a scene.

    Attributes:
        href: path or URL of the file.
        band: band number in the file, from 1; None if only the descriptions in the file identify it.
        scale: value = DN · scale + offset.
        offset: see ``scale``.
        nodata: DN of missing pixels, besides those that the file itself states.
        power: whether values are linear power, to be stored in decibels.
        bytes: size of the file at the time of the search, to detect changes; None for URLs.
        stamp: what identified a file on a server at the time of the search (``readers.servers``), to detect changes.
        checksum: checksum from the catalog (a multihash, hexadecimal), if it gives one.
        crs: projection of the file stated by the catalog, where it is another than that of the scene.
    """

    href: str
    band: Annotated[int, Field(ge=1)] | None = None
    scale: float = 1
    offset: float = 0
    nodata: tuple[float, ...] = ()
    power: bool = False
    bytes: int | None = None
    stamp: str | None = None
    checksum: str | None = None
    crs: str | None = None


class Scene(Frozen):
    """One acquisition of one sensor.

    Attributes:
        start: start of acquisition, ISO 8601 UTC; equal to ``end`` if the time is known exactly.
        end: end of acquisition.
        cloud: cloud cover in %, or None if unknown.
        baseline: Sentinel-2 processing baseline, or None.
        crs: projection of the files stated by the catalog, checked when they are opened.
        bounds: extent in EPSG:3035 metres.
        assets: channels by STAC asset name, including the quality layer.
        observation: name shared by the scenes of one pass of one satellite, which count once.
        notes: decisions taken when the item was read, with their evidence, such as which offset its numbers have.
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
    observation: str = ""
    notes: tuple[str, ...] = ()

    def touches(self, bounds: Bounds) -> bool:
        """Whether the scene's extent overlaps ``bounds``."""
        left, bottom, right, top = self.bounds
        return left < bounds[2] and bounds[0] < right and bottom < bounds[3] and bounds[1] < top

    def falls_in(self, days: Days) -> bool:
        """Whether the scene was, or may have been, acquired within ``days``."""
        start, end = (datetime.fromisoformat(moment).date() for moment in (self.start, self.end))
        return start <= days[1] and end >= days[0]

    def asset(self, name: str) -> Asset:
        """The channel with the asset name ``name``.

        Raises:
            LulcbenchError: the scene has no such asset.
        """
        if name not in self.assets:
            raise LulcbenchError(f"Scene {self.id} has no asset {name!r}.", f"It has {', '.join(self.assets)}.")
        return self.assets[name]
