"""The index, a table with one row per tile; filters, and fixed subsets for few labels."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from lulcbench.errors import CorruptFileError, LulcbenchError, NotAvailableError
from lulcbench.grid import Tile
from lulcbench.legend import legend
from lulcbench.release.keys import ArrayKey, Row, TilePosition
from lulcbench.release.manifest import Manifest


@dataclass(frozen=True, slots=True)
class SplitTiles:
    """The tiles of one split, in the order of their rows, which are consecutive.

    Attributes:
        ids: tile ids.
        regions: region of each tile.
        blocks: spatial block of each tile, the unit of confidence intervals.
        first: row of the first tile.
    """

    ids: tuple[str, ...]
    regions: tuple[str, ...]
    blocks: tuple[str, ...]
    first: Row

    @classmethod
    def of(cls, table: pd.DataFrame) -> SplitTiles:
        """Tiles of the index of one split."""
        ids, regions, blocks = (tuple(map(str, table[name].tolist())) for name in ("id", "region", "block"))
        return cls(ids, regions, blocks, Row(int(table["row"].iloc[0])))

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, position: TilePosition) -> Row:
        """Row of the tile at a position."""
        return Row(self.first + position)


def read_table(source: io.BytesIO | Path, path: str, manifest: Manifest, split: str | None = None) -> pd.DataFrame:
    """Read a checked index, without geometry, in the order of the rows (see ``Release.index``).

    Args:
        source: content of the index, or its file.
        path: path or address of the index, for error messages.
        manifest: manifest of the release.
        split: only the tiles of this split.

    Raises:
        CorruptFileError: the index cannot be read, or its tiles differ from the manifest.
    """
    filters = [("split", "==", split)] if split is not None else None
    try:
        columns = [name for name in pq.read_schema(source).names if name not in ("geometry", "bbox")]
        table: pd.DataFrame = pq.read_table(source, columns=columns, filters=filters).to_pandas()
        table = table.sort_values(["split", "row"], ignore_index=True)
        rows = table.groupby("split")["row"].apply(list)
    except (OSError, ValueError, KeyError) as error:
        raise CorruptFileError(f"Cannot read {path}: {error}.", "Run 'lulcbench check-files --repair'.") from error
    for name in [split] if split is not None else manifest.splits:
        wanted = manifest.rows(name)
        if rows.get(name) != list(wanted):
            raise CorruptFileError(
                f"{path} and the manifest disagree about {name}: the table has {len(rows.get(name, []))} tiles, the "
                f"manifest {len(wanted)} from row {wanted.start}.",
                "Run 'lulcbench check-files --repair'.",
            )
    # Names of exported files and folders are made of both.
    if unknown := set(table["region"]) - set(manifest.regions):
        raise CorruptFileError(
            f"{path} has the region {min(map(str, unknown))!r}, which the manifest does not have.",
            "Get the release from its publisher.",
        )
    if differing := [
        name for name, *at in zip(table["id"], table["ix"], table["iy"], strict=True) if Tile(*at).id != name
    ]:
        raise CorruptFileError(
            f"{path} has the tile {differing[0]!r} at the place of another one.", "Get the release from its publisher."
        )
    return table


def fraction_column(labels: ArrayKey, code: int) -> str:
    """Name of the column of the share of a tile's label pixels that are in a class: ``luisa_2018_211``."""
    return f"{labels}_{code}"


def valid_column(imagery: ArrayKey) -> str:
    """Name of the column of the share of a tile's pixels that have a value: ``valid_landsat_2018``."""
    return f"valid_{imagery}"


def cloud_column(imagery: ArrayKey) -> str:
    """Name of the column of the share of a tile's observed pixels that were not clear: ``cloud_landsat_2018``."""
    return f"cloud_{imagery}"


def clear_column(imagery: ArrayKey) -> str:
    """Name of the column of the mean number of clear observations of a pixel in a season: ``clear_landsat_2018``."""
    return f"clear_{imagery}"


