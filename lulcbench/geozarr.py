"""Attributes by which Zarr hierarchies state where their pixels are: CF and the GeoZarr conventions.

Used by releases (``builders``) and by maps (``lulcbench.maps``).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lulcbench._files import write_atomic
from lulcbench.errors import CorruptFileError
from lulcbench.grid import CRS_WKT
from lulcbench.legend import NODATA, LandClass, legend

METADATA = "zarr.json"
CHUNKS = "lulcbench:chunks"  # attribute of a map: number of chunk files of each array

# https://github.com/zarr-conventions/{geo-proj,spatial,multiscales}, version 1
PROJ = {
    "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
    "name": "proj:",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/geo-proj/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/geo-proj/blob/v1/README.md",
    "description": "Coordinate reference system information for geospatial data",
}
SPATIAL = {
    "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
    "name": "spatial:",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/spatial/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/spatial/blob/v1/README.md",
    "description": "Spatial coordinate information",
}
MULTISCALES = {
    "uuid": "d35379db-88df-4056-af3a-620245f8e347",
    "name": "multiscales",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/multiscales/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/multiscales/blob/v1/README.md",
    "description": "Multiscale layout of zarr datasets",
}
# EPSG:3035 as a grid mapping of CF 1.11, appendix F.
GRID_MAPPING = {
    "grid_mapping_name": "lambert_azimuthal_equal_area",
    "latitude_of_projection_origin": 52.0,
    "longitude_of_projection_origin": 10.0,
    "false_easting": 4321000.0,
    "false_northing": 3210000.0,
    "semi_major_axis": 6378137.0,
    "inverse_flattening": 298.257222101,
    "crs_wkt": CRS_WKT,
}


def class_attributes(level: int | None = None) -> dict[str, Any]:
    """Attributes of an array of class codes: flag values, names and colours.

    Args:
        level: of the codes; None lists the codes of all levels.
    """
    codes = list(legend().classes) if level is None else legend().codes(level)
    return flag_attributes([legend().classes[code] for code in codes], legend().digest)


def flag_attributes(classes: Sequence[LandClass], digest: str) -> dict[str, Any]:
    """As ``class_attributes``, of any classes.

    Args:
        classes: the classes.
        digest: of their definition.
    """
    return {
        "flag_values": [NODATA, *(entry.code for entry in classes)],
        "flag_meanings": " ".join(["unlabelled", *(word(entry.name) or f"class_{entry.code}" for entry in classes)]),
        "flag_colors": " ".join(["#ffffff", *(entry.color for entry in classes)]),
        "legend_digest": digest,
    }


def word(name: str) -> str:
    """A name as one word, as ``flag_meanings`` has them.

    >>> word("Non-irrigated arable land")
    'non_irrigated_arable_land'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def consolidate(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Write the metadata of a group with those of all nodes below it, in the order of their paths.

    Hidden folders, of unfinished work, are left out. The bytes are the same for the same content. Written last,
    atomically: a group with metadata is complete.
    """
    nodes = {path.parent.relative_to(folder): path for path in sorted(folder.rglob(METADATA)) if path.parent != folder}
    shown = {node: path for node, path in nodes.items() if not any(part.startswith(".") for part in node.parts)}
    members = {node.as_posix(): json.loads(path.read_bytes()) for node, path in shown.items()}
    content = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": attributes,
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": members},
    }
    write_atomic(folder / METADATA, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def count_chunks(folder: Path) -> dict[str, int]:
    """Number of chunk files of all arrays below a group, by their path in it.

    Zarr reads a chunk that is lost as one without data: readers compare the number with that of the writer.
    """
    counts = {}
    for path, folders, files in os.walk(folder):
        if METADATA in files and "c" in folders:
            chunks = sum(len(names) for _, _, names in os.walk(Path(path) / "c"))
            counts[Path(path).relative_to(folder).as_posix()] = chunks
        folders[:] = [name for name in folders if name != "c" and not name.startswith(".")]  # hidden: unfinished work
    return dict(sorted(counts.items()))


def check_chunks(folder: Path, attributes: Mapping[str, Any], below: str = "") -> None:
    """Compare the chunk files of a map with their number when it was written.

    Args:
        folder: of the map.
        attributes: of its root; older maps do not state the numbers.
        below: only the arrays in this group.

    Raises:
        CorruptFileError: an array has lost chunks, or has others besides.
    """
    stated = attributes.get(CHUNKS)
    if not isinstance(stated, Mapping):
        return
    below = f"{below}/" if below else ""
    stated = {name: n for name, n in stated.items() if name.startswith(below)}
    found = {f"{below}{name}": n for name, n in count_chunks(folder / below).items()}
    for name in sorted({*stated, *found}):
        if found.get(name, 0) != stated.get(name, 0):
            raise CorruptFileError(
                f"{folder}/{name} has {found.get(name, 0)} chunks; {stated.get(name, 0)} were written.",
                "Write the map again, or copy it again, completely.",
            )
