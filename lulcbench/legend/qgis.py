"""Styles of QGIS (QML) for rasters of class codes, and for imagery.

QGIS applies the file ``NAME.qml`` beside ``NAME.tif`` when it opens the raster.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree


def qgis_style(classes: Mapping[int, tuple[str, str]]) -> str:
    """A style for rasters of class codes: names and colours of the classes.

    Without a style, QGIS lists all 65,536 entries of the colour table of a 16-bit raster, and no names.

    Args:
        classes: name and colour (``#rrggbb``) of each code, in the order of the list.

    Returns:
        The content of a QML file (XML).

    Example:
        >>> from lulcbench.legend.qgis import qgis_style
        >>> qgis_style({1: ("Artificial surfaces", "#996e52")}).count("<paletteEntry ")
        1
    """
    style, renderer = _renderer(type="paletted", band="1")
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for code, (name, color) in classes.items():
        entry = {"value": str(code), "label": f"{code} {name}", "color": color, "alpha": "255"}
        ElementTree.SubElement(palette, "paletteEntry", entry)
    return _text(style)


def true_color_style(bands: tuple[int, int, int], low: float, high: float) -> str:
    """A style for imagery: three bands as red, green and blue. Without a style, QGIS takes the first three.

    Args:
        bands: numbers of the red, green and blue band, from 1.
        low: value that is shown black, in the unit of the bands (QGIS applies scale and offset of a file).
        high: value that is shown at full intensity.

    Returns:
        The content of a QML file (XML).

    Example:
        >>> from lulcbench.legend.qgis import true_color_style
        >>> 'redBand="4"' in true_color_style((4, 3, 2), 0, 0.3)
        True
    """
    names = ("red", "green", "blue")
    own = {f"{name}Band": str(band) for name, band in zip(names, bands, strict=True)}
    style, renderer = _renderer(type="multibandcolor", **own)
    for name in names:
        contrast = ElementTree.SubElement(renderer, f"{name}ContrastEnhancement")
        ElementTree.SubElement(contrast, "minValue").text = f"{low:g}"
        ElementTree.SubElement(contrast, "maxValue").text = f"{high:g}"
        ElementTree.SubElement(contrast, "algorithm").text = "StretchToMinimumMaximum"
    return _text(style)


def _renderer(**attributes: str) -> tuple[ElementTree.Element, ElementTree.Element]:
    """The root of a style, and its renderer."""
    style = ElementTree.Element("qgis", version="3.22", styleCategories="Symbology")
    pipe = ElementTree.SubElement(style, "pipe")
    return style, ElementTree.SubElement(pipe, "rasterrenderer", attributes | {"opacity": "1", "alphaBand": "-1"})


def _text(style: ElementTree.Element) -> str:
    ElementTree.indent(style)
    return f"<!DOCTYPE qgis>\n{ElementTree.tostring(style, encoding='unicode')}\n"
