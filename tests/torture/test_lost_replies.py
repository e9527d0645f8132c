"""Replies lost after the work is done, between client and service or service and Redis.

A proxy drops a reply, delays it, or resets the connection instead. A repeat under the same
``Idempotency-Key`` must return the one success. Without a key, a service without a reply from
Redis must respond 503, and never "used".
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from redis.cluster import RedisCluster

import dev
from tests.stage.connections import connect
from tests.stage.people import Person, enrol
from tests.stage.proxy import CUT, DELAY, KINDS, SWALLOW, Proxy
from tests.stage.service import Service
from tests.stage.topologies import SLOTS, port_of_a_node
from tests.stage.waiting import until
from tests.torture.caller import Caller, calling
from tests.torture.ledger import record, trials
from tokenservice.onetime import errors
from tokenservice.onetime.connection import Connection
from tokenservice.onetime.scripts import SCRIPTS
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

TRIALS = trials(1000)
THREADS = 24
# The time limits of the service for Redis, and of a client for the service.
REDIS_MS, CLIENT_SECONDS = 150, 0.3
# The delay of a reply: after it no stall makes a reply seem in time.
LATE_SECONDS = 2.5
LUIS = Party("luis", "luis@example.com")
REMEMBER = "if known and state == 'consumed' and record.consumer == caller then"

# The outcome of a call: its status and the code of its problem; None and None without a response.
Outcomes = Counter[tuple[str, int | None, str | None]]

EXPECTED = {
    ("create", 201, None),
    ("validate", 200, None),
    ("reserve", 200, None),
    ("commit", 200, None),
    ("validate after a validate", 409, "token_already_used"),
    ("validate after a commit", 409, "token_already_used"),
    ("repeat without a key", 409, "token_already_used"),
}
LOST = {SWALLOW: "is dropped", DELAY: "is delayed", CUT: "is replaced by a reset"}


@dataclass
class Stage:
    """A service, and the proxies before and behind it."""

    name: str
    service: Service
    before: Proxy
    behind: Proxy
    people: tuple[Person, Person]
    admin: redis.Redis


@contextlib.contextmanager
def proxied(name: str, directory: Path) -> Iterator[tuple[dev.Redis, Proxy, str]]:
    """A Redis "alone", or as a "cluster" of one, behind a proxy; with the URL of the proxy."""
    port = port_of_a_node()
    # A sweep names tokens too, and may precede the call that is to lose its reply.
    sweep = hashlib.sha1(SCRIPTS["sweep"].encode()).hexdigest().encode()  # noqa: S324
    with Proxy(port, late=LATE_SECONDS, spared=sweep) as behind:
        cluster = {"cluster-enabled": "yes", "cluster-announce-port": str(behind.port)}
        with dev.Redis(directory, port, cluster if name == "cluster" else None) as server:
            there = f":{server.password}@127.0.0.1:{behind.port}"
            if name == "cluster":
                admin = redis.Redis.from_url(server.url)
                admin.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
                until(lambda: admin.cluster("info")["cluster_state"] == "ok")
                yield server, behind, f"redis+cluster://{there}"
            else:
                yield server, behind, f"redis://{there}"


@pytest.fixture(scope="module", params=["alone", "cluster"])
def stage(
    request: pytest.FixtureRequest,
    serve: Callable[..., Service],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    with contextlib.ExitStack() as running:
        server, behind, url = running.enter_context(
            proxied(request.param, tmp_path_factory.mktemp(request.param))
        )
        settings = {
            "redis_url": url,
            "redis_timeout_ms": REDIS_MS,
            "max_active": 1_000_000,
            "access_token_expire_minutes": 1440,
            # One of the places must cover a repeat that reaches another process.
            "web_concurrency": 2 if request.param == "alone" else 1,
            "web_threads": THREADS,
        }
        service = running.enter_context(serve(**settings))
        before = running.enter_context(Proxy(service.port, late=LATE_SECONDS))
        with httpx.Client(base_url=service.url, timeout=30) as http:
            people = enrol(http.post), enrol(http.post)
        admin = redis.Redis.from_url(server.url)
        yield Stage(request.param, service, before, behind, people, admin)


def trial(caller: Caller, other: Caller, lose: Callable[[str], None]) -> Outcomes:
    """Lose the reply to the first attempt at each of five calls; return the outcomes."""
    terms = {"purpose": f"trial-{secrets.token_hex(8)}", "expires_in": 600}
    lose(terms["purpose"])
    created = caller.insist("/token/create", terms)
    batch = caller.insist("/token/batch", {**terms, "count": 2})
    tokens = [created.body, *batch.body["tokens"]]
    one, two, three = ({"token": t["token"], "purpose": t["purpose"]} for t in tokens)

    lose(tokens[0]["id"])
    validated = caller.insist("/token/validate", one)
    lose(tokens[1]["id"])
    reserved = caller.insist("/token/reserve", {**two, "lease_seconds": 60})
    lose(tokens[1]["id"])
    committed = caller.insist("/token/commit", {"reservation": reserved.body["reservation"]})
    lose(tokens[2]["id"])
    unkeyed = caller.post("/token/validate", three)
    # A delayed response must not be taken for that of the next call on the connection.
    assert [validated.body["id"], reserved.body["id"], committed.body["id"]] == [
        tokens[n]["id"] for n in (0, 1, 1)
    ]
    responses = {
        "create": created,
        "validate": validated,
        "reserve": reserved,
        "commit": committed,
        "validate after a validate": other.insist("/token/validate", one, keyed=False),
        "validate after a commit": other.insist("/token/validate", two, keyed=False),
        "validate without a key": unkeyed,
        "repeat without a key": caller.insist("/token/validate", three, keyed=False),
    }
    return Counter(
        (call, *(response.kind if response else (None, None)))
        for call, response in responses.items()
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("stage", "place"),
    [
        ("alone", "client and service"),
        ("alone", "service and Redis"),
        ("cluster", "service and Redis"),
    ],
    indirect=["stage"],
    scope="module",  # or the service would be started for each kind
)
def test_a_lost_reply_loses_no_token_and_doubles_none(stage: Stage, place: str, kind: str) -> None:
    """Guards: recall() and begin_change() in judge.lua, and no resending in connection.py."""
    if place == "client and service":
        proxy, port, timeout = stage.before, stage.before.port, CLIENT_SECONDS
        unkeyed = ("validate without a key", None, None)
        says = "a repeat without a key is refused as used, which is true"
    else:
        proxy, port, timeout = stage.behind, stage.service.port, 10.0
        unkeyed = ("validate without a key", 503, "store_unavailable")
        says = "a call without a key is a 503, never refused as used"
    lost_before = proxy.lost[kind]
    marks: list[str] = []

    def lose(mark: str) -> None:
        marks.append(mark)
        proxy.lose(mark.encode(), kind)

    def one(_: int) -> Outcomes:
        with calling(port, *stage.people, timeout=timeout) as (caller, other):
            return trial(caller, other, lose)

    with ThreadPoolExecutor(THREADS) as pool:
        outcomes = sum(pool.map(one, range(TRIALS)), Outcomes())

    lost, expected = (
        proxy.lost[kind] - lost_before,
        Outcomes(dict.fromkeys([*EXPECTED, unkeyed], TRIALS)),
    )
    record(
        f"A reply between {place}{' (cluster)' * (stage.name == 'cluster')} {LOST[kind]}: "
        f"repeats under the same key have exactly one success; {says}",
        n=lost,
        failures=(outcomes - expected).total() + strays(stage.admin, marks),
        figures=f"{TRIALS:,} each of create, validate, reserve, commit, and validate without a key",
    )
    assert outcomes == expected
    assert strays(stage.admin, marks) == 0
    assert lost == 5 * TRIALS


def strays(admin: redis.Redis, marks: Sequence[str]) -> int:
    """The number of tokens that no caller received: a trial has three of one purpose."""
    records = admin.scan_iter(match="ott:*", count=1000, _type="HASH")
    purposes = (admin.hget(key, "purpose") for key in records)
    own = {mark.encode() for mark in marks}
    made = Counter(purpose for purpose in purposes if purpose in own)
    return sum(abs(count - 3) for count in made.values())


def insist(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Repeat a call while a stalled machine makes Redis miss its limit."""
    for _ in range(200):
        with contextlib.suppress(errors.StoreUnavailable):
            return call(*args, **options)
        time.sleep(0.02)
    raise AssertionError("Redis is never in time")


