"""Plan: which tiles there are, and which split each belongs to.

Whole spatial blocks go to one split, so that neighbouring tiles, which look alike, never sit on both sides of a
comparison; tiles nearer than the buffer to another split are left out. Within each region a deterministic search
shares the blocks out such that all splits have their wanted size and the region's mix of classes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from builders._progress import Report
from builders.archives import label_source
from builders.readers import LabelSource
from builders.readers.area import Area
from builders.readers.locators import companion_digests
from builders.readers.statements import extent
from builders.recipe import BUFFER, LabelRule, Recipe, Region, SplitRule
from builders.stages._areas import STATED, candidates, digests, lines, read_area
from builders.stages._catalogs import stored_items
from builders.stages._pins import check_not_simulated, check_pin
from builders.stages.coverage import Coverage, count_codes, read_coverage
from builders.stages.left_out import count_reasons
from builders.workspace import Workspace
from lulcbench import grid
from lulcbench._files import NAME, hash_file, write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Bounds, Tile
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.release import split_order

STAGE = "plan/6"
OMITTED = "# left out "  # begins a line of splits.csv: tile, region and reason follow
COLUMNS = ("tile", "region", "block", "split")
STARTS = 16  # of the search for small regions; the more blocks there are, the less a single search can go wrong
PROPOSALS = 25  # a block and start: enough for the cost to settle

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Omitted:
    """A tile of a region that is not planned, and the reason."""

    tile: Tile
    region: str
    reason: str


@dataclass(frozen=True, slots=True)
class Planned:
    """One tile of the plan; ``split`` is the name of a split, or ``BUFFER``."""

    tile: Tile
    region: str
    block: str
    split: str


def plan(recipe: Recipe, space: Workspace, report: Report | None = None) -> list[Planned]:
    """Make ``splits.csv`` in the workspace, unless one of the same inputs is there; returns its rows.

    Raises:
        LulcbenchError: a label map is missing or another than pinned, a region has no labelled tile, a split is empty.
    """
    key = _key(recipe)
    check_not_simulated(recipe)
    if space.splits.is_file() and space.splits.read_text(encoding="utf-8").startswith(f"# {key}\n"):
        return read(space.splits)
    if recipe.split.file:
        rows, omitted = read(recipe.split.file), read_omitted(recipe.split.file)
        buffer = buffer_of(recipe.split.file, recipe.split.buffer)
        coverage = read_coverage(recipe.split.file)
        areas = [line for line in recipe.split.file.read_text(encoding="utf-8").splitlines() if line.startswith(STATED)]
    else:
        rows, omitted, coverage = _make(recipe, report)
        buffer = recipe.split.buffer
        areas = lines(recipe, {row.region for row in rows})
    for split in recipe.splits:
        if not any(row.split == split for row in rows):
            raise LulcbenchError(
                f"Split {split!r} is empty: {len(rows)} tiles in {len({r.block for r in rows})} blocks of "
                f"{recipe.split.block} tiles with a buffer of {recipe.split.buffer} leave nothing for it.",
                "Make blocks or buffer smaller, the regions larger, or take the split out of the recipe.",
            )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((row.tile.id, row.region, row.block, row.split) for row in rows)
    head = [f"# {key}", f"# buffer {buffer}", *areas]
    head += coverage.lines()
    head += [f"{OMITTED}{one.tile.id} {one.region}: {one.reason}" for one in omitted]
    write_atomic(space.splits, ("\n".join(head) + "\n" + out.getvalue()).encode())
    return rows


def read(path: Path) -> list[Planned]:
    """Read a list of splits.

    Raises:
        LulcbenchError: it is missing, has other columns, something that cannot be the name of a split, or a tile twice.
    """
    try:
        lines = [x for x in path.read_text(encoding="utf-8").splitlines() if x and not x.startswith("#")]
    except FileNotFoundError as error:
        raise LulcbenchError(f"{path} is missing.", "Run 'python -m builders plan' first.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise LulcbenchError(f"{path} is not a text file: {error}.", "Name a list of splits.") from error
    remedy = f"It must have the columns {', '.join(COLUMNS)}; make it again with 'python -m builders plan'."
    table = list(csv.DictReader(lines))
    if not table or tuple(table[0]) != COLUMNS:
        raise LulcbenchError(f"{path} is not a list of splits.", remedy)
    rows = [Planned(Tile.from_id(r["tile"]), r["region"], r["block"], r["split"]) for r in table]
    for row in rows:
        if not re.fullmatch(NAME, row.split):
            raise LulcbenchError(
                f"{path}: the split of tile {row.tile.id} is {row.split[:80]!r}, which is not a name.", remedy
            )
    if len({row.tile for row in rows}) != len(rows):
        raise LulcbenchError(f"{path} names a tile twice.", remedy)
    return rows


def read_omitted(path: Path) -> list[Omitted]:
    """Tiles that a list of splits states to have left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(OMITTED):
            place, _, reason = line.removeprefix(OMITTED).partition(": ")
            tile, _, region = place.partition(" ")
            found.append(Omitted(Tile.from_id(tile), region, reason))
    return found


