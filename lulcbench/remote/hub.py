"""Reading shards straight from the Hugging Face hub.

The hub answers a request for a file with a redirect to where its bytes are, an address that is signed and lapses after
about an hour. TensorStore follows no redirects, so the addresses are asked for here, all files of an array at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from lulcbench.remote.addresses import hub_headers, join, kvstore, resolve
from lulcbench.remote.stores import patiently

LASTING = 1800.0  # seconds that addresses are used; well below what they are good for
WORKERS = 32


class ListedFile(Protocol):
    """A file as the manifest lists it: its path below the release and its size in bytes."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def bytes(self) -> int: ...  # noqa: D102


def hub_kvstore(root: str, folder: str, files: Sequence[ListedFile]) -> dict[str, Any]:
    """TensorStore's description of a folder of a release on the hub, good for ``LASTING`` seconds.

    Args:
        root: ``hf://owner/name@commit``.
        folder: of one array, such as ``train.zarr/landsat_2018``.
        files: all files below it.

    Raises:
        FileNotFoundError: a file is missing or of another size than the manifest says.
        Exception: whatever the hub library raises where the hub does not answer.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        addresses = list(pool.map(lambda file: _address(root, file), files))
    # Shards of nodata alone have no file; asking the hub for one says so.
    layers: list[dict[str, Any]] = [{"prefix": "", "base": kvstore(root, folder)}]
    for file, address in zip(files, addresses, strict=True):
        layers.append({"exact": file.path.removeprefix(f"{folder}/"), "base": _http(root, address)})
    return {"driver": "kvstack", "layers": layers}


def _address(root: str, file: ListedFile) -> str:
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.errors import EntryNotFoundError

    where = join(root, file.path)
    try:
        found = patiently(lambda: get_hf_file_metadata(resolve(where), headers=hub_headers()), where)
    except EntryNotFoundError as error:
        raise FileNotFoundError(f"{file.path} is missing") from error
    if found.size != file.bytes:
        raise FileNotFoundError(f"{file.path} is {found.size} bytes long instead of {file.bytes}")
    return found.location


def _http(root: str, address: str) -> dict[str, Any]:
    url, own = urlsplit(address), urlsplit(resolve(root))
    # The token is for the hub alone; storage even refuses requests that have one besides their signature.
    headers = hub_headers() if (url.scheme, url.netloc) == (own.scheme, own.netloc) else {}
    return {
        "driver": "http",
        "base_url": f"{url.scheme}://{url.netloc}" + (f"?{url.query}" if url.query else ""),
        "path": unquote(url.path),
        "headers": [f"{name}: {value}" for name, value in headers.items()],
    }
