"""Wording that ``docs/glossary.md`` replaces does not come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Rooms whose prose follows the glossary.
CHECKED = (
    "lulcbench/**/*.py",
    "builders/**/*.py",
    "builders/recipes/*.toml",
    "builders/**/*.j2",
    "baselines/**/*.py",
    "baselines/**/*.md",
    "baselines/**/*.j2",
    "baselines/configs/*.toml",
    "leaderboard/**/*.py",
    "leaderboard/**/*.md",
    "leaderboard/web/templates/*.html",
    "benchmarks/*.py",
    "benchmarks/*.md",
    "tests/baselines/**/*.py",
    "tests/builders/**/*.py",
    "tests/docs/*.py",
    "tests/leaderboard/**/*.py",
    "tests/lulcbench/**/*.py",
    "docs/**/*.md",
    "*.md",
    "Makefile",
    "mkdocs.yml",
)
NOT_CHECKED = {ROOT / "docs" / "glossary.md"}  # it lists the wording
REPLACED = {
    r"\bmend(s|ed|ing)?\b": "fix, correct, repair",
    r"\bfor want of\b": "because … is missing",
    r"\bwhoever\b": "users who …",
    r"\bwherever\b": "on any …; regardless of location",
    r"\bthrown at\b": "drawn uniformly over",
    r"\b(cannot|can) be judged\b|\bjudged?\b": "evaluated, labelled, valid",
    r"\btravels\b": "is transferred",
    r"\bsays? so\b": "states it; logs a warning",
    r"\bwhat \w+ says? of\b|\bsays? of itself\b": "name it: scores, metadata, header",
    r"\btaken for whole\b": "mistaken for complete",
    r"\bwhole or not at all\b": "atomically",
    r"\banew\b|\bonce more\b": "again",
    r"\ball the same\b": "nevertheless",
    r"\bbut for\b": "except",
    r"\bwhatever\b": "any …; regardless of",
    r"\basked for\b": "requested",
    r"\bnobody\b|\beverybody\b": "name them: users, processes; all",
    r"\bstrangers?\b": "untrusted",
    r"\bone's own\b": "your own, custom",
    r"\blapses?\b": "expires",
    r"\bgo(es)? on (with|as|where|behind)\b": "continues",
    r"\bhand(s|ed)? (out|on)\b": "returns, passes, assigns",
    r"\bcomes? last\b": "is last, is written last",
    r"(?<!there )\b(is|are) no (?!longer\b|more\b|less\b|one\b|-)[a-z]": "is not a …",
    r"\bone (row|file|line|entry|folder|(STAC )?item|page|sample|chunk|shard|class|process|thread) an? [a-z]": (
        "one … per …"
    ),
    r"\b(pixels|bytes|values|rows|files|samples|seconds|processes|threads) an? (pixel|tile|class|row|file|split|year"
    r"|epoch|second|process|thread|window|sample|block|core|step|region|batch)\b": "… per …",
}


def paths(patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)} - NOT_CHECKED)


@pytest.mark.parametrize("path", paths(CHECKED), ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_follows_the_glossary(path: Path) -> None:
    replaced = [
        f"{path.name}:{number}: {match[0]!r}: say {better!r}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for wording, better in REPLACED.items()
        if (match := re.search(wording, line, re.IGNORECASE))
    ]
    assert replaced == []


@pytest.mark.parametrize(
    ("line", "wording"),
    [
        ("a window is thrown at any place", "thrown at"),
        ("pixels that cannot be judged", "cannot be judged"),
        ("'x' is no tile id", "is no t"),
        ("one row a tile", "one row a t"),
        ("16 bytes a pixel", "bytes a pixel"),
        ("the upload goes on where it stopped", "goes on where"),
        ("refused, whatever the library", "whatever"),
    ],
)
def test_wording_is_found(line: str, wording: str) -> None:
    assert wording in [match[0] for pattern in REPLACED if (match := re.search(pattern, line))]