def columns(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Columns of an index.

    Raises:
        CorruptFileError: the index lacks a column.
    """
    absent = [name for name in names if name not in table]
    if absent:
        raise CorruptFileError(f"The index has no column {absent[0]}.", "Run 'lulcbench check-files --repair'.")
    return table[list(names)]


def select(
    table: pd.DataFrame,
    *,
    labels: Sequence[ArrayKey] = (),
    imagery: Sequence[ArrayKey] = (),
    regions: Sequence[str] | None = None,
    classes: Sequence[int] | None = None,
    max_cloud: float | None = None,
    query: str | None = None,
    fraction: float | None = None,
) -> pd.DataFrame:
    """Tiles that meet all conditions, in the same order.

    Args:
        table: the index of a split or of all splits.
        labels: arrays of the labels for ``classes``.
        imagery: arrays of the imagery for ``max_cloud``.
        regions: names of regions.
        classes: LUISA codes of any level, at least one of which a tile must have in one of ``labels``.
        max_cloud: maximum cloud fraction (0…1) in all of ``imagery``; tiles with unknown clouds are excluded.
        query: any pandas query on the columns, such as ``"luisa_2018_311 > 0.3"``.
        fraction: fraction of the tiles, from the fixed lists of ``few``; applied before the other conditions.

    Raises:
        NotAvailableError: an unknown region or class.
        LulcbenchError: an unknown column, ``max_cloud`` is not within 0…1, or no tile meets the conditions.
    """
    if fraction is not None:
        table = few(table, fraction)
    met: dict[str, pd.Series[bool]] = {}  # by condition: the tiles that meet it
    if regions is not None:
        known = set(table["region"])
        for region in regions:
            if region not in known:
                raise NotAvailableError(f"No region {region!r} here.", f"There are {', '.join(sorted(known))}.")
        met[f"regions={list(regions)}"] = table["region"].isin(regions)
    if classes is not None:
        for code in classes:
            if code not in legend().classes:
                raise NotAvailableError(
                    f"Unknown LUISA code {code}.", "Known codes are in lulcbench/data/luisa_legend.csv."
                )
        shares = columns(table, [fraction_column(key, code) for key in labels for code in classes])
        met[f"classes={list(classes)}"] = (shares > 0).any(axis=1)
    if max_cloud is not None:
        if not 0 <= max_cloud <= 1:
            raise LulcbenchError(f"max_cloud is {max_cloud:g}.", "It is a fraction: use a number from 0 to 1.")
        clouds = columns(table, [cloud_column(key) for key in imagery])
        met[f"max_cloud={max_cloud:g}"] = (clouds <= max_cloud).all(axis=1)  # unknown clouds are excluded
    if query is not None:
        try:
            met[f"query={query!r}"] = table.index.to_series().isin(table.query(query).index)
        except Exception as error:  # pandas raises the errors of its parser and evaluator
            raise LulcbenchError(
                f"Cannot evaluate query {query!r}: {error}.", f"Columns are {_column_names(table)}."
            ) from error
    kept = pd.Series(data=True, index=table.index)
    for tiles in met.values():
        kept &= tiles
    if not kept.any():
        counts = "".join(
            f", {tiles.sum()} {'meets' if tiles.sum() == 1 else 'meet'} {name}" for name, tiles in met.items()
        )
        raise LulcbenchError(
            f"No tile meets the conditions: of {len(table)} tiles{counts}.", "Widen the narrowest condition."
        )
    return table[kept]


def _column_names(table: pd.DataFrame) -> str:
    """Names of the columns that queries use; those of classes are shown once per year, with CODE for the code."""
    names = [re.sub(r"^(\w+_\d{4})_\d+$", r"\1_CODE", str(name)) for name in table]
    hidden = {"type", "stac_version", "stac_extensions", "links", "assets", "collection"}
    shown = [name for name in dict.fromkeys(names) if name not in hidden and ":" not in name]
    return ", ".join([*shown, *(f"`{name}`" for name in names if ":" in name)])


def few(table: pd.DataFrame, fraction: float) -> pd.DataFrame:
    """A fixed subset of the tiles for studies with few labels, the same everywhere and nested (10 % includes 1 %).

    In each region, tiles are sorted by the SHA-256 of their ids, and the first ``ceil(fraction · n)`` are taken, so
    that every region keeps at least one.

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
