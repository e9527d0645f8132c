"""Replies of the scripts, lists of bytes, as values or errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenservice.onetime.errors import OneTimeError, StoreUnavailable
from tokenservice.onetime.format import Token
from tokenservice.onetime.values import (
    Consumed,
    Created,
    Introspection,
    Named,
    Party,
    Receipt,
    Reserved,
    State,
    moment,
)

#: The outcome of each verb that succeeds on a record.
SUCCESS = {
    "create": b"created",
    "validate": b"consumed",
    "reserve": b"reserved",
    "commit": b"consumed",
    "release": b"released",
    "revoke": b"revoked",
    "revoke_all": b"revoked",
    "look": b"found",
}


def facts_of(verb: str, reply: list[Any], token_id: str = "") -> list[Any]:
    """The facts of a success.

    :raises OneTimeError: the class whose code is the outcome
    """
    outcome, *facts = reply
    if outcome == SUCCESS[verb]:
        return facts
    kind = OneTimeError.kinds.get(outcome.decode())
    if kind is None:
        raise StoreUnavailable(f"no such outcome: {outcome!r}")
    raise kind.from_reply(token_id, facts)


def named(token_id: str, facts: Sequence[bytes]) -> Named:
    """The token of a release or a revoke."""
    owner, purpose = (fact.decode() for fact in facts)
    return Named(id=token_id, owner=owner, purpose=purpose)


def created(
    made: Mapping[str, str],
    epoch: str,
    created_at: bytes,
    expires_at: bytes,
    now: bytes,
    audience: bytes,
    states: Sequence[bytes],
    *,
    replayed: bool,
) -> list[Created]:
    """The tokens with these ids and secrets, of one create."""
    times = moment(created_at), moment(expires_at), moment(now)
    return [
        Created(
            token_id,
            *times,
            text=str(Token(token_id, epoch, secret)),
            audience=members(audience),
            state=State(state.decode()),
            replayed=replayed,
        )
        for (token_id, secret), state in zip(made.items(), states, strict=True)
    ]


def consumed(token_id: str, facts: list[Any]) -> Consumed:
    replayed, *granted, consumed_at, consumed_with = facts
    return Consumed(
        **grant(token_id, *granted),
        consumed_at=moment(consumed_at),
        consumed_with=consumed_with.decode() or None,
        replayed=bool(replayed),
    )


def reserved(token_id: str, text: str, facts: list[Any], *, replayed: bool) -> Reserved:
    lease, *granted = facts
    ends = moment(lease)
    return Reserved(
        **grant(token_id, *granted), lease_expires_at=ends, text=text, replayed=replayed
    )


def grant(
    token_id: str,
    owner: bytes,
    subject: bytes,
    purpose: bytes,
    data: bytes,
    created: bytes,
    issued_with: bytes,
) -> dict[str, Any]:
    """The fields of :class:`~tokenservice.onetime.values.Grant`."""
    return {
        "id": token_id,
        "owner": owner.decode(),
        "subject": subject.decode(),
        "purpose": purpose.decode(),
        "data": data.decode(),
        "created_at": moment(created),
        "issued_with": issued_with.decode() or None,
    }


def receipt(facts: list[Any]) -> Receipt:
    token_id, state, owner, subject, purpose, created, expires, *use, issued_with = facts
    consumed_at, consumer, replays, consumed_with = use
    return Receipt(
        id=token_id.decode(),
        state=State(state.decode()),
        owner=owner.decode(),
        subject=subject.decode(),
        purpose=purpose.decode(),
        created_at=moment(created),
        expires_at=moment(expires),
        consumed_at=moment(consumed_at) if consumed_at else None,
        consumed_by=consumer.decode() or None,
        replays=int(replays),
        issued_with=issued_with.decode() or None,
        consumed_with=consumed_with.decode() or None,
    )


def members(audience: bytes) -> tuple[str, ...]:
    return tuple(audience.decode().split("\n")) if audience else ()


class Seen:
    """A record as ``look`` found it, before its readers are checked."""

    def __init__(self, facts: list[Any]) -> None:
        self.verifier, audience, bound, now, *rest = facts
        self.receipt = receipt(rest)
        self.audience = members(audience)
        self._bound, self._now = bool(bound), moment(now)

    def names(self, party: Party) -> bool:
        """Tell whether ``party`` is the owner or in the audience."""
        return party.id == self.receipt.owner or bool({party.id, party.correo} & {*self.audience})

    def is_for(self, caller: Party, issuers: Sequence[str]) -> bool:
        """Tell whether ``caller`` may consume it, and one of ``issuers``, if any, created it."""
        is_of_them = not issuers or self.receipt.owner in issuers
        return is_of_them and (not self.audience or self.names(caller))

    def introspection(self) -> Introspection:
        left = (self.receipt.expires_at - self._now).total_seconds()
        return Introspection(self.receipt, self.audience, self._bound, max(0.0, left))
