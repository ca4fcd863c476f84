"""Land change in dated images of a place: patches of a grid are classified date by date, then spotted.

A patch classifier (such as one of EuroSAT patches: Helber et al. 2019) gives the probabilities of a patch; those of a
classifier of pixels are averaged over the clear pixels of the patch. Blocks of patches are finished one after another,
so that memory depends neither on the size of the place nor on the number of images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.crosswalk import read_crosswalk
from lulcbench.evaluation.patch_series import LEAST_KNOWN, PatchSeries, spot_all
from lulcbench.evaluation.spotting import CLEAR, COMPOSITE_OUTLIERS, CONFIDENCE, OUTLIERS, RATE
from lulcbench.grid import CRS, Bounds
from lulcbench.legend import NODATA, legend
from lulcbench.maps.dated_files import SceneImages
from lulcbench.maps.dated_images import DatedImages, Mask, Seen
from lulcbench.maps.dated_releases import Acquisitions, Composites
from lulcbench.maps.lattice import MAX_HALO
from lulcbench.maps.layers import temper
from lulcbench.maps.model import Image, MapModel, ModelInfo, OnnxPredictor, step_of
from lulcbench.release import MANIFEST, Release
from lulcbench.remote import is_remote

if TYPE_CHECKING:
    import geopandas

BLOCK: Final = 480  # px, about the side of the patches that are read at once
PATCH: Final = 640.0  # m, of EuroSAT
_PIXELS = 10  # along the side of a patch whose pixels are classified, by default

Floats32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Spotted:
    """Changes in a place.

    Attributes:
        changes: the most certain first: ``place``, columns of ``spotting.Change``, ``x`` and ``y`` of the centre in
            EPSG:3035, ``lon``, ``lat``, and ``left``, ``top``: the corner of the patch in the CRS of the images.
        series: place → probabilities, of patches with a change.
        patches: number of patches with at least two dates.
        years: patch-years.
        left_out: reason → number of images of patches.
        images: that were looked at.
        model: that predicted.
        side: of a patch, m.
    """

    changes: pd.DataFrame
    series: dict[str, PatchSeries]
    patches: int
    years: float
    left_out: dict[str, int]
    images: DatedImages
    model: MapModel
    side: float


def open_images(
    root: str | Path,
    info: ModelInfo,
    names: Sequence[str] | None = None,
    scale: float | None = None,
    offset: float = 0.0,
) -> DatedImages:
    """Images of a release (folder or URL), a folder of rasters or a STAC catalog, as inputs of a model.

    Args:
        root: where they are.
        info: the model.
        names: of the bands of rasters that do not name them, in order.
        scale: of the values of rasters, if these do not state it.
        offset: added to scaled values.

    Raises:
        LulcbenchError: there are no images, or they lack what the model needs.
    """
    if not is_remote(root) and not (Path(root) / MANIFEST).is_file():
        return SceneImages(root, info, names, scale, offset)
    release = Release.open(root)
    if names or scale is not None or offset:
        raise LulcbenchError(
            f"{release.id} states the bands and units of its imagery.", "Leave out names, scale and offset of bands."
        )
    seasonal = all(wanted.seasons for wanted in info.inputs.values())
    return Composites(release, info) if seasonal else Acquisitions(release, info)


def spot_images(
    images: DatedImages,
    model: MapModel,
    *,
    patch: float | None = None,
    stride: float | None = None,
    level: int | None = None,
    legend_name: str | None = None,
    clear: float = CLEAR,
    rate: float = RATE,
    confidence: float = CONFIDENCE,
    bounds: Bounds | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Spotted:
    """Classify the patches of a place at all dates, and find their changes.

    Args:
        images: of the place.
        model: of patches or of pixels.
        patch: side of a patch, m; None takes that of the training data, 640 m if it is not stated, and 10 pixels for a
            model of pixels.
        stride: distance of patches, m; None takes the side.
        level: legend level of the changes; None takes 2, or that of the model if it is coarser. Of models of the LUISA
            legend only.
        legend_name: CSV file (value, code) that translates the classes of a model of another legend.
        clear: least share of clear pixels of a patch.
        rate: changes per patch and year.
        confidence: least probability of a change that is reported.
        bounds: area in EPSG:3035; None takes all.
        progress: is told the numbers of finished blocks and of all blocks.

    Raises:
        LulcbenchError: classes have no LUISA codes; no patch fits into the images or has two images.
    """
    info = model.info
    codes = _codes(info, level, legend_name)
    size = info.resolution
    side = patch or ((info.window or PATCH) if not info.dense else _PIXELS * size)
    grid = _Grid.of(images, size, side, stride or side, bounds)
    predictor = model.predictor()
    outliers = COMPOSITE_OUTLIERS if images.composites else OUTLIERS
    found, series = list[pd.DataFrame](), dict[str, PatchSeries]()
    patches, years, clouded = 0, 0.0, 0
    blocks = list(grid.blocks())
    for done, block in enumerate(blocks, start=1):
        dates = images.dates(grid.bounds_of(block))
        p, seen = _predict(images, info, predictor, grid, block, dates, clear)
        clouded += int((~seen).sum())
        kept = []
        for at, (i, j) in enumerate(block):
            own = p[:, at, codes != NODATA].astype(np.float64)
            total = own.sum(axis=1, keepdims=True)
            used = seen[:, at] & (total[:, 0] > LEAST_KNOWN)
            if used.sum() < 2:
                continue
            x, y = grid.center(i, j)
            days = np.array(dates, "datetime64[D]")[used]
            kept.append(PatchSeries(f"E{x:.0f}N{y:.0f}", days, own[used] / total[used], codes[codes != NODATA], (x, y)))
        patches += len(kept)
        years += sum(one.years for one in kept)
        changes = spot_all(kept, rate, confidence, outliers)
        found.append(changes)
        changed = set(changes["place"])
        series |= {one.place: one for one in kept if one.place in changed}
        if progress:
            progress(done, len(blocks))
    if not patches:
        raise LulcbenchError(
            f"No patch of {side:g} m of {images.name} has two clear images.",
            "Give smaller patches (--patch), more images, or a smaller --clear.",
        )
    changes = pd.concat(found, ignore_index=True).sort_values("confidence", ascending=False, kind="stable")
    left_out = {"clouded or without data": clouded} if clouded else {}
    located = _located(changes.reset_index(drop=True), images.crs, side)
    return Spotted(located, series, patches, years, left_out, images, model, side)


def _codes(info: ModelInfo, level: int | None, legend_name: str | None) -> npt.NDArray[np.int64]:
    """LUISA code of each class of a model, 0 for none."""
    if info.level is not None:
        if legend_name is not None:
            raise LulcbenchError(f"{info.name} has LUISA classes.", "Leave out --legend.")
        level = min(2, info.level) if level is None else level
        if level > info.level:
            raise LulcbenchError(
                f"{info.name} has classes of level {info.level}.", f"Use --level {info.level} or less."
            )
        return np.array(legend().codes(level), np.int64)[legend().parents(info.level, level)]
    if level is not None:
        raise LulcbenchError(
            f"{info.name} has classes of another legend, without levels.",
            "Leave out --level: the codes of --legend are the classes of the changes.",
        )
    if legend_name is None:
        raise LulcbenchError(
            f"{info.name} has classes of another legend: {', '.join(info.classes[:8])}.",
            "Translate them by --legend: a CSV file with the columns value and code, or eurosat.",
        )
    table = read_crosswalk(legend_name)
    if unknown := [name for name in info.classes if name not in table]:
        raise LulcbenchError(
            f"{legend_name} lacks classes of {info.name}: {unknown[:8]}.", "Add them; 0 leaves one out."
        )
    codes = np.array([table[name] for name in info.classes], np.int64)
    if len(set(codes[codes != NODATA].tolist())) < 2:
        raise LulcbenchError(f"{legend_name} translates to fewer than two classes.", "Change is between classes.")
    return codes


@dataclass(frozen=True)
class _Grid:
    """Patches of a place: row ``i`` counted downwards, column ``j`` to the right, from the origin of its images."""

    origin: tuple[float, float]
    size: int
    side: int  # px
    stride: int  # px
    first: tuple[int, int]
    last: tuple[int, int]  # excluded
    area: Bounds | None
    crs: str

    @classmethod
    def of(cls, images: DatedImages, size: int, side: float, stride: float, area: Bounds | None) -> _Grid:
        for what, length in (("patch", side), ("stride", stride)):
            if length < size or abs(length / size - round(length / size)) > 1e-6:
                raise LulcbenchError(f"A {what} of {length:g} m is not whole pixels of {size} m.", "Give a multiple.")
        n, step = round(side / size), round(stride / size) * size
        left, bottom, right, top = images.bounds
        x0, y0 = images.origin
        tiny = 1e-6 * size
        first = math.ceil((y0 - top - tiny) / step), math.ceil((left - x0 - tiny) / step)
        last = (
            math.floor((y0 - bottom - side + tiny) / step) + 1,
            math.floor((right - x0 - side + tiny) / step) + 1,
        )
        if min(last[0] - first[0], last[1] - first[1]) < 1:
            raise LulcbenchError(
                f"No patch of {side:g} m fits into {images.name}, {right - left:g} m × {top - bottom:g} m.",
                "Give a smaller --patch, if the model takes one.",
            )
        return cls(images.origin, size, n, round(stride / size), first, last, area, images.crs)

    def corner(self, i: int, j: int) -> tuple[float, float]:
        """Left and top of a patch."""
        step = self.stride * self.size
        return self.origin[0] + j * step, self.origin[1] - i * step

    def center(self, i: int, j: int) -> tuple[float, float]:
        """Centre of a patch."""
        left, top = self.corner(i, j)
        half = self.side * self.size / 2
        return left + half, top - half

    def blocks(self) -> Iterator[list[tuple[int, int]]]:
        """Patches that are read together."""
        n = max(1, BLOCK // self.stride)
        for i in range(self.first[0], self.last[0], n):
            for j in range(self.first[1], self.last[1], n):
                rows, columns = range(i, min(i + n, self.last[0])), range(j, min(j + n, self.last[1]))
                if own := self._inside([(row, column) for row in rows for column in columns]):
                    yield own

    def _inside(self, patches: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those whose centre is in the area that was requested."""
        if self.area is None:
            return patches
        centers = np.array([self.center(i, j) for i, j in patches])
        x, y = _transformed(self.crs, CRS, centers[:, 0], centers[:, 1])
        left, bottom, right, top = self.area
        inside = (x >= left) & (x < right) & (y > bottom) & (y <= top)
        return [own for own, there in zip(patches, inside, strict=True) if there]

    def bounds_of(self, block: Sequence[tuple[int, int]]) -> Bounds:
        """Bounds of a block of patches."""
        (left, top), side = self.corner(min(i for i, _ in block), min(j for _, j in block)), self.side * self.size
        x, y = self.corner(max(i for i, _ in block), max(j for _, j in block))
        return (left, y - side, x + side, top)

    def place(self, patch: tuple[int, int], bounds: Bounds) -> tuple[int, int]:
        """Row and column of the first pixel of a patch in an area."""
        left, top = self.corner(*patch)
        return round((bounds[3] - top) / self.size), round((left - bounds[0]) / self.size)


