"""Guessed tokens, very many of them."""

from __future__ import annotations

import secrets

import pytest

import dev
from tests.stage.connections import connect
from tests.torture import ledger
from tokenservice.onetime.errors import TokenUnknown
from tokenservice.onetime.format import Token, random_base62
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented


@pytest.mark.timeout(ledger.trials(14_400, least=600))  # the Makefile's; or more than usual
def test_no_token_is_guessed_and_no_two_are_equal(redis_server: dev.Redis) -> None:
    """ASVS 5.0 V11.5.1. Half of the guesses have the ids of existing tokens."""
    connection = connect(redis_server.url, connect_ms=2000, read_ms=5000, connections=1)
    store = TokenStore(connection, secret=secrets.token_bytes(32), max_active=1_000_000)
    owner, n = f"guesser {secrets.token_hex(8)}", ledger.trials(1_000_000, least=10_000)
    issued: set[str] = set()
    total = accepted = 0
    while total < n:
        batch = store.create_many(f"{owner} {total // 10_000}", 100, life_seconds=1)
        issued.update(created.text[22:] for created in batch)
        issued.update(created.id for created in batch)
        for created in batch:
            genuine = Token.parse(created.text)
            token_id = genuine.id if total % 2 else genuine.id[:2] + random_base62(16)
            guess = str(Token(token_id, genuine.epoch, random_base62(28)))
            try:
                store.validate(Presented(guess), Party("somebody"))
                accepted += 1
            except TokenUnknown:
                total += 1
        if total % 50_000 == 0:
            connection.client.flushdb()  # Bounds the memory of records that are still kept.
    equal = 2 * total - len(issued)
    ledger.record(
        "A guessed token is unknown, whether its id exists or not",
        n=n,
        failures=accepted,
    )
    ledger.record("No two tokens have an id or a secret in common", n=n, failures=equal)
    assert accepted == equal == 0
