"""The documentation: its site builds, loads nothing from elsewhere, and its code blocks run in order."""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import SkipTest

import pytest
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from tests.builders import world
from tests.leaderboard.harness import predict, wait_until
from tests.loopback import free_port, serve

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if re.search("^```(python|bash)", p.read_text(encoding="utf-8"), re.M))
TITLED = re.compile(r'\w+ title="([\w./-]+)"')
# On the pages; a server on loopback stands in for it.
HOST = "https://data.example.org"


@dataclass
class Shell:
    """Runs bash blocks one after the other in one folder; exported variables stay, background processes are stopped."""

    folder: Path
    environment: dict[str, str]
    blocks: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __call__(self, example: Example) -> str | None:
        """Run a block; what went wrong, or None."""
        output, variables = self.folder / ".output", self.folder / ".variables"
        code = f"{example.parsed}\nenv -0 > {variables}\n"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", code],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.blocks.append(process)

        def status() -> os.waitid_result | None:
            # Not collected before ``stop``: its number, which is that of its process group, could then be given to
            # another process on this machine, which would be stopped in its place.
            return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)

        wait_until(status, "the block to end", 600)
        if (ended := status()) and ended.si_status:
            return f"bash block ended with status {ended.si_status}:\n{output.read_text()[-3000:]}"
        self.environment = dict(line.split("=", 1) for line in variables.read_text().split("\0") if line)
        return None

    def stop(self) -> None:
        """End what blocks left running in the background."""
        for block in self.blocks:
            os.killpg(block.pid, signal.SIGTERM)
            block.wait()


class FileBlockParser(CodeBlockParser):
    """Blocks with a title are files: they are written to the folder under that name."""

    language = ""

    def __init__(self, folder: Path) -> None:
        super().__init__("file")
        self.folder = folder

    def __call__(self, document: Document) -> Iterator[object]:
        for region in self.lexers(document):
            match = TITLED.fullmatch(region.lexemes["arguments"])
            if match:
                path = self.folder / match[1]
                region.parsed, region.evaluator = region.lexemes["source"], lambda block, path=path: save(path, block)
                yield region


def save(path: Path, block: Example) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.parsed, encoding="utf-8")


@pytest.fixture
def folder(release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a clone after ``make demo``, with the tests' release as the simulated one."""
    clone = tmp_path / "clone"
    (clone / "demo").mkdir(parents=True)
    (clone / "demo" / "luisa-sim").symlink_to(release_root)
    for package in ("baselines", "builders", "leaderboard", "lulcbench"):
        (clone / package).symlink_to(ROOT / package)
    monkeypatch.chdir(clone)
    monkeypatch.setenv("MPLBACKEND", "agg")
    return clone


@pytest.fixture
def shell(folder: Path) -> Iterator[Shell]:
    bin_folder = Path(sys.executable).parent
    shell = Shell(folder, os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "COLUMNS": "120"})
    yield shell
    shell.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*isinstance.*treespec.*LeafSpec")
def test_code_on_a_page_runs_from_top_to_bottom(page: Path, folder: Path, shell: Shell) -> None:
    with serve(folder / "demo") as address:
        port = free_port()
        text = page.read_text(encoding="utf-8").replace(HOST, address).replace("8000", str(port))
        document = Document(text, str(page))
        for parser in (
            PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE),
            CodeBlockParser("bash", shell),
            FileBlockParser(folder),
            SkipParser(),
        ):
            for region in parser(document):
                document.add(region)
        document.namespace |= {
            "two_predictions": lambda: two_predictions(folder),
            "own_data": lambda: own_data(folder / "site"),
            "wait_for_board": lambda: wait_until(lambda: listens(port), "the leaderboard"),
        }
        evaluated = 0
        for example in document.examples():
            with contextlib.suppress(SkipTest):  # a block that the page marks with a reason why it cannot run here
                example.evaluate()
                evaluated += 1
        assert evaluated or "skip: next" in text


def two_predictions(folder: Path) -> None:
    """Two predictions files of different accuracy, as runs of the baselines would have left them."""
    for name, noise in (("a", 0.2), ("b", 0.4)):
        (folder / "runs" / name).mkdir(parents=True)
        predict(folder / "runs" / name / "predictions.zip", folder / "demo" / "luisa-sim", noise, 0)


def own_data(site: Path) -> None:
    """Three dates of Landsat and a label map, as a user might have them."""
    world.write_raster(site / "labels.tif", *world.labels())
    for day, red in (("20180702", 0.1), ("20180718", 0.2), ("20180803", 0.3)):
        world.write_landsat(site / f"landsat_{day}_sr.tif", site / f"landsat_{day}_qa.tif", (red, 0.3))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr[-3000:]
    return out


def test_site_loads_nothing_from_another_host(site: Path) -> None:
    """Links may lead anywhere; scripts, styles, fonts and images must be in the site."""
    loaded = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//[^\"'> ]+)")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        assert loaded.findall(page.read_text(encoding="utf-8")) == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_public_names_are_in_the_reference(site: Path) -> None:
    import lulcbench

    anchors = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").rglob("*.html"))
    public = [name for name in lulcbench.__all__ if not name.startswith("_")]
    assert [name for name in public if not re.search(rf'id="lulcbench\.[\w.]*\b{name}"', anchors)] == []
