"""``s3://``: streamed by TensorStore, everything else by s3fs.

Both use credentials, region and endpoint of the usual AWS_* variables.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from lulcbench.remote.addresses import join
from lulcbench.remote.backends.filesystem import FilesystemStore
from lulcbench.remote.stores import Kvstore, ListedFile


class S3Store(FilesystemStore):
    """A prefix in a bucket."""

    schemes = ("s3",)

    def kvstore(self, folder: str, files: Sequence[ListedFile]) -> Kvstore:
        """See ``Store``."""
        url = urlsplit(join(self.url, folder) + "/")
        spec: dict[str, Any] = {"driver": "s3", "bucket": url.netloc, "path": url.path.lstrip("/")}
        if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
            spec |= {"endpoint": endpoint, "aws_region": os.environ.get("AWS_REGION", "us-east-1")}
        return Kvstore(spec)