def buffer_of(path: Path, otherwise: int = 0) -> int:
    """The buffer in tiles that a list of splits says it keeps; ``otherwise`` if it says nothing.

    Raises:
        LulcbenchError: it says something that is not a number.
    """
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# buffer "):
            number = line.split()[-1]
            if not re.fullmatch(r"\d{1,4}", number):
                raise LulcbenchError(f"{path} has a damaged line: {line[:80]!r}.", "State '# buffer' and tiles.")
            return int(number)
    return otherwise


def near(tiles: Iterable[Tile], others: Iterable[Tile], buffer: int) -> set[Tile]:
    """Those of ``tiles`` that lie within ``buffer`` tiles of one of ``others``, in any of the eight directions."""
    reach = range(-buffer, buffer + 1)
    zone = {(o.ix + dx, o.iy + dy) for o in others for dx in reach for dy in reach}
    return {tile for tile in tiles if (tile.ix, tile.iy) in zone}


def _make(recipe: Recipe, report: Report | None) -> tuple[list[Planned], list[Omitted], Coverage]:
    rule = recipe.split
    sources = [(label_source(label), label.required) for label in recipe.labels]
    rows: list[Planned] = []
    omitted: list[Omitted] = []
    classes: dict[Tile, dict[int, int]] = {}
    scenes = _extents(recipe)
    for region in recipe.regions:
        bounds = _bounds(region, sources)
        own = candidates(region, bounds, scenes)
        free = [tile for tile in own if tile not in classes]
        labelled = any(map(recipe.labelled, [region.split] if region.split else rule.fractions))
        tiles, counts = [], []
        for i, tile in enumerate(free):
            codes = _codes(sources, tile, rule) if labelled else {}
            if isinstance(codes, str):
                omitted.append(Omitted(tile, region.name, codes))
            else:
                tiles.append(tile)
                classes[tile] = codes
                counts.append(_histogram(codes, tile, rule.stratify_level))
            if report:
                report(i + 1, len(free))
        if not tiles and not region.required:
            omitted = [one for one in omitted if one.region != region.name]
            continue
        if not free:
            place = f"area {region.area.path.name}" if region.area else "bounds"
            raise LulcbenchError(
                f"Region {region.name!r} {tuple(round(b) for b in bounds)} has no tile: "
                + (f"its {len(own)} tiles are of regions before it." if own else f"none is inside its {place}."),
                "Bounds are left, bottom, right, top in EPSG:3035 metres, of whole tiles unless whole = false.",
            )
        if not tiles:
            extents = "; ".join(str(tuple(round(v) for v in source.bounds())) for source, _ in sources)
            raise LulcbenchError(
                f"Region {region.name!r} {tuple(round(b) for b in bounds)} has no tile with labels: of its "
                f"{len(free)} tiles are left out {count_reasons(_kinds(omitted, region.name)) or 'none'}; "
                f"the label maps span {extents}.",
                "Bounds are left, bottom, right, top in EPSG:3035 metres; check them, the labels, min_labelled and "
                "stratify_level.",
            )
        splits = [region.split] * len(tiles) if region.split else assign(tiles, np.array(counts), rule)
        rows += [Planned(t, region.name, t.block(rule.block), s) for t, s in zip(tiles, splits, strict=True)]
    rows = _rebuffer(rows, list(filter(recipe.labelled, recipe.splits)), rule.buffer)
    coverage = Coverage()
    for row in rows:
        coverage.add(row.region, row.split, classes[row.tile])
    return sorted(rows, key=lambda row: row.tile.id), sorted(omitted, key=lambda one: one.tile.id), coverage


