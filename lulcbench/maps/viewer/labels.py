"""Labels of a release as a map, so that they are shown, compared and counted like one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from lulcbench.errors import NotAvailableError
from lulcbench.geozarr import consolidate
from lulcbench.grid import LABEL_RESOLUTION, TILE_SIZE, Tile
from lulcbench.legend import ClassScheme
from lulcbench.maps.lattice import BLOCK, Frame, Index, Lattice
from lulcbench.maps.layers import layers
from lulcbench.maps.overviews import write_overviews
from lulcbench.maps.store import Pyramid
from lulcbench.maps.viewer.source import FORMAT
from lulcbench.release import Release, Row

_TILES = BLOCK * LABEL_RESOLUTION // TILE_SIZE  # along the side of a block


def write_labels(release: Release, folder: Path, scheme: ClassScheme) -> Path:
    """Write the labels of all splits and years of a release as a map with all class layers of a scheme.

    A class layer has no data where the label is coarser than its level, or is of none of the classes.

    Args:
        release: with LUISA labels, or those of its only source.
        folder: of the map.
        scheme: the classes.

    Returns:
        The folder.

    Raises:
        NotAvailableError: the release has no labels.
        CorruptFileError: a shard is missing or damaged.
    """
    manifest = release.manifest
    if not manifest.labels:
        raise NotAvailableError(f"{release.id} has no labels.", "Leave out --labels, or give a release with labels.")
    source = manifest.choose_labels()
    info = manifest.labels[source]
    tiles = {split: release.tiles(split) for split in info.splits}
    cells = [Tile.from_id(tile) for split in tiles.values() for tile in split.ids]
    bounds = tuple(f(cell.bounds[i] for cell in cells) for i, f in enumerate((min, min, max, max)))
    frame = Frame.over(Lattice(LABEL_RESOLUTION, 0, 0), bounds)  # type: ignore[arg-type]
    own = tuple(layer for layer in layers(scheme) if layer.name in scheme.layers)
    for year in info.years:
        pyramid = Pyramid(folder / str(year), frame, own, scheme)
        pyramid.create()
        blocks: dict[Index, list[tuple[str, Row, Tile]]] = {}
        for split, listed in tiles.items():
            for position, name in enumerate(listed.ids):
                cell = Tile.from_id(name)
                index = ((-cell.iy - 1) // _TILES, cell.ix // _TILES)
                blocks.setdefault(index, []).append((split, Row(listed.first + position), cell))
        for index, members in blocks.items():
            codes = np.zeros((BLOCK, BLOCK), np.uint16)
            left, _, _, top = frame.lattice.block(index)
            for split, row, cell in members:
                y = (top - cell.bounds[3]) // LABEL_RESOLUTION
                x = (cell.bounds[0] - left) // LABEL_RESOLUTION
                values = release.labels(split, year, [row], source)[0]
                codes[y : y + len(values), x : x + len(values)] = values
            where, levels = f"{release.id}, {year}", zip(scheme.layers, scheme.levels, strict=True)
            pyramid.write(index, {name: scheme.from_luisa(codes, n, where) for name, n in levels})
        write_overviews(pyramid, blocks)
        consolidate(pyramid.folder, json.loads((pyramid.folder / "zarr.json").read_bytes())["attributes"])
    attributes = {
        "lulcbench:format": FORMAT,
        "lulcbench:release": {"id": release.id, "digest": release.digest},
        "lulcbench:simulated": release.simulated,
        "title": f"Labels ({source}) of {manifest.title}",
        "summary": f"Labels of {release.id}, source {source}, at {LABEL_RESOLUTION} m.",
        "license": info.licence,
        "attribution": "; ".join(sorted({entry.attribution for entry in manifest.sources if entry.attribution})),
        "role": "labels",
        "legend_digest": scheme.digest,
        **scheme.attributes,
    }
    consolidate(folder, attributes)
    return folder
