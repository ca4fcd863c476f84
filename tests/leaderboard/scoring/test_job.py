"""One scoring job: what it reads, how often, and that map and samples follow from the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from benchmarks.label_release import make_release, smooth_codes
from leaderboard.scoring.job import score_file
from leaderboard.scoring.pictures import MAX_CELLS, WRONG
from lulcbench.errors import CorruptFileError, LulcbenchError
from lulcbench.grid import Tile
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.predictions import PredictionWriter
from lulcbench.predictions._stored_zip import StoredZip
from lulcbench.release import Manifest, Release


def prepare(
    folder: Path, tiles: int, years: tuple[int, ...] = (2018,), level: int = 4
) -> tuple[Path, np.ndarray, np.ndarray]:
    """A predictions file of ``folder / 'release'``, with its labels and codes: uint16 ``(tile, year, 96, 96)``."""
    rng = np.random.default_rng(tiles)
    labels = np.stack([smooth_codes(tiles, seed=i) for i, _ in enumerate(years)], axis=1)
    labels[rng.random(labels.shape) < 0.1] = 0
    labels[1] = 0  # a tile without a label
    labels[rng.random(labels.shape) < 0.1] = 112  # of level 3 only
    other = rng.permutation(labels.ravel()).reshape(labels.shape)
    codes = np.where(rng.random(labels.shape) < rng.random((tiles, 1, 1, 1)), labels, other)
    codes = np.where(np.isin(codes, legend().codes(4)), codes, 3110).astype(np.uint16)
    codes = legend().remap(codes, level)
    make_release(folder / "release", {year: labels[:, i] for i, year in enumerate(years)})
    with PredictionWriter(folder / "p.zip", folder / "release", "test", list(years), level) as writer:
        for row, tile in enumerate(writer.info.tiles):
            writer.write(tile, codes[row] if len(years) > 1 else codes[row, 0])
    return folder / "p.zip", labels, codes


def score(path: Path, folder: Path) -> dict[str, Any]:
    (folder / "media").mkdir()
    return score_file(path, [folder / "release"], folder / "media")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tiles", "years", "level"), [(30, (2018,), 4), (12, (2012, 2018), 3), (MAX_CELLS + 2, (2018,), 1)]
)
def test_the_map_is_that_of_an_independent_count(
    tmp_path: Path, tiles: int, years: tuple[int, ...], level: int
) -> None:
    path, labels, codes = prepare(tmp_path, tiles, years, level)
    result = score(path, tmp_path)
    truth, guess = legend().encode(labels, level), legend().encode(codes, level)
    known = truth != IGNORE_INDEX
    side = 1 if tiles <= MAX_CELLS else 10
    expected: dict[tuple[int, int], list[int]] = {}
    accuracy = {}
    for row, tile_id in enumerate(Release.open(tmp_path / "release").tiles("test").ids):
        tile = Tile.from_id(tile_id)
        cell = expected.setdefault((tile.ix // side * side * 4800, tile.iy // side * side * 4800), [0, 0])
        pixels, right = int(known[row].sum()), int((known & (truth == guess))[row].sum())
        cell[0] += pixels
        cell[1] += right
        if pixels:
            accuracy[tile_id] = right / pixels
    cells = {(cell["x"], cell["y"]): cell for cell in result["cells"]}
    assert set(cells) == {corner for corner, (pixels, _) in expected.items() if pixels}
    for corner, cell in cells.items():
        pixels, right = expected[corner]
        assert (cell["pixels"], cell["accuracy"], cell["size"]) == (pixels, round(right / pixels, 4), side * 4800)
    assert sum(cell["pixels"] for cell in cells.values()) == result["scores"]["levels"][str(level)]["pixels"]
    best, median, worst = result["samples"]
    assert best["accuracy"] == round(max(accuracy.values()), 4)
    assert median["accuracy"] == round(sorted(accuracy.values())[len(accuracy) // 2], 4)
    assert worst["accuracy"] == round(min(accuracy.values()), 4)
    for sample in result["samples"]:
        assert round(accuracy[sample["tile"]], 4) == sample["accuracy"]
        label, predicted, wrong = (
            np.asarray(PIL.Image.open(tmp_path / "media" / f"{sample['name']}-{kind}.png"))
            for kind in ("label", "prediction", "errors")
        )
        labelled = (wrong != 255).any(axis=2)
        red = (wrong == WRONG).all(axis=2)
        np.testing.assert_array_equal(red[labelled], (label != predicted).any(axis=2)[labelled])
        if len(years) == 1:  # drawn is the last year
            assert round(1 - red.sum() / labelled.sum(), 4) == sample["accuracy"]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often which file was opened, hashed or decoded."""
    found: Counter[str] = Counter()

    def watch(owner: Any, name: str, key: Callable[..., str]) -> None:
        real = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            found[key(*arguments)] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, watched)

    watch(StoredZip, "__init__", lambda archive, path, *rest: f"open {Path(path).name}")
    watch(StoredZip, "read", lambda archive, name, *rest: f"read {name}")
    for module in ("lulcbench.predictions.reader", "lulcbench.release.opened"):
        owner = __import__(module, fromlist=["hash_file"])
        watch(owner, "hash_file", lambda path: f"hash {Path(path).name}")
    watch(Manifest, "load", lambda *arguments: "manifest")
    watch(__import__("lulcbench.release.opened", fromlist=["read_table"]), "read_table", lambda *arguments: "index")
    return found


