"""What a site holds, and where it is refused."""

from __future__ import annotations

import errno
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from lulcbench.errors import (
    CorruptFileError,
    LulcbenchError,
    NotAvailableError,
    ReleaseNotFoundError,
    UnsupportedFormatError,
)
from lulcbench.grid import Tile
from lulcbench.legend import legend, lucas_to_luisa
from lulcbench.maps.viewer import write_site
from lulcbench.maps.viewer.source import MapSource
from lulcbench.release import Release


def site_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "site.json").read_bytes()))


def assembled(site: Path, year: int, name: str, overview: int, fill: int, number: int = 0) -> np.ndarray:
    """A layer put together from its tiles."""
    grid = site_of(site)["maps"][number]["overviews"][overview]
    height, width = grid["height"], grid["width"]
    out = np.full((-(-height // 240) * 240, -(-width // 240) * 240), fill, np.uint8)
    for path in (site / "data" / str(number) / str(year) / name / str(overview)).glob("*/*.bin"):
        row, column = int(path.parent.name), int(path.stem)
        tile = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8).reshape(240, 240)
        out[row * 240 : row * 240 + 240, column * 240 : column * 240 + 240] = tile
    assert (out[height:] == fill).all()
    assert (out[:, width:] == fill).all()
    return out[:height, :width]


def test_tiles_hold_every_value_of_the_map(map_folder: Path, site_folder: Path) -> None:
    root = zarr.open_group(map_folder, mode="r")
    entry = site_of(site_folder)["maps"][0]
    codes = np.array([c["code"] for c in site_of(site_folder)["legend"]] + [0] * (256 - 106), np.uint16)
    for year in (2012, 2018):
        for overview in range(len(entry["overviews"])):
            group = root[f"{year}/{overview}"]
            for level in (1, 2, 3, 4):
                shown = codes[assembled(site_folder, year, f"class_{level}", overview, 255)]
                np.testing.assert_array_equal(shown, group[f"class_{level}"][...])
            np.testing.assert_array_equal(assembled(site_folder, year, "entropy", overview, 255), group["entropy"][...])
            stored = group["probability"][...]
            for index, code in enumerate(legend().codes(4)):
                shown = assembled(site_folder, year, f"probability/{code}", overview, 0)
                np.testing.assert_array_equal(shown, stored[index])


def test_blocks_hold_all_layers_of_a_pixel(map_folder: Path, site_folder: Path) -> None:
    group = zarr.open_group(map_folder, mode="r")["2018/0"]
    names = [layer["id"] for layer in site_of(site_folder)["maps"][0]["layers"]]
    codes = [c["code"] for c in site_of(site_folder)["legend"]]
    rng = np.random.default_rng(0)
    for row, column in zip(rng.integers(210, 480, 50), rng.integers(0, 480, 50), strict=True):
        path = site_folder / "data" / "0" / "2018" / "pixels" / str(row // 60) / f"{column // 60}.bin"
        block = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8).reshape(-1, 60, 60)
        values = block[:, row % 60, column % 60]
        assert [codes[i] for i in values[:4]] == [group[name][row, column] for name in names[:4]]
        assert list(values[4 : len(names)]) == [group[name][row, column] for name in names[4:]]
        np.testing.assert_array_equal(values[len(names) :], group["probability"][:, row, column])


def test_the_index_lists_the_files_and_no_others(site_folder: Path) -> None:
    entry = site_of(site_folder)["maps"][0]
    for index in (site_folder / "data" / "0" / "2012").rglob("index.bin"):
        listed = set()
        there = iter(gzip.decompress(index.read_bytes()))
        pixels = index.parent.name == "pixels"
        for overview, grid in enumerate(entry["overviews"][: 1 if pixels else None]):
            side = 60 if pixels else 240
            for row in range(-(-grid["height"] // side)):
                for column in range(-(-grid["width"] // side)):
                    if next(there):
                        listed.add(f"{row}/{column}.bin" if pixels else f"{overview}/{row}/{column}.bin")
        assert list(there) == []
        files = {path.relative_to(index.parent).as_posix() for path in index.parent.rglob("*.bin")}
        files -= {"index.bin", "counts.bin"}
        assert files == listed
        assert files


def test_a_page_opens_on_the_pixels_with_data(map_folder: Path, release_map: Path, release_site: Path) -> None:
    for folder, extent in (
        (map_folder, MapSource.open(map_folder).extent()),
        (release_map, site_of(release_site)["maps"][0]["extent"]),
    ):
        group = zarr.open_group(folder, mode="r")
        classes = [group[f"{year}/0/class_1"][...] != 0 for year in (2012, 2018)]
        rows, columns = (np.flatnonzero((classes[0] | classes[1]).any(axis=axis)) for axis in (1, 0))
        size, _, left, _, _, top = group["2018/0"].attrs["spatial:transform"]
        exact = (
            left + size * columns[0],
            top - size * (rows[-1] + 1),
            left + size * (columns[-1] + 1),
            top - size * rows[0],
        )
        pixel = MapSource.open(folder).overviews[-1].resolution
        assert all(
            0 <= bound * sign < pixel for bound, sign in zip(np.subtract(exact, extent), (1, 1, -1, -1), strict=True)
        )


def test_attributions_are_those_of_the_map_or_of_its_collection(release_site: Path, release_root: Path) -> None:
    facts = [dict(entry["facts"]) for entry in site_of(release_site)["maps"]]
    stated = {source.attribution or source.title for source in Release.open(release_root).manifest.sources}
    assert set(facts[0]["Attribution"].split("; ")) == stated
    assert set(facts[1]["Attribution"].split("; ")) <= stated


@pytest.mark.slow
def test_a_map_that_does_not_state_its_origin_counts_as_simulated(map_folder: Path, tmp_path: Path) -> None:
    for value, expected in ((True, True), (False, False), (None, True)):
        copy = shutil.copytree(map_folder, tmp_path / f"map-{value}")
        content = json.loads((copy / "zarr.json").read_bytes())
        content["attributes"]["lulcbench:simulated"] = value
        (copy / "zarr.json").write_text(json.dumps(content))
        site = write_site([copy], tmp_path / f"site-{value}")
        assert site_of(site)["simulated"] is expected


@pytest.mark.slow
def test_a_viewer_is_replaced_and_anything_else_is_refused(map_folder: Path, tmp_path: Path) -> None:
    site = write_site([map_folder], tmp_path / "site", title="First")
    (site / "left-over.txt").write_text("of the older site")
    write_site([map_folder], site, title="Second")
    assert site_of(site)["title"] == "Second"
    assert not (site / "left-over.txt").exists()
    other = tmp_path / "other"
    other.mkdir()
    write_site([map_folder], other)  # an empty folder
    for name, content in (("thesis.tex", "years of work"), ("site.json", "[1]")):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text(content)
        with pytest.raises(LulcbenchError, match="exists and is not a viewer"):
            write_site([map_folder], folder)
        assert (folder / name).read_text() == content
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(LulcbenchError, match="exists and is not a viewer"):
        write_site([map_folder], file)
    link = tmp_path / "link"
    link.symlink_to(site)
    with pytest.raises(LulcbenchError, match="exists and is not a viewer"):
        write_site([map_folder], link)


@pytest.mark.slow
def test_an_error_leaves_the_older_site_and_no_other_files(map_folder: Path, tmp_path: Path) -> None:
    site = write_site([map_folder], tmp_path / "site", title="First")
    broken = shutil.copytree(map_folder, tmp_path / "broken")
    chunk = next(path for path in sorted((broken / "2018" / "0" / "entropy" / "c").rglob("*")) if path.is_file())
    chunk.write_bytes(b"damaged")
    with pytest.raises(CorruptFileError, match="2018/0/entropy cannot be read"):
        write_site([map_folder, broken], site, title="Second")
    assert site_of(site)["title"] == "First"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "site"]


def test_a_full_disk_is_named(map_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lulcbench.maps.viewer.chunks._write", full)
    with pytest.raises(LulcbenchError, match=r"The disk of .*site is full"):
        write_site([map_folder], tmp_path / "site")
    assert not list(tmp_path.iterdir())


def edited(map_folder: Path, to: Path, path: str, **attributes: Any) -> Path:
    """A copy of a map with other attributes of a node."""
    copy = shutil.copytree(map_folder, to)
    content = json.loads((copy / "zarr.json").read_bytes())
    nodes = content["consolidated_metadata"]["metadata"]
    (nodes[path] if path else content)["attributes"] |= attributes
    (copy / "zarr.json").write_text(json.dumps(content))
    return copy


def test_other_folders_and_formats_are_refused(map_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ReleaseNotFoundError, match="does not contain a complete map"):
        write_site([tmp_path], tmp_path / "site")
    with pytest.raises(LulcbenchError, match="No map is given"):
        write_site([], tmp_path / "site")
    format2 = edited(map_folder, tmp_path / "format", "", **{"lulcbench:format": "lulcbench-map/2"})
    with pytest.raises(UnsupportedFormatError, match="'lulcbench-map/2', not 'lulcbench-map/1'"):
        write_site([format2], tmp_path / "site")
    other = edited(map_folder, tmp_path / "legend", "", legend_digest="0" * 64)
    with pytest.raises(UnsupportedFormatError, match="another legend"):
        write_site([other], tmp_path / "site")
    utm = edited(map_folder, tmp_path / "utm", "2012/0", **{"proj:code": "EPSG:32632"})
    with pytest.raises(CorruptFileError, match="not on a grid of EPSG:3035"):
        write_site([utm], tmp_path / "site")
    moved = edited(map_folder, tmp_path / "moved", "2018/1", **{"spatial:transform": [60, 0, 0, 0, -60, 0]})
    with pytest.raises(CorruptFileError, match="2018/1 has another grid"):
        write_site([moved], tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_code_that_is_not_in_the_legend_is_named(map_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(map_folder, tmp_path / "map")
    zarr.open_array(copy / "2012" / "0" / "class_3", mode="r+")[300, 300] = 999
    with pytest.raises(CorruptFileError, match="has 999, not a LUISA code"):
        write_site([copy], tmp_path / "site")


@pytest.mark.parametrize("layer", ["class_4", "class_1", "probability"])
def test_a_chunk_that_is_missing_is_not_shown_as_nodata(map_folder: Path, tmp_path: Path, layer: str) -> None:
    copy = shutil.copytree(map_folder, tmp_path / "map")
    next(path for path in sorted((copy / "2018" / "0" / layer / "c").rglob("*")) if path.is_file()).unlink()
    with pytest.raises(CorruptFileError, match=r"2018/0 has pixels with data in only one of .* a chunk is missing"):
        write_site([copy], tmp_path / "site")


@pytest.mark.slow
def test_command(map_folder: Path, tmp_path: Path) -> None:
    command = [Path(sys.executable).parent / "lulcbench", "view", map_folder, "--out", tmp_path / "site"]
    said = subprocess.run([*command, "--title", "Mine"], capture_output=True, text=True, check=True).stdout
    assert "python -m http.server" in said
    assert site_of(tmp_path / "site")["title"] == "Mine"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    command[-1] = tmp_path / "notes"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "is not a viewer" in done.stderr


def test_a_map_of_a_model_is_shown_with_all_its_layers(release_map: Path, release_site: Path) -> None:
    entry = site_of(release_site)["maps"][0]
    group = zarr.open_group(release_map, mode="r")["2018/0"]
    names = {name for name, array in group.arrays() if array.ndim == 2}
    assert {layer["id"] for layer in entry["layers"]} == names
    assert {"class_1", "class_2", "class_3", "entropy", "margin", "least_confidence"} <= names
    assert entry["probabilities"] == {"level": 3, "codes": list(legend().codes(3))}
    assert site_of(release_site)["simulated"]
    codes = np.array([c["code"] for c in site_of(release_site)["legend"]] + [0] * (256 - 106), np.uint16)
    for overview in range(len(entry["overviews"])):
        stored = zarr.open_group(release_map, mode="r")[f"2012/{overview}/class_3"][...]
        np.testing.assert_array_equal(codes[assembled(release_site, 2012, "class_3", overview, 255)], stored)
        assert (stored != 0).any()


def test_labels_of_a_release_are_a_map_beside_it(release_site: Path, release_root: Path) -> None:
    entry = site_of(release_site)["maps"][1]
    release = Release.open(release_root)
    assert entry["labels"]
    assert entry["simulated"]
    assert entry["years"] == [2012, 2018]
    assert entry["probabilities"] is None
    grid = entry["overviews"][0]
    codes = np.array([c["code"] for c in site_of(release_site)["legend"]] + [0] * (256 - 106), np.uint16)
    for level in (1, 4):
        shown = codes[assembled(release_site, 2012, f"class_{level}", 0, 255, number=1)]
        labelled = 0
        for split in release.manifest.splits:
            tiles = release.tiles(split)
            for position, name in enumerate(tiles.ids):
                left, _, _, top = Tile.from_id(name).bounds
                row, column = int(grid["top"] - top) // 50, int(left - grid["left"]) // 50
                labels = legend().remap(release.labels(split, 2012, [tiles.first + position])[0], level)
                np.testing.assert_array_equal(shown[row : row + 96, column : column + 96], labels)
                labelled += int((labels != 0).sum())
        assert labelled == (shown != 0).sum() > 0


def test_observations_outside_all_maps_are_left_out(release_site: Path) -> None:
    points = site_of(release_site)["points"]
    assert [(point["code"], point["text"]) for point in points] == [(311, "LUCAS 2018 (4711)")]


def test_a_release_without_labels_is_refused(release_map: Path, release_root: Path, tmp_path: Path) -> None:
    release = Release.open(release_root)
    bare = Release(release.root, release.manifest.model_copy(update={"labels": {}}))
    with pytest.raises(NotAvailableError, match="has no labels"):
        write_site([release_map], tmp_path / "site", labels=bare)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_lucas_points_are_read_by_the_command(release_map: Path, tmp_path: Path) -> None:
    grid = zarr.open_group(release_map, mode="r")["2018/0"].attrs["spatial:transform"]
    table = tmp_path / "points.csv"
    rows = [f"1,2018,{grid[2] + 500},{grid[5] - 700},C10,U120", f"2,2018,{grid[2] + 900},{grid[5] - 800},,"]
    table.write_text("\n".join(["point_id,year,x_laea,y_laea,lc1,lu1", *rows]) + "\n")
    command = ["lulcbench", "view", release_map, "--out", tmp_path / "site", "--points", table]
    done = subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:], "--points-crs", "EPSG:3035"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    points = site_of(tmp_path / "site")["points"]
    assert [(point["x"] - grid[2], grid[5] - point["y"]) for point in points] == [(500, 700), (900, 800)]
    assert points[0]["code"] == lucas_to_luisa("C10", "U120") != 0
    assert points[0]["text"] == "LUCAS 2018 (1)"
    assert points[1]["code"] == 0
    assert "no land cover recorded" in points[1]["text"]
