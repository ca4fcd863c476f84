"""The notebooks run from top to bottom. Their cells run in this process; ``make test-peers`` runs them in a kernel."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderboard.scoring.worker import Worker
from leaderboard.server import make_server
from leaderboard.settings import Settings
from leaderboard.store.accounts import create_token
from leaderboard.web.app import create_app
from tests.docs.pages import DOCS
from tests.leaderboard.harness import wait_until

pytestmark = pytest.mark.slow

FOLDER = DOCS / "notebooks"
PUBLIC = "http://board.example.org"  # over HTTPS the board would redirect requests for loopback
ROWS = ("level 1", "level 2", "level 3")


class Notebook:
    """A notebook whose cells run one after the other, with the names of the cells before.

    Lines that begin with ``!`` are commands, as in IPython; one that fails is an error here.

    Attributes:
        shown: what the last line of each cell shows, by the number of the cell.
        printed: what commands printed.
    """

    def __init__(self, name: str, **replaced: str) -> None:
        self.path = FOLDER / f"{name}.ipynb"
        content = json.loads(self.path.read_text(encoding="utf-8"))
        assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
        self.cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        self.replaced = replaced
        self.shown: dict[int, Any] = {}
        self.printed = ""
        self.names: dict[str, Any] = {"__name__": "__main__", "_shell": self._shell}

    def run(self) -> Notebook:
        for number, cell in enumerate(self.cells):
            code = "".join(cell["source"])
            for name, value in self.replaced.items():
                code = re.sub(rf"^{name} = .*$", f"{name} = {value!r}", code, flags=re.MULTILINE)
            code = re.sub(r"^( *)!(.*)$", r"\1_shell(rf'''\2''')", code, flags=re.MULTILINE)
            tree = ast.parse(code, f"{self.path.name}, cell {number}")
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, f"{self.path.name}, cell {number}", "exec"), self.names)  # noqa: S102 - of the docs
            if last is not None:
                shown = eval(compile(ast.Expression(last.value), self.path.name, "eval"), self.names)  # noqa: S307 - of the docs
                if shown is not None and not code.rstrip().endswith(";"):
                    self.shown[number] = shown
        return self

    def _shell(self, command: str) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", command], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        self.printed += done.stdout + done.stderr


@pytest.fixture
def board(folder: Path, tmp_path: Path, release_root: Path) -> Iterator[dict[str, str]]:
    """Address and token of a leaderboard on loopback that scores what it gets."""
    settings = Settings(data=tmp_path / "data", ledger=tmp_path / "ledger", releases=(release_root,), public_url=PUBLIC)
    app = create_app(settings)
    server, over = make_server(app, "127.0.0.1", 0), threading.Event()

    def score() -> None:
        worker = Worker(app.state.db, settings)
        while not over.wait(0.05):
            worker.step()

    threads = [threading.Thread(target=server.run), threading.Thread(target=score)]
    for thread in threads:
        thread.start()
    wait_until(lambda: server.started, "the server to start")
    port = server.servers[0].sockets[0].getsockname()[1]
    yield {"BOARD": f"http://127.0.0.1:{port}", "TOKEN": create_token(app.state.db, "Ours")}
    over.set()
    server.should_exit = True
    for thread in threads:
        thread.join()


def is_picture(shown: Any) -> bool:
    return bool(shown._repr_png_().startswith(b"\x89PNG"))


def test_a_first_model_learns(folder: Path) -> None:
    done = Notebook("first-model").run()
    accuracy = next(iter(done.names["accuracy"].items()))
    assert accuracy[0] == "network"
    assert 0 < accuracy[1] <= 1
    assert done.names["loss"].item() < 2.0  # of 14 classes: 2.6 before training
    assert [is_picture(shown) for shown in done.shown.values() if hasattr(shown, "savefig")] == [True, True]


def test_an_own_model_is_scored_and_submitted(folder: Path, board: dict[str, str]) -> None:
    source = (FOLDER / "own-model.ipynb").read_text(encoding="utf-8")
    assert "PredictionWriter" in source
    assert "to_label_grid" in source
    done = Notebook("own-model", **board).run()
    table = next(shown for shown in done.shown.values() if hasattr(shown, "columns"))
    assert tuple(table.columns) == ROWS
    value = f"{done.names['scores'].levels[3]['overall_accuracy']:.3f}"
    assert table.loc["overall_accuracy", "level 3"].startswith(value)
    assert f"{PUBLIC}/submissions/" in done.printed  # where the result is


def test_nothing_is_sent_without_a_token(folder: Path) -> None:
    cells = Notebook("own-model").cells
    assert "TOKEN = None" in "".join(cells[0]["source"])
    assert "".join(cells[-1]["source"]).index("if TOKEN:") < "".join(cells[-1]["source"]).index("submit")


def test_own_scenes_become_a_release(folder: Path) -> None:
    done = Notebook("own-release").run()
    assert "3 scenes of landsat" in done.printed
    data = list(done.shown.values())[-1]
    assert int((data["split"] != "").sum()) == 6  # the rest are rows of padding between the splits
    # The labels that were written are those of the release, and reflectance is that of their classes.
    codes, expected = done.names["labels"], done.names["spectra"]
    train = done.names["train"]
    sample = train[0]
    west, south, east, north = sample["bounds"].tolist()
    rows = slice(int((3_129_600 - north) / 50), int((3_129_600 - south) / 50))
    columns = slice(int((west - 4_320_000) / 50), int((east - 4_320_000) / 50))
    present = set(codes[rows, columns].ravel().tolist())
    assert {int(i) + 1 for i in sample["mask"].unique()} == {code // 1000 for code in present}
    assert set(expected) >= present


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs_and_their_links_lead_somewhere(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            continue
        for link in re.findall(r"\]\(([\w./-]+)", "".join(cell["source"])):
            assert (path.parent / link).exists(), link
