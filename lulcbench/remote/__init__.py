"""Access to remote files of any content: addresses, stores, and one retry policy."""

from __future__ import annotations

from lulcbench.remote.addresses import is_remote, join
from lulcbench.remote.stores import Kvstore, ListedFile, Publication, Store, open_store, pinned

__all__ = ["Kvstore", "ListedFile", "Publication", "Store", "is_remote", "join", "open_store", "pinned"]
