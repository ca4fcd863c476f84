"""How files on servers are opened: tokens and keys, who pays, and how GDAL meets faults of the network.

Addresses in catalogs and lock files stay as archives publish them. What a server asks for is added when a file is
opened, and is never part of a message, a log or a file of a build. Credentials come from environment variables.

- Planetary Computer: a shared access signature (SAS) per container, in the query string, renewed before it expires.
  ``PC_SDK_SUBSCRIPTION_KEY`` (optional) raises the limits; ``PC_SDK_SAS_URL`` is another token service.
- Copernicus Data Space (CDSE): ``s3://eodata`` with ``CDSE_S3_ACCESS_KEY`` and ``CDSE_S3_SECRET_KEY``; its HTTPS
  downloads with an OAuth token for ``CDSE_USERNAME`` and ``CDSE_PASSWORD``.
- ``s3://usgs-landsat`` and other buckets: the usual ``AWS_…`` variables and files. Where the requester pays, the
  account of these keys is charged.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

import httpx2
from rasterio.session import Session

from lulcbench.errors import LulcbenchError, NetworkError
from lulcbench.remote.retry import ATTEMPTS, retrying

SAS = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
BLOBS = re.compile(r"https://(?P<account>[a-z0-9]+)\.blob\.core\.windows\.net/(?P<container>[^/?]+)/")
CDSE = re.compile(r"https://(zipper|download|catalogue|datahub)\.(dataspace\.copernicus|creodias)\.eu/")
CDSE_TOKENS = "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
EARLY = 300  # seconds before its end, or half of its life if that is less, at which a token is renewed
TIMEOUT = 60  # seconds that a server may be silent
REFUSED = re.compile(
    r"\b40[13]\b|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidCredentials|NoCredentials"
)
# Parameters of signatures and keys in addresses: Azure (SAS), Amazon S3 and CloudFront, Google Cloud Storage, tokens.
_AZURE = {"sig", "se", "st", "sp", "sv", "sr", "ss", "srt", "spr", "sip", "skoid", "sktid", "skt", "ske", "sks", "skv"}
_SIGNED = re.compile(
    r"(?i)x-(amz|goog)-.*|awsaccesskeyid|googleaccessid|expires|policy|key-pair-id|.*(signature|token|secret|password)|"
    r"key|.*[_-]key|.*(api|access|subscription)key"
)

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")

# GDAL's settings for files on servers. These are whole without sidecars (masks, georeference), and looking for sidecars
# costs requests; local folders are looked into. Faults that pass are retried; a silent server is given up.
HTTP = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": str(ATTEMPTS - 1),
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_RETRY_CODES": "408,425,429,500,502,503,504",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",  # bytes per second
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
}


class AccessError(NetworkError):
    """A server refuses a file: credentials are missing, wrong or expired."""


class Access(NamedTuple):
    """How to open a file.

    Attributes:
        path: that GDAL opens.
        url: that an HTTP client opens; empty for S3.
        headers: of HTTP requests.
        options: of GDAL.
        keys: credentials of S3 by the names of GDAL's options.
    """

    path: str
    url: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    keys: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Bucket:
    """How a bucket of S3 is read.

    Attributes:
        endpoint: address of the service; empty is that of AWS.
        region: of AWS.
        keys: environment variables of the access key and the secret key; empty is what GDAL finds by itself.
        anonymous: whether no key is needed.
        requester_pays: whether the account of the keys is charged.
    """

    endpoint: str = ""
    region: str = ""
    keys: tuple[str, str] | None = None
    anonymous: bool = False
    requester_pays: bool = False


AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
BUCKETS = {
    "eodata": Bucket("https://eodata.dataspace.copernicus.eu", keys=("CDSE_S3_ACCESS_KEY", "CDSE_S3_SECRET_KEY")),
    "usgs-landsat": Bucket(region="us-west-2", requester_pays=True),
    "sentinel-s2-l1c": Bucket(region="eu-central-1", requester_pays=True),
    "sentinel-s2-l2a": Bucket(region="eu-central-1", requester_pays=True),
    "sentinel-cogs": Bucket(region="us-west-2", anonymous=True),
    "glad.landsat.ard": Bucket(anonymous=True),
}


class Keys(Session):  # type: ignore[misc]
    """Keys of S3 as rasterio expects them; it refuses them among its other options."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self.credentials = dict(keys)

    def get_credential_options(self) -> dict[str, str]:
        """The keys as options of GDAL."""
        return self.credentials


class _Token(NamedTuple):
    text: str
    renew: float  # time at which it is replaced
    expires: float


_tokens: dict[str, _Token] = {}
_secrets: set[str] = set()
_lock = threading.Lock()


