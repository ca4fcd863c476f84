"""Reading a map for the viewer: the Zarr hierarchy that ``lulcbench map`` writes, checked before it is shown."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr

from lulcbench.errors import CorruptFileError, LulcbenchError, ReleaseNotFoundError, UnsupportedFormatError
from lulcbench.geozarr import check_chunks
from lulcbench.legend import NODATA, ClassScheme
from lulcbench.maps.answers import UNCERTAIN

FORMAT = "lulcbench-map/1"
NO_CLASS = 255  # in chunk files
DTYPES = ("uint8", "uint16", "int16", "float32")
_COORDINATES = {"x", "y", "class", "spatial_ref"}

Stored = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Overview:
    """Grid of one resolution of a map, north up, in EPSG:3035 metres."""

    left: float
    top: float
    resolution: float
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer ``(y, x)`` of a map.

    Attributes:
        name: of the array.
        kind: class codes or values of a quantity.
        title: what the array states as its long name.
        dtype: of the chunk files.
        fill: value in the chunk files that means no data.
        level: level of class codes; 0 if they are of several levels.
        scale: of ``value · scale + offset``.
        offset: likewise.
        unit: of the quantity; empty for numbers without unit.
        count: whether the fill value, 0, is a count too, where other layers have values.
    """

    name: str
    kind: Literal["class", "value"]
    title: str
    dtype: str
    fill: float | None
    level: int = 0
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    count: bool = False

    @property
    def mixed(self) -> bool:
        """Whether its classes are of several levels, of which pixels may be uncertain at all."""
        return self.kind == "class" and self.level == 0


