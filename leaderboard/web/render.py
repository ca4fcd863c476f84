"""Rendering of templates as HTML: everything is escaped, undefined names are errors."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from leaderboard.ranking.columns import COLUMNS
from leaderboard.settings import Settings
from leaderboard.web import charts
from lulcbench.evaluation.intervals import caution
from lulcbench.evaluation.metrics import METRICS, RANKING, shown_in
from lulcbench.legend import legend

_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)")
# What a page may load; exported pages state it themselves.
CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'"
)
TIERS = {
    "reproduced": "Reproduced from weights",
    "rescored": "Re-scored from predictions",
    "reported": "Self-reported",
}


@cache
def environment() -> Environment:
    """The templates, compiled once."""
    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "score": lambda value: "–" if value is None else f"{value:.3f}",
        "link_if_address": _link_if_address,
        "signed": lambda value: f"{value:+.3f}".replace("-", "\N{MINUS SIGN}"),
    }
    env.globals |= {
        "charts": charts,
        "caution": caution,
        "metrics": METRICS,
        "ranking": RANKING,
        "content_policy": CONTENT_POLICY,
        "columns": [column for column in COLUMNS.values() if column.text],
        "shown_in": shown_in,
        "tiers": TIERS,
        "colors": {code: land_class.color for code, land_class in legend().classes.items()},
    }
    return env


def _link_if_address(value: Any) -> Any:
    """A web address as a link, which search engines do not follow; anything else unchanged."""
    if isinstance(value, str) and value.startswith(("https://", "http://")):
        return Markup('<a href="{0}" rel="nofollow noopener">{0}</a>').format(value)
    return value


def html(template: str, settings: Settings, **values: Any) -> str:
    """A page as text; ``settings`` has what every page names: title, operator, contact, where the data are."""
    return environment().get_template(template).render(settings=settings, **values)


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page, plain and compressed (None: it is sent plain only), with its entity tag."""

    plain: bytes
    compressed: bytes | None
    etag: str

    @classmethod
    def of(cls, text: str, compress: bool = True) -> Page:
        """Encode a page once for all readers."""
        plain = text.encode()
        compressed = gzip.compress(plain, 6, mtime=0) if compress else None
        return cls(plain, compressed, f'"{hashlib.sha256(plain).hexdigest()[:24]}"')

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return len(self.plain) + len(self.compressed or b"")

    def response(self, request: Request) -> Response:
        """The page, or status 304 if the client's copy is still valid."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if self.etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        if self.compressed is not None and _GZIP.search(request.headers.get("accept-encoding", "")):
            return HTMLResponse(self.compressed, headers=headers | {"Content-Encoding": "gzip"})
        return HTMLResponse(self.plain, headers=headers)
