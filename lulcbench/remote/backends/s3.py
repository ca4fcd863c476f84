"""``s3://``: streamed by TensorStore, everything else by s3fs.

Both use credentials, region and endpoint of the usual AWS_* variables and files. Where there are no credentials, or
AWS_NO_SIGN_REQUEST is set, requests are unsigned, which public buckets answer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from lulcbench.remote.addresses import join
from lulcbench.remote.backends.filesystem import FilesystemStore
from lulcbench.remote.stores import Kvstore, ListedFile


class S3Store(FilesystemStore):
    """A prefix in a bucket."""

    schemes = ("s3",)

    def options(self) -> dict[str, Any]:
        """See ``FilesystemStore``."""
        return {"anon": True} if unsigned() else {}

    def kvstore(self, folder: str, files: Sequence[ListedFile]) -> Kvstore:
        """See ``Store``."""
        url = urlsplit(join(self.url, folder) + "/")
        spec: dict[str, Any] = {"driver": "s3", "bucket": url.netloc, "path": url.path.lstrip("/")}
        if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
            spec |= {"endpoint": endpoint, "aws_region": os.environ.get("AWS_REGION", "us-east-1")}
        # The source of credentials is named where it is known: the search for others reports missing files on stderr.
        if unsigned():
            spec["aws_credentials"] = {"type": "anonymous"}
        elif os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"):
            spec["aws_credentials"] = {"type": "environment"}
        return Kvstore(spec)


def unsigned() -> bool:
    """Whether requests are sent without a signature."""
    if os.environ.get("AWS_NO_SIGN_REQUEST", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return True
    return not os.environ.get("AWS_ACCESS_KEY_ID") and not _has_credentials()


@cache
def _has_credentials() -> bool:
    """Whether files or services of the machine have credentials; asking the service of a cloud takes up to a second."""
    from botocore.session import get_session

    return get_session().get_credentials() is not None
