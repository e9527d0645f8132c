"""The sandbox: fixed tokens for the tests of integrators, each in one state for good.

They stand before the store and never reach it, so that Redis knows nothing of them. Their texts
lack the shape of a token: where the sandbox is off, they are malformed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tokenservice.onetime import errors
from tokenservice.onetime.format import ID, Token
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import (
    Consumed,
    Introspection,
    Named,
    Party,
    Presented,
    Receipt,
    Reserved,
    State,
    moment,
)

LIFE = timedelta(seconds=60)
#: The time since the consume of a used token, and the one until the end of a foreign lease.
AGE, LEASE_SECONDS = timedelta(seconds=30), 30.0
SUBJECT, DATA = "sandbox", '{"sandbox":true}'
#: The issuer of the token that no expected issuer created. No account has this id.
NOBODY = str(uuid.UUID(int=0))

#: The refusals of states, made from the id of the token.
REFUSALS: Mapping[str, Callable[[str], errors.OneTimeError]] = {
    "used": lambda token_id: errors.TokenAlreadyUsed(token_id, now() - AGE),
    "expired": errors.TokenExpired,
    "lost": errors.TokenLost,
    "reserved": lambda token_id: errors.TokenReserved(token_id, LEASE_SECONDS),
    "revoked": errors.TokenRevoked,
    "unknown": errors.TokenUnknown,
    "not_for_caller": errors.TokenNotForCaller,
    "unavailable": lambda _: errors.StoreUnavailable("sandbox"),
    "lease_ended": errors.LeaseEnded,
}
#: The fields in which tokens differ from what their presenter expects.
MISMATCHES = {
    "other_purpose": "purpose",
    "other_subject": "subject",
    "other_bind": "bind",
    "other_issuer": "issued_by",
}
#: A lease that has ended is noticed by its holder alone: until then its token is good.
ALIVE = {"good", "reserved", "lease_ended", *MISMATCHES}
TOKENS = {f"ott_sandbox_{name}": name for name in ("good", *REFUSALS, *MISMATCHES)}
RESERVATIONS = {
    f"otr_sandbox_{name}": name
    for name in ("good", "used", "lost", "revoked", "unknown", "unavailable", "lease_ended")
}
DESCRIPTION = (
    "\n\nThis service is a sandbox, as `X-Sandbox` says in each response: it accepts the fixed "
    f"tokens {', '.join(f'`{text}`' for text in TOKENS)}, each in the state of its name for good."
)


class Sandbox:
    """Fixed tokens before a store, which gets every other text.

    Each method raises, and returns, what the one of its name in
    :class:`~tokenservice.onetime.store.TokenStore` does for a token in that state.
    """

    def __init__(self, store: TokenStore) -> None:
        self._store = store

    def parse(self, text: str) -> Token:
        name = TOKENS.get(text)
        return Token(id_of(name), "", "") if name else self._store.parse(text)

    def validate(self, given: Presented, caller: Party, *, key: str = "") -> Consumed:
        name = TOKENS.get(given.text)
        if name is None:
            return self._store.validate(given, caller, key=key)
        return consumed(presented(name, given, caller), caller)

    def reserve(
        self, given: Presented, caller: Party, *, lease_seconds: int, key: str = ""
    ) -> Reserved:
        name = TOKENS.get(given.text)
        if name is None:
            return self._store.reserve(given, caller, lease_seconds=lease_seconds, key=key)
        granted = presented(name, given, caller)
        text = f"otr_sandbox_{name}"
        return Reserved(
            **granted,
            lease_expires_at=now() + timedelta(seconds=lease_seconds),
            text=text if text in RESERVATIONS else "otr_sandbox_good",
        )

    def commit(self, reservation: str, caller: Party, *, key: str = "") -> Consumed:
        name = RESERVATIONS.get(reservation)
        if name is None:
            return self._store.commit(reservation, caller, key=key)
        refuse(name)
        return consumed(grant(name, Presented(reservation), caller.id), caller)

    def release(self, reservation: str, caller: Party) -> Named:
        name = RESERVATIONS.get(reservation)
        if name is None:
            return self._store.release(reservation, caller)
        refuse(name)
        return Named(id=id_of(name), owner=caller.id, purpose="")

    def revoke(self, text: str, caller: Party) -> Named:
        name = TOKENS.get(text)
        if name is None:
            return self._store.revoke(text, caller)
        refuse(name, but=("revoked", "lease_ended"))
        return Named(id=id_of(name), owner=caller.id, purpose="")

    def introspect(
        self, text: str, caller: Party, issuers: Sequence[str] = ()
    ) -> Introspection | None:
        name = TOKENS.get(text)
        if name is None:
            return self._store.introspect(text, caller, issuers)
        if name == "unavailable":
            refuse(name)
        owner = owner_of(name, caller, issuers)
        if name not in ALIVE or (issuers and owner not in issuers):
            return None
        granted = grant(name, Presented(text), owner)
        del granted["data"]
        state = State.RESERVED if name == "reserved" else State.ACTIVE
        receipt = Receipt(
            **granted,
            state=state,
            expires_at=granted["created_at"] + LIFE,
            consumed_at=None,
            consumed_by=None,
            replays=0,
        )
        return Introspection(receipt, (), name == "other_bind", LIFE.total_seconds())


def now() -> datetime:
    """The time as a server of the store tells it, in whole milliseconds."""
    return moment(time.time_ns() // 1_000_000)


def id_of(name: str) -> str:
    """The public id of a fixed token, in the shape of any other."""
    return f"fixed{name.replace('_', '')}".ljust(ID, "0")


def refuse(name: str, but: Sequence[str] = ()) -> None:
    """:raises OneTimeError: a token in this state is refused, and not for one of ``but``"""
    if name in REFUSALS and name not in but:
        raise REFUSALS[name](id_of(name))


def owner_of(name: str, caller: Party, issuers: Sequence[str]) -> str:
    """The issuer of a fixed token: the first account among ``issuers``, or the caller without any.

    An address that stayed one has no account.
    """
    if name == "other_issuer":
        return NOBODY
    accounts = [issuer for issuer in issuers if "@" not in issuer]
    return (accounts or [NOBODY])[0] if issuers else caller.id


def presented(name: str, given: Presented, caller: Party) -> dict[str, Any]:
    """The fields of a :class:`~tokenservice.onetime.values.Grant`, for its presenter.

    :raises OneTimeError: the token is refused
    """
    refuse(name, but=("lease_ended",))
    owner, field = owner_of(name, caller, given.issuers), MISMATCHES.get(name, "")
    if given.issuers and owner not in given.issuers:
        raise errors.TokenMismatch(id_of(name), "issued_by")
    # A call without a subject accepts any.
    if field in ("purpose", "bind") or (field == "subject" and given.subject):
        raise errors.TokenMismatch(id_of(name), field)
    return grant(name, given, owner)


def grant(name: str, given: Presented, owner: str) -> dict[str, Any]:
    """The fields of a :class:`~tokenservice.onetime.values.Grant`: on the terms of ``given``."""
    return {
        "id": id_of(name),
        "owner": owner,
        "subject": given.subject or SUBJECT,
        "purpose": given.purpose,
        "data": DATA,
        "created_at": now(),
    }


def consumed(granted: Mapping[str, Any], caller: Party) -> Consumed:
    key = caller.key_id or None
    return Consumed(**granted, consumed_at=now(), consumed_with=key, replayed=False)
