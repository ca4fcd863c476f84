"""Download of releases: selected parts, resumable, every file checked against the SHA-256 of the manifest."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from lulcbench.download._transfers import PARTIAL, fetch
from lulcbench.errors import LulcbenchError, NetworkError, NotAvailableError, ReleaseNotFoundError
from lulcbench.release import MANIFEST, FileInfo, Manifest
from lulcbench.release.provenance import SOURCES, Provenance, parts
from lulcbench.release.verify import missing_files, wrong
from lulcbench.remote import Store, is_remote, open_store
from lulcbench.remote.stores import Progress

ORGANISATION = "hf://lulcbench"
# Environment variable with further addresses, separated by spaces; {name} stands for the name of the release.
MIRRORS = "LULCBENCH_MIRRORS"
LOCK = ".download.lock"
_ID = re.compile(r"(.+)-(\d+\.\d+\.\d+)")
log = logging.getLogger(__name__)


def download(
    source: str,
    root: str | os.PathLike[str],
    *,
    splits: str | Sequence[str] | None = None,
    sensors: str | Sequence[str] | None = None,
    years: int | Sequence[int] | None = None,
    mirrors: str | Sequence[str] = (),
    revision: str | None = None,
    offline: bool | None = None,
    workers: int = 8,
    progress: Progress = lambda done, total: None,
) -> Manifest:
    """Download a release, or a part of it, unless ``root`` has it already.

    Files are written under a temporary name, hashed, and then renamed. An interrupted download is continued by the next
    one. If several processes download to one root, one works and the others wait.

    Args:
        source: name of a release on the hub (``luisa-sim``) or its id (``luisa-sim-1.0.0``), or an address:
            ``hf://owner/name[@revision]``, a URL that fsspec reads, a folder.
        root: destination folder; it may already have a part of the release.
        splits: one or several splits; None means all, an empty list only the manifest, the index and other files that
            do not belong to a split.
        sensors: one or several sensors; None means all. Labels are always included.
        years: one or several years; None means all.
        mirrors: further addresses, used if the first one fails.
        revision: branch, tag or commit on the hub; of other addresses ``v`` and the version, such as ``v1.0.0``.
        offline: only check that everything has been downloaded; None follows HF_HUB_OFFLINE.
        workers: number of parallel transfers.
        progress: called with the bytes done and the total, from any thread, one call at a time.

    Returns:
        The manifest.

    Raises:
        ReleaseNotFoundError: no address has a release of that name.
        NetworkError: no address could be read, or none has an intact copy of a file.
        NotAvailableError: the release has no such split, sensor or year.
        LulcbenchError: the disk has too little space, ``root`` has another release or other files of the same names, or
            ``source`` and ``revision`` contradict each other.

    Examples:
        >>> manifest = download(str(root), "part", splits="test", sensors="landsat", years=2018)
        >>> manifest.id
        'tiny-0.1.0'
        >>> LuisaSeg("part", split="test", sensors="landsat")[0]["tile"] in Release.open(root).tiles("test").ids
        True
    """
    if is_remote(root):
        raise LulcbenchError(
            f"Cannot download to {os.fspath(root)}: it is a URL.", "Give a folder; a URL is read without downloading."
        )
    folder = Path(root)
    splits, sensors, years = _several(splits), _several(sensors), _several(years)
    if offline is None:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    by_name = _by_name(source, folder)
    if offline:
        release = Manifest.load(folder)
        if by_name and not _is_name(source, release):
            raise _other(folder, release, source)
        _check_record(folder, release, source, revision, by_name)
        missing = missing_files(folder, wanted(release, splits, sensors, years))
        if missing:
            raise LulcbenchError(
                f"{len(missing)} files of {release.id} are not at {folder}, such as {missing[0].path}.",
                "Offline mode is on (HF_HUB_OFFLINE or offline=True); switch it off to download them.",
            )
        return release
    present = Manifest.load(folder) if (folder / MANIFEST).is_file() else None
    if (
        present
        and by_name
        and revision is None
        and _is_name(source, present)
        and not missing_files(folder, wanted(present, splits, sensors, years))
    ):
        return present
    stores = _stores(source, _several(mirrors) or (), revision, by_name)
    stores, release = _manifest(stores, revision or stores[0].revision)
    if by_name and not _is_name(source, release):
        raise ReleaseNotFoundError(
            f"{stores[0].url} holds {release.id}, not {source}.", "Give the address itself if that is what you want."
        )
    files = wanted(release, splits, sensors, years)
    if _holds(folder, release) and not missing_files(folder, files):
        return release  # without writing, so that the root may be read-only
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK):
            # Checked again: another process may have downloaded a release in the meantime. Without a manifest, files
            # are of an interrupted download, possibly of another release, so that sizes do not suffice.
            if _holds(folder, release):
                missing = missing_files(folder, files)
            else:
                missing = _differing(folder, files, workers)
                _check_own(folder, release, missing)
            log.info("%s: %d of %d files are fetched to %s", release.id, len(missing), len(files), folder)
            fetch(stores, folder, missing, workers, progress)
            # The manifest is written last: a folder with a manifest is complete, and its record has the address.
            Provenance(release.digest, tuple(store.url for store in stores), parts(files)).write(folder)
            release.write(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return release


def repair(
    root: str | os.PathLike[str],
    files: Sequence[FileInfo],
    source: str | None = None,
    workers: int = 8,
    progress: Progress = lambda done, total: None,
) -> None:
    """Fetch damaged files again, from ``source`` or from the address of the download.

    Raises:
        NetworkError: no address has intact copies.
        LulcbenchError: it is not known where the release came from.
    """
    folder = Path(root)
    stores, failures = [], []
    for address in _origins(folder, source):
        try:
            stores.append(_open(address).pinned())
        except LulcbenchError as error:
            failures.append(error.what)
    if not stores:
        raise NetworkError(f"Cannot repair {folder}: {' '.join(failures)}", "Give another address: --from ….")
    try:
        with FileLock(folder / LOCK):
            fetch(stores, folder, files, workers, progress)
    except OSError as error:
        raise _unwritable(folder, error) from error


def recover(root: str | os.PathLike[str], source: str | None = None) -> Manifest:
    """Fetch a damaged or missing manifest again, identified by the recorded digest.

    Raises:
        NetworkError: no address has it.
        LulcbenchError: it is not known which release it was.
    """
    folder = Path(root)
    known = Provenance.load(folder)
    if known is None:
        raise LulcbenchError(
            f"{folder} does not say which release it was.",
            f"Delete {MANIFEST} and download into the same folder again: files that are right are kept.",
        )
    failures = []
    for address in _origins(folder, source):
        try:
            release = Manifest.load(_open(address).pinned().url)
        except LulcbenchError as error:
            failures.append(error.what)
            continue
        if release.digest == known.digest:
            release.write(folder)
            return release
        failures.append(f"{address} holds {release.id} ({release.digest[:12]}…).")
    raise NetworkError(
        f"Cannot repair {folder / MANIFEST} ({known.digest[:12]}…): {' '.join(failures)}",
        "Give another address: --from ….",
    )


def wanted(
    release: Manifest,
    splits: Sequence[str] | None = None,
    sensors: Sequence[str] | None = None,
    years: Sequence[int] | None = None,
) -> list[FileInfo]:
    """List the files of a part of a release, including tables and texts.

    Raises:
        NotAvailableError: the release has no such split, sensor or year, or a sensor has none of the years.
    """
    for name in sensors or ():
        has = sorted({year for key in release.sensor(name).arrays(name) for year in range(key.first, key.last + 1)})
        if years and not set(years) & set(has):
            raise NotAvailableError(
                f"{release.id} has no {name} for {' or '.join(map(str, years))}.",
                f"It has {', '.join(map(str, has))}.",
            )
    for year in years or ():
        if year not in release.years:
            raise NotAvailableError(
                f"{release.id} has no year {year}.", f"It has {', '.join(map(str, release.years))}."
            )
    chosen = [release.check_split(split) for split in (release.splits if splits is None else splits)]
    common = [file for file in release.files if file.array is None]
    return common + release.array_files(chosen, sensors, years)


def _differing(folder: Path, files: Sequence[FileInfo], workers: int) -> list[FileInfo]:
    """List the files that are missing or differ."""
    with ThreadPoolExecutor(workers) as pool:
        faults = pool.map(lambda file: wrong(folder / file.path, file), files)
        return [file for file, fault in zip(files, faults, strict=True) if fault]


def _holds(folder: Path, release: Manifest) -> bool:
    """Whether the folder has this release, or a part of it.

    Raises:
        LulcbenchError: it has another release.
    """
    if not (folder / MANIFEST).is_file():
        return False
    present = Manifest.load(folder)
    if present.digest != release.digest:
        raise _other(folder, present, f"{release.id} ({release.digest[:12]}…)")
    return True


def _check_own(folder: Path, release: Manifest, files: Sequence[FileInfo]) -> None:
    """Refuse to replace files of the user, such as the README.md of a project.

    Raises:
        LulcbenchError: a file is there, and no download to the folder was begun.
    """
    if (folder / PARTIAL).is_dir() or (folder / SOURCES).is_file():
        return
    for file in files:
        if os.path.lexists(folder / file.path):
            raise LulcbenchError(
                f"{folder / file.path} is there already and is not the file of {release.id}.",
                "Give a folder of its own, or move the file elsewhere.",
            )


def _check_record(folder: Path, release: Manifest, source: str, revision: str | None, by_name: bool) -> None:
    """Compare a release with what is requested offline, as far as it is recorded.

    Raises:
        LulcbenchError: it is of another version, or it is not known which revision it is.
    """
    store = None if by_name else open_store(source)
    revision = revision or (store.revision if store else None)
    known = Provenance.load(folder)
    places = known.places if known and known.digest == release.digest else ()
    if revision and revision != f"v{release.version}" and not any(f"@{revision}" in place for place in places):
        raise _other(folder, release, f"revision {revision} of {source}, as far as is known offline")
    if store and places and not any(place.startswith(store.url.partition("@")[0]) for place in places):
        log.warning("%s at %s came from %s, not from %s", release.id, folder, places[0], source)


def _other(folder: Path, present: Manifest, requested: str) -> LulcbenchError:
    return LulcbenchError(
        f"{folder} holds {present.id} ({present.digest[:12]}…), not {requested}.",
        "Use a folder of its own for each release.",
    )


def _unwritable(folder: Path, error: OSError) -> LulcbenchError:
    return LulcbenchError(f"Cannot write to {folder}: {error}.", "Choose a folder that can be written and has room.")


def _several[T: (str, int)](chosen: T | Sequence[T] | None) -> Sequence[T] | None:
    """Wrap a scalar in a tuple."""
    return (chosen,) if isinstance(chosen, (str, int)) else chosen


def _origins(folder: Path, source: str | None) -> Sequence[str]:
    """Addresses of the release of a folder."""
    known = Provenance.load(folder)
    names = (source,) if source else known.places if known else ()
    if not names:
        raise LulcbenchError(
            f"{folder} does not say where it came from.", "Name a place: --from hf://… or URL or folder."
        )
    return names


def _is_name(source: str, release: Manifest) -> bool:
    return source in (release.name, release.id)


def _by_name(source: str, folder: Path) -> bool:
    """Whether ``source`` is the name of a release on the hub, rather than an address.

    A folder of that name is an address only if it has a release and is not the destination.
    """
    if "://" in source or Path(source).name != source:
        return False
    return not (Path(source) / MANIFEST).is_file() or Path(source).resolve() == folder.resolve()


def _stores(source: str, mirrors: Sequence[str], revision: str | None, by_name: bool) -> list[Store]:
    addresses = [source, *mirrors]
    if by_name:
        # A release's id is the name of its repository and the tag that publishing gave it.
        match = _ID.fullmatch(source)
        repository = f"{match[1]}@v{match[2]}" if match else source
        addresses[0] = f"{ORGANISATION}/{repository}"
        addresses += [entry.replace("{name}", source) for entry in os.environ.get(MIRRORS, "").split()]
    # Folders of mirrors need not exist, such as those of a disk that is not mounted.
    stores = [_open(addresses[0]), *map(open_store, addresses[1:])]
    if not revision:
        return stores
    if stores[0].revision not in (None, revision):
        raise LulcbenchError(
            f"{stores[0].url} is revision {stores[0].revision}, not {revision}.", "Name one of them, not both."
        )
    return [store.at(revision) for store in stores]


def _open(address: str) -> Store:
    """Open the store at an address; a folder must exist."""
    if not is_remote(address) and not Path(address).is_dir():
        raise ReleaseNotFoundError(
            f"{address!r} is neither a release on the hub, a URL, nor a folder.",
            "Check the name; URLs start with s3://, …",
        )
    return open_store(address)


def _manifest(stores: Sequence[Store], revision: str | None) -> tuple[list[Store], Manifest]:
    """Read the manifest of the first store that has one; also returns this store, pinned, and the following ones.

    If a revision is requested, stores without revisions must have the version of which it is the tag.

    Raises:
        ReleaseNotFoundError: no store has a release.
        NetworkError: no store has one, and some could not be reached.
    """
    failures = []
    for i, store in enumerate(stores):
        try:
            found, manifest = _load(store.pinned())
            if revision and not store.has_revisions and revision != f"v{manifest.version}":
                raise ReleaseNotFoundError(f"{found.url} has no revision {revision}, but {manifest.id}.")
            return [found, *stores[i + 1 :]], manifest
        except LulcbenchError as error:
            log.warning("%s: %s", store.url, error.what)
            failures.append(error)
    kind = NetworkError if any(isinstance(error, NetworkError) for error in failures) else ReleaseNotFoundError
    raise kind(
        f"Found no release: {' '.join(error.what for error in failures)}",
        "Check name, revision and network, or name a mirror; 'lulcbench list' shows the names of known releases.",
    )


def _load(store: Store) -> tuple[Store, Manifest]:
    """The manifest of a store, or of the only release in a folder of it, as publishing to a folder leaves them.

    Raises:
        ReleaseNotFoundError: there is none.
        NotAvailableError: several folders of the store have one.
        NetworkError: the store cannot be read.
    """
    try:
        return store, Manifest.load(store.url)
    except ReleaseNotFoundError:
        try:
            below = store.folders_with(MANIFEST)
        except FileNotFoundError:
            below = []
        if len(below) > 1:
            raise NotAvailableError(
                f"{store.url} has {len(below)} releases.", f"Choose from {', '.join(below)}."
            ) from None
        if not below:
            raise
    inner = _open(below[0]).pinned()
    return inner, Manifest.load(inner.url)
