"""Styles of QGIS (QML) for rasters of class codes, imagery and other numbers, and for polygons of categories.

QGIS applies the file ``NAME.qml`` beside ``NAME.tif`` or ``NAME.gpkg`` when it opens the layer.
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


def ramp_style(stops: Mapping[float, tuple[str, str]]) -> str:
    """A style for the first band of a raster: colours between stops; values beyond the ends have their colours.

    Without a style, QGIS stretches grey between the values it finds, so that files do not compare and a raster of one
    value is black; of several bands it shows the first three as red, green and blue.

    Args:
        stops: label and colour (``#rrggbb``) of values, ascending.

    Returns:
        The content of a QML file (XML).

    Example:
        >>> from lulcbench.legend.qgis import ramp_style
        >>> ramp_style({0: ("0", "#ffffff"), 1: ("1", "#000000")}).count("<item ")
        2
    """
    ends = {"Min": f"{min(stops):g}", "Max": f"{max(stops):g}"}
    style, renderer = _renderer(
        type="singlebandpseudocolor", band="1", **{f"classification{which}": end for which, end in ends.items()}
    )
    own = {f"{which.lower()}imumValue": end for which, end in ends.items()}
    shader = ElementTree.SubElement(
        ElementTree.SubElement(renderer, "rastershader"),
        "colorrampshader",
        own | {"colorRampType": "INTERPOLATED", "classificationMode": "1", "clip": "0"},
    )
    for value, (label, color) in stops.items():
        ElementTree.SubElement(shader, "item", {"value": f"{value:g}", "label": label, "color": color, "alpha": "255"})
    return _text(style)


def outline_style(column: str, colors: Mapping[str, str]) -> str:
    """A style for polygons: outlines whose colour is that of a category, inside so that neighbours do not hide them.

    Args:
        column: name of the column of the categories.
        colors: colour (``#rrggbb``) of each category.

    Returns:
        The content of a QML file (XML).

    Example:
        >>> from lulcbench.legend.qgis import outline_style
        >>> outline_style("split", {"train": "#4477aa"}).count("<category ")
        1
    """
    style = ElementTree.Element("qgis", version="3.22", styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        style, "renderer-v2", {"type": "categorizedSymbol", "attr": column, "enableorderby": "0"}
    )
    categories, symbols = (ElementTree.SubElement(renderer, name) for name in ("categories", "symbols"))
    for i, (name, color) in enumerate(colors.items()):
        ElementTree.SubElement(
            categories, "category", {"value": name, "label": name, "symbol": str(i), "render": "true", "type": "string"}
        )
        symbol = ElementTree.SubElement(symbols, "symbol", {"type": "fill", "name": str(i), "alpha": "1"})
        layer = ElementTree.SubElement(symbol, "layer", {"class": "SimpleLine", "enabled": "1", "pass": "0"})
        rgb = ",".join(map(str, (*bytes.fromhex(color[1:]), 255)))
        own = {"line_color": rgb, "line_width": "1.2", "line_width_unit": "MM", "draw_inside_polygon": "1"}
        for key, value in own.items():
            ElementTree.SubElement(layer, "prop", {"k": key, "v": value})  # of QGIS before 3.26; later ones read it
    return _text(style)


def _renderer(**attributes: str) -> tuple[ElementTree.Element, ElementTree.Element]:
    """The root of a style, and its renderer."""
    style = ElementTree.Element("qgis", version="3.22", styleCategories="Symbology")
    pipe = ElementTree.SubElement(style, "pipe")
    return style, ElementTree.SubElement(pipe, "rasterrenderer", attributes | {"opacity": "1", "alphaBand": "-1"})


def _text(style: ElementTree.Element) -> str:
    ElementTree.indent(style)
    return f"<!DOCTYPE qgis>\n{ElementTree.tostring(style, encoding='unicode')}\n"