def test_a_job_opens_hashes_and_decodes_each_thing_once(tmp_path: Path, reads: Counter[str]) -> None:
    tiles = 20
    path, _, _ = prepare(tmp_path, tiles)
    reads.clear()
    result = score(path, tmp_path)
    assert reads["open p.zip"] == reads["hash p.zip"] == reads["manifest"] == reads["index"] == 1
    assert reads["hash index.parquet"] == 1
    chunks = {name: times for name, times in reads.items() if name.startswith("read codes/c/")}
    assert len(chunks) == tiles
    # Only the tiles of figures are decoded a second time.
    assert sum(chunks.values()) == tiles + len({sample["tile"] for sample in result["samples"]})
    assert set(reads.values()) <= {1, 2}


def test_predictions_may_be_of_any_release_of_the_board(tmp_path: Path) -> None:
    roots = []
    for seed, (name, version) in enumerate((("a", "0.1.0"), ("b", "0.2.0"), ("c", "0.3.0"))):
        make_release(tmp_path / name, {2018: smooth_codes(2, seed=seed)}, version=version)
        roots.append(tmp_path / name)
    with PredictionWriter(tmp_path / "p.zip", roots[1], "test", 2018) as writer:
        for tile in writer.info.tiles:
            writer.write(tile, np.full((96, 96), 3110, np.uint16))
    (tmp_path / "media").mkdir()
    assert score_file(tmp_path / "p.zip", roots, tmp_path / "media")["release"] == "labels-0.2.0"
    with pytest.raises(LulcbenchError, match=r"made for labels-0\.2\.0 .* not for labels-0\.1\.0 .* or labels-0\.3\.0"):
        score_file(tmp_path / "p.zip", [roots[0], roots[2]], tmp_path / "media")
    (roots[2] / "release.json").write_text("{")  # it may be the one
    with pytest.raises(CorruptFileError):
        score_file(tmp_path / "p.zip", [roots[0], roots[2]], tmp_path / "media")


def test_a_split_without_any_label_has_no_samples(tmp_path: Path) -> None:
    make_release(tmp_path / "release", {2018: np.zeros((2, 96, 96), np.uint16)})
    with PredictionWriter(tmp_path / "p.zip", tmp_path / "release", "test", 2018) as writer:
        for tile in writer.info.tiles:
            writer.write(tile, np.full((96, 96), 3110, np.uint16))
    result = score(tmp_path / "p.zip", tmp_path)
    assert result["cells"] == result["samples"] == []
    assert result["scores"]["levels"]["1"]["metrics"] == {}