class MapSource:
    """A map that is shown. ``MapSource.open(folder)`` checks its metadata.

    Attributes:
        folder: of the map.
        attributes: of the hierarchy.
        years: ascending.
        overviews: grids from full resolution to the coarsest.
        layers: those ``(y, x)``, classes first.
        scheme: its classes.
        probability_level: level of the probabilities; None if the map has none.
    """

    def __init__(
        self,
        folder: Path,
        attributes: Mapping[str, Any],
        years: tuple[int, ...],
        groups: Mapping[tuple[int, int], zarr.Group],
        overviews: tuple[Overview, ...],
        layers: tuple[Layer, ...],
        scheme: ClassScheme,
        probability_level: int | None,
    ) -> None:
        self.folder = folder
        self.attributes = attributes
        self.years = years
        self.overviews = overviews
        self.layers = layers
        self.scheme = scheme
        self.probability_level = probability_level
        self._groups = groups

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> MapSource:
        """Open the map in a folder.

        Raises:
            ReleaseNotFoundError: the folder does not contain a complete map.
            UnsupportedFormatError: the map has another format or another legend.
            CorruptFileError: its arrays contradict its metadata.
        """
        folder = Path(folder)
        if not (folder / "zarr.json").is_file():
            raise ReleaseNotFoundError(f"{folder} does not contain a complete map.", "Write one with 'lulcbench map'.")
        try:
            root = zarr.open_group(folder, mode="r")
            return cls._read(folder, root)
        except LulcbenchError:
            raise
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CorruptFileError(f"The map {folder} cannot be read: {error}", "Write the map again.") from error

    @classmethod
    def _read(cls, folder: Path, root: zarr.Group) -> MapSource:
        attributes = dict(root.attrs)
        if attributes.get("lulcbench:format") != FORMAT:
            raise UnsupportedFormatError(
                f"{folder} has the format {attributes.get('lulcbench:format')!r}, not {FORMAT!r}.",
                "Write the map again with this version of lulcbench.",
            )
        check_chunks(folder, attributes)
        years = tuple(sorted(int(str(name)) for name in root.group_keys()))
        if not years:
            raise CorruptFileError(f"The map {folder} has no years.", "Write the map again.")
        groups: dict[tuple[int, int], zarr.Group] = {}
        for year in years:
            numbers = sorted(int(name) for name in _group(root, str(year)).group_keys())
            if numbers != list(range(len(numbers))) or not numbers:
                raise CorruptFileError(f"The overviews of {folder}/{year} are {numbers}.", "Write the map again.")
            groups |= {(year, number): _group(root, f"{year}/{number}") for number in numbers}
        number = max(number for _, number in groups) + 1
        overviews = tuple(_grid(groups[years[0], n]) for n in range(number))
        first = groups[years[0], 0]
        arrays = {str(name): array for name, array in first.arrays() if name not in _COORDINATES}
        scheme = ClassScheme.stored(attributes, arrays, str(folder))
        layers = tuple(_layer(name, array, scheme) for name, array in arrays.items() if array.ndim == 2)
        layers = tuple(sorted(layers, key=lambda layer: (layer.kind != "class", layer.level or 9, layer.name)))
        if not layers or layers[0].kind != "class":
            raise CorruptFileError(f"The map {folder} has no class layer.", "Write the map again.")
        level = None
        if "probability" in arrays:
            codes = tuple(np.asarray(first["class"]).tolist())
            level = next((n for n in scheme.of_labels.levels if scheme.of_labels.codes(n) == codes), None)
            if level is None:
                raise CorruptFileError(f"The probabilities of {folder} are not of one legend level.", "Write it again.")
        source = cls(folder, attributes, years, groups, overviews, layers, scheme.of_labels, level)
        source._check()
        return source

    @property
    def title(self) -> str:
        """Of the map; the name of its folder if it has none."""
        return str(self.attributes.get("title") or self.folder.name)

    @property
    def simulated(self) -> bool:
        """Whether the map was made from simulated data. One that does not state it counts as simulated."""
        return self.attributes.get("lulcbench:simulated") is not False

    @property
    def attribution(self) -> str:
        """Who is credited: as the map states it, or the producers in its STAC collection."""
        if own := self.attributes.get("attribution"):
            return str(own)
        try:
            collection = json.loads((self.folder / "collection.json").read_bytes())
            names = [str(entry["name"]) for entry in collection.get("providers", [])]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return ""
        return "; ".join(dict.fromkeys(names))

    def extent(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of the pixels with data in any year, EPSG:3035 metres, by the coarsest overview.

        Raises:
            CorruptFileError: a chunk cannot be decoded.
        """
        number, everything = len(self.overviews) - 1, slice(None)
        grid, name = self.overviews[number], self.layers[0].name
        data = np.zeros((grid.height, grid.width), bool)
        for year in self.years:
            data |= self.read(name, year, number, everything, everything) != NO_CLASS
        rows, columns = np.flatnonzero(data.any(axis=1)), np.flatnonzero(data.any(axis=0))
        if not len(rows):
            rows, columns = np.array([0, grid.height - 1]), np.array([0, grid.width - 1])
        return (
            grid.left + grid.resolution * float(columns[0]),
            grid.top - grid.resolution * float(rows[-1] + 1),
            grid.left + grid.resolution * float(columns[-1] + 1),
            grid.top - grid.resolution * float(rows[0]),
        )

    def read(self, name: str, year: int, overview: int, rows: slice, columns: slice) -> Stored:
        """Values of a window: ``(y, x)`` of a layer as in chunk files, uint8 ``(class, y, x)`` of ``probability``.

        Class codes become positions in the legend (``positions``) of the map, uint8, ``NO_CLASS`` without data; in
        layers of several levels, pixels that are uncertain at all of them the position after the last class.

        Raises:
            CorruptFileError: a chunk cannot be decoded, or has a code that is not in the legend.
        """
        try:
            values: Stored = np.asarray(self._groups[year, overview][name][..., rows, columns])  # type: ignore[index]
        except Exception as error:  # codecs raise what they happen to raise
            where = f"{self.folder}/{year}/{overview}/{name}"
            raise CorruptFileError(f"{where} cannot be read: {error}", "Write the map again.") from error
        for layer in self.layers:
            if layer.name == name and layer.kind == "class":
                return _encode(values, self.scheme, layer.mixed, f"{self.folder}/{year}/{overview}/{name}")
        return values

    def _check(self) -> None:
        """All years and overviews have the same layers, with the right shapes and types."""
        dtypes = {layer.name: "uint16" if layer.kind == "class" else layer.dtype for layer in self.layers}
        expected: dict[str, tuple[str, tuple[int, ...]]] = {name: (dtype, ()) for name, dtype in dtypes.items()}
        if self.probability_level is not None:
            expected["probability"] = ("uint8", (len(self.scheme.codes(self.probability_level)),))
        for (year, number), group in self._groups.items():
            where = f"{self.folder}/{year}/{number}"
            if number >= len(self.overviews) or _grid(group) != self.overviews[number]:
                raise CorruptFileError(f"{where} has another grid than the first year.", "Write the map again.")
            grid = self.overviews[number]
            found = {
                str(name): (str(array.dtype), array.shape)
                for name, array in group.arrays()
                if name not in _COORDINATES and array.ndim > 1
            }
            shapes = {name: (dtype, (*axis, grid.height, grid.width)) for name, (dtype, axis) in expected.items()}
            if found != shapes:
                raise CorruptFileError(f"{where} has the arrays {found}, not {shapes}.", "Write the map again.")


def positions(scheme: ClassScheme) -> tuple[int, ...]:
    """Codes of all classes by level and code: a class in chunk files is a position in this sequence."""
    return tuple(sorted(scheme.classes, key=lambda code: (scheme.classes[code].level, code)))


def _encode(codes: Stored, scheme: ClassScheme, mixed: bool, where: str) -> Stored:
    table = np.full(65536, -1, np.int16)
    table[NODATA] = NO_CLASS
    known = (*positions(scheme), *([UNCERTAIN] if mixed else []))
    table[list(known)] = np.arange(len(known))
    result = table[codes]
    if result.size and result.min() < 0:
        code = int(codes[result < 0][0])
        raise CorruptFileError(f"{where} has {code}, not a {scheme.label} code.", "Write the map again.")
    return result.astype(np.uint8)


def _group(parent: zarr.Group, name: str) -> zarr.Group:
    group = parent[name]
    if not isinstance(group, zarr.Group):
        raise CorruptFileError(f"{name} is not a Zarr group.", "Write the map again.")
    return group


def _grid(group: zarr.Group) -> Overview:
    dx, shear, left, skew, dy, top = (float(v) for v in group.attrs["spatial:transform"])  # type: ignore[union-attr, arg-type]
    height, width = (int(v) for v in group.attrs["spatial:shape"])  # type: ignore[union-attr, arg-type]
    if group.attrs.get("proj:code") != "EPSG:3035" or dx <= 0 or dy != -dx or shear or skew:
        raise CorruptFileError(f"{group.path} is not on a grid of EPSG:3035 that is north up.", "Write the map again.")
    return Overview(left, top, dx, width, height)


def _layer(name: str, array: zarr.Array[Any], scheme: ClassScheme) -> Layer:
    attributes = dict(array.attrs)
    title = str(attributes.get("long_name") or name.replace("_", " "))
    if attributes.get("legend_digest") is not None:
        stated: list[Any] = [code for code in attributes["flag_values"] if code != NODATA]  # type: ignore[union-attr]
        levels = {scheme.classes[code].level if code in scheme.classes else 0 for code in stated}
        level = levels.pop() if len(levels) == 1 else 0
        shown = title if not level else "Classes" if scheme.subset else f"Level {level}"
        return Layer(name, "class", shown, "uint8", NO_CLASS, level)
    if str(array.dtype) not in DTYPES:
        raise UnsupportedFormatError(f"{array.path} has the type {array.dtype}.", f"Use one of {', '.join(DTYPES)}.")
    count = "_FillValue" not in attributes and bool(array.fill_value == 0)
    fill = attributes.get("_FillValue", array.fill_value)
    fill = None if fill is None or fill != fill else float(fill)  # NaN is not data in any case
    unit = str(attributes.get("units", ""))
    scale, offset = (float(attributes.get(key, default)) for key, default in (("scale_factor", 1), ("add_offset", 0)))  # type: ignore[arg-type]
    return Layer(name, "value", title, str(array.dtype), fill, 0, scale, offset, "" if unit == "1" else unit, count)
