"""What names of files and folders tell: sensor, platform, time, processing level, band.

The conventions of the archives are those of ESA for Sentinel-2 (Products Specification Document, S2-PDGS-TAS-DI-PSD)
and of the USGS for Landsat Collection 2 (Level-2 science product guide, LSDS-1618). From other names, dates and bands
are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lulcbench.sensors import LANDSAT, PLANET, SENTINEL1, SENTINEL2, Band, Sensor

_S2_FOLDER = re.compile(r"(?P<p>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<time>\d{8}T\d{5,6})(?:_N(?P<baseline>\d{4})_)?.*")
_S2_FILE = re.compile(
    r"(?P<scene>(?:L2A_)?T\d\d[A-Z]{3}_(?P<time>\d{8}T\d{6}))_(?P<band>B\d[\dA]|[A-Z]{3})(?:_(?P<resolution>[126]0)m)?"
)
_LANDSAT = re.compile(
    r"(?P<scene>L[COTEM]0?(?P<number>[4-9])_(?P<level>L[12]\w\w)_\d{6}_(?P<time>\d{8})_\d{8}_(?P<collection>0\d)_\w\w)"
    r"(?:_(?P<band>\w+))?"
)
_PLANET = re.compile(r"(?P<scene>(?P<day>\d{8})_(?P<time>\d{6})_\w+?)_3B_(?P<what>\w+)")
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?:T(\d{6}))?(?!\d)")
# Layers of products that are neither band nor quality layer of the sensor.
_UNUSED = {"AOT", "WVP", "TCI", "CLD", "SNW", "PVI", "DEM", "CLDPRB", "SNWPRB"}
_LANDSAT_UNUSED = re.compile(r"QA_RADSAT|SR_QA_AEROSOL|ST_\w+|B8|B9|B10|B11|VAA|VZA|SAA|SZA|MTL|ANG")
_FILLERS = {"sr", "boa", "data", "bands", "refl", "reflectance", "stack"}  # parts of a name that all files of it share
_QUALITY = {"sentinel2": {"scl"}, "landsat": {"qa_pixel", "pixel_qa"}, "planet": {"qa", "udm2"}, "sentinel1": set()}
# Landsat 4, 5 and 7 have no coastal band, so that their numbers are one less; their band 6 is thermal.
_TM = {"b1": "blue", "b2": "green", "b3": "red", "b4": "nir08", "b5": "swir16", "b7": "swir22"}
_OLI = {"b1": "coastal", "b2": "blue", "b3": "green", "b4": "red", "b5": "nir08", "b6": "swir16", "b7": "swir22"}


@dataclass(frozen=True, slots=True)
class Name:
    """What the name of a file tells; None or empty where it does not.

    Attributes:
        scene: what the files of a scene have in common.
        band: text that may name a band or layer, lower case.
        unused: whether it is a layer of a known product that is not used.
        resolution: of the file in its name, m.
    """

    scene: str
    sensor: Sensor | None = None
    platform: str | None = None
    times: tuple[datetime, ...] = ()
    level: str | None = None
    baseline: str | None = None
    collection: str | None = None
    band: str = ""
    unused: bool = False
    resolution: int | None = None


def read_name(path: Path) -> Name:
    """What a file's name, and those of the folders that it is in, tell."""
    stem = path.name.split(".")[0]
    if match := _LANDSAT.fullmatch(stem):
        band = match["band"] or ""
        return Name(
            match["scene"],
            LANDSAT,
            f"landsat-{match['number']}",
            _times(match["time"]),
            match["level"],
            collection=match["collection"],
            band=band.removeprefix("SR_").lower(),
            unused=bool(_LANDSAT_UNUSED.fullmatch(band)),
        )
    if match := _PLANET.fullmatch(stem):
        what = match["what"].lower()
        return Name(
            match["scene"],
            PLANET,
            None,
            _times(match["day"], match["time"]),
            band="udm2" if what.startswith("udm2") else "",
            unused="udm" in what and not what.startswith("udm2"),
        )
    product = next((m for part in reversed(path.parts[:-1]) if (m := _S2_FOLDER.fullmatch(part.split(".")[0]))), None)
    if match := _S2_FILE.fullmatch(stem):
        level = "L2A" if match["resolution"] or match["scene"].startswith("L2A") else "L1C"
        return Name(
            product[0].split(".")[0] if product else match["scene"],
            SENTINEL2,
            f"sentinel-{product['p'][1:].lower()}" if product else None,
            _times(match["time"]),
            product["level"] if product else level,
            _baseline(product["baseline"]) if product else None,
            band=match["band"].lower(),
            unused=match["band"] in _UNUSED,
            resolution=int(match["resolution"]) if match["resolution"] else None,
        )
    if match := _S2_FOLDER.fullmatch(stem):
        scene, _, band = stem.rpartition("_")
        known = band_of(SENTINEL2, None, band) is not None or band.lower() in _QUALITY["sentinel2"]
        return Name(
            scene if known else stem,
            SENTINEL2,
            f"sentinel-{match['p'][1:].lower()}",
            _times(match["time"]),
            match["level"],
            _baseline(match["baseline"]),
            band=band.lower() if known else "",
            unused=band in _UNUSED,
        )
    if "QI_DATA" in path.parts or stem.endswith("_PVI"):
        return Name(stem, unused=True)
    return _other(stem)


