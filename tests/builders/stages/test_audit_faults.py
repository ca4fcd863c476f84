"""The audit goes red on every silent fault that leaves a trace in the pixels.

``docs/reference/audit.md`` has the table.

Faults are put into the pixels of a good release as they are read, or into a build on the way.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import ndimage

from builders.readers.source import RasterSource
from builders.stages import _observations, audit, materialize, pack, plan, search
from builders.stages._audit_imagery import imagery
from builders.stages.audit import Findings
from lulcbench._files import hash_file
from lulcbench.release import INDEX, ArrayKey, Manifest
from tests.builders import world
from tests.builders.stages.faults import FAULTS, table

TILES = 5
OFFSET = 1000  # 0.1 in steps of 1e-4, which is also how reflectance 0 is stored
BLUE, GREEN, RED, NIR, SWIR16, SWIR22 = range(6)  # of Landsat; Sentinel-2 has the first five

Pixels = dict[tuple[str, int], np.ndarray]
Tamper = Callable[[str, int, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def pixels(release_root: Path) -> Pixels:
    """Stored values of some tiles by array and position."""
    group = zarr.open_group(release_root, mode="r")
    rows = pd.read_parquet(release_root / INDEX)["row"][:TILES]
    keys = [key for key in Manifest.load(release_root).arrays if not key.name.endswith("-clear")]
    return {(str(key), i): np.asarray(group[str(key)][row]) for key in keys for i, row in enumerate(rows)}


def audited(root: Path, pixels: Pixels, tamper: Tamper) -> Findings:
    """Findings of the pixels after a fault."""
    index = pd.read_parquet(root / INDEX)[:TILES]
    position = {row: i for i, row in enumerate(index["row"])}

    def read(key: ArrayKey, row: int) -> np.ndarray:
        return tamper(str(key), position[row], pixels[str(key), position[row]])

    findings = Findings("tiny", "0" * 64)
    imagery(Manifest.load(root), index, read, findings)
    return findings


def reflectance(stored: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Stored values after a change of reflectance; nodata stays."""
    changed = np.clip(np.rint((change(stored * 1e-4 - 0.1) + 0.1) * 1e4), 1, 65535)
    return np.where(stored == 0, 0, changed).astype(stored.dtype)


def of_sensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Tamper:
    return lambda key, tile, stored: change(stored) if key.startswith(name) else stored


