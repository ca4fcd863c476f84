"""Does ``lulcbench spot`` find change in images, and how often does it raise false alarms?

Simulated: a folder of dated GeoTIFFs of patches of 640 m, with seasons, noise, clouds (most of them in the layer of
quality) and known changes; a classifier of mean and spread of the bands, fitted to other simulated patches. Nothing of
it is realistic but the file format and the frequency of images.

    python -m benchmarks.spotting_images [--side 10] [--years 4] [--keep FOLDER]

Real, with ``--romania FOLDER``: Sentinel-2 at 20 m, 2015 to 2021, in which a forest was cleared. A random forest learns
tree cover of 2018 from the pixels of that year in one half of the area; the patches of the other half are classified.
Reference: summer NDVI fell by more than 0.2 between 2016 and 2017 in at least half of the pixels of a patch; alarms are
false in patches where it fell in less than a tenth of them.

Real patches, with ``--eurosat FOLDER --model MODEL --test LIST``: EuroSAT patches that an exported model has not seen
are put together to series: four a year, each date another patch of the class of the place. Half of the places change
their class. Images are real and so are the errors of the model; sequences are not.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench.evaluation.crosswalk import read_crosswalk
from lulcbench.evaluation.spot_images import Spotted, open_images, spot_images
from lulcbench.maps.model import DESCRIPTION, GRAPH, OUTPUT, PROPERTY, MapModel, ModelInfo, ModelInput

Floats = npt.NDArray[np.floating[Any]]

PIXELS = 64  # along the side of a patch
CRS = "EPSG:32633"
CORNER = (400_000.0, 5_800_000.0)  # left and top
BANDS = ("B02", "B03", "B04", "B08", "B11")
CODES = {"Forest": 31, "AnnualCrop": 21, "Pasture": 23, "Residential": 11, "Industrial": 12, "SeaLake": 5}
CLASSES = tuple(CODES)
# Reflectance in summer and in winter, and spread of the pixels.
SUMMER = np.array(
    [
        [0.03, 0.05, 0.03, 0.30, 0.14],
        [0.06, 0.09, 0.08, 0.28, 0.24],
        [0.05, 0.09, 0.06, 0.36, 0.20],
        [0.10, 0.12, 0.13, 0.22, 0.22],
        [0.17, 0.19, 0.20, 0.26, 0.27],
        [0.05, 0.05, 0.03, 0.02, 0.01],
    ]
)
WINTER = np.array(
    [
        [0.03, 0.05, 0.04, 0.20, 0.13],
        [0.08, 0.11, 0.14, 0.20, 0.28],
        [0.05, 0.08, 0.07, 0.24, 0.20],
        [0.10, 0.12, 0.13, 0.19, 0.22],
        [0.17, 0.19, 0.20, 0.25, 0.27],
        [0.05, 0.05, 0.04, 0.03, 0.01],
    ]
)
SPREAD = np.array([0.10, 0.15, 0.12, 0.35, 0.40, 0.05])
CHANGES = ((0, 1), (0, 3), (1, 3), (2, 4), (3, 1), (1, 4))  # pairs of classes


def patch_values(rng: np.random.Generator, number: int, when: np.datetime64) -> Floats:
    """Reflectance of a patch ``(band, y, x)`` of a class on a day."""
    day = (when - when.astype("datetime64[Y]")).astype(int)
    summer = (1 - np.cos(2 * np.pi * (day - 15) / 365)) / 2
    mean = summer * SUMMER[number] + (1 - summer) * WINTER[number]
    mean = mean * rng.normal(1, 0.06, len(BANDS)) * rng.normal(1, 0.06)
    coarse = rng.normal(0, SPREAD[number], (PIXELS // 4, PIXELS // 4))
    texture = np.repeat(np.repeat(coarse, 4, axis=0), 4, axis=1) + rng.normal(0, 0.03, (PIXELS, PIXELS))
    values: Floats = np.clip(mean[:, None, None] * (1 + texture), 0.001, 1)
    return values


def write_model(folder: Path, graph: bytes, **stated: Any) -> MapModel:
    """Write an exported model by hand; it is checked when it is opened."""
    info = ModelInfo(sha256=hashlib.sha256(graph).hexdigest(), training_digest="benchmark", **stated)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH).write_bytes(graph)
    content = {"type": "Feature", "properties": {PROPERTY: info.model_dump(mode="json")}}
    (folder / DESCRIPTION).write_text(json.dumps(content))
    return MapModel.open(folder)


def patch_model(folder: Path, seed: int = 7, patches: int = 40) -> MapModel:
    """A classifier of the mean and the spread of each band, fitted to simulated patches of all seasons."""
    from onnx import TensorProto, helper, numpy_helper
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(CLASSES)), patches)
    days = np.datetime64("2016-01-01") + rng.integers(0, 366, len(labels))
    values = np.stack([patch_values(rng, int(k), day) for k, day in zip(labels, days, strict=True)])
    mean, std = values.mean(axis=(0, 2, 3)), values.std(axis=(0, 2, 3))
    normal = (values - mean[:, None, None]) / std[:, None, None]
    features = np.concatenate([normal.mean(axis=(2, 3)), normal.std(axis=(2, 3))], axis=1)
    fitted = LogisticRegression(C=1.0, max_iter=2000).fit(features, labels)
    weights = {"w": fitted.coef_.T.astype(np.float32), "b": fitted.intercept_.astype(np.float32)}
    nodes = [
        helper.make_node("GlobalAveragePool", ["sentinel2"], ["mean"]),
        helper.make_node("Sub", ["sentinel2", "mean"], ["rest"]),
        helper.make_node("Mul", ["rest", "rest"], ["square"]),
        helper.make_node("GlobalAveragePool", ["square"], ["variance"]),
        helper.make_node("Sqrt", ["variance"], ["spread"]),
        helper.make_node("Concat", ["mean", "spread"], ["both"], axis=1),
        helper.make_node("Flatten", ["both"], ["features"]),
        helper.make_node("Gemm", ["features", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT], axis=1),
    ]
    image = helper.make_tensor_value_info("sentinel2", TensorProto.FLOAT, ["n", len(BANDS), "y", "x"])
    result = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", len(CLASSES)])
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "patches", [image], [result], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    entry = ModelInput(resolution=10, bands=BANDS, seasons=(), mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    return write_model(
        folder,
        model.SerializeToString(),
        name="simulated-patches",
        architecture="logistic regression",
        dense=False,
        inputs={"sentinel2": entry},
        classes=CLASSES,
        level=None,
        legend_digest=None,
        reach=0,
        simulated=True,
    )


def simulate_place(
    folder: Path, side: int, years: int, changed: float = 0.2, seed: int = 3, every: int = 20
) -> pd.DataFrame:
    """Write dated GeoTIFFs of ``side`` × ``side`` patches with a layer of quality; returns the known truth.

    Returns:
        ``row``, ``column``, ``before``, ``after`` (LUISA codes) and ``date`` of the change (NaT without) of each patch.
    """
    rng = np.random.default_rng(seed)
    start = np.datetime64("2017-01-01")
    truth = []
    for number in range(side * side):
        pair = CHANGES[int(rng.integers(len(CHANGES)))] if rng.random() < changed else None
        before = pair[0] if pair else int(rng.integers(len(CLASSES)))
        when = start + rng.integers(270, 365 * years - 270) if pair else np.datetime64("NaT", "D")
        truth.append((number // side, number % side, before, pair[1] if pair else before, when))
    dates = start + np.arange(0, 365 * years, every) + rng.integers(0, 9, -(-365 * years // every))
    n = side * PIXELS
    for date in dates:
        image, quality = np.zeros((len(BANDS), n, n)), np.full((n, n), 4, np.uint8)
        for row, column, before, after, when in truth:
            number = before if np.isnat(when) or date < when else after
            at = slice(row * PIXELS, (row + 1) * PIXELS), slice(column * PIXELS, (column + 1) * PIXELS)
            image[:, at[0], at[1]] = patch_values(rng, number, date)
        rows, columns = np.mgrid[:n, :n]
        for _ in range(rng.poisson(0.03 * side * side)):
            y, x, radius = rng.integers(0, n), rng.integers(0, n), rng.uniform(0.5, 2.0) * PIXELS
            cloud = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
            opacity = rng.uniform(0.5, 1.0)
            image[:, cloud] = (1 - opacity) * image[:, cloud] + opacity * 0.6
            if rng.random() < 0.8:  # of the clouds are in the layer of quality
                quality[cloud] = 9
        _write(folder / f"place_{date}.tif", image, quality)
    columns_of = ["row", "column", "before", "after", "date"]
    table = pd.DataFrame(truth, columns=columns_of)
    codes = np.array(list(CODES.values()))
    return table.assign(before=codes[table["before"]], after=codes[table["after"]])


def _write(path: Path, image: Floats, quality: npt.NDArray[np.uint8]) -> None:
    import rasterio
    from affine import Affine

    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.concatenate([np.rint(image / 1e-4), quality[None]]).astype(np.uint16)
    transform = Affine(10, 0, CORNER[0], 0, -10, CORNER[1])
    _, height, width = stored.shape
    with rasterio.open(
        path, "w", "GTiff", width, height, len(stored), CRS, transform, "uint16", nodata=0, compress="zstd"
    ) as file:
        file.write(stored)
        file.descriptions = (*BANDS, "SCL")


def score(spotted: Spotted, truth: pd.DataFrame) -> dict[str, float]:
    """What was found of the known changes, by position: of patches with and without a change."""
    changes = spotted.changes
    column = np.rint((changes["left"] - CORNER[0]) / spotted.side).astype(int)
    row = np.rint((CORNER[1] - changes["top"]) / spotted.side).astype(int)
    by_place = {place: found.to_dict("records") for place, found in changes.groupby([row, column])}
    moved = truth[truth["date"].notna()]
    right = inside = missed = further = 0
    days = []
    for one in moved.to_dict("records"):
        found = by_place.get((one["row"], one["column"]), [])
        same = [own for own in found if (own["before"], own["after"]) == (one["before"], one["after"])]
        if not same:
            missed += 1
            continue
        right += 1
        first, last, when = (np.datetime64(value, "D") for value in (same[0]["first"], same[0]["last"], one["date"]))
        inside += bool(first <= when <= last)
        days.append(abs(int((first + (last - first) // 2 - when) / np.timedelta64(1, "D"))))
        further += len(found) - 1
    still = truth[truth["date"].isna()]
    alarms = sum(len(by_place.get((one["row"], one["column"]), [])) for one in still.to_dict("records"))
    years = spotted.years / spotted.patches * len(still)
    return {
        "patches": len(truth),
        "changed": len(moved),
        "found with both classes": right,
        "missed": missed,
        "further alarms in changed patches": further,
        "intervals with the date": inside,
        "median error of the date, days": float(np.median(days)) if days else float("nan"),
        "false alarms": alarms,
        "false alarms per 1000 unchanged patch-years": round(1000 * alarms / years, 2),
        "unchanged patch-years": round(years, 1),
    }


def simulated(folder: Path, side: int, years: int) -> dict[str, float]:
    """Figures of a simulated place."""
    truth = simulate_place(folder / "images", side, years)
    model = patch_model(folder / "model")
    (folder / "legend.csv").write_text("value,code\n" + "".join(f"{name},{code}\n" for name, code in CODES.items()))
    images = open_images(folder / "images", model.info)
    spotted = spot_images(images, model, legend_name=str(folder / "legend.csv"))
    return score(spotted, truth)


def romania(source: Path, folder: Path, sides: Sequence[float] = (100.0, 40.0)) -> dict[str, Any]:
    """Changes in a real series of images."""
    import rasterio
    import xarray as xr
    from affine import Affine
    from sklearn.ensemble import RandomForestClassifier

    from baselines.data import Input
    from baselines.exporting.pixels import pixel_graph

    cube = xr.open_dataset(source / "sentinel2_cube_subset_romania_20m.nc")
    names = [str(name) for name in cube.data_vars if str(name).startswith("B")]
    bands = [f"B{name[1:]:0>2}" for name in names]
    values = np.stack([cube[name].values for name in names], axis=1).astype(np.float32) * np.float32(1e-4)
    quality = cube["SCL"].values
    dates = cube[cube["SCL"].dims[0]].values.astype("datetime64[D]")
    xs, ys = (cube[axis].values.astype(float) for axis in ("x", "y"))
    with rasterio.open(source / "tree_cover_density_2018_romania.tif") as raster:
        density, crs = raster.read(1, out_shape=quality.shape[1:]).astype(float), raster.crs.to_string()
    corner = (xs.min() - 10, ys.max() + 10)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for date, image, scl in zip(dates, values, quality, strict=True):
        stored = np.concatenate([image, scl[None]]).astype(np.float32)
        path = images / f"romania_{date}.tif"
        shape = {"width": stored.shape[2], "height": stored.shape[1], "count": len(stored), "dtype": "float32"}
        with rasterio.open(
            path, "w", "GTiff", crs=crs, transform=Affine(20, 0, corner[0], 0, -20, corner[1]), nodata=np.nan, **shape
        ) as file:
            file.write(stored)
            file.descriptions = (*bands, "SCL")
    clear = np.isin(quality, (2, 4, 5, 6, 7, 11))
    year = dates.astype("datetime64[Y]").astype(int) + 1970
    known = (year == 2018)[:, None, None] & clear & ((density < 20) | ((density > 60) & (density <= 100)))
    known &= np.isfinite(values).all(axis=1)
    pixels, half = np.moveaxis(values, 1, -1), xs.size // 2
    (folder / "legend.csv").write_text("value,code\nopen,23\ntrees,31\n")
    found: dict[float, list[Spotted]] = {patch: [] for patch in sides}
    # Each half is classified by a model of the other one.
    for name, own, other in (("west", slice(0, half), slice(half, None)), ("east", slice(half, None), slice(0, half))):
        sample = np.zeros(known.shape, bool)
        sample[:, :, other] = known[:, :, other]
        x, y = pixels[sample], np.broadcast_to(density > 60, sample.shape)[sample].astype(int)
        mean, std = x.mean(axis=0), x.std(axis=0)
        forest = RandomForestClassifier(100, min_samples_leaf=20, random_state=0, class_weight="balanced")
        forest.fit((x - mean) / std, y)
        inputs = {
            "sentinel2": Input(channels=tuple(bands), mean=tuple(mean.tolist()), std=tuple(std.tolist()), resolution=20)
        }
        entry = ModelInput(
            resolution=20, bands=tuple(bands), seasons=(), mean=tuple(mean.tolist()), std=tuple(std.tolist())
        )
        model = write_model(
            folder / f"model-{name}",
            pixel_graph({"forest": forest}, None, None, 2, inputs),
            name=f"trees-{name}",
            architecture="random forest",
            dense=True,
            inputs={"sentinel2": entry},
            classes=("open", "trees"),
            level=None,
            legend_digest=None,
            reach=0,
            simulated=False,
        )
        bounds = (xs[own].min() - 10, ys.min() - 10, xs[own].max() + 10, ys.max() + 10)
        seen = open_images(images, model.info)
        for patch, own_side in found.items():
            legend_name = str(folder / "legend.csv")
            own_side.append(spot_images(seen, model, patch=patch, legend_name=legend_name, bounds=bounds, clear=0.8))
    results: dict[str, Any] = {"images": len(dates)}
    for patch, halves in found.items():
        share = _fallen(cube, names, quality, year, round(patch / 20))
        changes = pd.concat([one.changes for one in halves], ignore_index=True)
        row = np.rint((corner[1] - changes["top"]) / patch).astype(int)
        column = np.rint((changes["left"] - corner[0]) / patch).astype(int)
        fallen = share[row, column]
        right = (changes["kind"] == "deforested") & (changes["first"] < "2017-10-01") & (changes["last"] > "2016-06-01")
        years = sum(one.years for one in halves)
        results[f"{patch:g} m"] = {
            "patches": sum(one.patches for one in halves),
            "patch-years": round(years),
            "changes": len(changes),
            "cleared by NDVI": int((share >= 0.5).sum()),
            "of these found": int((right & (fallen >= 0.5)).sum()),
            "found where it fell in 10 to 50 % of the pixels": int((right & (fallen >= 0.1) & (fallen < 0.5)).sum()),
            "false alarms": int(((fallen < 0.1) | ~right).sum()),
            "false alarms per 1000 patch-years": round(1000 * float(((fallen < 0.1) | ~right).sum()) / years, 1),
        }
    return results


def _fallen(cube: Any, names: Sequence[str], quality: Any, year: Any, side: int) -> Floats:
    """Share of the pixels of each patch whose summer NDVI fell by more than 0.2 between 2016 and 2017."""
    nir, red = (cube[name].values.astype(float) for name in ("B8A", "B4"))
    month = cube[cube["SCL"].dims[0]].values.astype("datetime64[M]").astype(int) % 12 + 1
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        ndvi = np.where(np.isin(quality, (4, 5)), (nir - red) / (nir + red), np.nan)
        summers = [np.nanmedian(ndvi[(year == y) & (month >= 6) & (month <= 8)], axis=0) for y in (2016, 2017)]
    fallen = summers[0] - summers[1] > 0.2
    rows, columns = (n // side for n in fallen.shape)
    cut = fallen[: rows * side, : columns * side].reshape(rows, side, columns, side)
    shares: Floats = cut.mean(axis=(1, 3))
    return shares


def eurosat(folder: Path, model: MapModel, names: Sequence[str], side: int, years: int, work: Path) -> dict[str, Any]:
    """Series that are put together from real patches."""
    import rasterio
    from affine import Affine
    from PIL import Image

    rng = np.random.default_rng(5)
    contents: dict[str, tuple[Path, str]] = {}
    for path in sorted(folder.glob("eurosat_rgb_*.zip")):
        with zipfile.ZipFile(path) as archive:
            contents |= {Path(name).name: (path, name) for name in archive.namelist()}
    by_class: dict[str, list[str]] = {}
    for name in names:
        by_class.setdefault(name.partition("_")[0], []).append(name)
    codes = read_crosswalk("eurosat")
    pairs = (
        ("Forest", "AnnualCrop"), ("Forest", "Residential"), ("AnnualCrop", "Residential"),
        ("AnnualCrop", "Industrial"), ("Pasture", "Residential"), ("HerbaceousVegetation", "Industrial"),
        ("Residential", "AnnualCrop"), ("Forest", "Highway"),
    )  # fmt: skip
    start, truth = np.datetime64("2017-02-15"), []
    dates = start + np.arange(0, 4 * years) * 91
    for number in range(side * side):
        pair = pairs[int(rng.integers(len(pairs)))] if number % 2 else None
        before = pair[0] if pair else sorted(by_class)[int(rng.integers(len(by_class)))]
        when = dates[int(rng.integers(4, len(dates) - 4))] if pair else np.datetime64("NaT", "D")
        truth.append((number // side, number % side, before, pair[1] if pair else before, when))
    archives = {path: zipfile.ZipFile(path) for path, _ in contents.values()}
    images = work / "images"
    images.mkdir(parents=True, exist_ok=True)
    for date in dates:
        mosaic = np.zeros((3, side * PIXELS, side * PIXELS), np.uint8)
        for row, column, before, after, when in truth:
            pool = by_class[before if np.isnat(when) or date < when else after]
            path, member = contents[pool[int(rng.integers(len(pool)))]]
            with Image.open(io.BytesIO(archives[path].read(member)), formats=("JPEG",)) as jpeg:
                patch = np.moveaxis(np.asarray(jpeg.convert("RGB")), 2, 0)
            at = slice(row * PIXELS, (row + 1) * PIXELS), slice(column * PIXELS, (column + 1) * PIXELS)
            mosaic[:, at[0], at[1]] = patch
        shape: Mapping[str, Any] = {"width": mosaic.shape[2], "height": mosaic.shape[1], "count": 3, "dtype": "uint8"}
        with rasterio.open(
            images / f"eurosat_{date}.tif", "w", "GTiff", crs=CRS, photometric="RGB", compress="zstd",
            transform=Affine(10, 0, CORNER[0], 0, -10, CORNER[1]), **shape,
        ) as file:  # fmt: skip
            file.write(mosaic)
    spotted = spot_images(open_images(images, model.info), model, legend_name="eurosat")
    table = pd.DataFrame(truth, columns=["row", "column", "before", "after", "date"])
    return score(spotted, table.assign(**{side: table[side].map(codes) for side in ("before", "after")}))


def main() -> None:
    """Print a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=10, help="patches along the side of a place")
    parser.add_argument("--years", type=int, default=4)
    parser.add_argument("--keep", type=Path, help="folder for images and models")
    parser.add_argument("--romania", type=Path)
    parser.add_argument("--eurosat", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--test", type=Path, help="list of EuroSAT patches")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        if arguments.romania:
            result: dict[str, Any] = romania(arguments.romania, folder)
        elif arguments.eurosat:
            names = arguments.test.read_text().split()
            model = MapModel.open(arguments.model)
            result = eurosat(arguments.eurosat, model, names, arguments.side, arguments.years, folder)
        else:
            result = simulated(folder, arguments.side, arguments.years)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
