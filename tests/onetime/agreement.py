"""When an outcome of the engine and one of the reference agree."""

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
    """The answer of a verb, or its refusal."""
    try:
        return verb(*args, **more)
    except errors.OneTimeError as refusal:
        return refusal


def drawn_at(told: Any, asked: dict[str, Any]) -> datetime | None:
    """When the server did what it tells of, which may be now."""
    match told:
        case [Created(), *_]:
            return told[0].created_at
        case Created():
            return told.created_at
        case Consumed():
            return told.consumed_at
        case Reserved():
            return told.lease_expires_at - timedelta(seconds=asked["lease_seconds"])
    return None


def later(value: Any, passed: timedelta) -> Any:
    """Move every time in an answer to what the clock would have shown."""
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


def agree(told: Any, foretold: Any, within: timedelta) -> bool:
    """Compare two outcomes; what is left of a time may differ by what the call took."""
    if type(told) is not type(foretold):
        return False
    if isinstance(told, Introspection):
        told, foretold = dataclasses.asdict(told), dataclasses.asdict(foretold)
    elif isinstance(told, errors.OneTimeError):
        told, foretold = dict(vars(told)), dict(vars(foretold))
    else:
        return bool(told == foretold)
    for name in ("seconds", "expires_in"):
        difference = abs(told.pop(name, 0) - foretold.pop(name, 0))
        if difference > within.total_seconds() + 0.002:
            return False
    return bool(told == foretold)


def shown(answer: Any) -> str:
    if isinstance(answer, errors.OneTimeError):
        return f"{type(answer).__name__}{vars(answer)}"
    return repr(answer)