def _predict(
    images: DatedImages,
    info: ModelInfo,
    predictor: OnnxPredictor,
    grid: _Grid,
    block: Sequence[tuple[int, int]],
    dates: Sequence[np.datetime64],
    least: float,
) -> tuple[Floats32, Mask]:
    """Probabilities of a block ``(date, patch, class)``, and which of them were seen ``(date, patch)``."""
    p = np.zeros((len(dates), len(block), len(info.classes)), np.float32)
    seen = np.zeros(p.shape[:2], bool)
    inner = grid.bounds_of(block)
    outer = _window(inner, info, images.origin) if info.dense else inner
    corners = [grid.place(patch, inner) for patch in block]
    shift = grid.place(block[0], outer)[0] - corners[0][0], grid.place(block[0], outer)[1] - corners[0][1]
    n = grid.side
    for at, date in enumerate(dates):
        view = images.read(date, outer)
        shares = np.array([_cut(view.clear, y + shift[0], x + shift[1], n).mean() for y, x in corners])
        seen[at] = (shares >= least) & (shares > 0)
        if not seen[at].any():
            continue
        if info.dense:
            predicted = temper(_finite(predictor(view.images), view, info, date), info.temperature)
            for k in np.flatnonzero(seen[at]):
                y, x = corners[k][0] + shift[0], corners[k][1] + shift[1]
                own = predicted[:, y : y + n, x : x + n]
                p[at, k] = own[:, _cut(view.clear, y, x, n)].mean(axis=1)
            continue
        for k in np.flatnonzero(seen[at]):
            single = predictor(_patch(view.images, info, corners[k], n))
            if not np.isfinite(single).all():
                raise LulcbenchError(f"{info.name} predicts values that are not finite.", "Check its weights.")
            p[at, k] = temper(single, info.temperature)
    return p, seen


