"""Record of a download: where its files came from, which release it is, and which part was requested."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from lulcbench._files import write_json
from lulcbench._parsing import MAX_TEXT_BYTES, parse_json, read_limited
from lulcbench.release.entries import FileInfo

SOURCES = ".sources"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Provenance:
    """The record of a downloaded folder.

    Attributes:
        digest: digest of the release.
        places: addresses of the release, best first, for ``lulcbench.remote.open_store``.
        parts: ``split/array`` of everything that was requested, sorted. Missing files of these are an error.
    """

    digest: str
    places: tuple[str, ...]
    parts: tuple[str, ...]

    @classmethod
    def load(cls, root: str | os.PathLike[str]) -> Provenance | None:
        """Read the record at ``root``; None if there is none, or if it cannot be read."""
        try:
            content = parse_json(read_limited(Path(root) / SOURCES, MAX_TEXT_BYTES))
            return cls(str(content["digest"]), tuple(map(str, content["places"])), tuple(map(str, content["parts"])))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is ignored, since it cannot be read: %s", Path(root) / SOURCES, error)
            return None

    def write(self, root: str | os.PathLike[str]) -> None:
        """Write the record at ``root``; recorded parts of the same release are kept."""
        before = Provenance.load(root)
        known = before.parts if before and before.digest == self.digest else ()
        content = asdict(self) | {"parts": sorted({*known, *self.parts})}
        write_json(Path(root) / SOURCES, content)


def parts(files: Iterable[FileInfo]) -> tuple[str, ...]:
    """``split/array`` of shards, sorted, without repetition."""
    return tuple(sorted({f"{file.split}/{file.array}" for file in files if file.split is not None}))
