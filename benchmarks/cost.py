"""What a build of a recipe costs: bytes over HTTP, processor hours, disk. A plan on paper, from measured figures.

usage: python benchmarks/cost.py RECIPE --figures FILE [--tiles N]

The last line of ``--figures`` is that of ``builder.py``. Without ``--tiles``, all tiles within the bounds of the
regions count, including those of buffers. Blocks of files are fetched once, so that a region of w pixels costs
(w + block)² samples of a band on each date. The other options are assumptions. The output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from builders.recipe import Recipe, SensorRule, load
from lulcbench.grid import TILE_SIZE, tiles_over
from lulcbench.sensors import SENTINEL2, sensor

# Passes over a place in a year, of all satellites of the archive: Sentinel-2 A and B every 5 days; Landsat 7 every 16
# days, in 2018 with Landsat 8.
PASSES = {("sentinel2", 2018): 73, ("landsat", 2012): 23, ("landsat", 2018): 46}
QUALITY_RESOLUTION = {"sentinel2": 20, "landsat": 30}  # m
BLOCKS = {"sentinel2": 1024, "landsat": 256}  # px; side of the blocks of Earth Search and of the Planetary Computer
MEASURED = 10 * (TILE_SIZE // SENTINEL2.resolution) ** 2  # samples per tile and date in builder.py


def main() -> None:
    """Print the costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--figures", type=Path, required=True)
    parser.add_argument("--tiles", type=int, help="that are built")
    parser.add_argument("--overlap", type=float, default=1.4, help="orbits that see a place (50° north)")
    parser.add_argument("--usable", type=float, default=0.55, help="share of passes below max_cloud")
    parser.add_argument("--bytes-per-sample", type=float, default=1.7, help="of the compressed files of the archive")
    options = parser.parse_args()
    recipe = load(options.recipe, Path("scenes"))
    figures = json.loads(options.figures.read_text(encoding="utf-8").splitlines()[-1])
    within = sum(len(tiles_over(r.bounds, r.whole)) for r in recipe.regions if r.bounds)
    tiles = options.tiles or within
    dates = {
        (rule, year): PASSES[rule.name, year] * options.overlap * options.usable
        for rule in recipe.sensors
        for year in rule.years
    }
    fetched = sum(n * samples(recipe, rule) for (rule, _), n in dates.items()) * tiles / within
    read = sum(n * kept(rule) for (rule, _), n in dates.items()) * tiles
    images = sum(len(recipe.seasons) * kept(rule) for rule, _ in dates) * tiles  # samples of composites
    seconds = read / MEASURED * figures["processor_s_per_tile_and_date"]
    seconds += images / MEASURED * figures["pack_and_audit_s_per_tile"]
    result = {
        "recipe": recipe.name,
        "tiles": tiles,
        "http_tb": round(fetched * options.bytes_per_sample * figures["http_bytes_ratio"] / 1e12, 2),
        "processor_hours": round(seconds / 3600),
        "cache_gb": round(2 * images / 1e9),
        "release_gb": round(images / MEASURED * figures["release_mb_per_tile"] / 1e3),
    }
    print(json.dumps(result))


def samples(recipe: Recipe, rule: SensorRule) -> float:
    """Samples in the blocks that the regions touch on one date, in all bands and the quality layer."""
    block = BLOCKS[rule.name]
    bounds = [region.bounds for region in recipe.regions if region.bounds]
    return sum(
        ((right - left) / size + block) * ((top - bottom) / size + block)
        for left, bottom, right, top in bounds
        for size in [*(sensor(rule.name).band(name).resolution for name in rule.bands), QUALITY_RESOLUTION[rule.name]]
    )


def kept(rule: SensorRule) -> int:
    """Samples of a tile on one date or in one season, on the grid of the release."""
    return len(rule.bands) * (TILE_SIZE // sensor(rule.name).resolution) ** 2


if __name__ == "__main__":
    main()
