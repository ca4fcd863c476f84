"""Settings: from options, the environment and a file, in that order."""

from __future__ import annotations

from pathlib import Path

import pytest

from leaderboard.settings import Settings
from lulcbench.errors import LulcbenchError


def test_options_outrank_the_environment_which_outranks_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "board.toml"
    config.write_text('data = "file"\ncache_s = 2\ndaily_submissions = 3\nreleases = ["a"]\n')
    monkeypatch.setenv("LULCBENCH_BOARD_DAILY_SUBMISSIONS", "4")
    monkeypatch.setenv("LULCBENCH_BOARD_RELEASES", '["b", "c"]')
    monkeypatch.setenv("LULCBENCH_BOARD_DATA", "environment")
    settings = Settings.load(config, data=Path("option"))
    assert settings.data == Path("option")
    assert settings.releases == (Path("b"), Path("c"))
    assert settings.daily_submissions == 4
    assert settings.cache_s == 2
    assert Settings.load(None).data == Path("environment")
    assert Settings().daily_submissions == 10  # made in code, the environment does not matter
    assert Settings.model_validate_json(settings.model_dump_json()) == settings  # as worker processes get them


@pytest.mark.parametrize(
    ("content", "variable", "message"),
    [
        ("surprise = 1", "", "surprise"),
        ("lease_s = 0", "", "lease_s"),
        ("lease_s = ", "", "not TOML"),
        ('title = "two\\nlines"', "", "title"),
        ('title = ""', "", "title"),
        ('operator = "\\u202eetutitsnI"', "", "operator"),
        ('data_url = "javascript:alert(1)"', "", "data_url"),
        ("", "many", "daily_submissions"),
        ("", "-1", "daily_submissions"),
    ],
)
def test_settings_that_are_not_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, variable: str, message: str
) -> None:
    config = tmp_path / "board.toml"
    config.write_text(content)
    if variable:
        monkeypatch.setenv("LULCBENCH_BOARD_DAILY_SUBMISSIONS", variable)
    with pytest.raises(LulcbenchError, match=message):
        Settings.load(config)


def test_lists_of_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LULCBENCH_BOARD_RELEASES", "a:b")
    with pytest.raises(LulcbenchError, match="releases"):
        Settings.load(None)
    with pytest.raises(LulcbenchError, match="No such file"):
        Settings.load(Path("nowhere.toml"))
