"""The viewer: from maps to a static folder that a browser opens. ``write_site`` is where to begin.

The folder has no server but one that delivers files (``python -m http.server``), and asks nothing of other hosts::

    SITE/index.html, viewer.js, viewer.css, LICENSES.txt    the application, which ``make viewer`` builds from ``app``
    SITE/site.json                                          legend, maps, layers; marks the folder as a site
    SITE/data/<map>/<year>/<layer>/<n>/<row>/<column>.bin   a tile of 240 × 240 values of overview n
    SITE/data/<map>/<year>/probability/<code>/…             likewise, of one class
    SITE/data/<map>/<year>/<layer>/index.bin                uint8: which tiles of all overviews exist, row by row
    SITE/data/<map>/<year>/<layer>/counts.bin               uint16: pixels of each class in each tile at full resolution
    SITE/data/<map>/<year>/pixels/<row>/<column>.bin        all layers of 60 × 60 pixels, for a click
    SITE/data/<map>/<year>/pixels/index.bin                 uint8: which of these exist

Files with the suffix ``.bin`` are gzip; values are little-endian, row by row. Classes are positions in the legend of
``site.json``, 255 is nodata; all other values are as stored in the map. Tiles without data are not stored. Where a map
has a layer of several levels, the last entry of the legend, of level 0, is what is uncertain at all of them.
"""

from __future__ import annotations

from lulcbench.maps.viewer.points import Point
from lulcbench.maps.viewer.site import write_site

__all__ = ["Point", "write_site"]
