"""``hf://owner/name[@revision][/path]``: a dataset repository on the Hugging Face hub (or the one of HF_ENDPOINT).

The hub redirects requests for files to signed addresses that expire after about an hour. TensorStore does not follow
redirects, so these addresses are resolved here, for all files of an array at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from lulcbench.errors import LulcbenchError, NetworkError, ReleaseNotFoundError
from lulcbench.remote.backends.web import WebStore, http_spec
from lulcbench.remote.retry import retrying
from lulcbench.remote.stores import MAX_MANIFEST_BYTES, Kvstore, ListedFile, Progress, Publication, describe

LIFETIME = 1800.0  # seconds for which resolved addresses are used; well below their lifetime
WORKERS = 32
_ADDRESS = re.compile(r"hf://(?P<repository>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<folder>.*))?")


class HuggingFaceStore(WebStore):
    """A dataset repository, or a folder in it, at a revision."""

    schemes = ("hf",)
    has_revisions = True
    remedy = "Check name, revision and network; a private repository needs HF_TOKEN or 'hf auth login'."

    def __init__(self, url: str) -> None:
        super().__init__(url)
        parts = _ADDRESS.fullmatch(url.rstrip("/"))
        if parts is None:
            raise LulcbenchError(f"{url!r} names no repository.", "Write hf://owner/name or hf://owner/name@revision.")
        self.repository: str = parts["repository"]
        self.revision = parts["revision"]
        self.folder: str = parts["folder"] or ""

    def at(self, revision: str) -> Self:
        """See ``Store``."""
        return type(self)(f"hf://{self.repository}@{revision}" + (f"/{self.folder}" if self.folder else ""))

    def pinned(self) -> Self:
        """The repository at the current commit of the branch or tag."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        if re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            return self
        try:
            info = self._ask(lambda: HfApi().dataset_info(self.repository, revision=self.revision))
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise ReleaseNotFoundError(f"Cannot read {self.url}: {describe(error)}.", self.remedy) from error
        except LulcbenchError:
            raise
        except Exception as error:  # see retry
            raise self.failed(f"Cannot read {self.url}", error) from error
        return self.at(str(info.sha))

    def request(self, path: str) -> tuple[str, dict[str, str]]:
        """See ``WebStore``; with the token of HF_TOKEN or 'hf auth login' if there is one."""
        from huggingface_hub import hf_hub_url

        marker = "FILE"
        root = hf_hub_url(self.repository, marker, repo_type="dataset", revision=self.revision).removesuffix(marker)
        token = _token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return root + "/".join(filter(None, (self.folder, path))), headers

    def kvstore(self, folder: str, files: Sequence[ListedFile]) -> Kvstore:
        """See ``Store``. The address of every file is requested, so that missing files are errors."""
        with ThreadPoolExecutor(WORKERS) as pool:
            addresses = list(pool.map(self._address, files))
        # A shard of only nodata has no file: the hub responds with 404, which TensorStore reads as nodata.
        layers: list[dict[str, Any]] = [{"prefix": "", "base": super().kvstore(folder, files).spec}]
        for file, address in zip(files, addresses, strict=True):
            layers.append({"exact": file.path.removeprefix(f"{folder}/"), "base": self._spec(address)})
        return Kvstore({"driver": "kvstack", "layers": layers}, LIFETIME, complete=True)

    def publish(self, publication: Publication, progress: Progress = lambda done, total: None) -> str:
        """Create the repository, upload missing files, and tag the version.

        huggingface_hub's ``upload_folder`` uploads in parallel, a large folder in several commits, and skips what the
        hub already has, so that the same command continues after an interruption. Files of arrays that only an earlier
        version has are deleted, and with them its manifest, which tags of it keep. The manifest follows the files, and
        the tag ``v<version>`` is created last: a release is complete if it has one.
        """
        from huggingface_hub import HfApi

        if self.folder or self.revision:
            raise LulcbenchError(
                f"{self.url} is more than a repository.", "Give hf://owner/name; the tag is the version."
            )
        repository, tag, api = self.repository, f"v{publication.version}", HfApi()
        message = f"{publication.id}, digest {publication.digest}"

        def upload(
            allow: list[str] | None = None, ignore: list[str] | None = None, delete: list[str] | None = None
        ) -> None:
            self._ask(
                lambda: api.upload_folder(
                    repo_id=repository,
                    folder_path=publication.folder,
                    repo_type="dataset",
                    commit_message=message,
                    allow_patterns=allow,
                    ignore_patterns=ignore,
                    delete_patterns=delete,
                )
            )

        tagged = self.at(tag)
        try:
            # Every step can be repeated without effect.
            self._ask(lambda: api.create_repo(repository, repo_type="dataset", exist_ok=True))
            refs = self._ask(lambda: api.list_repo_refs(repository, repo_type="dataset"))
            if tag in {ref.name for ref in refs.tags}:
                publication.check_same(tagged.read_bytes(publication.manifest, MAX_MANIFEST_BYTES), tagged.url)
                return tagged.url
            before = [*(f"{folder}/*" for folder in publication.folders), publication.manifest]
            upload(ignore=[".*", publication.manifest], delete=before)
            upload(allow=[publication.manifest])
            self._ask(
                lambda: api.create_tag(repository, tag=tag, tag_message=message, repo_type="dataset", exist_ok=True)
            )
        except LulcbenchError:
            raise
        except Exception as error:  # see retry
            raise NetworkError(
                f"Cannot publish to {self.url}: {describe(error)}.",
                "Log in with 'hf auth login' or set HF_TOKEN; what was uploaded is kept, run the same command again.",
            ) from error
        return tagged.url

    def _ask[T](self, attempt: Callable[[], T]) -> T:
        """Call the hub library with retries; raises the errors of the library.

        Raises:
            LulcbenchError: HF_HUB_OFFLINE is set.
        """
        from huggingface_hub.errors import OfflineModeIsEnabled

        try:
            return retrying(self.url)(attempt)
        except OfflineModeIsEnabled as error:
            raise LulcbenchError(
                f"{self.url} was not asked: HF_HUB_OFFLINE is set.", "Unset it to download."
            ) from error

    def _address(self, file: ListedFile) -> str:
        """Address of the content of a file."""
        from huggingface_hub import get_hf_file_metadata
        from huggingface_hub.errors import EntryNotFoundError

        url, _ = self.request(file.path)
        try:
            metadata = self._ask(lambda: get_hf_file_metadata(url, token=_token()))
        except EntryNotFoundError as error:
            raise FileNotFoundError(f"{file.path} is missing") from error
        if metadata.size != file.bytes:
            raise FileNotFoundError(f"{file.path} is {metadata.size} bytes long instead of {file.bytes}")
        return metadata.location

    def _spec(self, address: str) -> dict[str, Any]:
        url = urlsplit(address)
        own, headers = self.request("")
        # The token is only for the hub; storage refuses signed requests with a token.
        same = urlsplit(own)[:2] == url[:2]
        spec = http_spec(address, headers if same else {}) | {"path": unquote(url.path)}
        return spec | ({"base_url": f"{spec['base_url']}?{url.query}"} if url.query else {})


def _token() -> str | None:
    """The token of the user, unless HF_HUB_DISABLE_IMPLICIT_TOKEN is set."""
    from huggingface_hub import constants, get_token

    return None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
