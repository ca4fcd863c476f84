"""Runs the code blocks of a page of the documentation, in order."""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import SkipTest

import geopandas
import shapely
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from tests.builders import world
from tests.leaderboard.harness import predict, wait_until
from tests.loopback import free_port, serve

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TITLED = re.compile(r'\w+ title="([\w./-]+)"')
# On the pages; a server on loopback stands in for it.
HOST = "https://data.example.org"


def pages(pattern: str) -> list[Path]:
    """Pages with code whose path below ``docs`` matches a pattern."""
    blocks = re.compile("^```(python|bash)", re.MULTILINE)
    return sorted(path for path in DOCS.glob(pattern) if blocks.search(path.read_text(encoding="utf-8")))


def run(page: Path, folder: Path, shell: Shell) -> None:
    """Run all code blocks of a page; raises what the first one raises that does not do as the page says."""
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


def two_predictions(folder: Path) -> None:
    """Two predictions files of different accuracy, as runs of the baselines would have left them."""
    for name, noise in (("a", 0.2), ("b", 0.4)):
        (folder / "runs" / name).mkdir(parents=True)
        predict(folder / "runs" / name / "predictions.zip", folder / "demo" / "luisa-sim", noise, 0)


def own_data(site: Path) -> None:
    """Three dates of Landsat, a label map and polygons, as a user might have them."""
    world.write_raster(site / "labels.tif", *world.labels())
    left, bottom, right, top = world.BOUNDS
    middle = (left + right) / 2
    shapes = [shapely.box(left, bottom, middle, top), shapely.box(middle, bottom, right, top)]
    geopandas.GeoDataFrame({"use": ["forest", "farmland"]}, geometry=shapes, crs=3035).to_file(site / "landuse.gpkg")
    for day, red in (("20180702", 0.1), ("20180718", 0.2), ("20180803", 0.3)):
        world.write_landsat(site / f"landsat_{day}_sr.tif", site / f"landsat_{day}_qa_pixel.tif", (red, 0.3))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
