"""The folder of a map while it is made, and the plan in it: only a run of the same plan continues a map."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lulcbench import __version__
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.geozarr import METADATA
from lulcbench.maps.ensemble import AnyModel, Ensemble
from lulcbench.maps.model import MapModel

WORK = ".work"
_TEMPORARY = re.compile(r"\..+[.-][a-z0-9_]{8}")  # names by tempfile
_MEANT = {
    "lattice": "halo",
    "cog": "GeoTIFFs",
    "mapping_unit": "mapping unit",
    "conformal": "calibration",
    "tiles": "tiles of the release that are here",
    "versions": "versions of packages",
}


def is_map(folder: Path) -> bool:
    """Whether a complete map is in a folder; releases, too, have a ``zarr.json``."""
    try:
        content = json.loads((folder / METADATA).read_bytes())
    except (OSError, ValueError):
        return False
    attributes = content.get("attributes") if isinstance(content, dict) else None
    stated = attributes.get("lulcbench:format") if isinstance(attributes, dict) else None
    return str(stated).startswith("lulcbench-map/")


def versions(model: AnyModel | Ensemble) -> dict[str, str]:
    """Versions of what computes the values of a map: a map of two versions would have two kinds of rows."""
    members = model.members if isinstance(model, Ensemble) else (model,)
    names = ["numpy", "onnxruntime", "scikit-image"]
    names += [] if all(isinstance(member, MapModel) for member in members) else ["torch"]
    found = {"lulcbench": __version__}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _differing(known: str, plan: Mapping[str, Any]) -> str:
    """In what the plan of an unfinished map differs, for a message."""
    try:
        content = json.loads(known)
    except ValueError:
        return ""
    before = content if isinstance(content, dict) else {}
    names = [_MEANT.get(key, key) for key in plan if json.loads(json.dumps(plan[key])) != before.get(key)]
    return f", which differs in: {', '.join(names)}" if names else ""


def _tidy(folder: Path) -> None:
    """Delete what a killed run left of files that it was writing: those of zarr, and hidden ones beside others."""
    hidden = [path for path in folder.rglob(".*") if _TEMPORARY.fullmatch(path.name)]
    for left in sorted((*folder.rglob("*.partial"), *hidden)):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)  # it may have been in a folder that is deleted already


@contextmanager
def prepared(folder: Path, plan: dict[str, Any], replace: bool) -> Iterator[Path]:
    """The folder of what a map needs while it is made; taken up again if it is of the same map.

    Raises:
        LulcbenchError: the folder holds something else, or another process works in it.
    """
    work, own = folder / WORK, folder / WORK / "plan.json"
    text = json.dumps(plan, indent=1, sort_keys=True) + "\n"
    known = own.read_text(encoding="utf-8") if own.is_file() else ""
    same = known == text
    if folder.is_dir() and any(folder.iterdir()) and not same:
        complete, ours = is_map(folder), own.is_file()
        if not replace or not (complete or ours):
            what = (
                "holds a map already"
                if complete
                else f"holds a part of another map{_differing(known, plan)}"
                if ours
                else "is not empty"
            )
            remedy = "Give another --out, or --replace." if complete or ours else "Give another --out."
            raise LulcbenchError(f"{folder} {what}.", remedy)
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LulcbenchError(
            f"Another process makes the map in {folder}.", "Wait for it, or give another --out."
        ) from error
    try:
        if not same:  # only now: no other process is writing there
            for path in (*folder.iterdir(), *work.iterdir()):
                if path not in (work, work / "lock"):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        _tidy(folder)
        write_atomic(own, text.encode())
        yield work
    finally:
        lock.release()
