"""Writing a site: the application, its description ``site.json`` and the chunk files, atomically."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from lulcbench._files import full_disk_named
from lulcbench.errors import LulcbenchError
from lulcbench.legend import ClassScheme
from lulcbench.maps.answers import UNCERTAIN
from lulcbench.maps.viewer.chunks import BLOCK, TILE, count, write_chunks
from lulcbench.maps.viewer.labels import write_labels
from lulcbench.maps.viewer.palette import safe_colors
from lulcbench.maps.viewer.points import Point, listed
from lulcbench.maps.viewer.source import Layer, MapSource, positions
from lulcbench.release import Release

FORMAT: Final = "lulcbench-viewer/1"
SITE = "site.json"
_UNCERTAIN: Final = {  # named and coloured as in the GeoTIFFs of a map
    "code": UNCERTAIN,
    "name": "Uncertain at all levels",
    "level": 0,
    "parent": None,
    "color": "#000000",
    "safe": "#000000",
}


def write_site(
    maps: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    title: str | None = None,
    labels: Release | str | os.PathLike[str] | None = None,
    points: Sequence[Point] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write a static folder in which a browser shows maps.

    Args:
        maps: folders that ``lulcbench map`` wrote.
        out: folder of the site. An older site there is replaced once the new one is complete.
        title: of the page; by default that of the first map.
        labels: a release whose labels are shown as another map, and at clicks.
        points: observations on the ground; those outside the maps are left out.
        progress: function of (steps done, total).

    Returns:
        The folder.

    Raises:
        LulcbenchError: no maps are given, or maps of different legends; ``out`` is a file or a folder that is not a
            site; the disk is full.
        ReleaseNotFoundError: a folder does not contain a complete map.
        UnsupportedFormatError: a map has another format or legend.
        CorruptFileError: a map cannot be read.
    """
    with full_disk_named(Path(out), "Free some space, about twice that of the maps, and run the command again."):
        return _write_site(maps, Path(out), title, labels, points, progress)


def _write_site(
    maps: Sequence[str | os.PathLike[str]],
    out: Path,
    title: str | None,
    labels: Release | str | os.PathLike[str] | None,
    points: Sequence[Point],
    progress: Callable[[int, int], None],
) -> Path:
    if not maps:
        raise LulcbenchError("No map is given.", "Give the folder of one map or several.")
    _check_free(out)
    sources = [MapSource.open(folder) for folder in maps]
    scheme = sources[0].scheme
    if other := next((source for source in sources if source.scheme.digest != scheme.digest), None):
        raise LulcbenchError(
            f"{other.folder} has other classes than {sources[0].folder}.", "Write a site for the maps of each legend."
        )
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        temporary.chmod(0o755)
        if labels is not None:
            sources.append(MapSource.open(write_labels(Release.open(labels), temporary / "labels", scheme)))
        total = sum(count(source) for source in sources)
        entries = [_map(number, source, temporary / "data", advance) for number, source in enumerate(sources)]
        shutil.rmtree(temporary / "labels", ignore_errors=True)
        with resources.as_file(resources.files("lulcbench.maps.viewer") / "static") as static:
            shutil.copytree(static, temporary, dirs_exist_ok=True)
        site = {
            "format": FORMAT,
            "title": title or sources[0].title,
            "simulated": any(source.simulated for source in sources),
            "tile": TILE,
            "block": BLOCK,
            "legend": _legend(scheme, any(layer.mixed for source in sources for layer in source.layers)),
            "maps": entries,
            "points": listed(points, [source.overviews[0] for source in sources], scheme),
        }
        (temporary / SITE).write_text(json.dumps(site, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        _check_free(out)
        _exchange(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def is_site(folder: Path) -> bool:
    """Whether a folder is a site that ``write_site`` wrote."""
    try:
        content = json.loads((folder / SITE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and str(content.get("format", "")).startswith("lulcbench-viewer/")


def _check_free(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not (out.is_dir() and (is_site(out) or not any(out.iterdir())))):
        raise LulcbenchError(f"{out} exists and is not a viewer.", "Give a new folder, or one that a viewer is in.")


def _exchange(new: Path, out: Path) -> None:
    """Put a folder in the place of another, which is removed afterwards."""
    old = new.with_name(f"{new.name}.old")
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _legend(scheme: ClassScheme, mixed: bool) -> list[dict[str, Any]]:
    """All classes; last what is uncertain at all levels, which only layers of several levels have."""
    classes, safe = [scheme.classes[code] for code in positions(scheme)], safe_colors(scheme)
    listed = [
        {
            "code": entry.code,
            "name": entry.name,
            "level": entry.level,
            "parent": entry.parent,
            "color": entry.color,
            "safe": safe[entry.code],
        }
        for entry in classes
    ]
    return [*listed, _UNCERTAIN] if mixed else listed


def _map(number: int, source: MapSource, data: Path, advance: Callable[[], None]) -> dict[str, Any]:
    ranges = write_chunks(source, data / str(number), advance)
    level = source.probability_level
    return {
        "id": str(number),
        "title": source.title,
        "years": list(source.years),
        "simulated": source.simulated,
        "labels": source.attributes.get("role") == "labels",
        "facts": _facts(source),
        "extent": source.extent(),
        "overviews": [
            {"left": o.left, "top": o.top, "resolution": o.resolution, "width": o.width, "height": o.height}
            for o in source.overviews
        ],
        "layers": [_layer(layer, ranges.get(layer.name)) for layer in source.layers],
        "probabilities": None if level is None else {"level": level, "codes": list(source.scheme.codes(level))},
    }


def _layer(layer: Layer, stored: tuple[float, float] | None) -> dict[str, Any]:
    """Quantities of integers with a scale are shown from 0 to their largest value, others as far as they occur."""
    low, high = (value * layer.scale + layer.offset for value in stored or (0, 1))
    if layer.dtype == "uint8" and layer.scale != 1:
        low, high = layer.offset, (254 if layer.fill == 255 else 255) * layer.scale + layer.offset
    return {
        "id": layer.name,
        "kind": layer.kind,
        "title": layer.title[:1].upper() + layer.title[1:]
        if layer.kind == "class"
        else layer.name.replace("_", " ").capitalize(),
        "description": layer.title,
        "dtype": layer.dtype,
        "fill": layer.fill,
        "count": layer.count,
        "level": layer.level,
        "scale": layer.scale,
        "offset": layer.offset,
        "low": round(min(low, high), 6),
        "high": round(max(low, high), 6),
        "unit": layer.unit,
    }


def _facts(source: MapSource) -> list[tuple[str, str]]:
    """What the page states about a map."""
    facts = [("Map", str(source.attributes.get("summary", "")))]
    model, release = (source.attributes.get(f"lulcbench:{key}") for key in ("model", "release"))
    for name, entry in (("Model", model), ("Release", release)):
        if isinstance(entry, dict):
            facts.append((name, str(entry.get("name") or entry.get("id") or "")))
            facts.append((f"Digest of the {name.lower()}", str(entry.get("digest") or "")))
    facts.append(("Attribution", source.attribution))
    facts.append(("Licence", str(source.attributes.get("license", ""))))
    facts.append(("Resolution", f"{source.overviews[0].resolution:g} m, EPSG:3035"))
    return [(name, value) for name, value in facts if value]
