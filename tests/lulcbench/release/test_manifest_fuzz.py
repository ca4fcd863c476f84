"""Manifests are downloaded: from any bytes, the reader returns a manifest or raises a LulcbenchError."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lulcbench.errors import LulcbenchError
from lulcbench.release import Manifest

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def read(content: bytes) -> None:
    with contextlib.suppress(LulcbenchError):  # anything else fails the test
        Manifest.parse(content)


@pytest.fixture(scope="module")
def manifest(release_root: Path) -> bytes:
    return (release_root / "release.json").read_bytes()


@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    read(content)


@given(values)
def test_any_json(content: object) -> None:
    read(json.dumps(content).encode())


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, '{"format": "lulcbench-release/2"}', "", "null", "\ud800"],
    ids=["nested lists", "nested objects", "format alone", "empty", "null", "surrogate"],
)
def test_nasty_texts(text: str) -> None:
    with pytest.raises(LulcbenchError):
        Manifest.parse(text.encode("utf-8", "surrogatepass"))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_flipped_bytes_are_noticed(manifest: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(manifest) - 1))
    byte = data.draw(st.integers(0, 255))
    altered = manifest[:at] + bytes([byte]) + manifest[at + 1 :]
    try:
        same = Manifest.parse(altered) == Manifest.parse(manifest)
    except LulcbenchError:
        return
    assert same  # such as another kind of white space


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_value_in_place_of_another(manifest: bytes, data: st.DataObject) -> None:
    content = json.loads(manifest)
    place = content
    while isinstance(place, dict | list) and place:
        key = data.draw(st.sampled_from(sorted(place)) if isinstance(place, dict) else st.integers(0, len(place) - 1))
        if data.draw(st.booleans()) or not isinstance(place[key], dict | list):
            place[key] = data.draw(values)
            break
        place = place[key]
    read(json.dumps(content).encode())


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../b", "C:\\x", "a\\b", ""])
def test_paths_stay_in_the_folder(manifest: bytes, path: str) -> None:
    content = json.loads(manifest)
    content["files"][0]["path"] = path
    with pytest.raises(LulcbenchError, match="leaves the release folder"):
        Manifest.parse(json.dumps(content).encode())
