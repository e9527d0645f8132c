"""The token store: each verb is one Lua script, one round trip and one atomic step."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any

from tokenservice.onetime import errors, replies
from tokenservice.onetime.census import census
from tokenservice.onetime.connection import Connection
from tokenservice.onetime.format import (
    TOKEN,
    Reservation,
    Token,
    checked_id,
    derived_key,
    derived_secret,
    epoch_of,
    idempotency,
    new_nonce,
    new_secret,
    verifier,
)
from tokenservice.onetime.keys import Keys
from tokenservice.onetime.shards import Shards
from tokenservice.onetime.values import (
    MOST_CUTS,
    OFF_SECONDS,
    UNBOUND,
    Consumed,
    Created,
    Introspection,
    Named,
    Page,
    Party,
    Presented,
    Receipt,
    Reserved,
    State,
    Terms,
)


class TokenStore:
    """Single-use tokens in one Redis.

    Every verb raises :exc:`~tokenservice.onetime.errors.StoreUnavailable` when Redis gives no
    trustworthy reply. It repeats nothing: a caller without a response repeats the call with the
    same idempotency ``key``, and gets the lost response.

    :param secret: the key from which reservations, and tokens created under an idempotency key, are
        derived again, because Redis never holds them
    :param fallbacks: other secrets whose reservations and keyed tokens are honoured
    :param receipt_seconds: the time that a record outlives its token
    :param window_seconds: the life of an idempotency key; at most ``receipt_seconds``
    :param max_active: the most outstanding tokens of an owner
    :param shards: the tags that spread the owners over cluster slots; 1 on a single server
    :param timed: a context manager around each call, made from the verb's name
    """

    def __init__(
        self,
        connection: Connection,
        *,
        secret: bytes,
        fallbacks: Sequence[bytes] = (),
        receipt_seconds: int = 300,
        window_seconds: int = 60,
        max_active: int = 1000,
        shards: int = 1,
        timed: Callable[[str], AbstractContextManager[None]] = lambda verb: nullcontext(),
    ) -> None:
        self._keys = [derived_key(b"one-time tokens", each) for each in (secret, *fallbacks)]
        self._receipt_ms = receipt_seconds * 1000
        self._kept_ms = window_seconds * 1000, self._receipt_ms
        self._max_active = max_active
        self._shards = Shards(connection, shards, timed)
        self.probe, self.masters = self._shards.probe, self._shards.masters
        self.census = partial(census, self._shards)
        self.parse = Token.parse

    def create(
        self, owner: str, *, life_seconds: int, terms: Terms = UNBOUND, key: str = ""
    ) -> Created:
        """Issue one token of ``owner``, unless it was disabled (:exc:`OwnerDisabled`).

        :raises TooManyActive: the owner has ``max_active`` of them
        :raises IdempotencyMismatch: ``key`` was used for another create
        """
        return self._issue("create", owner, 1, life_seconds, terms, key)[0]

    def create_many(
        self, owner: str, count: int, *, life_seconds: int, terms: Terms = UNBOUND, key: str = ""
    ) -> list[Created]:
        """Issue ``count`` tokens of ``owner``, all or none.

        :raises TooManyActive: the owner would have more than ``max_active`` of them
        :raises IdempotencyMismatch: ``key`` was used for another batch
        """
        return self._issue("batch", owner, count, life_seconds, terms, key)

    def validate(self, given: Presented, caller: Party, *, key: str = "") -> Consumed:
        """Consume a token; or, under the ``key`` that consumed it, replay that response.

        :raises TokenRefused: nothing was consumed
        :raises IdempotencyMismatch: ``key`` was used for another validate
        """
        token = Token.parse(given.text)
        return replies.consumed(token.id, self._present("validate", token, given, caller, key))

    def reserve(
        self, given: Presented, caller: Party, *, lease_seconds: int, key: str = ""
    ) -> Reserved:
        """Hold a token for ``caller`` during the action that it allows.

        :raises TokenRefused: nothing is held
        :raises IdempotencyMismatch: ``key`` was used for another reserve
        """
        token, own = Token.parse(given.text), new_nonce()
        told, *facts = self._present("reserve", token, given, caller, key, (own, lease_seconds))
        nonce = told.decode()
        held = Reservation.held_by(caller.holder, self._keys[0], token.id, token.epoch, nonce)
        return replies.reserved(token.id, str(held), facts, replayed=nonce != own)

    def commit(self, reservation: str, caller: Party, *, key: str = "") -> Consumed:
        """Consume the token that ``caller`` holds.

        :raises TokenUnknown: the reservation is not the caller's
        :raises LeaseEnded: the reservation is over
        :raises TokenRefused: nothing was consumed
        """
        held = self._held(reservation, caller)
        name, request = idempotency(caller.id, "commit", key, reservation)
        given = (held.nonce, held.epoch, caller.id, name, request, *self._kept_ms, caller.key_id)
        return replies.consumed(held.id, self._on_record("commit", held.id, *given, name=name))

    def release(self, reservation: str, caller: Party) -> Named:
        """Release the token that ``caller`` holds.

        :raises TokenUnknown: the reservation is not the caller's
        :raises LeaseEnded: the reservation is over
        """
        held = self._held(reservation, caller)
        return replies.named(held.id, self._on_record("release", held.id, held.nonce, held.epoch))

    def revoke(self, text: str, caller: Party) -> Named:
        """Revoke a token that ``caller`` has and owns or may consume.

        :raises TokenRefused: it is not active, nor revoked already
        """
        token = Token.parse(text)
        return self._revoke(token.id, verifier(token.secret), token.epoch, caller)

    def revoke_id(self, token_id: str, owner: Party) -> Named:
        """Revoke a token of ``owner`` by its id.

        :raises TokenRefused: it is not active, nor revoked already
        """
        return self._revoke(checked_id(token_id), b"", "", owner)

    def revoke_all(
        self, owner: str, *, purpose: str = "", subject: str = "", disable: bool = False
    ) -> None:
        """Revoke all unused tokens of ``owner``, or those with a purpose, or with a subject.

        :param disable: the owner also creates none for ``OFF_SECONDS``, or until :meth:`enable`
        :raises TooManyCuts: ``MOST_CUTS`` purposes and subjects are cut off already
        """
        part = f"p:{purpose}" if purpose else f"s:{subject}" if subject else "all"
        keys, off = Keys.of_owner(owner, self._shards.count), OFF_SECONDS * 1000 * disable
        reply = self._shards.run("revoke_all", keys, [keys.live], owner, part, off, MOST_CUTS)
        replies.facts_of("revoke_all", reply)

    def enable(self, owner: str) -> None:
        """Let a disabled ``owner`` create again."""
        self._shards.run("enable", Keys.of_owner(owner, self._shards.count), [], owner)

    def introspect(
        self, text: str, caller: Party, issuers: Sequence[str] = ()
    ) -> Introspection | None:
        """Look at a token without a consume; None unless alive, for ``caller``, of an issuer."""
        try:
            token = Token.parse(text)
        except errors.TokenMalformed:
            return None
        seen = self._look(token.id)
        if seen is None or not hmac.compare_digest(seen.verifier, verifier(token.secret)):
            return None
        if not seen.is_for(caller, issuers):
            return None
        is_alive = seen.receipt.state in (State.ACTIVE, State.RESERVED)
        return seen.introspection() if is_alive else None

    def receipt(self, token_id: str, reader: Party | None = None) -> Receipt:
        """The state of a token, for its owner and its audience; None reads any.

        :raises TokenUnknown: there is no record, or it is not for the reader
        """
        seen = self._look(checked_id(token_id))
        if seen is None or not (reader is None or seen.names(reader)):
            raise errors.TokenUnknown(token_id)
        return seen.receipt

    def list_for(
        self, owner: str, *, cursor: str = "", limit: int = 20, state: str = "", purpose: str = ""
    ) -> Page:
        """Receipts of an owner's tokens, newest first.

        It looks at ``limit`` of them: with a filter a page may hold fewer.

        :param cursor: ``next_cursor`` of the previous page
        """
        keys = Keys.of_owner(owner, self._shards.count)
        _, next_cursor, found = self._shards.run("page", keys, [keys.index], cursor, limit)
        ids = [token_id.decode() for token_id in found]
        items = []
        if ids:
            named = [keys.index, keys.live, *keys.records(ids)]
            _, items = self._shards.run("receipts", keys, named, owner, state, purpose, *ids)
        return Page(tuple(replies.receipt(item) for item in items), next_cursor.decode())

    def _issue(
        self, kind: str, owner: str, count: int, life_seconds: int, terms: Terms, key: str
    ) -> list[Created]:
        keys = Keys.of_owner(owner, self._shards.count)
        new_ids = [keys.new_id() for _ in range(count)]
        made = {
            token_id: derived_secret(self._keys[0], TOKEN, token_id, key) if key else new_secret()
            for token_id in new_ids
        }
        audience, asked = "\n".join(terms.audience), "\n".join(terms.asked or terms.audience)
        others = terms.subject or owner, terms.data, terms.bind
        demand = ["require_subject"] * terms.require_subject
        wanted = str(count), str(life_seconds), terms.purpose, asked, *others, *demand
        name, request = idempotency(owner, kind, key, *wanted)
        term, reply = self._shards.run_in_term(
            "create",
            keys,
            [keys.live, keys.index, keys.owners, *keys.records(made), *keys.idem(name)],
            *(owner, life_seconds * 1000, self._max_active, name, request, *self._kept_ms),
            *(terms.purpose, audience, *others, "1" * terms.require_subject, terms.issued_with),
            *(part for token_id in made for part in (token_id, verifier(made[token_id]))),
        )
        epoch = epoch_of(term)
        if reply[0] == b"owner_disabled":
            raise errors.OwnerDisabled
        if reply[0] == b"known":
            return self._again(keys, epoch, reply[1].decode().split(), key)
        created_at, expires_at, stale = replies.facts_of("create", reply)
        if ids := [token_id.decode() for token_id in stale]:
            self._shards.sweep(keys, ids, self._receipt_ms)
        facts = created_at, expires_at, created_at, audience.encode(), [b"active"] * count
        return replies.created(made, epoch, *facts, replayed=False)

    def _again(self, keys: Keys, epoch: str, ids: Sequence[str], key: str) -> list[Created]:
        """The tokens that an earlier create under ``key`` issued, as they are now.

        :raises IdempotencyMismatch: the service's secret has changed since
        """
        reply = self._shards.run("again", keys, [keys.live, *keys.records(ids)])
        *facts, verifiers = replies.facts_of("create", reply)
        for secret in self._keys:
            made = {token_id: derived_secret(secret, TOKEN, token_id, key) for token_id in ids}
            if [verifier(text) for text in made.values()] == verifiers:
                return replies.created(made, epoch, *facts, replayed=True)
        raise errors.IdempotencyMismatch

    def _held(self, text: str, holder: Party) -> Reservation:
        held = Reservation.parse(text)
        if not any(held.is_held_by(holder.holder, secret) for secret in self._keys):
            raise errors.TokenUnknown(held.id)
        return held

    def _revoke(self, token_id: str, proof: bytes, epoch: str, caller: Party) -> Named:
        given = (proof, epoch, caller.id, caller.correo, self._receipt_ms)
        return replies.named(token_id, self._on_record("revoke", token_id, *given))

    def _look(self, token_id: str) -> replies.Seen | None:
        with suppress(errors.TokenUnknown):
            return replies.Seen(self._on_record("look", token_id, token_id))
        return None

    def _present(
        self,
        verb: str,
        token: Token,
        given: Presented,
        caller: Party,
        key: str,
        lease: tuple[str, int] | None = None,
    ) -> list[Any]:
        """Run the script of a presented token, which a ``lease`` (nonce, seconds) holds."""
        bound = (given.purpose, given.subject, given.bind)
        request, last = [given.text, *bound], list[Any]([caller.key_id])
        if lease:
            request.append(str(lease[1]))
            last = [lease[0], lease[1] * 1000]
        if given.issuers:  # The release before knows none, and its keys stand for the rest alone.
            request.append("\n".join(given.asked or given.issuers))
        request += [str(given.room)] * (given.room > 0)
        name, stands_for = idempotency(caller.id, verb, key, *request)
        proof = verifier(token.secret), token.epoch, caller.id, caller.correo
        expected = *bound, "\n".join(given.issuers), given.room or ""
        more = name, stands_for, *self._kept_ms, *last
        return self._on_record(verb, token.id, *proof, *expected, *more, name=name)

    def _on_record(self, verb: str, token_id: str, *args: Any, name: str = "") -> list[Any]:
        """Run a verb on one record; return the facts of its success.

        :raises OneTimeError: the verb replied with its code
        """
        keys = Keys.of_token(token_id)
        named = [keys.record(token_id), keys.live, *keys.more(verb), *keys.idem(name)]
        return replies.facts_of(verb, self._shards.run(verb, keys, named, *args), token_id)
