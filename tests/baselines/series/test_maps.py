"""Models of series map a release of dated imagery as they predict it themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.export import export
from baselines.tasks.series import Mapper
from baselines.train import train
from lulcbench.errors import NotAvailableError
from lulcbench.grid import Tile
from lulcbench.legend import decide, legend
from lulcbench.maps import MapModel, MapOptions, map_release
from lulcbench.maps.dated import DatedImagery, years_of
from lulcbench.release import Release, Row
from lulcbench.series.indices import with_indices
from lulcbench.series.regular import cell_means, normalized, regular
from tests.baselines.series import world
from tests.baselines.series.world import config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(series_root: Path, series_cache: Path, tmp_path_factory: pytest.TempPathFactory):
    """A function of a kind of model → the model, fitted for a moment, and the folder that it is exported to."""

    known: dict[str, tuple[Any, Path]] = {}

    def get(kind: str) -> tuple[Any, Path]:
        if kind not in known:
            content = config(series_root, series_cache).model_dump(mode="json")
            content["model"] = {"lstm": {"kind": "lstm", "hidden": 8}, "forest": {"kind": "forest", "trees": 5}}[kind]
            run = Config.parse(content | {"train": {"epochs": 1}})
            fitted = train(Experiment.open(run), tmp_path_factory.mktemp("runs"))
            known[kind] = fitted, export(fitted, tmp_path_factory.mktemp(kind) / "model").folder
        return known[kind]

    return get


@pytest.mark.parametrize(("kind", "years"), [("lstm", (2019,)), ("forest", (2018, 2020))])
def test_a_map_is_what_the_model_predicts_of_every_cell(
    kind: str, years: tuple[int, ...], trained, series_root: Path, tmp_path: Path
) -> None:
    fitted, folder = trained(kind)
    model, release = MapModel.open(folder), Release.open(series_root)
    assert (model.info.reach, model.info.resolution) == (0, 50)
    (stated,) = model.info.inputs.values()
    assert (stated.resolution, stated.bands, stated.series.indices) == (30, ("red", "nir08"), ("NDVI",))

    result = map_release(folder, series_root, tmp_path / "map", MapOptions(years))
    mapper = Mapper(fitted, fitted.config.data.reader())
    tiles = [(split, tile, row) for split in ("train", "val", "test")
             for tile, row in zip(release.tiles(split).ids, release.manifest.rows(split), strict=True)]  # fmt: skip
    for year in years:
        with xr.open_zarr(result.folder, group=f"{year}/0", consolidated=False, mask_and_scale=False) as opened:
            stored = opened.load()
        assert (stored.class_1 > 0).sum() == len(tiles) * 96 * 96
        for split, tile, row in tiles:
            p = mapper.probabilities(split, Row(row))[world.YEARS.index(year)]
            left, bottom, right, top = Tile.from_id(tile).bounds
            own = stored.sel(x=slice(left, right), y=slice(top, bottom))
            assert np.abs(own.probability.to_numpy() / 255 - p).max() <= 1 / 510 + 1e-4
            assert (own.class_1.to_numpy() == np.array(legend().codes(1))[decide(p, 1)]).mean() > 0.999

            dates = release.dates(split, release.manifest.dated("landsat"))[row - release.manifest.rows(split).start]
            images = release.reader(split).tiles(release.manifest.dated("landsat"), Row(row), Row(row + 1))[0]
            at = ((np.arange(96) + 0.5) * 160 / 96).astype(int)
            clear = (images[dates.astype("datetime64[Y]").astype(int) + 1970 == year] > 0).any(axis=1)
            np.testing.assert_array_equal(own.composites, clear[:, at[:, None], at].sum(axis=0))


def test_series_of_other_bands_or_composites_are_refused(
    trained, series_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, _ = trained("forest")
    swapped = fitted.config.data.model_copy(update={"bands": ("nir08", "red")}).reader()
    with pytest.raises(NotAvailableError, match="of nir08, red, NDVI of landsat at 30 m, not of red, nir08, NDVI"):
        Mapper(fitted, swapped)
    reader = fitted.config.data.reader()
    Mapper(fitted, reader)
    manifest, info = reader.release.manifest, fitted.about.info
    medoid = {"landsat": manifest.sensors["landsat"].model_copy(update={"composite": "medoid"})}
    monkeypatch.setattr(reader.release, "manifest", manifest.model_copy(update={"sensors": medoid}))
    median = {"landsat": info.inputs["landsat"].model_copy(update={"composite": "median"})}
    about = fitted.about.model_copy(update={"info": info.model_copy(update={"inputs": median})})
    with pytest.raises(NotAvailableError, match="by medoid, not by median"):
        Mapper(replace(fitted, about=about), reader)


def test_tiles_of_finer_pixels_are_read_in_strips(trained, series_root: Path) -> None:
    release, info = Release.open(series_root), MapModel.open(trained("forest")[1]).info
    imagery = DatedImagery(release, info, 2019)
    row = Row(release.manifest.rows("test").start)
    dates = release.dates("test", release.manifest.dated("landsat"))[0]
    at = np.flatnonzero(dates.astype("datetime64[Y]") == np.datetime64("2019"))
    (source,) = imagery._sources.values()
    stored = np.random.default_rng(0).integers(0, 4000, (len(at), 2, 480, 480), np.uint16)
    stored[:, :, :9, :9] = stored[0, :, 99, 99] = 0  # a cell without data, and a pixel
    stored[:, 0, 100:110, 100:110] = 0  # cells with data in the other band

    def read(array: Any, rows: Any, offsets: Any, size: Any, positions: Any, bands: Any) -> np.ndarray:
        ((y, x),) = offsets
        assert (positions, x, size[1]) == (at.tolist(), 0, 480)
        assert size[0] <= 80
        return stored[None, :, :, y : y + size[0]]

    imagery._readers["test"] = SimpleNamespace(read=read)
    image, seen = imagery._tile(replace(source, resolution=10), "test", row, slice(0, 90))
    bands = release.manifest.sensor("landsat").bands
    means = np.stack([cell_means(source.coding.decode(part)).reshape(2, -1).T for part in stored], axis=1)
    series = with_indices(regular(means, dates[at], 2019, 90), bands, ("NDVI",))
    (wanted,) = info.inputs.values()
    expected = normalized(series.reshape(96 * 96, -1), np.float32(wanted.mean), np.float32(wanted.std))
    np.testing.assert_array_equal(image, expected.T.reshape(12, 96, 96)[:, :90])
    assert seen[0, 0] == 0
    assert (seen == len(at)).sum() == 90 * 96 - 1
    assert not image[:, 0, 0].any()


def test_releases_without_the_series_of_a_model_are_refused(
    trained, series_root: Path, release_root: Path, tmp_path: Path
) -> None:
    folder = trained("forest")[1]
    with pytest.raises(NotAvailableError, match=r"(?s)no year of dated imagery of landsat.*landsat_2012"):
        map_release(folder, release_root, tmp_path / "map")
    release, info = Release.open(series_root), MapModel.open(folder).info
    assert years_of(release, info) == world.YEARS
    with pytest.raises(NotAvailableError, match=r"landsat of 2017 \(it has 2018 to 2020\)"):
        map_release(folder, series_root, tmp_path / "map", MapOptions((2017,)))
    changed = info.model_dump(mode="json")
    changed["inputs"]["landsat"] |= {"resolution": 10, "bands": ["red", "blue"]}
    other = type(info).model_validate(changed, strict=False)
    with pytest.raises(NotAvailableError, match=r"landsat at 10 m \(it has 30 m\); band blue of landsat"):
        DatedImagery(release, other, 2019)
