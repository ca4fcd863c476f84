"""Bad input to a whole build: each ends in an error that states what is wrong and what to do, or is in the report.

Damaged blocks, expired tokens and files that change on servers are in ``stages/test_faults.py`` and
``readers/test_access.py``.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
from typer.testing import CliRunner

from builders.__main__ import app
from lulcbench import _files
from lulcbench.errors import LulcbenchError
from tests.builders import world

WINTER = '[[seasons]]\nname = "winter"\nstart = "12-02"\nend = "03-20"\n\n[[sensors]]'


def run(folder: Path, command: str, *more: str) -> str:
    """Output of a command for the folder's recipe; raises its error."""
    arguments = [command, str(folder / "recipe.toml"), "--out", str(folder / "out"), *more]
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def build(folder: Path, *more: str) -> str:
    return run(folder, "build", "--workers", "1", *more)


def change(folder: Path, old: str, new: str) -> None:
    text = (folder / "recipe.toml").read_text()
    assert old in text
    (folder / "recipe.toml").write_text(text.replace(old, new))


def items(folder: Path, function: Callable[[pystac.Item], None]) -> None:
    """Apply a function to the items of the world."""
    found = list(pystac.Catalog.from_file(str(folder / "catalog.json")).get_items(recursive=True))
    for item in found:
        for asset in item.assets.values():
            asset.href = str(asset.get_absolute_href())
        function(item)
        item.clear_links()
    world.write(folder, "world", "World", found)


def cloudy(folder: Path) -> None:
    items(folder, lambda item: item.properties.update({"eo:cloud_cover": 95.0}))


def covered(folder: Path) -> None:
    days = [datetime(2018, 7, 1 + i, tzinfo=UTC) for i in range(3)]
    world.write(folder, "world", "World", [
        world.scene(folder / "scenes", f"s{i}", day, (0.1, 0.3), world.CLOUD) for i, day in enumerate(days)
    ])  # fmt: skip


def without_band(folder: Path) -> None:
    items(folder, lambda item: item.assets["data"].extra_fields["bands"].pop())


def renamed_band(folder: Path) -> None:
    pixels(folder, lambda values: values.astype(np.uint16))
    items(folder, lambda item: item.assets["data"].extra_fields["bands"].reverse())


def pixels(folder: Path, function: Callable[[np.ndarray], np.ndarray], nodata: float | None = 0) -> None:
    transform, shape = world.frame(30)
    for path in (folder / "scenes").glob("s?.tif"):
        values = function(np.full((2, *shape), 10_000.0))
        world.write_raster(path, values, transform, world.UTM, nodata, ("red", "nir08"))


def floats(folder: Path) -> None:
    pixels(folder, lambda values: (values / 40_000).astype(np.float32))


def empty(folder: Path) -> None:
    pixels(folder, lambda values: np.full(values.shape, 7, np.uint16), 7)


def complex_numbers(folder: Path) -> None:
    pixels(folder, lambda values: values.astype(np.complex64), None)


def far(folder: Path) -> None:
    change(folder, 'name = "all"\n', 'name = "all"\nbounds = [900_000, 900_000, 909_600, 909_600]\n')


def beyond_europe(folder: Path) -> None:
    change(folder, 'name = "all"\n', 'name = "all"\nbounds = [-9_000_000, 900_000, -8_990_400, 909_600]\n')


def degrees(folder: Path) -> None:
    change(folder, 'name = "all"\n', 'name = "all"\nbounds = [9.9, 51.1, 10.2, 51.3]\n')


def edition(folder: Path) -> None:
    change(folder, 'path = "labels.tif"\n', 'path = "labels.tif"\nedition = "2018-rev020321-50m"\n')


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cloudy, r"no landsat scene .* for 2018 .*left out: 3 cloud cover above max_cloud.*Check collection, years"),
        (covered, r"6 of 6 tiles have no valid pixel: .*Add scenes, raise max_cloud"),
        (without_band, r"left out: 3 a band is missing"),
        (renamed_band, r"has red \(red\) in band 2 of .*\.tif, but the file has the bands 1 \(red\), 2 \(nir08\)"),
        (floats, r"half of red is below -0\.2, which is not reflectance.*Correct raster:scale"),
        (empty, r"6 of 6 tiles have no valid pixel"),
        (complex_numbers, r"holds complex numbers"),
        (far, r"has no tile with labels"),
        (beyond_europe, r"regions\.0: .*bounds \[-9000000.* are not left, bottom, right, top in EPSG:3035 metres"),
        (degrees, r"regions\.0: .*bounds .* are not left, bottom, right, top in EPSG:3035 metres|has no tile"),
        (edition, r"has SHA-256 \w{64}, the recipe pins 5b82265\w+ \(2018-rev020321-50m\).*another edition or damaged"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_build_of_bad_input_ends_with_a_clear_error(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    world.make(tmp_path)
    spoil(tmp_path)
    with pytest.raises(LulcbenchError, match=f"(?s){message}") as error:
        build(tmp_path)
    assert error.value.remedy
    assert not (tmp_path / "out" / "release.json").exists()


@pytest.mark.slow
def test_a_season_without_a_scene_is_in_the_report(tmp_path: Path) -> None:
    """The others are built; its composites are empty."""
    world.make(tmp_path, world.RECIPE.replace("[[sensors]]", WINTER, 1))
    output = build(tmp_path)
    assert "without any scene: landsat 2018 winter" in output
    told = json.loads((tmp_path / "out" / "build.json").read_text())
    assert told["scenes"]["empty_seasons"] == ["landsat 2018 winter"]


def finished(folder: Path) -> dict[str, int]:
    """Times of the arrays in the cache that count: those with a note."""
    notes = (folder / "out.work" / "cache").rglob("*.json")
    return {note.stem: note.with_suffix(".npy").stat().st_mtime_ns for note in notes}


@pytest.mark.slow
def test_a_full_disk_is_an_error_after_which_the_build_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make(tmp_path)
    sync, written = os.fsync, []

    def full(number: int) -> None:
        written.append(number)
        if len(written) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(number)

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(LulcbenchError, match=r"(?s)cannot be written: No space left.*Free space .* is kept"):
        build(tmp_path)
    monkeypatch.setattr(_files.os, "fsync", sync)
    cached = finished(tmp_path)
    assert cached
    build(tmp_path)
    assert cached.items() <= finished(tmp_path).items()


@pytest.mark.slow
def test_a_recipe_that_changed_between_runs_is_not_mixed_with_the_old_release(tmp_path: Path) -> None:
    world.make(tmp_path)
    build(tmp_path)
    change(tmp_path, 'bands = ["red", "nir08"]', 'bands = ["red"]')
    with pytest.raises(LulcbenchError, match=r"(?s)scenes\.lock\.json is the result of another recipe.*search' again"):
        run(tmp_path, "materialize")
    with pytest.raises(LulcbenchError, match=r"(?s)holds another release .*--replace"):
        build(tmp_path)
    build(tmp_path, "--replace")
    sensors = json.loads((tmp_path / "out" / "release.json").read_text())["sensors"]
    assert "nir08" not in json.dumps(sensors)
