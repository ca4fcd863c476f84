from __future__ import annotations

import multiprocessing
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from lulcbench.errors import CorruptFileError, LulcbenchError, NotAvailableError
from lulcbench.release import ArrayKey, Manifest, Release
from lulcbench.release.shards import ShardReader


@pytest.fixture
def copy(release_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release_root, tmp_path / "release"))


def shards(root: Path, array: str) -> list[Path]:
    files = Manifest.load(root).files
    return sorted(root / file.path for file in files if (file.split, str(file.array)) == ("train", array))


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_batches_are_what_zarr_reads_one_by_one(release_root: Path, data: st.DataObject) -> None:
    release = Manifest.load(release_root)
    split = data.draw(st.sampled_from(list(release.splits)))
    reader = Release(release_root, release).reader(split)
    name = data.draw(st.sampled_from(["sentinel2_2018", "landsat_2012", "luisa_2018"]))
    array = zarr.open_array(release_root / name, mode="r")
    n = data.draw(st.integers(1, 5))
    side, size = array.shape[-1], data.draw(st.integers(1, array.shape[-1]))
    rows = data.draw(st.lists(st.sampled_from(release.rows(split)), min_size=n, max_size=n))
    corner = st.integers(0, side - size)
    offsets = data.draw(st.lists(st.tuples(corner, corner), min_size=n, max_size=n))
    seasons = bands = None
    picks: list[list[int]] = []
    if array.ndim == 5:
        seasons, bands = (
            data.draw(st.lists(st.integers(0, m - 1), min_size=1, max_size=3, unique=True)) for m in array.shape[1:3]
        )
        picks = [seasons, bands]
    batch = reader.read(ArrayKey.parse(name), rows, offsets, (size, size), seasons, bands)
    for window, row, (y, x) in zip(batch, rows, offsets, strict=True):
        expected = array.oindex[(row, *picks, slice(y, y + size), slice(x, x + size))]
        np.testing.assert_array_equal(window, expected)


def test_rows_of_other_splits_are_refused(release_root: Path) -> None:
    """They may not be here, and would read as nodata."""
    release = Release.open(release_root)
    mine = release.manifest.rows("val")
    reader = release.reader("val")
    for row in (mine.start - 1, mine.stop, -1):
        with pytest.raises(NotAvailableError, match=rf"(?s)Row {row} is not in the val split.*{mine.start} to"):
            reader.read(ArrayKey("luisa", 2018), [mine.start, row], [(0, 0)] * 2, (96, 96))
    with pytest.raises(NotAvailableError, match="is not in the val split"):
        reader.tiles(ArrayKey("luisa", 2018), mine.start, mine.stop + 1)


def test_reads_into_given_memory(release_root: Path) -> None:
    reader = Release.open(release_root).reader("train")
    out = np.full((2, 96, 96), 7, np.uint16)
    result = reader.read(ArrayKey("luisa", 2018), [0, 1], [(0, 0), (0, 0)], (96, 96), out=out)
    assert result is out
    np.testing.assert_array_equal(out, reader.read(ArrayKey("luisa", 2018), [0, 1], [(0, 0), (0, 0)], (96, 96)))


def test_no_windows(release_root: Path) -> None:
    reader = Release.open(release_root).reader("train")
    assert reader.read(ArrayKey("luisa", 2018), [], [], (96, 96)).shape == (0, 96, 96)


def test_a_missing_shard_is_not_nodata(copy: Path) -> None:
    shards(copy, "landsat_2018")[0].unlink()
    reader = Release.open(copy).reader("train")
    with pytest.raises(LulcbenchError, match=r"landsat_2018.*is missing") as error:
        reader.read(ArrayKey("landsat", 2018), [0], [(0, 0)], (10, 10))
    assert "c/0" in error.value.what
    assert "check-files --repair" in error.value.remedy


def test_a_truncated_shard(copy: Path) -> None:
    path = shards(copy, "landsat_2018")[0]
    path.write_bytes(path.read_bytes()[:-100])
    reader = Release.open(copy).reader("train")
    with pytest.raises(LulcbenchError, match=r"bytes long"):
        reader.read(ArrayKey("landsat", 2018), [0], [(0, 0)], (10, 10))


def test_a_shard_whose_index_was_altered(copy: Path) -> None:
    path = shards(copy, "landsat_2018")[0]
    content = bytearray(path.read_bytes())
    content[-20] ^= 0xFF  # the chunk index at the end has a checksum
    path.write_bytes(content)
    reader = Release.open(copy).reader("train")
    with pytest.raises(LulcbenchError, match=r"landsat_2018"):
        reader.read(ArrayKey("landsat", 2018), [0], [(0, 0)], (10, 10))


@pytest.mark.parametrize("seed", range(5))
def test_labels_whose_content_was_altered(copy: Path, seed: int) -> None:
    path = shards(copy, "luisa_2018")[0]
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    content[rng.integers(0, len(content) - 40)] ^= 1 << int(rng.integers(8))  # the index of the shard comes after
    path.write_bytes(content)
    reader = Release.open(copy).reader("train")
    with pytest.raises(CorruptFileError, match=r"luisa_2018"):
        reader.read(ArrayKey("luisa", 2018), [0, 1], [(0, 0)] * 2, (96, 96))


def test_metadata_of_another_array(copy: Path) -> None:
    path = copy / "landsat_2018" / "zarr.json"
    content = path.read_text()
    path.write_text(content.replace('"fill_value": 0', '"fill_value": 1'))
    assert path.read_text() != content
    with pytest.raises(LulcbenchError, match=r"zarr\.json is not the file"):
        Release.open(copy).reader("train").read(ArrayKey("landsat", 2018), [0], [(0, 0)], (1, 1))


def test_shards_of_another_length_than_the_manifest_says(copy: Path) -> None:
    release = Manifest.load(copy)
    longer = release.model_copy(update={"splits": dict(release.splits) | {"test": 93}})
    with pytest.raises(LulcbenchError, match="has 8 rows, the manifest says 99"):
        Release(copy, longer).reader("train").read(ArrayKey("luisa", 2018), [0], [(0, 0)], (1, 1))


def test_an_array_that_was_not_downloaded(copy: Path) -> None:
    shutil.rmtree(copy / "landsat_2012")
    with pytest.raises(NotAvailableError, match=r"landsat_2012 is missing"):
        Release.open(copy).reader("train").read(ArrayKey("landsat", 2012), [0], [(0, 0)], (1, 1))


def _read_in_child(reader: ShardReader, queue: multiprocessing.Queue[object]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = reader.read(ArrayKey("sentinel2", 2018), [1, 0], [(7, 9), (0, 0)], (20, 20), bands=[2, 0])
    queue.put((values.sum(), [str(warning.message) for warning in caught if warning.category is UserWarning]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_a_process_that_has_read_read_too(release_root: Path, method: str) -> None:
    reader = Release.open(release_root).reader("train")
    expected = reader.read(ArrayKey("sentinel2", 2018), [1, 0], [(7, 9), (0, 0)], (20, 20), bands=[2, 0]).sum()
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(reader, queue))
    child.start()
    total, messages = queue.get(timeout=60)
    child.join()
    assert child.exitcode == 0
    assert total == expected
    assert [("zarr-python" in message) for message in messages] == ([True] if method == "fork" else [])
