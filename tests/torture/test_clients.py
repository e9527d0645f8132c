"""Replies lost between the Python client and the service.

The proxy drops, delays or cuts the first reply to each of four calls. The client repeats under the
same key by itself, so its program must see one success, and never a refusal or a second token.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

import dev
from tests.clients.worlds import keyed
from tests.stage.proxy import CUT, DELAY, KINDS, SWALLOW, Proxy
from tests.stage.service import Service
from tests.torture.ledger import record, trials
from token_service_client import AlreadyUsed, Refused, Tokens

TRIALS = trials(1000)
THREADS = 12
# A delayed reply comes after twice the client's time limit.
LIMIT_SECONDS = 0.4
POLICY = {"timeout": LIMIT_SECONDS, "deadline": 100.0, "retries": 200}
LOST = {SWALLOW: "is dropped", DELAY: "is delayed", CUT: "is replaced by a reset"}

# How many calls of each kind ended as they should, and how many were refused.
Ends = Counter[str]
EXPECTED = Ends({"create": 1, "consume": 1, "reserve": 1, "commit": 1, "used afterwards": 2})


@pytest.fixture(scope="module")
def service(serve: Callable[..., Service]) -> Iterator[Service]:
    with serve(web_concurrency=2, web_threads=THREADS, max_active=1_000_000) as running:
        yield running


def trial(
    purpose: str, issuer: str, clients: tuple[Tokens, Tokens], lose: Callable[[str], None]
) -> Ends:
    """Lose the first reply to each of four calls, about two tokens."""
    backend, gateway = clients
    expected = {"purpose": purpose, "issued_by": issuer}
    lose(purpose)
    one, two = backend.create_many(2, purpose=purpose, expires_in=600)
    lose(one.token)
    use = gateway.consume(one.token, **expected)
    lose(two.token)
    with gateway.hold(two.token, **expected, lease=60) as held:
        lose(held.reservation)
    ends = Ends(
        create=one.id != two.id, consume=use.id == one.id, reserve=held.id == two.id, commit=1
    )
    for token in (one.token, two.token):
        try:
            gateway.consume(token, **expected)
        except AlreadyUsed:
            ends["used afterwards"] += 1
    return ends


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_reply_is_one_success_to_the_program(
    service: Service, redis_server: dev.Redis, kind: str
) -> None:
    """Guards: the key is made before the first try, and each repeat has it."""
    (person, backend), (_, gateway) = keyed(service, 2)
    purposes = [f"trial-{secrets.token_hex(8)}" for _ in range(TRIALS)]
    with Proxy(service.port, late=2 * LIMIT_SECONDS) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"

        def lose(mark: str) -> None:
            proxy.lose(mark.encode(), kind)

        def one(purpose: str) -> Ends:
            with Tokens(url, backend, **POLICY) as one, Tokens(url, gateway, **POLICY) as two:
                try:
                    return trial(purpose, person.id, (one, two), lose)
                except Refused as error:
                    return Ends({error.code: 1})

        with ThreadPoolExecutor(THREADS) as pool:
            ends = sum(pool.map(one, purposes), Ends())
        lost = proxy.lost[kind]

    expected = Ends({end: count * TRIALS for end, count in EXPECTED.items()})
    record(
        f"A reply to the Python client {LOST[kind]}: its program sees one success, of one token",
        n=lost,
        failures=(expected - ends).total() + strays(redis_server, purposes),
        figures=f"{TRIALS:,} each of create, consume, reserve and commit",
    )
    assert ends == expected
    assert strays(redis_server, purposes) == 0
    assert lost == 4 * TRIALS


def strays(server: dev.Redis, purposes: list[str]) -> int:
    """The number of tokens that no program received: a trial has two of one purpose."""
    with redis.from_url(server.url) as admin:
        records = admin.scan_iter(match="ott:*", count=1000, _type="HASH")
        found = Counter(admin.hget(key, "purpose") for key in records)
    return sum(abs(found[purpose.encode()] - 2) for purpose in purposes)
