"""Sentinel-2 Level-2A: scene classification, and the radiometric offset of processing baseline 04.00."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pystac

from builders.readers.access import unsigned
from builders.readers.items import Channel
from builders.readers.radiometry import Scaling, Scalings, check_reflectance, sample, stated, without_zeros
from builders.readers.scene import UnusableSceneError
from builders.readers.source import RasterSource
from builders.readers.statements import CODING, baseline
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import SENTINEL2, Band

# ESA: DN = (reflectance + 0.1) · 10,000 from baseline 04.00 on; also in reprocessed older scenes.
OFFSET_BASELINE = 4.0
OFFSET = -0.1
SCALE = 1e-4
SPECIAL = (0.0, 65535.0)  # DN of missing and of saturated pixels, according to the metadata of the products
# Scene classification: 0 nodata, 1 defective, 3 cloud shadow, 8 and 9 cloud, 10 cirrus. Snow (11) counts as surface.
UNCLEAR = (0, 1, 3, 8, 9, 10)
CLASSES = 12

# Of Earth Search, and of its version 0 and the archives that continue it.
FLAGS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")

# Pixels as evidence of the offset. With it, DN 1000 is reflectance 0.
ZERO = 1000
DARK_SHARE = 0.02  # more DN below ZERO than this in a band: the offset was probably removed from the pixels
IMPOSSIBLE = 900  # a band whose median is below has no offset: half of it would be darker than -0.01
VISIBLE = 0.7  # µm; some ground is dark in visible light in every scene (vegetation: 0.02 to 0.05) …
BRIGHT = 2500  # … unless snow or cloud covers it: above this its darkest percentile proves nothing

_CLEAR = np.zeros(256, bool)  # a value that is not a class shows nothing of the sky
_CLEAR[[code for code in range(CLASSES) if code not in UNCLEAR]] = True


def is_clear(scl: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where the surface was observed according to the scene classification."""
    clear: npt.NDArray[np.bool_] = _CLEAR[np.clip(scl, 0, 255).astype(np.uint8)]
    return clear


