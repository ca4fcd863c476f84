"""Items of a catalog on disk or of a STAC API, filtered by collection, time and place."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pystac
import shapely
from rasterio.warp import transform_geom

from builders.recipe import SensorRule
from lulcbench.errors import LulcbenchError, NetworkError
from lulcbench.grid import CRS, Bounds
from lulcbench.remote.retry import retrying
from lulcbench.seasons import Days

TIMEOUT = 60  # seconds that a STAC API may be silent
PAGE = 100  # items per answer of an API
MARGIN = 1000  # m; edges of footprints are straight in degrees, edges of tiles in EPSG:3035


def stored_items(catalog: str) -> list[pystac.Item]:
    """All items of a catalog, collection or file of items on disk, in order of collection and id, each once.

    Raises:
        LulcbenchError: the catalog or an item is missing or damaged, or two items of a collection share an id.
    """
    try:
        with _quiet():
            items = list(_items(catalog))
    except FileNotFoundError as error:
        raise LulcbenchError(
            f"The catalog {catalog} or an item of it is missing: {error}.",
            "Correct 'catalog' of the recipe, or make it with 'python -m builders scenes' or 'ingest'.",
        ) from error
    except pystac.errors.STACTypeError as error:
        raise LulcbenchError(
            f"{catalog} is not a STAC catalog: {error}.", "Name the catalog or collection that links to the items."
        ) from error
    except (pystac.errors.STACError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LulcbenchError(f"The catalog {catalog} is damaged: {error}.", "Fetch or make it again.") from error
    for item in items:
        link = item.get_single_link("parent") if item.collection_id is None else None
        if link is not None and "://" not in str(link.get_absolute_href()):
            parent = item.get_parent()
            item.collection_id = parent.id if isinstance(parent, pystac.Collection) else None
    return _unique(items, catalog)


def _items(catalog: str) -> Iterator[pystac.Item]:
    content = pystac.StacIO.default().read_json(catalog)
    if pystac.ItemCollection.is_item_collection(content):  # as clients store what a search has found
        yield from pystac.ItemCollection.from_dict(content)
        return
    read = pystac.read_file(catalog)
    if not isinstance(read, pystac.Catalog):
        raise pystac.errors.STACTypeError(content, pystac.Catalog)
    yield from read.get_items(recursive=True)


def _unique(items: Sequence[pystac.Item], catalog: str) -> list[pystac.Item]:
    known: dict[tuple[str, str], pystac.Item] = {}
    for item in items:
        if not isinstance(item.id, str) or not isinstance(item.collection_id, str | None):
            raise LulcbenchError(
                f"{catalog} has an item with the id {item.id!r} and the collection {item.collection_id!r}.",
                "Both must be texts; correct the catalog.",
            )
        key = (item.collection_id or "", item.id)
        if canonical(known.setdefault(key, item)) != canonical(item):
            raise LulcbenchError(
                f"{catalog} has two different items {item.id!r} of collection {key[0]!r}.",
                "Ids are unique within a collection; remove or rename one of them.",
            )
    return [known[key] for key in sorted(known)]


def canonical(item: pystac.Item) -> str:
    """The content of an item as JSON, without its links."""
    content = item.to_dict(include_self_link=False, transform_hrefs=False)
    return json.dumps(content | {"links": []}, sort_keys=True, default=str)


def found_items(catalog: str, rule: SensorRule, boxes: Sequence[Bounds], spans: Sequence[Days]) -> list[pystac.Item]:
    """Items of a sensor that a STAC API finds, in order of id, each once.

    The API filters by collection, days of the seasons and place; by cloud cover too where it supports filters, such
    that items of unknown cloud cover are found as well.

    Raises:
        NetworkError: the API cannot be reached or refuses.
        LulcbenchError: it returns two different items of one id.
    """
    from pystac_client import Client
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

    class RetryingIO(StacApiIO):
        """The project's retries in place of those of urllib3, which repeat broken connections only."""

        def request(self, *args: Any, **kwargs: Any) -> str:
            return retrying(catalog)(super().request, *args, **kwargs)

    def search() -> Iterator[pystac.Item]:
        client = Client.open(catalog, stac_io=RetryingIO(timeout=TIMEOUT, max_retries=None))
        cloud = _cloud_filter(round(100 * rule.max_cloud, 6)) if client.conforms_to("FILTER") else None
        for box in boxes:
            for first, last in merged(spans):
                days = f"{first}T00:00:00Z/{last}T23:59:59Z"
                found = client.search(
                    collections=[rule.collection], intersects=outline(box), datetime=days, filter=cloud, limit=PAGE
                )
                yield from found.items()

    try:
        with _quiet():
            items = list(search())
    except (
        APIError,
        NotImplementedError,
        OSError,
        KeyError,
        TypeError,
        json.JSONDecodeError,
        pystac.errors.STACError,
    ) as error:
        raise NetworkError(
            f"The search of {catalog} for {rule.collection} failed: {' '.join(str(error).split())[:300]}.",
            "Is it a STAC API with item search, and is it up? Nothing was written; run again.",
        ) from error
    return _unique(items, catalog)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning of pystac that it does not know the storage provider of files, which is not used here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Could not parse bucket/account", UserWarning)
        yield


def outline(box: Bounds) -> dict[str, Any]:
    """The area of a box in EPSG:3035 as a GeoJSON polygon, with a margin."""
    area = shapely.box(*box).buffer(MARGIN, join_style="mitre").segmentize(10_000)
    geometry: dict[str, Any] = transform_geom(CRS, "EPSG:4326", area.__geo_interface__, precision=5)
    return geometry


def merged(spans: Sequence[Days]) -> list[Days]:
    """Spans of days as few spans that do not overlap, in order."""
    out: list[Days] = []
    for first, last in sorted(spans):
        if out and (first - out[-1][1]).days <= 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return out


def _cloud_filter(most: float) -> dict[str, Any]:
    """CQL2: at most ``most`` % cloud cover, or unknown."""
    cloud = {"property": "eo:cloud_cover"}
    return {"op": "or", "args": [{"op": "<=", "args": [cloud, most]}, {"op": "isNull", "args": [cloud]}]}
