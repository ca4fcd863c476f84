"""Values on the command line take the place of those of a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from builders.__main__ import app
from builders._settings import apply_settings
from builders.recipe import RECIPES, load
from lulcbench.errors import LulcbenchError
from tests.builders import world

RECIPE = {
    "catalog": "a",
    "split": {"block": 1},
    "sensors": [{"name": "landsat", "years": [2012]}, {"name": "sentinel2"}],
    "downloads": [{"path": "${DOWNLOADS}/map_2018.tif"}],
}


@pytest.mark.parametrize(
    ("setting", "tables", "value"),
    [
        ("catalog=https://b/c?d=e", ["catalog"], "https://b/c?d=e"),
        ("split.block=4", ["split", "block"], 4),
        ("pack.codec=lz4", ["pack", "codec"], "lz4"),
        ("sensors.landsat.years=[2012, 2018]", ["sensors", 0, "years"], [2012, 2018]),
        ("sensors.1.max_cloud=20.5", ["sensors", 1, "max_cloud"], 20.5),
        ("downloads.map_2018.url=http://127.0.0.1/x", ["downloads", 0, "url"], "http://127.0.0.1/x"),
        ("simulated=false", ["simulated"], False),
        ("title=", ["title"], ""),
    ],
    ids=lambda value: value if isinstance(value, str) and "=" in value else "",
)
def test_a_setting_changes_one_value(setting: str, tables: list[str | int], value: object) -> None:
    before = repr(RECIPE)
    found: object = apply_settings(RECIPE, [setting])
    for key in tables:
        found = found[key]  # type: ignore[index]
    assert found == value
    assert repr(RECIPE) == before


@pytest.mark.parametrize(
    "setting", ["catalog", "=b", "sensors.planet.years=[2018]", "sensors.7.years=1", "catalog.x=1", "sensors=1.x"]
)
def test_what_is_not_a_setting_is_refused(setting: str, tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError):
        load(world.make(tmp_path)[1].root.parent / "recipe.toml", tmp_path, [setting])


def test_a_wrong_value_is_named_as_if_it_stood_in_the_file(tmp_path: Path) -> None:
    world.make(tmp_path)
    with pytest.raises(LulcbenchError, match=r"split\.block: Input should be a valid integer"):
        load(tmp_path / "recipe.toml", tmp_path, ["split.block=many"])


def test_an_unknown_region_names_those_that_are_known() -> None:
    with pytest.raises(LulcbenchError, match=r"no region 'nowhere'.*\n.*It has bremen, la-rochelle"):
        load(RECIPES / "pilot12.toml", Path("scenes"), regions=["nowhere"])


def test_one_region_leaves_the_others_out() -> None:
    recipe = load(RECIPES / "pilot12.toml", Path("scenes"), regions=["oulu", "bremen"])
    assert [region.name for region in recipe.regions] == ["oulu", "bremen"]


def test_cells_need_bounds(tmp_path: Path) -> None:
    world.make(tmp_path)
    with pytest.raises(LulcbenchError, match="region all has cells, and needs bounds"):
        load(tmp_path / "recipe.toml", tmp_path, ["regions.all.cells=2"])


def test_info_shows_pins_and_searches() -> None:
    """Nothing is fetched: a recipe whose files are missing is shown as well."""
    shown = CliRunner().invoke(
        app, ["info", str(RECIPES / "pilot12.toml"), "--set", "sensors.landsat.catalog=https://x"]
    )
    assert shown.exit_code == 0, shown.output
    text = " ".join(shown.output.split())
    assert "luisa_2018: LUISA_basemap_020321_50m.tif, 2018-rev020321-50m, SHA-256 5b82265265f2" in text
    assert "luisa_2012: LUISA_basemap_2012_50m.tif, 2012-50m, SHA-256 not pinned" in text
    assert "landsat-c2-l2 of https://x;" in text
    assert "2011-12-02 to 2012-12-01, at most 70 % cloud" in text


def test_info_shows_the_pin_of_an_edition_and_of_a_rendered_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LULCBENCH_REAL_DATA", str(tmp_path))
    shown = CliRunner().invoke(app, ["info", str(RECIPES / "luisa-bremen-sim.toml")])
    text = " ".join(shown.output.split())
    assert "rendered map: 2018-bremen-decoded, SHA-256 bf2af6552075" in text
    assert "sentinel2 2018: simulated by this recipe;" in text
