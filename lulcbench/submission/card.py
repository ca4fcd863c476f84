"""Model cards, and checks of predictions before they are sent to a leaderboard."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from lulcbench._files import Frozen
from lulcbench._parsing import parse_toml, read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.counts import labels_of
from lulcbench.predictions import Predictions
from lulcbench.predictions.format import PredictionInfo
from lulcbench.release import Manifest, Release, TilePosition

MAX_CARD_BYTES = 64 * 2**10  # the largest valid card, in characters of four bytes each, has 60 kB
CARD_EXAMPLE = """\
name = "UNet ResNet-18, four seasons"
authors = ["A. Author", "B. Author"]
code = "https://github.com/author/model"
sensors = ["sentinel2"]
training_data = ["pilot12 1.0.0, train split"]
saw_scored_labels = false
pretraining = "ImageNet"
parameters = 14300000
compute = "1 x H200, 3 h"
licence = "Apache-2.0"
"""


# Letters that are shown as blanks: Hangul fillers and the empty Braille pattern.
_BLANK = {"\u115f", "\u1160", "\u3164", "\uffa0", "\u2800"}
_ALIKE = {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"}


def _plain(text: str) -> str:
    # Cards are shown on pages and terminals: no invisible, control or direction-changing characters.
    if not text.isprintable() or text != text.strip() or _BLANK & set(text):
        raise ValueError("only printable characters, on one line, without spaces around")
    marks = "".join("m" if unicodedata.combining(character) else "." for character in text)
    if marks.startswith("m") or "mmm" in marks:
        raise ValueError("at most two combining marks on a letter")
    if mixes_scripts(text):
        raise ValueError("letters of one script in each word, since look-alike letters would deceive readers")
    return text


def mixes_scripts(text: str) -> bool:
    """Whether a word mixes letters of scripts that resemble each other, such as a Cyrillic and Latin ones.

    Examples:
        >>> mixes_scripts("β-VAE of the Université"), mixes_scripts("d\u0435mo")
        (False, True)
    """
    for word in re.findall(r"[^\W\d_]+", text):
        if len({unicodedata.name(letter, "").partition(" ")[0] for letter in word} & _ALIKE) > 1:
            return True
    return False


Short = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(_plain)]
Long = Annotated[str, Field(max_length=2000), AfterValidator(_plain)]
_URL = r"^https?://[A-Za-z0-9.-]+(:\d+)?(/[!#-&(-;=?-\[\]-~]*)?$"
_SENSOR = r"^[a-z0-9][a-z0-9-]{0,31}$"
Url = Annotated[str, Field(max_length=300, pattern=_URL)]
SensorName = Annotated[str, Field(pattern=_SENSOR)]
_FORMS = {
    _URL: "not an address such as https://example.org/model, without blanks and letters with accents",
    _SENSOR: "not a name of at most 32 lower-case letters, digits and hyphens",
}


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("each sensor once")
    return names


class ModelCard(Frozen):
    """Description of a model by its team; a TOML file with these keys (see ``CARD_EXAMPLE``).

    LUISA is public, so labels of the scored split cannot be hidden; the card must state the training data.

    Attributes:
        name: name of the model in tables.
        authors: people or groups.
        code: URL of the source code.
        sensors: all sensors whose images the model uses in prediction, such as ``sentinel2`` or ``landsat``; empty if
            it uses none.
        training_data: every data set whose labels the model or its pretraining used.
        saw_scored_labels: whether labels of the scored split (LUISA, or CORINE of the same area) were used in any way.
        pretraining: ``none``, or the initial weights.
        parameters: number of parameters of the model, frozen ones included.
        compute: hardware and time of the training, in words.
        training_hours: hours that the training took, by the clock.
        device: what it was trained on, such as ``1 x H200``.
        members: number of trained models whose outputs are combined; an ensemble has two or more.
        licence: SPDX identifier of the licence of code and weights.
        description: anything else, one paragraph.
        paper: URL of a publication.
        weights: URL of the trained weights; required for the tier "reproduced".
    """

    name: Short
    authors: Annotated[tuple[Short, ...], Field(min_length=1, max_length=50)]
    code: Url
    sensors: Annotated[tuple[SensorName, ...], Field(max_length=10), AfterValidator(_unique)]
    training_data: Annotated[tuple[Short, ...], Field(min_length=1, max_length=50)]
    saw_scored_labels: Annotated[bool, Field(strict=True)]
    pretraining: Short
    parameters: Annotated[int, Field(ge=0, le=10**15, strict=True)]
    compute: Short
    training_hours: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)] | None = None
    device: Short | None = None
    members: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 1
    licence: Short
    description: Long = ""
    paper: Url | None = None
    weights: Url | None = None


def load_card(path: str | os.PathLike[str]) -> ModelCard:
    """Read and check a model card.

    Raises:
        LulcbenchError: the file is missing, too large or not TOML, or keys are missing, unknown or invalid; the remedy
            lists all keys.

    Examples:
        >>> path = Path("submission.toml")
        >>> _ = path.write_text(CARD_EXAMPLE)
        >>> load_card(path).name
        'UNet ResNet-18, four seasons'
    """
    path = Path(path)
    remedy = f"A card has these keys:\n{CARD_EXAMPLE}"
    if not path.is_file():
        raise LulcbenchError(f"The model card {path} is missing.", remedy)
    content = parse_toml(read_limited(path, MAX_CARD_BYTES, remedy), str(path), remedy)
    try:
        return ModelCard.model_validate(content)
    except ValidationError as error:
        raise LulcbenchError(f"{path} is not a valid model card: {problems(error)}.", remedy) from error


def problems(error: ValidationError) -> str:
    """What is wrong with the values of a card, at most eight; a phrase in place of a regular expression."""
    texts = []
    for wrong in error.errors()[:8]:
        where = ".".join(map(str, wrong["loc"])) or "card"
        texts.append(f"{where}: {_FORMS.get(wrong.get('ctx', {}).get('pattern', ''), wrong['msg'])}")
    return "; ".join(texts)


def check_sensors(card: ModelCard, release: Manifest) -> None:
    """Check that a card only names sensors of the release, by which the board filters and groups.

    Releases without imagery allow any sensors.

    Raises:
        LulcbenchError: the card names another sensor.
    """
    unknown = sorted(set(card.sensors) - set(release.sensors)) if release.sensors else []
    if unknown:
        raise LulcbenchError(
            f"The model card names the sensor {unknown[0]!r}, which {release.id} does not have.",
            f"It has {', '.join(release.sensors)}; name other inputs in the description of the card.",
        )


def check_predictions(
    path: str | os.PathLike[str],
    release: str | os.PathLike[str] | Release,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> PredictionInfo:
    """Read a predictions file completely, like the scorer, without scoring it.

    Args:
        path: the predictions file.
        release: the release, opened, or its folder; only its manifest and index are needed.
        advance: called with (tiles done, tiles in all).

    Returns:
        Header of the file, all of it checked.

    Raises:
        NotAvailableError: the release has no LUISA labels to score it against.
        LulcbenchError: the scorer would refuse the file; says why.
    """
    with Predictions.open(path, release) as predictions:
        labels_of(predictions)
        tiles = len(predictions.info.tiles)
        for position in map(TilePosition, range(tiles)):
            predictions.codes(position)
            if predictions.info.probabilities is not None:
                for year in range(len(predictions.info.years)):
                    predictions.probabilities(position, year)
            advance(position + 1, tiles)
        return predictions.info
