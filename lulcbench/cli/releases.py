"""The command ``list``: releases that are known, and those on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lulcbench._console import harmless, new_table, result_console
from lulcbench.cli._output import Json, put_json
from lulcbench.errors import LulcbenchError
from lulcbench.release import MANIFEST, Manifest
from lulcbench.release.verify import missing_files

# Names and titles of the recipes of which releases are meant for everyone; tests/lulcbench/cli compares them.
KNOWN = {
    "luisa-sim": "lulcbench simulated release",
    "luisa-sim-medium": "lulcbench simulated release, three regions",
    "luisa-sim-series": "lulcbench simulated release of time series",
    "luisa-sim-planet": "lulcbench simulated release with Planet",
    "luisa-eurosat": "EuroSAT on LUISA",
    "pilot12": "lulcbench pilot: 12 regions of Europe",
    "europe": "lulcbench: Europe",
}
_DEPTH = 4  # folders below the given ones


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command("list")(list_)


def list_(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Folders to search, four levels deep; by default the current one.")
    ] = None,
    json: Json = None,
) -> None:
    """List the releases on this machine, with the share that is here, and the names of known ones."""
    found = []
    for folder in folders or [Path()]:
        if not folder.is_dir():
            raise LulcbenchError(f"There is no folder {folder}.", "Name a folder to search.")
        found += [_entry(root) for root in _roots(folder, _DEPTH)]
    known = [{"name": name, "title": title} for name, title in KNOWN.items()]
    if not put_json(json, {"here": found, "known": known}):
        return
    out = result_console()
    if found:
        table = new_table("folder", "release", "title", "splits", "local")
        for entry in found:
            table.add_row(
                *(escape(harmless(str(entry[key]))) for key in ("folder", "release", "title", "splits", "local"))
            )
        out.print(table)
    else:
        out.print(f"No release below {', '.join(map(str, folders)) if folders else 'this folder'}.")
    names = new_table("name", "title", title="Known releases")
    for name, title in KNOWN.items():
        names.add_row(name, title)
    out.print(names)
    out.print(
        "'lulcbench download NAME' fetches one from the hub or from LULCBENCH_MIRRORS, where it is published; a clone "
        "of the repository builds each: python -m builders build builders/recipes/NAME.toml"
    )


def _roots(folder: Path, depth: int) -> Iterator[Path]:
    """Folders of releases at or below a folder."""
    if (folder / MANIFEST).is_file():
        yield folder
    elif depth:
        try:
            inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        except OSError:
            return  # not readable
        for path in inner:
            yield from _roots(path, depth - 1)


def _entry(root: Path) -> dict[str, str | int]:
    """What the list shows of a release; of a damaged one, its fault."""
    try:
        manifest = Manifest.load(root)
    except LulcbenchError as error:
        return {"folder": str(root), "release": "damaged", "title": error.what, "splits": "", "local": ""}
    missing = sum(file.bytes for file in missing_files(root, manifest.files))
    total = sum(file.bytes for file in manifest.files)
    return {
        "folder": str(root),
        "release": manifest.id,
        "title": f"{manifest.title}{' (simulated)' if manifest.simulated else ''}",
        "splits": ", ".join(f"{name} {tiles}" for name, tiles in manifest.splits.items()),
        "local": f"{100 * (total - missing) // max(total, 1)} %",
    }
