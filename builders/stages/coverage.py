"""Classes of a plan: how many label pixels of each class every region has in every split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.legend import LEVELS, NODATA, legend

LINE = "# classes "  # begins a line of splits.csv: region, split, and code=pixels for each class follow

Codes = npt.NDArray[np.integer]


def count_codes(codes: Codes) -> dict[int, int]:
    """Number of pixels of each code but nodata."""
    values, pixels = np.unique(codes, return_counts=True)
    return {int(code): int(n) for code, n in zip(values, pixels, strict=True) if code != NODATA}


@dataclass(frozen=True, slots=True)
class Coverage:
    """Label pixels by region, split and code, over all years and sources of labels.

    Attributes:
        pixels: (region, split) → code → number of pixels.
    """

    pixels: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict)

    def add(self, region: str, split: str, counts: Mapping[int, int]) -> None:
        """Add the pixels of one tile."""
        total = self.pixels.setdefault((region, split), {})
        for code, n in counts.items():
            total[code] = total.get(code, 0) + n

    def codes(self, region: str | None = None, split: str | None = None) -> set[int]:
        """Codes in a region and a split; None stands for all."""
        return {
            code
            for (place, part), counts in self.pixels.items()
            if region in (None, place) and split in (None, part)
            for code in counts
        }

    @property
    def level(self) -> int:
        """The finest legend level that all labels have."""
        return min((legend().classes[code].level for code in self.codes()), default=max(LEVELS))

    def missing(self, region: str | None = None, split: str | None = None) -> list[int]:
        """Classes of the level that a region, a split or (None) the whole plan lacks, in the legend's order."""
        present = {legend().ancestor(code, self.level) for code in self.codes(region, split)}
        return [code for code in legend().codes(self.level) if code not in present]

    def lines(self) -> list[str]:
        """Lines for the head of ``splits.csv``."""
        return [
            f"{LINE}{region} {split} " + " ".join(f"{code}={counts[code]}" for code in sorted(counts))
            for (region, split), counts in sorted(self.pixels.items())
            if counts
        ]


def read_coverage(path: Path) -> Coverage:
    """What a list of splits states of classes; empty if it states nothing.

    Raises:
        LulcbenchError: a line has another form.
    """
    found = Coverage()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(LINE):
            try:
                region, split, *counts = line.removeprefix(LINE).split()
                found.add(region, split, {int(code): int(n) for code, n in (pair.split("=") for pair in counts)})
            except ValueError as error:
                raise LulcbenchError(
                    f"{path} has a damaged line: {line[:80]!r}.", "Make it again with 'python -m builders plan'."
                ) from error
    return found


def class_lines(coverage: Coverage, regions: Iterable[str], splits: Sequence[str]) -> list[str]:
    """Lines for people: classes that each region covers and lacks, then what all regions lack, then each split.

    Args:
        coverage: of the plan.
        regions: in the order to list them.
        splits: those that have labels.
    """
    if not coverage.pixels:
        return []
    whole = len(legend().codes(coverage.level))

    def line(name: str, missing: list[int]) -> str:
        listed = ", ".join(f"{code} {legend().classes[code].name}" for code in missing)
        return f"{name}: {whole - len(missing)} of {whole} classes" + (f"; missing: {listed}" if missing else "")

    out = [line(region, coverage.missing(region)) for region in regions]
    out.append(line("all regions", coverage.missing()))
    return out + [line(f"split {split}", coverage.missing(split=split)) for split in splits]
