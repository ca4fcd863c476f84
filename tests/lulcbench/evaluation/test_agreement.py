"""Maps of agreement: counts in every pixel, of maps on other grids, and by area."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.shutil import copy as copy_raster
from rasterio.vrt import WarpedVRT

from lulcbench import cli

RNG = np.random.default_rng(4)
CODES = np.array([0, 1310, 2110, 3110, 5120])
TOPLEFT = Affine(100, 0, 4_321_000, 0, -100, 3_210_000)


def write(path: Path, codes: np.ndarray, transform: Affine = TOPLEFT) -> Path:
    height, width = codes.shape
    with rasterio.open(
        path, "w", "GTiff", width, height, 1, "EPSG:3035", transform, codes.dtype.name, nodata=0
    ) as file:
        file.write(codes, 1)
    return path


def run(monkeypatch: pytest.MonkeyPatch, *command: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lulcbench", "agree", *map(str, command)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_most_frequent_class_and_its_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    maps = [CODES[RNG.integers(0, len(CODES), (40, 50))].astype(np.uint16) for _ in range(3)]
    paths = [write(tmp_path / f"{i}.tif", codes) for i, codes in enumerate(maps)]
    out = tmp_path / "agreement.tif"
    assert run(monkeypatch, *paths, "--out", out, "--figure", tmp_path / "a.png") == 0
    with rasterio.open(out) as file:
        agreeing, known, chosen = file.read()
        assert (file.descriptions, file.crs.to_epsg(), file.transform) == (("agreeing", "maps", "class"), 3035, TOPLEFT)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    for i in range(40):
        for j in range(50):
            own = [int(codes[i, j]) // 1000 for codes in maps if codes[i, j]]
            best = max(own, key=lambda code: (own.count(code), -own.index(code)), default=0)
            expected = own.count(best), len(own), best
            assert (agreeing[i, j], known[i, j], chosen[i, j]) == expected
    all_known = np.all([codes > 0 for codes in maps], axis=0)
    share = (agreeing == 3)[all_known].mean()
    printed = capsys.readouterr().out
    assert f"all maps agree in {share:.1%}" in printed
    one, two = (codes // 1000 for codes in maps[:2])
    assert f"{(one == two)[(one > 0) & (two > 0)].mean():.3f}" in printed
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_maps_of_another_grid_are_read_at_the_centres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = np.kron(CODES[RNG.integers(1, len(CODES), (6, 7))], np.ones((5, 5))).astype(np.uint16)
    first = write(tmp_path / "first.tif", coarse)
    other = tmp_path / "degrees.tif"
    with rasterio.open(first) as file, WarpedVRT(file, crs="EPSG:4326", resampling=Resampling.nearest) as view:
        copy_raster(view, other, driver="GTiff")
    assert run(monkeypatch, first, other, "--out", tmp_path / "out.tif") == 0
    with rasterio.open(tmp_path / "out.tif") as file:
        agreeing, known, _ = file.read()
    inner = np.kron(np.ones((6, 7)), np.pad(np.ones((3, 3)), 1)) > 0  # one pixel or more from the edge of a class
    assert (known[inner] == 2).all()
    assert (agreeing[inner] == 2).all()


def test_what_cannot_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = np.full((4, 4), 3110, np.uint16)
    first = write(tmp_path / "first.tif", codes)
    far = write(tmp_path / "far.tif", codes, TOPLEFT @ Affine.translation(100, 0))
    out, link = tmp_path / "out.tif", tmp_path / "link.tif"
    link.symlink_to(first)
    for command, message in (
        ([first, "--out", out], "1 maps cannot be compared"),
        ([first, far, "--out", out], "No pixel has a class in two of the maps"),
        ([first, far, "--out", tmp_path / "out.png"], "does not end in .tif"),
        ([first, first, "--out", out], "Two maps are read from the same band or year of first.tif"),
        ([first, far, link, "--out", out], "Two maps are read from the same band or year of first.tif"),
        ([first, far, "--out", out, "--legend", "values", "--legend", "luisa"], "Only some of the maps"),
    ):
        assert run(monkeypatch, *command) != 0
        assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.glob("*out*")) == []


def test_copies_of_a_map_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = CODES[RNG.integers(1, len(CODES), (6, 7))].astype(np.uint16)
    paths = [write(tmp_path / f"{i}.tif", own) for i, own in enumerate((codes, codes[::-1], codes))]
    assert run(monkeypatch, *paths, "--out", tmp_path / "out.tif") == 0
    assert "No pixel differs between the maps 1 and 3" in capsys.readouterr().out
    assert run(monkeypatch, *paths[:2], "--out", tmp_path / "out.tif") == 0
    assert "No pixel differs" not in capsys.readouterr().out
