"""A page of rows of pictures, as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lulcbench._files import write_atomic

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1b1b1b }
article { border-top: 1px solid #ccc; padding: 1rem 0 }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0 } figcaption { color: #555 }
img { image-rendering: pixelated; width: 20rem; max-width: 100%; border: 1px solid #ccc }
.legend span { margin-right: 1rem } .legend i { display: inline-block; width: .8em; height: .8em; margin-right: .3em }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 0 0 .3rem } p { margin: .2rem 0 .6rem }
"""


@dataclass(frozen=True)
class Row:
    """One entry of a page.

    Attributes:
        title: of the entry.
        text: below the title.
        pictures: caption and picture, uint8 ``(y, x, 3)``.
        legend: names and colours (#rrggbb) of classes in the pictures.
    """

    title: str
    text: str
    pictures: Sequence[tuple[str, npt.NDArray[np.uint8]]]
    legend: Sequence[tuple[str, str]] = ()


def write_page(path: Path, title: str, introduction: str, rows: Sequence[Row]) -> None:
    """Write a page."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1><p>{escape(introduction)}</p>",
    ]
    for row in rows:
        parts.append(f'<article><h2>{escape(row.title)}</h2><p>{escape(row.text)}</p><div class="pictures">')
        parts += [
            f'<figure><img alt="{escape(caption)}: {escape(row.title)}" src="data:image/png;base64,{_png(picture)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for caption, picture in row.pictures
        ]
        parts.append("</div>")
        parts += [
            f'<p class="legend">{"".join(_key(name, color) for name, color in row.legend)}</p>' if row.legend else "",
            "</article>",
        ]
    parts.append("</body></html>\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "\n".join(parts).encode())


def _key(name: str, color: str) -> str:
    return f'<span><i style="background:{escape(color)}"></i>{escape(name)}</span>'


def _png(picture: npt.NDArray[np.uint8]) -> str:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile

    height, width, bands = picture.shape
    with MemoryFile() as file:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.Env(), file.open("PNG", width, height, bands, dtype="uint8") as raster:
                raster.write(np.moveaxis(picture, -1, 0))
        return base64.b64encode(file.read()).decode()