def _finite(p: Image, view: Seen, info: ModelInfo, date: np.datetime64) -> Image:
    wrong = ~np.isfinite(p).all(axis=0)
    if (wrong & view.clear).any():
        raise LulcbenchError(f"{info.name} predicts values that are not finite on {date}.", "Check its weights.")
    return np.where(wrong, np.float32(1 / len(p)), p)


def _window(inner: Bounds, info: ModelInfo, origin: tuple[float, float]) -> Bounds:
    """What a model of pixels sees of an area: whole steps of the model, with a halo."""
    step = step_of(info) * info.resolution
    halo = (MAX_HALO if info.reach is None else min(info.reach, MAX_HALO)) * info.resolution
    (left, bottom, right, top), (x0, y0) = inner, origin
    return (
        x0 + math.floor((left - halo - x0) / step) * step,
        y0 + math.floor((bottom - halo - y0) / step) * step,
        x0 + math.ceil((right + halo - x0) / step) * step,
        y0 + math.ceil((top + halo - y0) / step) * step,
    )


def _cut(values: Mask, y: int, x: int, n: int) -> Mask:
    return values[y : y + n, x : x + n]


def _patch(images: dict[str, Image], info: ModelInfo, corner: tuple[int, int], n: int) -> dict[str, Image]:
    """The images of one patch, of each sensor on its own grid."""
    cut = {}
    for sensor, image in images.items():
        own = info.inputs[sensor].resolution
        y, x, m = (v * info.resolution / own for v in (*corner, n))
        if any(abs(v - round(v)) > 1e-6 for v in (y, x, m)):
            raise LulcbenchError(f"Patches are not whole pixels of {sensor} ({own} m).", "Give another --patch.")
        cut[sensor] = np.ascontiguousarray(image[:, round(y) : round(y + m), round(x) : round(x + m)])
    return cut


