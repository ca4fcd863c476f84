"""What all commands share: version, verbosity, completion, JSON, outputs, missing packages, names of options."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from lulcbench import __version__, _console, cli
from lulcbench.cli.releases import KNOWN
from lulcbench.errors import EXTRAS
from lulcbench.release import Manifest, Release

ROOT = Path(__file__).parents[3]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the lulcbench command: (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lulcbench", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "120")
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    yield call
    _console.report(0)


def test_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version") == (0, f"lulcbench {__version__}\n", "")
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


@pytest.mark.slow
def test_the_package_is_a_command_and_completes_its_commands() -> None:
    asked = {"_LULCBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "lulcbench in", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'lulcbench'; from lulcbench.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["info"]
    shown = subprocess.run([sys.executable, "-m", "lulcbench", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"lulcbench {__version__}\n"


def test_quiet_and_verbose(run: Run, release_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def shown(*options: str) -> tuple[str, str]:
        shutil.rmtree(tmp_path / "got", ignore_errors=True)
        caplog.clear()
        return run(*options, "download", release_root, "--root", tmp_path / "got", "--split", "val")[2], caplog.text

    assert "download" in shown()[0]
    assert shown("-q") == ("", "")
    assert "files are fetched" in shown("-v")[1]
    assert "files are fetched" not in shown()[1]
    assert run("-q", "info", tmp_path)[0] == 2
    assert "release.json is missing" in run("-q", "info", tmp_path)[2]
    assert "contradict" in run("-q", "-v", "info", release_root)[2]


def test_list_names_what_is_here(run: Run, release_root: Path, tmp_path: Path) -> None:
    assert run("download", release_root, "--root", tmp_path / "a" / "part", "--split", "val")[0] == 0
    shutil.copytree(tmp_path / "a" / "part", tmp_path / "b" / "c" / "damaged")
    (tmp_path / "b" / "c" / "damaged" / "release.json").write_text("{")
    (tmp_path / ".hidden").symlink_to(release_root)
    code, out, _ = run("list", tmp_path, "--json", "-")
    listed = json.loads(out)
    assert code == 0
    assert {entry["name"]: entry["title"] for entry in listed["known"]} == KNOWN
    assert [Path(entry["folder"]).name for entry in listed["here"]] == ["part", "damaged"]
    part, damaged = listed["here"]
    assert part["release"] == Manifest.load(release_root).id
    assert 0 < int(part["local"].removesuffix(" %")) < 100
    assert damaged["release"] == "damaged"
    assert "luisa-sim" in run("list", tmp_path)[1]
    assert run("list", tmp_path / "nowhere")[0] == 2


def test_known_releases_have_recipes() -> None:
    recipes = ROOT / "builders" / "recipes"
    titles = {name: tomllib.loads((recipes / f"{name}.toml").read_text())["title"] for name in KNOWN}
    assert titles == KNOWN


def options() -> Iterator[tuple[str, str, typer.core.TyperOption]]:
    """Command, option name, and option of the command line."""
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    for name, command in group.commands.items():
        for option in command.params:
            if isinstance(option, typer.core.TyperOption):
                yield name, max(option.opts, key=len), option


def test_options_have_one_spelling() -> None:
    spelled = {option for _, option, _ in options()}
    assert not spelled & {"--sensor", "--splits", "--years", "--to-year", "--season-name"}
    assert {"--sensors", "--split", "--year"} <= spelled
    for command, name, option in options():
        if name == "--json":
            assert option.metavar == "FILE", command


def test_every_option_and_argument_is_explained_and_nothing_reads_as_markup() -> None:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    for command in group.commands.values():
        assert command.help
        for parameter in command.params:
            assert parameter.help, f"{command.name} {parameter.name}"
            assert not re.search(r"(?<!\\)\[[a-z@/]", parameter.help), parameter.help


@pytest.mark.parametrize(
    "command",
    [
        ("info", "{root}", "--json", "{target}"),
        ("check-files", "{root}", "--json", "{target}"),
        ("score", "none.zip", "--root", "{root}", "--json", "{target}"),
        ("compare", "none.zip", "none.zip", "--root", "{root}", "--json", "{target}"),
        ("plot", "{root}", "E0000N0000", "--out", "{target}"),
        ("validate", "none.tif", "--points", "none.csv", "--figure", "{target}"),
        ("area", "none.tif", "--sample", "none.csv", "--csv", "{target}"),
        ("change", "none.tif", "none.tif", "--figure", "{target}"),
        ("design", "none.tif", "--out", "{target}"),
        ("verify", "none.tif", "--imagery", "x", "--model", "x", "--out", "{target}"),
        ("spot", "none.csv", "--out", "{target}"),
        ("map", "model", "--root", "{root}", "--out", "{target}"),
        ("view", "map", "--out", "{target}"),
    ],
    ids=lambda command: command[0],
)
def test_outputs_are_checked_before_the_work(run: Run, release_root: Path, command: tuple[str, ...]) -> None:
    """In /proc no process can make files, not even one of the administrator. The inputs are missing."""
    line = [word.format(root=release_root, target="/proc/nope/out.png") for word in command]
    code, out, err = run(*line)
    assert (code, out) == (2, "")
    assert "Cannot write /proc/nope/out.png" in err


def test_outputs_of_another_type_are_refused(run: Run, release_root: Path, tmp_path: Path) -> None:
    assert "is a folder" in run("info", release_root, "--json", tmp_path)[2]
    (tmp_path / "file").touch()
    assert "is a file" in run("map", "model", "--root", release_root, "--out", tmp_path / "file")[2]
    assert run("info", release_root, "--json", tmp_path / "new" / "deep" / "facts.json")[0] == 0
    assert json.loads((tmp_path / "new" / "deep" / "facts.json").read_text())["id"] == Manifest.load(release_root).id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "code", "extra"),
    [
        ("torch", "from lulcbench import LuisaSeg", "torch"),
        ("lightning", "from lulcbench import LuisaDataModule", "torch"),
        ("matplotlib", "plot {root} {tile}", "torch"),
        ("rasterio", "design map.tif --points 100 --out out.gpkg", "geo"),
    ],
)
def test_missing_packages_name_their_extra(
    package: str, code: str, extra: str, release_root: Path, tmp_path: Path
) -> None:
    if not code.startswith("from"):
        (tmp_path / "map.tif").touch()
        arguments = code.format(root=release_root, tile=Release.open(release_root).tiles("val").ids[0]).split()
        code = f"sys.argv = ['lulcbench', *{arguments!r}]; from lulcbench.cli import main; main()"
    code = f"import sys; sys.modules[{package!r}] = None; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert f"pip install 'lulcbench[{extra}]'" in done.stderr
    if "argv" in code:
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_extras_of_messages_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {"scikit-image": "skimage", "pillow": "PIL"}
    for extra, packages in EXTRAS.items():
        declared = {re.split(r"[\[<>=]", line)[0] for line in project["optional-dependencies"][extra]}
        declared = {names.get(name, name) for name in declared} - {"lulcbench"}
        assert declared == set(packages)


def test_no_message_sends_users_of_pip_to_make() -> None:
    for path in (ROOT / "lulcbench").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("Error", "echo", "print")):
                assert "'make " not in "".join(map(ast.unparse, call.args)), f"{path}:{call.lineno}"
