"""Validation of STAC by the schemas of its core and of its extensions, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pystac import STACObjectType
from pystac.validation.stac_validator import JsonSchemaSTACValidator

SCHEMAS = Path(__file__).parent / "data" / "stac-schemas"
VERSION = "1.1.0"


class Offline(JsonSchemaSTACValidator):
    """Knows the schemas of pystac, which are the core and GeoJSON, and those of ``tests/data/stac-schemas``."""

    def __init__(self) -> None:
        super().__init__()
        for path in SCHEMAS.glob("*.json"):
            schema = json.loads(path.read_bytes())
            self.schema_cache[schema["$id"].rstrip("#")] = schema

    def _get_schema(self, schema_uri: str) -> dict[str, Any]:
        return self.schema_cache[schema_uri]  # never from the web


def check_stac(content: dict[str, Any]) -> None:
    """Check an item, a collection or a catalog as JSON has it.

    Raises:
        pystac.STACValidationError: it does not fit a schema.
        KeyError: an extension whose schema is not in ``tests/data/stac-schemas``.
    """
    assert content["stac_version"] == VERSION
    Offline().validate(content, STACObjectType(content["type"]), VERSION, content.get("stac_extensions", []))
