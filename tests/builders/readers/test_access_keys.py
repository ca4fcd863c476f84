"""Files of CDSE and of buckets: servers check tokens and signatures; keys are shown nowhere."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote

import numpy as np
import pytest

from builders.readers import access
from builders.readers.access import AccessError
from builders.readers.opening import opened
from builders.readers.servers import server_stamp
from tests import loopback
from tests.builders.readers.stores import SECRET, VALUES, Store, part, store

pytestmark = pytest.mark.usefixtures("fresh_access")


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
        for step in (match[2], match[3], "s3", "aws4_request", text):
            signing = hmac.new(signing, step.encode(), hashlib.sha256).digest()
        return path if hmac.compare_digest(signing.hex(), match[5]) else None


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
