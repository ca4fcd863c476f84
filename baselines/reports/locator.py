"""A map of the tiles of a release by split, as SVG: where the tiles that a page shows lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from lulcbench.grid import CRS, TILE_SIZE, Tile
from lulcbench.release import split_order

_COLORS = {"train": "#8fbbe0", "val": "#f2c14e", "test": "#d7695c"}
_OTHERS = ("#9a86c8", "#7fb685", "#a8a29a")
_SIDE = 640  # units of the longer side of the map
_LINE = 22  # units of a line of text


def draw_locator(places: Mapping[str, str], shown: Sequence[str]) -> str | None:
    """SVG of all tiles in the colours of their splits, with the shown ones numbered from 1; None without tiles.

    Args:
        places: tile id → split.
        shown: ids of the tiles to number.

    Example:
        >>> svg = draw_locator({"E0905N0652": "train", "E0906N0652": "test"}, ["E0906N0652"])
        >>> "train: 1 tile<" in svg, svg.count("<title>E0906N0652</title>")
        (True, 1)
    """
    boxes = {tile: Tile.from_id(tile).bounds for tile in places}
    if not boxes:
        return None
    west, south = min(box[0] for box in boxes.values()), min(box[1] for box in boxes.values())
    east, north = max(box[2] for box in boxes.values()), max(box[3] for box in boxes.values())
    scale = _SIDE / max(east - west, north - south)
    height, side = (north - south) * scale, TILE_SIZE * scale

    def corner(tile: str) -> tuple[float, float]:
        """Upper left corner in units of the drawing."""
        return (boxes[tile][0] - west) * scale, (north - boxes[tile][3]) * scale

    others = iter(_OTHERS * len(boxes))
    splits = split_order(places.values())
    colors = {split: _COLORS.get(split) or next(others) for split in splits}
    parts = []
    for number, split in enumerate(splits):
        corners = [corner(tile) for tile, own in places.items() if own == split]
        path = "".join(f"M{x:.1f},{y:.1f}h{side:.1f}v{side:.1f}h-{side:.1f}z" for x, y in corners)
        y = height + 50 + _LINE * number
        parts.append(
            f'<path d="{path}" fill="{colors[split]}" stroke="#fff" stroke-width="0.5"/>'
            f'<rect x="0" y="{y:.0f}" width="16" height="16" fill="{colors[split]}"/>'
            f'<text x="24" y="{y + 14:.0f}">{escape(split)}: {len(corners)} tile{"s" * (len(corners) != 1)}</text>'
        )
    for number, tile in enumerate((tile for tile in shown if tile in boxes), start=1):
        (x, y), size = corner(tile), max(side, 18)
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{size:.1f}" fill="none" stroke="#000" '
            f'stroke-width="2"/><text x="{x + size / 2:.1f}" y="{y + size / 2 + 6:.1f}" text-anchor="middle" '
            f'font-weight="bold" fill="#000">{number}<title>{escape(tile)}</title></text>'
        )
    length = 10 ** math.floor(math.log10((east - west) / 2000))  # km: a power of ten below half of the width
    bar = length * 1000 * scale
    where = f"{west / 1000:,.1f} to {east / 1000:,.1f} km east, {south / 1000:,.1f} to {north / 1000:,.1f} km north"
    parts.append(
        f'<rect x="0" y="{height + 16:.0f}" width="{bar:.1f}" height="4" fill="currentColor"/>'
        f'<text x="{bar + 8:.1f}" y="{height + 24:.0f}">{length:g} km</text>'
        f'<text x="{bar + 80:.1f}" y="{height + 24:.0f}">{CRS}, {where}</text>'
    )
    return (
        f'<svg class="locator" viewBox="-4 -4 {_SIDE + 108} {height + 66 + _LINE * len(splits):.0f}" role="img" '
        f'aria-label="Map of the tiles by split" font-size="15" fill="currentColor">{"".join(parts)}</svg>'
    )
