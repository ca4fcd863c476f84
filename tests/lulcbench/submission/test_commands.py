"""The commands score, check and submit."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lulcbench.cli import app, main
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.scores import Scores
from lulcbench.submission.card import CARD_EXAMPLE

URL = "https://board.example"


def test_commands(submission: tuple[Path, Scores], card_file: Path, tmp_path: Path) -> None:
    path, scores = submission
    root = path.parent / "release"
    run = CliRunner().invoke
    result = run(app, ["score", str(path), "--root", str(root), "--json", str(tmp_path / "s.json"), "--classes", "1"])
    assert result.exit_code == 0, result.output
    assert "SIMULATED DATA" in result.output
    assert Scores.load(tmp_path / "s.json") == scores
    result = run(app, ["score", str(path), "--root", str(root), "--classes", "7"])
    assert "--classes is 7, but the predictions have levels 1 to" in str(result.exception)
    result = run(app, ["check", str(path), "--root", str(root), "--card", str(card_file)])
    assert result.exit_code == 0, result.output
    assert "2 tiles, without probabilities" in result.output
    result = run(app, ["submit", str(path), "--card", str(tmp_path / "none.toml"), "--to", URL])
    assert isinstance(result.exception, LulcbenchError)


def test_sensors_that_the_release_does_not_have(
    submission: tuple[Path, Scores], release_root: Path, tmp_path: Path
) -> None:
    card = tmp_path / "card.toml"
    card.write_text(CARD_EXAMPLE.replace('"sentinel2"', '"sentinel2", "planet"'))
    path, root = str(submission[0]), str(release_root)
    for command in (["check", path], ["submit", path, "--to", URL]):
        result = CliRunner().invoke(app, [*command, "--root", root, "--card", str(card)], env={"LULCBENCH_TOKEN": "t"})
        assert isinstance(result.exception, LulcbenchError)
        assert "'planet', which tiny-0.1.0 does not have" in str(result.exception)


def test_bad_input_is_a_message_and_exit_code_2(
    submission: tuple[Path, Scores], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "[bold]x.zip"  # what rich would take for markup
    path.write_bytes(b"no zip")
    monkeypatch.setattr("sys.argv", ["lulcbench", "score", str(path), "--root", str(submission[0].parent / "release")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "[bold]x.zip is refused" in capsys.readouterr().err
