"""A response as plain data, from which each door makes its own."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

JSON = "application/json"
# Built once: json.dumps builds one per call unless all options are defaults.
ENCODER = json.JSONEncoder(ensure_ascii=False)
COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
Headers = list[tuple[str, str]]


class PlainResponse(NamedTuple):
    """A status, header fields in their order, and a body."""

    status: int
    headers: Headers
    body: bytes


def written(
    status: int, value: Any, media_type: str = JSON, encoder: json.JSONEncoder = COMPACT
) -> PlainResponse:
    """A response with ``value`` as JSON in UTF-8, or without a body for 204."""
    if status == 204:
        return PlainResponse(status, [("Content-Type", media_type)], b"")
    body = f"{encoder.encode(value)}\n".encode()
    headers = [("Content-Type", media_type), ("Content-Length", str(len(body)))]
    return PlainResponse(status, headers, body)


def add_vary(headers: Headers, name: str) -> None:
    """Name one more request header on which a response depends."""
    for place, (field, value) in enumerate(headers):
        if field == "Vary":
            if name not in value.split(", "):
                headers[place] = (field, f"{value}, {name}")
            return
    headers.append(("Vary", name))
