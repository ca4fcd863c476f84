"""Parsing of untrusted TOML and JSON in time and memory proportional to the size of the text.

``tomllib`` is quadratic in the number of parts of a key (48 kB of ``a.a.a…`` take 2.4 GB) and recursive in brackets, so
a text is scanned before it is parsed. JSON is parsed by pydantic, which is linear and limits the depth (200) and the
length of numbers.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lulcbench.errors import LulcbenchError

MAX_TEXT_BYTES = 2**20
MAX_KEY_PARTS = 8  # parts of a key or a table header: a.b.c has three
MAX_DEPTH = 32  # depth of arrays and inline tables
MAX_BARE = 256  # characters of a bare key or a number
_JSON_OBJECT = TypeAdapter(dict[str, Any])
_READ_BYTES = 2**18
_MAX_SHOWN = 300  # characters of a message of the parser, which may quote the text

# Tokens of TOML in the order of tomllib: strings and comments hide brackets and dots; an unclosed quote ends the scan.
_TOKEN = re.compile(
    r'''
    (?P<bare> [A-Za-z0-9_+-]++ )
  | (?P<part> """(?:[^"\\]|\\.|"(?!""))*+"""(?:"{0,2}) | \'\'\'(?:[^']|'(?!''))*+\'\'\'(?:'{0,2})
            | "(?!"")(?:[^"\\\n]|\\.)*+" | '(?!'')[^'\n]*+' | [ \t]++ )
  | (?P<comment> \#[^\n]*+ )
  | (?P<unclosed> ["'] )
  | (?P<other> . )
    ''',
    re.DOTALL | re.VERBOSE,
)


def read_limited(path: str | os.PathLike[str], max_bytes: int, remedy: str = "") -> bytes:
    """Read a file of at most ``max_bytes``.

    Raises:
        LulcbenchError: the file is larger.
        OSError: the file cannot be read.
    """
    content = bytearray()
    with Path(path).open("rb") as file:
        # In steps, because a file object allocates all the requested memory before it reads.
        while len(content) <= max_bytes and (data := file.read(min(_READ_BYTES, max_bytes + 1 - len(content)))):
            content += data
    _check_size(content, str(path), max_bytes, remedy)
    return bytes(content)


def parse_toml(
    text: str | bytes, where: str = "The text", remedy: str = "", max_bytes: int = MAX_TEXT_BYTES
) -> dict[str, Any]:
    """Parse TOML like ``tomllib``, within limits.

    Args:
        text: the document.
        where: name of the document, for error messages.
        remedy: remedy in error messages.
        max_bytes: maximum size of the document.

    Raises:
        LulcbenchError: the text is too large, is not TOML, or has keys of more than ``MAX_KEY_PARTS`` parts, bare keys
            or numbers longer than ``MAX_BARE``, brackets deeper than ``MAX_DEPTH``, or integers of more than 64 bits.

    Example:
        >>> parse_toml('name = "UNet"')
        {'name': 'UNet'}
    """
    _check_size(text, where, max_bytes, remedy)
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        _check_shape(decoded)
        content = tomllib.loads(decoded)
        _check_integers(content)
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, or an integer of 5,000 digits
        raise LulcbenchError(f"{where} is not TOML: {_short(error)}.", remedy) from error
    return content


def parse_json(
    text: str | bytes, where: str = "The text", remedy: str = "", max_bytes: int = MAX_TEXT_BYTES
) -> dict[str, Any]:
    """Parse a JSON object; the last value of a repeated key is used.

    Args:
        text: the document.
        where: name of the document, for error messages.
        remedy: remedy in error messages.
        max_bytes: maximum size of the document.

    Raises:
        LulcbenchError: the text is too large, is not JSON, or is not an object.

    Example:
        >>> parse_json('{"tiles": 40}')
        {'tiles': 40}
    """
    _check_size(text, where, max_bytes, remedy)
    try:
        return _JSON_OBJECT.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] != "json_invalid":
            raise LulcbenchError(f"{where} is not a JSON object.", remedy) from error
        raise LulcbenchError(f"{where} is not JSON: {first['ctx']['error']}.", remedy) from error


def first_faults(error: ValidationError) -> str:
    """The first three faults of a document, which may have one in each of many thousand entries.

    Names of keys are part of it, so that it may have characters that control a terminal.
    """
    faults = error.errors(include_url=False, include_input=False)
    texts = [f"{'.'.join(map(str, fault['loc'])) or 'content'}: {fault['msg']}" for fault in faults[:3]]
    more = [f"and {len(faults) - 3} more"] if len(faults) > 3 else []
    return "; ".join([*(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…" for text in texts), *more])


def _check_size(text: str | bytes | bytearray, where: str, max_bytes: int, remedy: str) -> None:
    if len(text) > max_bytes or (isinstance(text, str) and len(text.encode(errors="replace")) > max_bytes):
        raise LulcbenchError(f"{where} is larger than {max_bytes:,} bytes.", remedy)


def _check_shape(text: str) -> None:
    """Raise a ValueError if ``tomllib`` would need more than linear time or memory, or recurse too deeply."""
    dots = depth = 0
    wrong = ""
    for token in _TOKEN.finditer(text):
        kind, value = token.lastgroup, token[0]
        if kind == "unclosed":
            return  # tomllib stops here and reports the position
        if kind == "bare":
            if len(value) > MAX_BARE:  # a number costs tomllib 128 bytes per digit
                wrong = f"a key or number has more than {MAX_BARE} characters"
        elif value == ".":
            dots += 1
            if dots >= MAX_KEY_PARTS:
                wrong = f"a key has more than {MAX_KEY_PARTS} parts"
        elif kind != "part":
            dots = 0
            depth = max(0, depth + (value in "[{") - (value in "]}"))
            if depth > MAX_DEPTH:
                wrong = f"brackets are nested deeper than {MAX_DEPTH}"
        if wrong:
            line = text.count("\n", 0, token.start()) + 1
            raise ValueError(f"{wrong} (line {line})")


def _check_integers(content: dict[str, Any]) -> None:
    stack: list[Any] = [content]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError("an integer has more than 64 bits")


def _short(error: ValueError) -> str:
    text = str(error).rstrip(".")
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