def access(href: str) -> Access:
    """How to open a file on a server.

    Raises:
        AccessError: credentials are missing or refused.
        NetworkError: a token service cannot be reached.
    """
    if href.startswith("s3://"):
        return _bucket(href)
    if match := BLOBS.match(href):
        href, _, query = href.partition("?")
        if "sig=" in query and not _is_over(query):
            _hide(query)
            return Access(f"{href}?{query}", f"{href}?{query}")
        token = _sas(match["account"], match["container"])
        signed = f"{href}?{token}" if token else href
        return Access(signed, signed)
    if CDSE.match(href):
        header = ("Authorization", f"Bearer {_cdse()}")
        return Access(href, href, (header,), (("GDAL_HTTP_HEADERS", ": ".join(header)),))
    return Access(href, href)


def unsigned(href: str) -> str:
    """An address without signatures, keys and passwords, as it may be published.

    Examples:
        >>> unsigned("https://a.blob.core.windows.net/c/B04.tif?sv=2024&sig=secret")
        'https://a.blob.core.windows.net/c/B04.tif'
        >>> unsigned("https://me:secret@example.org/B04.tif?band=4")
        'https://example.org/B04.tif?band=4'
    """
    try:
        parts = urlsplit(href)
    except ValueError:  # not an address
        return href.partition("?")[0]
    if not parts.scheme or not parts.netloc:
        return href
    query = parse_qsl(parts.query, keep_blank_values=True)
    azure = _AZURE if any(name == "sig" for name, _ in query) else ()
    kept = [(name, value) for name, value in query if not (_SIGNED.fullmatch(name) or name in azure)]
    host = parts.netloc.rpartition("@")[2]
    if len(kept) == len(query) and host == parts.netloc:
        return href
    return urlunsplit((parts.scheme, host, parts.path, urlencode(kept), parts.fragment))


def unsigned_text(text: str) -> str:
    """A text in which addresses have no signatures, keys and passwords, in GDAL's forms as well.

    Examples:
        >>> unsigned_text("no bands in 'https://example.org/B04.tif?token=secret', skipped")
        "no bands in 'https://example.org/B04.tif', skipped"
        >>> unsigned_text("/vsicurl?max_retry=3&url=https%3A%2F%2Fexample.org%2FB04.tif%3Ftoken%3Dsecret")
        '/vsicurl/https://example.org/B04.tif'
    """
    prefix, curl, query = text.partition("/vsicurl?")
    if curl and (address := dict(parse_qsl(query)).get("url")):
        text = f"{prefix}/vsicurl/{address}"
    if _ADDRESS.match(text):
        text = unsigned(text)  # as a whole: paths may have spaces
    return _ADDRESS.sub(lambda match: unsigned(match[0]), text)


