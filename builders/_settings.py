"""Settings on the command line: values in place of those of a recipe, such as the address of a mirror."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from lulcbench._parsing import parse_toml
from lulcbench.errors import LulcbenchError

NAMES = ("name", "id", "path")  # keys that a table of a list is called by


def apply_settings(recipe: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """A recipe with other values.

    Args:
        recipe: the content of its file.
        settings: ``key=value``. The key is a path with dots, whose tables are made if they are missing; a table of a
            list is called by its number (from 0), or by its ``name``, ``id`` or the stem of its ``path``. The value is
            TOML, or else text as it is.

    Raises:
        LulcbenchError: a setting has another form, or a list has no such table.

    Examples:
        >>> recipe = {"catalog": "https://a", "sensors": [{"name": "landsat", "max_cloud": 0.8}]}
        >>> apply_settings(recipe, ["catalog=https://b", "sensors.landsat.max_cloud=0.2"])
        {'catalog': 'https://b', 'sensors': [{'name': 'landsat', 'max_cloud': 0.2}]}
    """
    recipe = copy.deepcopy(recipe)
    for setting in settings:
        path, equals, text = setting.partition("=")
        *tables, key = path.strip().split(".")
        if not equals or not all((*tables, key)):
            raise LulcbenchError(f"{setting!r} is not a setting.", "Write key=value, such as catalog=https://….")
        place: Any = recipe
        for i, name in enumerate(tables):
            place = _inside(place, name, ".".join(tables[: i + 1]))
        if not isinstance(place, dict):
            raise LulcbenchError(f"{path!r} is not a key of a table.", "Name the table before the key.")
        place[key] = _value(text)
    return recipe


def _inside(place: Any, name: str, path: str) -> Any:
    if isinstance(place, dict) and isinstance(place.setdefault(name, {}), dict | list):
        return place[name]
    if isinstance(place, list):
        if name.isdecimal() and int(name) < len(place):
            return place[int(name)]
        for key in NAMES:
            called = [table for table in place if str(table.get(key, "")).rpartition("/")[2].split(".")[0] == name]
            if len(called) == 1:
                return called[0]
    raise LulcbenchError(f"The recipe has no table {path!r}.", "Name a table that is in the file.")


def _value(text: str) -> Any:
    try:
        parsed = parse_toml(f"value = {text}".encode(), "the setting", "Write TOML.")
    except LulcbenchError:
        return text
    return parsed["value"] if [*parsed] == ["value"] else text
