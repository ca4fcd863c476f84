"""Items of a release as a static STAC catalog: JSON files with pictures, for readers of STAC JSON."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import stac_geoparquet.arrow

from builders.stages._describe import SIMULATED
from lulcbench._files import write_json
from lulcbench.errors import CorruptFileError, LulcbenchError
from lulcbench.legend import legend
from lulcbench.release import INDEX, MANIFEST, Manifest, thumbnails_of

COLLECTION = "collection.json"
Content = dict[str, Any]


def write_items(root: Path, out: Path, address: str | None = None) -> int:
    """Write ``out/collection.json`` and, for each tile, ``out/items/<id>.json`` with its pictures beside it.

    The arrays are not copied: assets refer to the release. In place of a property per class, ``shares`` has the classes
    of levels 1 and 2 that a tile has.

    Args:
        root: folder of a release.
        out: new folder outside of the release, whose files are those of its manifest.
        address: where users get the release, as a URL; None for its place relative to ``out``.

    Returns:
        Number of items.

    Raises:
        LulcbenchError: ``out`` exists or is inside the release.
        CorruptFileError: the index or the collection cannot be read.
    """
    release = Manifest.load(root)
    root, out = root.resolve(), out.resolve()
    if out.exists() or out.is_relative_to(root):
        why = "exists already" if out.exists() else f"is inside the release {root}"
        raise LulcbenchError(f"{out} {why}.", "Give a new folder beside the release.")
    base = (address or os.path.relpath(root, out)).rstrip("/")
    try:
        collection = json.loads((root / COLLECTION).read_bytes())
        items = list(stac_geoparquet.arrow.stac_table_to_items(pq.read_table(root / INDEX)))
        pictures = dict(_pictures(root, release))
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"{root} cannot be read: {error}.", "Run 'lulcbench check-files'.") from error
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        temporary.chmod(0o755)
        (temporary / "items").mkdir()
        for item in items:
            found = pictures.get(item["id"], {})
            _write_item(temporary / "items", item, base if address else f"../{base}", found, release.simulated)
        _write_collection(temporary, collection, base, [item["id"] for item in items])
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(items)


def _pictures(root: Path, release: Manifest) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Tiles that have pictures, each with its PNG files by the array that they show."""
    for split in release.splits:
        if (path := root / thumbnails_of(split)).is_file():  # a large release shows only a part of its tiles
            for row in pq.read_table(path).to_pylist():
                yield row["id"], {name: cell["bytes"] for name, cell in row.items() if isinstance(cell, dict)}


def _write_item(folder: Path, item: Content, base: str, pictures: dict[str, bytes], simulated: bool) -> None:
    name = item["id"]
    properties = _readable(item["properties"])
    properties["title"] = f"{name} ({properties['split']}, {properties['region']})"
    if simulated:
        properties["description"] = SIMULATED.replace("*", "")
    assets: Content = {}
    for position, (array, content) in enumerate(pictures.items()):
        (folder / f"{name}_{array}.png").write_bytes(content)
        assets[f"{array}-picture"] = {
            "href": f"./{name}_{array}.png",
            "type": "image/png",
            "title": f"Picture of {array}",
            "roles": ["overview" if position else "thumbnail"],  # clients show one thumbnail
        }
    assets |= {key: asset | {"href": _rebased(asset["href"], base)} for key, asset in item["assets"].items()}
    links = [link | {"href": f"../{COLLECTION}"} for link in item["links"]]
    write_json(folder / f"{name}.json", item | {"properties": properties, "assets": assets, "links": links})


def _readable(properties: Content) -> Content:
    """Properties that the tile has (the index has NaN for others), with the shares of classes by their names."""
    kept: Content = {}
    shares: dict[str, dict[str, float]] = {}
    for key, value in properties.items():
        if isinstance(value, float) and math.isnan(value):
            continue
        labels, _, code = key.rpartition("_")
        if not (labels.rpartition("_")[2].isdigit() and code.isdigit()):
            kept[key] = value
        elif value and (entry := legend().classes[int(code)]).level <= 2:
            shares.setdefault(labels, {})[f"{code} {entry.name}"] = round(value, 4)
    return kept | ({"shares": shares} if shares else {})


def _write_collection(folder: Path, collection: Content, base: str, names: list[str]) -> None:
    assets = {key: asset | {"href": _rebased(asset["href"], base)} for key, asset in collection["assets"].items()}
    assets["manifest"] = {
        "href": f"{base}/{MANIFEST}",
        "type": "application/json",
        "title": "Manifest of the release",
        "roles": ["metadata"],
    }
    items = [{"rel": "item", "href": f"./items/{name}.json", "type": "application/geo+json"} for name in names]
    write_json(folder / COLLECTION, collection | {"assets": assets, "links": collection["links"] + items})


def _rebased(href: str, base: str) -> str:
    return f"{base}/{href.removeprefix('./')}"
