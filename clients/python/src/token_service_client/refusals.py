"""What a guarded request gets in place of the page: the same as from the gate of the service."""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

from token_service_client.errors import CallRefused, Refused, TokensError

log = logging.getLogger("token_service_client")


class Refusal(NamedTuple):
    """A response without the page; ``code`` is also in ``X-Token-Code``."""

    status: int
    code: str
    headers: dict[str, str]


def refusal_of(error: TokensError | None) -> Refusal:
    """401 for a request without a token, 403 for a token that is refused, 503 for all else.

    :param error: None where the request has no token
    """
    if error is None:
        return refusal(401, "ticket_missing")
    if isinstance(error, Refused):
        return refusal(403, error.code)
    if isinstance(error, CallRefused):
        # The visitor cannot help it, and its owner has to know.
        log.error("Token Service refuses the calls of this program: %s", error)
    retry_after = str(max(1, math.ceil(error.retry_after)))
    return refusal(503, error.code, **{"Retry-After": retry_after})


def refusal(status: int, code: str, **headers: str) -> Refusal:
    return Refusal(status, code, {"X-Token-Code": code, "Cache-Control": "no-store", **headers})
