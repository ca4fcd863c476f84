"""Audit: a finished release is opened as a user would open it, and its metadata are computed again.

Nothing here uses what pack computed: arrays are read with zarr, classes counted with the legend, statistics in
floating point from reflectance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import zarr

from builders.stages import report as report_stage
from builders.stages._audit_coordinates import coordinates
from builders.stages._audit_imagery import imagery
from builders.stages._audit_observations import observations
from builders.stages.plan import buffer_of, near
from builders.stages.plan import read as read_plan
from builders.workspace import read_json, write_json
from lulcbench._files import hash_file, write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.grid import TILE_SIZE, Tile, pixels
from lulcbench.legend import LEVELS, NODATA, legend
from lulcbench.release import INDEX, TRAIN, ArrayKey, Manifest, Release, SensorInfo, label_shape
from lulcbench.release.entries import NO_DATE
from lulcbench.release.index import clear_column, cloud_column, fraction_column, valid_column
from lulcbench.sensors import Coding

STAGE = "audit/4"
REPORT, PAGE = "audit.json", "audit.html"  # beside the manifest of a release, published with it
BATCH = 4  # tiles read at once
Report = Callable[[int, int], None]


@dataclass
class Findings:
    """Findings of an audit.

    Attributes:
        release: ``name-version``.
        digest: of the release.
        checked: things checked, by check.
        problems: what is wrong, by check.
        measured: figures of the pixels that checks rest on, such as displacements between sensors.
        allowed: checks that failed and do not prevent publication, each with the reason.
        stage: version of the audit.
    """

    release: str
    digest: str
    checked: dict[str, int] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    allowed: dict[str, str] = field(default_factory=dict)
    stage: str = STAGE

    def check(self, name: str, good: bool, problem: str) -> None:
        """Count one check; keep the problem if it failed."""
        self.checked[name] = self.checked.get(name, 0) + 1
        if not good:
            self.problems.setdefault(name, []).append(problem)

    def raise_if_bad(self, root: Path) -> None:
        """Raise an error that names the first problems, if there are any."""
        if self.problems:
            first = "; ".join(p for found in self.problems.values() for p in found[:2])
            raise LulcbenchError(
                f"The release at {root} fails its audit: {first}.",
                f"Do not publish it: correct the recipe and build again. {root / PAGE} shows all findings.",
            )


def audit(root: Path, report: Report | None = None) -> Findings:
    """Check a release; the findings stay beside its manifest, as ``audit.json`` and as a page, ``audit.html``.

    Args:
        root: folder of the release.
        report: called with steps done and steps in all.

    Raises:
        LulcbenchError: there is no readable release.
    """
    release = Release.open(root)
    found = Findings(release.id, release.digest)
    index = pd.DataFrame()
    for file in release.manifest.files:
        path = root / file.path
        same = path.is_file() and path.stat().st_size == file.bytes and hash_file(path) == file.sha256
        found.check("files have the bytes of the manifest", same, f"{file.path} is missing or altered")
    if not found.problems:
        index = pd.read_parquet(root / INDEX)  # not as the release reads it: the audit trusts no reader
        _splits(release, index, found)
        _left_out(root, index, found)
        coordinates(root, release.manifest, index, found)
        _arrays(release, index, found, report)
        group = zarr.open_group(root, mode="r", use_consolidated=False)

        def read(key: ArrayKey, row: int) -> np.ndarray:
            return np.asarray(cast("zarr.Array[Any]", group[str(key)])[row])

        observations(root, release.manifest, index, read, found)
        imagery(release.manifest, index, read, found, report)
    write_findings(root, found, index)
    return found


def write_findings(root: Path, found: Findings, index: pd.DataFrame) -> None:
    """Write the report and its page."""
    from builders.stages._audit_page import render  # matplotlib takes a second to import

    write_atomic(root / PAGE, render(found, Manifest.load(root), index).encode())
    write_json(root / REPORT, asdict(found))


def read_findings(root: Path, manifest: Manifest) -> Findings | None:
    """The findings beside a release; None if there are none, or they are of other content or an older audit."""
    path = root / REPORT
    if not path.is_file():
        return None
    content = read_json(path, f"audit {root}")
    try:
        found = Findings(**content)
    except TypeError:
        return None
    return found if (found.digest, found.stage) == (manifest.digest, STAGE) else None


def _splits(release: Release, index: pd.DataFrame, found: Findings) -> None:
    found.check("no tile twice", index["id"].is_unique, "a tile is in the index twice")
    tiles: dict[str, list[Tile]] = {}
    for split, n in release.manifest.splits.items():
        rows = index[index["split"] == split].sort_values("row")
        found.check("no split is empty", n > 0, f"split {split} is empty")
        mine = release.manifest.rows(split)
        in_order = rows["row"].tolist() == list(mine)
        found.check("rows follow one another", in_order, f"rows of {split} are not {mine.start} to {mine.stop - 1}")
        tiles[split] = [Tile.from_id(name) for name in rows["id"]]
    for tile, ix, iy in zip(index["id"], index["ix"], index["iy"], strict=True):
        found.check("ids are places", Tile(ix, iy).id == tile, f"{tile} is not at ({ix}, {iy})")
    labelled = [split for split in tiles if any(split in info.splits for info in release.manifest.labels.values())]
    for position, split in enumerate(labelled):
        others = [tile for other in labelled[position + 1 :] for tile in tiles[other]]
        close = near(tiles[split], others, buffer_of(Path(release.root) / "splits.csv"))
        found.check(
            "splits keep their distance", not close, f"{len(close)} {split} tiles lie in another split's buffer"
        )


def _left_out(root: Path, index: pd.DataFrame, found: Findings) -> None:
    """Tiles of the plan that the release lacks are in the report of its build."""
    report = read_json(root / report_stage.FILE, "pack")
    listed = {tile["id"] for tile in report["tiles"]["left_out"]}
    present = set(index["id"])
    for row in read_plan(root / "splits.csv"):
        known = row.tile.id in present or row.tile.id in listed
        found.check("tiles that are left out are reported", known, f"{row.tile.id} is planned, but not in the release")
    both = sorted(listed & present)
    found.check("tiles that are left out are reported", not both, f"{both[:3]} are reported as left out, but present")
    for what in ("scenes", "tiles"):
        reasons = Counter(entry["reason"] for entry in report[what]["left_out"])
        found.measured |= {f"{what} left out: {reason}": n for reason, n in sorted(reasons.items())}
    for reason, why in report_stage.WHY_UNLABELLED.items():
        found.measured |= {f"pixels of {array} without a label: {why}": n for array, n in report[reason].items() if n}


def _arrays(release: Release, index: pd.DataFrame, found: Findings, report: Report | None) -> None:
    manifest = release.manifest
    sums: dict[str, list[Any]] = {name: [0, 0.0, 0.0] for name in manifest.sensors}
    counts: dict[ArrayKey, dict[int, int]] = {}
    done, total = 0, sum(len(manifest.split_arrays(split)) for split in manifest.splits)
    group = zarr.open_group(release.root, mode="r", use_consolidated=False)
    missing = {str(key) for key in manifest.arrays if not Path(release.root, str(key), "zarr.json").is_file()}
    found.check("arrays are those of the manifest", not missing, f"{', '.join(sorted(missing))} missing")
    counted = {
        key.clear: key for name, info in manifest.sensors.items() if info.clear_counts for key in info.arrays(name)
    }
    dates = {key: _dates(group, key) for name, info in manifest.sensors.items() for key in _dated(info, name)}
    shapes = _shapes(manifest, counted, dates)
    for split, n in manifest.splits.items():
        rows = index[index["split"] == split].sort_values("row")
        labels = [key for key in manifest.split_arrays(split) if key.name in manifest.labels]
        if manifest.labels:
            _labelled_tiles(rows, labels, manifest, found)
        for key in manifest.split_arrays(split):
            if str(key) in missing:
                continue
            array, imagery_of = cast("zarr.Array[Any]", group[str(key)]), counted.get(key)
            shape = shapes[key]
            found.check("shapes", array.shape == shape, f"{key} is {array.shape}, not {shape}")
            if array.shape != shape:
                continue
            for first in range(0, n, BATCH):
                start = manifest.first_rows[split] + first
                data = np.asarray(array[start : start + min(BATCH, n - first)])
                some = rows.iloc[first : first + BATCH]
                if key in labels:
                    _label_tiles(data, some, key, found)
                    if split == TRAIN:
                        of_year = counts.setdefault(key, {})
                        for code, m in zip(*np.unique(data[data != NODATA], return_counts=True), strict=True):
                            of_year[int(code)] = of_year.get(int(code), 0) + int(m)
                elif imagery_of is not None:
                    images = cast("zarr.Array[Any]", group[str(imagery_of)])[start : start + len(data)]
                    _count_tiles(data, np.asarray(images), manifest, some, imagery_of, found)
                else:
                    coding = manifest.sensor(key.name).coding
                    if key in dates:
                        of_tile = (~np.isnat(dates[key][start : start + len(data)])).sum(axis=1)
                        after = [image[n:] for image, n in zip(data, of_tile, strict=True)]
                        empty = all(bool(coding.missing(image).all()) for image in after)
                        found.check("no values without a date", empty, f"{key}, rows from {start}")
                        _image_tiles(
                            [image[:n] for image, n in zip(data, of_tile, strict=True)], coding, some, key, found
                        )
                    else:
                        _image_tiles(data, coding, some, key, found)
                    if split == TRAIN:
                        _add(sums[key.name], data, coding)
            done += 1
            if report:
                report(done, total)
    for name, (pixel_count, added, squares) in sums.items():
        stated = manifest.sensor(name).statistics
        if stated is None or not pixel_count:
            neither = stated is None and not pixel_count
            found.check("statistics of train", neither, f"{name}: {stated} stated, of {pixel_count} pixels")
            continue
        mean = added / pixel_count
        std = np.sqrt(np.maximum(squares / pixel_count - mean**2, 0))
        coding = manifest.sensor(name).coding
        near_enough = 1e-4 * np.array(stated.std) + (1e-6 if coding.dtype == "float32" else 0.1 * coding.scale)
        same = pixel_count == stated.pixels and bool((np.abs(mean - stated.mean) <= near_enough).all())
        same = same and bool((np.abs(std - stated.std) <= near_enough).all())
        found.check("statistics of train", same, f"{name}: mean {mean}, std {std}, {pixel_count} pixels found")
    for name, of_source in manifest.labels.items():
        for year, stated_counts in of_source.class_counts.items():
            codes = counts.get(ArrayKey(name, year), {})
            found.check("class counts of train", codes == stated_counts, f"{name} {year}: {codes} found")


def _dated(info: SensorInfo, name: str) -> list[ArrayKey]:
    """The dated arrays of a sensor."""
    return [key for key in info.arrays(name) if key.first != key.last]


def _dates(group: zarr.Group, key: ArrayKey) -> np.ndarray:
    """Dates of a dated array, datetime64 ``(row, time)``, NaT where there is none; without rows if they are missing."""
    array = group.get(f"date_{key}")
    days = np.asarray(array[...]) if isinstance(array, zarr.Array) else np.zeros((0, 0), np.int32)
    return np.where(days == NO_DATE, np.datetime64("NaT", "D"), days.astype("datetime64[D]"))


def _shapes(
    manifest: Manifest, counted: dict[ArrayKey, ArrayKey], dates: dict[ArrayKey, np.ndarray]
) -> dict[ArrayKey, tuple[int, ...]]:
    """Shape that each array must have."""
    shapes: dict[ArrayKey, tuple[int, ...]] = {}
    for key in manifest.arrays:
        info = manifest.sensors.get(counted.get(key, key).name)
        if info is None:
            shapes[key] = (manifest.array_rows, *label_shape())
            continue
        side = pixels(TILE_SIZE, info.resolution)
        bands = () if key in counted else (len(info.bands),)
        steps = dates[key].shape[1] if key in dates else len(manifest.seasons)
        shapes[key] = (manifest.array_rows, steps, *bands, side, side)
    return shapes


def _labelled_tiles(rows: pd.DataFrame, labels: list[ArrayKey], manifest: Manifest, found: Findings) -> None:
    """Every tile of a labelled split has labels of some source and year, and no tile of another split has any.

    Goes by the class fractions of the index, which are compared with the arrays elsewhere.
    """
    keys = labels or [ArrayKey(name, year) for name, info in manifest.labels.items() for year in info.years]
    columns = [fraction_column(key, code) for key in keys for code in legend().codes(1)]
    for tile, has in zip(rows["id"], (rows[columns] > 0).any(axis=1), strict=True):
        if labels:
            found.check("no tile without labels", bool(has), tile)
        else:
            found.check("unlabelled tiles have no labels", not has, tile)


def _label_tiles(data: np.ndarray, rows: pd.DataFrame, array: ArrayKey, found: Findings) -> None:
    for codes, (_, row) in zip(data, rows.iterrows(), strict=True):
        where = f"{row['id']} {array}"
        for level in LEVELS:
            at_level = legend().remap(codes, level, where)
            found.check(
                "class fractions",
                all(
                    abs(float((at_level == code).mean()) - row[fraction_column(array, code)]) < 1e-6
                    for code in legend().codes(level)
                ),
                f"{where}: level {level} differs from the index",
            )


def _image_tiles(
    data: Sequence[np.ndarray] | np.ndarray, coding: Coding, rows: pd.DataFrame, array: ArrayKey, found: Findings
) -> None:
    for image, (_, row) in zip(data, rows.iterrows(), strict=True):
        where = f"{row['id']} {array}"
        valid = np.isfinite(coding.decode(image))
        share = float(valid[:, 0].mean()) if len(valid) else 0.0
        found.check("valid fractions", abs(share - row[valid_column(array)]) < 1e-5, f"{where}: {share} found")
        cloud = row[cloud_column(array)]
        found.check("cloud fractions are fractions", bool(pd.isna(cloud)) or 0 <= cloud <= 1, where)
        found.check("a pixel has all bands or none", bool((valid == valid[:, :1]).all()), where)
    # A tile may lack an optional sensor, but not all of them.
    columns = [column for column in rows.columns if column.startswith("valid_")]
    found.check(
        "no tile without a valid pixel", bool((rows[columns] > 0).any(axis=1).all()), f"{array}: a tile is empty"
    )


def _count_tiles(
    data: np.ndarray, images: np.ndarray, manifest: Manifest, rows: pd.DataFrame, array: ArrayKey, found: Findings
) -> None:
    """Numbers of clear observations against the images that were made from them, and against the index."""
    coding = manifest.sensor(array.name).coding
    for counts, image, (_, row) in zip(data, images, rows.iterrows(), strict=True):
        where = f"{row['id']} {array}"
        valid = np.isfinite(coding.decode(image[:, 0]))
        found.check(
            "pixels have values where they have clear observations",
            bool(((counts > 0) == valid).all()),
            f"{where}: {(counts > 0).mean():.4f} of pixels have clear observations, {valid.mean():.4f} have values",
        )
        mean = float(counts.mean())
        found.check(
            "numbers of clear observations", abs(mean - row[clear_column(array)]) < 1e-5, f"{where}: {mean} found"
        )


def _add(sums: list[Any], data: np.ndarray, coding: Coding) -> None:
    """Add a batch's valid pixels to [count, per-band sum, per-band sum of squares] of values."""
    for image in data:
        values = coding.decode(image).astype(np.float64)
        valid = np.isfinite(values[:, 0])
        chosen = np.moveaxis(values, 1, 0)[:, valid]
        sums[0] += chosen.shape[1]
        sums[1] = sums[1] + chosen.sum(axis=1)
        sums[2] = sums[2] + (chosen**2).sum(axis=1)