def _bounds(region: Region, sources: list[tuple[LabelSource, bool]]) -> Bounds:
    if region.bounds:
        return region.bounds
    return read_area(region.area).bounds if region.area else sources[0][0].bounds()


def _extents(recipe: Recipe) -> list[Bounds]:
    """Extents of the scenes, if a region asks for them."""
    if not any(region.covered for region in recipe.regions):
        return []
    if "://" in recipe.catalog or not recipe.catalog:
        raise LulcbenchError(
            "A region is 'covered' by scenes that are not on this machine.", "Give it bounds, or name a local catalog."
        )
    return sorted(extent(item) for item in stored_items(recipe.catalog))


def assign(tiles: list[Tile], counts: Ints, rule: SplitRule) -> list[str]:
    """Share the blocks of one region out among the splits.

    Starts from random assignments (seeded) and keeps every change of one block, or exchange of two, that lowers
    ``_cost``; returns the best of a few starts. Deterministic.

    Args:
        tiles: the region's tiles.
        counts: ``(tile, class)`` label pixels; without any, splits have the wanted sizes alone.
        rule: fractions, block size, buffer, seed.

    Returns:
        Split of each tile, or ``BUFFER``.
    """
    names = [split for split in split_order(rule.fractions) if rule.fractions[split]]
    wanted = np.array([rule.fractions[split] for split in names])
    labelled = np.array([split not in rule.unlabelled for split in names])
    blocks, block_of = np.unique([tile.block(rule.block) for tile in tiles], return_inverse=True)
    near_blocks = block_of[_neighbours(tiles, rule.buffer)]
    reach = _reach(near_blocks, len(blocks))
    whole = counts.sum(axis=0) / max(int(counts.sum()), 1)

    def buffered(choice: Ints, rows: Ints | slice = slice(None)) -> Ints:
        """Split number of each tile, -1 in the buffer: the later split keeps its tiles, the earlier gives way."""
        own, close = choice[block_of[rows]], choice[near_blocks[rows]]
        # A tile gives way if a tile of a later split (train < val < test) is within reach; both have labels.
        rank = np.where(labelled[close], close, -1)
        return np.where(labelled[own] & (rank.max(axis=1) > own), -1, own)

    rng = np.random.default_rng([rule.seed, len(tiles)])
    best: tuple[float, Ints] = (np.inf, np.zeros(len(blocks), np.int64))
    for _ in range(max(1, min(STARTS, 400 // len(blocks)))):
        choice = rng.choice(len(names), len(blocks), p=wanted)
        split = buffered(choice)
        # Tiles and label pixels of each split; the last row is the buffer, as index -1.
        sizes = np.bincount(split % (len(names) + 1), minlength=len(names) + 1)
        sums = np.stack([counts[split == s].sum(axis=0) for s in [*range(len(names)), -1]])
        cost = _cost(sizes, sums, wanted, whole)
        for _ in range(PROPOSALS * len(blocks) if len(names) > 1 else 0):
            proposal = choice.copy()
            a, b = rng.integers(len(blocks), size=2)
            if rng.random() < 0.5:
                proposal[a] = rng.integers(len(names))
            else:
                proposal[[a, b]] = proposal[[b, a]]
            # Only tiles within reach of a block that changes can change.
            altered = np.flatnonzero(proposal != choice)
            rows = np.unique(np.concatenate([reach[block] for block in altered])) if len(altered) else altered
            new = buffered(proposal, rows)
            rows, new = rows[changes := new != split[rows]], new[changes]
            new_sizes, new_sums = sizes.copy(), sums.copy()
            for sign, at in ((-1, split[rows]), (1, new)):
                np.add.at(new_sizes, at, sign)
                np.add.at(new_sums, at, sign * counts[rows])
            new_cost = _cost(new_sizes, new_sums, wanted, whole)
            if new_cost < cost:
                choice, cost, sizes, sums = proposal, new_cost, new_sizes, new_sums
                split[rows] = new
        if cost < best[0]:
            best = (cost, choice)
    return [BUFFER if s < 0 else names[s] for s in buffered(best[1])]


def _reach(near_blocks: Ints, n_blocks: int) -> list[Ints]:
    """Of each block, the tiles that have a tile of it within the buffer."""
    tile = np.repeat(np.arange(len(near_blocks)), near_blocks.shape[1])
    block, tile = np.unique(np.stack([near_blocks.ravel(), tile]), axis=1)
    return np.split(tile, np.searchsorted(block, np.arange(1, n_blocks)))


def _neighbours(tiles: list[Tile], buffer: int) -> Ints:
    """Positions of the tiles within the buffer of each, itself among them: (n, (2 · buffer + 1)²), gaps are itself."""
    position = {(tile.ix, tile.iy): i for i, tile in enumerate(tiles)}
    reach = range(-buffer, buffer + 1)
    return np.array(
        [[position.get((t.ix + x, t.iy + y), i) for x in reach for y in reach] for i, t in enumerate(tiles)]
    )


def _cost(sizes: Ints, sums: Ints, wanted: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> float:
    """How far an assignment is from what is wanted: sizes, class mix (total variation), tiles lost to the buffer.

    Args:
        sizes: tiles of each split, then of the buffer.
        sums: ``(split, class)`` label pixels, likewise.
        wanted: fraction of each split.
        whole: fraction of each class over all tiles.
    """
    kept = max(int(sizes[:-1].sum()), 1)
    cost = 2 * float(sizes[-1] / sizes.sum())
    for size, mix, share in zip(sizes, sums, wanted, strict=False):
        if not size:
            cost += 10
            continue
        cost += 2 * abs(size / kept - share) + float(np.abs(mix / max(int(mix.sum()), 1) - whole).sum())
    return cost


def _rebuffer(rows: list[Planned], labelled: list[str], buffer: int) -> list[Planned]:
    """Apply the buffer across regions too, which ``assign`` sees one by one; to splits with labels, in their order."""
    for position, split in enumerate(labelled):
        later = [row.tile for row in rows if row.split in labelled[position + 1 :]]
        lost = near((row.tile for row in rows if row.split == split), later, buffer)
        rows = [Planned(r.tile, r.region, r.block, BUFFER) if r.tile in lost else r for r in rows]
    return rows


def _kinds(omitted: list[Omitted], region: str) -> list[str]:
    return [one.reason for one in omitted if one.region == region]


def _codes(sources: list[tuple[LabelSource, bool]], tile: Tile, rule: SplitRule) -> dict[int, int] | str:
    """Label pixels of each code over all sources and years; the reason if the tile cannot be used."""
    total: dict[int, int] = {}
    for source, required in sources:
        codes = source.read(Area.of([tile], grid.LABEL_RESOLUTION)).codes
        share = float((codes > 0).mean())
        if required and not share:
            return "no labels"
        if required and share < rule.min_labelled:
            return f"labelled less than min_labelled ({rule.min_labelled:g})"
        for code, n in count_codes(codes).items():
            total[code] = total.get(code, 0) + n
    if not total:
        return "no labels"
    if _histogram(total, tile, rule.stratify_level).any():
        return total
    return f"labels coarser than stratify_level ({rule.stratify_level})"


def _histogram(codes: dict[int, int], tile: Tile, level: int) -> Ints:
    """Label pixels of each class of a level; codes that are coarser do not count."""
    total = np.zeros(len(legend().codes(level)), np.int64)
    indices = legend().encode(np.array(list(codes), np.int64), level, f"labels of tile {tile.id}")
    known = indices != IGNORE_INDEX
    np.add.at(total, indices[known], np.array(list(codes.values()), np.int64)[known])
    return total


def _key(recipe: Recipe) -> str:
    """What the plan depends on: files by what is in them, not by where they lie."""
    rules = [recipe.split.model_dump_json(exclude={"file"})]
    rules += [rule.model_dump_json(exclude={"path"}) for rule in recipe.labels]
    files = [hash_file(recipe.split.file)] if recipe.split.file and recipe.split.file.is_file() else []
    parts = [STAGE, recipe.key("regions"), *rules, *files, *_digests(recipe.labels), repr(_extents(recipe))]
    parts += digests(recipe)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _digests(labels: tuple[LabelRule, ...]) -> list[str]:
    for rule in labels:
        label_source(rule)
    pinned = [check_pin(rule.path, rule.edition, rule.sha256, rule.year) for rule in labels]
    return [*pinned, *(json.dumps(companion_digests(rule.path)) for rule in labels)]
