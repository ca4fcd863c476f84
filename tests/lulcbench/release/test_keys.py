from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from lulcbench.errors import LulcbenchError
from lulcbench.release import ArrayKey

names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)
years = st.integers(1000, 9999)


class Stored(BaseModel):
    array: ArrayKey | None = None
    by_array: dict[ArrayKey, int] = {}


@given(names, years, years)
def test_a_key_is_the_text_that_it_is_written_as(name: str, first: int, last: int) -> None:
    first, last = sorted((first, last))
    for key in (ArrayKey(name, first), ArrayKey(name, first, last)):
        assert ArrayKey.parse(str(key)) == key
        assert pickle.loads(pickle.dumps(key)) == key  # noqa: S301
        stored = Stored(array=key, by_array={key: 1})
        assert Stored.model_validate_json(stored.model_dump_json()) == stored
    assert str(ArrayKey(name, first)) == f"{name}_{first}"


@pytest.mark.parametrize(
    "text",
    [
        "", "landsat", "landsat_", "landsat_18", "landsat_20181", "_2018", "Landsat_2018", "land_sat_2018", "a/b_2018",
        "landsat_2018-", "landsat_2018-2012", "landsat_2018-2018", "landsat_2018\n", "landsat_２０１８", "-a_2018",
        "a" * 33 + "_2018",
    ],
    ids=[f"text {number}" for number in range(16)],
)  # fmt: skip
def test_other_texts_are_not_names_of_arrays(text: str) -> None:
    with pytest.raises(LulcbenchError, match="is not the name of an array"):
        ArrayKey.parse(text)
    with pytest.raises(ValidationError):
        Stored(array=text)  # type: ignore[arg-type]


def test_keys_cannot_be_made_of_other_things() -> None:
    for name, first, last in (("land_sat", 2018, None), ("landsat", 18, None), ("landsat", 2018, 2012)):
        with pytest.raises(LulcbenchError, match="is not the name of an array"):
            ArrayKey(name, first, last)
    with pytest.raises(ValidationError):
        Stored(array=2018)  # type: ignore[arg-type]


def test_keys_sort_by_name_and_time() -> None:
    ordered = ["landsat_2000-2020", "landsat_2012", "landsat_2018", "luisa_2012", "sentinel2_2018"]
    assert [str(key) for key in sorted(map(ArrayKey.parse, reversed(ordered)))] == ordered


def test_a_span_covers_its_years() -> None:
    span = ArrayKey("landsat", 2000, 2020)
    assert [span.covers(year) for year in (1999, 2000, 2012, 2020, 2021)] == [False, True, True, True, False]
    assert ArrayKey("landsat", 2018).covers(2018)
    assert not ArrayKey("landsat", 2018).covers(2019)
