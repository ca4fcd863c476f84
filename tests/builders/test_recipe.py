import re
from pathlib import Path

import pytest

from builders.recipe import RECIPES, load
from lulcbench.errors import LulcbenchError
from tests.builders.world import RECIPE


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_unknown_key_is_named_with_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, RECIPE.replace("shard_tiles", "shard_tils"))
    with pytest.raises(LulcbenchError, match=r"recipe\.toml.*pack\.shard_tils: unknown key"):
        load(path, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"nir08"]', '"nir9"]', "no band 'nir9'"),
        ("test = 0.25", "test = 0.5", "sum to 1"),
        ('name = "landsat"', 'name = "spot"', "Unknown sensor 'spot'"),
        ('start = "06-25"', 'start = "25 June"', "seasons.0.start"),
        ('start = "06-25"', 'start = "06-31"', "seasons.0.start"),
        ("years = [2018]", 'years = [2018]\nacquired = ["2018-07-01", "2018-06-01"]', "after its end"),
        ("year = 2018", 'year = 2018\nsha256 = "abc"', "labels.0.sha256"),
    ],
    ids=["band", "fractions", "sensor", "date", "day", "acquired", "checksum"],
)
def test_wrong_values_are_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(LulcbenchError, match=said):
        load(write(tmp_path, RECIPE.replace(old, new)), tmp_path)


def test_a_name_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match="region is named twice"):
        load(write(tmp_path, RECIPE.replace("[split]", '[[regions]]\nname = "all"\n[split]')), tmp_path)


def test_missing_file_lists_recipes(tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match=r"luisa-sim\.toml"):
        load(tmp_path / "none.toml", tmp_path)


def test_broken_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(LulcbenchError, match="is not TOML"):
        load(write(tmp_path, "name = "), tmp_path)


def test_paths_are_relative_to_the_recipe_and_variables_expand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LULCBENCH_REAL_DATA", str(tmp_path / "real"))
    text = RECIPE.replace('"labels.tif"', '"${LULCBENCH_REAL_DATA}/l.tif"').replace(
        '"catalog.json"', '"${SCENES}/catalog.json"'
    )
    recipe = load(write(tmp_path, text), tmp_path / "scenes")
    assert recipe.labels[0].path == tmp_path / "real" / "l.tif"
    assert recipe.catalog == str(tmp_path / "scenes" / "catalog.json")
    assert load(write(tmp_path, RECIPE), tmp_path).labels[0].path == tmp_path / "labels.tif"


def test_unset_variable_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LULCBENCH_REAL_DATA", raising=False)
    with pytest.raises(LulcbenchError, match="Set the environment variable LULCBENCH_REAL_DATA"):
        load(write(tmp_path, RECIPE.replace('"labels.tif"', '"${LULCBENCH_REAL_DATA}/l.tif"')), tmp_path)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_of_the_project_are_valid(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LULCBENCH_REAL_DATA", str(tmp_path))
    assert load(path, tmp_path).name == path.stem


def test_releases_of_the_data_card_have_recipes_or_are_planned() -> None:
    root = Path(__file__).parents[2]
    table = (root / "DATASET_CARD.md").read_text().partition("| release | content | status |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|.*\| (.*?) \|$", table, re.MULTILINE)
    assert {name for name, _ in rows} >= {"luisa-sim", "pilot12", "europe"}
    for name, status in rows:
        assert (root / "builders" / "recipes" / f"{name}.toml").is_file() == ("planned" not in status), name
