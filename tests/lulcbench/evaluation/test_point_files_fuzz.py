"""Files of points that are damaged or strange end in an error of the project, or in a table."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation import reference_points
from lulcbench.evaluation._point_files import COLUMNS
from lulcbench.evaluation.class_maps import NONE

NAMES = sorted({name for names in COLUMNS.values() for name in names} | {"geometry", "", "LC1", "lc1 "})
WORDS = (
    "|B11|C10 - Broadleaved|8|88.888|-1|NaN|inf|West|2|50,5|1e400|-0|2018.0|3210000|4321000|EPSG:3035|12/05/2018"
    '|No GPS signal|40283224|0|180.1|x|é|"'
)
VALUES = st.one_of(st.sampled_from(WORDS.split("|")), st.text(max_size=5), st.floats(-200, 200).map(str))


def read(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.csv"
        path.write_bytes(content)
        try:
            survey = reference_points.read_points(path)
        except LulcbenchError:
            return
        located = survey.table["x"].notna()
        assert (survey.table["y"].notna() == located).all()
        assert (survey.table["place"].str.startswith("none") != located).all()
        assert ((survey.table["code"] == NONE) == (survey.table["reason"] != "")).all()


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=9, unique=True))
    rows = draw(st.lists(st.lists(VALUES, min_size=len(names), max_size=len(names)), max_size=4))
    frame = pd.DataFrame(rows, columns=["lc1", *names[1:]], dtype="string")
    separator = draw(st.sampled_from([",", ";", "\t"]))
    text = frame.to_csv(index=False, sep=separator, escapechar="\\")
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])), "replace")


@pytest.mark.slow
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(tables())
def test_any_table_is_read_or_refused(content: bytes) -> None:
    read(content)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(
    st.binary(max_size=60), st.sampled_from([b"", b"PAR1", b"PK\x03\x04", b"\x1f\x8b", b"lc1,gps_lat\n", b"\xff\xfe"])
)
@example(b"", b"")
@example(gzip.compress(b"lc1\nC10\n"), b"")
@example(b"\0", b"lc1\n")
def test_any_bytes_are_read_or_refused(content: bytes, start: bytes) -> None:
    read(start + content)
