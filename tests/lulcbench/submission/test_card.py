"""Model cards."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lulcbench.errors import LulcbenchError
from lulcbench.submission.card import CARD_EXAMPLE, MAX_CARD_BYTES, ModelCard, load_card

CARD = tomllib.loads(CARD_EXAMPLE)


def test_the_example_is_a_card(card_file: Path) -> None:
    card = load_card(card_file)
    assert card.sensors == ("sentinel2",)
    assert ModelCard.model_validate(card.model_dump(mode="json")) == card


@pytest.mark.parametrize("key", sorted(CARD))
def test_every_key_of_the_example_is_needed(key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        ModelCard.model_validate({k: v for k, v in CARD.items() if k != key})


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "a\x1b[2Jb"},
        {"name": "a\u202eb"},  # right-to-left override
        {"name": "x" * 121},
        {"name": " a"},
        {"authors": []},
        {"authors": ["a"] * 51},
        {"code": "javascript:alert(1)"},
        {"code": "https://x.example/\"onload='x'"},
        {"code": "file:///etc/passwd"},
        {"sensors": ["<script>"]},
        {"training_data": []},
        {"sensors": ["landsat", "landsat"]},
        {"saw_scored_labels": "perhaps"},
        {"saw_scored_labels": "no"},
        {"saw_scored_labels": 0},
        {"parameters": -1},
        {"parameters": 1.5},
        {"parameters": "12"},
        {"parameters": True},
        {"description": "x" * 2001},
    ],
)
def test_bad_cards_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModelCard.model_validate(CARD | change)


def test_card_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    for content, message in (
        (b"name = ", "not TOML"),
        (b"\xff\xfe", "not TOML"),
        (b'name = "x"\n', "not a valid model card: .*authors"),
        (CARD_EXAMPLE.replace("https://", "my ").encode(), "code: not an address such as https://example.org/model"),
        (CARD_EXAMPLE.replace('"sentinel2"', '"Sentinel-2"').encode(), "sensors.0: not a name of at most 32"),
        (b"#" * 70000, "larger than"),
        (b"a" + b".a" * 24_000 + b"=1", "not TOML: a key has more than 8 parts"),
        (b"parameters = " + b"1" * 6000, "not TOML"),
        (b"parameters = 0x" + b"f" * 20, "not TOML: an integer has more than 64 bits"),
    ):
        path.write_bytes(content)
        with pytest.raises(LulcbenchError, match=message):
            load_card(path)
    with pytest.raises(LulcbenchError, match=r"The model card .* is missing"):
        load_card(tmp_path / "none.toml")


def test_the_largest_valid_card_is_read(tmp_path: Path) -> None:
    sign = "\N{DESERET CAPITAL LETTER LONG I}"  # four bytes of UTF-8
    short = [sign * 118 + f"{number:02}" for number in range(50)]
    card = CARD | {"name": short[0], "authors": short, "training_data": short, "pretraining": short[0]}
    card |= {"compute": short[0], "licence": short[0], "description": sign * 2000, "code": "https://a.b/" + "c" * 288}
    path = tmp_path / "card.toml"
    # A JSON text or array is TOML too.
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in card.items())
    path.write_text("".join(lines), encoding="utf-8")
    assert 55_000 < path.stat().st_size < MAX_CARD_BYTES
    assert load_card(path) == ModelCard.model_validate(card)
