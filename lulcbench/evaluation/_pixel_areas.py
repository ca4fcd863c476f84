"""True areas of the pixels of a raster in any CRS, on the ellipsoid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_EQUAL_AREA = 1e-6  # relative: areas that agree so well with the projected ones are those of an equal-area projection
_DIFFERENCE = 2000.0  # m, of the derivatives: relative errors of areas are below 1e-6
_NEAR_OUTLINE = 1e-3  # of the differences, where these would reach out of the Earth's outline
_SAME = 1.0  # m: a position on the Earth is found again from its degrees
_NODES = 5  # of at least so many, inside the outline, an equal-area projection is recognised
_STEP = 32  # px between the nodes of the lattice in which areal scales are interpolated


class PixelAreas:
    """Areas of pixels in m².

    - Equal-area projections (EPSG:3035): one number.
    - Degrees: exact zones of the ellipsoid, one number per row (Snyder 1987, Map Projections, eq. 3-12).
    - Other projections (UTM, national grids in metres or feet): by the derivatives of longitude and latitude,
      interpolated between nodes 32 pixels apart.

    Maps of the whole Earth have pixels outside its outline, whose area is 0: their positions do not survive the
    conversion to degrees and back. Around the outline, areas are computed pixel by pixel.

    Args:
        crs: WKT.
        transform: (a, b, c, d, e, f): x = a·column + b·row + c, y = d·column + e·row + f.
        shape: rows and columns.

    Examples:
        >>> from pyproj import CRS
        >>> areas = PixelAreas(CRS(3035).to_wkt(), (30, 0, 4_300_000, 0, -30, 3_200_000), (100, 100))
        >>> areas.window(slice(0, 9), slice(0, 9))
        900.0
    """

    def __init__(self, crs: str, transform: tuple[float, ...], shape: tuple[int, int]) -> None:
        from pyproj import CRS, Geod, Transformer

        system = CRS.from_wkt(crs)
        self._a, self._b, self._c, self._d, self._e, self._f = transform
        determinant = abs(self._a * self._e - self._b * self._d)
        unit = float(system.axis_info[0].unit_conversion_factor) if system.axis_info else 1.0
        geod = system.get_geod() or Geod(ellps="WGS84")
        self._major, self._squared = float(geod.a), float(geod.es)
        self._geographic = system.is_geographic
        self._radians = unit if self._geographic else 1.0
        self._determinant, self._step = determinant, _DIFFERENCE / unit
        self._equal_area: float | None = None
        if not self._geographic:
            self._to_degrees = Transformer.from_crs(system, system.geodetic_crs, always_xy=True)
            rows, columns = np.meshgrid(np.linspace(0, shape[0], 9), np.linspace(0, shape[1], 9), indexing="ij")
            projected = determinant * unit**2
            areas = self._differences(*self._projected(rows, columns), self._step)
            areas = areas[np.isfinite(areas)]
            if len(areas) >= _NODES and (np.abs(areas / projected - 1) < _EQUAL_AREA).all():
                self._equal_area = projected

    def window(self, rows: slice, columns: slice) -> float | Floats:
        """Areas of the pixels of a window: a number, ``(rows, 1)`` or ``(rows, columns)``."""
        if self._equal_area is not None:
            return self._equal_area
        if self._geographic:
            return self._zones(rows, columns)
        at_rows, at_columns = (
            np.linspace(part.start or 0, part.stop, max(2, -(-(part.stop - (part.start or 0)) // _STEP) + 1))
            for part in (rows, columns)
        )
        nodes = self._areas(*np.meshgrid(at_rows, at_columns, indexing="ij"))
        row, column = (np.arange(part.start or 0, part.stop) + 0.5 for part in (rows, columns))
        if not nodes.all():
            return self._areas(*np.meshgrid(row, column, indexing="ij"))
        across = np.stack([np.interp(column, at_columns, line) for line in nodes])
        place = np.clip(np.searchsorted(at_rows, row) - 1, 0, len(at_rows) - 2)
        share = ((row - at_rows[place]) / (at_rows[place + 1] - at_rows[place]))[:, None]
        result: Floats = across[place] * (1 - share) + across[place + 1] * share
        return result

    def _areas(self, rows: Floats, columns: Floats) -> Floats:
        """Areas of pixels around these rows and columns, from central differences; 0 outside the Earth's outline."""
        x, y = self._projected(rows, columns)
        area = self._differences(x, y, self._step)
        if (near := np.isnan(area)).any():
            area[near] = self._differences(x[near], y[near], self._step * _NEAR_OUTLINE, one_sided=True)
        return np.nan_to_num(area)

    def _projected(self, rows: Floats, columns: Floats) -> tuple[Floats, Floats]:
        return self._a * columns + self._b * rows + self._c, self._d * columns + self._e * rows + self._f

    def _differences(self, x: Floats, y: Floats, step: float, one_sided: bool = False) -> Floats:
        """Areas of pixels at positions, from differences over a step to both sides; NaN outside the outline.

        One-sided: also of positions from which the outline is closer than a step to one side.
        """
        centre = self._degrees(x, y)
        differences = []
        for dx, dy in ((step, 0.0), (0.0, step)):
            ends = [self._degrees(x + sign * dx, y + sign * dy) for sign in (1, -1)]
            out = [np.isnan(end[0]) for end in ends]
            if one_sided:
                ends = [np.where(away, centre, end) for away, end in zip(out, ends, strict=True)]
            length = step * (2.0 - (out[0] != out[1]))
            longitude = (ends[0][0] - ends[1][0] + 180) % 360 - 180
            differences.append(np.radians([longitude, ends[0][1] - ends[1][1]]) / length)
        (east_x, north_x), (east_y, north_y) = differences
        element = self._element(np.radians(centre[1]))
        area: Floats = np.abs(east_x * north_y - east_y * north_x) * element * self._determinant
        return area

    def _degrees(self, x: Floats, y: Floats) -> Floats:
        """Longitudes and latitudes ``(2, …)``; NaN for positions that are not found again from them."""
        longitude, latitude = (np.asarray(part, np.float64) for part in self._to_degrees.transform(x, y))
        again = (np.asarray(part) for part in self._to_degrees.transform(longitude, latitude, direction="INVERSE"))
        with np.errstate(invalid="ignore"):
            apart = np.hypot(*(part - own for part, own in zip(again, (x, y), strict=True)))
        there = apart < _SAME * self._step / _DIFFERENCE
        degrees: Floats = np.where(there, (longitude, latitude), np.nan)
        return degrees

    def _element(self, latitude: Floats) -> Floats:
        """Area of the ellipsoid per square radian of longitude and latitude."""
        e2 = self._squared
        element: Floats = self._major**2 * (1 - e2) / (1 - e2 * np.sin(latitude) ** 2) ** 2 * np.cos(latitude)
        return element

    def _zones(self, rows: slice, columns: slice) -> Floats:
        """Areas between parallels; of a rotated raster, the area at the centre of each pixel."""
        row = np.arange(rows.start or 0, rows.stop)[:, None]
        if self._b == self._d == 0:
            south, north = (self._q(self._radians * (self._e * (row + i) + self._f)) for i in (0, 1))
            width = abs(self._a) * self._radians
            return np.abs(north - south) * width * self._major**2 / 2
        column = np.arange(columns.start or 0, columns.stop)[None]
        latitude = self._radians * (self._d * (column + 0.5) + self._e * (row + 0.5) + self._f)
        return self._element(latitude) * self._determinant * self._radians**2

    def _q(self, latitude: Floats) -> Floats:
        e, sine = np.sqrt(self._squared), np.sin(latitude)
        if not e:
            return 2 * sine
        q: Floats = (1 - e**2) * (sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e)
        return q
