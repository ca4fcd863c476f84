"""Maps: a model and a release in, a folder out that GDAL, xarray and a browser open. ``map_release`` is where to begin.

Fed by files alone: a model that ``python -m baselines export`` wrote (``model.onnx``, ``model.json``), and a release,
labelled or not. The folder of a map is one Zarr v3 hierarchy with STAC files beside the groups::

    MAP/zarr.json                     attributes and consolidated metadata; written last: a map that has it is complete
    MAP/collection.json               STAC collection of the years
    MAP/<year>/zarr.json              group of a year: multiscales (GeoZarr) over its resolutions
    MAP/<year>/item.json              STAC item
    MAP/<year>/0/                     full resolution, that of the first sensor of the model
    MAP/<year>/1/, 2/, …              overviews, each with half the resolution; the last is at most 480 pixels wide
    MAP/<year>/<n>/class_1 … class_4  uint16 (y, x): LUISA codes at each level up to that of the model, 0: no data
    MAP/<year>/<n>/classes            in place of these, if the classes are those of a legend subset: its codes 1, 2, …
    MAP/<year>/<n>/probability        uint8 (class, y, x): p · 255, at the level of the model; 0 where there are no data
    MAP/<year>/<n>/entropy            uint8 (y, x): entropy / log(classes) · 254, 255: no data
    MAP/<year>/<n>/margin             likewise: highest minus second highest probability
    MAP/<year>/<n>/least_confidence   likewise: 1 − highest probability
    MAP/<year>/<n>/deviation          likewise, of several models: standard deviation over them of the probability of
                                      the decided class
    MAP/<year>/<n>/mutual_information   likewise: mutual information of model and class / log(classes)
    MAP/<year>/<n>/composites         uint8 (y, x): number of seasonal composites with data, 0: no data;
                                      for models of series, number of dates of the year with data
    MAP/<year>/<n>/clear              uint8 (y, x): number of clear observations, if the release holds it
    MAP/<year>/<n>/changed_by_smoothing      uint8 (y, x), after smoothing: 1 where it changed the class
    MAP/<year>/<n>/changed_by_mapping_unit   uint8 (y, x), likewise of the minimum mapping unit
    MAP/<year>/<n>/certain            uint16 (y, x), if the model is calibrated: the finest LUISA code (of any level)
                                      that is certain; 65535 if none is, 0: no data
    MAP/<year>/<n>/set_size           uint8 (y, x), likewise: number of classes of the level of the model in that code
    MAP/cog/<year>/<layer>.tif        with ``cog``: cloud-optimized GeoTIFF of each layer, with the same overviews,
                                      and for layers of classes a style for QGIS, <layer>.qml
    MAP/<year>/<n>/class, x, y, spatial_ref    coordinates: codes of the class axis, pixel centres in EPSG:3035, the CRS

Chunks are 240 × 240 pixels (all classes together), compressed with Blosc (zstd), without shards, so that GDAL reads
them. Arrays begin at a whole block of 480 pixels of the EPSG:3035 grid; chunks without data are not stored.
"""

from __future__ import annotations

from lulcbench.areas import Area
from lulcbench.maps.engine import MapOptions, MapResult, map_release
from lulcbench.maps.ensemble import Ensemble
from lulcbench.maps.mapping_unit import MappingUnit
from lulcbench.maps.model import MapModel, ModelInfo, ModelInput, Predictor, Series
from lulcbench.maps.own import OwnModel, TorchPredictor
from lulcbench.maps.smoothing import Smoothing

__all__ = [
    "Area",
    "Ensemble",
    "MapModel",
    "MapOptions",
    "MapResult",
    "MappingUnit",
    "ModelInfo",
    "ModelInput",
    "OwnModel",
    "Predictor",
    "Series",
    "Smoothing",
    "TorchPredictor",
    "map_release",
]