def of_scene(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Tamper:
    """In summer, on one tile."""

    def tamper(key: str, tile: int, stored: np.ndarray) -> np.ndarray:
        if not key.startswith(name) or tile != 2:
            return stored
        stored = stored.copy()
        stored[2] = change(stored[2])
        return stored

    return tamper


def exchanged(a: int, b: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(stored: np.ndarray) -> np.ndarray:
        stored = stored.copy()
        stored[:, [a, b]] = stored[:, [b, a]]
        return stored

    return change


def with_picture(to_reflectance: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Red from an 8-bit picture for display, which is white from 0.3 on."""

    def change(stored: np.ndarray) -> np.ndarray:
        stored = stored.copy()
        stored[:, RED] = reflectance(
            stored[:, RED], lambda values: to_reflectance(np.clip(np.rint(values / 0.3 * 255), 0, 255))
        )
        return stored

    return change


def corner(stored: np.ndarray) -> np.ndarray:
    """A corner of the tile whose nodata value, 0, was taken for reflectance 0."""
    stored = stored.copy()
    stored[..., :60, :60] = OFFSET
    return stored


HOLES = np.zeros((480, 480), bool)
HOLES[(np.add.outer(np.arange(480) // 40, np.arange(480) // 40)) % 3 == 0] = True


def holed(stored: np.ndarray) -> np.ndarray:
    """Missing squares, cleanly."""
    return np.where(HOLES[: stored.shape[-2], : stored.shape[-1]], 0, stored).astype(stored.dtype)


def bled(stored: np.ndarray) -> np.ndarray:
    """Missing squares that were interpolated with their nodata value, 0, as reflectance."""
    holes = HOLES[: stored.shape[-2], : stored.shape[-1]]
    values = np.where(holes, 0, stored * 1e-4 - 0.1)
    blurred = ndimage.uniform_filter(values, size=(1, 1, 3, 3), mode="nearest")
    near = ndimage.binary_dilation(holes, np.ones((3, 3))) & ~holes
    out = reflectance(stored, lambda own: np.where(near, blurred, own))
    return np.where(holes, 0, out).astype(stored.dtype)


def pixels_of_60_m(stored: np.ndarray) -> np.ndarray:
    """10 m pixels that a file states to be 60 m large (as GEO-Bench's BigEarthNet does), on the 10 m grid."""
    side = stored.shape[-1]
    part = stored[..., side // 2 : side // 2 + side // 6, side // 2 : side // 2 + side // 6].astype(float)
    grown = ndimage.zoom(part, (1, 1, 6, 6), order=1, mode="nearest", grid_mode=True)
    return np.rint(grown).astype(stored.dtype)


def clouded(stored: np.ndarray) -> np.ndarray:
    """A tenth of a season's image under a cloud (bands, y, x)."""
    side = stored.shape[-1]
    stored = stored.copy()
    stored[:, : side // 5, : side // 2] = 6000 + stored[:, : side // 5, : side // 2] // 4
    return stored


def top_of_atmosphere(stored: np.ndarray) -> np.ndarray:
    """What the air adds: most in blue, as the difference of Level-1C and Level-2A is over leaves."""
    air = np.zeros(stored.shape[1])
    air[[BLUE, GREEN, RED]] = 0.065, 0.04, 0.02
    return reflectance(stored, lambda values: values + air[:, None, None])


def renamed(pixels: Pixels, names: dict[str, str]) -> Tamper:
    """Arrays in place of others."""
    return lambda key, tile, stored: pixels[names.get(key, key), tile]


def labels(change: Callable[[np.ndarray], np.ndarray]) -> Tamper:
    return of_sensor("luisa", change)


TAMPERS: dict[str, Tamper | Callable[[Pixels], Tamper]] = {
    "offset not subtracted, all scenes": of_sensor("sentinel2", lambda s: reflectance(s, lambda v: v + 0.1)),
    "offset not subtracted, one scene": of_scene("sentinel2", lambda s: reflectance(s, lambda v: v + 0.1)),
    "offset subtracted twice, all scenes": of_sensor("sentinel2", lambda s: reflectance(s, lambda v: v - 0.1)),
    "offset subtracted twice, one scene": of_scene("sentinel2", lambda s: reflectance(s, lambda v: v - 0.1)),
    "percent in place of reflectance": of_sensor("landsat_2012", lambda s: reflectance(s, lambda v: v * 100)),
    "red and near infrared exchanged": of_sensor("sentinel2", exchanged(RED, NIR)),
    "blue and red exchanged": of_sensor("sentinel2", exchanged(BLUE, RED)),
    "near and shortwave infrared exchanged": of_sensor("landsat", exchanged(NIR, SWIR16)),
    "both shortwave infrared bands exchanged": of_sensor("landsat", exchanged(SWIR16, SWIR22)),
    "picture for display in place of a band, as digital numbers": of_sensor(
        "sentinel2", with_picture(lambda dn: dn * 1e-4)
    ),
    "picture for display in place of a band, from 0 to 1": of_sensor("sentinel2", with_picture(lambda dn: dn / 255)),
    "nodata taken for reflectance": of_sensor("landsat_2018", corner),
    "hole bled into its neighbours": of_sensor("sentinel2", bled),
    "south-up raster read as north-up": of_sensor("landsat_2018", lambda s: s[..., ::-1, :]),
    "rotated raster read as north-up": of_sensor("landsat_2018", lambda s: np.rot90(s, axes=(-2, -1))),
    "all sensors south-up, labels not": lambda key, tile, s: s if key.startswith("luisa") else s[..., ::-1, :],
    "one sensor displaced by a pixel": of_sensor("landsat_2018", lambda s: np.roll(s, 1, -1)),
    "labels displaced by a pixel": labels(lambda s: np.roll(s, 1, -1)),
    "labels south-up": labels(lambda s: s[::-1]),
    "labels of another year": lambda pixels: renamed(pixels, {"luisa_2018": "luisa_2012"}),
    "labels of two years exchanged": lambda pixels: renamed(
        pixels, {"luisa_2018": "luisa_2012", "luisa_2012": "luisa_2018"}
    ),
    "Level-1C in place of Level-2A": of_sensor("sentinel2", top_of_atmosphere),
    "pixels stated too large": of_sensor("sentinel2", pixels_of_60_m),
    "clouds left in": of_scene("sentinel2", clouded),
    "one image in several tiles": lambda pixels: lambda key, tile, s: pixels[key, 0] if key == "landsat_2012" else s,
}  # fmt: skip


def tamper_of(fault: str, pixels: Pixels) -> Tamper:
    tamper: Any = TAMPERS[fault]
    return tamper(pixels) if tamper.__code__.co_argcount == 1 else tamper


@pytest.mark.slow
@pytest.mark.parametrize("fault", TAMPERS)
def test_a_fault_in_the_pixels_turns_the_audit_red(release_root: Path, pixels: Pixels, fault: str) -> None:
    findings = audited(release_root, pixels, tamper_of(fault, pixels))
    assert set(FAULTS[fault]) <= set(findings.problems), sorted(findings.problems)


@pytest.mark.slow
def test_without_a_fault_the_audit_is_green(release_root: Path, pixels: Pixels) -> None:
    findings = audited(release_root, pixels, lambda key, tile, stored: stored)
    assert findings.problems == {}
    assert {check for checks in FAULTS.values() for check in checks} - set(findings.checked) == {
        "an acquisition counts once",
        "clouds without a quality layer are unknown",
        "class fractions",
        "cloud fractions are fractions",
    }


@pytest.mark.slow
def test_clean_holes_are_no_fault(release_root: Path, pixels: Pixels) -> None:
    assert "holes do not bleed" not in audited(release_root, pixels, of_sensor("sentinel2", holed)).problems


def build(folder: Path, recipe: str = world.RECIPE) -> Path:
    """A release of the world in a folder."""
    space = world.workspace(folder / "out")
    (folder / "recipe.toml").write_text(recipe)
    made = world.load(folder / "recipe.toml", space.scenes)
    rows = plan.plan(made, space)
    materialize.materialize(made, space, rows, search.search(made, space, rows), None)
    pack.pack(made, space, rows, None)
    return space.root


def problems(root: Path) -> set[str]:
    return set(audit.audit(root).problems)


def twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive has each scene in two processings, and both are counted."""
    world.make(folder, scenes=0)
    day = datetime(2018, 7, 1, 10, tzinfo=UTC)
    world.write(folder, "world", "World", [world.scene(folder / "scenes", name, day, (0.05, 0.3)) for name in "ab"])
    monkeypatch.setattr(_observations, "SAME_PASS", -_observations.SAME_PASS)
    monkeypatch.setattr(_observations, "_repeats", lambda older, newer: False)
    return build(folder)


def no_quality(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scene without a quality layer counts as observed without clouds."""
    world.make(folder, scenes=1)
    (item,) = (path for path in folder.rglob("s0.json"))
    content = json.loads(item.read_text())
    del content["assets"]["qa_pixel"]
    item.write_text(json.dumps(content))
    monkeypatch.setattr(RasterSource, "knows_clouds", lambda self, scene: True)
    return build(folder, world.RECIPE.replace("years = [2018]", 'years = [2018]\nquality = "optional"', 1))


def percent(folder: Path, columns: str) -> Path:
    """Fractions of the index in percent."""
    world.make(folder, scenes=1)
    root = build(folder)
    index = pd.read_parquet(root / INDEX)
    chosen = [column for column in index if column.startswith(columns)]
    index[chosen] = index[chosen] * 100 + 2
    index.to_parquet(root / INDEX)
    manifest = Manifest.load(root)
    files = [
        file.model_copy(update={"bytes": (root / INDEX).stat().st_size, "sha256": hash_file(root / INDEX)})
        if file.path == INDEX
        else file
        for file in manifest.files
    ]
    manifest.model_copy(update={"files": tuple(files)}).write(root)
    return root


BUILDS: dict[str, Callable[[Path, pytest.MonkeyPatch], Path]] = {
    "same acquisition counted twice": twice,
    "missing quality layer taken for clear": no_quality,
    "class fractions in percent": lambda folder, monkeypatch: percent(folder, "luisa_2018_"),
    "cloud fractions in percent": lambda folder, monkeypatch: percent(folder, "cloud_"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", BUILDS)
def test_a_fault_in_a_build_turns_the_audit_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    assert set(FAULTS[fault]) <= problems(BUILDS[fault](tmp_path, monkeypatch))


def test_every_fault_of_the_table_is_shown() -> None:
    assert set(FAULTS) == {*TAMPERS, *BUILDS}
    page = (Path(__file__).parents[3] / "docs" / "reference" / "audit.md").read_text(encoding="utf-8")
    assert f"faults -->\n{table()}\n<!-- end" in page, "python -m tests.builders.stages.faults prints it"
