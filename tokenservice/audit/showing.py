"""Events as lines: of columns for people, of JSON for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tokenservice.audit.reading import Event

#: The widths of all columns but the last.
WIDTHS = (20, 19, 44, 44, 15)
HEAD = ("time (UTC)", "action", "target", "by", "from", "more")
#: The correo of an account, or "" where there is none.
Names = Callable[[str], str]


def as_line(event: Event, names: Names | None = None) -> str:
    """An event for people: time, action, target, actor, address, and what else there is.

    :param names: shows accounts by their names
    """
    by = shown(event.actor_kind, event.actor_id, names)
    if event.key_id:
        by += f" key {event.key_id}"
    more = [f"{name}={written(value)}" for name, value in (event.facts or {}).items()]
    if event.account_id and event.account_id not in (event.target_id, event.actor_id):
        more.insert(0, f"of={called(event.account_id, names)}")
    if event.reason:
        more.append(f'reason="{event.reason}"')
    if event.request_id:
        more.append(f"request={event.request_id}")
    return columns(
        event.at.strftime("%Y-%m-%d %H:%M:%S"),
        event.action,
        shown(event.target_kind, event.target_id, names),
        by,
        event.address or "",
        " ".join(more),
    )


def columns(*cells: str) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=False)]
    return "  ".join([*padded, *cells[len(WIDTHS) :]]).rstrip()


def shown(kind: str | None, named: str | None, names: Names | None) -> str:
    """A kind and an id."""
    if kind == "account" and named:
        named = called(named, names)
    return f"{kind or ''} {named or ''}".strip()


def called(account: str, names: Names | None) -> str:
    """The name of an account, if it is asked for and there is one, or else its id."""
    return (names(account) if names else "") or account


def written(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{name}: {each}" for name, each in value.items()]
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def as_json(event: Event, names: Names | None = None) -> dict[str, Any]:
    """An event for programs: every member, also those without a value."""
    said = dataclasses.asdict(event) | {"at": event.at.isoformat()}
    if names:
        actor = event.actor_id if event.actor_kind == "account" else None
        said["actor_correo"] = names(actor) or None if actor else None
        said["account_correo"] = names(event.account_id) or None if event.account_id else None
    return said