def _transformed(
    source: str, target: str, x: npt.ArrayLike, y: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    from rasterio.warp import transform

    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if source == target or not len(x):
        return x, y
    a, b = transform(source, target, x, y)
    return np.array(a, np.float64), np.array(b, np.float64)


def _located(changes: pd.DataFrame, crs: str, side: float) -> pd.DataFrame:
    """Changes with positions in EPSG:3035 and in degrees; the corner of the patch is in the CRS of the images."""
    x, y = changes["x"].to_numpy(np.float64), changes["y"].to_numpy(np.float64)
    lon, lat = _transformed(crs, "EPSG:4326", x, y)
    east, north = _transformed(crs, CRS, x, y)
    return changes.assign(
        x=east.round(1), y=north.round(1), lon=lon.round(6), lat=lat.round(6), left=x - side / 2, top=y + side / 2
    )


def to_squares(spotted: Spotted) -> geopandas.GeoDataFrame:
    """The patches of the changes as polygons in EPSG:3035."""
    import geopandas
    from shapely.geometry import box

    changes, side = spotted.changes, spotted.side
    corners = zip(changes["left"], changes["top"], strict=True)
    shapes = [box(left, top - side, left + side, top) for left, top in corners]
    frame = changes.drop(columns=["left", "top"])
    return geopandas.GeoDataFrame(frame, geometry=shapes, crs=spotted.images.crs).to_crs(CRS)
