"""Split lists of EuroSAT: three text files with one patch name per line."""

from __future__ import annotations

from pathlib import Path

from lulcbench.errors import LulcbenchError, NotAvailableError

SPLITS = ("train", "val", "test")
LISTS = {
    "random": "it has the names of the EuroSAT split of https://github.com/biasvariancelabs/aitlas-arena",
    "spatial": "torchgeo's EuroSATSpatial has it: https://hf.co/datasets/torchgeo/eurosat",
    "block": "it is part of this repository",
}
BLOCK_LISTS = Path(__file__).parents[1] / "splits"


def read_list(root: Path, lists: str, split: str) -> list[str]:
    """Read the patch names (without suffix) of a split.

    Args:
        root: folder of the lists; those of ``block`` are part of this repository.
        lists: ``random``, ``spatial`` or ``block``.
        split: ``train``, ``val`` or ``test``.

    Raises:
        NotAvailableError: there is no such split.
        LulcbenchError: the list is missing or not text, or has a patch twice.
    """
    if split not in SPLITS:
        raise NotAvailableError(f"EuroSAT has no split {split!r}.", f"It has {', '.join(SPLITS)}.")
    path = (BLOCK_LISTS if lists == "block" else root) / f"eurosat-{lists}-{split}.txt"
    if not path.is_file():
        raise LulcbenchError(f"{path} is missing.", f"Get the list; {LISTS[lists]}.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise LulcbenchError(f"{path} is not text: {error}.", "Download it again.") from error
    names = [Path(line.strip()).stem for line in lines if line.strip()]
    if len(set(names)) != len(names):
        raise LulcbenchError(f"{path} has a patch twice.", "Download it again.")
    return names


def read_lists(root: Path, lists: str) -> dict[str, list[str]]:
    """Read the patch names of all splits.

    Raises:
        LulcbenchError: a list is missing, or a patch is in two lists, which would invalidate scores.
    """
    splits = {split: read_list(root, lists, split) for split in SPLITS}
    seen: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if name in seen:
                raise LulcbenchError(
                    f"{name} is in the {seen[name]} list and in the {split} list of the {lists} split.",
                    "Download the lists again.",
                )
            seen[name] = split
    return splits
