"""Errors with an HTTP status, a message and a remedy."""

from __future__ import annotations

from lulcbench.errors import LulcbenchError


class RequestError(LulcbenchError):
    """A request that cannot be served; rendered as the JSON ``{"what", "remedy"}`` or as an error page.

    Args:
        status: HTTP status code.
        what: what is wrong, one sentence.
        remedy: what to do next, one sentence.
        headers: response headers to add.
    """

    def __init__(self, status: int, what: str, remedy: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(what, remedy)
        self.status = status
        self.headers = headers or {}


def not_found(what: str = "There is no such submission.") -> RequestError:
    """The error for submissions that do not exist, and for those that the client may not see."""
    return RequestError(
        404, what, "Check the address; a submission that is not scored yet is visible to its team only."
    )
