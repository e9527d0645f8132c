"""Strict JSON (RFC 8259; I-JSON, RFC 7493 section 2).

Python's reader takes NaN, keeps the last of two equal names, follows any nesting until the stack
overflows, and passes lone surrogates on to the next encoder. Each of these has been a 500
somewhere, so each is refused here as "not JSON". A byte order mark too (RFC 8259 section 8.1), by
its name: nobody sees it.
"""

from __future__ import annotations

import json
import math
from typing import Any

from flask.json.provider import DefaultJSONProvider

MAX_DEPTH = 32


def loads(body: str | bytes) -> Any:
    """Read one JSON value in UTF-8.

    :raises ValueError: the body is not strict JSON
    """
    text = body.decode("utf-8") if isinstance(body, bytes) else body
    if text.startswith("\ufeff"):
        raise ValueError("begins with a byte order mark")
    try:
        value = DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # In bytes only an escape can write NUL or a lone surrogate. To look at each value takes 2 µs.
    if text is body or "\\u" in text or text.count("{") + text.count("[") > MAX_DEPTH:
        _check_text_and_depth(value)
    return value


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


# Built once: json.loads builds one per call unless all options are defaults.
DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_names, parse_constant=_refuse_constant, parse_float=_finite
)


def _check_text_and_depth(value: Any) -> None:
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        if isinstance(item, str):
            # A lone surrogate cannot be encoded, and Postgres takes no NUL in a text.
            item.encode("utf-8")
            if "\0" in item:
                raise ValueError("a text holds NUL")
        elif isinstance(item, dict):
            waiting.extend((part, depth + 1) for pair in item.items() for part in pair)
        elif isinstance(item, list):
            waiting.extend((part, depth + 1) for part in item)


class StrictJSON(DefaultJSONProvider):
    """Flask's JSON provider: strict reading, UTF-8 output, members in the order of the schema."""

    ensure_ascii = False
    sort_keys = False
    compact = True

    def loads(self, s: str | bytes, **_: Any) -> Any:
        return loads(s)
