"""Predictions with random changes are read as they were, or refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lulcbench.errors import LulcbenchError
from lulcbench.predictions import Predictions
from lulcbench.submission.card import check_predictions
from tests.lulcbench.predictions.forging import TILES, members_of


@pytest.mark.slow
@given(data=st.data())
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_fuzzed_files_are_read_or_refused(
    plain_file: Path, predicted_root: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """Bytes flipped, cut, repeated or inserted anywhere: refused or the very same predictions, never a crash."""
    content = bytearray(plain_file.read_bytes())
    # Favour the directory at the end and headers, where the structure is.
    place = st.one_of(st.integers(0, len(content) - 1), st.integers(len(content) - 500, len(content) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        at = min(data.draw(place), len(content) - 1)
        match data.draw(st.sampled_from(("flip", "cut", "insert", "repeat"))):
            case "flip":
                content[at] = data.draw(st.integers(0, 255))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 200))]
            case "insert":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=40))
            case "repeat":
                content[at:at] = content[max(0, at - 60) : at]
        if not content:
            break
    path = tmp_path / "fuzzed.zip"
    path.write_bytes(content)
    try:
        check_predictions(path, predicted_root)
    except LulcbenchError:
        return
    with Predictions.open(path, predicted_root) as fuzzed, Predictions.open(plain_file, predicted_root) as honest:
        assert all(np.array_equal(fuzzed.codes(row), honest.codes(row)) for row in range(TILES))


@given(noise=st.binary(max_size=400), prefix=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fuzzed_metadata_is_refused(
    plain_file: Path, predicted_root: Path, tmp_path: Path, noise: bytes, prefix: bool
) -> None:
    members = members_of(plain_file)
    start = members["zarr.json"][: len(noise)] if prefix else b""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for name, content in (members | {"zarr.json": start + noise}).items():
            writer.writestr(name, content)
    (tmp_path / "p.zip").write_bytes(archive.getvalue())
    with pytest.raises(LulcbenchError):
        Predictions.open(tmp_path / "p.zip", predicted_root)
