from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lulcbench import cli
from lulcbench.release import ArrayKey, Manifest, Release
from lulcbench.release.verify import verify
from tests.lulcbench.remote.test_streaming import serve

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the lulcbench command: (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lulcbench", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "120")
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def copy(release_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release_root, tmp_path / "release"))


def test_info_says_what_is_here(run: Run, release_root: Path) -> None:
    release = Manifest.load(release_root)
    code, out, _ = run("info", release_root)
    assert code == 0
    for expected in (
        release.digest,
        release.data_digest,
        "SIMULATED DATA",
        "sentinel2",
        "Sizes",
        "Share of classes",
        "licences",
        "cite:",
    ):
        assert expected in out
    code, out, _ = run("info", release_root, "--json", "-", "--level", "1")
    facts = json.loads(out)
    assert facts["tiles"] == release.splits
    assert sum(part["bytes"] for part in facts["sizes"].values()) == sum(file.bytes for file in release.files)
    assert sum(facts["classes"]["luisa_2018"]["train"].values()) == pytest.approx(1, abs=0.01)
    assert facts["simulated"] is True
    credits = {source["attribution"] for source in facts["sources"]} - {""}
    assert all(facts["citation"].count(credit) == 1 for credit in credits)
    assert ". ." not in facts["citation"]


def test_texts_of_a_release_are_shown_as_they_are(run: Run, copy: Path) -> None:
    release = Manifest.load(copy)
    release.model_copy(update={"title": "Map [v2]", "description": "see [/docs] of [draft]"}).write(copy)
    code, out, _ = run("info", copy)
    assert code == 0
    assert "Map [v2]" in out
    assert "see [/docs] of [draft]" in out


def test_info_of_a_part(run: Run, release_root: Path, tmp_path: Path) -> None:
    assert run("download", release_root, "--root", tmp_path / "part", "--split", "val", "--sensors", "landsat")[0] == 0
    _, out, _ = run("info", tmp_path / "part", "--json", "-")
    sizes = json.loads(out)["sizes"]
    assert sizes["val landsat_2018"]["bytes_here"] == sizes["val landsat_2018"]["bytes"]
    assert sizes["train landsat_2018"]["bytes_here"] == 0


def test_check_names_bad_files_and_repairs_them(run: Run, copy: Path, release_root: Path) -> None:
    code, out, _ = run("check-files", copy)
    assert (code, "0 bad" in out) == (0, True)
    release = Manifest.load(copy)
    altered, truncated, gone = (
        next(f for f in release.files if (f.array, f.split) == part)
        for part in ((ArrayKey("luisa", 2012), "train"), (ArrayKey("luisa", 2018), "val"), (None, None))
    )
    content = bytearray((copy / altered.path).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / altered.path).write_bytes(content)
    (copy / truncated.path).write_bytes((copy / truncated.path).read_bytes()[:-1])
    (copy / gone.path).unlink()
    (copy / "landsat_2018" / "stray").write_text("?")
    code, out, _ = run("check-files", copy, "--workers", "2")
    assert code == 1
    bad = {line.split()[1]: line for line in out.splitlines() if line.startswith("BAD")}
    assert set(bad) == {altered.path, truncated.path, gone.path, "landsat_2018/stray"}
    assert "another SHA-256" in bad[altered.path]
    assert "bytes instead of" in bad[truncated.path]
    assert "is missing" in bad[gone.path]
    code, _, err = run("check-files", copy, "--repair")
    assert (code, "does not say where it came from" in err) == (2, True)
    code, out, _ = run("check-files", copy, "--repair", "--from", release_root)
    assert code == 0
    report = verify(Release(copy, release))
    assert not report.problems
    assert len(report.good) == len(release.files)


def test_a_shard_that_is_gone_is_not_here(run: Run, copy: Path) -> None:
    release = Manifest.load(copy)
    gone = next(
        f for f in release.files if f.array == ArrayKey("landsat", 2018) and "/c/" in f.path and f.split == "train"
    )
    (copy / gone.path).unlink()
    part = json.loads(run("info", copy, "--json", "-")[1])["sizes"]["train landsat_2018"]
    assert part["bytes_here"] == part["bytes"] - gone.bytes
    line = next(line for line in run("info", copy)[1].splitlines() if "train landsat_2018" in line)
    assert " 100 %" not in line


