"""Validation of STAC by the schemas of its core and of its extensions, without a network."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema.exceptions import best_match
from jsonschema.validators import validator_for
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

SCHEMAS = Path(__file__).parent / "data" / "stac-schemas"
VERSION = "1.1.0"
_CORE = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}


def check_stac(content: dict[str, Any]) -> None:
    """Check an item, a collection or a catalog as JSON has it.

    Raises:
        AssertionError: it does not fit a schema.
        KeyError: an extension whose schema is not in ``tests/data/stac-schemas``.
        referencing.exceptions.Unresolvable: a schema refers to one that is not there.
    """
    content = json.loads(json.dumps(content))
    assert content["stac_version"] == VERSION
    name = _CORE[content["type"]]
    core = f"https://schemas.stacspec.org/v{VERSION}/{name}-spec/json-schema/{name}.json"
    for uri in (core, *content.get("stac_extensions", ())):
        error = best_match(_validator(uri).iter_errors(content))
        assert error is None, f"{content['id']}, {uri}, {error.json_path}: {error.message}"


@cache
def _validator(uri: str) -> Any:
    schema = _schemas()[uri]
    registry: Registry[Any] = Registry().with_resources(
        (key, Resource.from_contents(value)) for key, value in _schemas().items()
    )
    return validator_for(schema)(schema, registry=registry)


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    """Schemas by address: those of pystac, which are the core and GeoJSON, and those of extensions."""
    extensions = (json.loads(path.read_bytes()) for path in sorted(SCHEMAS.glob("*.json")))
    return dict(get_local_schema_cache()) | {schema["$id"].rstrip("#"): schema for schema in extensions}
