"""Maps that are continued, and maps of several years: each block is of the tiles that are here for its own year."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import shapely
import xarray as xr

from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.legend import ClassScheme
from lulcbench.maps import Area, MapOptions, MappingUnit, OwnModel, map_release, prepared
from lulcbench.maps.lattice import Frame, Index, Lattice
from lulcbench.maps.layers import layers
from lulcbench.maps.model import Image
from lulcbench.maps.rows import Rows
from lulcbench.maps.store import Pyramid
from lulcbench.maps.windows import Predicted
from lulcbench.release import Release
from tests.builders.stages.kill import tree

UNIT = MappingUnit(artificial=0.05, other=0.1)


class Stopped(Exception):
    """In place of a kill."""


def stop(done: int, total: int) -> None:
    raise Stopped


def bright(images: Mapping[str, Image]) -> Image:
    """Five classes by the brightness of a pixel."""
    logits = np.multiply.outer(np.arange(5, dtype=np.float32), next(iter(images.values())).mean(axis=0))
    p = np.exp(logits - logits.max(axis=0))
    return p / p.sum(axis=0)


@pytest.fixture
def root(release_root: Path, tmp_path: Path) -> Path:
    """A copy of the release, some of whose shards are not here."""
    return Path(shutil.copytree(release_root, tmp_path / "release"))


def model(release_root: Path, sensor: str, reach: int | None = None) -> OwnModel:
    return OwnModel.of(bright, str(release_root), sensor, 1, name="bright", version="1", reach=reach)


def take(root: Path, array: str, split: str, number: int | None = None) -> Callable[[], None]:
    """Take the shards of a split away, all or one; returns a function that brings them back."""
    both = (array, array.replace("_", "-clear_"))  # also the numbers of clear observations
    files = [f for f in Release.open(root).manifest.files if str(f.array) in both and f.split == split]
    one = [f.path for f in files if str(f.array) == array][number or 0]
    taken = {root / path: (root / path).read_bytes() for path in ([f.path for f in files] if number is None else [one])}
    for path in taken:
        path.unlink()

    def back() -> None:
        for path, content in taken.items():
            path.write_bytes(content)

    return back


@pytest.mark.slow
@pytest.mark.parametrize("unit", [None, UNIT], ids=["as predicted", "with a mapping unit"])
def test_a_map_does_not_continue_with_other_tiles(
    unit: MappingUnit | None, release_root: Path, root: Path, tmp_path: Path
) -> None:
    own, options = model(release_root, "sentinel2"), MapOptions(halo=0, mapping_unit=unit)
    left, bottom, right, top = 4344000.0, 3129600.0, 4363200.0, 3139200.0
    for name, bounds in (("whole", None), ("part", (left + 100, bottom + 100, right - 100, top - 100))):
        back = take(root, "sentinel2_2018", "test")
        area = MapOptions(bounds=bounds, halo=0, mapping_unit=unit)
        with pytest.raises(Stopped):
            map_release(own, root, tmp_path / name, area, progress=stop)
        back()
        with pytest.raises(LulcbenchError, match=r"differs in: .*tiles of the release that are here"):
            map_release(own, root, tmp_path / name, area)
    map_release(own, root, tmp_path / "whole", options, replace=True)
    map_release(own, root, tmp_path / "at once", options)
    assert tree(tmp_path / "whole") == tree(tmp_path / "at once")


@pytest.mark.slow
@pytest.mark.parametrize("unit", [None, UNIT], ids=["as predicted", "with a mapping unit"])
def test_tiles_that_can_be_read_again_are_in_a_map_that_continues(
    unit: MappingUnit | None, release_root: Path, root: Path, tmp_path: Path
) -> None:
    own, options = model(release_root, "sentinel2"), MapOptions(halo=0, mapping_unit=unit)
    back = take(root, "sentinel2_2018", "train", 1)
    with pytest.raises(Stopped):
        map_release(own, root, tmp_path / "map", options, progress=stop)
    back()
    result = map_release(own, root, tmp_path / "map", options)
    assert result.damaged == {}
    expected = map_release(own, root, tmp_path / "at once", options)
    assert result.mapped == expected.mapped
    assert tree(result.folder) == tree(expected.folder)


@pytest.mark.slow
def test_blocks_that_lost_their_tiles_are_empty_in_a_map_that_continues(
    release_root: Path, root: Path, tmp_path: Path
) -> None:
    own, options = model(release_root, "sentinel2"), MapOptions(halo=0)
    back = take(root, "sentinel2_2018", "train", 0)
    with pytest.raises(Stopped):
        map_release(own, root, tmp_path / "map", options, progress=stop)
    back()
    take(root, "sentinel2_2018", "train", 1)  # of the row that is written
    result = map_release(own, root, tmp_path / "map", options)
    expected = map_release(own, root, tmp_path / "at once", options)
    assert result.damaged == expected.damaged != {}
    assert tree(result.folder) == tree(expected.folder)


def test_a_row_is_made_again_if_the_row_above_lacked_a_tile(tmp_path: Path) -> None:
    """Predictions of windows above are blended into it."""
    lattice = Lattice(30, 0, 32)
    blocks: list[Index] = [(0, 0), (1, 0)]
    bounds = (0.0, -2.0 * lattice.size, float(lattice.size), 0.0)
    scheme = ClassScheme.luisa(1)
    pyramid = Pyramid(tmp_path / "2018", Frame.over(lattice, bounds), layers(scheme, clear=False), scheme)
    pyramid.create()
    asked: list[Index] = []
    damaged = {(0, 0): {"E0000N0001": "shard 1 is missing"}}

    def predict(order: list[Index]) -> Iterator[Predicted]:
        for index in order:
            asked.append(index)
            yield Predicted(None, {"composites": np.zeros((512, 512), np.uint8)}, damaged.get(index, {}))

    def run() -> Rows:
        rows = Rows(pyramid, bounds, None, None, tmp_path / "2018.jsonl", predict)
        assert list(rows.rows(blocks)) == [1, 1]
        return rows

    assert run().damaged == damaged[0, 0]
    entries = [json.loads(line) for line in (tmp_path / "2018.jsonl").read_text().splitlines()]
    assert [entry["damaged"] for entry in entries] == [damaged[0, 0], damaged[0, 0]]
    damaged.clear()
    asked.clear()
    assert run().damaged == {}
    assert {(0, 0), (1, 0)} <= set(asked)
    asked.clear()
    assert run().damaged == {}
    assert asked == []


def test_a_map_does_not_continue_with_other_versions(
    release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, options = model(release_root, "landsat", reach=0), MapOptions((2018,))
    with pytest.raises(Stopped):
        map_release(own, release_root, tmp_path / "map", options, progress=stop)
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "version", lambda name: "0.0.1" if name == "onnxruntime" else "1")
        with pytest.raises(
            LulcbenchError, match="part of another map, which differs in: versions of packages"
        ) as error:
            map_release(own, release_root, tmp_path / "map", options)
    assert "--replace" in str(error.value)
    assert map_release(own, release_root, tmp_path / "map", options).years == (2018,)


def test_arrays_of_another_extent_are_not_taken_for_those_of_a_map(tmp_path: Path) -> None:
    lattice, scheme = Lattice(30, 0, 0), ClassScheme.luisa(1)
    size = lattice.size

    def pyramid(*bounds: float) -> Pyramid:
        return Pyramid(tmp_path / "2018", Frame.over(lattice, bounds), layers(scheme, clear=False), scheme)

    pyramid(0, 0, size, size).create()
    pyramid(0, 0, size, size).create()
    for bounds in ((0, 0, 2 * size, size), (size, 0, 2 * size, size)):
        with pytest.raises(LulcbenchError, match=r"has an array class_1 of .* pixels over"):
            pyramid(*bounds).create()
    left = pyramid(0, 0, size, size).array("class_1").attrs["spatial:bbox"]
    assert list(left) == [0, 0, size, size]


@pytest.mark.slow
@pytest.mark.parametrize("unit", [None, UNIT], ids=["as predicted", "with a mapping unit"])
def test_each_year_is_mapped_of_its_own_tiles(
    unit: MappingUnit | None, release_root: Path, root: Path, tmp_path: Path
) -> None:
    own = model(release_root, "landsat", reach=0)
    for split in ("test", "val"):
        take(root, "landsat_2012", split)
    bounds = (4344000.0, 3129600.0, 4363200.0, 3139200.0)
    for name, area in (("all", None), ("bounds", bounds)):
        both = map_release(own, root, tmp_path / name, MapOptions(bounds=area, mapping_unit=unit))
        alone = {
            year: map_release(
                own, root, tmp_path / f"{name} {year}", MapOptions((year,), bounds=bounds, mapping_unit=unit)
            )
            for year in (2012, 2018)
        }
        assert both.blocks == sum(single.blocks for single in alone.values())
        if area:
            assert both.mapped == {year: single.mapped[year] for year, single in alone.items()}
            assert both.mapped[2012] < 0.6 < 0.9 < both.mapped[2018]
        for year, single in alone.items():
            first, second = (
                xr.open_zarr(folder, group=f"{year}/0", consolidated=False, mask_and_scale=False).load()
                for folder in (both.folder, single.folder)
            )
            xr.testing.assert_identical(first.drop_attrs(), second.drop_attrs())


def test_a_year_without_tiles_in_the_area_is_named(release_root: Path, root: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        take(root, "landsat_2012", split)
    bounds = (4353700.0, 3129700.0, 4355000.0, 3131000.0)  # in a tile of train
    own = model(release_root, "landsat", reach=0)
    with pytest.raises(NotAvailableError, match=r"does not overlap tiny-\S+ in 2012\."):
        map_release(own, root, tmp_path / "map", MapOptions(bounds=bounds))
    assert map_release(own, root, tmp_path / "map", MapOptions((2018,), bounds=bounds)).mapped == {2018: 1.0}


def test_what_a_killed_run_was_writing_is_deleted(release_root: Path, tmp_path: Path) -> None:
    own, options = model(release_root, "landsat", reach=0), MapOptions((2018,))
    with pytest.raises(Stopped):
        map_release(own, release_root, tmp_path / "map", options, progress=stop)
    half = tmp_path / "map" / "cog" / "2018" / ".class_1-ab12cd_9"
    half.mkdir(parents=True)
    (half / ".0.tif.aaaaaaaa").write_bytes(b"half")
    (half.parent / ".class_1.qml.x8z_0000").write_bytes(b"half")
    (tmp_path / "map" / "2018" / "0" / "zarr.json.partial").write_bytes(b"half")
    map_release(own, release_root, tmp_path / "map", options)
    expected = map_release(own, release_root, tmp_path / "at once", options).folder
    (tmp_path / "map" / "cog" / "2018").rmdir()
    (tmp_path / "map" / "cog").rmdir()
    assert tree(tmp_path / "map") == tree(expected)


def test_an_area_and_bounds_that_do_not_overlap_are_named(release_root: Path, tmp_path: Path) -> None:
    own, area = model(release_root, "landsat", reach=0), Area("hills", shapely.box(4344000, 3129600, 4345000, 3130000))
    options = MapOptions((2018,), bounds=(4350000.0, 3133000.0, 4351000.0, 3134000.0), area=area)
    with pytest.raises(NotAvailableError, match="The area hills does not overlap the bounds"):
        map_release(own, release_root, tmp_path / "map", options)
