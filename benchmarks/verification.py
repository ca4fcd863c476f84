"""Does ``lulcbench verify`` find the errors of a map? Labels with injected errors, whose truth is known.

The connected areas of the labels of a split are the polygons of a map. Some of them get a wrong class: half of these
that of a place 500 m away, the others that of any polygon. ``verify`` does not know which. Printed are precision and
recall among the k most suspicious polygons, and how often polygons of a stated probability are wrong.

    python -m benchmarks.verification ROOT MODEL [--split val test] [--level 1] [--errors 0.1] [--figure FILE.svg]

With ``--map``, the errors are put into the polygons of a vector file instead. Such a map has errors of its own, which
count as right here: precision is a lower bound then.

    python -m benchmarks.verification ROOT MODEL --map FILE --class-column COLUMN --legend LEGEND [--layer LAYER]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lulcbench.evaluation.class_maps import NONE, at_level
from lulcbench.evaluation.polygons import read_polygons
from lulcbench.evaluation.verification import verify_map
from lulcbench.grid import CRS, LABEL_RESOLUTION, Tile
from lulcbench.legend import NODATA
from lulcbench.release import Release, Row

if TYPE_CHECKING:
    import geopandas

DISTANCE = 500  # m
EUROPE = (900_000, 900_000, 7_400_000, 5_500_000)  # m, EPSG:3035
BINS = (0.0, 0.05, 0.2, 0.5, 0.8, 1.0)


@dataclass(frozen=True)
class Score:
    """How well errors were found.

    Attributes:
        polygons: number of polygons.
        wrong: number of those that are wrong.
        expected: sum of the probabilities.
        precision: k → share of the k most suspicious polygons that are wrong.
        recall: k → share of the wrong polygons among the k most suspicious ones.
        brier: mean squared difference of probability and truth; ``base`` is that of the share of wrong polygons.
        base: see ``brier``.
        reliability: (mean probability, share that is wrong, polygons) of the polygons of each bin of probabilities.
    """

    polygons: int
    wrong: int
    expected: float
    precision: dict[int, float]
    recall: dict[int, float]
    brier: float
    base: float
    reliability: list[tuple[float, float, int]]


def write_map(
    path: Path, release: Release, splits: Sequence[str], level: int, errors: float, seed: int = 1
) -> npt.NDArray[np.bool_]:
    """Write polygons with errors to a GeoPackage; returns which are wrong, bool ``(n,)``."""
    import geopandas
    from rasterio.features import shapes
    from rasterio.transform import from_origin
    from shapely.geometry import shape

    year = max(release.manifest.labels[release.manifest.choose_labels()].years)
    found = []
    for split in splits:
        tiles = release.tiles(split)
        for at, tile in enumerate(tiles.ids):
            left, _, _, top = Tile.from_id(tile).bounds
            stored = release.labels(split, year, [Row(tiles.first + at)])[0].astype(np.int64)
            codes = at_level(np.where(stored == NODATA, NONE, stored), level).astype(np.int32)
            transform = from_origin(left, top, LABEL_RESOLUTION, LABEL_RESOLUTION)
            found += [(shape(area), int(code)) for area, code in shapes(codes, codes != NONE, 4, transform)]
    polygons = geopandas.GeoDataFrame({"code": [c for _, c in found]}, geometry=[a for a, _ in found], crs=CRS)
    return inject(path, polygons, errors, seed)


def inject(path: Path, polygons: geopandas.GeoDataFrame, errors: float, seed: int = 1) -> npt.NDArray[np.bool_]:
    """Write polygons (EPSG:3035, column ``code``) with errors; returns which are wrong, bool ``(n,)``."""
    import geopandas

    rng = np.random.default_rng(seed)
    places = geopandas.GeoSeries(polygons.representative_point())
    turn = rng.random(len(places)) * 2 * np.pi
    moved = geopandas.points_from_xy(places.x + DISTANCE * np.cos(turn), places.y + DISTANCE * np.sin(turn), crs=CRS)
    beside = geopandas.GeoDataFrame(geometry=moved).sjoin(polygons, how="left", predicate="within")
    near = beside.loc[~beside.index.duplicated(), "code"].to_numpy()
    own = polygons["code"].to_numpy()
    any_class = rng.permutation(own)
    other = np.where((rng.random(len(own)) < 0.5) & np.isfinite(near), np.nan_to_num(near), any_class).astype(int)
    chosen = (rng.random(len(own)) < errors) & (other != own)
    polygons.assign(code=np.where(chosen, other, own)).to_file(path, driver="GPKG", index=False)
    result: npt.NDArray[np.bool_] = chosen
    return result


def score(wrong: npt.NDArray[np.bool_], p: npt.NDArray[np.float64]) -> Score:
    """Score probabilities ``(n,)``, highest first, of polygons that are wrong or not."""
    hits, total = np.cumsum(wrong), int(wrong.sum())
    at = [k for k in (10, 25, 50, 100, 200, 400, total) if 0 < k <= len(wrong)]
    which = np.clip(np.searchsorted(BINS, p, side="right") - 1, 0, len(BINS) - 2)
    bins = [
        (float(p[which == b].mean()), float(wrong[which == b].mean()), int((which == b).sum()))
        for b in np.unique(which)
    ]
    return Score(
        polygons=len(wrong),
        wrong=total,
        expected=float(p.sum()),
        precision={k: float(hits[k - 1] / k) for k in at},
        recall={k: float(hits[k - 1] / max(total, 1)) for k in at},
        brier=float(np.mean((p - wrong) ** 2)),
        base=float(wrong.mean() * (1 - wrong.mean())),
        reliability=bins,
    )


def run(
    root: Path,
    model: Path,
    splits: Sequence[str] = ("val", "test"),
    level: int = 1,
    errors: float = 0.1,
    polygons: geopandas.GeoDataFrame | None = None,
) -> Score:
    """Inject errors into labels, or into the given polygons (EPSG:3035, column ``code``); verify, score."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.gpkg"
        if polygons is None:
            wrong = write_map(path, Release.open(root), splits, level, errors)
        else:
            codes = at_level(polygons["code"].to_numpy(), level)
            known = polygons.assign(code=codes)[codes != NONE].reset_index(drop=True)
            wrong = inject(path, known, errors)
        verified = verify_map(path, root, model, level=level, class_column="code")
    order = verified.polygons["feature"].to_numpy()
    return score(wrong[order], verified.polygons["wrong"].to_numpy())


