from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from torch.utils.data import DataLoader

from lulcbench import LuisaSeg
from lulcbench.datasets import collate
from lulcbench.datasets.normalize import Normalizer
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile
from lulcbench.legend import legend
from lulcbench.release import Release
from lulcbench.release.index import few
from lulcbench.sensors import REFLECTANCE


@pytest.fixture(scope="module")
def seg(release_root: Path) -> LuisaSeg:
    return LuisaSeg(release_root, window=1200, stride=600)


def stored(root: Path, name: str) -> zarr.Array:
    return zarr.open_array(root / name, mode="r")


def test_a_sample(seg: LuisaSeg) -> None:
    sample = seg[0]
    assert sample["image"].shape == (len(seg.seasons) * len(seg.bands["sentinel2"]), 120, 120)
    assert sample["image"].dtype == torch.float32
    assert sample["mask"].shape == (120, 120)
    assert sample["mask"].dtype == torch.int64
    left, _, _, top = Tile.from_id(sample["tile"]).bounds
    assert sample["bounds"].tolist() == [left, top - 1200, left + 1200, top]
    assert sample["crs"] == "EPSG:3035"
    assert len(seg) == len(seg.tiles) * 49
    assert seg.in_channels == {"sentinel2": len(sample["image"])}
    assert seg.num_classes == len(seg.class_names) == 41


def test_pixels_are_normalised_by_the_train_statistics(release_root: Path) -> None:
    dataset = LuisaSeg(release_root, window=None, flatten=False)
    info = dataset.release.manifest.sensor("sentinel2")
    raw = stored(release_root, "sentinel2_2018")[0].astype(np.float64)
    mean, std = (np.array(part)[:, None, None] for part in (info.statistics.mean, info.statistics.std))
    expected = np.where(raw == 0, 0, (raw * 1e-4 - 0.1 - mean) / std)
    np.testing.assert_allclose(dataset[0]["image"].numpy(), expected, atol=2e-4)
    off = LuisaSeg(release_root, window=None, flatten=False, normalize=False)[0]["image"].numpy()
    np.testing.assert_allclose(off, np.where(raw == 0, 0, raw * 1e-4 - 0.1), atol=1e-6)


def test_the_train_split_as_a_whole_has_mean_0_and_std_1(release_root: Path) -> None:
    dataset = LuisaSeg(release_root, sensors="landsat", year=(2012, 2018), window=None)
    raw = LuisaSeg(release_root, sensors="landsat", year=(2012, 2018), window=None, normalize="device")
    every = range(len(dataset))
    valid = raw.read(every)["image"].to(torch.int32) > 0
    values = dataset.read(every)["image"]
    for band in range(6):
        pixels = values[:, band::6][valid[:, band::6]].double()
        assert abs(float(pixels.mean())) < 1e-3
        assert abs(float(pixels.std()) - 1) < 1e-3


def test_masks_are_the_labels_at_pixel_centres(release_root: Path) -> None:
    dataset = LuisaSeg(release_root, sensors="landsat", window=1200, stride=330, level=2)
    codes = stored(release_root, "luisa_2018")
    for index in (0, 7, 60, len(dataset) - 1):
        sample, window = dataset[index], dataset.locate([index])
        (row,) = window.rows
        y0, x0 = window.offsets[0]
        cells = [np.floor((start + np.arange(40) * 30 + 15) / 50).astype(int) for start in (y0, x0)]
        expected = legend().encode(codes[row][np.ix_(*cells)], 2)
        np.testing.assert_array_equal(sample["mask"].numpy(), expected)


def test_masks_of_several_levels_and_at_50_m(release_root: Path) -> None:
    dataset = LuisaSeg(release_root, window=None, level=(1, 4), mask_resolution="label")
    codes = stored(release_root, "luisa_2018")[0]
    for k, level in enumerate((1, 4)):
        np.testing.assert_array_equal(dataset[0]["mask"][k].numpy(), legend().encode(codes, level))