def band_of(sensor: Sensor, platform: str | None, text: str) -> Band | None:
    """The band of a sensor that a text names: by its name ("B02", "b2"), its common name ("blue") or its number."""
    text = text.strip().lower()
    if sensor is LANDSAT:
        table = _TM if platform in ("landsat-4", "landsat-5", "landsat-7") else _OLI if platform else {}
        text = table.get(text.removeprefix("sr_").replace("band", "b"), text)
    elif re.fullmatch(r"b\d", text):
        text = f"b0{text[1]}"
    return next((band for band in sensor.bands if text in (band.name.lower(), band.asset)), None)


def is_quality(sensor: Sensor, text: str) -> bool:
    """Whether a text names the quality layer of a sensor."""
    return text.strip().lower() in _QUALITY[sensor.name]


def _other(stem: str) -> Name:
    """A name of no known convention: all dates in it, the sensor if it is named, the layer if its end names one."""
    found = [_times("".join(m.group(1, 2, 3)), m[4]) for m in _DATE.finditer(stem)]
    times = tuple(dict.fromkeys(time for times in found for time in times))
    lower = stem.lower()
    sensors = [
        sensor
        for sensor, words in (
            (SENTINEL2, r"sentinel-?2|(?<![a-z])s2[abcd]?(?![a-z\d])"),
            (LANDSAT, r"landsat|(?<![a-z])l[cte]0[4-9](?!\d)"),
            (PLANET, r"planet|psscene"),
            (SENTINEL1, r"sentinel-?1|(?<![a-z])s1[ab]?(?![a-z\d])"),
        )
        if re.search(words, lower)
    ]
    sensor = sensors[0] if len(sensors) == 1 else None
    number = re.search(r"(?<![a-z])l[cte]0([4-9])(?!\d)|landsat[-_]?([4-9])(?!\d)", lower)
    platform = f"landsat-{number[1] or number[2]}" if number and sensor is LANDSAT else None
    scene, band = stem, ""
    quality = sorted(set().union(*_QUALITY.values()), key=len, reverse=True)
    for text in (*quality, lower.rpartition("_")[2]):
        is_layer = text in quality or any(
            band_of(candidate, "landsat-8", text) for candidate in (SENTINEL2, LANDSAT, PLANET, SENTINEL1)
        )
        if lower.endswith(f"_{text}") and is_layer:
            scene, band = stem[: -len(text) - 1], text
            break
    while (cut := scene.rpartition("_"))[0] and cut[2].lower() in _FILLERS:
        scene = cut[0]
    return Name(scene, sensor, platform, times, band=band)


def _times(day: str, time: str | None = None) -> tuple[datetime, ...]:
    """The moment that digits of a name state; none if they are not one, such as 31 February."""
    day, _, rest = day.partition("T")
    clock = (time or rest or "0").zfill(6)  # BigEarthNet writes 9:30:20 as T93020
    try:
        return (datetime.strptime(day + clock, "%Y%m%d%H%M%S").replace(tzinfo=UTC),)
    except ValueError:
        return ()


def _baseline(digits: str | None) -> str | None:
    return f"{digits[:2]}.{digits[2:]}" if digits else None