def main() -> None:
    """Print the score, and draw the reliability."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--split", nargs="+", default=["val", "test"])
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("--errors", type=float, default=0.1)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--map", type=Path)
    parser.add_argument("--class-column")
    parser.add_argument("--legend", default="luisa")
    parser.add_argument("--layer")
    arguments = parser.parse_args()
    polygons = None
    if arguments.map:
        polygons = read_polygons(
            arguments.map, EUROPE, 10, arguments.legend, arguments.class_column, layer=arguments.layer
        ).table
    found = run(arguments.root, arguments.model, arguments.split, arguments.level, arguments.errors, polygons)
    print(json.dumps(asdict(found)))
    if arguments.figure:
        from matplotlib.figure import Figure

        figure = Figure((5, 4), layout="constrained")
        axes = figure.subplots()
        stated, true, _ = zip(*found.reliability, strict=True)
        axes.plot([0, 1], [0, 1], color="0.7")
        axes.plot(stated, true, "o-")
        for x, y, n in found.reliability:
            axes.annotate(f"{n:,}", (x, y), textcoords="offset points", xytext=(6, -10))
        axes.set(xlabel="stated probability that a polygon is wrong", ylabel="share that is wrong")
        figure.savefig(arguments.figure, metadata={"Date": None})


if __name__ == "__main__":
    main()
