"""Styles of QGIS for rasters of class codes."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree


def qgis_style(classes: Mapping[int, tuple[str, str]]) -> str:
    """A style for rasters of class codes: names and colours of the classes.

    QGIS applies the file ``NAME.qml`` beside ``NAME.tif`` when it opens the raster. Without a style it lists all 65,536
    entries of the colour table of a 16-bit raster, and no names.

    Args:
        classes: name and colour (``#rrggbb``) of each code, in the order of the list.

    Returns:
        The content of a QML file (XML).

    Example:
        >>> from lulcbench.legend.qgis import qgis_style
        >>> qgis_style({1: ("Artificial surfaces", "#996e52")}).count("<paletteEntry ")
        1
    """
    style = ElementTree.Element("qgis", version="3.22", styleCategories="Symbology")
    pipe = ElementTree.SubElement(style, "pipe")
    renderer = ElementTree.SubElement(pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1")
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for code, (name, color) in classes.items():
        entry = {"value": str(code), "label": f"{code} {name}", "color": color, "alpha": "255"}
        ElementTree.SubElement(palette, "paletteEntry", entry)
    ElementTree.indent(style)
    return f"<!DOCTYPE qgis>\n{ElementTree.tostring(style, encoding='unicode')}\n"
