"""Dated imagery: acquisitions of several years with their dates, from scenes to the data set that reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

from builders.ingest.catalog import write
from builders.recipe import load
from builders.stages import materialize, pack, plan, search
from builders.stages.audit import audit
from builders.workspace import Workspace, workspace
from lulcbench import LuisaSeries, Release
from lulcbench.cli import app
from lulcbench.datasets.series import NO_DATE
from lulcbench.download.downloader import download
from lulcbench.errors import CorruptFileError, LulcbenchError, NotAvailableError
from lulcbench.evaluation.spot_images import open_images
from lulcbench.maps.model import ModelInfo, ModelInput
from lulcbench.plotting import tile_panels
from lulcbench.release import ArrayKey
from lulcbench.release.verify import missing_files
from tests.builders import world

KEY = ArrayKey("landsat", 2018, 2019)
DAYS = ["2018-02-10", "2018-02-10", "2018-07-01", "2018-09-05", "2019-03-03", "2019-08-20"]
CLOUDY = 3  # acquisition without a clear pixel
HALF = 4  # acquisition that is cloudy in the western half


def recipe(dated: str) -> str:
    return world.RECIPE.replace("years = [2018]", f"dated = {{ {dated} }}")


def build(folder: Path, text: str, days: list[str] = DAYS) -> Workspace:
    """Two scenes of the first day, of two passes; brightness 0.1, 0.2, … in the order of ``days``."""
    folder.mkdir(parents=True)
    world.write_raster(folder / "labels.tif", *world.labels())
    _, shape = world.frame(30)
    half = np.full(shape, world.CLEAR, np.uint16)
    half[:, : shape[1] // 2] = world.CLOUD
    items = []
    for i, day in enumerate(days):
        when = datetime.fromisoformat(f"{day}T{9 + i % 2:02}:00").replace(tzinfo=UTC)
        qa = world.CLOUD if i == CLOUDY else half if i == HALF else world.CLEAR
        items.append(world.scene(folder / "scenes", f"s{i}", when, (0.1 * (i + 1), 0.3), qa))
    write(folder, "world", "World", items)
    (folder / "recipe.toml").write_text(text)
    space = workspace(folder / "out")
    parsed = load(folder / "recipe.toml", space.scenes)
    rows = plan.plan(parsed, space)
    materialize.materialize(parsed, space, rows, search.search(parsed, space, rows), None)
    pack.pack(parsed, space, rows, None)
    return space


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dated") / "world", recipe("first = 2018, last = 2019")).root


@pytest.mark.slow
def test_acquisitions_keep_their_dates_and_xarray_opens_them(root: Path) -> None:
    release = Release.open(root)
    assert release.manifest.sensors["landsat"].spans == ((2018, 2019),)
    assert release.manifest.years == (2018, 2019)
    with xr.open_zarr(root) as found:
        series = found[str(KEY)]
        assert series.dims == ("tile", f"time_{KEY}", "band_landsat", "y_30m", "x_30m")
        for split in release.manifest.splits:
            dates = release.dates(split, KEY)
            rows = release.manifest.rows(split)
            stored = found[f"date_{KEY}"].to_numpy()[rows.start : rows.stop].astype("datetime64[D]")
            np.testing.assert_array_equal(dates, stored)
            for row, own in zip(rows, dates, strict=True):
                red = series.isel(tile=row).sel(band_landsat="red").to_numpy()
                known = [str(day) for day in own[~np.isnat(own)]]
                # Both passes of the first day are one date; the cloudy one is none.
                expected = {"2018-02-10": 0.15, "2018-07-01": 0.3, "2019-03-03": 0.5, "2019-08-20": 0.6}
                assert [day for day in expected if day != "2019-03-03"] == [d for d in known if d != "2019-03-03"]
                for day, values in zip(known, red, strict=False):
                    valid = values[np.isfinite(values)]
                    assert valid.size
                    np.testing.assert_allclose(valid, expected[day], atol=2e-4)
                    assert valid.size == values.size or day == "2019-03-03"
                assert np.isnan(red[len(known) :]).all()
    lengths = {int((~np.isnat(release.dates(split, KEY))).sum(axis=1).max()) for split in release.manifest.splits}
    assert 4 in lengths


@pytest.mark.slow
def test_the_audit_checks_dated_imagery(root: Path) -> None:
    found = audit(root)
    assert not found.problems
    assert found.checked["dates ascend within the years"] == Release.open(root).manifest.array_rows
    assert found.checked["no values without a date"]


@pytest.mark.slow
def test_composites_of_so_many_days_are_on_the_same_dates_everywhere(tmp_path: Path) -> None:
    space = build(tmp_path / "world", recipe("first = 2018, last = 2019, every = 183"))
    release = Release.open(space.root)
    dates = np.concatenate([release.dates(split, KEY) for split in release.manifest.splits])
    assert {tuple(map(str, own)) for own in dates} == {("2018-04-02", "2018-10-01", "2019-04-02", "2019-10-01")}
    with xr.open_zarr(space.root) as found:
        red = found[str(KEY)].sel(band_landsat="red")
        rows = [row for split in release.manifest.splits for row in release.manifest.rows(split)]
        means = red.isel(tile=rows).mean(dim=("y_30m", "x_30m")).to_numpy()
    # First half of 2018: the median of 0.1, 0.2 and 0.3 of 1 July; the cloudy acquisition leaves the second one empty.
    np.testing.assert_allclose(means[:, 0], 0.2, atol=2e-4)
    assert np.isnan(means[:, 1]).all()
    np.testing.assert_allclose(means[:, 3], 0.6, atol=2e-4)
    assert not audit(space.root).problems


@pytest.mark.slow
def test_series_of_pixels_and_windows_are_what_xarray_reads(root: Path) -> None:
    pixels = LuisaSeries(root, "train", "landsat", window=30, level=1, normalize=False)
    windows = LuisaSeries(root, "train", "landsat", window=4800, level=1, normalize=False)
    assert pixels.dated
    assert pixels.image_years == (2018, 2019)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(pixels))[:300]
    batch, where = pixels.read(chosen), pixels.locate(chosen)
    whole = windows.read(range(len(windows)))
    first = pixels.release.manifest.rows("train").start
    for i, (row, (down, right)) in enumerate(zip(where.rows, where.offsets // 30, strict=True)):
        torch.testing.assert_close(batch["image"][i], whole["image"][row - first, :, :, down, right])
        assert batch["dates"][i].equal(whole["dates"][row - first])
    with xr.open_zarr(root) as found:
        expected = np.nan_to_num(found[str(KEY)].isel(tile=first).to_numpy())
    np.testing.assert_allclose(whole["image"][0], expected, atol=1e-6)
    late = LuisaSeries(root, "train", "landsat", years=2019, window=30, level=1)
    sample = late[7]
    assert sample["image"].shape == (2, 2)
    assert sample["mask"].shape == torch.Size([])
    days = sample["dates"].numpy().view("datetime64[D]")
    assert set(days[~np.isnat(days)].astype(str)) <= {"2019-03-03", "2019-08-20"}


@pytest.mark.slow
def test_missing_dates_are_nodata_at_the_end(tmp_path: Path) -> None:
    """A tile that the half-cloudy acquisition leaves without a clear pixel has a date less."""
    space = build(tmp_path / "world", recipe("first = 2018, last = 2019"))
    counts = []
    for split in Release.open(space.root).manifest.splits:
        data = LuisaSeries(space.root, split, "landsat", window=4800, level=1)
        for sample in data:
            missing = sample["dates"] == NO_DATE
            counts.append(int((~missing).sum()))
            assert not sample["image"][missing].any()
            assert not missing[: counts[-1]].any()
    assert sorted(set(counts)) == [3, 4]


@pytest.mark.slow
def test_bad_dated_recipes_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match="of several years, not of 2018 to 2018"):
        build(tmp_path / "a", recipe("first = 2018, last = 2018"))
    with pytest.raises(LulcbenchError, match=r"no landsat scene of .* for 2020"):
        build(tmp_path / "b", recipe("first = 2018, last = 2020"))
    text = recipe("first = 2018, last = 2019").replace(
        "[[labels]]", 'acquired = ["2018-01-01", "2018-02-01"]\n[[labels]]'
    )
    with pytest.raises(LulcbenchError, match="acquired is for scenes without an exact date"):
        build(tmp_path / "c", text)


def test_what_a_release_has_no_dates_of_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAvailableError, match="no dated imagery of 2017 of landsat"):
        LuisaSeries(root, sensors="landsat", years=2017)
    with pytest.raises(LulcbenchError, match="no numbers of clear observations"):
        LuisaSeries(root, sensors="landsat", clear_counts=True)
    with pytest.raises(LulcbenchError, match="Dated imagery has no seasons"):
        LuisaSeries(root, sensors="landsat", seasons="summer")
    with pytest.raises(LulcbenchError, match="years names 2018 twice"):
        LuisaSeries(root, sensors="landsat", years=(2018, 2019, 2018))
    with pytest.raises(NotAvailableError, match="no landsat for 2018"):
        LuisaSeries(root, sensors="landsat", dated=False)
    release = Release.open(root)
    cut = release.manifest.model_copy(
        update={"files": tuple(f for f in release.manifest.files if not f.path.startswith("date_"))}
    )
    with pytest.raises(CorruptFileError, match="lists no dates"):
        Release(str(root), cut).dates("train", KEY)


def test_a_model_of_single_images_reads_acquisitions(root: Path) -> None:
    release = Release.open(root)
    bands = ("red", "nir08")
    entry = ModelInput(resolution=30, bands=bands, seasons=(), mean=(0.1, 0.2), std=(0.05, 0.1))
    info = ModelInfo(
        name="single",
        architecture="none",
        dense=False,
        inputs={"landsat": entry},
        classes=("a", "b"),
        level=None,
        legend_digest=None,
        reach=0,
        training_digest="none",
        simulated=True,
        sha256="0" * 64,
    )
    images = open_images(root, info)
    index = release.index()
    tile = index.iloc[0]
    left, bottom = float(tile["ix"]) * 4800, float(tile["iy"]) * 4800
    bounds = (left, bottom, left + 4800, bottom + 4800)
    with xr.open_zarr(root) as found:
        series = found[str(KEY)].isel(tile=int(tile["row"])).sel(band_landsat=list(bands)).to_numpy()
    days = release.dates(tile["split"], KEY)[int(tile["row"]) - release.manifest.rows(tile["split"]).start]
    own = days[~np.isnat(days)]
    assert images.dates(bounds) == own.tolist()
    for values, day in zip(series, own, strict=False):
        seen = images.read(day, bounds)
        known = np.isfinite(values).all(axis=0)
        assert np.array_equal(seen.clear, known)
        expected = (values - np.reshape([0.1, 0.2], (2, 1, 1))) / np.reshape([0.05, 0.1], (2, 1, 1))
        np.testing.assert_allclose(seen.images["landsat"][:, known], expected[:, known], atol=1e-4)


def test_a_part_is_downloaded_by_the_years_of_its_dates(root: Path, tmp_path: Path) -> None:
    manifest = download(str(root), tmp_path / "part", sensors="landsat", years=2019)
    assert not missing_files(tmp_path / "part", manifest.array_files(["train"], ["landsat"], [2019]))
    with pytest.raises(NotAvailableError, match=r"(?s)has no landsat for 2017.*It has 2018, 2019"):
        download(str(root), tmp_path / "none", sensors="landsat", years=2017)


def test_a_clear_summer_day_of_each_year_is_shown(root: Path) -> None:
    release = Release.open(root)
    panels = tile_panels(release, release.tiles("train").ids[0], ["landsat"])
    assert [panel.title.partition(" (")[0] for panel in panels[:2]] == ["landsat 2018-07-01", "landsat 2019-08-20"]
    result = CliRunner().invoke(app, ["info", str(root)])
    assert "landsat: dated 2018–2019; 30 m" in result.output
