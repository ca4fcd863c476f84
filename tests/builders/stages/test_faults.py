"""Servers with faults: what passes is tried again, what stays is named; tokens are renewed and written nowhere."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from builders.readers import access, opening, servers
from builders.stages import materialize, pack, plan, search
from lulcbench.errors import NetworkError
from tests import loopback
from tests.builders.stages.faulty import Faulty, build, forget, on_server, pixels

SECRET = "kX9verySecretKey"  # noqa: S105

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([500, 502, 503], id="errors of the server"),
        pytest.param([429, 429], id="too many requests"),
        pytest.param(["cut", "cut"], id="answers cut off"),
        pytest.param(["drop", "drop"], id="connections closed"),
        pytest.param(["slow"], id="a slow answer"),
        pytest.param(["wrong", "wrong"], id="wrong bytes"),
        pytest.param([503, "cut", 429, "drop", 502, "wrong"], id="all of them"),
    ],
)
def test_faults_that_pass_leave_no_trace(
    server: type[Faulty], local: dict[str, str], tmp_path: Path, faults: list[Any]
) -> None:
    """The build is that of the same scenes on disk."""
    with loopback.serve(tmp_path / "scenes", server) as url:
        recipe, space = on_server(tmp_path, url)
        rows = plan.plan(recipe, space)
        scenes = search.search(recipe, space, rows)
        forget(scenes)
        server.faults, server.only = list(faults), "s1.tif"
        built = build(recipe, space)
    assert len(scenes) == 3
    assert server.faults == []
    assert pixels(built) == local
    assert all(note.damaged == () for _, note in built.values())


@pytest.mark.slow
@pytest.mark.parametrize("fault", [503, "cut", "slow"])
def test_a_server_that_stays_broken_ends_the_build_which_goes_on_later(
    server: type[Faulty], local: dict[str, str], tmp_path: Path, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left out because of the network. Attempts are bounded."""
    if fault == "slow":  # each attempt takes the seconds that a slow answer may take
        monkeypatch.setitem(access.HTTP, "GDAL_HTTP_MAX_RETRY", "1")
        monkeypatch.setattr(opening, "READS", 1)
        monkeypatch.setattr(servers, "SLOW", 0.2)
    with loopback.serve(tmp_path / "scenes", server) as url:
        recipe, space = on_server(tmp_path, url)
        rows = plan.plan(recipe, space)
        scenes = search.search(recipe, space, rows)
        forget(scenes)
        server.faults, server.only = [fault] * 1000, "s1.tif"
        server.reads = 0
        with pytest.raises(NetworkError, match=r"(?s)s1\.tif cannot be reached.*What is finished is kept; run again"):
            materialize.materialize(recipe, space, rows, scenes, None)
        assert server.reads < 70
        server.faults = []
        assert pixels(build(recipe, space)) == local


class Signed(Faulty):
    """The Planetary Computer: a token of a container is good for some requests."""

    issued: list[str]
    valid: dict[str, int]
    uses = 8
    refused = 0

    def do_HEAD(self) -> None:
        self.checked(lambda: super(Signed, self).do_HEAD())

    def do_GET(self) -> None:
        if self.path.startswith("/token/"):
            token = f"{SECRET}{len(self.issued)}"
            self.issued.append(token)
            self.valid[token] = self.uses
            end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
            body = json.dumps({"token": f"sig={token}", "msft:expiry": end}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self.checked(lambda: super(Signed, self).do_GET())

    def checked(self, answer: Callable[[], None]) -> None:
        path, _, query = self.path.partition("?")
        token = parse_qs(query).get("sig", [""])[0]
        if self.valid.get(token, 0) < 1:
            type(self).refused += 1
            self.send_error(403)
            return
        self.valid[token] -= 1
        self.path = path
        answer()


@pytest.mark.slow
def test_tokens_that_end_in_the_middle_of_a_build_are_replaced_and_written_nowhere(
    server: type[Faulty], local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    signed = type("SignedServer", (Signed,), {"faults": [], "reads": 0, "etags": {}, "issued": [], "valid": {}})
    with loopback.serve(tmp_path / "scenes", signed) as url:
        base = url.removesuffix("/scenes")
        monkeypatch.setattr(access, "_tokens", {})
        monkeypatch.setenv("PC_SDK_SAS_URL", f"{base}/token")
        pattern = re.escape(base.rpartition(":")[0]) + r"(?P<account>:\d+)/(?P<container>[^/?]+)/"
        monkeypatch.setattr(access, "BLOBS", re.compile(pattern))
        recipe, space = on_server(tmp_path, url)
        built = build(recipe, space)
        pack.pack(recipe, space, plan.read(space.splits), None, False)
    assert pixels(built) == local
    assert len(signed.issued) >= 3
    assert signed.refused >= 2
    assert SECRET not in caplog.text
    for folder in (space.root, space.work):
        texts = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
        assert texts
        assert not [text for text in texts if SECRET.encode() in text]
