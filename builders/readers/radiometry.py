"""What the numbers of a scene mean: scale and offset, settled once per scene from its metadata and its pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pystac
import rasterio
from rasterio.windows import Window

from builders.readers.items import Channel
from builders.readers.opening import ERRORS, clear_errors, opened
from builders.readers.servers import check_readable, is_on_server
from builders.readers.windows import UNDECLARED, UnreadableError, hidden, read_window
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import Band

SIDE = 512  # px of a file that is sampled as a whole; larger ones without overviews are sampled in nine windows
PLAUSIBLE = (-0.05, 1.6)  # of a band's median reflectance; clouds and snow reach 1.2, dark water is slightly negative
BYTE, PERCENT = 255, 100  # highest numbers of codings
LAND = 0.03  # reflectance that a coding must be able to state
ENOUGH = 1000  # sampled numbers from which on their highest tells something
ZEROS = 0.001  # share of numbers that are exactly 0, in every band
DARK = 0.002  # a scene whose brightest band has no pixel above this has other units


@dataclass(frozen=True, slots=True)
class Scaling:
    """Conversion of the digital numbers (DN) of an archive to values.

    Attributes:
        scale: value = DN · scale + offset.
        offset: see ``scale``.
        nodata: DN of missing pixels, besides those that the file itself states.
        power: whether values are linear power, to be stored in decibels.
    """

    scale: float
    offset: float
    nodata: tuple[float, ...] = ()
    power: bool = False


@dataclass(frozen=True, slots=True)
class Scalings:
    """Scaling of each band of a scene, and the decisions taken to find it, with their evidence."""

    by_band: Mapping[Band, Scaling]
    notes: tuple[str, ...] = field(default=())


def sample(channel: Channel) -> npt.NDArray[np.float64]:
    """Valid DN of a channel ``(n,)``, spread over its file; at most a quarter of a million.

    Damaged parts of the file are left out: they are an error when they are read for a tile.
    """
    dataset = opened(channel.href)
    number = channel.band or 1
    height, width = dataset.shape
    if dataset.overviews(number) and max(height, width) > SIDE:
        return _thinned(channel, dataset, number)
    side = SIDE if max(height, width) <= SIDE else SIDE // 3
    parts = [np.empty(0)]
    for row in sorted(set(np.linspace(0, max(0, height - side), 3).astype(int).tolist())):
        for column in sorted(set(np.linspace(0, max(0, width - side), 3).astype(int).tolist())):
            window = Window(column, row, min(side, width), min(side, height))
            try:
                values, missing = read_window(dataset, number, window, _nodata(channel))
            except UnreadableError:
                continue
            parts.append(_valid(values, missing))
    return np.concatenate(parts)


def _thinned(channel: Channel, dataset: rasterio.DatasetReader, number: int) -> npt.NDArray[np.float64]:
    """From the file's overviews."""
    try:
        shape = tuple(min(n, SIDE) for n in dataset.shape)
        read = dataset.read(number, out_shape=shape, masked=True)
        out = hidden(dataset, number, out_shape=shape)
    except ERRORS:
        clear_errors()
        if is_on_server(channel.href):
            check_readable(channel.href)
        return np.empty(0)
    missing = np.ma.getmaskarray(read) if out is None else np.ma.getmaskarray(read) | out
    for mark in _nodata(channel):
        missing = missing | (read.data == mark)
    return _valid(read.data, missing)


def _nodata(channel: Channel) -> tuple[float, ...]:
    return () if channel.nodata is None else (channel.nodata,)


def _valid(values: npt.NDArray[np.generic], missing: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.float64]:
    flat = (values if missing is None else values[~missing]).astype(np.float64).ravel()
    return flat[np.isfinite(flat) & (flat > UNDECLARED)]


def stated(item: pystac.Item, channel: Channel) -> tuple[float | None, float | None]:
    """Scale and offset that the item states or, failing that, the file's own tags; None for what neither states.

    Raises:
        LulcbenchError: item and file state different numbers, or numbers that are not a scale and an offset.
    """
    dataset = opened(channel.href)
    number = channel.band or 1
    tags = (dataset.scales[number - 1], dataset.offsets[number - 1])
    for scale, offset in ((channel.scale, channel.offset), tags):
        if not (math.isfinite(offset or 0) and 0 < (1.0 if scale is None else scale) < math.inf):
            raise LulcbenchError(
                f"Item {item.id}: scale {scale} and offset {offset} are stated for {channel.href}.",
                "Both must be finite numbers, and the scale above 0.",
            )
    if tags == (1.0, 0.0):
        return channel.scale, channel.offset
    if channel.scale is None and channel.offset is None:
        return tags
    own = (1.0 if channel.scale is None else channel.scale, channel.offset or 0.0)
    if not np.allclose(own, tags, rtol=1e-6, atol=1e-9):
        raise LulcbenchError(
            f"Item {item.id} states scale {own[0]:g} and offset {own[1]:g} for {channel.href}, whose own tags state "
            f"{tags[0]:g} and {tags[1]:g}.",
            "Correct the item, or the tags with gdal_edit.py, so that they agree.",
        )
    return channel.scale, channel.offset


