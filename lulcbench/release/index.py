"""The table of tiles: one row a tile, with what is in it; filters and fixed few-label lists."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from lulcbench.errors import CorruptFileError, LulcbenchError, NotAvailableError
from lulcbench.legend import legend
from lulcbench.release.manifest import Manifest


@dataclass(frozen=True, slots=True)
class SplitTiles:
    """The tiles of one split; position i is row i of the split's arrays.

    Attributes:
        ids: tile ids.
        regions: region of each tile.
        blocks: spatial block of each tile, the unit of confidence intervals.
    """

    ids: tuple[str, ...]
    regions: tuple[str, ...]
    blocks: tuple[str, ...]

    @classmethod
    def of(cls, table: pd.DataFrame) -> SplitTiles:
        """Those of the index of one split."""
        return cls(*(tuple(map(str, table[name].tolist())) for name in ("id", "region", "block")))

    def __len__(self) -> int:
        return len(self.ids)


def read_table(source: io.BytesIO | Path, path: str, manifest: Manifest, split: str | None = None) -> pd.DataFrame:
    """Read a checked index, without geometry, in the order of the rows (see ``Release.index``).

    Args:
        source: its content, or the file.
        path: its path or address, for errors.
        manifest: of the release.
        split: only the tiles of this split.

    Raises:
        CorruptFileError: it cannot be read, or disagrees with the manifest about the tiles.
    """
    filters = [("split", "==", split)] if split is not None else None
    try:
        columns = [name for name in pq.read_schema(source).names if name not in ("geometry", "bbox")]
        table: pd.DataFrame = pq.read_table(source, columns=columns, filters=filters).to_pandas()
        table = table.sort_values(["split", "row"], ignore_index=True)
        rows = table.groupby("split")["row"].apply(list)
    except (OSError, ValueError, KeyError) as error:
        raise CorruptFileError(f"Cannot read {path}: {error}.", "Run 'lulcbench verify --repair'.") from error
    for name in [split] if split is not None else manifest.splits:
        count = manifest.tiles(str(name))
        if count and rows.get(name) != list(range(count)):
            raise CorruptFileError(
                f"{path} and {name}.zarr disagree: the table has {len(rows.get(name, []))} tiles, the shards {count}.",
                "Run 'lulcbench verify --repair'.",
            )
    return table


def select(
    table: pd.DataFrame,
    *,
    regions: Sequence[str] | None = None,
    classes: Sequence[int] | None = None,
    max_cloud: float | None = None,
    sensors: Sequence[str] | None = None,
    years: Sequence[int] | None = None,
    query: str | None = None,
    fraction: float | None = None,
) -> pd.DataFrame:
    """Tiles that meet all conditions, in the same order.

    Args:
        table: the index of a split or of all splits.
        regions: names of regions.
        classes: LUISA codes of any level; a tile must hold at least one of them in some year.
        max_cloud: largest cloud fraction (0…1) of any of ``sensors`` in any of ``years``.
        sensors: whose clouds count; None counts those of all.
        years: whose clouds count; None counts those of all.
        query: any pandas query on the columns, such as ``"luisa_2018_311 > 0.3"``.
        fraction: of the tiles, from the fixed few-label lists (see ``few``); applied first, so that the other
            conditions choose within the list.

    Raises:
        NotAvailableError: an unknown region or class.
        LulcbenchError: an unknown column, or no tile meets the conditions.
    """
    if fraction is not None:
        table = few(table, fraction)
    if regions is not None:
        known = set(table["region"])
        for region in regions:
            if region not in known:
                raise NotAvailableError(f"No region {region!r} here.", f"There are {', '.join(sorted(known))}.")
        table = table[table["region"].isin(regions)]
    if classes is not None:
        for code in classes:
            if code not in legend().classes:
                raise NotAvailableError(
                    f"Unknown LUISA code {code}.", "Known codes are in lulcbench/data/luisa_legend.csv."
                )
        wanted = [c for c in table.columns if c.startswith("luisa_") and int(c.rpartition("_")[2]) in classes]
        table = table[(table[wanted] > 0).any(axis=1)]
    if max_cloud is not None:
        clouds = [column for column in table.columns if _counts(column, sensors, years)]
        table = table[(table[clouds].fillna(0) <= max_cloud).all(axis=1)]
    if query is not None:
        try:
            table = table.query(query)
        except Exception as error:  # pandas raises whatever its parser and evaluator happen to raise
            raise LulcbenchError(
                f"Cannot evaluate query {query!r}: {error}.", f"Columns are {', '.join(table.columns[:12])}, …"
            ) from error
    if table.empty:
        raise LulcbenchError("No tile meets the conditions.", "Widen regions, classes, max_cloud or query.")
    return table


def _counts(column: str, sensors: Sequence[str] | None, years: Sequence[int] | None) -> bool:
    """Whether a column is the cloud fraction ``cloud_<sensor>_<year>`` of one of them."""
    kind, _, array = column.partition("_")
    name, _, year = array.rpartition("_")
    return kind == "cloud" and (sensors is None or name in sensors) and (years is None or int(year) in years)


def few(table: pd.DataFrame, fraction: float) -> pd.DataFrame:
    """A fixed part of the tiles for few-label studies, the same for everybody and nested (1 % lies within 10 %).

    In each region tiles are ordered by the SHA-256 of their id and the first ``ceil(fraction · n)`` are taken, so every
    region keeps at least one.

    Raises:
        LulcbenchError: ``fraction`` is not within (0, 1].

    Examples:
        >>> table = pd.DataFrame({"id": ["E0001N0001", "E0001N0002", "E0002N0001"], "region": ["a", "a", "b"]})
        >>> len(few(table, 0.5)), len(few(table, 1.0))  # at least one tile of every region
        (2, 3)
    """
    if not 0 < fraction <= 1:
        raise LulcbenchError(f"fraction is {fraction}.", "Use a number above 0 and at most 1, such as 0.01 or 0.1.")
    order = table["id"].map(lambda tile: hashlib.sha256(tile.encode()).hexdigest())
    rank = order.groupby(table["region"]).rank(method="first")
    size = table.groupby("region")["id"].transform("size").map(lambda n: math.ceil(fraction * n))
    return table[rank <= size]
