"""``load_dataset`` of Hugging Face, on a release as the hub holds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lulcbench.release import Manifest

pytestmark = pytest.mark.filterwarnings("ignore")  # of the library


def test_load_dataset_gives_our_splits_with_pictures(release_root: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    tiles = load_dataset(str(release_root), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in tiles.items()} == Manifest.load(release_root).splits
    row = tiles["test"][0]
    assert row["split"] == "test"
    assert row["landsat_2018"].size == (128, 128)
    assert row["luisa_2018"].mode == "RGB"
    index = load_dataset(str(release_root), "index", cache_dir=str(tmp_path))
    assert list(index) == ["tiles"]
    assert len(index["tiles"]) == sum(Manifest.load(release_root).splits.values())