@pytest.mark.parametrize("by", ["numpy", "compiled", "compiled, past the caches"])
def test_nodata_is_0_and_high_reflectance_survives(by: str, monkeypatch: pytest.MonkeyPatch) -> None:

    if by == "numpy":
        monkeypatch.setattr("lulcbench.datasets.normalize.compiled", None)
    elif "past" in by:
        monkeypatch.setattr("lulcbench.datasets.normalize._CACHE", 0)
    # An odd number of pixels, so that no plane but the first begins where processors like it.
    raw = np.random.default_rng(0).integers(0, 65536, (2, 2, 5, 7), dtype=np.uint16)
    raw[0, :, 0, :5] = 0, 1, 32767, 32768, 65535
    normalizer, out = Normalizer(REFLECTANCE, (0.2, 0.3), (0.1, 0.2)), np.empty(raw.shape, np.float32)
    normalizer.into(raw, out)
    mean, std = np.array([0.2, 0.3])[:, None, None], np.array([0.1, 0.2])[:, None, None]
    expected = np.where(raw == 0, 0, (raw * 1e-4 - 0.1 - mean) / std)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(normalizer(torch.from_numpy(raw)).numpy(), out)
    back = normalizer.denormalize(torch.from_numpy(out))
    np.testing.assert_allclose(back[1], raw[1] * 1e-4 - 0.1, atol=1e-6)
    assert np.isnan(back[0, 0, 0, 0])


def test_normalising_on_the_device_is_the_same(release_root: Path) -> None:
    for options in ({}, {"flatten": False}, {"sensors": ("sentinel2", "landsat")}):
        host = LuisaSeg(release_root, **options).read([0, 3])["image"]
        dataset = LuisaSeg(release_root, normalize="device", **options)
        batch = dataset.read([0, 3])
        device = dataset.finish(batch)["image"]
        torch.testing.assert_close(device, host)


@pytest.mark.parametrize(
    "options",
    [{}, {"flatten": False}, {"sensors": ("sentinel2", "landsat")}, {"sensors": "landsat", "window": 30}],
    ids=str,
)
def test_samples_are_finished_like_batches(release_root: Path, options: dict[str, Any]) -> None:
    host = LuisaSeg(release_root, **options)
    dataset = LuisaSeg(release_root, normalize="device", **options)
    for index in (0, 9):
        torch.testing.assert_close(dataset.finish(dataset[index])["image"], host[index]["image"])
        torch.testing.assert_close(dataset.finish(host[index])["image"], host[index]["image"])


def test_normalizers_take_bands_of_all_seasons_at_once(release_root: Path) -> None:
    folded = LuisaSeg(release_root, sensors="landsat", normalize="device")
    normalizer, stored = folded.normalizers["landsat"], folded.read([0, 5])["image"]
    expected = LuisaSeg(release_root, sensors="landsat").read([0, 5])["image"]
    torch.testing.assert_close(normalizer(stored), expected)
    torch.testing.assert_close(normalizer(stored[0]), expected[0])
    back = normalizer.denormalize(expected)
    np.testing.assert_allclose(back, normalizer.denormalize(stored), atol=1e-6)
    for shape in ((2, 23, 4, 4), (4, 4), (2, 0, 4, 4)):
        with pytest.raises(LulcbenchError, match="cannot be normalised"):
            normalizer(torch.zeros(shape, dtype=torch.uint16))


