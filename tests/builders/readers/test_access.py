"""Signed files: servers on loopback check every request and let tokens expire; secrets are shown nowhere."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import numpy as np
import pytest

from builders.readers import access, raster
from builders.readers.access import AccessError
from builders.readers.locators import locate
from builders.readers.raster import opened, read_window
from builders.readers.servers import server_stamp
from lulcbench.errors import NetworkError
from tests import loopback
from tests.builders import world

SECRET = "kX9verySecretKey0001"  # noqa: S105
VALUES = np.random.default_rng(0).integers(1, 60_000, (1200, 1200)).astype(np.uint16)


class Store(loopback.Ranges):
    """A folder whose files need a signature. ``check`` gives the path of an accepted request."""

    etag = '"1"'
    refused = 0

    def check(self) -> str | None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.check()
        if path is None:
            type(self).refused += 1
            self.send_error(403)
            return
        self.path = path
        super().do_GET() if self.command == "GET" else super().do_HEAD()

    def json(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Planetary(Store):
    """A store and its token service: the newest ``valid`` tokens are good."""

    issued: list[str]
    valid: set[str]
    life = 3600.0
    busy = 0

    def check(self) -> str | None:
        path, _, query = self.path.partition("?")
        return path if parse_qs(query).get("sig", [""])[0] in self.valid else None

    def do_GET(self) -> None:
        if not self.path.startswith("/token/"):
            super().do_GET()
        elif type(self).busy:
            type(self).busy -= 1
            self.send_error(503)
        elif self.path != "/token/acc/signed":
            self.send_error(404)
        else:
            token = f"{SECRET}{len(self.issued)}"
            self.issued.append(token)
            self.valid.clear()
            self.valid.add(token)
            end = datetime.now(UTC) + timedelta(seconds=self.life)
            self.json({"token": f"se=x&sig={token}", "msft:expiry": end.isoformat().replace("+00:00", "Z")})


class Cdse(Store):
    """Downloads and an identity service: tokens for the right password."""

    issued: list[str]
    valid: set[str]

    def check(self) -> str | None:
        return self.path if self.headers.get("Authorization", "").removeprefix("Bearer ") in self.valid else None

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form != {
            "client_id": ["cdse-public"], "grant_type": ["password"], "username": ["eo"], "password": [SECRET],
        }:  # fmt: skip
            self.json({"error": "invalid_grant"}, 401)
            return
        token = f"{SECRET}{len(self.issued)}"
        self.issued.append(token)
        self.valid.clear()
        self.valid.add(token)
        self.json({"access_token": token, "expires_in": 600})


class S3(Store):
    """A bucket that verifies signatures of version 4, and that the requester agrees to pay."""

    key, secret, pays = "AKIDEXAMPLE", SECRET, False

    def check(self) -> str | None:
        match = re.match(
            r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d+)/([\w-]+)/s3/aws4_request, ?"
            r"SignedHeaders=([\w;-]+), ?Signature=(\w+)",
            self.headers.get("Authorization", ""),
        )
        if not match or match[1] != self.key:
            return None
        if self.pays and (self.headers.get("x-amz-request-payer") != "requester" or "request-payer" not in match[4]):
            return None
        path, _, query = self.path.partition("?")
        headers = "".join(f"{name}:{self.headers[name].strip()}\n" for name in match[4].split(";"))
        pairs = sorted(pair if "=" in pair else pair + "=" for pair in query.split("&") if pair)
        request = [self.command, quote(path, safe="/-_.~%"), "&".join(pairs), headers, match[4]]
        request.append(self.headers["x-amz-content-sha256"])
        digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
        scope = f"{match[2]}/{match[3]}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", self.headers["x-amz-date"], scope, digest])
        signing = f"AWS4{self.secret}".encode()
        for part in (match[2], match[3], "s3", "aws4_request", text):
            signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
        return path if hmac.compare_digest(signing.hex(), match[5]) else None


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No token, key or open file of an earlier test."""
    for name in (
        "CDSE_USERNAME",
        "CDSE_PASSWORD",
        "CDSE_S3_ACCESS_KEY",
        "CDSE_S3_SECRET_KEY",
        "PC_SDK_SUBSCRIPTION_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(access, "_tokens", {})
    raster._kept.cache_clear()
    yield
    raster._kept.cache_clear()


def store(folder: Path, container: str = "signed") -> Path:
    """A raster in a container, and another beside it."""
    transform, _ = world.frame(30)
    for name in ("a.tif", "b.tif"):
        world.write_raster(folder / "acc" / container / name, VALUES, transform, world.UTM)
    return folder / "acc"


def part(href: str, row: int) -> np.ndarray:
    """One row of a file as the builder reads it."""
    values, missing = read_window(opened(href), 1, raster.Window(0, row, 1200, 1))
    assert missing is None
    return values[0]


@pytest.fixture
def planetary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[type[Planetary], str]]:
    server = type("Server", (Planetary,), {"issued": [], "valid": set(), "refused": 0, "busy": 0})
    with loopback.serve(store(tmp_path), server) as url:
        base = url.removesuffix("/acc")
        monkeypatch.setenv("PC_SDK_SAS_URL", f"{base}/token")
        blobs = re.escape(base) + r"/(?P<account>[a-z0-9]+)/(?P<container>[^/?]+)/"
        monkeypatch.setattr(access, "BLOBS", re.compile(blobs))
        yield server, url


