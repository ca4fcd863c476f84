"""Where a release lies: a folder, or a place that is read over the network without downloading it first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lulcbench.errors import LulcbenchError, NetworkError

MAX_MANIFEST_BYTES = 64 * 2**20  # some 250,000 files
SCHEMES = ("https", "http", "s3", "hf")


def is_remote(root: str | os.PathLike[str]) -> bool:
    """Whether ``root`` is a URL rather than a folder."""
    return "://" in os.fspath(root)


def join(root: str | os.PathLike[str], *parts: str) -> str:
    """A path below ``root``, URL or folder."""
    return "/".join([os.fspath(root).rstrip("/"), *parts]) if is_remote(root) else str(Path(root).joinpath(*parts))


def resolve(root: str) -> str:
    """The URL that bytes are read from: ``hf://owner/name[@revision]`` stands for its address on the hub."""
    if not root.startswith("hf://"):
        return root
    from huggingface_hub import hf_hub_url

    owner, name, revision, path = split_hub(root)
    marker = "FILE"
    url = hf_hub_url(f"{owner}/{name}", marker, repo_type="dataset", revision=revision)
    return url.removesuffix(marker) + path


def hub_headers() -> dict[str, str]:
    """What the hub wants to be told, with the token of HF_TOKEN or 'hf auth login' if there is one."""
    from huggingface_hub.utils._headers import build_hf_headers

    headers: dict[str, str] = build_hf_headers()
    return headers


def split_hub(place: str) -> tuple[str, str, str | None, str]:
    """(owner, name, revision, path) of ``hf://owner/name[@revision][/path]``.

    Raises:
        LulcbenchError: it does not look like that.
    """
    owner, _, rest = place.removeprefix("hf://").partition("/")
    name, _, path = rest.partition("/")
    name, _, revision = name.partition("@")
    if not owner or not name:
        raise LulcbenchError(f"{place!r} names no repository.", "Write hf://owner/name or hf://owner/name@revision.")
    return owner, name, revision or None, path


def read_remote(url: str, limit: int) -> bytes:
    """The whole content of a small file behind a URL.

    Raises:
        NetworkError: it is not there, or cannot be reached.
        LulcbenchError: it is larger than ``limit`` bytes.
    """
    import fsspec

    options = {"headers": hub_headers()} if url.startswith("hf://") else {}
    try:
        with fsspec.open(resolve(url), "rb", **options) as file:
            content: bytes = file.read(limit + 1)
    except Exception as error:  # every file system of fsspec has exceptions of its own
        raise NetworkError(
            f"Cannot read {url}: {type(error).__name__}: {error}.", "Check address and network."
        ) from error
    if len(content) > limit:
        raise LulcbenchError(f"{url} is larger than {limit} bytes.", "It is not what it should be.")
    return content


def kvstore(root: str | os.PathLike[str], *parts: str) -> dict[str, Any]:
    """TensorStore's description of a folder below ``root``.

    S3 takes credentials, region and endpoint from the usual AWS_* variables.

    Raises:
        LulcbenchError: no way to read that kind of URL.
    """
    if not is_remote(root):
        return {"driver": "file", "path": str(Path(root).joinpath(*parts)) + "/"}
    url = urlsplit(resolve(join(root, *parts)) + "/")
    if url.scheme == "s3":
        spec: dict[str, Any] = {"driver": "s3", "bucket": url.netloc, "path": url.path.lstrip("/")}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return spec | (
            {"endpoint": endpoint, "aws_region": os.environ.get("AWS_REGION", "us-east-1")} if endpoint else {}
        )
    if url.scheme in ("http", "https"):
        headers = hub_headers() if os.fspath(root).startswith("hf://") else {}
        return {
            "driver": "http",
            "base_url": f"{url.scheme}://{url.netloc}",
            "path": url.path,
            "headers": [f"{name}: {value}" for name, value in headers.items()],
        }
    raise LulcbenchError(f"Cannot read {os.fspath(root)} directly.", f"Use {', '.join(SCHEMES)}, or download it first.")
