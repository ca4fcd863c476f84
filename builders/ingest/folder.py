"""Understanding a folder of scenes: which files are a scene, of which sensor and time, and what their numbers mean.

Information that files lack is requested, never guessed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import rasterio

from builders.ingest.catalog import File, item, write
from builders.ingest.contents import Coding, Levels, band_order, check_values, coding_of, levels_of
from builders.ingest.names import Name, is_quality, read_name
from builders.readers.opening import open_raster, states_simulated
from builders.readers.statements import CODING
from builders.recipe import IngestRule
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds
from lulcbench.sensors import LANDSAT, SENTINEL2, Band, Sensor, sensor

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt")
OTHERS = (".img", ".hdf", ".h5", ".nc", ".bsq", ".bil", ".bip", ".zip", ".tar", ".gz", ".tgz")  # which may hold scenes
ONE_PASS = timedelta(minutes=10)  # a satellite passes over Europe in less
L1C_COLLECTION = "sentinel-2-l1c"
_PARTS_OF_PRODUCT = {"IMG_DATA", "R10m", "R20m", "R60m"}
_METADATA_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class SceneFiles:
    """A scene that was understood.

    Attributes:
        times: first and last moment of acquisition; equal if known.
        level: of processing, empty if unknown.
        files: of bands; the quality layer, if there is one, is last.
        coding: how digital numbers become values, and where that is known from.
        told: whether that was told by the user.
        bounds: extent in EPSG:3035 metres.
    """

    id: str
    sensor: Sensor
    platform: str | None
    times: tuple[datetime, datetime]
    level: str
    baseline: str | None
    cloud: float | None
    files: tuple[File, ...]
    coding: str
    told: bool
    crs: str
    bounds: Bounds

    @property
    def bands(self) -> tuple[Band, ...]:
        """Bands of all files, in the sensor's order."""
        present = {band.name for file in self.files for band in file.bands if band}
        return tuple(band for band in self.sensor.bands if band.name in present)

    @property
    def years(self) -> tuple[int, ...]:
        """Years in which it was, or may have been, acquired."""
        return tuple(range(self.times[0].year, self.times[1].year + 1))

    @property
    def quality(self) -> Path | None:
        """The file with the quality layer; None if there is none."""
        inside = next((file.path for file in self.files if file.quality), None)
        return self.files[-1].path if not self.files[-1].bands else inside

    @property
    def simulated(self) -> bool:
        """Whether its files state that they are simulated."""
        return states_simulated(self.files[0].path)

    @property
    def collection(self) -> str:
        """Id of the STAC collection."""
        return L1C_COLLECTION if self.level == "L1C" else self.sensor.collection


class Understood(NamedTuple):
    """Scenes of a folder, and the files that are not used with the reason."""

    scenes: list[SceneFiles]
    unused: list[tuple[Path, str]]


def understand(rule: IngestRule, exclude: Sequence[Path] = ()) -> Understood:
    """The scenes of a folder, or of a single file.

    Args:
        rule: the folder, and what the user states about its files.
        exclude: files that are not scenes, such as labels.

    Raises:
        LulcbenchError: there is no raster, or neither a file nor the rule states the sensor, date or bands.
    """
    groups, unused = _grouped(rule, {path.resolve() for path in exclude})
    scenes: list[SceneFiles] = []
    for files in groups.values():
        scenes += _scenes(rule, files, unused)
    if not scenes:
        packed = [path.name for path in rule.path.glob("*.zip")][:3] if rule.path.is_dir() else []
        raise LulcbenchError(
            f"{rule.path} contains no scene: no {', '.join(SUFFIXES)} with a band of a known sensor.",
            f"Unpack {', '.join(packed)} first." if packed else "Name a folder of GeoTIFF or JPEG 2000 files.",
        )
    names = Counter(scene.id for scene in scenes)
    scenes = [scene if names[scene.id] == 1 else replace(scene, id=f"{_folder(scene)}_{scene.id}") for scene in scenes]
    twice = [name for name, n in Counter(scene.id for scene in scenes).items() if n > 1]
    if twice:
        raise LulcbenchError(f"Two scenes have the id {twice[0]}.", "Ingest them apart, or rename their files.")
    return Understood(sorted(scenes, key=lambda scene: (scene.times, scene.id)), unused)


def write_catalog(scenes: Sequence[SceneFiles], out: Path, name: str) -> None:
    """Write the STAC catalog of some scenes, ``out/catalog.json``."""
    items = []
    for scene in scenes:
        more: dict[str, Any] = {"eo__cloud_cover": scene.cloud} if scene.cloud is not None else {}
        more |= {"platform": scene.platform} if scene.platform else {}
        more |= {"processing__level": scene.level} if scene.level else {}
        more |= {CODING.replace(":", "__"): "told"} if scene.told else {}
        if scene.baseline and scene.level != "L1C":
            more["s2__processing_baseline"] = scene.baseline
        entry = item(scene.id, scene.sensor, scene.files, scene.times, **more)
        entry.collection_id = scene.collection
        items.append(entry)
    write(out, re.sub(r"[^\w-]+", "-", name) or "scenes", f"Scenes of {name}", items)


