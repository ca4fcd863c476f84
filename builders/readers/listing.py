"""Archives without a catalog: their files have regular names, which an address template of the recipe describes."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time
from typing import Any

import pystac
from shapely.geometry import box, mapping

from builders.readers.locators import locate
from builders.readers.opening import opened
from builders.readers.servers import MissingFileError
from builders.readers.windows import degrees
from lulcbench.errors import LulcbenchError

THREADS = 16  # requests at the same time


def addresses(template: str, fields: Mapping[str, Any]) -> str:
    """The address of one file.

    Args:
        template: path or URL with names of fields in braces, with a format for dates, such as ``{start:%Y%m%d}``.
        fields: value of each field.

    Raises:
        LulcbenchError: the template has other fields, lacks one that tells files apart, or is not a template.

    Examples:
        >>> addresses("/data/{lat}/{tile}/{interval}.tif", {"lat": "52N", "tile": "005E_52N", "interval": 1001})
        '/data/52N/005E_52N/1001.tif'
        >>> addresses("https://example.org/{band}_{start:%Y.%m.%d}.tif", {"band": "red", "start": date(2018, 6, 25)})
        'https://example.org/red_2018.06.25.tif'
    """
    try:
        used = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        unknown = used - set(fields)
        if not unknown:
            return template.format(**fields)
    except ValueError as error:
        raise LulcbenchError(
            f"{template} is not an address template: {error}.", f"Use the fields {_braces(fields)}."
        ) from error
    raise LulcbenchError(
        f"The address template {template} has the field {{{min(unknown)}}}.", f"It may have {_braces(fields)}."
    )


def check_fields(template: str, needed: Iterable[str]) -> None:
    """Nothing, if an address template has all fields by which files differ.

    Raises:
        LulcbenchError: one is missing.
    """
    lacking = [name for name in needed if f"{{{name}" not in template]
    if lacking:
        raise LulcbenchError(
            f"{template} is not an address template: it lacks {_braces(lacking)}.",
            "Set 'catalog' of the sensor to the address of the archive's files, with the parts that vary in braces.",
        )


def existing(hrefs: Sequence[str]) -> set[str]:
    """Those of the files that exist, as rasters.

    Raises:
        LulcbenchError: one exists but cannot be read.
    """

    def is_there(href: str) -> bool:
        try:
            opened(locate(href))
        except MissingFileError:
            return False
        return True

    with ThreadPoolExecutor(THREADS) as pool:
        return {href for href, there in zip(hrefs, pool.map(is_there, hrefs), strict=True) if there}


def composite(
    name: str, collection: str, days: tuple[date, date], assets: Mapping[str, tuple[str, Sequence[str]]]
) -> pystac.Item:
    """A composite of some days as an item, with the extent of its first file.

    Args:
        name: id.
        collection: id of the collection.
        days: first and last day.
        assets: address and bands of the file by asset key; without bands, the key is the name of the only one.
    """
    href = locate(next(iter(assets.values()))[0])
    bounds = degrees(opened(href))
    start = datetime.combine(days[0], time(), UTC)
    end = datetime.combine(days[1], time.max.replace(microsecond=0), UTC)
    times = {"start_datetime": start.isoformat(), "end_datetime": end.isoformat()}
    item = pystac.Item(name, mapping(box(*bounds)), list(bounds), None, times)
    item.collection_id = collection
    for key, (address, bands) in assets.items():
        extra = {"bands": [{"name": band} for band in bands]} if bands else {}
        item.add_asset(key, pystac.Asset(address, media_type="image/tiff", extra_fields=extra))
    return item


def _braces(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