def test_files_are_signed_and_one_token_serves_a_container(planetary: tuple[type[Planetary], str]) -> None:
    server, url = planetary
    for name in ("a.tif", "b.tif"):
        assert np.array_equal(part(f"{url}/signed/{name}", 700), VALUES[700])
        assert server_stamp(f"{url}/signed/{name}")
    assert len(server.issued) == 1
    assert server.refused == 0


def test_a_token_is_renewed_before_it_expires(
    planetary: tuple[type[Planetary], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five minutes early; the file that is open already is opened again."""
    server, url = planetary
    now = access.time.time()
    part(f"{url}/signed/a.tif", 0)
    for later, tokens in ((3200, 1), (3400, 2), (6500, 2), (6800, 3)):
        monkeypatch.setattr(access.time, "time", lambda later=later: now + later)
        server.life = 3600 + later
        assert np.array_equal(part(f"{url}/signed/a.tif", 100 + later // 10), VALUES[100 + later // 10])
        assert len(server.issued) == tokens
    assert server.refused == 0


def test_a_token_that_is_revoked_in_the_middle_is_replaced(planetary: tuple[type[Planetary], str]) -> None:
    server, url = planetary
    dataset = opened(f"{url}/signed/a.tif")
    for row in (300, 1100):  # the open file is refused when it is read
        server.valid.clear()
        values, _ = read_window(dataset, 1, raster.Window(0, row, 1200, 1))
        assert np.array_equal(values[0], VALUES[row])
    server.valid.clear()  # and another one when it is opened
    assert np.array_equal(part(f"{url}/signed/b.tif", 500), VALUES[500])
    assert server.refused > 0


def test_a_token_service_that_is_busy_is_asked_again(planetary: tuple[type[Planetary], str], patient: None) -> None:
    server, url = planetary
    server.busy = 3
    assert np.array_equal(part(f"{url}/signed/a.tif", 5), VALUES[5])


def test_a_token_service_that_stays_down_is_named(planetary: tuple[type[Planetary], str], patient: None) -> None:
    server, url = planetary
    server.busy = 1000
    with pytest.raises(NetworkError, match=r"Planetary Computer's token service gives no token for acc/signed: .*503"):
        part(f"{url}/signed/a.tif", 5)


def test_a_file_that_stays_refused_is_an_error_with_remedy(
    planetary: tuple[type[Planetary], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = planetary
    monkeypatch.setattr(server, "check", lambda self: None)
    with pytest.raises(
        AccessError, match=r"(?s)a\.tif is refused by its server: .*403.*Run again, which fetches a new"
    ):
        part(f"{url}/signed/a.tif", 5)
    with pytest.raises(AccessError, match="is refused by its server"):
        server_stamp(f"{url}/signed/a.tif")


def test_a_token_that_has_expired_when_it_is_issued_is_an_error(planetary: tuple[type[Planetary], str]) -> None:
    server, url = planetary
    server.life = -5
    with pytest.raises(AccessError, match=r"(?s)gives a token that has expired.*clock"):
        part(f"{url}/signed/a.tif", 5)


def test_a_container_that_is_not_signed_is_public(planetary: tuple[type[Planetary], str], tmp_path: Path) -> None:
    server, url = planetary
    store(tmp_path, "public")
    server.valid.add("")
    assert np.array_equal(part(f"{url}/public/a.tif", 5), VALUES[5])
    assert server.issued == []


def test_no_message_or_log_holds_a_token(
    planetary: tuple[type[Planetary], str], caplog: pytest.LogCaptureFixture, patient: None, tmp_path: Path
) -> None:
    _, url = planetary
    caplog.set_level(logging.DEBUG)
    part(f"{url}/signed/a.tif", 5)
    server_stamp(f"{url}/signed/a.tif")
    errors = []
    path = tmp_path / "acc" / "signed" / "b.tif"
    path.write_bytes(path.read_bytes()[:3000])
    for call in (
        lambda: part(f"{url}/signed/b.tif", 1100),
        lambda: part(f"{url}/signed/c.tif", 0),
        lambda: server_stamp(f"{url}/signed/c.tif"),
    ):
        with pytest.raises(ValueError, match=re.escape(url)) as error:
            call()
        errors.append(str(error.value))
    assert "sig=" not in "".join(errors)
    assert f"{SECRET}0" in access.access(f"{url}/signed/a.tif").path
    assert SECRET not in "".join(errors)
    assert "HTTP Request" in caplog.text
    assert SECRET not in caplog.text


@pytest.fixture
def cdse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[type[Cdse], str]]:
    server = type("Server", (Cdse,), {"issued": [], "valid": set(), "refused": 0})
    with loopback.serve(store(tmp_path), server) as url:
        monkeypatch.setattr(access, "CDSE", re.compile(re.escape(url)))
        monkeypatch.setattr(access, "CDSE_TOKENS", f"{url}/tokens")
        monkeypatch.setenv("CDSE_USERNAME", "eo")
        monkeypatch.setenv("CDSE_PASSWORD", SECRET)
        yield server, url


def test_downloads_of_cdse_carry_a_token_that_is_renewed(
    cdse: tuple[type[Cdse], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = cdse
    now = access.time.time()
    assert np.array_equal(part(f"{url}/signed/a.tif", 5), VALUES[5])
    assert server_stamp(f"{url}/signed/a.tif")
    monkeypatch.setattr(access.time, "time", lambda: now + 400)
    assert np.array_equal(part(f"{url}/signed/a.tif", 900), VALUES[900])
    assert len(server.issued) == 2
    server.valid.clear()
    assert np.array_equal(part(f"{url}/signed/a.tif", 1100), VALUES[1100])
    assert len(server.issued) >= 3


def test_a_wrong_password_of_cdse_is_named_but_not_shown(
    cdse: tuple[type[Cdse], str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CDSE_PASSWORD", "wrong-" + SECRET)
    with pytest.raises(AccessError, match=r"(?s)CDSE refuses the credentials.*CDSE_PASSWORD") as error:
        part(f"{cdse[1]}/signed/a.tif", 5)
    assert SECRET not in str(error.value) + caplog.text


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AccessError, match=r"(?s)CDSE_USERNAME and CDSE_PASSWORD are not set.*dataspace"):
        access.access("https://zipper.dataspace.copernicus.eu/odata/v1/Products(1)/Nodes(B02.jp2)/$value")
    monkeypatch.setenv("CDSE_S3_ACCESS_KEY", "id")
    with pytest.raises(AccessError, match="CDSE_S3_SECRET_KEY is not set"):
        opened("s3://eodata/Sentinel-2/B02.jp2")


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[S3]]:
    """Two buckets: CDSE's with its own keys, and that of the USGS, where the requester pays."""
    server = type("Server", (S3,), {"refused": 0})
    store(tmp_path)
    (tmp_path / "acc").rename(tmp_path / "eodata")
    (tmp_path / "usgs-landsat").symlink_to(tmp_path / "eodata")
    with loopback.serve(tmp_path / "eodata", server) as url:
        end = url.removesuffix("/eodata")
        names = ("CDSE_S3_ACCESS_KEY", "CDSE_S3_SECRET_KEY")
        buckets = {
            "eodata": access.Bucket(end, "default", keys=names),
            "usgs-landsat": access.Bucket(end, "us-west-2", requester_pays=True),
        }
        monkeypatch.setattr(access, "BUCKETS", buckets)
        yield server


def test_the_bucket_of_cdse_is_read_with_its_own_keys(s3: type[S3], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of AWS are set too, and are not sent."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OTHER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other-secret")
    monkeypatch.setenv("CDSE_S3_ACCESS_KEY", S3.key)
    monkeypatch.setenv("CDSE_S3_SECRET_KEY", SECRET)
    assert np.array_equal(part("s3://eodata/signed/a.tif", 5), VALUES[5])
    assert server_stamp("s3://eodata/signed/a.tif") == server_stamp("s3://eodata/signed/a.tif") != ""
    assert np.array_equal(part("s3://eodata/signed/a.tif", 1100), VALUES[1100])
    assert s3.refused == 0


def test_the_requester_pays_for_landsat(s3: type[S3], monkeypatch: pytest.MonkeyPatch) -> None:
    s3.pays = True
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert np.array_equal(part("s3://usgs-landsat/signed/a.tif", 1100), VALUES[1100])
    assert server_stamp("s3://usgs-landsat/signed/a.tif")
    assert s3.refused == 0
    monkeypatch.setitem(access.BUCKETS, "usgs-landsat", access.Bucket(access.BUCKETS["eodata"].endpoint, "us-west-2"))
    with pytest.raises(AccessError, match=r"(?s)b\.tif is refused by its server.*AWS_ACCESS_KEY_ID"):
        part("s3://usgs-landsat/signed/b.tif", 0)


def test_keys_that_are_wrong_are_an_error_that_names_the_variables(
    s3: type[S3], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CDSE_S3_ACCESS_KEY", S3.key)
    monkeypatch.setenv("CDSE_S3_SECRET_KEY", "wrong-" + SECRET)
    for call in (lambda: part("s3://eodata/signed/a.tif", 5), lambda: server_stamp("s3://eodata/signed/a.tif")):
        with pytest.raises(
            AccessError, match=r"(?s)is refused by its server.*CDSE_S3_SECRET_KEY; keys of CDSE expire"
        ) as error:
            call()
        assert SECRET not in str(error.value)
    assert SECRET not in caplog.text


def test_downloads_of_the_usgs_are_read_from_its_bucket() -> None:
    name = "collection02/level-2/standard/oli-tirs/2018/197/023/LC08_L2SP/LC08_SR_B4.TIF"
    assert locate(f"https://landsatlook.usgs.gov/data/{name}") == f"s3://usgs-landsat/{name}"


def test_an_address_that_is_signed_already_is_used_as_it_is() -> None:
    href = f"https://acc.blob.core.windows.net/c/a.tif?se=x&sig={SECRET}"
    assert access.access(href).path == href
    assert SECRET not in access.redact(f"GET {href} failed")
