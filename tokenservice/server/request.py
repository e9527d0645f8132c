"""A request as it was received, whole."""

from __future__ import annotations

import re
from collections.abc import Sequence

Fields = Sequence[tuple[bytes, bytes]]
#: The part of an absolute target before its path (RFC 9112 section 3.2.2).
ORIGIN = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class Request:
    """A whole request.

    :ivar target: the target as it was received; ``path`` and ``query`` are its parts, still encoded
    :ivar version: "1.0" or "1.1"
    :ivar headers: names in lower case with their values, in the order received; no name with an
        underscore, which would pass for another in a WSGI environment
    :ivar peer: the address and the port of the client
    :ivar is_last: whether the client expects no further response on this connection
    """

    __slots__ = (
        *("method", "target", "path", "query", "version", "headers", "body", "peer"),
        *("scheme", "is_last"),
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        version: str,
        headers: list[tuple[bytes, bytes]],
        peer: tuple[str, int],
    ) -> None:
        self.method, self.target, self.version = method, target, version
        self.headers, self.peer, self.body = headers, peer, b""
        rest = target
        if target[:1] != b"/" and (absolute := ORIGIN.match(target)):
            rest = target[absolute.end() :]
            rest = rest if rest[:1] == b"/" else b"/" + rest
        self.path, _, self.query = rest.partition(b"#")[0].partition(b"?")
        self.scheme = "http"
        self.is_last = method == "CONNECT"  # What follows belongs to the tunnel.

    def get(self, name: bytes) -> bytes | None:
        """The value of a header that stands once, else None."""
        found = [value for known, value in self.headers if known == name]
        return found[0] if len(found) == 1 else None
