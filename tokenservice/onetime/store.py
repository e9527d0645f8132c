"""The token store: verbs, each one Lua script, one round trip and one atomic step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import redis

from tokenservice.onetime import errors
from tokenservice.onetime.format import (
    EPOCH,
    ID,
    SECRET,
    TAG,
    Token,
    random_base62,
    shard_tag,
    verifier,
)

KEY_PREFIX = "ott:"


@dataclass(frozen=True, slots=True)
class Created:
    """A new token. ``text`` is shown once and not printed; times are the server's."""

    id: str
    created_at: datetime
    expires_at: datetime
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Consumed:
    """The one first success of a token; times are the server's."""

    id: str
    owner: str
    created_at: datetime
    consumed_at: datetime


class TokenStore:
    """Single-use tokens in one Redis.

    Every verb raises :exc:`~tokenservice.onetime.errors.StoreUnavailable` when Redis gives no
    answer that can be trusted. Nothing is retried: see ``connection.py``.

    :param receipt_seconds: how long a record outlives its token
    :param shards: how many tags share out the owners over cluster slots; 1 on a single server
    :param timed: entered around each call, with the verb's name
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        receipt_seconds: int,
        shards: int = 1,
        timed: Callable[[str], AbstractContextManager[None]] = lambda verb: nullcontext(),
    ) -> None:
        self._timed = timed
        self._receipt_ms = receipt_seconds * 1000
        self._shards = shards
        scripts = resources.files("tokenservice.onetime") / "scripts"
        prelude = (scripts / "prelude.lua").read_text(encoding="utf-8")
        self._scripts = {
            verb: client.register_script(
                prelude + (scripts / f"{verb}.lua").read_text(encoding="utf-8")
            )
            for verb in ("create", "validate")
        }

    def create(self, owner: str, *, life_seconds: int) -> Created:
        """Issue a token of ``owner`` that lives ``life_seconds``."""
        token_id = shard_tag(owner, self._shards) + random_base62(ID - TAG)
        secret = random_base62(SECRET)
        _, run, created_at, expires_at = self._run(
            "create",
            token_id,
            verifier(secret),
            owner,
            life_seconds * 1000,
            self._receipt_ms,
        )
        token = Token(token_id, run.decode()[:EPOCH], secret)
        return Created(token_id, moment(created_at), moment(expires_at), str(token))

    def validate(self, text: str, *, caller: str) -> Consumed:
        """Consume a token.

        :raises TokenMalformed: no such shape; Redis is not asked
        :raises TokenUnknown: no such token
        :raises TokenAlreadyUsed: consumed before
        :raises TokenExpired: its life is over
        :raises TokenLost: another server process issued it
        """
        token = Token.parse(text)
        outcome, *facts = self._run(
            "validate", token.id, verifier(token.secret), token.epoch, caller
        )
        match outcome:
            case b"consumed":
                owner, created_at, consumed_at = facts
                return Consumed(token.id, owner.decode(), moment(created_at), moment(consumed_at))
            case b"already_used":
                raise errors.TokenAlreadyUsed(token.id, moment(facts[0]))
            case b"expired":
                raise errors.TokenExpired(token.id)
            case b"lost":
                raise errors.TokenLost(token.id)
        raise errors.TokenUnknown(token.id)

    def _run(self, verb: str, token_id: str, *args: Any) -> list[Any]:
        key = f"{KEY_PREFIX}{{{token_id[:TAG]}}}:{token_id}"
        try:
            with self._timed(verb):
                return self._scripts[verb](keys=[key], args=args)  # type: ignore[no-any-return]
        except redis.RedisError as error:
            raise errors.StoreUnavailable(f"{verb}: {type(error).__name__}") from error


def moment(milliseconds: int | bytes) -> datetime:
    """Read a time of the server's clock, in milliseconds since 1970."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
