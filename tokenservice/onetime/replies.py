"""What the scripts' replies mean: lists of bytes into records, or into the errors they tell of."""

from __future__ import annotations

from typing import Any, Never

from tokenservice.onetime import errors
from tokenservice.onetime.values import (
    Consumed,
    Introspection,
    Party,
    Receipt,
    Reserved,
    State,
    moment,
)

REFUSALS = {
    b"unknown": errors.TokenUnknown,
    b"not_for_caller": errors.TokenNotForCaller,
    b"expired": errors.TokenExpired,
    b"revoked": errors.TokenRevoked,
    b"lost": errors.TokenLost,
    b"lease_ended": errors.LeaseEnded,
}


def refuse(outcome: bytes, facts: list[Any], token_id: str = "") -> Never:
    """:raises OneTimeError: the one that ``outcome`` names"""
    if refusal := REFUSALS.get(outcome):
        raise refusal(token_id)
    match outcome:
        case b"consumed_before":
            raise errors.TokenAlreadyUsed(token_id, moment(facts[0]))
        case b"reserved":
            raise errors.TokenReserved(token_id, int(facts[0]) / 1000)
        case b"mismatch":
            raise errors.TokenMismatch(token_id, facts[0].decode())
        case b"idempotency_mismatch":
            raise errors.IdempotencyMismatch
        case b"too_many_active":
            raise errors.TooManyActive(int(facts[0]) / 1000)
    raise errors.StoreUnavailable(f"no such outcome: {outcome!r}")


def consumed(token_id: str, facts: list[Any]) -> Consumed:
    replayed, owner, subject, purpose, data, created, consumed_at = facts
    return Consumed(
        **granted(token_id, owner, subject, purpose, data, created),
        consumed_at=moment(consumed_at),
        replayed=bool(replayed),
    )


def reserved(token_id: str, text: str, facts: list[Any]) -> Reserved:
    lease, owner, subject, purpose, data, created = facts
    return Reserved(
        **granted(token_id, owner, subject, purpose, data, created),
        lease_expires_at=moment(lease),
        text=text,
    )


def granted(
    token_id: str, owner: bytes, subject: bytes, purpose: bytes, data: bytes, created: bytes
) -> dict[str, Any]:
    """What whoever may use a token is told of it, consumed or held."""
    return {
        "id": token_id,
        "owner": owner.decode(),
        "subject": subject.decode(),
        "purpose": purpose.decode(),
        "data": data.decode(),
        "created_at": moment(created),
    }


def receipt(facts: list[Any]) -> Receipt:
    token_id, state, owner, subject, purpose, created, expires, consumed_at, consumer, replays = (
        facts
    )
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
    )


class Seen:
    """A record as ``look`` found it, before it is decided who may know what of it."""

    def __init__(self, facts: list[Any]) -> None:
        self.verifier, audience, bound, now, *rest = facts
        self.receipt = receipt(rest)
        self.audience = tuple(audience.decode().split("\n")) if audience else ()
        self._bound, self._now = bool(bound), moment(now)

    def names(self, party: Party) -> bool:
        """Tell whether ``party`` is its owner or stands in its audience."""
        return party.id == self.receipt.owner or bool({party.id, party.correo} & {*self.audience})

    def introspection(self) -> Introspection:
        left = (self.receipt.expires_at - self._now).total_seconds()
        return Introspection(self.receipt, self.audience, self._bound, max(0.0, left))
