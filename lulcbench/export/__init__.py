"""GeoTIFFs of a release, for QGIS and other programs that do not read its sharded Zarr arrays.

A place is a region of the release, whose tiles are joined in one raster, or a single tile. Each layer of each place is
one cloud-optimized GeoTIFF in EPSG:3035, with no resampling: pixels are those of the release.

```
OUT/<place>/<layer>_<place>.tif
    landsat_2018_summer         imagery of a season, a band per band, as it is stored, with scale and offset: programs
                                that apply them (QGIS does) show reflectance. Values that are missing are nodata
    landsat_2000-2020_2004-07-15    dated imagery, a file per date
    landsat-clear_2018_summer   number of clear observations; nodata (0) where there are none
    luisa_2018_level3           class codes of labels at a level; nodata (0) where pixels are ignored at that level
    prediction_2018_level3      class codes of a predictions file
    probability_2018            class probabilities of it, a band per class, float32, NaN outside of the tiles
OUT/<place>/<layer>_<place>.qml     style for QGIS: names and colours of classes; true colour of imagery; counts of
                                clear observations and the first probability in colours that are the same in all files
OUT/tiles_<release>.gpkg, .qml      outlines of all tiles of the release in the colours of their splits, with the
                                columns of the index; kept if it exists
```

Class codes have a colour table and a table of names in the file. Tags of each file state release, licence, attribution
and whether the data are simulated.
"""

from __future__ import annotations

from lulcbench.export.writing import ExportOptions, ExportResult, export_release

__all__ = ["ExportOptions", "ExportResult", "export_release"]
