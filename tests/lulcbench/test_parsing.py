"""Untrusted text is parsed in time and memory proportional to its length, or refused."""

from __future__ import annotations

import sys
import tomllib
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lulcbench import _parsing
from lulcbench._parsing import MAX_BARE, MAX_DEPTH, MAX_KEY_PARTS, parse_json, parse_toml, read_limited
from lulcbench.errors import LulcbenchError

# Generated for a length in characters; they are quadratic for tomllib, exhaust its stack, or exceed 64 bits.
HOSTILE_TOML: dict[str, Callable[[int], str]] = {
    "dotted key": lambda n: "a" + ".a" * (n // 2) + "=1",
    "dotted key with blanks": lambda n: "a" + " . a" * (n // 4) + "=1",
    "dotted key of quoted parts": lambda n: '"a"' + ".'a'" * (n // 4) + "=1",
    "header of many parts": lambda n: "[a" + ".a" * (n // 2) + "]",
    "long header, many keys": lambda n: f"[a{'.a' * (n // 4)}]\n" + "\n".join(f"k{i}=1" for i in range(n // 16)),
    "dotted key in an inline table": lambda n: "t = {a" + ".a" * (n // 2) + "=1}",
    "dotted key after text that hides it": lambda n: "t = '''\n'\"#'''\n# \"\n" + "a" + ".a" * (n // 2) + "=1",
    "nested arrays": lambda n: "a = " + "[" * (n // 2) + "]" * (n // 2),
    "nested inline tables": lambda n: "a = " + "{a=" * (n // 4) + "1" + "}" * (n // 4),
    "arrays that nothing closes": lambda n: "a = " + "[" * n,
    "integer": lambda n: "a = " + "1" * n,
    "hexadecimal integer": lambda n: "a = 0x" + "f" * n,
    "unclosed strings": lambda n: '"""\n' + '\\"""\n' * (n // 5),
}
# All that is left to take is breadth.
WIDE_TOML: dict[str, Callable[[int], str]] = {
    "keys": lambda n: "\n".join(f"{i:x}=1" for i in range(n // 7)),
    "keys of eight parts": lambda n: "\n".join(f"{i:x}.a.a.a.a.a.a.a=1" for i in range(n // 21)),
    "tables": lambda n: "\n".join(f"[{i:x}.a.a.a.a.a.a.a]" for i in range(n // 21)),
    "array of tables": lambda n: "[[a]]\n" * (n // 6),
    "arrays": lambda n: "a=[" + "[]," * (n // 3) + "]",
    "inline tables": lambda n: "a=[" + "{a=1}," * (n // 6) + "]",
    "floats": lambda n: "a=[" + "1.5," * (n // 4) + "]",
    "escapes": lambda n: 'a="' + "\\t" * (n // 2) + '"',
    "comments": lambda n: "# a.b.c.d.e.f.g.h.i.j [[[\n" * (n // 26),
}
HOSTILE_JSON: dict[str, Callable[[int], str]] = {
    "nested arrays": lambda n: '{"a":' + "[" * (n // 2) + "]" * (n // 2) + "}",
    "nested objects": lambda n: '{"a":' * (n // 6) + "1" + "}" * (n // 6),
    "arrays that nothing closes": lambda n: '{"a":' + "[" * n,
    "integer": lambda n: '{"a":' + "1" * n + "}",
    "half of a surrogate pair": lambda n: '{"a": "' + "a" * n + '\\ud800"}',
}


def cost(work: Callable[[], Any]) -> tuple[int, int]:
    """Function calls, and bytes of memory at the peak: both are the same on every machine."""
    calls, before = 0, sys.getprofile()

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    tracemalloc.start()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return calls, peak


def refused(parse: Callable[..., Any], text: str) -> None:
    with pytest.raises(LulcbenchError, match=r"not TOML|not JSON"):
        parse(text)


@pytest.mark.parametrize("size", [48_000, 200_000, 900_000])
@pytest.mark.parametrize("kind", HOSTILE_TOML)
def test_hostile_toml_is_refused_at_the_price_of_a_look(kind: str, size: int) -> None:
    text = HOSTILE_TOML[kind](size)
    _, peak = cost(lambda: refused(parse_toml, text))
    assert peak < 200_000 + 4 * len(text)


@pytest.mark.parametrize("kind", HOSTILE_JSON)
def test_hostile_json_is_refused_at_the_price_of_a_look(kind: str) -> None:
    text = HOSTILE_JSON[kind](1_000_000)
    calls, peak = cost(lambda: refused(parse_json, text))
    assert calls < 1000
    assert peak < 200_000 + 4 * len(text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WIDE_TOML)
def test_twice_the_text_is_twice_the_work(kind: str) -> None:
    small, large = (WIDE_TOML[kind](size) for size in (16_000, 32_000))
    assert parse_toml(small) == tomllib.loads(small)
    (calls, peak), (more_calls, more_peak) = (cost(lambda t=t: parse_toml(t)) for t in (small, large))  # type: ignore[misc]
    assert more_calls < 2.2 * calls + 100
    assert more_peak < 2.5 * peak + 10_000


def test_too_large_a_text_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"#" * 1000)
    assert read_limited(path, 1000) == b"#" * 1000
    with pytest.raises(LulcbenchError, match="text is larger than 999 bytes"):
        read_limited(path, 999)
    _, peak = cost(lambda: read_limited(path, 2**30))
    assert peak < 2**20
    with pytest.raises(LulcbenchError, match="The card is larger than 5 bytes"):
        parse_toml("#ää", "The card", max_bytes=4) if len("#ää".encode()) == 4 else parse_toml(
            "#äää", "The card", max_bytes=5
        )
    with pytest.raises(LulcbenchError, match="larger than 5 bytes"):
        parse_json(b'{"a":1}', max_bytes=5)


def test_what_json_is_not_an_object_is_refused() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, "\xc3\xa4"]}') == {"a": [1, 2.5, None, "ä"]}
    for text in (b"[1]", b"1", b"null", b'"a"'):
        with pytest.raises(LulcbenchError, match="is not a JSON object"):
            parse_json(text)
    for text in (b"", b"{", b"\xff{}", b'{"a": 01}', b"{} {}"):
        with pytest.raises(LulcbenchError, match="is not JSON"):
            parse_json(text)


def test_limits_are_what_they_say() -> None:
    assert parse_toml(".".join("a" * MAX_KEY_PARTS) + "=1")
    refused(parse_toml, ".".join("a" * (MAX_KEY_PARTS + 1)) + "=1")
    assert parse_toml("a=" + "[" * MAX_DEPTH + "]" * MAX_DEPTH)
    refused(parse_toml, "a=" + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
    assert parse_toml("a" * MAX_BARE + "=1")
    refused(parse_toml, "a" * (MAX_BARE + 1) + "=1")
    assert parse_toml(f"a={2**63 - 1}\nb={-(2**63)}") == {"a": 2**63 - 1, "b": -(2**63)}
    refused(parse_toml, f"a={2**63}")


PIECES = [
    *("a", "b1", ".", " . ", "=", '"', "'", '"""', "'''", "\\", "\n", "[", "]", "{", "}", ",", "#", "1.5", '"x"'),
    *("'y'", '""', "''", "a=1\n", "[a]\n", '"a.b"', '"""a."b"""', "'''.'''", "\r\n", "\t", "k=[1,2]\n"),
]


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30), st.sampled_from(["", "k="]))
def test_the_look_at_the_text_sees_what_tomllib_sees(pieces: list[str], start: str) -> None:
    """With limits of three, against tomllib's own reading of keys and brackets, whether the text is TOML or not."""
    text = start + "".join(pieces)
    parts, depth, deepest = [0], 0, 0
    parser = sys.modules["tomllib._parser"]

    def key(source: str, position: int) -> Any:
        end, found = read_key(source, position)
        parts.append(len(found))
        return end, found

    def inside(read: Callable[..., Any]) -> Callable[..., Any]:
        def nested(*given: Any) -> Any:
            nonlocal depth, deepest
            depth += 1
            deepest = max(deepest, depth)
            try:
                return read(*given)
            finally:
                depth -= 1

        return nested

    with pytest.MonkeyPatch.context() as patch:
        read_key = parser.parse_key  # type: ignore[attr-defined]
        patch.setattr(parser, "parse_key", key)
        for name in ("parse_array", "parse_inline_table"):
            patch.setattr(parser, name, inside(getattr(parser, name)))
        patch.setattr(_parsing, "MAX_KEY_PARTS", 3)
        patch.setattr(_parsing, "MAX_DEPTH", 3)
        try:
            tomllib.loads(text)
            valid = True
        except tomllib.TOMLDecodeError:
            valid = False
        within = max(parts) <= 3 and deepest <= 3
        try:
            _parsing._check_shape(text)
            passed = True
        except ValueError:
            passed = False
    if passed:
        assert within
    elif valid:
        assert not within