def test_a_stray_file_alone_needs_no_source(run: Run, copy: Path) -> None:
    (copy / "luisa_2018" / ".DS_Store").write_bytes(b"?")
    assert run("check-files", copy)[0] == 1
    code, out, _ = run("check-files", copy, "--repair")
    assert (code, "1 files repaired" in out) == (0, True)
    assert run("check-files", copy)[0] == 0


def test_a_damaged_manifest_is_repaired(run: Run, release_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "got"
    assert run("download", release_root, "--root", root, "--split", "val")[0] == 0
    (root / "release.json").write_text("{")
    code, _, err = run("check-files", root)
    assert (code, "is not JSON" in err) == (2, True)
    code, out, _ = run("check-files", root, "--repair")
    assert (code, "release.json repaired" in out) == (0, True)
    assert Manifest.load(root).digest == Manifest.load(release_root).digest


@pytest.mark.slow
def test_urls(run: Run, release_root: Path, tmp_path: Path) -> None:
    with serve(release_root) as url:
        facts = json.loads(run("info", url, "--json", "-")[1])
        assert facts["digest"] == Manifest.load(release_root).digest
        assert {part["bytes_here"] for part in facts["sizes"].values()} == {0}
        assert run("info", url)[0] == 0
        tile = run("plot", url, "E0000N0000")[2].split("Examples of its tiles: ")[1][:10]
        assert run("plot", url, tile, "--out", tmp_path / "tile.png")[0] == 0
        code, _, err = run("check-files", url)
        assert (code, "is a URL" in err) == (2, True)
        code, _, err = run("download", release_root, "--root", url)
        assert (code, "it is a URL" in err) == (2, True)


def test_plot(run: Run, release_root: Path, tmp_path: Path) -> None:
    tile = "E0000N0000"
    code, _, err = run("plot", release_root, tile)
    assert (code, "has no tile 'E0000N0000'" in err) == (2, True)
    tile = err.split("Examples of its tiles: ")[1][:10]
    picture = tmp_path / "pictures" / "tile.png"
    code, out, _ = run("plot", release_root, tile, "--out", picture, "--sensors", "landsat", "--level", "1")
    assert (code, out.strip()) == (0, str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("plot", release_root, tile, "--season", "monsoon")[0] == 2
    assert run("plot", release_root, tile, "--level", "5")[0] == 2
    assert run("plot", release_root, tile, "--out", tmp_path / "tile.xyz")[0] == 2


def test_a_source_without_a_repair_is_not_ignored(run: Run, copy: Path) -> None:
    code, _, err = run("check-files", copy, "--from", "hf://lulcbench/tiny")
    assert (code, "--from has no effect without --repair" in err) == (2, True)


def test_the_folder_of_a_download_is_never_the_working_directory(
    run: Run, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy / "landsat_2018")
    part = ["--split", "val", "--sensors", "landsat"]
    assert json.loads(run("download", "..", *part, "--json", "-")[1])["folder"] == "data/release"


def test_names_in_a_hostile_manifest_do_not_control_the_terminal(run: Run, copy: Path) -> None:
    content = json.loads((copy / "release.json").read_bytes())
    content["sensors"] |= {"\x1b]0;title\x07": {}}
    content["files"] *= 1000
    (copy / "release.json").write_text(json.dumps(content))
    code, out, err = run("info", copy)
    assert (code, "not a valid manifest" in err, len(err) < 2000) == (2, True, True)
    listed = run("list", copy)[1]
    assert "damaged" in listed
    assert not {"\x1b", "\x07"} & set(out + err + listed)


def test_names_of_stray_files_do_not_control_the_terminal(run: Run, copy: Path) -> None:
    (copy / "landsat_2018" / "\x1b[2J").write_bytes(b"?")
    code, out, _ = run("check-files", copy)
    assert (code, "landsat_2018/?[2J" in out, "\x1b" in out) == (1, True, False)


def test_errors_are_messages(run: Run, tmp_path: Path, copy: Path) -> None:
    for command in (["info"], ["check-files"], ["plot", "E0000N0000"]):
        code, _, err = run(command[0], tmp_path / "nowhere", *command[1:])
        assert code == 2
        assert "release.json is missing" in err
    text = (copy / "release.json").read_text()
    (copy / "release.json").write_text(text.replace('"lulcbench-release/2"', '"lulcbench-release/9"'))
    code, _, err = run("info", copy)
    assert (code, "lulcbench-release/9" in err) == (2, True)
    code, _, err = run("download", tmp_path / "nowhere", "--root", tmp_path / "got")
    assert (code, "neither a release" in err) == (2, True)
