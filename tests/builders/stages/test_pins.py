"""Label maps are the editions that recipes name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from builders.archives.luisa import EDITIONS, Edition, edition_of
from builders.recipe import RECIPES, load
from builders.stages import materialize, own_scenes, pack, plan, search
from builders.stages._pins import check_pin
from lulcbench._files import hash_file
from lulcbench.cli import app
from lulcbench.errors import LulcbenchError
from lulcbench.release import Manifest
from tests.builders import world

SHIPPED = sorted(RECIPES.glob("*.toml"))


def pins(path: Path) -> list[tuple[str, str | None, str | None]]:
    """Path, edition and SHA-256 of every label map that a recipe reads and does not make itself.

    A map is left out if the recipe downloads it without a SHA-256: then no build begins before the pin is there.
    """
    recipe = tomllib.loads(path.read_text())
    maps = [(rule["path"], rule.get("edition"), rule.get("sha256")) for rule in recipe["labels"]]
    table: dict[str, Any] = recipe.get("simulate", {})
    if "label_map" in table:
        maps.append((table["label_map"], table.get("label_map_edition"), table.get("label_map_sha256")))
    demanded = {file["path"] for file in recipe.get("downloads", []) if "sha256" not in file}
    return [entry for entry in maps if "${SCENES}" not in entry[0] and entry[0] not in demanded]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_pin_their_label_maps(path: Path) -> None:
    for name, edition, sha256 in pins(path):
        assert sha256, f"{name} is not pinned"
        if "luisa" in name.lower():
            assert edition in EDITIONS
            assert EDITIONS[edition].sha256 == sha256


@pytest.mark.real
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_pins_of_shipped_recipes_are_those_of_the_real_files(path: Path, real_data: Path) -> None:
    for name, _, sha256 in pins(path):
        if "${LULCBENCH_REAL_DATA}" in name:
            assert hash_file(real_data / name.removeprefix("${LULCBENCH_REAL_DATA}/")) == sha256


def test_editions_are_told_apart() -> None:
    assert len({edition.sha256 for edition in EDITIONS.values()}) == len(EDITIONS)
    for name, edition in EDITIONS.items():
        assert edition_of(edition.sha256) == (name, edition)
    assert edition_of("0" * 64) is None


def test_another_edition_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world.write_raster(tmp_path / "map.tif", *world.labels())
    monkeypatch.setitem(EDITIONS, "known", Edition("Known", 2018, hash_file(path)))
    assert check_pin(path, "known", None) == check_pin(path, None, hash_file(path)) == hash_file(path)
    with pytest.raises(LulcbenchError, match=r"SHA-256 .* \(known\), the recipe pins .* \(2018-bremen-decoded\)"):
        check_pin(path, "2018-bremen-decoded", None)
    with pytest.raises(LulcbenchError, match=r"pins edition 'known' of map\.tif, which has SHA-256"):
        check_pin(path, "known", "0" * 64)


@pytest.mark.parametrize("where", ["labels", "simulate"])
def test_nothing_is_rendered_from_another_edition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    world.write_raster(tmp_path / "labels.tif", *world.labels())
    monkeypatch.setattr("builders.simulate.simulate", lambda *_: pytest.fail("scenes are rendered"))
    text, wrong = world.RECIPE.replace('"catalog.json"', '"${SCENES}/catalog.json"'), "0" * 64
    table = '\n[simulate]\nlabel_map = "labels.tif"\n'
    if where == "labels":
        text = text.replace('path = "labels.tif"', f'path = "labels.tif"\nsha256 = "{wrong}"')
    else:
        table += f'label_map_sha256 = "{wrong}"\n'
    (tmp_path / "recipe.toml").write_text(text + table)
    space = world.workspace(tmp_path / "out")
    with pytest.raises(LulcbenchError, match=r"labels\.tif has SHA-256 .*, the recipe pins 0000"):
        own_scenes.make(load(tmp_path / "recipe.toml", space.scenes), space)


@pytest.mark.slow
def test_info_shows_edition_and_checksum(tmp_path: Path) -> None:
    text = world.RECIPE.replace('path = "labels.tif"', 'path = "labels.tif"\nedition = "first of the world"')
    recipe, space = world.make(tmp_path, text)
    rows = plan.plan(recipe, space)
    materialize.materialize(recipe, space, rows, search.search(recipe, space, rows), None)
    release = pack.pack(recipe, space, rows, None)
    digest = hash_file(tmp_path / "labels.tif")
    assert Manifest.load(space.root).sources[-1].sha256 == digest
    shown = "".join(CliRunner().invoke(app, ["info", str(space.root)]).output.split())
    assert "Labelsof2018:LUISA,editionfirstoftheworld" in shown
    assert f"SHA-256{digest}" in shown
    assert f"SHA-256 {digest}" in (space.root / "README.md").read_text()
    assert release.sources[-1].attribution == ""


def test_an_edition_of_another_year_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world.write_raster(tmp_path / "map.tif", *world.labels())
    monkeypatch.setitem(EDITIONS, "known", Edition("LUISA Base Map 2018", 2018, hash_file(path)))
    assert check_pin(path, None, None, 2018)
    with pytest.raises(LulcbenchError, match=r"is LUISA Base Map 2018 .known., the recipe states year = 2012"):
        check_pin(path, None, None, 2012)


def test_titles_of_editions_have_their_year() -> None:
    assert all(
        str(edition.year) in edition.title and name.startswith(str(edition.year)) for name, edition in EDITIONS.items()
    )
