"""Signed files of the Planetary Computer: a server checks every request and lets tokens expire; secrets stay secret."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pytest
from rasterio.windows import Window

from builders.readers import access
from builders.readers.access import AccessError
from builders.readers.locators import locate
from builders.readers.opening import opened
from builders.readers.servers import server_stamp
from builders.readers.windows import read_window
from lulcbench.errors import NetworkError
from tests import loopback
from tests.builders.readers.stores import SECRET, VALUES, Store, part, store

pytestmark = pytest.mark.usefixtures("fresh_access")


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
        values, _ = read_window(dataset, 1, Window(0, row, 1200, 1))
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


def test_downloads_of_the_usgs_are_read_from_its_bucket() -> None:
    name = "collection02/level-2/standard/oli-tirs/2018/197/023/LC08_L2SP/LC08_SR_B4.TIF"
    assert locate(f"https://landsatlook.usgs.gov/data/{name}") == f"s3://usgs-landsat/{name}"


def test_an_address_that_is_signed_already_is_used_as_it_is() -> None:
    href = f"https://acc.blob.core.windows.net/c/a.tif?se=x&sig={SECRET}"
    assert access.access(href).path == href
    assert SECRET not in access.redact(f"GET {href} failed")


def test_an_address_whose_signature_is_over_is_signed_again(planetary: tuple[type[Planetary], str]) -> None:
    """As in catalogs that were stored with signed addresses."""
    _, url = planetary
    old = f"{url}/signed/a.tif?st=2020-01-01T00%3A00%3A00Z&se=2020-01-02T00%3A00%3A00Z&sig={SECRET}"
    assert np.array_equal(part(old, 5), VALUES[5])
    assert access.access(old).path.endswith(f"sig={SECRET}0")


@pytest.mark.parametrize(
    ("virtual", "address"),
    [("/vsicurl/https://e.org/a.tif", "https://e.org/a.tif"), ("/vsis3/bucket/a.tif", "s3://bucket/a.tif")],
)
def test_virtual_paths_of_servers_are_their_addresses(virtual: str, address: str) -> None:
    """So that a file that was replaced is noticed, and credentials are used."""
    assert locate(virtual) == address


@pytest.mark.parametrize(
    ("href", "public"),
    [
        ("https://a.blob.core.windows.net/c/B04.tif?se=2026&sp=r&sv=1&sr=c&sig=k%3D", "https://a.blob.core.windows.net/c/B04.tif"),
        ("https://b.s3.amazonaws.com/B04.tif?X-Amz-Credential=k&X-Amz-Signature=s&versionId=3", "https://b.s3.amazonaws.com/B04.tif?versionId=3"),
        ("https://d.cloudfront.net/B04.tif?Expires=1&Key-Pair-Id=k&Signature=s", "https://d.cloudfront.net/B04.tif"),
        ("https://storage.googleapis.com/b/B04.tif?GoogleAccessId=me&X-Goog-Signature=s", "https://storage.googleapis.com/b/B04.tif"),
        ("https://me:secret@example.org:81/B04.tif?api_key=k#x", "https://example.org:81/B04.tif#x"),
        ("https://example.org/B04.tif?sp=1&token=k", "https://example.org/B04.tif?sp=1"),
        ("https://example.org/B 4.tif?a=1&b=", "https://example.org/B 4.tif?a=1&b="),
        ("s3://usgs-landsat/B04.TIF", "s3://usgs-landsat/B04.TIF"),
        ("${SCENES}/B04.tif?sig=x", "${SCENES}/B04.tif?sig=x"),
        ("https://[broken/B04.tif?sig=x", "https://[broken/B04.tif"),
    ],
)  # fmt: skip
def test_published_addresses_have_no_signatures(href: str, public: str) -> None:
    assert access.unsigned(href) == public


@pytest.mark.parametrize(
    "text",
    [
        "Item a is Level-1C, according to 'https://e.org/MSIL1C/B04.tif?sv=1&sig=SECRET%3D'.",
        "/vsizip//vsicurl/https://e.org/a.zip?sig=SECRET/x.tif",
        "/vsicurl?max_retry=3&url=https%3A%2F%2Fe.org%2Fa.tif%3Fsig%3DSECRET",
        "/vsicurl_streaming/https://e.org/a.tif?X-Amz-Signature=SECRET",
        "https://e.org/a.tif?requestSignature=SECRET",
        "https://e.org/a.tif?key=SECRET and https://me:SECRET@e.org/b.tif",
        "https://e.org/a.tif?PL_API_KEY=SECRET",
        "https://e.org/a.tif?X-Api-Key=SECRET",
        "https://e.org/a.tif?auth_token=SECRET",
        "https://e.org/B 4.tif?token=SECRET",
        "https://e.org/a.tif and https://me:SECRET@e.org/b.tif",
    ],
    ids=range(11),
)
def test_published_texts_have_no_signatures(text: str) -> None:
    assert "SECRET" not in access.unsigned_text(text)
    assert "e.org/" in access.unsigned_text(text)


def test_a_name_that_is_too_long_for_a_file_stays_as_it_is() -> None:
    name = f"/data/<VRTDataset>{'x' * 400}</VRTDataset>"
    assert locate(name) == name
