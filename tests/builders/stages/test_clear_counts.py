"""Numbers of clear observations: counted, kept with the composites, and read by every way there is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from scipy import ndimage

from builders.ingest.catalog import write
from builders.stages import materialize, pack, plan, search
from builders.stages.audit import audit
from lulcbench.release import INDEX, ArrayKey, Manifest, Release
from tests.builders import world

KEY = ArrayKey("landsat", 2018)
# Red and near infrared of three dates: the medians of all seven combinations of them differ.
DATES = [(0.05, 0.3), (0.2, 0.4), (0.5, 0.1)]


def clouds(seed: int) -> np.ndarray:
    """Quality of a date: a third of the pixels in blobs of cloud."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=world.frame(30)[1]), 12)
    return np.where(noise > np.quantile(noise, 2 / 3), world.CLOUD, world.CLEAR)


def build(folder: Path, recipe: str = world.RECIPE) -> Path:
    """A release of the three dates, the last of which is twice in the archive."""
    made, space = world.make(folder, recipe, scenes=0)
    days = [datetime(2018, 7, 1 + i, 10, tzinfo=UTC) for i in range(3)]
    items = [
        world.scene(folder / "scenes", f"s{i}", day, reflectance, clouds(i))
        for i, (day, reflectance) in enumerate(zip(days, DATES, strict=True))
    ]
    again = world.scene(folder / "scenes", "s2-again", days[2], DATES[2], clouds(2))
    write(folder, "world", "World", [*items, again])
    rows = plan.plan(made, space)
    materialize.materialize(made, space, rows, search.search(made, space, rows), None)
    pack.pack(made, space, rows, None)
    return space.root


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("counted"))


def test_the_count_is_that_of_the_dates_whose_median_the_pixel_is(counted: Path) -> None:
    group = zarr.open_group(counted, mode="r")
    composite = np.asarray(group[str(KEY)])[:, 0].astype(int)  # (tile, band, y, x)
    counts = np.asarray(group[str(KEY.clear)])[:, 0]
    assert counts.dtype == np.uint8
    seen = np.zeros(counts.shape, bool)
    for chosen in range(8):
        dates = [date for i, date in enumerate(DATES) if chosen >> i & 1]
        stored = np.round((np.median(dates, axis=0) + 0.1) * 1e4) if dates else np.zeros(2)
        here = (np.abs(composite - stored[:, None, None]) <= 1).all(axis=1)
        assert (counts[here] == len(dates)).all()
        assert here.any()
        seen |= here
    assert seen.all()


def test_the_release_states_and_indexes_the_counts(counted: Path) -> None:
    manifest, index = Manifest.load(counted), pd.read_parquet(counted / INDEX)
    assert manifest.sensors["landsat"].clear_counts
    assert manifest.sensors["landsat"].composite == "median"
    assert {file.licence for file in manifest.files if file.array == KEY.clear} == {manifest.sensors["landsat"].licence}
    stored = np.asarray(zarr.open_group(counted, mode="r")[str(KEY.clear)])
    means = stored[index["row"]].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(index["clear_landsat_2018"], means, atol=1e-6)
    assert set(map(len, index["assets"].map(lambda assets: [key for key in assets if "clear" in key]))) == {1}
    assert "`landsat-clear_2018`" in (counted / "README.md").read_text()
    assert not audit(counted).problems


def test_counts_are_read_by_lulcbench_and_by_xarray(counted: Path) -> None:
    release = Release.open(counted)
    rows = release.manifest.rows("train")
    counts = release.clear_counts("train", "landsat", 2018, rows)
    with xr.open_zarr(counted) as found:
        variable = found[str(KEY.clear)]
        assert variable.dims == ("tile", "season", "y_30m", "x_30m")
        assert variable.attrs["standard_name"] == "number_of_observations"
        assert found[str(KEY)].attrs["ancillary_variables"] == str(KEY.clear)
        np.testing.assert_array_equal(variable.isel(tile=slice(rows.start, rows.stop)).to_numpy(), counts)
        same = variable.easting_30m.identical(found[str(KEY)].easting_30m)
        assert same


@pytest.mark.slow
def test_the_medoid_is_one_of_the_dates(tmp_path: Path) -> None:
    root = build(tmp_path, world.RECIPE.replace("years = [2018]", 'years = [2018]\ncomposite = "medoid"', 1))
    rows = pd.read_parquet(root / INDEX)["row"]
    composite = np.asarray(zarr.open_group(root, mode="r")[str(KEY)])[rows, 0].astype(int)
    known = composite[:, 0] > 0
    values = np.round((np.array(DATES) + 0.1) * 1e4)
    distances = np.abs(composite[:, None] - values[None, :, :, None, None]).max(axis=2)
    assert (distances.min(axis=1)[known] <= 1).all()
    assert known.mean() > 0.9
    assert Manifest.load(root).sensors["landsat"].composite == "medoid"
    assert "medoid (landsat)" in (root / "README.md").read_text()


@pytest.mark.slow
def test_counts_above_255_are_255(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materialize, "MOST", 2)
    counts = np.asarray(zarr.open_group(build(tmp_path), mode="r")[str(KEY.clear)])
    assert set(np.unique(counts)) == {0, 1, 2}


@pytest.mark.slow
def test_the_audit_sees_counts_that_are_not_those_of_the_composite(tmp_path: Path) -> None:
    root = build(tmp_path)
    array = zarr.open_group(root, mode="r+")[str(KEY.clear)]
    counts = np.asarray(array)
    row = Manifest.load(root).rows("test").start
    counts[row, 0, :50] = np.where(counts[row, 0, :50] == 0, 1, 0)
    array[...] = counts
    forged(root)
    assert set(audit(root).problems) == {
        "pixels have values where they have clear observations",
        "numbers of clear observations",
    }


def forged(root: Path) -> None:
    """Make the manifest that of the altered files, as a builder with a fault would."""
    from lulcbench._files import hash_file

    manifest = Manifest.load(root)
    files = tuple(
        file.model_copy(update={"bytes": (root / file.path).stat().st_size, "sha256": hash_file(root / file.path)})
        for file in manifest.files
    )
    manifest.model_copy(update={"files": files}).write(root)
