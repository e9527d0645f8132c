"""How a token gets from the browser to the program that consumes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from token_service_client.values import Created

#: The subprotocol that a page offers before the token, and that the server selects.
SUBPROTOCOL = "ott"
HEADER = "X-One-Time-Token"


class Headers(Protocol):
    """The headers of a request, in any framework."""

    def items(self) -> Iterable[tuple[str, str]]: ...


def websocket_ticket(headers: Headers) -> str | None:
    """The token of ``new WebSocket(url, ["ott", token])``; None where there is none."""
    return following(SUBPROTOCOL, values(headers, "Sec-WebSocket-Protocol"))


def ticket_of(headers: Headers) -> str | None:
    """The token of a request: in ``X-One-Time-Token``, or that of a WebSocket."""
    return values(headers, HEADER) or websocket_ticket(headers)


def email_link(url: str, created: Created) -> str:
    """A link with the token behind the ``#``, which no server, log or ``Referer`` gets to see."""
    if "#" in url:
        raise ValueError("the URL has a fragment already")
    return f"{url}#{created.token}"


def following(word: str, offered: str) -> str | None:
    words = [name.strip() for name in offered.split(",")]
    return words[words.index(word) + 1] if word in words[:-1] else None


def values(headers: Headers, name: str) -> str:
    """All values of a header, whatever its case."""
    return ",".join(value for key, value in headers.items() if key.lower() == name.lower())