def _folder(scene: SceneFiles) -> str:
    """Name of the folder that the scene's files are in, which tells scenes of several sites apart."""
    return scene.files[0].path.parent.name


def _grouped(
    rule: IngestRule, exclude: set[Path]
) -> tuple[dict[tuple[str, str], list[tuple[Path, Name]]], list[tuple[Path, str]]]:
    if not rule.path.exists():
        raise LulcbenchError(f"There is nothing at {rule.path} to ingest.", "Correct the path.")
    paths = [rule.path] if rule.path.is_file() else sorted(rule.path.rglob(rule.pattern))
    groups: dict[tuple[str, str], list[tuple[Path, Name]]] = defaultdict(list)
    unused: list[tuple[Path, str]] = []
    for path in paths:
        if not path.is_file() or path.resolve() in exclude or path.name.startswith("."):
            continue  # hidden files are those of file managers, such as ._red.tif
        if path.suffix.lower() not in SUFFIXES:
            if path.suffix.lower() in OTHERS:
                unused.append((path, "neither GeoTIFF nor JPEG 2000"))
            continue
        name = read_name(path)
        if name.unused:
            unused.append((path, "layer that is not used"))
            continue
        # Files of one SAFE folder are in several folders, one per resolution; elsewhere a scene's files are together.
        in_product = _PARTS_OF_PRODUCT.intersection(path.parts)
        folder = "" if name.sensor is SENTINEL2 and in_product else str(path.parent)
        groups[folder, name.scene].append((path.resolve(), name))
    return dict(sorted(groups.items())), unused


def _scenes(rule: IngestRule, files: list[tuple[Path, Name]], unused: list[tuple[Path, str]]) -> list[SceneFiles]:
    """One scene, or one per date of a stack."""
    first, name = files[0]
    kind = _sensor(rule, first, name)
    platform = rule.platform or name.platform
    level = _level(rule, first, name, kind)
    metadata = _safe_metadata(first)
    baseline = name.baseline or metadata.get("baseline")
    if rule.baseline and baseline not in (None, rule.baseline):
        raise LulcbenchError(f"{first.name} is of baseline {baseline}, not {rule.baseline}.", "Leave --baseline out.")
    baseline = baseline or rule.baseline
    bands: list[File] = []
    quality: Path | None = None
    coding: Coding | None = None
    levels: list[Levels | None] = []
    best: dict[str, tuple[float, int]] = {}
    stack = 1
    for path, named in files:
        if is_quality(kind, named.band):
            quality = path if quality is None or named.resolution == 20 else quality
            continue
        with open_raster(str(path)) as dataset:
            order = band_order(rule, path, named, kind, platform, dataset)
            coding = coding_of(rule, path, named, kind, baseline, level, dataset)
            stack = len(order) // len(rule.bands) if rule.bands and len(rule.dates) > 1 else 1
            if any(order):
                levels.append(levels_of(path, dataset, order, coding))
            pixel = float(abs(dataset.transform.a))
        inside = None
        for i, (band, text) in enumerate(zip(order, dataset.descriptions[: len(order)], strict=True), start=1):
            if band is None and is_quality(kind, text or ""):
                inside = i
            elif band is None:
                unused.append((path, f"band described as {text!r}"))
        if not any(order):
            continue
        (band,) = order if len(order) == 1 else (None,)
        if band and band.name in best:
            # SAFE folders have a band at several resolutions: that of the instrument is taken.
            distance, position = best[band.name]
            if named.resolution is None:
                raise LulcbenchError(
                    f"{path.name} and {bands[position].path.name} are the same band {band.name} of {named.scene}.",
                    "Keep one of them, or choose with --pattern.",
                )
            if abs(pixel - band.resolution) < distance:
                unused.append((bands[position].path, "the same band at another resolution"))
                best[band.name] = (abs(pixel - band.resolution), position)
                bands[position] = File(band.asset, path, order, *coding[:3], rule.unit)
            else:
                unused.append((path, "the same band at another resolution"))
            continue
        if band:
            best[band.name] = (abs(pixel - band.resolution), len(bands))
        key = band.asset if band else "data" if len(files) <= 2 else f"data{len(bands)}"
        bands.append(File(key, path, order, *coding[:3], rule.unit, inside))
    if not bands or coding is None:
        unused.extend((path, "quality layer without bands") for path, _ in files)
        return []
    check_values(name.scene, kind, rule.unit, levels, coding)
    names = [band.name for file in bands for band in file.bands if band]
    if stack == 1 and len(set(names)) < len(names):
        raise LulcbenchError(f"Scene {name.scene} has a band in two files: {sorted(names)}.", "Keep one of them.")
    times = _times(rule, first, name, stack)
    crs, bounds = _place([file.path for file in bands])
    scenes = []
    for i, when in enumerate(times):
        own = tuple(_of_date(file if quality is None else replace(file, quality=None), i, len(times)) for file in bands)
        scenes.append(
            SceneFiles(
                name.scene if len(times) == 1 else f"{name.scene}_{when[0]:%Y%m%d}",
                kind,
                platform,
                when,
                level,
                baseline if coding.source.startswith("baseline") else None,  # which stands for its coding
                metadata.get("cloud"),
                own + ((File(str(kind.quality_asset), quality),) if quality else ()),
                f"{coding.scale:g} · DN{f' {coding.offset:+g}' if coding.offset else ''} ({coding.source})",
                rule.scale is not None,
                crs,
                bounds,
            )
        )
    return scenes


