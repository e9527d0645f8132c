"""The promises of the engine in plain Python: the reference of tests/onetime/test_model.py.

It keeps dicts, knows neither Redis nor Lua, and has one clock, which its user sets before each
call. The verbs have the names, arguments, results and errors of the store. The random part of a
new token or reservation, which only the store can know, is read from ``drawn``.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tokenservice.onetime import errors
from tokenservice.onetime.format import TAG, Reservation, Token, epoch_of, shard_tag
from tokenservice.onetime.values import (
    Consumed,
    Created,
    Introspection,
    Named,
    Party,
    Presented,
    Receipt,
    Reserved,
    State,
    Terms,
)

# Redis ends the life of a key by another reading of its clock than a script's TIME, and letting
# time pass for stored state costs each key up to a millisecond.
KEY_TOLERANCE = timedelta(milliseconds=20)
#: The longest remaining life after which a decided record keeps its end.
SPARED = timedelta(seconds=10)
Moment = tuple[datetime, timedelta]


@dataclass
class Record:
    """One token, as the store should remember it until ``gone_at``."""

    id: str
    text: str
    run: int
    owner: str
    terms: Terms
    created_at: datetime
    expires_at: datetime
    gone_at: datetime
    order: int
    lease_ends_at: datetime | None = None
    reservation: str = ""
    consumed_at: datetime | None = None
    consumed_by: str | None = None
    revoked: bool = False
    cut: str = ""
    replays: int = 0
    repeatable: tuple[Any, ...] = ()

    @property
    def ends_at(self) -> datetime:
        """The time after which no verb can use it."""
        return max(self.expires_at, self.lease_ends_at or self.expires_at)


@dataclass
class Known:
    """The request and the result of an idempotency key, until ``gone_at``."""

    request: Any
    result: Any
    gone_at: datetime


@dataclass
class Kept:
    """The data of a snapshot, which a crash restores."""

    records: dict[str, Record] = field(default_factory=dict)
    known: dict[tuple[str, ...], Known] = field(default_factory=dict)


class Reference:
    """:param term: of the server that is up"""

    def __init__(
        self,
        term: bytes,
        *,
        receipt_seconds: int,
        window_seconds: int,
        max_active: int,
        shards: int,
    ) -> None:
        self.now = datetime.min.replace(tzinfo=UTC)
        self.lean = timedelta(0)
        self.drawn: Any = None
        self._receipt = timedelta(seconds=receipt_seconds)
        self._window = timedelta(seconds=window_seconds)
        self._max_active = max_active
        self._shards = shards
        self._run, self._epoch = 0, epoch_of(term)
        self._issued = 0
        self._holders: dict[str, str] = {}
        self._kept, self._snapshot = Kept(), Kept()

    # Time and crashes

    def moments(self, before: datetime, after: datetime) -> list[Moment]:
        """The readings of the clock between two others that may lead to different results.

        Each comes with the time by which Redis may read its clock earlier or later for the life
        of a key.
        """
        turns, ends = set(), [known.gone_at for known in self._kept.known.values()]
        for record in self._kept.records.values():
            turns |= {record.expires_at, record.lease_ends_at or record.expires_at}
            turns.add(record.expires_at - SPARED)
            ends.append(record.gone_at)
        tolerance = KEY_TOLERANCE + (after - before)
        unsure = any(before - tolerance <= end <= after + tolerance for end in ends)
        readings = [before, *sorted(turn for turn in turns if before < turn <= after)]
        leans = [timedelta(0), -tolerance, tolerance] if unsure else [timedelta(0)]
        return list(itertools.product(readings, leans))

    def save(self) -> None:
        self._snapshot = copy.deepcopy(self._kept)

    def restart(self, term: bytes) -> None:
        """Take over as another process, with the data of the last snapshot."""
        self._kept = copy.deepcopy(self._snapshot)
        self._run, self._epoch = self._run + 1, epoch_of(term)

    # The verbs

    def create(
        self, owner: str, *, life_seconds: int, terms: Terms, key: str = ""
    ) -> Created | None:
        self.drawn = [self.drawn]
        created = self._issue("create", owner, 1, life_seconds, terms, key)
        return created[0] if created else None

    def create_many(
        self, owner: str, count: int, *, life_seconds: int, terms: Terms, key: str = ""
    ) -> list[Created] | None:
        return self._issue("batch", owner, count, life_seconds, terms, key)

    def _issue(
        self, kind: str, owner: str, count: int, life_seconds: int, terms: Terms, key: str
    ) -> list[Created] | None:
        terms = replace(terms, subject=terms.subject or owner)
        wanted = replace(terms, audience=terms.asked or terms.audience, asked=())
        request = (count, life_seconds, wanted)
        name = (shard_tag(owner, self._shards), owner, kind, key)
        if known := self._recall(name, request):
            run, ids = known.result
            if run == self._run:
                records = [self._kept.records[token_id] for token_id in ids]
                return [self._created(record, replayed=True) for record in records]

        outstanding = sorted(
            record.ends_at for record in self._records_of(owner) if self._takes_place(record)
        )
        missing = len(outstanding) + count - self._max_active
        if missing > 0:
            enough = outstanding[missing - 1] if missing <= len(outstanding) else self.now
            raise errors.TooManyActive((enough - self.now).total_seconds())

        if not isinstance(self.drawn, list) or len(self.drawn) != count:
            return None
        expires_at = self.now + timedelta(seconds=life_seconds)
        issued = []
        for new in self.drawn:
            if not isinstance(new, Created) or new.id in self._kept.records:
                return None
            token = Token.parse(new.text)
            if (token.id, token.epoch) != (new.id, self._epoch):
                return None
            record = Record(
                id=new.id,
                text=new.text,
                run=self._run,
                owner=owner,
                terms=terms,
                created_at=self.now,
                expires_at=expires_at,
                gone_at=expires_at + self._receipt,
                order=self._issued,
            )
            self._issued += 1
            self._kept.records[new.id] = record
            issued.append(self._created(record))
        self._remember(name, request, (self._run, [new.id for new in issued]))
        return issued

    def validate(self, given: Presented, caller: Party, *, key: str = "") -> Consumed:
        record = self._admitted(given.text, caller)
        name = (record.id[:TAG], caller.id, "validate", key)
        if self._is_repeated(record, name, given) and record.consumed_by == caller.id:
            return consumed(record, replayed=True)
        self._refuse_unless_free(record, given)
        self._consume(record, caller)
        record.reservation = ""
        self._remember(name, given, None, record)
        return consumed(record, replayed=False)

    def reserve(
        self, given: Presented, caller: Party, *, lease_seconds: int, key: str = ""
    ) -> Reserved | None:
        record = self._admitted(given.text, caller)
        name, request = (record.id[:TAG], caller.id, "reserve", key), (given, lease_seconds)
        if self._is_repeated(record, name, request):
            known = self._recall(name, request) if record.repeatable != (name, request) else None
            result = known.result if known else record.reservation
            if self._state(record) is State.RESERVED and record.reservation == result:
                return reserved(record, replayed=True)
            if self._state(record) is State.REVOKED:
                raise errors.TokenRevoked(record.id)
            raise errors.LeaseEnded(record.id)
        self._refuse_unless_free(record, given)
        if not isinstance(self.drawn, Reserved) or self.drawn.text in self._holders:
            return None
        record.reservation = self.drawn.text
        self._holders[record.reservation] = caller.id
        record.lease_ends_at = self.now + timedelta(seconds=lease_seconds)
        record.gone_at = max(record.gone_at, record.lease_ends_at + self._receipt)
        self._remember(name, request, record.reservation, record)
        return reserved(record, replayed=False)

    def commit(self, reservation: str, caller: Party, *, key: str = "") -> Consumed:
        record = self._held(reservation, caller)
        name = (record.id[:TAG], caller.id, "commit", key)
        if self._is_repeated(record, name, reservation) and record.reservation == reservation:
            return consumed(record, replayed=True)
        self._refuse_unless_held(record, reservation)
        self._consume(record, caller)
        self._remember(name, reservation, None, record)
        return consumed(record, replayed=False)

    def release(self, reservation: str, caller: Party) -> Named:
        record = self._held(reservation, caller)
        self._refuse_unless_held(record, reservation)
        record.reservation, record.lease_ends_at, record.repeatable = "", None, ()
        return Named(id=record.id, owner=record.owner, purpose=record.terms.purpose)

    def revoke(self, text: str, caller: Party) -> Named:
        record = self._of_text(text)
        if caller.id != record.owner and not admits(record, caller):
            raise errors.TokenNotForCaller(record.id)
        return self._revoke(record)

    def revoke_id(self, token_id: str, owner: Party) -> Named:
        record = self._record(token_id)
        if record is None or record.owner != owner.id:
            raise errors.TokenUnknown(token_id)
        return self._revoke(record)

    def revoke_all(self, owner: str, *, purpose: str = "", subject: str = "") -> None:
        for record in self._records_of(owner):
            terms = record.terms
            if record.run == self._run and (
                terms.purpose == purpose if purpose else subject in ("", terms.subject)
            ):
                record.cut = record.cut or "part" if purpose or subject else "all"

    def introspect(self, text: str, caller: Party) -> Introspection | None:
        try:
            record = self._of_text(text)
        except errors.TokenRefused:
            return None
        if caller.id != record.owner and not admits(record, caller):
            return None
        if self._state(record) not in (State.ACTIVE, State.RESERVED):
            return None
        left = max(0.0, (record.expires_at - self.now).total_seconds())
        terms = record.terms
        return Introspection(self._receipt_of(record), terms.audience, bool(terms.bind), left)

    def receipt(self, token_id: str, reader: Party | None) -> Receipt:
        record = self._record(token_id)
        if record is None or not (
            reader is None
            or reader.id == record.owner
            or (record.terms.audience and admits(record, reader))
        ):
            raise errors.TokenUnknown(token_id)
        return self._receipt_of(record)

    def list_all(self, owner: str, *, state: str = "", purpose: str = "") -> list[Receipt]:
        """All pages of ``list_for`` together."""
        newest_first = sorted(self._records_of(owner), key=lambda record: -record.order)
        return [
            receipt
            for receipt in map(self._receipt_of, newest_first)
            if state in ("", receipt.state) and purpose in ("", receipt.purpose)
        ]

    def census(self) -> tuple[int, int]:
        """The tokens that count under the cap, and those that are held, cut or not."""
        records = [each for each in self._kept.records.values() if each.run == self._run]
        held = (each.lease_ends_at for each in records if each.consumed_at is None)
        return sum(map(self._takes_place, records)), sum(
            1 for end in held if end and end > self.now
        )

    # Parts of the verbs

    def _is_gone(self, thing: Record | Known) -> bool:
        return thing.gone_at < self.now + self.lean

    def _record(self, token_id: str) -> Record | None:
        record = self._kept.records.get(token_id)
        return None if record is None or self._is_gone(record) else record

    def _records_of(self, owner: str) -> list[Record]:
        records = self._kept.records.values()
        return [each for each in records if each.owner == owner and not self._is_gone(each)]

    def _or_missing(self, token_id: str, epoch: str) -> Record:
        record = self._record(token_id)
        if record is None:
            raise self._missing(token_id, epoch)
        return record

    def _missing(self, token_id: str, epoch: str) -> errors.TokenRefused:
        refusal = errors.TokenUnknown if epoch == self._epoch else errors.TokenLost
        return refusal(token_id)

    def _of_text(self, text: str) -> Record:
        token = Token.parse(text)
        record = self._record(token.id)
        # A wrong secret gets the refusal of an unknown id.
        if record is None or record.text != text:
            raise self._missing(token.id, token.epoch)
        return record

    def _admitted(self, text: str, caller: Party) -> Record:
        record = self._of_text(text)
        if not admits(record, caller):
            raise errors.TokenNotForCaller(record.id)
        return record

    def _held(self, text: str, caller: Party) -> Record:
        reservation = Reservation.parse(text)
        if self._holders.get(text) != caller.id:
            raise errors.TokenUnknown(reservation.id)
        return self._or_missing(reservation.id, reservation.epoch)

    def _state(self, record: Record) -> State:
        if record.consumed_at is not None:
            return State.CONSUMED
        if record.revoked or (record.cut and record.run == self._run):
            return State.REVOKED
        is_held = record.lease_ends_at is not None and self.now < record.lease_ends_at
        if self.now >= record.expires_at and not is_held:
            return State.EXPIRED
        if record.run != self._run:
            return State.LOST
        return State.RESERVED if is_held else State.ACTIVE

    def _takes_place(self, record: Record) -> bool:
        """Whether it counts under the cap: one that a narrow cut revoked does while it lives."""
        if record.cut == "part" and not record.revoked and record.run == self._run:
            return record.consumed_at is None and self.now < record.ends_at
        return self._state(record) in (State.ACTIVE, State.RESERVED)

    def _refuse(self, record: Record, state: State) -> None:
        """Raise the refusal that the state alone demands."""
        if state is State.CONSUMED:
            assert record.consumed_at
            raise errors.TokenAlreadyUsed(record.id, record.consumed_at)
        refusals = {
            State.REVOKED: errors.TokenRevoked,
            State.EXPIRED: errors.TokenExpired,
            State.LOST: errors.TokenLost,
        }
        if refusal := refusals.get(state):
            raise refusal(record.id)

    def _refuse_if_reserved(self, record: Record, state: State) -> None:
        if state is State.RESERVED:
            assert record.lease_ends_at
            raise errors.TokenReserved(record.id, (record.lease_ends_at - self.now).total_seconds())

    def _refuse_unless_free(self, record: Record, given: Presented) -> None:
        state = self._state(record)
        record.replays += state is State.CONSUMED
        self._refuse(record, state)
        if given.issuers and record.owner not in given.issuers:
            raise errors.TokenMismatch(record.id, "issued_by")
        if given.purpose != record.terms.purpose:
            raise errors.TokenMismatch(record.id, "purpose")
        omitted = [] if record.terms.require_subject else [""]
        if given.subject not in (*omitted, record.terms.subject):
            raise errors.TokenMismatch(record.id, "subject")
        if given.bind != record.terms.bind:
            raise errors.TokenMismatch(record.id, "bind")
        if given.room and len(record.terms.data.encode()) > given.room:
            raise errors.TokenMismatch(record.id, "data")
        self._refuse_if_reserved(record, state)

    def _refuse_unless_held(self, record: Record, reservation: str) -> None:
        state = self._state(record)
        is_latest = record.reservation == reservation
        if state in (State.LOST, State.REVOKED) or (state is State.CONSUMED and is_latest):
            self._refuse(record, state)
        if state is not State.RESERVED or not is_latest:
            raise errors.LeaseEnded(record.id)

    def _consume(self, record: Record, caller: Party) -> None:
        record.consumed_at, record.consumed_by = self.now, caller.id
        self._keep_no_longer(record)

    def _keep_no_longer(self, record: Record) -> None:
        """Shorten the life of a record that is decided long before its end."""
        if record.expires_at - self.now > SPARED:
            record.gone_at = self.now + self._receipt

    def _revoke(self, record: Record) -> Named:
        state = self._state(record)
        if state is not State.REVOKED:
            self._refuse(record, state)
            self._refuse_if_reserved(record, state)
            record.revoked, record.repeatable = True, ()
            self._keep_no_longer(record)
        return Named(id=record.id, owner=record.owner, purpose=record.terms.purpose)

    def _recall(self, name: tuple[str, ...], request: Any) -> Known | None:
        known = self._kept.known.get(name)
        if known is None or self._is_gone(known):
            return None
        if known.request != request:
            raise errors.IdempotencyMismatch
        return known

    def _is_repeated(self, record: Record, name: tuple[str, ...], request: Any) -> bool:
        """The record remembers the last call that changed it for longer than the key."""
        return record.repeatable == (name, request) or bool(self._recall(name, request))

    def _remember(
        self, name: tuple[str, ...], request: Any, result: Any, record: Record | None = None
    ) -> None:
        if record:
            record.repeatable = (name, request) if name[-1] else ()
        if name[-1]:
            self._kept.known[name] = Known(request, result, self.now + self._window)

    def _created(self, record: Record, *, replayed: bool = False) -> Created:
        return Created(
            id=record.id,
            created_at=record.created_at,
            expires_at=record.expires_at,
            now=self.now,
            text=record.text,
            audience=record.terms.audience,
            state=self._state(record),
            replayed=replayed,
        )

    def _receipt_of(self, record: Record) -> Receipt:
        return Receipt(
            id=record.id,
            state=self._state(record),
            owner=record.owner,
            subject=record.terms.subject,
            purpose=record.terms.purpose,
            created_at=record.created_at,
            expires_at=record.expires_at,
            consumed_at=record.consumed_at,
            consumed_by=record.consumed_by,
            replays=record.replays,
        )


def admits(record: Record, party: Party) -> bool:
    audience = record.terms.audience
    return not audience or party.id in audience or party.correo in audience


def granted(record: Record) -> dict[str, Any]:
    """The fields of a grant."""
    named = {name: getattr(record.terms, name) for name in ("subject", "purpose", "data")}
    return {"id": record.id, "owner": record.owner, "created_at": record.created_at, **named}


def consumed(record: Record, *, replayed: bool) -> Consumed:
    assert record.consumed_at
    return Consumed(**granted(record), consumed_at=record.consumed_at, replayed=replayed)


def reserved(record: Record, *, replayed: bool) -> Reserved:
    ends, text = record.lease_ends_at, record.reservation
    assert ends
    return Reserved(**granted(record), lease_expires_at=ends, text=text, replayed=replayed)
