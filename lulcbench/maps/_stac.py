"""Items of STAC files that are not trusted: what dated images need of them, checked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, ValidationError

from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.remote import is_remote

_MAX_JSON: Final = 64 * 2**20
_MAX_FILES = 100_000


class _Stated(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Scaling(_Stated):
    """Scale and offset of a band; None where they are not stated."""

    scale: FiniteFloat | None = Field(None, validation_alias=AliasChoices("scale", "raster:scale"))
    offset: FiniteFloat | None = Field(None, validation_alias=AliasChoices("offset", "raster:offset"))


class Band(Scaling):
    """A band of an asset."""

    name: str | None = None
    common_name: str | None = Field(None, validation_alias=AliasChoices("eo:common_name", "common_name"))


class Asset(_Stated):
    """A file, with its bands as STAC 1.0 or 1.1 has them."""

    href: str | None = None
    own_bands: tuple[Band, ...] | None = Field(None, validation_alias=AliasChoices("bands"))
    eo_bands: tuple[Band, ...] | None = Field(None, validation_alias=AliasChoices("eo:bands"))
    raster_bands: tuple[Scaling, ...] | None = Field(None, validation_alias=AliasChoices("raster:bands"))
    scale: FiniteFloat | None = Field(None, validation_alias=AliasChoices("raster:scale"))
    offset: FiniteFloat | None = Field(None, validation_alias=AliasChoices("raster:offset"))

    def bands(self) -> Iterator[tuple[Band, Scaling]]:
        """Each band, and its scale and offset; one band without a name if none is stated."""
        bands = self.own_bands or self.eo_bands or (Band(),)
        rasters = self.raster_bands or ()
        for i, band in enumerate(bands):
            stated = [*rasters[i : i + 1], band, self]
            scale, offset = (next((getattr(own, what) for own in stated if getattr(own, what) is not None), None)
                             for what in ("scale", "offset"))  # fmt: skip
            yield band, Scaling(scale=scale, offset=offset)


def _utc(text: str) -> datetime:
    """A moment; one without a time zone is in UTC."""
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


class Item(_Stated):
    """A scene.

    Attributes:
        base: folder of the file that has it.
    """

    id: str = ""
    properties: dict[str, JsonValue] | None = None
    assets: dict[str, Asset] | None = None
    base: Path = Path()

    def date(self) -> datetime:
        """When it was acquired, in UTC; the middle where only an interval is stated.

        Raises:
            LulcbenchError: that is not stated.
        """
        known = self.properties or {}
        text = known.get("datetime") or known.get("start_datetime")
        end = None if known.get("datetime") else known.get("end_datetime")
        try:
            if isinstance(text, str):
                start = _utc(text)
                return start + (_utc(end) - start) / 2 if isinstance(end, str) else start
        except (ValueError, OverflowError):
            pass
        raise LulcbenchError(
            f"The item {self.id[:80]!r} has no date: datetime is {str(text)[:40]!r}.",
            "Give items with datetime, such as 2018-05-03T10:30:21Z.",
        )

    def address(self, asset: Asset) -> str:
        """URL or path of an asset."""
        href = asset.href or ""
        return href if is_remote(href) else str(self.base / href)


class _Link(_Stated):
    rel: str | None = None
    href: str | None = None


class _Links(_Stated):
    links: tuple[_Link, ...] | None = None


def read_items(path: Path) -> Iterator[Item]:
    """Items of a file of one item or several, or of a catalog with its children.

    Raises:
        LulcbenchError: a file cannot be read, is not STAC, or there are too many.
    """
    pending, seen, count = [path], set[Path](), 0
    while pending:
        own = pending.pop(0)
        try:
            if (resolved := own.resolve()) in seen:
                continue
            text = read_limited(own, _MAX_JSON, "It is not a STAC catalog.")
        except (OSError, ValueError) as error:  # a path may have a null byte
            raise LulcbenchError(f"Cannot read {own}: {error}.", "Links of a catalog must lead to files.") from error
        seen.add(resolved)
        content = parse_json(text, str(own), "Give a STAC catalog or item.", _MAX_JSON)
        kind = content.get("type")
        if kind in ("Feature", "FeatureCollection"):
            found = [content] if kind == "Feature" else content.get("features")
            for item in _checked(_Features, {"features": found}, own).features:
                count += 1
                yield item.model_copy(update={"base": own.parent})
        elif kind in ("Catalog", "Collection"):
            links = _checked(_Links, content, own).links or ()
            pending += [own.parent / link.href for link in links if link.rel in ("item", "child") and link.href]
        else:
            raise LulcbenchError(f"{own} is not STAC: its type is {str(kind)[:40]!r}.", "Give a catalog or items.")
        if max(count, len(pending)) > _MAX_FILES:
            raise LulcbenchError(f"{path} has more than {_MAX_FILES:,} items.", "Give fewer.")


class _Features(_Stated):
    features: tuple[Item, ...]


def _checked[Model: BaseModel](model: type[Model], content: dict[str, Any], path: Path) -> Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:80]
        raise LulcbenchError(f"{path} is not STAC: {where}: {first['msg']}.", "Correct it.") from error