def _of_date(file: File, i: int, dates: int) -> File:
    """The file of a stack with the bands of one date alone."""
    if dates == 1:
        return file
    n = len(file.bands) // dates
    bands = tuple(band if i * n <= j < (i + 1) * n else None for j, band in enumerate(file.bands))
    return replace(file, bands=bands)


def _sensor(rule: IngestRule, path: Path, name: Name) -> Sensor:
    if rule.sensor:
        told = sensor(rule.sensor)
        if name.sensor not in (None, told):
            raise LulcbenchError(
                f"{path.name} is of {name.sensor.name} by its name, not of {told.name}.",
                "Correct --sensor or --pattern.",
            )
        return told
    if name.sensor is None:
        raise LulcbenchError(
            f"The name of {path.name} does not tell its sensor.",
            "Tell it with --sensor, for instance sentinel2; or choose the files of scenes with --pattern.",
        )
    return name.sensor


def _level(rule: IngestRule, path: Path, name: Name, kind: Sensor) -> str:
    if rule.level and name.level not in (None, rule.level):
        raise LulcbenchError(f"{path.name} is {name.level} by its name, not {rule.level}.", "Leave 'level' out.")
    level = name.level or rule.level or ""
    if kind is SENTINEL2 and level == "L1C" and not rule.allow_l1c:
        raise LulcbenchError(
            f"{path.name} is Sentinel-2 Level-1C: reflectance at the top of the atmosphere, not of the surface.",
            "Take Level-2A; or allow it with --allow-l1c, which the recipe then states.",
        )
    if kind is LANDSAT and (level.startswith("L1") or name.collection == "01"):
        raise LulcbenchError(
            f"{path.name} is not Landsat Collection 2 Level-2: it holds no surface reflectance of a known coding.",
            "Take the product L2SP of Collection 2; or tell --sensor, --date and --scale of renamed files.",
        )
    return "L2" if level.startswith("L2S") else level


def _times(rule: IngestRule, path: Path, name: Name, stack: int) -> list[tuple[datetime, datetime]]:
    if rule.acquired:
        first, last = rule.acquired
        return [(_midnight(first), datetime.combine(last, time.max.replace(microsecond=0), UTC))]
    if rule.dates:
        if len(rule.dates) != stack:
            raise LulcbenchError(
                f"{path.name} has {stack} date{'s' * (stack > 1)} of bands, but {len(rule.dates)} dates are told.",
                "Tell one --date, or one for each repetition of --bands in the file.",
            )
        return [(_midnight(day), _midnight(day)) for day in rule.dates]
    if name.times and max(name.times) - min(name.times) <= ONE_PASS:  # Sentinel-1 names begin and end
        return [(min(name.times), max(name.times))]
    if len(name.times) != 1:
        told = "no date" if not name.times else " and ".join(f"{when:%Y-%m-%d}" for when in name.times)
        raise LulcbenchError(
            f"The name of {path.name} tells {told}.",
            "Tell when it was acquired: --date 2018-07-02, or a span of days, --date 2018-06-01/2018-08-31.",
        )
    return [(name.times[0], name.times[0])]


def _midnight(day: Any) -> datetime:
    return datetime.combine(day, time(), UTC)


def _place(paths: list[Path]) -> tuple[str, Bounds]:
    """CRS that the files share, and the extent of the first in EPSG:3035."""
    systems: dict[str, Path] = {}
    for path in paths:
        with open_raster(str(path)) as dataset:
            systems.setdefault(rasterio.CRS.to_string(dataset.crs), path)
            if path == paths[0]:
                bounds = rasterio.warp.transform_bounds(dataset.crs, CRS, *dataset.bounds)
    if len(systems) > 1:
        text = ", ".join(f"{path.name} {crs}" for crs, path in systems.items())
        raise LulcbenchError(f"Files of one scene have several CRS: {text}.", "Ingest them as scenes of their own.")
    left, bottom, right, top = bounds
    return next(iter(systems)), (left, bottom, right, top)


def _safe_metadata(path: Path) -> dict[str, Any]:
    """Baseline and cloud cover (%) in the product metadata of a SAFE folder, if the file is in one."""
    safe = next((parent for parent in path.parents if parent.suffix == ".SAFE"), None)
    for file in sorted(safe.glob("MTD_MSIL*.xml")) if safe else ():
        with file.open(encoding="utf-8", errors="replace") as opened:
            text = opened.read(_METADATA_BYTES)
        baseline = re.search(r"<PROCESSING_BASELINE>(\d\d\.\d\d)<", text)
        cloud = re.search(r"<Cloud_Coverage_Assessment>([\d.]+)<", text)
        return {"baseline": baseline[1] if baseline else None, "cloud": float(cloud[1]) if cloud else None}
    return {}
