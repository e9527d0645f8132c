"""Agreement of an outcome of the engine with one of the reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from tokenservice.onetime import errors
from tokenservice.onetime.values import (
    Consumed,
    Created,
    Introspection,
    Reserved,
)


def outcome(verb: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """The result of a verb, or its refusal."""
    try:
        return verb(*args, **more)
    except errors.OneTimeError as refusal:
        return refusal


def drawn_at(result: Any, arguments: dict[str, Any]) -> datetime | None:
    """The time of the call that the result reports, by the clock of the server."""
    match result:
        case [Created(), *_]:
            return result[0].now
        case Created():
            return result.now
        case Consumed():
            return result.consumed_at
        case Reserved():
            return result.lease_expires_at - timedelta(seconds=arguments["lease_seconds"])
    return None


def later(value: Any, passed: timedelta) -> Any:
    """Move every time in a result forward by ``passed``."""
    if isinstance(value, datetime):
        return value + passed
    if isinstance(value, list | tuple):
        return type(value)(later(each, passed) for each in value)
    if isinstance(value, errors.TokenAlreadyUsed):
        return errors.TokenAlreadyUsed(value.token_id, value.consumed_at + passed)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(
            value, **{name: later(getattr(value, name), passed) for name in names}
        )
    return value


def agree(result: Any, expected: Any, within: timedelta) -> bool:
    """Compare two outcomes; a remaining time may differ by the duration of the call."""
    if type(result) is not type(expected):
        return False
    if isinstance(result, Introspection):
        result, expected = dataclasses.asdict(result), dataclasses.asdict(expected)
    elif isinstance(result, errors.OneTimeError):
        result, expected = dict(vars(result)), dict(vars(expected))
    else:
        return bool(result == expected)
    for name in ("seconds", "expires_in"):
        difference = abs(result.pop(name, 0) - expected.pop(name, 0))
        if difference > within.total_seconds() + 0.002:
            return False
    return bool(result == expected)


def shown(result: Any) -> str:
    if isinstance(result, errors.OneTimeError):
        return f"{type(result).__name__}{vars(result)}"
    return repr(result)
