"""The JRC LUISA Base Map: a GeoTIFF of LUISA codes, 50 or 100 m; or polygons with such codes.

The JRC publishes new editions under the same address: editions of 2021 and 2026 differ in 0.3 to 1.1 % of the cells.
Recipes therefore name the edition and its SHA-256.
"""

from __future__ import annotations

from dataclasses import dataclass

from builders.readers import LabelSource
from builders.readers.labels import RasterLabels
from builders.recipe import LabelRule
from lulcbench.legend import legend
from lulcbench.vectors import SUFFIXES


@dataclass(frozen=True, slots=True)
class Edition:
    """One published file: what it is, the year of its labels, and its SHA-256."""

    title: str
    year: int
    sha256: str


# SHA-256 of files of the JRC is that of https://jeodpp.jrc.ec.europa.eu/ftp/jrc-opendata/LUISA/EUROPE/Basemaps/.
# The clips were decoded, cell by cell, from figures that the CLIMAAX and FLOODS notebooks publish; they are not files
# of the JRC. Two figures of Bremen show different editions.
EDITIONS = {
    "2018-rev020321-50m": Edition(
        "LUISA Base Map 2018, edition of 2 March 2021, 50 m",
        2018,
        "5b82265265f2d6d1c474dac3f33fe62fd5be8e809676561b1bb64a96e821008f",
    ),
    "2018-bremen-decoded": Edition(
        "LUISA Base Map 2018, 100 m, Bremen, decoded from published figures",
        2018,
        "bf2af6552075bb8ea6c995914d1e4f1d457589c8f8dc4a82cf6b855132420c21",
    ),
    "2018-rev020321-bremen-decoded": Edition(
        "LUISA Base Map 2018, edition of 2 March 2021, 100 m, Bremen, decoded from published figures",
        2018,
        "cad4e5faa1e56c89e0b70346f1135874c555745a855d60bdcffb60e4b4aa6341",
    ),
    "2018-barcelona-decoded": Edition(
        "LUISA Base Map 2018, 100 m, Barcelona, decoded from published figures",
        2018,
        "c87ca3dac25779cff24b7130b022a0e495c57beec423bbd3d15564506f5bdc14",
    ),
    "2018-larochelle-decoded": Edition(
        "LUISA Base Map 2018, 100 m, La Rochelle, decoded from published figures",
        2018,
        "157b254421ad20d23826ce94cb2c987fe953848f1aba87094314051ef550237f",
    ),
}
ATTRIBUTION = "European Commission, Joint Research Centre"


def edition_of(sha256: str) -> tuple[str, Edition] | None:
    """Name and edition of a file with this SHA-256; None if it is not known."""
    return next(((name, edition) for name, edition in EDITIONS.items() if edition.sha256 == sha256), None)


def labels(rule: LabelRule) -> LabelSource:
    """The map as a label source. Its codes have level 4; coarser codes of the legend are accepted too."""
    codes = {code: code for code in legend().classes}
    if rule.path.suffix.lower() in SUFFIXES:
        from builders.readers.polygons import VectorLabels  # imports geopandas: only if polygons are read

        words = {str(code): code for code in codes} | {"0": 0}
        return VectorLabels(rule.path, words, "LUISA", rule.layer, rule.field, rule.min_cover)
    return RasterLabels(rule.path, codes, "LUISA", rule.band, rule.year, rule.min_cover)