@pytest.mark.parametrize("by", ["numpy", "compiled"])
def test_only_whole_native_arrays_are_normalised(by: str, release_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "numpy":
        monkeypatch.setattr("lulcbench.datasets.normalize.compiled", None)
    normalizer = LuisaSeg(release_root, sensors="landsat").normalizers["landsat"]
    raw = np.random.default_rng(0).integers(0, 9999, (2, 12, 4, 6)).astype(np.uint16)
    out = np.empty(raw.shape, np.float32)
    normalizer.into(raw, out)  # seasons folded into the channels
    np.testing.assert_array_equal(out, normalizer(torch.from_numpy(raw)).numpy())
    normalizer.into(raw[:0], out[:0])
    read_only = out.copy()
    read_only.flags.writeable = False
    bad: list[tuple[Any, Any]] = [
        (raw.astype(">u2"), out),
        (raw.astype(np.uint32), out),
        (raw.view(np.int16), out),
        (raw, out.astype(np.float64)),
        (raw, out.astype(">f4")),
        (raw.swapaxes(2, 3).copy().swapaxes(2, 3), out),
        (raw, np.empty((2, 12, 4, 12), np.float32)[..., ::2]),
        (raw, out[:1]),
        (raw[:, :10].copy(), out[:, :10].copy()),
        (raw[0], out[0]),
        (raw, read_only),
    ]
    for stored, into in bad:
        with pytest.raises(ValueError, match=r"stored|out"):
            normalizer.into(stored, into)


def test_sensors_seasons_and_bands_are_chosen_by_name(release_root: Path) -> None:
    some = LuisaSeg(
        release_root,
        sensors=("sentinel2", "landsat"),
        seasons=["autumn", "spring"],
        bands={"sentinel2": ["B08", "B02"]},
        flatten=False,
        window=None,
        normalize=False,
    )[0]
    assert some["image"]["landsat"].shape == (2, 6, 160, 160)
    assert some["mask"].shape == (480, 480)
    raw = stored(release_root, "sentinel2_2018")[0]
    names = {axis: stored(release_root, axis)[:].tolist() for axis in ("season", "band_sentinel2")}
    seasons = [names["season"].index(name) for name in ("autumn", "spring")]
    bands = [names["band_sentinel2"].index(name) for name in ("B08", "B02")]
    expected = raw[np.ix_(seasons, bands)]
    np.testing.assert_allclose(
        some["image"]["sentinel2"].numpy(), np.where(expected == 0, 0, expected * 1e-4 - 0.1), atol=1e-6
    )


def test_a_batch_is_its_samples(seg: LuisaSeg) -> None:
    indices = [5, -1, 0, 5]
    batch = collate(seg.__getitems__(indices))
    default = next(iter(DataLoader(seg, sampler=[5, len(seg) - 1, 0, 5], batch_size=4)))
    for i, index in enumerate(indices):
        torch.testing.assert_close(batch["image"][i], seg[index]["image"])
        torch.testing.assert_close(batch["mask"][i], seg[index]["mask"])
        assert batch["tile"][i] == seg[index]["tile"]
    torch.testing.assert_close(default["image"], batch["image"])
    with pytest.raises(IndexError):
        seg[len(seg)]


def test_several_years_are_samples_of_their_own(release_root: Path) -> None:
    both = LuisaSeg(release_root, sensors="landsat", year=(2012, 2018), window=None)
    alone = {year: LuisaSeg(release_root, sensors="landsat", year=year, window=None) for year in (2012, 2018)}
    batch = both.read(range(4))
    assert batch["year"].tolist() == [2012, 2018, 2012, 2018]
    for i in range(4):
        other = alone[int(batch["year"][i])][i // 2]
        torch.testing.assert_close(batch["image"][i], other["image"])
        torch.testing.assert_close(batch["mask"][i], other["mask"])


def test_filters(release_root: Path) -> None:
    everything = LuisaSeg(release_root, window=None)
    table = everything.tiles
    code = next(c for c in legend().codes(3) if 0 < (table[f"luisa_2018_{c}"] > 0).sum() < len(table))
    column = f"luisa_2018_{code}"
    one = LuisaSeg(release_root, window=None, query=f"{column} > 0")
    assert set(one.tiles["id"]) == set(table["id"][table[column] > 0])
    with_class = LuisaSeg(release_root, window=None, classes=[code])
    assert set(one.tiles["id"]) <= set(with_class.tiles["id"])
    clearest = float(table.filter(like="cloud_").fillna(0).max(axis=1).min())
    assert 1 <= len(LuisaSeg(release_root, window=None, max_cloud=clearest).tiles) <= len(table)
    assert len(LuisaSeg(release_root, window=None, regions=[table["region"][0]])) > 0
    torch.testing.assert_close(
        one[0]["image"], everything[int(table.index[table["id"] == one.tiles["id"][0]][0])]["image"]
    )


def test_few_label_lists_are_fixed_and_nested(release_root: Path) -> None:
    table = Release.open(release_root).index("train")
    import pandas as pd

    many = pd.concat([table.assign(id=[f"{tile}{k}" for tile in table["id"]]) for k in range(100)], ignore_index=True)
    one, ten = few(many, 0.01), few(many, 0.1)
    assert set(one["id"]) < set(ten["id"])
    assert len(ten) == pytest.approx(0.1 * len(many), abs=2)
    assert set(few(many.sample(frac=1, random_state=1), 0.1)["id"]) == set(ten["id"])
    assert set(ten["region"]) == set(many["region"])


BAD: list[tuple[dict[str, Any], str]] = [
    ({"split": "tset"}, r"no split 'tset'"),
    ({"sensors": "modis"}, r"no sensor 'modis'"),
    ({"sensors": ()}, r"No sensor"),
    ({"year": 2012}, r"no sentinel2 for 2012"),
    ({"level": 5}, r"no level 5"),
    ({"window": 9600}, r"larger than a tile"),
    ({"window": 1205}, r"whole number"),
    ({"bands": ["B99"]}, r"no band 'B99'"),
    ({"bands": ["B01"]}, r"holds no band 'B01'"),
    ({"bands": {"sentinel-2": ["B02"]}}, r"bands names 'sentinel-2'"),
    ({"bands": [2, 3]}, r"bands is \[2, 3\]"),
    ({"sensors": ("sentinel2", "landsat"), "bands": ["B02"]}, r"several sensors"),
    ({"bands": []}, r"No band of sentinel2"),
    ({"level": ()}, r"No level"),
    ({"level": "3"}, r"level is '3'"),
    ({"level": True}, r"level is True"),
    ({"year": ["2018"]}, r"year is '2018'"),
    ({"year": None}, r"year is None"),
    ({"sensors": 30}, r"sensors is 30"),
    ({"window": "1200"}, r"window is '1200'"),
    ({"window": 1200.5}, r"window is 1200.5"),
    ({"stride": "600"}, r"stride is '600'"),
    ({"seed": 0.5}, r"seed is 0.5"),
    ({"seed": -1}, r"seed is -1"),
    ({"seasons": ()}, r"No season was chosen"),
    ({"seasons": ["monsoon"]}, r"no season 'monsoon'"),
    ({"regions": ["atlantis"]}, r"No region 'atlantis'"),
    ({"classes": [7]}, r"Unknown LUISA code 7"),
    ({"classes": "311"}, r"classes is '311'"),
    ({"query": "nothing > 1"}, r"Cannot evaluate"),
    ({"query": "row < 0"}, r"of 4 tiles, 0 meet query='row < 0'"),
    ({"query": "row == 0", "max_cloud": 0.0}, r"of 4 tiles, 0 meet max_cloud=0, 1 meets query='row == 0'"),
    ({"max_cloud": 70}, r"max_cloud is 70"),
    ({"normalize": False, "statistics": {}}, r"statistics were given, but normalize is False"),
    ({"fraction": 0}, r"fraction is 0"),
    ({"fraction": "0.1"}, r"fraction is '0.1'"),
    ({"max_cloud": "0.1"}, r"max_cloud is '0.1'"),
    ({"normalize": "later"}, r"normalize is 'later'"),
    ({"transforms": [abs]}, r"transforms is \["),
    ({"mask_resolution": "10"}, r"mask_resolution"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[",".join(options) for options, _ in BAD])
def test_bad_input_says_what_exists(release_root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LulcbenchError, match=message) as error:
        LuisaSeg(release_root, **options)
    assert error.value.remedy


def test_unknown_bands_are_answered_by_those_of_the_release(release_root: Path) -> None:
    held = LuisaSeg(release_root).release.manifest.sensor("sentinel2").band_names
    for band in ("B99", "B01"):
        with pytest.raises(LulcbenchError) as error:
            LuisaSeg(release_root, bands=[band])
        assert error.value.remedy == f"It holds {', '.join(held)}."


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ({"regions": "east"}, {"regions": ["east"]}),
        ({"bands": "B04"}, {"bands": ["B04"]}),
        ({"bands": {"sentinel2": "B04"}}, {"bands": ["B04"]}),
        ({"seasons": "summer"}, {"seasons": ["summer"]}),
        ({"classes": 211}, {"classes": [211]}),
        ({"classes": np.array([211])}, {"classes": [211]}),
        ({"sensors": "sentinel2"}, {"sensors": ["sentinel2"]}),
        ({"year": np.int64(2018)}, {"year": 2018}),
        ({"year": np.array([2018])}, {"year": (2018,)}),
        ({"level": np.int64(2)}, {"level": 2}),
        ({"window": np.int32(1200), "stride": 1200.0}, {"window": 1200}),
        ({"normalize": 0}, {"normalize": False}),
        ({"normalize": np.False_}, {"normalize": False}),
        ({"normalize": np.True_}, {"normalize": True}),
        ({"fraction": np.float32(0.5)}, {"fraction": 0.5}),
    ],
    ids=str,
)
def test_what_is_meant_is_understood(release_root: Path, one: dict[str, Any], many: dict[str, Any]) -> None:
    left, right = LuisaSeg(release_root, **one), LuisaSeg(release_root, **many)
    assert left.tiles["id"].tolist() == right.tiles["id"].tolist()
    assert (left.sensors, left.years, left.level, left.bands) == (right.sensors, right.years, right.level, right.bands)
    torch.testing.assert_close(left[0]["image"], right[0]["image"], rtol=0, atol=0)
    assert torch.equal(left[0]["mask"], right[0]["mask"])


@pytest.mark.parametrize("seasons", [5, [5], b"summer", [None]], ids=str)
def test_seasons_are_names_or_seasons(release_root: Path, seasons: Any) -> None:
    with pytest.raises(LulcbenchError, match="seasons is"):
        LuisaSeg(release_root, seasons=seasons)


def test_slices_and_indices(seg: LuisaSeg) -> None:
    some = seg[1:8:3]
    assert [sample["tile"] for sample in some] == [seg[i]["tile"] for i in (1, 4, 7)]
    assert torch.equal(some[2]["bounds"], seg[7]["bounds"])
    assert len(seg[-2:]) == 2
    assert len(seg[3:3]) == 0
    assert torch.equal(seg[np.int32(2)]["image"], seg[torch.tensor(2)]["image"])
    for index in ("0", 1.5, None, [0.5]):
        with pytest.raises(LulcbenchError, match="There is no sample"):
            seg[index]


def test_repr_says_what_it_is(release_root: Path) -> None:
    dataset = LuisaSeg(release_root, sensors="landsat", year=(2012, 2018), level=(1, 3), window=960, stride=480)
    said = repr(dataset)
    for part in (
        f"LuisaSeg of {dataset.release.id}, train",
        "sensors: landsat",
        "years: 2012, 2018",
        "levels: 1, 3",
        "window: 960 m",
        "stride: 480 m",
        f"samples: {len(dataset)}",
    ):
        assert part in said


def test_no_release(tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match=r"No release at"):
        LuisaSeg(tmp_path)


def test_index_and_shards_that_disagree(release_root: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    root = tmp_path / "release"
    root.mkdir()
    for path in release_root.iterdir():
        (root / path.name).symlink_to(path)
    table = pq.read_table(release_root / "index.parquet")
    (root / "index.parquet").unlink()
    pq.write_table(table.slice(1), root / "index.parquet")
    with pytest.raises(LulcbenchError, match="is not the file"):
        LuisaSeg(root)
    (root / "index.parquet").unlink()
    (root / "index.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(LulcbenchError, match="is not the file"):
        LuisaSeg(root)


def test_windows_move_with_the_epoch(release_root: Path) -> None:
    dataset = LuisaSeg(release_root, window=1200, stride=1200, phase="random", seed=3)
    first = dataset.read([0, 1])["bounds"]
    dataset.set_epoch(1)
    assert not torch.equal(dataset.read([0, 1])["bounds"], first)
    dataset.set_epoch(0)
    assert torch.equal(dataset.read([0, 1])["bounds"], first)