def is_seen(scl: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True inside the swath."""
    seen: npt.NDArray[np.bool_] = scl != 0
    return seen


def check(item: pystac.Item) -> None:
    """Nothing, for a product of surface reflectance, or of a collection of Level-1C, which a recipe names on purpose.

    Raises:
        UnusableSceneError: the item is Level-1C (top of atmosphere), by its product type, level, name or files.
    """
    if "l1c" in (item.collection_id or "").lower():
        return
    properties = item.properties
    files = [unsigned(asset.href) for asset in item.assets.values() if "MSIL1C" in asset.href.upper()]
    texts = [properties.get(key) for key in ("s2:product_type", "product:type", "processing:level", "s2:product_uri")]
    for text in (*texts, item.id, *files[:1]):
        if re.search(r"MSIL?1C|(?:^|[^A-Z0-9])L1C(?:[^A-Z0-9]|$)|^L1$", str(text or "").upper()):
            raise UnusableSceneError(
                "Level-1C",
                f"Item {item.id} is Level-1C, top-of-atmosphere reflectance, according to {text!r}.",
                "Use the Level-2A product of the acquisition, or correct the item.",
            )


def scalings(item: pystac.Item, chosen: Mapping[Band, Channel]) -> Scalings:
    """Scaling of all bands, with one decision on the offset of processing baseline 04.00.

    Archives say in several ways whether pixels have the offset, and some are wrong for some items
    (Element84/earth-search#66, #71): the baseline, ``earthsearch:boa_offset_applied``, an offset in the metadata of the
    bands or of the file. What they say is compared with the pixels of all bands; the decision and its evidence become a
    note. Where pixels do not decide, the metadata are believed.

    Items without a baseline must state scale and offset. An item whose scale is not 1e-4 has a coding of its own,
    which is used as it is stated; so is a coding that was told to ``ingest``.

    Raises:
        LulcbenchError: the item has neither a baseline nor a scale, its baseline is not a number, or its numbers are
            not reflectance.
    """
    told = item.properties.get(CODING) == "told"
    known = None if told else baseline(item)
    said = {band: stated(item, channel) for band, channel in chosen.items()}
    samples = {band: sample(channel) for band, channel in chosen.items()}
    result: dict[Band, Scaling] = {}
    notes: tuple[str, ...] = ()
    own = [
        band for band, (scale, _) in said.items() if scale is not None and not math.isclose(scale, SCALE, rel_tol=1e-6)
    ]
    if own and len(own) < len(said):
        raise LulcbenchError(
            f"Item {item.id} states a scale other than {SCALE:g} for {', '.join(band.name for band in own)} only.",
            "State the scale of every band.",
        )
    if known is None or own:
        for band, (scale, offset) in said.items():
            if scale is None:
                raise LulcbenchError(
                    f"Sentinel-2 item {item.id} has neither s2:processing_baseline nor a scale for "
                    f"{chosen[band].href}.",
                    "Add one of them: without it the pixel values have no meaning.",
                )
            result[band] = Scaling(scale, offset or 0, _nodata(chosen[band], () if own else SPECIAL))
        if own or told:
            scale, offset = said[own[0] if own else next(iter(said))]
            result, note = without_zeros(result, samples)
            notes = (
                *note,
                f"the coding that {'was told' if told else 'the item states'} is used: scale {scale:g}, "
                f"offset {offset or 0:g}",
            )
    else:
        offset, why = _offset(item, *known, {value for _, value in said.values() if value is not None}, samples)
        notes = (why,) if why else ()
        result = {band: Scaling(SCALE, offset, _nodata(channel, SPECIAL)) for band, channel in chosen.items()}
    check_reflectance(item, chosen, {band: (samples[band], result[band]) for band in chosen})
    return Scalings(result, notes)


def _nodata(channel: Channel, usual: tuple[float, ...]) -> tuple[float, ...]:
    return usual if channel.nodata is None or channel.nodata in usual else (*usual, channel.nodata)


def _offset(
    item: pystac.Item,
    text: str,
    number: float,
    offsets: set[float],
    samples: Mapping[Band, npt.NDArray[np.float64]],
) -> tuple[float, str]:
    """The offset of a scene's pixels, and why: empty if the metadata are plain."""
    has = number >= OFFSET_BASELINE
    flag = _flag(item) if has else None
    present = [f"processing baseline {text}"] if has else []
    removed = [] if has else [f"processing baseline {text}"]
    if flag is not None:
        (removed if flag is True else present).append(f"boa_offset_applied {str(flag).lower()}")
    for value in sorted(offsets):
        (removed if value == 0 else present).append(f"offset {value:g} in its metadata")
    if not (has or offsets - {0}):
        return 0, ""
    shown, strong, evidence = _evidence(samples)
    # The baseline tells how the product was made; archives may have removed the offset since.
    contradicted = len(removed) > 0 if has else len(present) > 0
    odd = bool(offsets - {0.0, OFFSET})
    if strong:
        is_present = False
    elif contradicted or odd:
        believed = (not removed or flag is False) if has else False
        is_present = evidence == "present" if evidence != "undecided" else believed
    else:
        is_present = has
    decision = f"offset {OFFSET:g} is applied" if is_present else "no offset is applied"
    opinions = "; ".join(
        f"{what}: {', '.join(who)}" for what, who in (("with offset", present), ("without", removed)) if who
    )
    return (OFFSET if is_present else 0), f"{decision}. Metadata: {opinions}. Pixels: {shown}, {_VERDICTS[evidence]}"


def _flag(item: pystac.Item) -> bool | None:
    """Whether Earth Search states that it removed the offset; None if it states nothing.

    Raises:
        LulcbenchError: the flag is neither true nor false.
    """
    values = {key: item.properties[key] for key in FLAGS if item.properties.get(key) is not None}
    told = {"true": True, "1": True, "false": False, "0": False}
    flags = {key: told.get(str(value).strip().lower()) for key, value in values.items()}
    if None in flags.values() or len(set(flags.values())) > 1:
        stated = " and ".join(f"{key} {value!r}" for key, value in values.items())
        raise LulcbenchError(f"Item {item.id} has {stated}.", "It must be true or false; correct the item.")
    return next(iter(flags.values()), None)


Evidence = Literal["present", "removed", "undecided"]
_VERDICTS = {"present": "which have the offset", "removed": "which do not have it", "undecided": "which do not decide"}


def _evidence(samples: Mapping[Band, npt.NDArray[np.float64]]) -> tuple[str, bool, Evidence]:
    """What the pixels of all bands show of the offset: in words, whether it was certainly removed, and the evidence."""
    valid = {band: values for band, values in samples.items() if values.size}
    if not valid:
        return "none valid", False, "undecided"
    dark, share = max(((band, float((v < ZERO).mean())) for band, v in valid.items()), key=lambda pair: pair[1])
    lowest = min(float(np.median(v)) for v in valid.values())
    shown = f"{share:.1%} of {dark.name} are below DN {ZERO}, lowest median {lowest:.0f}"
    visible = [float(np.quantile(v, 0.01)) for b, v in valid.items() if b.wavelength and b.wavelength < VISIBLE]
    if visible:
        shown += f", darkest percentile of visible bands {min(visible):.0f}"
    if share > DARK_SHARE:
        return shown, lowest < IMPOSSIBLE, "removed"
    return shown, False, "present" if visible and min(visible) < BRIGHT else "undecided"


SOURCE = RasterSource(SENTINEL2, scalings, is_clear, is_seen, quality_fill=0, check=check)