def _is_over(query: str) -> bool:
    """Whether a signature states an end (``se``) that has passed: catalogs may be stored with signed addresses."""
    try:
        end = datetime.fromisoformat(parse_qs(query)["se"][0])
    except (KeyError, ValueError):
        return False
    return (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp() <= time.time()


def renew(href: str) -> bool:
    """Forget the token of a file that was refused; whether it has one, so that another attempt makes sense."""
    kind = _kind(href)
    with _lock:
        _tokens.pop(kind, None)
    return bool(kind)


def refused(href: str, error: object) -> AccessError | None:
    """The error for a file that its server refuses; None if it failed for another reason."""
    if not re.match(r"\w+://", href) or not REFUSED.search(str(error)):
        return None
    if BLOBS.match(href):
        remedy = (
            "Run again, which fetches a new token; check the machine's clock, and PC_SDK_SUBSCRIPTION_KEY if it is set."
        )
    elif href.startswith("s3://"):
        bucket = _bucket_of(href)
        names = bucket.keys or AWS_KEYS
        remedy = f"Check {' and '.join(names)}" + (
            "; this account is charged for the requests." if bucket.requester_pays else "; keys of CDSE expire."
        )
    elif CDSE.match(href):
        remedy = "Check CDSE_USERNAME and CDSE_PASSWORD, and run again, which fetches a new token."
    else:
        remedy = "Its server asks for credentials; sign the address, or use another catalog."
    return AccessError(f"{href} is refused by its server: {redact(str(error))}.", remedy)


def redact(text: str) -> str:
    """A text without the secrets that were used in this process."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return re.sub(r"(?i)(sig(?:nature)?=|bearer )[^&\s'\"]+", r"\1…", text)


def s3_options(href: str) -> dict[str, Any]:
    """Options of ``fsspec``'s file system for a bucket."""
    bucket = _bucket_of(href)
    options: dict[str, Any] = {"anon": bucket.anonymous, "requester_pays": bucket.requester_pays}
    if bucket.keys:
        options |= dict(zip(("key", "secret"), _environment(href, bucket.keys), strict=True))
    client = {"endpoint_url": bucket.endpoint} if bucket.endpoint else {}
    client |= {"region_name": bucket.region} if bucket.region else {}
    return options | {"client_kwargs": client, "config_kwargs": {"s3": {"addressing_style": "path"}}}


def _bucket_of(href: str) -> Bucket:
    return BUCKETS.get(href.split("/")[2], Bucket())


def _bucket(href: str) -> Access:
    bucket = _bucket_of(href)
    options = {"AWS_VIRTUAL_HOSTING": "FALSE"}  # names with dots do not fit certificates
    if bucket.endpoint:
        scheme, _, host = bucket.endpoint.partition("://")
        options |= {"AWS_S3_ENDPOINT": host, "AWS_HTTPS": "YES" if scheme == "https" else "NO"}
    if bucket.requester_pays:
        options["AWS_REQUEST_PAYER"] = "requester"
    keys: dict[str, str] = {"AWS_REGION": bucket.region} if bucket.region else {}
    if bucket.anonymous:
        options["AWS_NO_SIGN_REQUEST"] = "YES"
    elif bucket.keys:
        keys |= dict(zip(AWS_KEYS, _environment(href, bucket.keys), strict=True))
    return Access(
        "/vsis3/" + href.removeprefix("s3://"), options=tuple(options.items()), keys=tuple(sorted(keys.items()))
    )


def _environment(href: str, names: tuple[str, ...]) -> list[str]:
    lacking = [name for name in names if not os.environ.get(name)]
    if lacking:
        raise AccessError(
            f"{href} needs credentials: {' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set.",
            "Create an account and keys at https://dataspace.copernicus.eu, and set them in the environment."
            if names[0].startswith("CDSE")
            else "Set them in the environment.",
        )
    values = [os.environ[name] for name in names]
    _hide(*values[1:])
    return values


def http_client(*, follow_redirects: bool = False) -> httpx2.Client:
    """A client with the timeout and the certificates that all requests share."""
    return httpx2.Client(verify=_certificates(), timeout=TIMEOUT, follow_redirects=follow_redirects)


@cache
def _certificates() -> ssl.SSLContext:
    """Reading the certificates takes a tenth of a second, so it is done once, not once per client."""
    return httpx2.create_ssl_context()


def _sas(account: str, container: str) -> str:
    """The SAS of a container; empty for one that the Planetary Computer does not sign, which is public."""

    def fetch() -> _Token:
        base = os.environ.get("PC_SDK_SAS_URL", SAS).rstrip("/")
        key = os.environ.get("PC_SDK_SUBSCRIPTION_KEY")
        headers = {"Ocp-Apim-Subscription-Key": key} if key else {}
        with http_client() as client:
            answer = client.get(f"{base}/{account}/{container}", headers=headers)
        if answer.status_code == 404:
            return _Token("", float("inf"), float("inf"))
        answer.raise_for_status()
        content = answer.json()
        return _token(content["token"], datetime.fromisoformat(content["msft:expiry"]).timestamp())

    return _current(f"{account}/{container}", fetch, "The Planetary Computer's token service")


def _cdse() -> str:
    """An OAuth token of CDSE."""
    user, password = _environment("A download of CDSE", ("CDSE_USERNAME", "CDSE_PASSWORD"))

    def fetch() -> _Token:
        form = {"client_id": "cdse-public", "grant_type": "password", "username": user, "password": password}
        with http_client() as client:
            answer = client.post(CDSE_TOKENS, data=form)
        if answer.status_code in (400, 401):
            raise AccessError("CDSE refuses the credentials.", "Check CDSE_USERNAME and CDSE_PASSWORD.")
        answer.raise_for_status()
        content = answer.json()
        return _token(content["access_token"], time.time() + float(content["expires_in"]))

    return _current("CDSE", fetch, "CDSE's token service")


def _kind(href: str) -> str:
    """Name of the token that a file is read with."""
    match = BLOBS.match(href)
    return f"{match['account']}/{match['container']}" if match else "CDSE" if CDSE.match(href) else ""


def _token(text: str, expires: float) -> _Token:
    now = time.time()
    if expires <= now:
        raise AccessError(
            "A token service gives a token that has expired.", "Check the machine's clock, and run again."
        )
    return _Token(text, expires - min(EARLY, (expires - now) / 2), expires)


def _current(name: str, fetch: Callable[[], _Token], service: str) -> str:
    with _lock:  # one request for all threads
        token = _tokens.get(name)
        if token is None or time.time() >= token.renew:
            try:
                token = retrying(service)(fetch)
            except (httpx2.HTTPError, KeyError, TypeError, ValueError) as error:
                if isinstance(error, LulcbenchError):
                    raise
                raise NetworkError(
                    f"{service} gives no token for {name}: {redact(str(error))}.", "Run again later."
                ) from None
            if token.text:
                _hide(token.text)
            _tokens[name] = token
        return token.text


class _Redacting(logging.Filter):
    """Takes secrets out of what libraries log."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


_REDACTED = (
    "httpx2",
    "lulcbench.remote.retry",
    *(f"rasterio.{name}" for name in ("_err", "_env", "_io", "_base", "env")),
)
_redacting = _Redacting()


def _hide(*secrets: str) -> None:
    """From now on these are taken out of messages and logs."""
    _secrets.update(secret for secret in secrets if len(secret) >= 4)
    for name in _REDACTED:
        logging.getLogger(name).addFilter(_redacting)