def kinds_refused_as_used(store: TokenStore, behind: Proxy, key: str) -> set[str]:
    """Lose replies to validates, repeat those with a key; return the kinds refused as used."""
    token = insist(store.create, "ana", life_seconds=60)
    with contextlib.suppress(errors.TokenAlreadyUsed):  # by a call that was repeated
        insist(store.validate, Presented(token.text), LUIS)
    outcomes = set()
    for kind in KINDS * trials(50):
        token = insist(store.create, "ana", life_seconds=60)
        behind.lose(token.id.encode(), kind)
        try:
            try:
                store.validate(Presented(token.text), LUIS, key=key and token.id)
            except errors.StoreUnavailable:
                if key:
                    insist(store.validate, Presented(token.text), LUIS, key=token.id)
        except errors.TokenAlreadyUsed:
            outcomes.add(kind)
    return outcomes


class Resending(Connection):
    """redis-py's client with its defaults: a command without a reply is resent, up to ten times."""

    def __init__(self, name: str, port: int, password: str) -> None:
        super().__init__({}, connect_ms=2000, read_ms=REDIS_MS, connections=1)
        made = RedisCluster if name == "cluster" else redis.Redis
        self._client = made(
            "127.0.0.1", port, password=password, socket_timeout=REDIS_MS / 1000, protocol=2
        )

    def ask(self, key: str, *command: Any) -> Any:
        return self.client.execute_command(*command)


@pytest.mark.parametrize("name", ["alone", "cluster"])
def test_a_resending_client_refuses_the_consumer_as_used(name: str, tmp_path: Path) -> None:
    """Without the guard in connection.py the test above fails."""
    with proxied(name, tmp_path) as (server, behind, _):
        resending = Resending(name, behind.port, server.password)
        store = TokenStore(resending, secret=secrets.token_bytes(32))
        assert kinds_refused_as_used(store, behind, key="") == set(KINDS)
        resending.client.close()


def test_without_remembered_keys_a_repeat_is_refused_as_used(tmp_path: Path) -> None:
    """Without the guard in validate.lua the test above fails."""
    with proxied("alone", tmp_path) as (_, behind, url):
        connection = connect(url, connect_ms=2000, read_ms=REDIS_MS, connections=1)
        store = TokenStore(connection, secret=secrets.token_bytes(32))
        assert kinds_refused_as_used(store, behind, key="k") == set()
        remembering = store._shards._scripts["validate"].source
        assert REMEMBER in remembering
        store._shards._scripts["validate"] = connection.script(
            remembering.replace(REMEMBER, "if false then")
        )
        assert kinds_refused_as_used(store, behind, key="k") == set(KINDS)
