"""Built-up land on a procedural land map: towns, villages, industry, airports, roads and railways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rasterio.features import rasterize
from rasterio.transform import from_origin
from scipy import ndimage
from shapely import LineString, Point, affinity
from shapely.geometry.base import BaseGeometry

from builders.simulate.country import Canvas, Codes
from builders.simulate.noise import Float, key, mix2, portable, uniform
from lulcbench.grid import LABEL_RESOLUTION

_TOWN_SPACING = 8_000.0
_VILLAGE_SPACING = 2_200.0
_WATER = (5110, 5120, 5210, 5220, 5230)


@dataclass(frozen=True)
class _Town:
    """A settlement: lattice cell, centre (EPSG:3035 m), radius (m), peak density (0…1) and a bearing (radians)."""

    cell: tuple[int, int]
    x: float
    y: float
    radius: float
    peak: float
    bearing: float


def draw_settlements(canvas: Canvas, land: Codes) -> Codes:
    """Draw settlements on a land map.

    Args:
        canvas: the grid.
        land: codes without settlements, uint16 (h, w).

    Returns:
        Codes with settlements, uint16 (h, w).
    """
    towns = _lattice(canvas, "town", _TOWN_SPACING, share=0.85, radii=(500.0, 3_200.0), peak=1.0)
    villages = _lattice(canvas, "village", _VILLAGE_SPACING, share=0.45, radii=(130.0, 420.0), peak=0.55)
    density = np.full(land.shape, -9.0, np.float32)
    for town in (*towns, *villages):
        _raise_density(canvas, density, town)
    density += 0.16 * canvas.noise("sprawl", 420, 3)

    built = land.copy()
    water = np.isin(land, _WATER)
    for low, code in ((0.0, 1123), (0.16, 1122), (0.36, 1121), (0.62, 1111)):
        built[density > low] = code
    _draw_quarters(canvas, built, density, water)
    built[water] = land[water]
    open_water = np.isin(land, (5120, 5210, 5230))
    big = [town for town in towns if town.radius > 1_100]
    layers = (
        (1241, [_airfield(town) for town in big if town.radius > 1_500]),
        (1242, [_terminal(town) for town in big if town.radius > 1_500]),
        (1221, _network(canvas, towns)),
        (1222, [_station(town) for town in big]),
    )
    for code, shapes in layers:
        _burn(canvas, built, shapes, code, ~open_water)
    return built


def _lattice(
    canvas: Canvas, name: str, spacing: float, share: float, radii: tuple[float, float], peak: float
) -> list[_Town]:
    # One more cell on each side of the map, since settlements outside of it may extend into it.
    columns = np.arange(int(canvas.x[0] // spacing) - 1, int(canvas.x[-1] // spacing) + 2)
    rows = np.arange(int(canvas.y[-1] // spacing) - 1, int(canvas.y[0] // spacing) + 2)
    i, j = (a.ravel() for a in np.meshgrid(columns, rows))
    u = [uniform(mix2(i, j, key(canvas.seed, name, n))).astype(np.float64) for n in range(5)]
    x, y = (i + 0.15 + 0.7 * u[0]) * spacing, (j + 0.15 + 0.7 * u[1]) * spacing
    radius = (radii[0] * portable(np.power, radii[1] / radii[0], u[3])).astype(np.float64)
    return [
        _Town((int(i[n]), int(j[n])), x[n], y[n], radius[n], peak, 2 * np.pi * u[4][n])
        for n in np.flatnonzero(u[2] < share)
    ]


def _raise_density(canvas: Canvas, density: Float, town: _Town) -> None:
    reach = 2.5 * town.radius
    columns = slice(*np.searchsorted(canvas.x, (town.x - reach, town.x + reach)))
    rows = slice(*np.searchsorted(-canvas.y, (-town.y - reach, -town.y + reach)))
    dx, dy = canvas.x[None, columns] - town.x, canvas.y[rows, None] - town.y
    # Towns are elongated along their bearing.
    cos, sin = portable(np.cos, town.bearing), portable(np.sin, town.bearing)
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    distance = np.hypot(along / 1.25, across / 0.8)
    town_density = (town.peak * (1 - distance / town.radius)).astype(np.float32)
    np.maximum(density[rows, columns], town_density, out=density[rows, columns])


def _draw_quarters(canvas: Canvas, built: Codes, density: Float, water: npt.NDArray[np.bool_]) -> None:
    town = density > 0.0
    edge = (density > -0.5) & (density < 0.45)
    near = (density > -1.6) & (density <= 0.0)
    near_water = ndimage.uniform_filter(water.astype(np.float32), 15) > 0.12

    def where(name: str, wavelength: float, above: float) -> npt.NDArray[np.bool_]:
        return canvas.noise(name, wavelength, 2) > above

    built[edge & where("industry", 1_000, 1.05)] = 1210
    built[town & where("park", 450, 1.45)] = 1410
    built[town & where("urban-green", 300, 1.8)] = 1130
    built[(town | edge) & where("sport", 500, 1.6)] = 1421
    built[edge & where("leisure", 450, 1.9)] = 1422
    built[edge & where("construction", 400, 1.85)] = 1330
    built[near & where("mine", 700, 2.1)] = 1310
    built[near & where("dump", 450, 2.2)] = 1320
    built[near & where("golf", 800, 2.1)] = 1421
    built[(density > -0.3) & near_water & where("port", 900, 0.5)] = 1230


def _offset(town: _Town, along: float, across: float) -> tuple[float, float]:
    cos, sin = portable(np.cos, town.bearing), portable(np.sin, town.bearing)
    return (town.x + along * cos - across * sin, town.y + along * sin + across * cos)


def _ellipse(town: _Town, along: float, across: float, length: float, width: float) -> BaseGeometry:
    circle = Point(0, 0).buffer(1)
    turned = affinity.rotate(affinity.scale(circle, length / 2, width / 2), town.bearing, use_radians=True)
    return affinity.translate(turned, *_offset(town, along, across))


def _airfield(town: _Town) -> BaseGeometry:
    return _ellipse(town, 0.0, 1.35 * town.radius, 3_000, 900)


def _terminal(town: _Town) -> BaseGeometry:
    return _ellipse(town, 0.0, 1.35 * town.radius - 330, 650, 280)


def _station(town: _Town) -> BaseGeometry:
    return _ellipse(town, 0.15 * town.radius, 0.1 * town.radius, 750, 170)


def _network(canvas: Canvas, towns: list[_Town]) -> list[BaseGeometry]:
    """Curved roads and railways to neighbours in the east, north and north-east, and rings around large towns."""
    by_cell = {town.cell: town for town in towns}
    lines: list[BaseGeometry] = []
    for (i, j), town in by_cell.items():
        for n, other in enumerate((by_cell.get((i + 1, j)), by_cell.get((i, j + 1)), by_cell.get((i + 1, j + 1)))):
            u = uniform(mix2(np.array([i]), np.array([j]), key(canvas.seed, "bend", n))).item()
            if other is None or (n == 2 and u < 0.6):
                continue
            dx, dy = other.x - town.x, other.y - town.y
            t = np.linspace(0, 1, 25)
            bend = 0.35 * (u - 0.5) * portable(np.sin, np.pi * t) + 0.06 * portable(np.sin, 3 * np.pi * t + 6 * u)
            points = np.column_stack([town.x + t * dx - bend * dy, town.y + t * dy + bend * dx])
            lines.append(LineString(points).buffer(38 if n < 2 else 55))
        if town.radius > 1_800:
            ring = Point(town.x, town.y).buffer(1.05 * town.radius)
            lines.append(ring.exterior.buffer(45))
    return lines


def _burn(canvas: Canvas, built: Codes, shapes: list[BaseGeometry], code: int, where: npt.NDArray[np.bool_]) -> None:
    if shapes:
        half = LABEL_RESOLUTION / 2
        origin = from_origin(canvas.x[0] - half, canvas.y[0] + half, LABEL_RESOLUTION, LABEL_RESOLUTION)
        mask = rasterize(shapes, built.shape, transform=origin, dtype="uint8").astype(bool)
        built[mask & where] = code