def reflectance(
    scale: float, offset: float, nodata: float
) -> Callable[[pystac.Item, Mapping[Band, Channel]], Scalings]:
    """Scalings of an optical archive with one coding of its own, for items that state none.

    An item that states the archive's own scale and no offset has the archive's offset.
    """

    def scalings(item: pystac.Item, chosen: Mapping[Band, Channel]) -> Scalings:
        result: dict[Band, Scaling] = {}
        notes: list[str] = []
        for band, channel in chosen.items():
            own_scale, own_offset = stated(item, channel)
            missing = tuple(dict.fromkeys((nodata, *_nodata(channel))))
            usual = own_scale is not None and math.isclose(own_scale, scale, rel_tol=1e-6)
            same = usual and math.isclose(own_offset or 0, offset, abs_tol=1e-9)
            if same or (own_scale is None and not own_offset):
                result[band] = Scaling(scale, offset, missing)
            elif usual and own_offset is None:
                result[band] = Scaling(scale, offset, missing)
                notes.append(f"scale {scale:g} is stated without an offset: the archive's offset {offset:g} is used")
            else:
                result[band] = Scaling(1 if own_scale is None else own_scale, own_offset or 0, _nodata(channel))
        samples = {band: sample(channel) for band, channel in chosen.items()}
        result, note = without_zeros(result, samples)
        check_reflectance(item, chosen, {band: (samples[band], result[band]) for band in chosen})
        return Scalings(result, tuple(dict.fromkeys((*notes, *note))))

    return scalings


def without_zeros(
    scalings: dict[Band, Scaling], samples: Mapping[Band, npt.NDArray[np.float64]]
) -> tuple[dict[Band, Scaling], tuple[str, ...]]:
    """Scalings in which 0 is missing where it marks missing pixels without a statement of it, and a note on that.

    Ground reflects something in every band. Numbers that are exactly 0, as many in each band, and stand for reflectance
    0, are pixels outside the swath.
    """
    open_ended = {
        band: values for band, values in samples.items() if not scalings[band].offset and 0 not in scalings[band].nodata
    }
    shares = [float((values == 0).mean()) if values.size else 0.0 for values in open_ended.values()]
    if not shares or len(shares) < len(scalings) or min(shares) <= ZEROS:
        return scalings, ()
    marked = {band: replace(own, nodata=(*own.nodata, 0.0)) for band, own in scalings.items()}
    return marked, (
        f"0 is taken for missing, as at least {min(shares):.1%} of the numbers of every band are exactly 0",
    )


def check_reflectance(
    item: pystac.Item,
    chosen: Mapping[Band, Channel],
    samples: Mapping[Band, tuple[npt.NDArray[np.float64], Scaling]],
) -> None:
    """Nothing, if sampled DN are reflectance (a fraction of 1) under their scaling.

    Raises:
        LulcbenchError: a band's median is not reflectance, no band has a value that differs from zero, or the numbers
            are bytes or percent that reach no reflectance of land.
    """
    brightest = -math.inf
    for band, (numbers, scaling) in samples.items():
        if not numbers.size:
            continue
        median, high = np.quantile(numbers, (0.5, 0.99)) * scaling.scale + scaling.offset
        brightest = max(brightest, high)
        if not PLAUSIBLE[0] <= median <= PLAUSIBLE[1]:
            raise LulcbenchError(
                f"Item {item.id}: with scale {scaling.scale:g} and offset {scaling.offset:g}, half of {band.name} is "
                f"below {median:.4g}, which is not reflectance (a fraction from 0 to 1).",
                "Correct raster:scale and raster:offset of the item so that they fit the numbers in its files.",
            )
    if -math.inf < brightest < DARK:
        raise LulcbenchError(
            f"Item {item.id}: no band has reflectance above {brightest:.4g} under the scaling that is stated or usual.",
            "Correct raster:scale and raster:offset of the item so that they fit the numbers in its files.",
        )
    if sum(numbers.size for numbers, _ in samples.values()) < ENOUGH:
        return
    highest = max(numbers.max() for numbers, _ in samples.values() if numbers.size)
    if highest > PERCENT and not all(_is_byte(channel) for channel in chosen.values()):
        return
    limit = PERCENT if highest <= PERCENT else BYTE
    scaling = max((own for _, own in samples.values()), key=lambda own: limit * own.scale + own.offset)
    if limit * scaling.scale + scaling.offset < LAND:
        raise LulcbenchError(
            f"Item {item.id}: no number in its files is above {highest:g}, which with scale {scaling.scale:g} and "
            f"offset {scaling.offset:g} is not reflectance of land.",
            "Bytes and percent need their own scale: state raster:scale, such as 0.01 for percent.",
        )


def _is_byte(channel: Channel) -> bool:
    return opened(channel.href).dtypes[(channel.band or 1) - 1] in ("uint8", "int8")
