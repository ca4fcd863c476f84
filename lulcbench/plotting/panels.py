"""Panels of figures: imagery in true colour, classes in legend colours, change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.release import ArrayKey, Release, Row
from lulcbench.seasons import nearest_to_midsummer
from lulcbench.sensors import Band, true_color

UNLABELLED = (255, 255, 255)
# Of the most frequent transitions: Okabe and Ito's colours, which people of all kinds of colour vision tell apart.
_TRANSITIONS = (
    (213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (180, 170, 20),
)  # fmt: skip
_UNCERTAIN = ((255, 255, 229), (236, 112, 20), (76, 20, 4))
_NEARLY_ALL = 0.95  # of the pixels of an image
_UNCHANGED, _OTHER, _IGNORED = (238, 238, 238), (60, 60, 60), (176, 176, 176)


@dataclass(frozen=True, slots=True)
class Panel:
    """One image of a figure: RGB ``(y, x, 3)`` as uint8 or float in [0, 1], and legend entries (name, RGB 0 to 255)."""

    title: str
    rgb: npt.NDArray[np.generic]
    entries: tuple[tuple[str, tuple[int, int, int]], ...] = ()


def rgb_panel(values: npt.NDArray[np.floating], bands: Sequence[Band], title: str) -> Panel:
    """True colour of values ``(band, y, x)``, stretched to their 2nd to 98th percentile; NaN is black.

    If red, green or blue is missing, the first three bands are shown instead, or the first one in grey.
    """
    channels = true_color(bands)
    if channels is None:
        channels = (0, 0, 0) if len(bands) < 3 else (0, 1, 2)
        title += f" ({'/'.join(dict.fromkeys(bands[i].name for i in channels))})"
    rgb = np.stack([values[i] for i in channels], -1)
    low, high = np.nanpercentile(rgb, (2, 98)) if np.isfinite(rgb).any() else (0.0, 1.0)
    entries: tuple[tuple[str, tuple[int, int, int]], ...]
    entries = () if np.isfinite(rgb).all() else (("no value in the image", (0, 0, 0)),)
    return Panel(title, np.nan_to_num(np.clip((rgb - low) / max(high - low, 1e-6), 0, 1)), entries)


def class_panel(indices: npt.NDArray[np.integer], level: int, title: str) -> Panel:
    """Class indices ``(y, x)`` of a level in legend colours; the legend lists the classes in order of frequency.

    Raises:
        LulcbenchError: an index is not a class of that level.
    """
    check_classes(indices, len(legend().codes(level)), f"The map {title!r}")
    present, counts = np.unique(indices[indices != IGNORE_INDEX], return_counts=True)
    codes, names, colors = legend().codes(level), legend().names(level), legend().colors(level)
    entries = [(f"{codes[i]} {names[i]}", _rgb(colors[i])) for i in present[np.argsort(-counts, kind="stable")]]
    if (indices == IGNORE_INDEX).any():
        entries.append(("no class at this level", _rgb(colors[IGNORE_INDEX])))
    return Panel(f"{title}, level {level}", colors[indices], tuple(entries))


def change_panel(changed: npt.NDArray[np.integer], title: str) -> Panel:
    """Map of change ``(y, x)``: 1 is dark, 0 light, and ignored pixels are grey.

    Raises:
        LulcbenchError: there are other values.
    """
    check_classes(changed, 2, f"The map {title!r}")
    colors = np.zeros((256, 3), np.uint8)
    colors[0], colors[1], colors[IGNORE_INDEX] = _UNCHANGED, _OTHER, _IGNORED
    entries = [("unchanged", _UNCHANGED), ("changed", _OTHER), ("change not known", _IGNORED)]
    return Panel(
        title,
        colors[changed],
        tuple(e for e, v in zip(entries, (0, 1, IGNORE_INDEX), strict=True) if (changed == v).any()),
    )


def transition_panel(before: npt.NDArray[np.integer], after: npt.NDArray[np.integer], level: int, title: str) -> Panel:
    """What changed into what: the most frequent transitions in colours of their own, others in one dark colour.

    Args:
        before: class indices ``(y, x)`` of a level.
        after: class indices of the same pixels later.
        level: level of both.
        title: of the panel.

    Raises:
        LulcbenchError: an index is not a class of that level.
    """
    codes, names = legend().codes(level), legend().names(level)
    for indices in (before, after):
        check_classes(indices, len(codes), f"The map {title!r}")
    known = (before != IGNORE_INDEX) & (after != IGNORE_INDEX)
    changed = known & (before != after)
    pairs, counts = np.unique(np.stack([before[changed], after[changed]]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rgb = np.full((*before.shape, 3), _IGNORED, np.uint8)
    rgb[known], rgb[changed] = _UNCHANGED, _OTHER
    entries = []
    for (first, second), color in zip(pairs[:, order].T.tolist(), _TRANSITIONS, strict=False):
        rgb[(before == first) & (after == second)] = color
        entries.append((f"{codes[first]} {names[first]} → {codes[second]} {names[second]}", color))
    if (more := len(order) - len(_TRANSITIONS)) > 0:
        entries.append((f"{more} other transition{'s' * (more > 1)}", _OTHER))
    if (known & ~changed).any():
        entries.append(("unchanged", _UNCHANGED))
    if not known.all():
        entries.append(("change not known", _IGNORED))
    return Panel(f"{title}, level {level}", rgb, tuple(entries))


def uncertainty_panel(p: npt.NDArray[np.floating], title: str = "uncertainty") -> Panel:
    """How uncertain a prediction is: 1 minus the probability of its class, from light (0) to dark (1).

    Args:
        p: class probabilities ``(class, y, x)``.
        title: of the panel.
    """
    uncertain = np.clip(1 - np.asarray(p, np.float64).max(axis=0), 0, 1)

    def color(value: npt.NDArray[np.floating] | float) -> npt.NDArray[np.uint8]:
        channels = [np.interp(value, (0, 0.5, 1), ends) for ends in zip(*_UNCERTAIN, strict=True)]
        return np.rint(np.stack(channels, -1)).astype(np.uint8)

    entries = tuple((f"uncertainty {v:g}", _rgb(color(v))) for v in (0, 0.25, 0.5, 0.75, 1))
    return Panel(f"{title} (1 − probability of the class)", color(uncertain), entries)


def check_classes(indices: npt.NDArray[np.integer], classes: int, what: str) -> None:
    """Check that all values are class indices below ``classes`` or ``IGNORE_INDEX``.

    Raises:
        LulcbenchError: a value is not; states it.
    """
    bad = indices[((indices < 0) | (indices >= classes)) & (indices != IGNORE_INDEX)]
    if bad.size:
        raise LulcbenchError(
            f"{what} has the class {bad.flat[0]}.",
            f"Valid are 0 to {classes - 1}, and {IGNORE_INDEX} for ignored pixels.",
        )


def tile_panels(
    release: Release,
    tile: str,
    sensor_names: Sequence[str] | None = None,
    season: str | None = None,
    level: int = 3,
) -> list[Panel]:
    """Panels of a tile: true colour of each sensor (None: all) and year in one season, and the labels of each year.

    The default season is the one nearest to midsummer. Of dated imagery, it is the clear date nearest to midsummer.

    Raises:
        NotAvailableError: the release has no such tile, sensor or season.
        LulcbenchError: there is no such level.
    """
    legend().codes(level)
    manifest = release.manifest
    names = [info.name for info in manifest.seasons]
    if season is not None and season not in names:
        raise NotAvailableError(f"{release.id} has no season {season!r}.", f"It has {', '.join(names)}.")
    position = names.index(season) if season else nearest_to_midsummer(manifest.seasons) if names else 0
    table = release.index()
    rows = zip(table["split"], table["row"].to_numpy(np.int64), strict=True)
    locations = dict(zip(table["id"], rows, strict=True))
    if tile not in locations:
        examples = ", ".join(list(locations)[:5])
        raise NotAvailableError(
            f"{release.id} has no tile {tile!r}.", f"Examples of its tiles: {examples}; all are in its index."
        )
    split, row = locations[tile]
    reader = release.reader(split)
    panels = []
    for name in sensor_names or manifest.sensors:
        info = manifest.sensor(name)
        n = (manifest.tile_size // info.resolution,) * 2
        for year in info.years:
            stored = reader.read(ArrayKey(name, year), [row], [(0, 0)], n, [position])[0, 0]
            title = f"{name} {year}, {names[position]}"
            panels.append(rgb_panel(info.coding.decode(stored), info.bands, title))
        for span in info.spans if season is None else ():
            panels += _dated_panels(release, ArrayKey(name, *span), split, Row(row))
    for source, held in manifest.labels.items():
        for year in held.years if split in held.splits else ():
            codes = release.labels(split, year, [row], source)[0]
            panels.append(class_panel(legend().encode(codes, level, tile), level, f"{source} labels of {year}"))
    return panels


def _dated_panels(release: Release, array: ArrayKey, split: str, row: Row) -> list[Panel]:
    """True colour of a tile on one date of each year: the one nearest to midsummer that is nearly without gaps."""
    info, reader = release.manifest.sensor(array.name), release.reader(split)
    n = (release.manifest.tile_size // info.resolution,) * 2
    dates = release.dates(split, array)[row - release.manifest.rows(split).start]
    panels = []
    for year in range(array.first, array.last + 1):
        far = np.abs(dates - np.datetime64(f"{year}-06-21"))
        of_year = np.flatnonzero(dates.astype("datetime64[Y]") == np.datetime64(str(year), "Y"))
        best, known = None, -1.0
        for position in of_year[np.argsort(far[of_year], kind="stable")]:
            values = info.coding.decode(reader.read(array, [row], [(0, 0)], n, [int(position)])[0, 0])
            if (share := float(np.isfinite(values).mean())) > known:
                best, known = rgb_panel(values, info.bands, f"{array.name} {dates[position]}"), share
            if known >= _NEARLY_ALL:
                break
        panels += [best] if best is not None else []
    return panels


def credit(release: Release, sensors: Sequence[str] = (), sources: Sequence[str] = ()) -> str:
    """The line below a figure that names what it shows and who made that: sensors, labels, licences, release.

    Args:
        release: an opened release.
        sensors: the sensors that are shown.
        sources: the sources of the labels that are shown.
    """
    manifest = release.manifest
    licences = dict.fromkeys(
        [*(manifest.sensor(name).licence for name in sensors), *(manifest.labels[name].licence for name in sources)]
    )
    named = dict.fromkeys(source.attribution or source.title for source in manifest.sources)
    return f"{'; '.join(named)}. Licences: {', '.join(licences)}. Release {manifest.id}, {manifest.crs}."


def _rgb(color: npt.NDArray[np.uint8]) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in color)
    return red, green, blue
