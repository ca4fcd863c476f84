"""The Zarr v3 hierarchy of a map: creating it, writing blocks, its metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from affine import Affine
from zarr.codecs import BloscCodec

from lulcbench.errors import LulcbenchError
from lulcbench.geozarr import GRID_MAPPING, MULTISCALES, PROJ, SPATIAL
from lulcbench.grid import CRS
from lulcbench.legend import ClassScheme
from lulcbench.maps.lattice import BLOCK, Frame, Index
from lulcbench.maps.layers import Layer

CHUNK = 240  # px: a quarter of a block; a click on a map reads one chunk of probabilities
# Level 5 takes twice the time of level 3 and saves 3 to 9 % of the bytes.
_CODEC = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")


@dataclass(frozen=True, slots=True)
class Pyramid:
    """The arrays of one year: a group for each resolution, ``0`` for the full one, all with the same layers.

    Attributes:
        folder: of the year.
        frame: of the map.
        layers: of the map.
        scheme: classes of the map; the probabilities are those of its deepest level.
    """

    folder: Path
    frame: Frame
    layers: Sequence[Layer]
    scheme: ClassScheme

    def create(self) -> None:
        """Create all arrays, empty, with coordinates and attributes; existing ones are kept.

        Raises:
            LulcbenchError: an existing array has another extent, so that its pixels would be at other places.
        """
        group = zarr.open_group(self.folder, mode="a")
        lattice = self.frame.lattice
        left, _, _, top = self.frame.bounds
        levels = []
        for halving in range(self.frame.halvings + 1):
            height, width = self.frame.shape(halving)
            size = lattice.resolution << halving
            inner = group.require_group(str(halving))
            transform = list(self.transform(halving))[:6]
            spatial = {
                "zarr_conventions": [PROJ, SPATIAL],
                "proj:code": CRS,
                "spatial:dimensions": ["y", "x"],
                "spatial:shape": [height, width],
                "spatial:transform": transform,
                "spatial:bbox": list(self.frame.bounds),
                "spatial:registration": "pixel",
            }
            for layer in self.layers:
                self._create(inner, layer, (height, width), spatial)
            inner.update_attributes(spatial)
            codes, scheme = np.array(self.scheme.codes(), np.uint16), self.scheme
            _coordinate(inner, "class", codes, {"long_name": f"class code{scheme.level_name(scheme.depth)}"})
            for name, axis, values in (
                ("y", "y", top - (np.arange(height) + 0.5) * size),
                ("x", "x", left + (np.arange(width) + 0.5) * size),
            ):
                standard = {"standard_name": f"projection_{axis}_coordinate", "units": "m"}
                _coordinate(inner, name, values, standard)
            _coordinate(inner, "spatial_ref", np.array(0, np.int32), GRID_MAPPING)
            entry: dict[str, Any] = {"asset": str(halving), "spatial:shape": [height, width]}
            entry["spatial:transform"] = transform
            if halving:
                scale = {"scale": [2.0, 2.0], "translation": [0.0, 0.0]}
                entry |= {"derived_from": str(halving - 1), "transform": scale}
            levels.append(entry)
        group.update_attributes(
            {
                "zarr_conventions": [MULTISCALES, PROJ, SPATIAL],
                "multiscales": {"layout": levels},
                "proj:code": CRS,
                "spatial:dimensions": ["y", "x"],
                "spatial:bbox": list(self.frame.bounds),
            }
        )

    def transform(self, halving: int = 0) -> Affine:
        """Affine transform from pixels to EPSG:3035."""
        size = self.frame.lattice.resolution << halving
        return Affine(size, 0, self.frame.bounds[0], 0, -size, self.frame.bounds[3])

    def array(self, layer: str, halving: int = 0) -> zarr.Array[Any]:
        """An array of the pyramid."""
        return zarr.open_array(self.folder / str(halving) / layer, mode="r+")

    def write(self, index: Index, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write all layers of a block at full resolution."""
        place = self.frame.place(index)
        for layer in self.layers:
            self.array(layer.name)[(..., *place)] = values[layer.name]

    def holds(self, index: Index) -> bool:
        """Whether a block is inside the frame."""
        return all(0 <= i - low < n for i, low, n in zip(index, self.frame.first, self.frame.blocks, strict=True))

    def files(self, index: Index) -> Iterator[Path]:
        """Files of the chunks of a block at full resolution that exist, in one order."""
        y, x = (place.start // CHUNK for place in self.frame.place(index))
        for layer in self.layers:
            folder = self.folder / "0" / layer.name / "c"
            folder = folder / "0" if layer.classes else folder
            for i in range(y, y + BLOCK // CHUNK):
                for j in range(x, x + BLOCK // CHUNK):
                    if (path := folder / str(i) / str(j)).is_file():
                        yield path

    def erase(self, index: Index) -> None:
        """Delete the chunks of a block at full resolution: it has no data."""
        for path in self.files(index):
            path.unlink()

    def digest(self, blocks: Sequence[Index]) -> str:
        """SHA-256 over the names and contents of the chunks of some blocks."""
        total = hashlib.sha256()
        for block in blocks:
            for path in self.files(block):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                total.update(f"{path.relative_to(self.folder).as_posix()} {content}\n".encode())
        return total.hexdigest()

    def _create(self, group: zarr.Group, layer: Layer, shape: tuple[int, int], spatial: Mapping[str, Any]) -> None:
        if layer.name in group:
            known: Any = group[layer.name]
            if known.shape[-2:] != shape or known.attrs.get("spatial:bbox") != spatial["spatial:bbox"]:
                raise LulcbenchError(
                    f"{self.folder} has an array {layer.name} of {known.shape[-2:]} pixels over "
                    f"{known.attrs.get('spatial:bbox')}, not of {shape} over {spatial['spatial:bbox']}.",
                    "Give another folder, or delete this one.",
                )
            return
        first = () if layer.classes is None else (layer.classes,)
        attributes = {**layer.attributes, "coordinates": "spatial_ref", "grid_mapping": "spatial_ref", **spatial}
        resampling = "mode, ties: the first in reading order" if layer.overview == "mode" else "average"
        group.create_array(
            layer.name,
            shape=(*first, *shape),
            chunks=(*first, min(CHUNK, shape[0]), min(CHUNK, shape[1])),
            dtype=layer.dtype,
            fill_value=layer.fill,
            compressors=[_CODEC],
            dimension_names=(*(("class",) if first else ()), "y", "x"),
            attributes=attributes | {"overview_resampling": resampling},
        )


def _coordinate(group: zarr.Group, name: str, values: npt.NDArray[Any], attributes: Mapping[str, Any]) -> None:
    array = group.create_array(
        name,
        overwrite=True,  # a kill may have left it without values
        shape=values.shape,
        chunks=tuple(max(1, n) for n in values.shape),
        dtype=values.dtype,
        compressors=[BloscCodec(cname="zstd", shuffle="shuffle")],
        dimension_names=(name,) if values.ndim else (),
        attributes=dict(attributes),
    )
    array[...] = values
